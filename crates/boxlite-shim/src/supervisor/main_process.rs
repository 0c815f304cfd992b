//! The box's main process: its streams, its log, and the clients that are attached.

use std::path::Path;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use boxlite_protocol::guest::{
    CloseStdin, ExecInput, ExecOutput, ExecRefused, ExecStart, ExecStarted, ExitStatus, ProcessSpec,
    ResizeTerminalRequest, TerminalSize, exec_input::Input, exec_output::Output,
};
use boxlite_shim::log;
use tokio::sync::{mpsc, watch};
use tokio_stream::wrappers::ReceiverStream;
use tokio_stream::{Stream, StreamExt as _};
use tonic::{Status, Streaming};

use super::agent::Client;
use super::guest_text;

/// Messages on the way to the agent.
const INPUT_MESSAGES: usize = 4;
/// Messages on the way to one attached client, beside those in its connection.
const OUTPUT_MESSAGES: usize = 4;
/// How long a client that does not read may hold up the end of a box that is told to end.
const HURRIED_SEND: Duration = Duration::from_secs(1);

/// How far the main process is.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Phase {
    /// It has not been started.
    Waiting,
    /// It runs.
    Running(ExecStarted),
    /// The agent would not start it.
    Refused(ExecRefused),
    /// It has ended, and all of its output came before this.
    Exited(ExitStatus),
    /// The agent went away before it ended.
    Lost(String),
}

impl Phase {
    fn is_over(&self) -> bool {
        matches!(self, Self::Refused(_) | Self::Exited(_) | Self::Lost(_))
    }
}

/// What an attached client gets.
pub(crate) type OutputStream = Pin<Box<dyn Stream<Item = Result<ExecOutput, Status>> + Send>>;

/// The main process of a box that has one.
#[derive(Debug)]
pub(crate) struct MainProcess {
    keep_stdin_open: bool,
    phase: watch::Sender<Phase>,
    /// Messages that clients' connections have taken.
    delivered: watch::Sender<u64>,
    hurry: watch::Sender<bool>,
    input: mpsc::Sender<ExecInput>,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    clients: Vec<Attached>,
    next_id: u64,
    /// The client that feeds stdin.
    feeder: Option<u64>,
    stdin_closed: bool,
    /// The latest terminal size, for a start that is still to come.
    size: Option<TerminalSize>,
    /// Taken by the start.
    input: Option<mpsc::Receiver<ExecInput>>,
}

#[derive(Debug)]
struct Attached {
    id: u64,
    output: mpsc::Sender<Result<ExecOutput, Status>>,
}

impl MainProcess {
    pub(crate) fn new(keep_stdin_open: bool) -> Self {
        let (input, receiver) = mpsc::channel(INPUT_MESSAGES);
        Self {
            keep_stdin_open,
            phase: watch::Sender::new(Phase::Waiting),
            delivered: watch::Sender::new(0),
            hurry: watch::Sender::new(false),
            input,
            state: Mutex::new(State {
                input: Some(receiver),
                ..State::default()
            }),
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn phase(&self) -> Phase {
        self.phase.borrow().clone()
    }

    /// Waits until it has ended, was refused or lost.
    pub(crate) async fn over(&self) -> Phase {
        let mut phase = self.phase.subscribe();
        match phase.wait_for(Phase::is_over).await {
            Ok(phase) => phase.clone(),
            Err(_) => Phase::Lost("the supervisor ends".to_owned()),
        }
    }

    /// Changes whenever an attached client's connection has taken something.
    pub(crate) fn delivered(&self) -> watch::Receiver<u64> {
        self.delivered.subscribe()
    }

    /// From now on a client that does not read is let go instead of waited for.
    pub(crate) fn hurry(&self) {
        self.hurry.send_replace(true);
    }

    /// The machine is gone: whoever still waits for output gets none.
    pub(crate) fn give_up(&self, why: &str) {
        if !self.phase.borrow().is_over() {
            self.phase.send_replace(Phase::Lost(why.to_owned()));
        }
        let status = Status::unavailable(format!("the main process was lost: {why}"));
        for client in self.state().clients.drain(..) {
            // A client whose queue is full sees the stream end.
            let _ = client.output.try_send(Err(status.clone()));
        }
    }

    /// Adds a client. Its stream begins with `started`, at once or when that happens.
    pub(crate) fn attach(&self, stdin: bool, size: Option<TerminalSize>) -> Result<(u64, OutputStream), Status> {
        let mut state = self.state();
        state.clients.retain(|client| !client.output.is_closed());
        let feeder_is_there = state
            .feeder
            .is_some_and(|feeder| state.clients.iter().any(|client| client.id == feeder));
        if stdin && feeder_is_there {
            return Err(Status::failed_precondition(
                "another client feeds the main process's stdin",
            ));
        }
        let (output, stream) = mpsc::channel(OUTPUT_MESSAGES);
        match self.phase() {
            Phase::Waiting => {}
            Phase::Running(started) => {
                // The queue is new and has room.
                let _ = output.try_send(Ok(message(Output::Started(started))));
            }
            Phase::Refused(_) => return Err(Status::failed_precondition("the main process could not be started")),
            Phase::Exited(_) => return Err(Status::failed_precondition("the main process has ended")),
            Phase::Lost(why) => return Err(Status::unavailable(format!("the main process was lost: {why}"))),
        }
        let id = state.next_id;
        state.next_id += 1;
        if stdin {
            state.feeder = Some(id);
        }
        state.size = size.or(state.size);
        state.clients.push(Attached { id, output });
        let delivered = self.delivered.clone();
        let stream = ReceiverStream::new(stream).map(move |message| {
            delivered.send_modify(|count| *count += 1);
            message
        });
        Ok((id, Box::pin(stream)))
    }

    /// Notes the terminal's size for the start; the execution to be told, when it runs.
    pub(crate) fn set_size(&self, size: TerminalSize) -> Option<u64> {
        // Under the lock, so that the start takes this size or is over.
        let mut state = self.state();
        state.size = Some(size);
        match &*self.phase.borrow() {
            Phase::Running(started) => Some(started.execution),
            _ => None,
        }
    }

    /// Hands on what client `id` says; waits while the process does not take it.
    pub(crate) async fn feed(&self, id: u64, input: Input) {
        match &input {
            Input::Stdin(_) | Input::CloseStdin(_) => {
                let mut state = self.state();
                if state.feeder != Some(id) || state.stdin_closed {
                    return;
                }
                state.stdin_closed = matches!(input, Input::CloseStdin(_));
            }
            Input::Start(_) => return,
        }
        tokio::select! {
            // Fails when the process is gone: then there is nobody to be told.
            _ = self.input.send(ExecInput { input: Some(input) }) => {}
            _ = self.over() => {}
        }
    }

    /// Client `id` says no more.
    pub(crate) async fn fed(&self, id: u64) {
        if !self.keep_stdin_open {
            self.feed(id, Input::CloseStdin(CloseStdin {})).await;
        }
        let mut state = self.state();
        if state.feeder == Some(id) {
            state.feeder = None;
        }
    }

    /// Starts it, and answers when it runs or can't. Its output then goes to the log and
    /// to the clients, in a task, until it has ended.
    pub(crate) async fn start(
        self: &Arc<Self>,
        mut agent: Client,
        mut process: ProcessSpec,
        output: Log,
    ) -> Result<Phase, Status> {
        let (receiver, size) = {
            let mut state = self.state();
            process.size = state.size.or(process.size);
            (state.input.take(), state.size)
        };
        let Some(receiver) = receiver else {
            return Err(Status::failed_precondition("the main process has been started already"));
        };
        let start = ExecInput {
            input: Some(Input::Start(ExecStart {
                process: Some(process),
                main: true,
            })),
        };
        let input = tokio_stream::once(start).chain(ReceiverStream::new(receiver));
        let mut stream = agent.exec(input).await?.into_inner();
        let phase = match stream.message().await?.and_then(|message| message.output) {
            Some(Output::Started(started)) => Phase::Running(started),
            Some(Output::Refused(refused)) => Phase::Refused(refused),
            other => {
                return Err(Status::internal(format!(
                    "the agent answered the start of the main process with {other:?}"
                )));
            }
        };
        let first = match &phase {
            Phase::Refused(refused) => Output::Refused(refused.clone()),
            Phase::Running(started) => Output::Started(*started),
            _ => return Ok(phase),
        };
        let new_size = {
            // Under the lock, so that a client that attaches now gets it once.
            let state = self.state();
            for client in &state.clients {
                let _ = client.output.try_send(Ok(message(first.clone())));
            }
            self.phase.send_replace(phase.clone());
            state.size.filter(|_| state.size != size)
        };
        if let (Some(size), Phase::Running(started)) = (new_size, &phase) {
            let execution = started.execution;
            let told = agent.resize_terminal(ResizeTerminalRequest {
                execution,
                size: Some(size),
            });
            if let Err(status) = told.await {
                tracing::debug!(%status, "the terminal keeps its size");
            }
        }
        if phase.is_over() {
            self.state().clients.clear();
        } else {
            tokio::spawn(Arc::clone(self).pump(stream, output));
        }
        Ok(phase)
    }

    async fn pump(self: Arc<Self>, mut stream: Streaming<ExecOutput>, mut output: Log) {
        let why = loop {
            let received = match stream.message().await {
                Ok(Some(received)) => received,
                Ok(None) => break "the agent ended its stream".to_owned(),
                Err(status) => break guest_text::message(status.message()),
            };
            match &received.output {
                Some(Output::Stdout(bytes)) => output.append(log::Stream::Stdout, bytes),
                Some(Output::Stderr(bytes)) => output.append(log::Stream::Stderr, bytes),
                Some(Output::Exited(status)) => {
                    // First the phase: nobody can attach between this and the last message.
                    {
                        let _state = self.state();
                        self.phase.send_replace(Phase::Exited(*status));
                    }
                    self.broadcast(received).await;
                    self.state().clients.clear();
                    return;
                }
                Some(Output::Started(_) | Output::Refused(_)) | None => continue,
            }
            self.broadcast(received).await;
        };
        self.give_up(&why);
    }

    /// Gives `output` to every client; waits for those that are slow.
    async fn broadcast(&self, output: ExecOutput) {
        let clients: Vec<_> = self
            .state()
            .clients
            .iter()
            .map(|client| (client.id, client.output.clone()))
            .collect();
        for (id, client) in clients {
            let mut hurry = self.hurry.subscribe();
            let delivered = tokio::select! {
                biased;
                sent = client.send(Ok(output.clone())) => sent.is_ok(),
                () = async {
                    let _ = hurry.wait_for(|hurry| *hurry).await;
                    tokio::time::sleep(HURRIED_SEND).await;
                } => {
                    tracing::warn!(client = id, "let go of an attached client that does not read");
                    false
                }
            };
            if !delivered {
                self.state().clients.retain(|client| client.id != id);
            }
        }
    }
}

fn message(output: Output) -> ExecOutput {
    ExecOutput { output: Some(output) }
}

/// The main process's log; the box goes on when it can't be written, and that is said once.
#[derive(Debug)]
pub(crate) struct Log {
    writer: Option<log::Writer>,
    failing: bool,
}

impl Log {
    pub(crate) fn open(box_dir: &Path, limits: log::Limits) -> Self {
        let writer = log::Writer::open(box_dir, limits);
        if let Err(error) = &writer {
            tracing::error!(%error, "the main process's output can't be kept");
        }
        Self {
            writer: writer.ok(),
            failing: false,
        }
    }

    fn append(&mut self, stream: log::Stream, bytes: &[u8]) {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let time_unix_ns = u64::try_from(now.as_nanos()).unwrap_or(u64::MAX);
        let Some(writer) = &mut self.writer else { return };
        match writer.append(stream, time_unix_ns, bytes) {
            Ok(()) => self.failing = false,
            Err(error) if self.failing => tracing::debug!(%error, "output is still not kept"),
            Err(error) => {
                tracing::error!(%error, "output of the main process is not kept");
                self.failing = true;
            }
        }
    }
}
