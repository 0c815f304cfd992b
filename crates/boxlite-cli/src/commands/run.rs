//! `boxlite run`

use boxlite::{AttachOptions, BoxHandle, Client, Diagnose, ErrorCode, RemoveOptions, StartError};
use clap::Args;

use crate::box_args::{BoxArgs, IdFile};
use crate::cli::GlobalArgs;
use crate::engine_warning;
use crate::failure::{Failure, Report};
use crate::output;
use crate::progress::Display;
use crate::session::{self, Attached, Streams};
use crate::signals::Signals;

/// Create a box from an image, start it and wait for its command
#[derive(Debug, Args)]
#[command(after_help = "\
    The command's output comes byte for byte, and its exit status is boxlite's. Without -d \
    the box ends with this command, however that ends; Ctrl-C and other signals are handed \
    on to the command, and the third Ctrl-C kills the box. When the box can't be started it \
    is removed again.\n\n\
    IMAGE is a reference, or docker-archive:PATH, oci:PATH[:TAG], oci-archive:PATH or \
    dir:ROOTFS. Not docker's: whole vCPUs only, no named or anonymous volumes, ports are \
    published on 127.0.0.1 unless an address is given.")]
#[command(override_usage = "boxlite run [OPTIONS] IMAGE [COMMAND [ARGUMENT]...]")]
pub(crate) struct RunArgs {
    /// Run in the background and print the id of the box
    #[arg(short, long)]
    detach: bool,

    #[command(flatten)]
    new: BoxArgs,
}

pub(crate) async fn run(global: &GlobalArgs, args: RunArgs, signals: &mut Signals) -> Result<u8, Failure> {
    let streams = Streams {
        stdin: args.new.interactive,
        tty: args.new.tty,
    };
    if !args.detach {
        streams.check()?;
    }
    let options = args.new.options(global.engine)?.detached(args.detach);
    let id_file = args.new.id_file()?;

    let client = signals.unless_stopped(global.client_with(&args.new.registry)).await?;
    let display = Display::new(args.new.quiet);
    let created = signals
        .unless_stopped(async { Ok(client.create_with(options, display.function()).await?) })
        .await;
    drop(display);
    let handle = created?;
    if let Err(failure) = id_file.map_or(Ok(()), |file: IdFile| file.write(handle.id())) {
        remove(&handle, signals).await;
        return Err(failure);
    }

    let result = if args.detach {
        detached(&handle, signals).await
    } else {
        attached(&handle, streams, signals).await
    };
    close(client, signals).await;
    result
}

async fn detached(handle: &BoxHandle, signals: &mut Signals) -> Result<u8, Failure> {
    let started = signals
        .unless_stopped(async { handle.start().await.map_err(start_failure) })
        .await;
    if let Err(failure) = started {
        remove(handle, signals).await;
        return Err(failure);
    }
    warn_about_engine(handle).await;
    output::line(handle.id())?;
    Ok(0)
}

async fn attached(handle: &BoxHandle, streams: Streams, signals: &mut Signals) -> Result<u8, Failure> {
    let mut options = AttachOptions::default();
    options.stdin = streams.stdin;
    options.size = streams.size();
    let started = signals
        .unless_stopped(async { handle.start_attached(options).await.map_err(start_failure) })
        .await;
    let execution = match started {
        Ok(execution) => execution,
        Err(failure) => {
            remove(handle, signals).await;
            return Err(failure);
        }
    };
    warn_about_engine(handle).await;
    session::attend(execution, streams, Attached::OwnBox(handle), signals).await
}

/// Waits until the box has ended in order; a further signal ends the waiting, and with
/// this process the box.
async fn close(client: Client, signals: &mut Signals) {
    let closed = signals
        .unless_stopped(async {
            client.close().await;
            Ok(())
        })
        .await;
    if closed.is_err() {
        tracing::debug!("not waiting for the box to end");
    }
}

/// Removes a box that never ran its command: nobody has seen it.
async fn remove(handle: &BoxHandle, signals: &mut Signals) {
    let removed = signals
        .unless_stopped(async {
            match handle.remove(RemoveOptions::force()).await {
                Err(error) if error.code() != ErrorCode::NotFound => Err(error.into()),
                _ => Ok(()),
            }
        })
        .await;
    if let Err(failure) = removed {
        output::warn(&format!("box {} is left behind", handle.name()));
        output::failure(&failure);
    }
}

pub(crate) async fn warn_about_engine(handle: &BoxHandle) {
    match handle.info().await {
        Ok(info) => engine_warning::warn_once(&info),
        // A short command with --rm is over by now.
        Err(error) => tracing::debug!(%error, "the accelerator is not known"),
    }
}

/// A start that failed: 126 or 127 where the command is to blame.
pub(crate) fn start_failure(error: StartError) -> Failure {
    let status = error.refusal().map(boxlite::Refusal::exit_code);
    let report = Report::from(error);
    match status {
        Some(status) => report.status(status).into(),
        None => report.into(),
    }
}
