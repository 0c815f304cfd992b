//! `boxlite start`

use std::time::Duration;

use boxlite::{AttachOptions, StartOptions};
use clap::Args;

use super::run::{start_failure, warn_about_engine};
use crate::cli::GlobalArgs;
use crate::failure::Failure;
use crate::session::{self, Attached, Streams};
use crate::signals::Signals;
use crate::{output, targets};

/// Start boxes that are not running
#[derive(Debug, Args)]
#[command(after_help = "\
    Prints the names as given. With --attach: the command's output, and its exit status.")]
pub(crate) struct StartArgs {
    /// Connect stdout and stderr, hand signals on, and wait for the command
    #[arg(short, long)]
    attach: bool,

    /// Connect stdin, too
    #[arg(short, long)]
    interactive: bool,

    /// Seconds that the start may take without showing progress [default: the box's]
    #[arg(long, value_name = "SECONDS", value_parser = clap::value_parser!(u64).range(1..=86_400))]
    start_timeout: Option<u64>,

    /// Names or ids of boxes
    #[arg(value_name = "BOX", required = true)]
    boxes: Vec<String>,
}

impl StartArgs {
    pub(crate) fn attaches(&self) -> bool {
        self.attach || self.interactive
    }

    fn options(&self) -> StartOptions {
        let mut options = StartOptions::default();
        options.timeout = self.start_timeout.map(Duration::from_secs);
        // A box that nobody is attached to outlives the command that starts it, as docker's does.
        options.detached = (!self.attaches()).then_some(true);
        options
    }
}

pub(crate) async fn run(global: &GlobalArgs, args: StartArgs, signals: &mut Signals) -> Result<u8, Failure> {
    if !args.attaches() {
        return signals.unless_stopped(in_background(global, &args)).await;
    }
    let [name] = args.boxes.as_slice() else {
        return Err(Failure::new("only one box at a time can be attached to"));
    };
    let client = signals.unless_stopped(global.client()).await?;
    let (handle, info) = signals
        .unless_stopped(async {
            let handle = client.get(name).await?;
            let info = handle.info().await?;
            Ok((handle, info))
        })
        .await?;
    let streams = Streams {
        stdin: args.interactive,
        tty: info.tty,
    };
    streams.check()?;
    let mut options = AttachOptions::default();
    options.stdin = streams.stdin;
    options.size = streams.size();
    let execution = signals
        .unless_stopped(async {
            handle
                .start_attached_with(args.options(), options)
                .await
                .map_err(start_failure)
        })
        .await?;
    warn_about_engine(&handle).await;
    let attached = if info.detached {
        Attached::Box(&handle)
    } else {
        Attached::OwnBox(&handle)
    };
    let result = session::attend(execution, streams, attached, signals).await;
    signals
        .unless_stopped(async {
            client.close().await;
            Ok(())
        })
        .await?;
    result
}

async fn in_background(global: &GlobalArgs, args: &StartArgs) -> Result<u8, Failure> {
    let client = global.client().await?;
    targets::each(&args.boxes, async |name: &str| {
        let handle = client.get(name).await?;
        if handle.info().await?.state == boxlite::BoxState::Running {
            return output::line(name);
        }
        handle.start_with(args.options()).await.map_err(start_failure)?;
        warn_about_engine(&handle).await;
        output::line(name)
    })
    .await
}
