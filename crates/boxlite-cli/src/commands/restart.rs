//! `boxlite restart`

use boxlite::StartOptions;
use clap::Args;

use super::run::{start_failure, warn_about_engine};
use super::stop::StopHow;
use crate::cli::GlobalArgs;
use crate::failure::Failure;
use crate::{output, targets};

/// Stop boxes and start them again
#[derive(Debug, Args)]
#[command(after_help = "\
    Prints the names as given. The disk is kept, the memory is not.")]
pub(crate) struct RestartArgs {
    #[command(flatten)]
    how: StopHow,

    /// Names or ids of boxes
    #[arg(value_name = "BOX", required = true)]
    boxes: Vec<String>,
}

pub(crate) async fn run(global: &GlobalArgs, args: RestartArgs) -> Result<u8, Failure> {
    let client = global.client().await?;
    targets::each(&args.boxes, async |name: &str| {
        let handle = client.get(name).await?;
        handle.stop(args.how.options()).await?;
        let mut options = StartOptions::default();
        options.detached = Some(true);
        handle.start_with(options).await.map_err(start_failure)?;
        warn_about_engine(&handle).await;
        output::line(name)
    })
    .await
}
