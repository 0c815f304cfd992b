//! One box: [`BoxHandle`].

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use boxlite_protocol::guest::{MetricsRequest, ProcessesRequest};
use boxlite_protocol::shim::EngineMetricsRequest;
use boxlite_store::{BoxId, BoxRecord, RecordedState};
use serde::{Deserialize, Serialize};
use tokio::io::AsyncRead;

use crate::attach::AttachOptions;
use crate::client::RemoveOptions;
use crate::connection::Connection;
use crate::copy::{self, CopyOptions, CopyReport, TarStream};
use crate::error::{
    AgentError, AttachError, ConnectError, CopyError, ExecError, GetError, KillError, LogsError, PauseError,
    QueryError, RemoveError, RestartError, StartError, StateError, StopError, WaitError,
};
use crate::execution::{ExecOptions, Execution, NotStarted};
use crate::exit_status::ExitStatus;
use crate::info::{BoxInfo, HostMetrics, Metrics, ProcessInfo};
use crate::logs::{self, LogOptions, LogStream};
use crate::shared::Shared;
use crate::signal::Signal;
use crate::{launch, lifecycle, pause, record, rpc};

/// A box of a home; from [`crate::Client::create`] or [`crate::Client::get`].
///
/// Cheap to clone. Dropping it does nothing to the box.
#[derive(Debug, Clone)]
pub struct BoxHandle {
    shared: Arc<Shared>,
    id: BoxId,
    name: String,
}

/// How [`BoxHandle::start_with`] starts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
#[non_exhaustive]
pub struct StartOptions {
    /// How long the start may take without showing progress. Absent: the box's
    /// ([`BoxOptions::start_timeout_ms`](crate::BoxOptions)).
    pub timeout: Option<Duration>,
    /// Whether the box outlives this client, this time. Absent: as it was created
    /// ([`BoxOptions::detached`](crate::BoxOptions)).
    pub detached: Option<bool>,
}

/// How [`BoxHandle::stop`] stops.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
#[non_exhaustive]
pub struct StopOptions {
    /// How long to wait before killing. Absent: the box's.
    pub timeout: Option<Duration>,
    /// What to send first. Absent: the box's stop signal.
    pub signal: Option<Signal>,
}

impl BoxHandle {
    pub(crate) fn new(shared: Arc<Shared>, record: &BoxRecord) -> Self {
        Self {
            shared,
            id: record.id.clone(),
            name: record.name.clone(),
        }
    }

    /// The box as it really is, and a connection to its supervisor, for what the guest answers.
    async fn connect(&self) -> Result<(BoxRecord, Connection), ReachError> {
        let record = lifecycle::current(&self.shared, &self.id)
            .await
            .map_err(ReachError::Get)?;
        if record.state == RecordedState::Paused {
            let (name, state) = (record.name, record::state(record.state));
            return Err(ReachError::Agent(ConnectError::NotRunning { name, state }.into()));
        }
        let connection = lifecycle::connect(&self.shared, &record)
            .await
            .map_err(|error| ReachError::Agent(error.into()))?;
        Ok((record, connection))
    }

    /// The box's id, 32 hexadecimal digits.
    #[must_use]
    pub fn id(&self) -> &str {
        self.id.as_str()
    }

    /// The box's name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Everything about the box, now.
    ///
    /// # Errors
    /// When the box is gone or the home's state can't be read.
    pub async fn info(&self) -> Result<BoxInfo, QueryError> {
        let record = lifecycle::current(&self.shared, &self.id).await?;
        Ok(record::info(&self.shared.home, record)?)
    }

    /// Starts the machine and, if the box has one, its main process. Returns when both run.
    ///
    /// Dropping the future ends the attempt.
    ///
    /// # Errors
    /// [`StartError`] says how far the start came, with the last console lines, the likely
    /// cause and the next command.
    pub async fn start(&self) -> Result<(), StartError> {
        self.start_with(StartOptions::default()).await
    }

    /// As [`start`](Self::start), this once with other options than the box's.
    ///
    /// # Errors
    /// As [`start`](Self::start).
    pub async fn start_with(&self, start: StartOptions) -> Result<(), StartError> {
        launch::start(&self.shared, &self.id, start).await
    }

    /// Starts the machine, and its main process with its streams attached: nothing that it
    /// writes is missed.
    ///
    /// # Errors
    /// As [`start`](Self::start); also when the box has no main process.
    pub async fn start_attached(&self, options: AttachOptions) -> Result<Execution, StartError> {
        self.start_attached_with(StartOptions::default(), options).await
    }

    /// As [`start_attached`](Self::start_attached), this once with other options than the
    /// box's.
    ///
    /// # Errors
    /// As [`start_attached`](Self::start_attached).
    pub async fn start_attached_with(
        &self,
        start: StartOptions,
        options: AttachOptions,
    ) -> Result<Execution, StartError> {
        launch::start_attached(&self.shared, &self.id, start, options).await
    }

    /// Attaches to the main process of the running box. Output begins now; what came
    /// before is in the [log](Self::logs). Dropping the execution only detaches.
    ///
    /// # Errors
    /// When the box does not run or has no main process.
    pub async fn attach(&self, options: AttachOptions) -> Result<Execution, AttachError> {
        let (record, connection) = self.connect().await?;
        if record::config(&record)?.is_idle() {
            return Err(AttachError::NoMainProcess { name: record.name });
        }
        Execution::attach(connection, options, false)
            .await
            .map_err(|error| match error {
                NotStarted::Refused(refusal) => AttachError::Refused { refusal },
                NotStarted::Failed(error) => error.into(),
            })
    }

    /// Stops the box in order: signal, grace, kill, sync, power off. Returns when it is
    /// over. A box that does not run is left as it is.
    ///
    /// Dropping the future does not take the stop back.
    ///
    /// # Errors
    /// When the box is gone or its supervisor does not answer.
    pub async fn stop(&self, options: StopOptions) -> Result<(), StopError> {
        let record = lifecycle::stop(&self.shared, &self.id, options).await?;
        self.shared.untie(self.id.as_str());
        self.shared
            .blocking(move |shared| {
                shared.remove_if_due(&record);
                Ok::<_, StateError>(())
            })
            .await?;
        Ok(())
    }

    /// Signals the main process. SIGKILL ends the box, and so does any fatal signal to an
    /// idle box.
    ///
    /// # Errors
    /// When the box does not run.
    pub async fn kill(&self, signal: Signal) -> Result<(), KillError> {
        lifecycle::kill(&self.shared, &self.id, signal).await
    }

    /// Stands the box still: its processors, its timers and its network. Its memory stays in
    /// use. Nothing to do for a paused one. A paused box is stopped, killed and removed like
    /// another; everything else waits for [`unpause`](Self::unpause) or is refused.
    ///
    /// # Errors
    /// When the box does not run.
    pub async fn pause(&self) -> Result<(), PauseError> {
        pause::pause(&self.shared, &self.id).await
    }

    /// Lets a paused box go on. Its wall clock is the host's again, and its monotonic clock
    /// goes on where it stood. Nothing to do for one that runs.
    ///
    /// # Errors
    /// When the box neither is paused nor runs.
    pub async fn unpause(&self) -> Result<(), PauseError> {
        pause::unpause(&self.shared, &self.id).await
    }

    /// Stops the box if it runs, and starts it.
    ///
    /// # Errors
    /// As [`stop`](Self::stop) and [`start`](Self::start).
    pub async fn restart(&self, options: StopOptions) -> Result<(), RestartError> {
        let record = lifecycle::current(&self.shared, &self.id)
            .await
            .map_err(StopError::from)?;
        if record.auto_remove && record.state.is_live() {
            return Err(RestartError::AutoRemove { name: record.name });
        }
        // How the old run ended is no reason not to begin a new one.
        match self.stop(options).await {
            Ok(()) | Err(StopError::Failed { .. }) => {}
            Err(error) => return Err(error.into()),
        }
        self.start().await.map_err(Box::new)?;
        Ok(())
    }

    /// Waits until the box has ended, whoever started it, and gives the status of its main
    /// process. An idle box that was stopped gives code 0.
    ///
    /// # Errors
    /// When the box was never started or is gone, or its machine failed.
    pub async fn wait(&self) -> Result<ExitStatus, WaitError> {
        lifecycle::wait(&self.shared, &self.id).await
    }

    /// Removes the box with its disk and logs.
    ///
    /// # Errors
    /// When it runs and `force` is not set.
    pub async fn remove(&self, options: RemoveOptions) -> Result<(), RemoveError> {
        lifecycle::remove(&self.shared, &self.id, options.force).await
    }

    /// Runs one process in the box. Returns when it runs.
    ///
    /// # Errors
    /// When the box does not run, or the agent refuses ([`ExecError::refusal`]).
    pub async fn exec(&self, options: ExecOptions) -> Result<Execution, ExecError> {
        let (record, connection) = self.connect().await?;
        let config = record::config(&record)?;
        Execution::exec(connection, &config, options).await
    }

    /// What the main process has written, at every start of the box.
    ///
    /// # Errors
    /// When the box is gone or the log can't be opened.
    pub async fn logs(&self, options: LogOptions) -> Result<LogStream, LogsError> {
        let record = lifecycle::current(&self.shared, &self.id).await?;
        logs::open(&self.shared, record, options).await
    }

    /// What the running box uses.
    ///
    /// # Errors
    /// When the box does not run.
    pub async fn metrics(&self) -> Result<Metrics, QueryError> {
        let (_, connection) = self.connect().await?;
        let (mut guest, mut shim) = (connection.guest(), connection.shim());
        let (inside, outside) = tokio::try_join!(
            guest.metrics(MetricsRequest {}),
            shim.engine_metrics(EngineMetricsRequest {})
        )
        .map_err(|status| rpc::call_error("metrics", &status))?;
        let (inside, outside) = (inside.into_inner(), outside.into_inner());
        Ok(Metrics {
            sampled_at_ms: crate::clock::now_ms(),
            cpu_usage_us: inside.cpu_usage_us,
            memory_usage_bytes: inside.memory_usage_bytes,
            memory_limit_bytes: inside.memory_limit_bytes,
            net_rx_bytes: inside.net_rx_bytes,
            net_tx_bytes: inside.net_tx_bytes,
            block_read_bytes: inside.block_read_bytes,
            block_write_bytes: inside.block_write_bytes,
            processes: inside.processes,
            disk_used_bytes: inside.disk_used_bytes,
            disk_total_bytes: inside.disk_total_bytes,
            uptime_us: inside.uptime_us,
            host: HostMetrics {
                cpu_us: outside.cpu_us,
                rss_bytes: outside.rss_bytes,
                pss_bytes: outside.pss_bytes,
            },
        })
    }

    /// The processes of the running box.
    ///
    /// # Errors
    /// When the box does not run.
    pub async fn processes(&self) -> Result<Vec<ProcessInfo>, QueryError> {
        let (_, connection) = self.connect().await?;
        let answer = connection
            .guest()
            .processes(ProcessesRequest {})
            .await
            .map_err(|status| rpc::call_error("processes", &status))?;
        let processes = answer.into_inner().processes;
        Ok(processes
            .into_iter()
            .map(|process| ProcessInfo {
                pid: process.pid,
                parent_pid: process.parent_pid,
                uid: process.uid,
                user: process.user,
                cpu_us: process.cpu_us,
                started_at_ms: process.started_unix_ms,
                memory_bytes: process.memory_bytes,
                state: process.state,
                tty: process.tty,
                command: process.command,
            })
            .collect())
    }

    /// Copies a file or folder of the host into the running box, by the rules of
    /// `docker cp`:
    ///
    /// - into a folder that exists, under its own name; a source that ends with `/.`
    ///   brings what is in it instead
    /// - else to that path, whose folder must exist
    ///
    /// Modes and times are kept; owners are, if [`CopyOptions::keep_owner`] is set,
    /// otherwise all belongs to root.
    ///
    /// # Errors
    /// See [`CopyError`].
    pub async fn copy_in(
        &self,
        source: &Path,
        destination: &str,
        options: CopyOptions,
    ) -> Result<CopyReport, CopyError> {
        let (_, connection) = self.connect().await?;
        copy::copy_in(&connection, source, destination, options).await
    }

    /// Copies a file or folder of the running box to the host, by the same rules as
    /// [`copy_in`](Self::copy_in).
    ///
    /// What the box sends is not trusted: nothing is written outside the destination, no
    /// symbolic link is followed, device nodes are not made, set-user-id bits and extended
    /// attributes are not taken over ([`CopyReport::skipped`] says what was left out).
    /// Files belong to the calling user.
    ///
    /// # Errors
    /// See [`CopyError`].
    pub async fn copy_out(
        &self,
        source: &str,
        destination: &Path,
        options: CopyOptions,
    ) -> Result<CopyReport, CopyError> {
        let (_, connection) = self.connect().await?;
        copy::copy_out(&connection, source, destination, options).await
    }

    /// Unpacks a tar stream into a folder of the running box, which must exist.
    ///
    /// # Errors
    /// When the folder is not there, or the stream is no tar stream.
    pub async fn copy_in_tar<R>(&self, tar: R, destination: &str, options: CopyOptions) -> Result<CopyReport, CopyError>
    where
        R: AsyncRead + Send + Unpin + 'static,
    {
        let (_, connection) = self.connect().await?;
        copy::copy_in_tar(&connection, tar, destination, options).await
    }

    /// A path of the running box as a tar stream (PAX), as the box sends it: whoever
    /// unpacks it must not trust it.
    ///
    /// # Errors
    /// When the path is not there.
    pub async fn copy_out_tar(&self, source: &str, options: CopyOptions) -> Result<TarStream, CopyError> {
        let (_, connection) = self.connect().await?;
        copy::copy_out_tar(connection, source, options).await
    }
}

/// Why the supervisor of a box can't be spoken to.
enum ReachError {
    Get(GetError),
    Agent(AgentError),
}

macro_rules! from_reach_error {
    ($($error:ty),*) => {$(
        impl From<ReachError> for $error {
            fn from(error: ReachError) -> Self {
                match error {
                    ReachError::Get(error) => error.into(),
                    ReachError::Agent(error) => error.into(),
                }
            }
        }
    )*};
}

from_reach_error!(AttachError, ExecError, QueryError, CopyError);
