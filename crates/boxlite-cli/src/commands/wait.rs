//! `boxlite wait`

use clap::Args;

use crate::cli::GlobalArgs;
use crate::failure::Failure;
use crate::{output, targets};

/// Wait for boxes to end and print their exit codes
#[derive(Debug, Args)]
#[command(after_help = "\
    One line a box, in the order given: the exit code, or 128+n where signal n ended it.")]
pub(crate) struct WaitArgs {
    /// Names or ids of boxes
    #[arg(value_name = "BOX", required = true)]
    boxes: Vec<String>,
}

pub(crate) async fn run(global: &GlobalArgs, args: WaitArgs) -> Result<u8, Failure> {
    let client = global.client().await?;
    targets::each(&args.boxes, async |name: &str| {
        let status = client.get(name).await?.wait().await?;
        output::line(&status.shell_code().to_string())
    })
    .await
}
