//! What the agent knows: how far the machine is, and what runs in it.

use std::{
    collections::HashMap,
    io,
    os::fd::OwnedFd,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use tokio::sync::watch;
use tonic::Status;

use crate::{
    boot::Boot, execution::Control, first_process::FirstProcess, founder::Founder, prepared::Prepared, spaces::Spaces,
};

/// How far the machine is.
#[derive(Debug, Default)]
enum Phase {
    /// No Configure yet, or one that failed.
    #[default]
    Blank,
    /// Configure is running.
    Configuring,
    /// There is a box.
    Box(Arc<BoxState>),
    /// Shutdown was called.
    Ending,
}

/// A box that was configured.
#[derive(Debug)]
pub(crate) struct BoxState {
    pub(crate) spaces: Spaces,
    pub(crate) hostname: String,
    /// The device with the box's disk, and the one with its root file system.
    pub(crate) disks: [String; 2],
    /// Until it has become process 1.
    founder: Mutex<Option<Founder>>,
    first: Mutex<Option<Arc<FirstProcess>>>,
}

impl BoxState {
    pub(crate) fn new(spaces: Spaces, hostname: String, disks: [String; 2]) -> Self {
        BoxState {
            spaces,
            hostname,
            disks,
            founder: Mutex::default(),
            first: Mutex::default(),
        }
    }

    /// Keeps what will become the main process.
    pub(crate) fn keep_founder(&self, founder: Founder) {
        *lock(&self.founder) = Some(founder);
    }

    /// What is to become the main process, once.
    pub(crate) fn take_founder(&self) -> Option<Founder> {
        lock(&self.founder).take()
    }

    /// Process 1 of the box, when it was started; it may have ended.
    pub(crate) fn first(&self) -> Option<Arc<FirstProcess>> {
        lock(&self.first).clone()
    }

    /// Process 1 of the box, if it runs.
    pub(crate) fn live_first(&self) -> Option<Arc<FirstProcess>> {
        self.first().filter(|first| first.child.is_alive())
    }

    pub(crate) fn set_first(&self, first: FirstProcess) {
        *lock(&self.first) = Some(Arc::new(first));
    }
}

/// The agent's state, shared by all calls.
#[derive(Debug)]
pub(crate) struct Agent {
    pub(crate) boot: Boot,
    /// The agent's own PID namespace, to come back to after a fork into the box's.
    pub(crate) own_pid_namespace: io::Result<OwnedFd>,
    serving_after: Mutex<Option<Duration>>,
    /// Until it is some box's.
    prepared: Mutex<Option<Prepared>>,
    phase: Mutex<Phase>,
    executions: watch::Sender<usize>,
    execution_numbers: AtomicU64,
    /// The executions whose process runs, by number.
    listed: Mutex<HashMap<u64, Control>>,
    end: watch::Sender<bool>,
}

impl Agent {
    pub(crate) fn new(boot: Boot) -> Self {
        Agent {
            boot,
            own_pid_namespace: std::fs::File::open("/proc/self/ns/pid").map(Into::into),
            serving_after: Mutex::default(),
            prepared: Mutex::default(),
            phase: Mutex::default(),
            executions: watch::Sender::new(0),
            execution_numbers: AtomicU64::new(1),
            listed: Mutex::default(),
            end: watch::Sender::new(false),
        }
    }

    /// Keeps what the box will be made of.
    pub(crate) fn keep_prepared(&self, prepared: Prepared) {
        *lock(&self.prepared) = Some(prepared);
    }

    /// What was prepared, once.
    pub(crate) fn take_prepared(&self) -> Option<Prepared> {
        lock(&self.prepared).take()
    }

    /// Notes the first time that the stream was open.
    pub(crate) fn mark_serving(&self) {
        lock(&self.serving_after).get_or_insert_with(|| self.boot.elapsed());
    }

    /// Time from the agent's start until the stream was open for the first time.
    pub(crate) fn serving_after(&self) -> Duration {
        lock(&self.serving_after).unwrap_or_default()
    }

    /// Claims the one Configure of this start; gives it back when dropped without a box.
    pub(crate) fn begin_configure(&self) -> Result<ConfigureClaim<'_>, Status> {
        let mut phase = lock(&self.phase);
        match *phase {
            Phase::Blank => {
                *phase = Phase::Configuring;
                Ok(ConfigureClaim(self))
            }
            Phase::Configuring | Phase::Box(_) => Err(Status::failed_precondition(
                "this machine was configured: a machine is one box's, from start to end",
            )),
            Phase::Ending => Err(ending()),
        }
    }

    /// The box.
    pub(crate) fn configured(&self) -> Result<Arc<BoxState>, Status> {
        match &*lock(&self.phase) {
            Phase::Box(state) => Ok(Arc::clone(state)),
            Phase::Blank | Phase::Configuring => Err(Status::failed_precondition(
                "this machine was not configured yet: it has no box",
            )),
            Phase::Ending => Err(ending()),
        }
    }

    /// Claims the one Shutdown; the box if there was one.
    pub(crate) fn begin_shutdown(&self) -> Result<Option<Arc<BoxState>>, Status> {
        let mut phase = lock(&self.phase);
        match std::mem::replace(&mut *phase, Phase::Ending) {
            Phase::Box(state) => Ok(Some(state)),
            Phase::Blank | Phase::Configuring => Ok(None),
            Phase::Ending => Err(ending()),
        }
    }

    /// A number that no other execution of this start has.
    pub(crate) fn next_execution_number(&self) -> u64 {
        self.execution_numbers.fetch_add(1, Ordering::Relaxed)
    }

    /// Lets calls name an execution until the guard is dropped.
    pub(crate) fn list_execution(self: &Arc<Self>, control: Control) -> ListedExecution {
        let number = self.next_execution_number();
        lock(&self.listed).insert(number, control);
        ListedExecution {
            agent: Arc::clone(self),
            number,
        }
    }

    /// The execution with this number, if its process runs.
    pub(crate) fn execution(&self, number: u64) -> Result<Control, Status> {
        lock(&self.listed)
            .get(&number)
            .filter(|control| control.is_alive())
            .cloned()
            .ok_or_else(|| Status::not_found("the process has ended"))
    }

    /// Counts an execution until the guard is dropped.
    pub(crate) fn count_execution(self: &Arc<Self>) -> ExecutionCount {
        self.executions.send_modify(|count| *count += 1);
        ExecutionCount(Arc::clone(self))
    }

    /// Waits until no execution has anything left to deliver.
    pub(crate) async fn executions_over(&self) {
        let mut executions = self.executions.subscribe();
        // The sender is in self.
        let _ = executions.wait_for(|count| *count == 0).await;
    }

    /// Makes [`Agent::ended`] ready.
    pub(crate) fn end(&self) {
        self.end.send_replace(true);
    }

    pub(crate) fn is_ending(&self) -> bool {
        *self.end.borrow()
    }

    /// Ready when the machine is to be powered off.
    pub(crate) fn ended(&self) -> impl Future<Output = ()> + Send + 'static {
        let mut end = self.end.subscribe();
        async move {
            let _ = end.wait_for(|end| *end).await;
        }
    }
}

/// See [`Agent::begin_configure`].
pub(crate) struct ConfigureClaim<'a>(&'a Agent);

impl ConfigureClaim<'_> {
    pub(crate) fn finish(self, state: BoxState) {
        let mut phase = lock(&self.0.phase);
        if matches!(*phase, Phase::Configuring) {
            *phase = Phase::Box(Arc::new(state));
        }
    }
}

impl Drop for ConfigureClaim<'_> {
    fn drop(&mut self) {
        let mut phase = lock(&self.0.phase);
        if matches!(*phase, Phase::Configuring) {
            *phase = Phase::Blank;
        }
    }
}

/// See [`Agent::list_execution`].
#[derive(Debug)]
pub(crate) struct ListedExecution {
    agent: Arc<Agent>,
    number: u64,
}

impl ListedExecution {
    pub(crate) fn number(&self) -> u64 {
        self.number
    }
}

impl Drop for ListedExecution {
    fn drop(&mut self) {
        lock(&self.agent.listed).remove(&self.number);
    }
}

/// See [`Agent::count_execution`].
#[derive(Debug)]
pub(crate) struct ExecutionCount(Arc<Agent>);

impl Drop for ExecutionCount {
    fn drop(&mut self) {
        self.0.executions.send_modify(|count| *count -= 1);
    }
}

fn ending() -> Status {
    Status::failed_precondition("this machine is shutting down")
}

/// A lock is only poisoned by a panic, which ends process 1 and with it the machine.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
