//! `boxlite pause`

use clap::Args;

use crate::cli::GlobalArgs;
use crate::failure::Failure;
use crate::{output, targets};

/// Stand boxes still: their processes, timers and network
#[derive(Debug, Args)]
#[command(after_help = "\
    Prints the names as given. Memory stays in use; stop, kill and rm work on paused boxes.")]
pub(crate) struct PauseArgs {
    /// Names or ids of boxes
    #[arg(value_name = "BOX", required = true)]
    boxes: Vec<String>,
}

pub(crate) async fn run(global: &GlobalArgs, args: PauseArgs) -> Result<u8, Failure> {
    let client = global.client().await?;
    targets::each(&args.boxes, async |name: &str| {
        client.get(name).await?.pause().await?;
        output::line(name)
    })
    .await
}
