//! Starting a box: its row, its lock, its supervisor, and what that says.

pub(crate) mod machine;
pub(crate) mod volumes;

pub(crate) use machine::DISK_NAME;

use std::path::{Path, PathBuf};
use std::process::Child;
use std::sync::Arc;
use std::time::{Duration, Instant};

use boxlite_shim::{Launch, LaunchConfig, Launched, Ready, StartEvent, StartFailureCode};
use boxlite_store::{
    BoxId, BoxLock, BoxRecord, Expected, FindBoxError, LockError, RecordedState, RunChange, TransitionError,
};
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::net::unix::pipe;
use tokio::sync::oneshot;

use crate::attach::AttachOptions;
use crate::bundle::Bundle;
use crate::connection::Connection;
use crate::error::{ConnectError, ErrorCode, GetError, Refusal, RefusalReason, StartError, StartFailure, StateError};
use crate::execution::{Execution, NotStarted};
use crate::handle::StartOptions;
use crate::record::{self, StartDetails};
use crate::shared::Shared;

/// A line of the status pipe longer than this is not one of ours.
const MAX_EVENT_BYTES: usize = 1 << 20;
/// Lines of a supervisor's log that are shown when it died without a word.
const LOG_TAIL_LINES: usize = 20;

/// How long a box that nobody runs may look locked: a process that some thread of some client is
/// just starting shares what locks its parent had, until it executes its program.
const LOCK_PATIENCE: Duration = Duration::from_secs(5);

/// Starts the machine and, unless there is none, the main process.
pub(crate) async fn start(shared: &Arc<Shared>, id: &BoxId, start: StartOptions) -> Result<(), StartError> {
    bring_up(shared, id, false, start, AttachOptions::default(), None)
        .await
        .map(Attempt::succeed)
}

/// Starts the machine, and the main process with its streams attached.
pub(crate) async fn start_attached(
    shared: &Arc<Shared>,
    id: &BoxId,
    start: StartOptions,
    options: AttachOptions,
) -> Result<Execution, StartError> {
    let (listening, heard) = oneshot::channel();
    // Beside the start: when the machine is up, its main process waits for nobody.
    let attaching = async {
        // An error means that it said nothing on its way up; connecting tells the rest.
        let _ = heard.await;
        let connection = Connection::open(shared.home.box_dir(id)).await;
        let connection = connection.map_err(AttachEarly::Connect)?;
        let execution = Execution::attach(connection, options, true).await;
        execution.map_err(AttachEarly::NotStarted)
    };
    let bringing_up = bring_up(shared, id, true, start, options, Some(listening));
    tokio::pin!(attaching, bringing_up);
    let mut attached = None;
    let attempt = loop {
        tokio::select! {
            biased;
            attempt = &mut bringing_up => break attempt?,
            result = &mut attaching, if attached.is_none() => attached = Some(result),
        }
    };
    let attached = match attached {
        Some(attached) => attached,
        None => attaching.await,
    };
    let name = &attempt.name;
    match attached {
        Ok(execution) => {
            attempt.succeed();
            Ok(execution)
        }
        Err(AttachEarly::NotStarted(NotStarted::Refused(refusal))) => {
            let name = name.clone();
            // Its supervisor ends such a box by itself, and records why.
            attempt.ended(shared).await?;
            Err(StartError::Refused { name, refusal })
        }
        Err(AttachEarly::NotStarted(NotStarted::Failed(error))) => Err(error.into()),
        Err(AttachEarly::Connect(source)) => {
            let name = name.clone();
            Err(StartError::Agent(ConnectError::Socket { name, source }.into()))
        }
    }
}

/// Why nobody is attached to a main process that is to start.
enum AttachEarly {
    Connect(std::io::Error),
    NotStarted(NotStarted),
}

/// A supervisor that is told to end when this is dropped before the start has succeeded.
#[derive(Debug)]
struct Attempt {
    shared: Arc<Shared>,
    id: BoxId,
    name: String,
    run_id: String,
    /// `None` once the supervisor is on its own.
    child: Option<Child>,
}

impl Attempt {
    /// Leaves the box running.
    fn succeed(mut self) {
        if let Some(child) = self.child.take() {
            self.shared.adopt(child);
        }
    }

    /// Waits until the supervisor is gone and its box's row says how it ended.
    async fn ended(mut self, shared: &Arc<Shared>) -> Result<Option<BoxRecord>, StateError> {
        let mut child = self.child.take();
        self.shared.untie(self.id.as_str());
        let id = self.id.clone();
        shared
            .blocking(move |shared| {
                if let Some(child) = &mut child {
                    // It can only fail for a child that somebody else has waited for.
                    let _ = child.wait();
                }
                match shared.current(&id) {
                    Ok(record) => {
                        shared.remove_if_due(&record);
                        Ok(Some(record))
                    }
                    Err(GetError::State(error)) => Err(error),
                    Err(_) => Ok(None),
                }
            })
            .await
    }
}

impl Drop for Attempt {
    fn drop(&mut self) {
        let Some(child) = self.child.take() else {
            return;
        };
        self.shared.untie(self.id.as_str());
        // A child that was not waited for keeps its number, so this can't hit another.
        if let Some(pid) = i32::try_from(child.id()).ok().and_then(rustix::process::Pid::from_raw) {
            let _ = rustix::process::kill_process(pid, rustix::process::Signal::TERM);
        }
        self.shared.adopt(child);
    }
}

async fn bring_up(
    shared: &Arc<Shared>,
    id: &BoxId,
    wait_for_attach: bool,
    start: StartOptions,
    options: AttachOptions,
    listening: Option<oneshot::Sender<()>>,
) -> Result<Attempt, StartError> {
    let begun = Instant::now();
    shared.check_open()?;
    shared.reap();
    let bundle = shared.bundle().await?;
    let request = Request {
        bundle,
        wait_for_attach,
        start,
        options,
    };
    let (attempt, status) = {
        let id = id.clone();
        let owner = Arc::clone(shared);
        shared.blocking(move |_| spawn(&owner, &id, &request)).await?
    };
    let launch_us = u64::try_from(begun.elapsed().as_micros()).unwrap_or(u64::MAX);
    let mut stage = "launch".to_owned();
    match read_events(status, &mut stage, listening).await {
        Some(Outcome::Ready(ready)) => {
            let attempt = record_ready(shared, attempt, *ready, launch_us).await?;
            Ok(attempt)
        }
        Some(Outcome::Failed(failure)) => {
            let name = attempt.name.clone();
            attempt.ended(shared).await?;
            Err(start_error(name, *failure))
        }
        None => {
            let (name, dir) = (attempt.name.clone(), shared.home.box_dir(&attempt.id));
            let log = log_tail(&dir.join(boxlite_shim::SHIM_LOG_NAME));
            attempt.ended(shared).await?;
            Err(StartError::SupervisorLost { name, stage, log })
        }
    }
}

struct Request {
    bundle: Bundle,
    wait_for_attach: bool,
    start: StartOptions,
    options: AttachOptions,
}

/// Takes the lock, moves the row to `starting` and spawns the supervisor. Blocking.
fn spawn(shared: &Arc<Shared>, id: &BoxId, request: &Request) -> Result<(Attempt, pipe::Receiver), StartError> {
    let record = shared.current(id)?;
    let invalid_state = |record: &BoxRecord| StartError::InvalidState {
        name: record.name.clone(),
        state: record::state(record.state),
    };
    if record.state.is_live() {
        return Err(invalid_state(&record));
    }
    let begun_by_another = || shared.current(id).is_ok_and(|record| record.state.is_live());
    let lock = match BoxLock::acquire(&shared.home, id, LOCK_PATIENCE, &begun_by_another) {
        Ok(lock) => lock,
        // Another process is starting or removing it just now.
        Err(LockError::Cancelled { .. } | LockError::TimedOut { .. }) => {
            let record = shared.current(id)?;
            return Err(StartError::InvalidState {
                state: match record.state {
                    state if state.is_live() => record::state(state),
                    _ => crate::BoxState::Starting,
                },
                name: record.name,
            });
        }
        Err(LockError::Gone { .. }) => {
            return Err(GetError::NotFound { reference: record.name }.into());
        }
        Err(error) => return Err(StateError::from(error).into()),
    };
    let config = record::config(&record)?;
    if request.wait_for_attach && config.is_idle() {
        return Err(StartError::NoMainProcess { name: record.name });
    }
    volumes::check(&config.options.mounts)?;
    let rootfs = rootfs(shared, &record)?;
    let run_id = run_id().map_err(|source| StateError::File {
        action: "reading",
        path: PathBuf::from("the system's random numbers"),
        source,
    })?;
    let launch_config = machine::launch_config(&machine::Inputs {
        shared,
        record: &record,
        config: &config,
        bundle: &request.bundle,
        rootfs,
        run_id: &run_id,
        wait_for_attach: request.wait_for_attach,
        size: request.options.size,
        stdin: request.options.stdin,
        start: request.start,
    })?;
    let detached = request.start.detached.unwrap_or(config.options.detached);
    begin_run(shared, id, &run_id, detached)?;
    match spawn_supervisor(shared, &record, detached, launch_config, lock, request) {
        Ok((child, status)) => {
            let attempt = Attempt {
                shared: Arc::clone(shared),
                id: id.clone(),
                name: record.name,
                run_id,
                child: Some(child),
            };
            let change = RunChange {
                shim_pid: attempt.child.as_ref().map(Child::id),
                ..RunChange::default()
            };
            // Only to help a stop of a start that hangs; the start goes on without it.
            if let Err(error) = shared.home.amend_run(id, &attempt.run_id, change) {
                tracing::warn!(%error, "the supervisor's process id is not recorded");
            }
            Ok((attempt, status))
        }
        Err(error) => {
            shared.untie(id.as_str());
            fail_run(shared, id, &run_id, &error);
            Err(error)
        }
    }
}

fn rootfs(shared: &Shared, record: &BoxRecord) -> Result<PathBuf, StartError> {
    let missing = || StartError::RootfsMissing {
        name: record.name.clone(),
        image: record.image_reference.clone().unwrap_or_default(),
    };
    let digest = record.image_digest.as_ref().ok_or_else(missing)?;
    let path = shared.home.rootfs_path(digest);
    if path.is_file() { Ok(path) } else { Err(missing()) }
}

fn begin_run(shared: &Shared, id: &BoxId, run_id: &str, detached: bool) -> Result<(), StartError> {
    let change = RunChange {
        run_id: Some(run_id.to_owned()),
        detached: Some(detached),
        ..RunChange::default()
    };
    let begun = shared
        .home
        .transition(id, Expected::startable(), RecordedState::Starting, change);
    match begun {
        Ok(_) => Ok(()),
        Err(TransitionError::Database(error)) => Err(StateError::from(error).into()),
        Err(TransitionError::NotFound { id }) => Err(GetError::NotFound {
            reference: id.to_string(),
        }
        .into()),
        // The lock is held, so nobody else starts it: it is what it was found to be.
        Err(_) => {
            let record = shared.current(id)?;
            Err(StartError::InvalidState {
                name: record.name,
                state: record::state(record.state),
            })
        }
    }
}

fn fail_run(shared: &Shared, id: &BoxId, run_id: &str, error: &StartError) {
    use crate::error::Diagnose;

    let diagnosis = error.diagnosis();
    let change = RunChange {
        error: Some(boxlite_store::RecordedError {
            code: diagnosis.code.as_str().to_owned(),
            message: diagnosis.message,
            hint: diagnosis.hint,
            evidence: diagnosis.evidence,
        }),
        ..RunChange::default()
    };
    let expected = Expected::state(RecordedState::Starting).of_run(run_id);
    if let Err(error) = shared.home.transition(id, expected, RecordedState::Failed, change) {
        tracing::warn!(%error, "the failed start is not recorded; the next look at the box mends that");
    }
}

fn spawn_supervisor(
    shared: &Shared,
    record: &BoxRecord,
    detached: bool,
    launch_config: LaunchConfig,
    lock: BoxLock,
    request: &Request,
) -> Result<(Child, pipe::Receiver), StartError> {
    let parent = if detached { None } else { Some(shared.tie(&record.id)?) };
    let shim = request.bundle.shim();
    let launch = Launch {
        shim: &shim,
        config: &launch_config,
        lock: lock.into_fd(),
        parent,
    };
    let Launched { child, status } = launch.spawn().map_err(|source| StartError::Supervisor {
        name: record.name.clone(),
        source,
    })?;
    match pipe::Receiver::from_owned_fd(status) {
        Ok(status) => Ok((child, status)),
        Err(source) => {
            // Nobody listens to it, and it can't be told why.
            let mut child = child;
            let _ = child.kill();
            let _ = child.wait();
            Err(StartError::File {
                action: "reading",
                path: PathBuf::from("the supervisor's status"),
                source,
            })
        }
    }
}

enum Outcome {
    Ready(Box<Ready>),
    Failed(Box<boxlite_shim::StartFailure>),
}

/// Reads the supervisor's words to the one that counts; `None` if it ends without. `listening` is
/// told when it takes connections.
async fn read_events(
    status: pipe::Receiver,
    last_stage: &mut String,
    mut listening: Option<oneshot::Sender<()>>,
) -> Option<Outcome> {
    let mut lines = BufReader::new(status);
    let mut line = Vec::new();
    loop {
        line.clear();
        let count = tokio::io::AsyncReadExt::take(&mut lines, MAX_EVENT_BYTES as u64)
            .read_until(b'\n', &mut line)
            .await;
        match count {
            Ok(0) => return None,
            Err(error) => {
                tracing::warn!(%error, "reading the supervisor's status");
                return None;
            }
            Ok(_) => {}
        }
        match serde_json::from_slice(&line) {
            Ok(StartEvent::Stage { stage, elapsed_us }) => {
                tracing::debug!(%stage, elapsed_us, "the start goes on");
                *last_stage = stage.to_string();
                if let Some(listening) = listening.take() {
                    // Nobody may want to know any more.
                    let _ = listening.send(());
                }
            }
            Ok(StartEvent::Ready(ready)) => return Some(Outcome::Ready(ready)),
            Ok(StartEvent::Failed(failure)) => return Some(Outcome::Failed(failure)),
            Err(error) => {
                tracing::warn!(%error, "the supervisor said something that is no event");
                return None;
            }
        }
    }
}

async fn record_ready(
    shared: &Arc<Shared>,
    attempt: Attempt,
    ready: Ready,
    launch_us: u64,
) -> Result<Attempt, StartError> {
    let (id, run_id) = (attempt.id.clone(), attempt.run_id.clone());
    let name = attempt.name.clone();
    // The attempt stays on this side: dropped in between, it ends what was begun.
    shared
        .blocking(move |shared| {
            let ports: Vec<_> = ready.ports.iter().map(record::published_port).collect();
            let details = StartDetails::of(&ready, launch_us);
            let json = |what, value: Result<serde_json::Value, serde_json::Error>| {
                value.map_err(|source| StateError::Row {
                    what,
                    id: id.to_string(),
                    source,
                })
            };
            let change = RunChange {
                shim_pid: Some(ready.shim_pid),
                engine: Some(ready.engine),
                accelerator: Some(ready.accelerator.to_string()),
                start: Some(json("start", serde_json::to_value(&details))?),
                ports: Some(json("ports", serde_json::to_value(&ports))?),
                ..RunChange::default()
            };
            let expected = Expected::state(RecordedState::Starting).of_run(&run_id);
            match shared
                .home
                .transition(&id, expected, RecordedState::Running, change.clone())
            {
                Ok(_) => Ok(()),
                Err(TransitionError::Database(error)) => Err(StartError::State(StateError::from(error))),
                Err(TransitionError::NotFound { .. }) => Err(GetError::NotFound { reference: name }.into()),
                // A short main process has ended already, or somebody stops the box: what
                // is to be known about the start still is.
                Err(error) => {
                    tracing::debug!(%error, "the box is not running any more");
                    let _ = shared.home.amend_run(&id, &run_id, change);
                    Ok(())
                }
            }
        })
        .await?;
    Ok(attempt)
}

fn start_error(name: String, failure: boxlite_shim::StartFailure) -> StartError {
    let reason = match failure.code {
        StartFailureCode::CommandNotFound => Some(RefusalReason::NotFound),
        StartFailureCode::CommandNotExecutable => Some(RefusalReason::NotExecutable),
        StartFailureCode::CommandRefused => Some(RefusalReason::Other),
        _ => None,
    };
    if let Some(reason) = reason {
        return StartError::Refused {
            name,
            refusal: Refusal {
                reason,
                message: failure.message,
                errno: 0,
            },
        };
    }
    let code = record::failure_code(failure.code);
    StartError::Machine(Box::new(StartFailure {
        name,
        stage: failure.stage.to_string(),
        code: if code == ErrorCode::Internal {
            ErrorCode::Engine
        } else {
            code
        },
        message: failure.message,
        evidence: failure.evidence,
        cause: failure.cause,
        hint: failure.hint,
    }))
}

fn run_id() -> Result<String, std::io::Error> {
    let mut bytes = [0; 16];
    getrandom::fill(&mut bytes).map_err(std::io::Error::other)?;
    Ok(format!("{:032x}", u128::from_be_bytes(bytes)))
}

/// The last lines of a log, as far as they can be read.
pub(crate) fn log_tail(path: &Path) -> Vec<String> {
    use std::io::{Read, Seek, SeekFrom};

    const TAIL_BYTES: u64 = 64 * 1024;
    let read = || -> std::io::Result<String> {
        let mut file = std::fs::File::open(path)?;
        let length = file.metadata()?.len();
        file.seek(SeekFrom::Start(length.saturating_sub(TAIL_BYTES)))?;
        let mut bytes = Vec::new();
        file.take(TAIL_BYTES).read_to_end(&mut bytes)?;
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    };
    match read() {
        Ok(text) => {
            let lines: Vec<&str> = text.lines().collect();
            let from = lines.len().saturating_sub(LOG_TAIL_LINES);
            lines[from..].iter().map(|line| (*line).to_owned()).collect()
        }
        Err(error) => vec![format!("{}: {error}", path.display())],
    }
}

impl From<FindBoxError> for StartError {
    fn from(error: FindBoxError) -> Self {
        GetError::from(error).into()
    }
}
