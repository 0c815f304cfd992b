//! `boxlite pull`

use boxlite::PullOptions;
use clap::Args;

use crate::cli::GlobalArgs;
use crate::failure::Failure;
use crate::image_args::RegistryArgs;
use crate::progress::Display;
use crate::{output, targets};

/// Fetch images from registries
#[derive(Debug, Args)]
#[command(after_help = "\
    Prints the full name of each image. Credentials are docker's and podman's files and \
    helpers; proxies come from the environment.")]
pub(crate) struct PullArgs {
    /// Platform, such as linux/arm64 [default: the host's]
    #[arg(long, value_name = "OS/ARCH[/VARIANT]")]
    platform: Option<String>,

    #[command(flatten)]
    registry: RegistryArgs,

    /// Say nothing about the progress
    #[arg(short, long)]
    quiet: bool,

    /// Names of images
    #[arg(value_name = "IMAGE", required = true)]
    images: Vec<String>,
}

pub(crate) async fn run(global: &GlobalArgs, args: PullArgs) -> Result<u8, Failure> {
    let client = global.client_with(&args.registry).await?;
    let mut options = PullOptions::default();
    options.platform.clone_from(&args.platform);
    targets::each(&args.images, async |name: &str| {
        let display = Display::new(args.quiet);
        let pulled = client.images().pull(name, options.clone(), display.function()).await;
        drop(display);
        let image = pulled?;
        // Of the names that the image has by now, the one that was asked for.
        let full = super::images::full_name(&image, name);
        output::line(&full)
    })
    .await
}
