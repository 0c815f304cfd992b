//! A process that runs in a box, with its streams.

mod demux;
mod input;

use std::ffi::OsString;
use std::os::unix::ffi::OsStrExt;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use boxlite_protocol::guest::{self, ExecOutput as OutputMessage, exec_output::Output};
use boxlite_protocol::guest::{ResizeTerminalRequest, SignalExecutionRequest};
use boxlite_protocol::shim::{AttachInput, AttachStart, KillRequest, ResizeRequest, attach_input};
use bytes::Bytes;
use futures_util::StreamExt;
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncRead, ReadBuf};
use tonic::Streaming;

use crate::attach::AttachOptions;
use crate::config::BoxConfig;
use crate::connection::Connection;
use crate::error::{AgentError, ExecError, ExecutionError, Refusal};
use crate::exit_status::ExitStatus;
use crate::rpc;
use crate::signal::Signal;

use demux::{Demux, LaneKind};
pub use input::ExecStdin;
use input::InputStream;

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
    /// Write its standard error where its standard output goes, in the order in which it is
    /// written. Nothing comes by the execution's standard error then.
    pub merge_stderr: bool,
    /// How long its outputs may go on after its end because other processes hold them; the
    /// exit status then says that they were cut ([`ExitStatus::output_cut`]). Absent: until
    /// they have been silent for some seconds.
    pub output_grace: Option<Duration>,
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

    /// Whether standard error is written where standard output goes.
    #[must_use]
    pub fn merge_stderr(mut self, merge_stderr: bool) -> Self {
        self.merge_stderr = merge_stderr;
        self
    }

    /// Sets how long outputs may go on after the process's end.
    #[must_use]
    pub fn output_grace(mut self, grace: Duration) -> Self {
        self.output_grace = Some(grace);
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
/// with an error then, after what had arrived.
#[derive(Debug)]
pub struct Execution {
    pid: i32,
    demux: Arc<Demux>,
    /// Names it in calls beside its own.
    number: u64,
    stdin: Option<ExecStdin>,
    outputs: [Option<ExecOutput>; 2],
    is_main: bool,
    connection: Connection,
}

/// Why a process does not run: the agent said no, or the call failed.
#[derive(Debug)]
pub(crate) enum NotStarted {
    Refused(Refusal),
    Failed(AgentError),
}

impl Execution {
    /// Runs a process in the box whose supervisor is at the other end of `connection`.
    pub(crate) async fn exec(
        connection: Connection,
        config: &BoxConfig,
        options: ExecOptions,
    ) -> Result<Self, ExecError> {
        let stdin = options.stdin;
        let start = guest::ExecInput {
            input: Some(guest::exec_input::Input::Start(guest::ExecStart {
                process: Some(process_spec(config, options)?),
                main: false,
            })),
        };
        let (input, stdin) = InputStream::new(start, stdin);
        let answer = connection.guest().exec(input).await;
        Self::begin("exec", connection, answer, stdin, false)
            .await
            .map_err(|error| match error {
                NotStarted::Refused(refusal) => ExecError::Refused { refusal },
                NotStarted::Failed(error) => error.into(),
            })
    }

    /// Attaches to the main process; with `release`, starts it.
    pub(crate) async fn attach(
        connection: Connection,
        options: AttachOptions,
        release: bool,
    ) -> Result<Self, NotStarted> {
        let start = AttachInput {
            input: Some(attach_input::Input::Start(AttachStart {
                release_main: release,
                stdin: options.stdin,
                size: options.size.map(rpc::terminal_size),
            })),
        };
        let (input, stdin) = InputStream::new(start, options.stdin);
        let answer = connection.shim().attach(input).await;
        Self::begin("attach", connection, answer, stdin, true).await
    }

    async fn begin(
        operation: &'static str,
        connection: Connection,
        answer: Result<tonic::Response<Streaming<OutputMessage>>, tonic::Status>,
        stdin: Option<ExecStdin>,
        is_main: bool,
    ) -> Result<Self, NotStarted> {
        let failed = |status: tonic::Status| NotStarted::Failed(rpc::call_error(operation, &status));
        let mut stream = answer.map_err(failed)?.into_inner();
        let protocol = |detail| NotStarted::Failed(AgentError::Protocol { operation, detail });
        let started = match stream.message().await.map_err(failed)?.and_then(|m| m.output) {
            Some(Output::Started(started)) => started,
            Some(Output::Refused(refused)) => {
                return Err(NotStarted::Refused(rpc::refusal(refused)));
            }
            Some(_) => return Err(protocol("output of a process that has not started")),
            None => return Err(protocol("no answer to the start")),
        };
        let demux = Demux::new(stream.boxed());
        let output = |kind| {
            Some(ExecOutput {
                demux: Arc::clone(&demux),
                kind,
            })
        };
        Ok(Self {
            pid: started.pid,
            number: started.execution,
            outputs: [output(LaneKind::Stdout), output(LaneKind::Stderr)],
            demux,
            stdin,
            is_main,
            connection,
        })
    }

    /// Process id in the box.
    #[must_use]
    pub fn pid(&self) -> i32 {
        self.pid
    }

    /// Standard input, once, if the execution was asked to feed it.
    pub fn take_stdin(&mut self) -> Option<ExecStdin> {
        self.stdin.take()
    }

    /// Standard output (of a terminal: everything), once.
    pub fn take_stdout(&mut self) -> Option<ExecOutput> {
        self.outputs[LaneKind::Stdout as usize].take()
    }

    /// Standard error, once.
    pub fn take_stderr(&mut self) -> Option<ExecOutput> {
        self.outputs[LaneKind::Stderr as usize].take()
    }

    /// Waits until the process has ended and all of its output was read (or its reader
    /// dropped). May be called again: it gives the same answer. Cancel-safe.
    ///
    /// Standard input and outputs that were not taken are closed and thrown away.
    ///
    /// # Errors
    /// When the box ends before the process does.
    pub async fn wait(&mut self) -> Result<ExitStatus, ExecutionError> {
        self.stdin = None;
        self.outputs = [None, None];
        std::future::poll_fn(|context| self.demux.poll_wait(context)).await
    }

    /// Signals the process; with a terminal, the process group in its foreground.
    /// Standard input that the process does not read can't hold it up.
    ///
    /// # Errors
    /// When the process has ended.
    pub async fn signal(&self, signal: Signal) -> Result<(), ExecutionError> {
        let signal = signal.number();
        if self.is_main {
            let request = KillRequest { signal };
            return self
                .told(async { self.connection.shim().kill(request).await.map(drop) })
                .await;
        }
        let request = SignalExecutionRequest {
            execution: self.number,
            signal,
        };
        self.told(async { self.connection.guest().signal_execution(request).await.map(drop) })
            .await
    }

    /// Tells the terminal its size.
    ///
    /// # Errors
    /// When the process has ended.
    pub async fn resize(&self, size: TerminalSize) -> Result<(), ExecutionError> {
        let size = Some(rpc::terminal_size(size));
        if self.is_main {
            let request = ResizeRequest { size };
            return self
                .told(async { self.connection.shim().resize(request).await.map(drop) })
                .await;
        }
        let request = ResizeTerminalRequest {
            execution: self.number,
            size,
        };
        self.told(async { self.connection.guest().resize_terminal(request).await.map(drop) })
            .await
    }

    async fn told(&self, call: impl Future<Output = Result<(), tonic::Status>>) -> Result<(), ExecutionError> {
        if self.demux.has_ended() {
            return Err(ExecutionError::Ended);
        }
        call.await.map_err(|status| match status.code() {
            tonic::Code::NotFound => ExecutionError::Ended,
            _ => ExecutionError::Broken {
                code: rpc::code_of(&status),
                message: rpc::message_of(&status),
            },
        })
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

impl Drop for Execution {
    fn drop(&mut self) {
        self.demux.close();
    }
}

/// Standard output or standard error of an [`Execution`].
#[derive(Debug)]
pub struct ExecOutput {
    demux: Arc<Demux>,
    kind: LaneKind,
}

impl AsyncRead for ExecOutput {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<std::io::Result<()>> {
        self.demux.poll_read(self.kind, context, buffer)
    }
}

impl Drop for ExecOutput {
    fn drop(&mut self) {
        self.demux.discard(self.kind);
    }
}

fn process_spec(config: &BoxConfig, options: ExecOptions) -> Result<guest::ProcessSpec, ExecError> {
    let has_nul = |text: &OsString| text.as_bytes().contains(&0);
    if options.command.is_empty() || options.command.iter().any(has_nul) {
        return Err(ExecError::Command);
    }
    let own_dir = options.working_dir.is_none();
    let working_dir = options.working_dir.unwrap_or_else(|| config.working_dir.clone().into());
    Ok(guest::ProcessSpec {
        args: options.command.into_iter().map(as_bytes).collect(),
        env: exec_env(&config.env, &options.env)?,
        working_dir: as_bytes(working_dir),
        create_working_dir: own_dir,
        user: options.user.unwrap_or_else(|| config.user.clone()),
        tty: options.tty,
        size: options.size.map(rpc::terminal_size),
        stdin: options.stdin,
        detached: options.detached,
        merge_stderr: options.merge_stderr,
        // Less than a millisecond is the least that can be said.
        output_grace_ms: options
            .output_grace
            .map_or(0, |grace| u64::try_from(grace.as_millis()).unwrap_or(u64::MAX).max(1)),
    })
}

fn as_bytes(text: OsString) -> Bytes {
    Bytes::from(std::os::unix::ffi::OsStringExt::into_vec(text))
}

/// The box's environment with `over` put over it.
fn exec_env(base: &[String], over: &[(OsString, OsString)]) -> Result<Vec<Bytes>, ExecError> {
    let mut env: Vec<Bytes> = base
        .iter()
        .map(|entry| Bytes::copy_from_slice(entry.as_bytes()))
        .collect();
    for (key, value) in over {
        let (name, text) = (key.as_bytes(), value.as_bytes());
        if name.is_empty() || name.iter().any(|b| matches!(b, 0 | b'=')) || text.contains(&0) {
            return Err(ExecError::Env {
                key: key.to_string_lossy().into_owned(),
            });
        }
        env.retain(|entry| !(entry.starts_with(name) && entry.get(name.len()) == Some(&b'=')));
        env.push(Bytes::from([name, b"=", text].concat()));
    }
    Ok(env)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exec_environment_goes_over_the_box_s() {
        let base = ["A=1".to_owned(), "AB=2".to_owned()];
        let env = exec_env(&base, &[("A".into(), "x=y".into()), ("C".into(), "".into())]).unwrap();
        let env: Vec<&[u8]> = env.iter().map(AsRef::as_ref).collect();
        assert_eq!(env, [b"AB=2".as_slice(), b"A=x=y", b"C="]);
        for (key, value) in [("", "x"), ("A=B", "x"), ("A", "\0"), ("A\0", "")] {
            assert!(exec_env(&base, &[(key.into(), value.into())]).is_err());
        }
    }
}
