//! A box that is up: what may happen to it.

use std::sync::Arc;
use std::time::Duration;

use boxlite_machine::qemu::{EngineExit, Machine};
use boxlite_protocol::guest::ExecRefused;
use boxlite_protocol::version::SendVersion;
use boxlite_shim::LaunchConfig;

use super::End;
use super::agent::Agent;
use super::console::Console;
use super::main_process::{Log, MainProcess, Phase};
use super::publish::Publish;
use super::requests::{Request, Requests};
use super::start::process_spec;

/// How long a box waits for the client that said it would attach.
const RELEASE_TIMEOUT: Duration = Duration::from_secs(60);

/// A box that is up.
#[derive(Debug)]
pub(crate) struct Running<'a> {
    pub(crate) config: &'a LaunchConfig,
    pub(crate) publish: &'a Publish,
    pub(crate) main: Option<&'a Arc<MainProcess>>,
    pub(crate) requests: &'a mut Requests,
    pub(crate) agent: Agent,
    pub(crate) machine: Machine,
    pub(crate) console: Console,
    /// Stands still on request.
    pub(crate) is_paused: bool,
}

/// What ends a box.
#[derive(Debug)]
pub(crate) enum Cause {
    /// Somebody asked for it.
    Stop { signal: i32, grace: Duration },
    /// Somebody killed an idle box.
    KillIdle,
    /// Somebody wants the engine gone.
    Terminate,
    /// The program that started it is gone.
    ParentGone,
    /// The main process has ended.
    MainExited,
    /// The main process could not be started.
    MainRefused(ExecRefused),
    /// Nobody attached to a box that waited for it.
    NotReleased,
    /// The engine has ended.
    Engine(std::io::Result<EngineExit>),
    /// The guest's kernel panicked.
    Panic,
    /// The agent can't be reached.
    AgentLost(String),
}

/// Why a request ends a box that is still starting; `None` for one that doesn't.
pub(crate) fn interruption(request: Request) -> Option<&'static str> {
    match request {
        // Whoever asked learns from the dropped reply that there is nothing to pause.
        Request::ReleaseMain | Request::Pause(_) | Request::Unpause(_) => None,
        Request::Stop { .. } => Some("the box was stopped"),
        Request::KillIdle | Request::Terminate => Some("the box was killed"),
        Request::ParentGone => Some("the program that started it is gone"),
    }
}

impl Running<'_> {
    /// Runs the box to its end. `released`: the client that the main process waits for has
    /// attached already.
    pub(crate) async fn run(mut self, released: bool) -> End {
        let cause = self.until_end(released).await;
        tracing::info!(?cause, "the box ends");
        self.end(cause).await
    }

    async fn until_end(&mut self, released: bool) -> Cause {
        let mut waiting = self.config.wait_for_attach && self.main.is_some();
        if released && std::mem::take(&mut waiting) {
            self.release();
        }
        let release_timeout = tokio::time::sleep(RELEASE_TIMEOUT);
        tokio::pin!(release_timeout);
        let mut console_bytes = self.console.bytes();
        let mut console_open = true;
        loop {
            let main = self.main.cloned();
            tokio::select! {
                biased;
                // First, because it explains what follows from it.
                phase = over(main) => match phase {
                    Phase::Exited(_) => return Cause::MainExited,
                    Phase::Refused(refused) => return Cause::MainRefused(refused),
                    Phase::Lost(why) => return Cause::AgentLost(why),
                    Phase::Waiting | Phase::Running(_) => {}
                },
                exit = self.machine.wait() => return Cause::Engine(exit),
                request = self.requests.next() => match request {
                    Request::ReleaseMain => {
                        if std::mem::take(&mut waiting) {
                            self.release();
                        }
                    }
                    Request::Stop { signal, grace } => return Cause::Stop {
                        signal: signal.unwrap_or(self.config.stop_signal),
                        grace: grace.unwrap_or(Duration::from_millis(self.config.stop_grace_ms)),
                    },
                    Request::KillIdle => return Cause::KillIdle,
                    Request::Terminate => return Cause::Terminate,
                    Request::ParentGone => return Cause::ParentGone,
                    Request::Pause(reply) => {
                        // Nobody waits for the answer any more: it is done all the same.
                        let _ = reply.send(self.pause().await);
                    }
                    Request::Unpause(reply) => {
                        let _ = reply.send(self.unpause().await);
                    }
                },
                changed = console_bytes.changed(), if console_open => {
                    console_open = changed.is_ok();
                    if self.console.panic().is_some() {
                        return Cause::Panic;
                    }
                }
                why = self.agent.lost() => return Cause::AgentLost(why),
                () = &mut release_timeout, if waiting => return Cause::NotReleased,
            }
        }
    }

    /// Starts the main process, beside everything else.
    fn release(&self) {
        let (Some(main), Some(process)) = (self.main.cloned(), &self.config.main) else {
            return;
        };
        let process = process_spec(process);
        let log = Log::open(&self.config.box_dir, self.config.log_limits);
        let client = self.agent.client(SendVersion::default());
        tokio::spawn(async move {
            if let Err(status) = main.start(client, process, log).await {
                main.give_up(status.message());
            }
        });
    }
}

/// Never, for an idle box.
async fn over(main: Option<Arc<MainProcess>>) -> Phase {
    match main {
        Some(main) => main.over().await,
        None => std::future::pending().await,
    }
}
