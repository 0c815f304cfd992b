//! `boxlite rm`

use boxlite::RemoveOptions;
use clap::Args;

use crate::cli::GlobalArgs;
use crate::failure::Failure;
use crate::{output, targets};

/// Remove boxes and their disks
#[derive(Debug, Args)]
#[command(after_help = "\
    Prints the names as given.")]
pub(crate) struct RmArgs {
    /// Kill boxes that run
    #[arg(short, long)]
    force: bool,

    /// Names or ids of boxes
    #[arg(value_name = "BOX", required = true)]
    boxes: Vec<String>,
}

pub(crate) async fn run(global: &GlobalArgs, args: RmArgs) -> Result<u8, Failure> {
    let client = global.client().await?;
    let mut options = RemoveOptions::default();
    options.force = args.force;
    targets::each(&args.boxes, async |name: &str| {
        client.remove(name, options).await?;
        output::line(name)
    })
    .await
}
