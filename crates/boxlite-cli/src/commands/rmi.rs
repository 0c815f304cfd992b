//! `boxlite rmi`

use clap::Args;

use crate::cli::GlobalArgs;
use crate::failure::Failure;
use crate::{output, targets};

/// Remove images
#[derive(Debug, Args)]
#[command(after_help = "\
    A name is removed, and with its last name the image. What boxes need of an image stays \
    until they are removed.")]
pub(crate) struct RmiArgs {
    /// Also if boxes were made from it, and with all of its names
    #[arg(short, long)]
    force: bool,

    /// Names or ids of images
    #[arg(value_name = "IMAGE", required = true)]
    images: Vec<String>,
}

pub(crate) async fn run(global: &GlobalArgs, args: RmiArgs) -> Result<u8, Failure> {
    let client = global.client().await?;
    targets::each(&args.images, async |name: &str| {
        let removal = client.images().remove(name, args.force).await?;
        for reference in &removal.untagged {
            output::line(&format!("Untagged: {reference}"))?;
        }
        for digest in &removal.deleted {
            output::line(&format!("Deleted: {digest}"))?;
        }
        Ok(())
    })
    .await
}
