//! A process that runs in a box, with its streams.

use std::ffi::OsString;
use std::pin::Pin;
use std::task::{Context, Poll};

use serde::{Deserialize, Serialize};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::error::ExecutionError;
use crate::exit_status::ExitStatus;
use crate::signal::Signal;

/// What [`crate::BoxHandle::exec`] runs.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct ExecOptions {
    /// Program and arguments; the program is looked up in the box's `PATH`.
    pub command: Vec<OsString>,
    /// Environment, over the box's.
    pub env: Vec<(OsString, OsString)>,
    /// Working directory, absolute; must exist. Absent: the box's.
    pub working_dir: Option<OsString>,
    /// `name`, `uid`, `name:group` or `uid:gid`. Absent: the box's.
    pub user: Option<String>,
    /// Give it a terminal: standard error then comes with standard output.
    pub tty: bool,
    /// Size of the terminal.
    pub size: Option<TerminalSize>,
    /// Feed its standard input; otherwise it is `/dev/null`.
    pub stdin: bool,
    /// Let it run on when the execution is dropped; its output is then lost.
    pub detached: bool,
}

impl ExecOptions {
    /// Runs `command`, with every default.
    #[must_use]
    pub fn new<I: IntoIterator<Item = S>, S: Into<OsString>>(command: I) -> Self {
        Self {
            command: command.into_iter().map(Into::into).collect(),
            ..Self::default()
        }
    }

    /// Adds one variable to the environment.
    #[must_use]
    pub fn env(mut self, key: impl Into<OsString>, value: impl Into<OsString>) -> Self {
        self.env.push((key.into(), value.into()));
        self
    }

    /// Sets the working directory.
    #[must_use]
    pub fn working_dir(mut self, path: impl Into<OsString>) -> Self {
        self.working_dir = Some(path.into());
        self
    }

    /// Sets the user.
    #[must_use]
    pub fn user(mut self, user: impl Into<String>) -> Self {
        self.user = Some(user.into());
        self
    }

    /// Gives it a terminal of this size.
    #[must_use]
    pub fn tty(mut self, size: TerminalSize) -> Self {
        self.tty = true;
        self.size = Some(size);
        self
    }

    /// Whether its standard input is fed.
    #[must_use]
    pub fn stdin(mut self, stdin: bool) -> Self {
        self.stdin = stdin;
        self
    }

    /// Whether it runs on when the execution is dropped.
    #[must_use]
    pub fn detached(mut self, detached: bool) -> Self {
        self.detached = detached;
        self
    }
}

/// Size of a terminal in characters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TerminalSize {
    /// Lines.
    pub rows: u16,
    /// Columns.
    pub columns: u16,
}

/// A process that runs in a box.
///
/// Its streams have true backpressure: what is not read holds the process up, in bounded
/// memory on the way. As with pipes, whoever takes both outputs must read both.
/// Outputs that nobody takes are thrown away by [`wait`](Self::wait).
///
/// Dropping it kills the process (all of its session), unless it was started detached or
/// is the box's main process, which is only detached from. Streams that were taken end
/// with an error then.
#[derive(Debug)]
pub struct Execution {
    pid: i32,
}

impl Execution {
    /// Process id in the box.
    #[must_use]
    pub fn pid(&self) -> i32 {
        self.pid
    }

    /// Standard input, once, if the execution was asked to feed it.
    pub fn take_stdin(&mut self) -> Option<ExecStdin> {
        None
    }

    /// Standard output (of a terminal: everything), once.
    pub fn take_stdout(&mut self) -> Option<ExecOutput> {
        None
    }

    /// Standard error, once.
    pub fn take_stderr(&mut self) -> Option<ExecOutput> {
        None
    }

    /// Waits until the process has ended and all of its output was read (or its reader
    /// dropped). May be called again: it gives the same answer. Cancel-safe.
    ///
    /// # Errors
    /// When the box ends before the process does.
    pub async fn wait(&mut self) -> Result<ExitStatus, ExecutionError> {
        Err(ExecutionError::Closed)
    }

    /// Signals the process; with a terminal, the process group in its foreground.
    ///
    /// # Errors
    /// When the process has ended.
    pub async fn signal(&self, signal: Signal) -> Result<(), ExecutionError> {
        let _ = signal;
        Err(ExecutionError::Closed)
    }

    /// Tells the terminal its size.
    ///
    /// # Errors
    /// When the process has ended.
    pub async fn resize(&self, size: TerminalSize) -> Result<(), ExecutionError> {
        let _ = size;
        Err(ExecutionError::Closed)
    }

    /// Kills the process with SIGKILL.
    ///
    /// # Errors
    /// When the process has ended.
    pub async fn kill(&self) -> Result<(), ExecutionError> {
        self.signal(Signal::KILL).await
    }

    /// Lets go of the process: what dropping does, by name.
    pub fn close(self) {}
}

/// Standard input of an [`Execution`]. `shutdown` (or dropping it) is its end.
#[derive(Debug)]
pub struct ExecStdin {}

impl AsyncWrite for ExecStdin {
    fn poll_write(
        self: Pin<&mut Self>,
        _context: &mut Context<'_>,
        _data: &[u8],
    ) -> Poll<std::io::Result<usize>> {
        Poll::Ready(Ok(0))
    }

    fn poll_flush(self: Pin<&mut Self>, _context: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(
        self: Pin<&mut Self>,
        _context: &mut Context<'_>,
    ) -> Poll<std::io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

/// Standard output or standard error of an [`Execution`].
#[derive(Debug)]
pub struct ExecOutput {}

impl AsyncRead for ExecOutput {
    fn poll_read(
        self: Pin<&mut Self>,
        _context: &mut Context<'_>,
        _buffer: &mut ReadBuf<'_>,
    ) -> Poll<std::io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}
