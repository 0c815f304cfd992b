//! Ending a box: in order if possible, at once if not, never not at all.

use std::process::ExitStatus;
use std::time::Duration;

use boxlite_machine::qemu::{EngineExit, GuestStop, Machine};
use boxlite_protocol::guest::ShutdownRequest;
use boxlite_protocol::shim::status_response::Stage;
use boxlite_protocol::version::SendVersion;
use boxlite_shim::{ExitReason, Stage as StartStage};
use tokio::time::{Instant, sleep_until, timeout};

use super::End;
use super::failure;
use super::main_process::Phase;
use super::requests::Request;
use super::run::{Cause, Running};

/// How long the agent may take beyond the grace that it was given: it unmounts and syncs.
const SHUTDOWN_MARGIN: Duration = Duration::from_secs(10);
/// How long a guest may take to power off.
const POWER_OFF: Duration = Duration::from_secs(10);
/// How long an engine may take to end when it is told to.
const QUIT: Duration = Duration::from_secs(3);
/// How long a guest that has panicked or lost its agent may take to end by itself.
const LAST_BREATH: Duration = Duration::from_secs(3);
/// How long the last output of the main process may take to be delivered.
const LAST_OUTPUT: Duration = Duration::from_secs(5);
/// Grace of a box whose parent is gone.
const ORPHAN_GRACE: Duration = Duration::from_secs(2);
const SIGKILL: i32 = 9;

/// How the machine went.
#[derive(Debug, Clone, Copy)]
struct Gone {
    engine: Option<ExitStatus>,
    /// Processes or the engine were killed.
    killed: bool,
}

/// Kills the engine and waits until it is gone.
pub(crate) async fn kill(mut machine: Machine) -> Option<ExitStatus> {
    kill_and_wait(&mut machine).await
}

async fn kill_and_wait(machine: &mut Machine) -> Option<ExitStatus> {
    if let Err(error) = machine.kill() {
        tracing::debug!(%error, "killing the engine");
    }
    match machine.wait().await {
        Ok(exit) => Some(exit.status),
        Err(error) => {
            tracing::error!(%error, "waiting for the engine");
            None
        }
    }
}

impl Running<'_> {
    /// Brings the machine down for `cause`.
    pub(crate) async fn end(mut self, cause: Cause) -> End {
        if self.is_paused && !matches!(cause, Cause::Terminate | Cause::Engine(_)) {
            // Only a guest that runs can end in order; one that doesn't go on is killed.
            if let Err(status) = self.unpause().await {
                tracing::warn!(%status, "a paused box ends");
            }
        }
        self.publish.stage(Stage::Stopping);
        let hurried = !matches!(cause, Cause::MainExited | Cause::MainRefused(_));
        if let (Some(main), true) = (self.main, hurried) {
            main.hurry();
        }
        let end = match cause {
            Cause::MainExited => self
                .shut_down(0, Duration::ZERO)
                .await
                .because(|_| ExitReason::MainExited),
            Cause::MainRefused(refused) => {
                let failure = Box::new(failure::main_refused(&refused));
                let gone = self.shut_down(0, Duration::ZERO).await;
                gone.because(|_| ExitReason::StartFailed(failure))
            }
            Cause::NotReleased => {
                let failure = failure::interrupted(StartStage::Main, "nobody attached to the main process");
                let gone = self.shut_down(SIGKILL, Duration::ZERO).await;
                gone.because(|_| ExitReason::StartFailed(Box::new(failure)))
            }
            Cause::Stop { signal, grace } => self.shut_down(signal, grace).await.because(|killed| match killed {
                true => ExitReason::Killed,
                false => ExitReason::Stopped,
            }),
            Cause::KillIdle => {
                let gone = self.shut_down(SIGKILL, Duration::ZERO).await;
                Gone { killed: true, ..gone }.because(|_| ExitReason::Killed)
            }
            Cause::Terminate => self.terminate().await.because(|_| ExitReason::Killed),
            Cause::ParentGone => {
                let grace = Duration::from_millis(self.config.stop_grace_ms).min(ORPHAN_GRACE);
                let gone = self.shut_down(self.config.stop_signal, grace).await;
                gone.because(|_| ExitReason::ParentGone)
            }
            Cause::Engine(exit) => self.engine_gone(exit).await,
            Cause::Panic => {
                let engine = self
                    .last_breath()
                    .await
                    .map_or_else(|engine| engine, |exit| Some(exit.status));
                self.console.ended().await;
                let console = self.console.last_lines();
                Gone { engine, killed: false }.because(|_| ExitReason::GuestPanicked { console })
            }
            Cause::AgentLost(error) => match self.last_breath().await {
                Ok(exit) => self.engine_gone(Ok(exit)).await,
                Err(engine) => {
                    let console = self.console.last_lines();
                    Gone { engine, killed: true }.because(|_| ExitReason::AgentLost { error, console })
                }
            },
        };
        self.drain_main().await;
        end
    }

    /// Asks the agent to end the box, then the guest to power off, then the engine to quit,
    /// then kills it, each for as long as is reasonable.
    async fn shut_down(&mut self, signal: i32, grace: Duration) -> Gone {
        let mut client = self.agent.client(SendVersion::default());
        let request = ShutdownRequest {
            signal,
            grace_ms: u64::try_from(grace.as_millis()).unwrap_or(u64::MAX),
            // What a volume's files were mapped for is written when it is unmounted.
            discard_disk: self.config.remove_disk_on_exit && self.config.configure.volumes.is_empty(),
        };
        let shutdown = client.shutdown(request);
        tokio::pin!(shutdown);
        let now = Instant::now();
        let mut deadline = later(now, grace.saturating_add(SHUTDOWN_MARGIN));
        let mut asked = false;
        let mut killed = false;
        loop {
            tokio::select! {
                exit = self.machine.wait() => return Gone { engine: exit.ok().map(|exit| exit.status), killed },
                answer = &mut shutdown, if !asked => {
                    asked = true;
                    match answer {
                        Ok(answer) => killed = answer.into_inner().killed,
                        Err(status) => tracing::warn!(status = status.message(), "the agent did not end the box"),
                    }
                    deadline = deadline.min(later(Instant::now(), POWER_OFF));
                }
                request = self.requests.next() => match request {
                    Request::Terminate => return self.terminate().await,
                    Request::Stop { grace: Some(grace), .. } => {
                        deadline = deadline.min(later(Instant::now(), grace.saturating_add(SHUTDOWN_MARGIN)));
                    }
                    // It ends already.
                    _ => {}
                },
                () = sleep_until(deadline) => break,
            }
        }
        tracing::warn!("the guest did not power off");
        // So that the disk's cache is written.
        let quit = timeout(QUIT, async {
            self.machine.quit().await.ok()?;
            self.machine.wait().await.ok()
        });
        match quit.await {
            Ok(Some(exit)) => Gone {
                engine: Some(exit.status),
                killed: true,
            },
            _ => self.terminate().await,
        }
    }

    async fn terminate(&mut self) -> Gone {
        Gone {
            engine: kill_and_wait(&mut self.machine).await,
            killed: true,
        }
    }

    /// Waits a little for the engine to end by itself; then kills it (`Err`).
    async fn last_breath(&mut self) -> Result<EngineExit, Option<ExitStatus>> {
        match timeout(LAST_BREATH, self.machine.wait()).await {
            Ok(Ok(exit)) => Ok(exit),
            _ => Err(kill_and_wait(&mut self.machine).await),
        }
    }

    /// The engine has ended without being asked.
    async fn engine_gone(&mut self, exit: std::io::Result<EngineExit>) -> End {
        self.console.ended().await;
        // The main process may have ended just before the machine did.
        self.drain_main().await;
        let exit = match exit {
            Ok(exit) => Some(exit),
            Err(error) => {
                tracing::error!(%error, "waiting for the engine");
                None
            }
        };
        let console = self.console.last_lines();
        let stop = exit.and_then(|exit| exit.reason);
        let main_exited = self.main.is_some_and(|main| matches!(main.phase(), Phase::Exited(_)));
        let reason = if stop == Some(GuestStop::Panicked) || self.console.panic().is_some() {
            ExitReason::GuestPanicked { console }
        } else if main_exited {
            ExitReason::MainExited
        } else if stop.is_some() {
            ExitReason::GuestPoweredOff
        } else {
            ExitReason::EngineDied {
                stderr: self.machine.stderr_tail(),
                console,
            }
        };
        End {
            reason,
            killed: false,
            engine: exit.map(|exit| exit.status),
        }
    }

    /// Lets what the main process wrote last reach the log and the clients.
    async fn drain_main(&self) {
        let Some(main) = self.main else { return };
        if matches!(main.phase(), Phase::Running(_)) && timeout(LAST_OUTPUT, main.over()).await.is_err() {
            tracing::warn!("the main process's last output was not delivered in time");
        }
    }
}

impl Gone {
    fn because(self, reason: impl FnOnce(bool) -> ExitReason) -> End {
        End {
            reason: reason(self.killed),
            killed: self.killed,
            engine: self.engine,
        }
    }
}

/// A point in time that may be further away than clocks go.
fn later(now: Instant, wait: Duration) -> Instant {
    now.checked_add(wait)
        .unwrap_or_else(|| now + Duration::from_secs(365 * 24 * 3600))
}
