//! `boxlite stop`

use std::time::Duration;

use boxlite::{Signal, StopOptions};
use clap::Args;

use crate::cli::GlobalArgs;
use crate::failure::Failure;
use crate::{output, targets};

/// How boxes are stopped, of `stop` and `restart`.
#[derive(Debug, Args)]
pub(crate) struct StopHow {
    /// Seconds to wait before the box is killed [default: the box's]
    #[arg(short = 't', long = "timeout", alias = "time", value_name = "SECONDS")]
    timeout: Option<u64>,

    /// Signal to send first [default: the box's]
    #[arg(short, long, value_name = "SIGNAL")]
    signal: Option<Signal>,
}

impl StopHow {
    pub(crate) fn options(&self) -> StopOptions {
        let mut options = StopOptions::default();
        options.timeout = self.timeout.map(Duration::from_secs);
        options.signal = self.signal;
        options
    }
}

/// Stop boxes: first politely, after a while by force
#[derive(Debug, Args)]
#[command(after_help = "\
    Prints the names as given. A box that does not run is left as it is.")]
pub(crate) struct StopArgs {
    #[command(flatten)]
    how: StopHow,

    /// Names or ids of boxes
    #[arg(value_name = "BOX", required = true)]
    boxes: Vec<String>,
}

pub(crate) async fn run(global: &GlobalArgs, args: StopArgs) -> Result<u8, Failure> {
    let client = global.client().await?;
    targets::each(&args.boxes, async |name: &str| {
        let handle = client.get(name).await?;
        handle.stop(args.how.options()).await?;
        output::line(name)
    })
    .await
}
