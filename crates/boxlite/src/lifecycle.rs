//! Stopping, killing, waiting for and removing a box, from whatever process.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use boxlite_protocol::shim::{KillRequest, StopRequest, TerminateRequest, WaitRequest};
use boxlite_store::{
    BoxId, BoxLock, BoxRecord, Expected, LockError, RecordedState, RemoveBoxError, RunChange, TransitionError,
};

use crate::connection::Connection;
use crate::error::{AgentError, ConnectError, GetError, KillError, RemoveError, StateError, StopError, WaitError};
use crate::exit_status::ExitStatus;
use crate::handle::StopOptions;
use crate::record;
use crate::rpc;
use crate::shared::Shared;
use crate::signal::Signal;

/// How long a supervisor may take to end after it has said that its machine is gone, or was
/// killed.
const SUPERVISOR_END_TIMEOUT: Duration = Duration::from_secs(15);
/// How long a supervisor may take to end a machine that it is told to end at once.
const TERMINATE_TIMEOUT: Duration = Duration::from_secs(5);
/// How long the lock of a box that does not run may be held by somebody who looks after it.
const IDLE_LOCK_TIMEOUT: Duration = Duration::from_secs(1);
/// How often a lock that is about to be given back is looked at.
const LOCK_PAUSE: Duration = Duration::from_millis(2);
/// How often a start that another process makes is looked at.
const STARTING_PAUSE: Duration = Duration::from_millis(20);

/// The box as it really is.
pub(crate) async fn current(shared: &Arc<Shared>, id: &BoxId) -> Result<BoxRecord, GetError> {
    let id = id.clone();
    shared.reap();
    shared.blocking(move |shared| shared.current(&id)).await
}

/// Connects to the supervisor of a box that runs.
pub(crate) async fn connect(shared: &Arc<Shared>, record: &BoxRecord) -> Result<Connection, ConnectError> {
    if !matches!(
        record.state,
        RecordedState::Running | RecordedState::Paused | RecordedState::Stopping
    ) {
        return Err(ConnectError::NotRunning {
            name: record.name.clone(),
            state: record::state(record.state),
        });
    }
    let error = match Connection::open(shared.home.box_dir(&record.id)).await {
        Ok(connection) => return Ok(connection),
        Err(error) => error,
    };
    // It may have ended since the row was read, which says more than a dead socket.
    match current(shared, &record.id).await {
        Ok(now) if !now.state.is_live() => Err(ConnectError::NotRunning {
            name: now.name,
            state: record::state(now.state),
        }),
        _ => Err(ConnectError::Socket {
            name: record.name.clone(),
            source: error,
        }),
    }
}

/// Stops a box in order; says what it was found to be in the end.
pub(crate) async fn stop(shared: &Arc<Shared>, id: &BoxId, options: StopOptions) -> Result<BoxRecord, StopError> {
    let record = current(shared, id).await?;
    if !record.state.is_live() {
        return Ok(record);
    }
    if record.state == RecordedState::Starting {
        return stop_starting(shared, record).await;
    }
    let config = record::config(&record)?;
    let connection = match connect(shared, &record).await {
        Ok(connection) => connection,
        Err(ConnectError::NotRunning { .. }) => return Ok(current(shared, id).await?),
        Err(error) => return Err(AgentError::from(error).into()),
    };
    mark_stopping(shared, &record).await?;
    let grace_ms = options.timeout.map_or(config.options.stop_timeout_ms, |timeout| {
        u64::try_from(timeout.as_millis()).unwrap_or(u64::MAX)
    });
    let request = StopRequest {
        signal: options.signal.map_or(0, Signal::number),
        grace_ms,
    };
    let answer = connection.shim().stop(request).await;
    drop(connection);
    match (answer, settled(shared, id).await?) {
        (_, Some(ended)) => finish_stop(ended),
        (Err(status), None) => Err(rpc::call_error("stop", &status).into()),
        (Ok(_), None) => Err(AgentError::Protocol {
            operation: "stop",
            detail: "it says that the box is stopped, and goes on",
        }
        .into()),
    }
}

fn finish_stop(record: BoxRecord) -> Result<BoxRecord, StopError> {
    match &record.error {
        Some(error) if record.state == RecordedState::Failed => Err(StopError::Failed {
            name: record.name.clone(),
            failure: Box::new(record::diagnosis(error)),
        }),
        _ => Ok(record),
    }
}

/// A start that is under way has no socket yet: its supervisor understands SIGTERM.
async fn stop_starting(shared: &Arc<Shared>, record: BoxRecord) -> Result<BoxRecord, StopError> {
    signal_supervisor(&record, rustix::process::Signal::TERM);
    match settled(shared, &record.id).await? {
        Some(ended) => Ok(ended),
        None => Err(AgentError::Call {
            operation: "stop",
            code: crate::ErrorCode::Timeout,
            message: format!("box {} is still starting", record.name),
        }
        .into()),
    }
}

async fn mark_stopping(shared: &Arc<Shared>, record: &BoxRecord) -> Result<(), StateError> {
    let Some(run_id) = record.run_id.clone() else {
        return Ok(());
    };
    let id = record.id.clone();
    shared
        .blocking(move |shared| {
            let expected = Expected::live().of_run(run_id);
            match shared
                .home
                .transition(&id, expected, RecordedState::Stopping, RunChange::default())
            {
                Err(TransitionError::Database(error)) => Err(error.into()),
                // It is stopping or has ended already.
                _ => Ok(()),
            }
        })
        .await
}

/// Signals the main process, or ends an idle box.
pub(crate) async fn kill(shared: &Arc<Shared>, id: &BoxId, signal: Signal) -> Result<(), KillError> {
    let record = current(shared, id).await?;
    let connection = connect(shared, &record).await.map_err(AgentError::from)?;
    connection
        .shim()
        .kill(KillRequest {
            signal: signal.number(),
        })
        .await
        .map(drop)
        .map_err(|status| rpc::call_error("kill", &status).into())
}

/// Waits for the end of a box.
pub(crate) async fn wait(shared: &Arc<Shared>, id: &BoxId) -> Result<ExitStatus, WaitError> {
    let mut answered: Option<ExitStatus> = None;
    loop {
        let record = match current(shared, id).await {
            Ok(record) => record,
            // Removed at its end by somebody else.
            Err(GetError::NotFound { reference }) => {
                return answered.ok_or(GetError::NotFound { reference }.into());
            }
            Err(error) => return Err(error.into()),
        };
        match record.state {
            RecordedState::Created => return Err(WaitError::NeverStarted { name: record.name }),
            RecordedState::Stopped | RecordedState::Failed => {
                let result = outcome(&record, answered);
                shared.untie(record.id.as_str());
                let done = shared
                    .blocking(move |shared| {
                        shared.remove_if_due(&record);
                        Ok::<_, StateError>(())
                    })
                    .await;
                done?;
                return result;
            }
            RecordedState::Starting => tokio::select! {
                () = tokio::time::sleep(STARTING_PAUSE) => {}
                () = shared.closed.cancelled() => return Err(StateError::Closed.into()),
            },
            RecordedState::Running | RecordedState::Paused | RecordedState::Stopping => {
                if let Ok(connection) = connect(shared, &record).await {
                    let mut shim = connection.shim();
                    let answer = tokio::select! {
                        answer = shim.wait(WaitRequest {}) => answer,
                        () = shared.closed.cancelled() => return Err(StateError::Closed.into()),
                    };
                    // A broken call means that the supervisor has gone; the record says how.
                    if let Ok(answer) = answer {
                        answered = answer
                            .into_inner()
                            .exit
                            .as_ref()
                            .and_then(rpc::exit_status)
                            .or(answered);
                    }
                }
                if settled(shared, id).await?.is_none() && lives(shared, id).await? {
                    return Err(AgentError::Call {
                        operation: "wait",
                        code: crate::ErrorCode::Engine,
                        message: format!("the supervisor of box {} does not answer", record.name),
                    }
                    .into());
                }
            }
        }
    }
}

async fn lives(shared: &Arc<Shared>, id: &BoxId) -> Result<bool, StateError> {
    let id = id.clone();
    shared
        .blocking(move |shared| Ok(BoxLock::is_locked(&shared.home, &id)?))
        .await
}

fn outcome(record: &BoxRecord, answered: Option<ExitStatus>) -> Result<ExitStatus, WaitError> {
    let recorded = record.exit.as_ref().map(record::exit_status);
    if let Some(status) = recorded.or(answered) {
        return Ok(status);
    }
    if let Some(error) = &record.error {
        return Err(WaitError::Failed {
            name: record.name.clone(),
            failure: Box::new(record::diagnosis(error)),
        });
    }
    let config = record::config(record)?;
    Ok(if config.is_idle() {
        ExitStatus::from_code(0)
    } else {
        // The machine went before the main process could end by itself.
        ExitStatus::from_signal(Signal::KILL.number())
    })
}

/// Removes a box; with `force`, ends it first.
pub(crate) async fn remove(shared: &Arc<Shared>, id: &BoxId, force: bool) -> Result<(), RemoveError> {
    let record = current(shared, id).await?;
    if record.state.is_live() {
        if !force {
            return Err(RemoveError::Running {
                name: record.name.clone(),
                state: record::state(record.state),
            });
        }
        terminate(shared, &record).await;
    }
    let give_up = GiveUp::new();
    let given_up = give_up.flag();
    let gone = record.clone();
    shared
        .blocking(move |shared| {
            let not_found = || GetError::NotFound {
                reference: gone.name.clone(),
            };
            let timeout = if force {
                SUPERVISOR_END_TIMEOUT
            } else {
                IDLE_LOCK_TIMEOUT
            };
            let lock = match BoxLock::acquire(&shared.home, &gone.id, timeout, &|| given_up.load(Ordering::Relaxed)) {
                Ok(lock) => lock,
                Err(LockError::Gone { .. }) => return Err(not_found().into()),
                Err(LockError::TimedOut { .. }) => {
                    let now = shared.current(&gone.id)?;
                    return Err(if force {
                        RemoveError::Stuck {
                            name: now.name,
                            pid: now.shim_pid,
                        }
                    } else {
                        RemoveError::Running {
                            name: now.name,
                            state: record::state(now.state),
                        }
                    });
                }
                Err(error) => return Err(StateError::from(error).into()),
            };
            match shared.home.remove_box(lock) {
                Ok(()) => Ok(()),
                Err(RemoveBoxError::NotFound { .. }) => Err(not_found().into()),
                Err(RemoveBoxError::Database(error)) => Err(StateError::from(error).into()),
            }
        })
        .await?;
    shared.untie(record.id.as_str());
    shared.reap();
    Ok(())
}

/// Ends a machine at once: by its supervisor, or by the supervisor's own end, which takes
/// the machine along.
async fn terminate(shared: &Arc<Shared>, record: &BoxRecord) {
    let asked = async {
        let connection = connect(shared, record).await.ok()?;
        let mut shim = connection.shim();
        shim.terminate(TerminateRequest {}).await.ok()?;
        // Answered when the machine is gone.
        shim.wait(WaitRequest {}).await.ok()
    };
    if !matches!(tokio::time::timeout(TERMINATE_TIMEOUT, asked).await, Ok(Some(_)))
        && lives(shared, &record.id).await.unwrap_or(false)
    {
        signal_supervisor(record, rustix::process::Signal::KILL);
    }
}

/// Signals the supervisor of a box whose lock is held, which proves that the recorded
/// process is still the supervisor.
fn signal_supervisor(record: &BoxRecord, signal: rustix::process::Signal) {
    if let Some(pid) = record
        .shim_pid
        .and_then(|pid| i32::try_from(pid).ok())
        .and_then(rustix::process::Pid::from_raw)
        && let Err(error) = rustix::process::kill_process(pid, signal)
    {
        tracing::debug!(%error, id = %record.id, "the supervisor can't be signalled");
    }
}

/// Waits until a box's lock is free and its row says how it ended; `None` if that does not
/// come to pass.
async fn settled(shared: &Arc<Shared>, id: &BoxId) -> Result<Option<BoxRecord>, StateError> {
    let give_up = GiveUp::new();
    let given_up = give_up.flag();
    let id = id.clone();
    let record = shared
        .blocking(move |shared| {
            // Only looked at: taking it would make a start elsewhere fail.
            let begun = Instant::now();
            while BoxLock::is_locked(&shared.home, &id)? {
                if given_up.load(Ordering::Relaxed) || begun.elapsed() > SUPERVISOR_END_TIMEOUT {
                    return Ok(None);
                }
                std::thread::sleep(LOCK_PAUSE);
            }
            match shared.current(&id) {
                Ok(record) => Ok(Some(record)),
                Err(GetError::State(error)) => Err(error),
                Err(_) => Ok(None),
            }
        })
        .await;
    shared.reap();
    record
}

/// Waits until the boxes that ended with a client are over, and removes those that go then.
pub(crate) async fn wait_for_tied(shared: &Arc<Shared>, ids: BTreeSet<String>) {
    let give_up = GiveUp::new();
    let given_up = give_up.flag();
    let owner = Arc::clone(shared);
    // Not through the client's own door, which is closed by now.
    let waited = tokio::task::spawn_blocking(move || {
        for id in ids.iter().filter_map(|id| id.parse::<BoxId>().ok()) {
            while BoxLock::is_locked(&owner.home, &id).unwrap_or(false) {
                if given_up.load(Ordering::Relaxed) {
                    return;
                }
                std::thread::sleep(LOCK_PAUSE);
            }
            if let Ok(record) = owner.current(&id) {
                owner.remove_if_due(&record);
            }
        }
        owner.reap();
    });
    if let Err(error) = waited.await {
        tracing::warn!(%error, "waiting for the boxes of a client");
    }
}

/// Tells a blocking wait that nobody is interested any more once it is dropped.
struct GiveUp(Arc<AtomicBool>);

impl GiveUp {
    fn new() -> Self {
        Self(Arc::new(AtomicBool::new(false)))
    }

    fn flag(&self) -> Arc<AtomicBool> {
        Arc::clone(&self.0)
    }
}

impl Drop for GiveUp {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}
