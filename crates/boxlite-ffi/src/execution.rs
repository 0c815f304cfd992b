//! A process in a box, as a handle names it.

use std::os::fd::{IntoRawFd, OwnedFd, RawFd};
use std::sync::{Arc, Mutex, PoisonError};

use boxlite::{Execution, ExecutionError, ExitStatus, Signal, TerminalSize};
use tokio::sync::{mpsc, oneshot, watch};
use tokio_util::sync::CancellationToken;

use crate::boxes::BoxObject;
use crate::client::ClientObject;
use crate::error::Failure;
use crate::handle::Object;
use crate::op::{Outcome, Spec};
use crate::pump::{Ends, Streams};

/// Signals and sizes on their way to a process.
const COMMAND_QUEUE: usize = 16;

type Status = Option<Result<ExitStatus, ExecutionError>>;

/// One of the streams of a process.
#[derive(Debug, Clone, Copy)]
pub(crate) enum StreamKind {
    Stdin,
    Stdout,
    Stderr,
}

#[derive(Debug)]
enum What {
    Signal(Signal),
    Resize(TerminalSize),
}

#[derive(Debug)]
struct Command {
    what: What,
    answer: oneshot::Sender<Result<(), ExecutionError>>,
}

/// A process in a box. Dropping it lets go of the process.
#[derive(Debug)]
pub(crate) struct ExecObject {
    client: Arc<ClientObject>,
    box_name: String,
    pid: i32,
    ends: Mutex<Ends>,
    has_stdin: bool,
    /// Ends the input after what was written.
    close: CancellationToken,
    /// Lets go of the process.
    stop: CancellationToken,
    commands: mpsc::Sender<Command>,
    status: watch::Receiver<Status>,
}

impl ExecObject {
    /// Takes over a process that was started in `of`, as the result of an operation. Needs the
    /// runtime.
    pub(crate) fn outcome(of: &BoxObject, mut execution: Execution, streams: Streams) -> Result<Outcome, Failure> {
        let client = of.client();
        let close = CancellationToken::new();
        let gone = CancellationToken::new();
        let stop = client.closing().child_token();
        let pid = execution.pid();
        let ends = streams.connect(&mut execution, &close, &gone);
        let (commands, receiver) = mpsc::channel(COMMAND_QUEUE);
        let (sender, status) = watch::channel(None);
        let driving = drive(execution, receiver, sender, stop.clone(), gone);
        tokio::spawn(client.tasks().track_future(driving));
        Ok(Outcome::Object(Some(Object::Exec(Arc::new(Self {
            client: Arc::clone(client),
            box_name: of.handle().name().to_owned(),
            pid,
            has_stdin: ends.stdin.is_some(),
            ends: Mutex::new(ends),
            close,
            stop,
            commands,
            status,
        })))))
    }

    pub(crate) fn client(&self) -> &Arc<ClientObject> {
        &self.client
    }

    pub(crate) fn spec(&self, operation: &'static str) -> Spec {
        Spec::new(operation).about(&self.box_name)
    }

    pub(crate) fn pid(&self) -> i32 {
        self.pid
    }

    /// Gives one of the caller's ends away, once.
    pub(crate) fn take(&self, kind: StreamKind) -> Result<RawFd, Failure> {
        let mut ends = self.ends.lock().unwrap_or_else(PoisonError::into_inner);
        let (end, name): (&mut Option<OwnedFd>, _) = match kind {
            StreamKind::Stdin => (&mut ends.stdin, "stdin"),
            StreamKind::Stdout => (&mut ends.stdout, "stdout"),
            StreamKind::Stderr => (&mut ends.stderr, "stderr"),
        };
        match end.take() {
            Some(end) => Ok(end.into_raw_fd()),
            None => Err(Failure::state(format!(
                "{name} was not asked for, or was given already"
            ))),
        }
    }

    pub(crate) fn close_stdin(&self) -> Result<(), Failure> {
        if !self.has_stdin {
            return Err(Failure::state("stdin was not asked for"));
        }
        self.close.cancel();
        Ok(())
    }

    /// What freeing its handle does: kills the process, unless it is to live on.
    pub(crate) fn release(&self) {
        self.stop.cancel();
    }

    /// Ends when the process has.
    pub(crate) fn wait(&self) -> impl Future<Output = Result<ExitStatus, Failure>> + Send + 'static {
        let mut status = self.status.clone();
        async move {
            let known = status.wait_for(Option::is_some).await;
            match known.ok().and_then(|status| status.clone()) {
                Some(Ok(status)) => Ok(status),
                Some(Err(ExecutionError::Closed)) | None => Err(Failure::state("this execution handle was freed")),
                Some(Err(error)) => Err(error.into()),
            }
        }
    }

    pub(crate) fn signal(&self, signal: Signal) -> impl Future<Output = Result<(), Failure>> + Send + 'static {
        self.tell(What::Signal(signal))
    }

    pub(crate) fn resize(&self, size: TerminalSize) -> impl Future<Output = Result<(), Failure>> + Send + 'static {
        self.tell(What::Resize(size))
    }

    fn tell(&self, what: What) -> impl Future<Output = Result<(), Failure>> + Send + 'static {
        let commands = self.commands.clone();
        async move {
            let (answer, answered) = oneshot::channel();
            // Nobody drives it any more once it has ended.
            let result = match commands.send(Command { what, answer }).await {
                Ok(()) => answered.await.unwrap_or(Err(ExecutionError::Ended)),
                Err(_) => Err(ExecutionError::Ended),
            };
            Ok(result?)
        }
    }
}

impl Drop for ExecObject {
    fn drop(&mut self) {
        self.release();
    }
}

/// Keeps an execution until its process has ended or nobody wants it any more.
async fn drive(
    mut execution: Execution,
    mut commands: mpsc::Receiver<Command>,
    status: watch::Sender<Status>,
    stop: CancellationToken,
    gone: CancellationToken,
) {
    let _gone = gone.drop_guard();
    loop {
        let command = tokio::select! {
            outcome = execution.wait() => {
                status.send_replace(Some(outcome));
                return;
            }
            Some(command) = commands.recv() => command,
            () = stop.cancelled() => break,
        };
        let told = async {
            match command.what {
                What::Signal(signal) => execution.signal(signal).await,
                What::Resize(size) => execution.resize(size).await,
            }
        };
        let result = tokio::select! {
            result = told => result,
            () = stop.cancelled() => break,
        };
        // Whoever asked may be gone.
        let _ = command.answer.send(result);
    }
    drop(execution);
    status.send_replace(Some(Err(ExecutionError::Closed)));
}
