//! The supervisor's own calls.

use std::sync::Arc;
use std::time::{Duration, Instant};

use boxlite_protocol::guest::{ExitStatus, ResizeTerminalRequest, SignalRequest, TerminalSize, exec_input::Input};
use boxlite_protocol::shim::attach_input::Input as AttachedInput;
use boxlite_protocol::shim::shim_server::Shim;
use boxlite_protocol::shim::status_response::Stage;
use boxlite_protocol::shim::{
    AttachInput, AttachStart, EngineMetricsRequest, EngineMetricsResponse, KillRequest, KillResponse, PauseRequest,
    PauseResponse, ResizeRequest, ResizeResponse, StatusRequest, StatusResponse, StopRequest, StopResponse,
    TerminateRequest, TerminateResponse, UnpauseRequest, UnpauseResponse, WaitRequest, WaitResponse,
};
use boxlite_protocol::version::SendVersion;
use tokio::sync::{mpsc, oneshot, watch};
use tonic::{Request, Response, Status, Streaming};

use super::agent::Agent;
use super::main_process::{MainProcess, OutputStream};
use super::metrics;

/// How long the agent may take to deliver a signal or a size.
const SIGNAL_TIMEOUT: Duration = Duration::from_secs(30);
/// Highest signal number of Linux.
const MAX_SIGNAL: i32 = 64;

/// What clients ask of the supervisor's loop.
#[derive(Debug)]
pub(crate) enum Command {
    /// The main process may start now.
    ReleaseMain,
    /// End in order.
    Stop {
        /// `None`: the box's.
        signal: Option<i32>,
        grace: Option<Duration>,
    },
    /// End an idle box without grace.
    KillIdle,
    /// End the engine.
    Terminate,
    /// Stand the machine still.
    Pause(Reply),
    /// Let it go on.
    Unpause(Reply),
}

/// Where the loop says how something went.
pub(crate) type Reply = oneshot::Sender<Result<(), Status>>;

/// How the box ended, for those who wait.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Outcome {
    pub(crate) exit: Option<ExitStatus>,
    pub(crate) killed: bool,
}

/// Answers calls from what the supervisor's loop publishes.
#[derive(Debug)]
pub(crate) struct Service {
    pub(crate) box_id: String,
    pub(crate) run_id: String,
    pub(crate) began: Instant,
    pub(crate) main: Option<Arc<MainProcess>>,
    pub(crate) commands: mpsc::UnboundedSender<Command>,
    pub(crate) stage: watch::Receiver<Stage>,
    pub(crate) engine_pid: watch::Receiver<Option<u32>>,
    pub(crate) agent: watch::Receiver<Option<Agent>>,
    pub(crate) outcome: watch::Receiver<Option<Outcome>>,
}

impl Service {
    fn command(&self, command: Command) {
        // The loop only ends after the outcome is published, which answers everything.
        let _ = self.commands.send(command);
    }

    /// Has the loop do something and waits for how it went.
    async fn ask(&self, command: impl FnOnce(Reply) -> Command) -> Result<(), Status> {
        let (reply, answer) = oneshot::channel();
        self.command(command(reply));
        match answer.await {
            Ok(result) => result,
            Err(_) => Err(Status::unavailable("the box is not running yet, or not any more")),
        }
    }

    async fn outcome(&self) -> Result<Outcome, Status> {
        let mut outcome = self.outcome.clone();
        let outcome = outcome.wait_for(Option::is_some).await.map(|outcome| *outcome);
        outcome
            .ok()
            .flatten()
            .ok_or_else(|| Status::unavailable("the supervisor ends"))
    }

    fn agent(&self) -> Result<Agent, Status> {
        let agent = self.agent.borrow().clone();
        agent.ok_or_else(|| Status::unavailable("the box is not running yet, or not any more"))
    }
}

#[tonic::async_trait]
impl Shim for Service {
    async fn status(&self, _: Request<StatusRequest>) -> Result<Response<StatusResponse>, Status> {
        Ok(Response::new(StatusResponse {
            stage: (*self.stage.borrow()).into(),
            box_id: self.box_id.clone(),
            run_id: self.run_id.clone(),
            shim_pid: std::process::id(),
            engine_pid: self.engine_pid.borrow().unwrap_or(0),
            shim_version: env!("CARGO_PKG_VERSION").to_owned(),
        }))
    }

    type AttachStream = OutputStream;

    async fn attach(&self, request: Request<Streaming<AttachInput>>) -> Result<Response<Self::AttachStream>, Status> {
        let mut input = request.into_inner();
        let main = self
            .main
            .clone()
            .ok_or_else(|| Status::failed_precondition("the box has no main process to attach to"))?;
        let Some(AttachInput {
            input: Some(AttachedInput::Start(start)),
        }) = input.message().await?
        else {
            return Err(Status::invalid_argument(
                "the first message of an attach must be its start",
            ));
        };
        let AttachStart {
            release_main,
            stdin,
            size,
        } = start;
        let (id, output) = main.attach(stdin, size)?;
        let resize = size.and_then(|size| main.set_size(size).map(|execution| (execution, size)));
        let agent = self.agent.borrow().clone();
        if release_main {
            self.command(Command::ReleaseMain);
        }
        tokio::spawn(async move {
            if let (Some((execution, size)), Some(agent)) = (resize, agent) {
                // A terminal that keeps its size is no reason not to attach to it.
                if let Err(status) = tell_size(&agent, execution, size).await {
                    tracing::debug!(%status, "the terminal keeps its size");
                }
            }
            loop {
                let message = tokio::select! {
                    message = input.message() => message,
                    // A call whose input is held on to would never be over.
                    _ = main.over() => break,
                };
                let Ok(Some(message)) = message else { break };
                let input = match message.input {
                    Some(AttachedInput::Stdin(bytes)) => Input::Stdin(bytes),
                    Some(AttachedInput::CloseStdin(close)) => Input::CloseStdin(close),
                    Some(AttachedInput::Start(_)) | None => continue,
                };
                main.feed(id, input).await;
            }
            main.fed(id).await;
        });
        Ok(Response::new(output))
    }

    async fn resize(&self, request: Request<ResizeRequest>) -> Result<Response<ResizeResponse>, Status> {
        let size = request.into_inner().size;
        let size = size.ok_or_else(|| Status::invalid_argument("there is no size"))?;
        let main = self.main.as_ref();
        let main = main.ok_or_else(|| Status::failed_precondition("the box has no main process"))?;
        if let Some(execution) = main.set_size(size) {
            tell_size(&self.agent()?, execution, size).await?;
        }
        Ok(Response::new(ResizeResponse {}))
    }

    async fn stop(&self, request: Request<StopRequest>) -> Result<Response<StopResponse>, Status> {
        let StopRequest { signal, grace_ms } = request.into_inner();
        if !(0..=MAX_SIGNAL).contains(&signal) {
            return Err(Status::invalid_argument(format!("{signal} is not a signal")));
        }
        self.command(Command::Stop {
            signal: (signal != 0).then_some(signal),
            grace: Some(Duration::from_millis(grace_ms)),
        });
        let Outcome { exit, killed } = self.outcome().await?;
        Ok(Response::new(StopResponse { exit, killed }))
    }

    async fn kill(&self, request: Request<KillRequest>) -> Result<Response<KillResponse>, Status> {
        let signal = request.into_inner().signal;
        if !(1..=MAX_SIGNAL).contains(&signal) {
            return Err(Status::invalid_argument(format!("{signal} is not a signal")));
        }
        let starting = *self.stage.borrow() == Stage::Starting;
        if starting && is_fatal(signal) {
            self.command(Command::Terminate);
            return Ok(Response::new(KillResponse {}));
        }
        if self.main.is_none() && is_fatal(signal) {
            self.command(Command::KillIdle);
            return Ok(Response::new(KillResponse {}));
        }
        if *self.stage.borrow() == Stage::Paused {
            if signal != KILL {
                return Err(Status::failed_precondition(
                    "the box is paused: it gets no signals but SIGKILL",
                ));
            }
            self.ask(Command::Unpause).await?;
        }
        let mut agent = self.agent()?.client(SendVersion::default());
        match tokio::time::timeout(SIGNAL_TIMEOUT, agent.signal(SignalRequest { signal })).await {
            Ok(answer) => answer.map(|_| Response::new(KillResponse {})),
            Err(_) if signal == KILL => {
                self.command(Command::Terminate);
                Ok(Response::new(KillResponse {}))
            }
            Err(_) => Err(Status::deadline_exceeded("the box's agent did not answer")),
        }
    }

    async fn terminate(&self, _: Request<TerminateRequest>) -> Result<Response<TerminateResponse>, Status> {
        self.command(Command::Terminate);
        self.outcome().await.map(|_| Response::new(TerminateResponse {}))
    }

    async fn wait(&self, _: Request<WaitRequest>) -> Result<Response<WaitResponse>, Status> {
        let Outcome { exit, .. } = self.outcome().await?;
        Ok(Response::new(WaitResponse { exit }))
    }

    async fn pause(&self, _: Request<PauseRequest>) -> Result<Response<PauseResponse>, Status> {
        self.ask(Command::Pause).await.map(|()| Response::new(PauseResponse {}))
    }

    async fn unpause(&self, _: Request<UnpauseRequest>) -> Result<Response<UnpauseResponse>, Status> {
        self.ask(Command::Unpause)
            .await
            .map(|()| Response::new(UnpauseResponse {}))
    }

    async fn engine_metrics(
        &self,
        _: Request<EngineMetricsRequest>,
    ) -> Result<Response<EngineMetricsResponse>, Status> {
        let pid = *self.engine_pid.borrow();
        let pid = pid.ok_or_else(|| Status::unavailable("the engine does not run"))?;
        let metrics = metrics::of(pid, self.began)
            .map_err(|error| Status::unavailable(format!("the engine's figures can't be read: {error}")))?;
        Ok(Response::new(metrics))
    }
}

/// Tells the terminal of a process that runs its size.
async fn tell_size(agent: &Agent, execution: u64, size: TerminalSize) -> Result<(), Status> {
    let request = ResizeTerminalRequest {
        execution,
        size: Some(size),
    };
    let mut agent = agent.client(SendVersion::default());
    match tokio::time::timeout(SIGNAL_TIMEOUT, agent.resize_terminal(request)).await {
        Ok(answer) => answer.map(drop),
        Err(_) => Err(Status::deadline_exceeded("the box's agent did not answer")),
    }
}

const KILL: i32 = 9;

/// Whether a process that does not handle it is ended by it (signal(7)).
fn is_fatal(signal: i32) -> bool {
    const CHLD: i32 = 17;
    const CONT: i32 = 18;
    const STOP: i32 = 19;
    const TSTP: i32 = 20;
    const TTIN: i32 = 21;
    const TTOU: i32 = 22;
    const URG: i32 = 23;
    const WINCH: i32 = 28;
    !matches!(signal, CHLD | CONT | STOP | TSTP | TTIN | TTOU | URG | WINCH)
}
