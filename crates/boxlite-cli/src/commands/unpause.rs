//! `boxlite unpause`

use clap::Args;

use crate::cli::GlobalArgs;
use crate::failure::Failure;
use crate::{output, targets};

/// Let paused boxes go on
#[derive(Debug, Args)]
#[command(after_help = "\
    Prints the names as given. The wall clock is the host's again.")]
pub(crate) struct UnpauseArgs {
    /// Names or ids of boxes
    #[arg(value_name = "BOX", required = true)]
    boxes: Vec<String>,
}

pub(crate) async fn run(global: &GlobalArgs, args: UnpauseArgs) -> Result<u8, Failure> {
    let client = global.client().await?;
    targets::each(&args.boxes, async |name: &str| {
        client.get(name).await?.unpause().await?;
        output::line(name)
    })
    .await
}
