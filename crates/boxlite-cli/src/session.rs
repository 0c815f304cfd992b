//! Being attached to a process of a box: streams, signals, the terminal, and how it ends.

use boxlite::{BoxHandle, Execution, ExitStatus, Signal, TerminalSize};

use std::time::Duration;

use tokio::task::JoinSet;
use tokio::time::timeout;

use crate::failure::{Failure, Report, signal_status};
use crate::output;
use crate::signals::{Arrived, INTERRUPT, Signals};
use crate::stream::{PumpError, StdStream, forward_stdin, pump};
use crate::terminal::{self, RawMode};

/// So many Ctrl-C end a box that does not listen to the first.
const FORCING_INTERRUPT: u32 = 3;

/// How long a signal may take to be delivered before the next one is looked at: a box that
/// does not answer must not keep that from ending it.
const PASSING_ON: Duration = Duration::from_secs(2);

/// What of this process a process of the box is connected with.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Streams {
    /// Forward stdin.
    pub(crate) stdin: bool,
    /// The process has a terminal.
    pub(crate) tty: bool,
}

impl Streams {
    /// Refuses a terminal where the caller has none to type on.
    pub(crate) fn check(self) -> Result<(), Failure> {
        if self.tty && self.stdin && !terminal::stdin_is_terminal() {
            return Err(Report::new("-t needs a terminal, and standard input is none")
                .hint("leave -t out to pass stdin through as it is")
                .into());
        }
        Ok(())
    }

    /// The size to start the box's terminal with.
    pub(crate) fn size(self) -> Option<TerminalSize> {
        if self.tty { current_size() } else { None }
    }
}

/// What a session is attached to.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Attached<'a> {
    /// The main process of a box that ends with this session.
    OwnBox(&'a BoxHandle),
    /// The main process of a box that may go on alone.
    Box(&'a BoxHandle),
    /// Another process.
    Process,
}

fn current_size() -> Option<TerminalSize> {
    terminal::size().map(|size| TerminalSize {
        rows: size.rows,
        columns: size.columns,
    })
}

/// Moves bytes and signals until the process has ended and all that it wrote is
/// written here; then says how it ended, as an exit status.
pub(crate) async fn attend(
    mut execution: Execution,
    streams: Streams,
    attached: Attached<'_>,
    signals: &mut Signals,
) -> Result<u8, Failure> {
    let raw = if streams.tty && streams.stdin {
        Some(RawMode::enter().map_err(|error| Failure::new(format_args!("can't make the terminal raw: {error}")))?)
    } else {
        None
    };
    let mut pumps = JoinSet::new();
    if let Some(stdout) = execution.take_stdout() {
        pumps.spawn(pump(stdout, StdStream::Out));
    }
    if let Some(stderr) = execution.take_stderr() {
        pumps.spawn(pump(stderr, StdStream::Err));
    }
    if streams.stdin
        && let Some(stdin) = execution.take_stdin()
    {
        // It may wait for a key for ever, so nothing waits for it.
        tokio::spawn(forward_stdin(stdin));
    }

    let mut status = None;
    let mut interrupts = 0;
    let result = loop {
        if let (Some(status), true) = (status, pumps.is_empty()) {
            break Ok(exit_status(status));
        }
        tokio::select! {
            waited = execution.wait(), if status.is_none() => match waited {
                Ok(ended) => status = Some(ended),
                Err(error) => break Err(error.into()),
            },
            Some(pumped) = pumps.join_next() => match pumped {
                Ok(Ok(_)) => {}
                // The box is gone in the middle of its output: waiting for it says more.
                Ok(Err(PumpError::Read(error))) => tracing::debug!(%error, "output breaks off"),
                Ok(Err(PumpError::Write(error))) => {
                    if !matches!(attached, Attached::Box(_)) {
                        end(&execution, attached, signals).await;
                    }
                    break Err(Failure::output(error));
                }
                Err(error) => break Err(Failure::new(format_args!("moving the output: {error}"))),
            },
            arrived = signals.next() => {
                if take(arrived, &execution, streams, raw.as_ref(), &mut interrupts).await {
                    end(&execution, attached, signals).await;
                    break Ok(signal_status(Signal::KILL.number()));
                }
            }
        }
    };
    drop(raw);
    result
}

/// Hands a signal on; says whether the user has lost patience.
async fn take(
    arrived: Arrived,
    execution: &Execution,
    streams: Streams,
    raw: Option<&RawMode>,
    interrupts: &mut u32,
) -> bool {
    match arrived {
        Arrived::Forward(number) => {
            if number == INTERRUPT {
                *interrupts += 1;
                if *interrupts >= FORCING_INTERRUPT {
                    return true;
                }
                if *interrupts + 1 == FORCING_INTERRUPT && raw.is_none() {
                    output::note("the box was told; once more Ctrl-C kills it");
                }
            }
            if let Ok(signal) = Signal::new(number) {
                match timeout(PASSING_ON, execution.signal(signal)).await {
                    Ok(Ok(())) => {}
                    Ok(Err(error)) => tracing::debug!(%error, number, "the signal was not delivered"),
                    Err(_) => tracing::debug!(number, "the box does not say whether the signal was delivered"),
                }
            }
        }
        Arrived::Continued | Arrived::Resized => {
            if let Some(raw) = raw
                && arrived == Arrived::Continued
                && let Err(error) = raw.apply()
            {
                tracing::debug!(%error, "the terminal is not raw again");
            }
            if streams.tty
                && let Some(size) = current_size()
                && !matches!(timeout(PASSING_ON, execution.resize(size)).await, Ok(Ok(())))
            {
                tracing::debug!("the terminal of the box has its old size");
            }
        }
    }
    false
}

/// Ends what this is attached to at once; a further signal ends the waiting for that.
async fn end(execution: &Execution, attached: Attached<'_>, signals: &mut Signals) {
    let killing = async {
        match attached {
            Attached::OwnBox(handle) | Attached::Box(handle) => handle.kill(Signal::KILL).await?,
            Attached::Process => execution.kill().await?,
        }
        Ok(())
    };
    if let Err(failure) = signals.unless_stopped(killing).await {
        tracing::debug!(?failure, "nothing was killed");
    }
}

/// The exit status of this process for the one in the box.
pub(crate) fn exit_status(status: ExitStatus) -> u8 {
    if status.out_of_memory() {
        output::warn(
            "the machine was out of memory and its kernel killed the command; give the box more with --memory",
        );
    }
    u8::try_from(status.shell_code()).unwrap_or(u8::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn statuses_are_those_of_a_shell() {
        assert_eq!(exit_status(ExitStatus::from_code(0)), 0);
        assert_eq!(exit_status(ExitStatus::from_code(255)), 255);
        assert_eq!(exit_status(ExitStatus::from_signal(9)), 137);
        assert_eq!(exit_status(ExitStatus::from_signal(64)), 192);
    }
}
