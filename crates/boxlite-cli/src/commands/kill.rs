//! `boxlite kill`

use boxlite::Signal;
use clap::Args;

use crate::cli::GlobalArgs;
use crate::failure::Failure;
use crate::{output, targets};

/// Send a signal to the main process of boxes
#[derive(Debug, Args)]
#[command(after_help = "\
    Prints the names as given. KILL ends the box.")]
pub(crate) struct KillArgs {
    /// Signal, by name or number
    #[arg(short, long, value_name = "SIGNAL", default_value = "KILL")]
    signal: Signal,

    /// Names or ids of boxes
    #[arg(value_name = "BOX", required = true)]
    boxes: Vec<String>,
}

pub(crate) async fn run(global: &GlobalArgs, args: KillArgs) -> Result<u8, Failure> {
    let client = global.client().await?;
    targets::each(&args.boxes, async |name: &str| {
        let handle = client.get(name).await?;
        handle.kill(args.signal).await?;
        output::line(name)
    })
    .await
}
