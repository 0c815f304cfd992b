//! One box: [`BoxHandle`].

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio::io::AsyncRead;

use crate::attach::AttachOptions;
use crate::client::RemoveOptions;
use crate::client::Shared;
use crate::copy::{CopyOptions, CopyReport, TarStream};
use crate::error::{
    AttachError, CopyError, ExecError, KillError, LogsError, QueryError, RemoveError, RestartError,
    StartError, StateError, StopError, WaitError,
};
use crate::execution::{ExecOptions, Execution};
use crate::exit_status::ExitStatus;
use crate::info::{BoxInfo, Metrics, ProcessInfo};
use crate::logs::{LogOptions, LogStream};
use crate::signal::Signal;

/// A box of a home; from [`crate::Client::create`] or [`crate::Client::get`].
///
/// Cheap to clone. Dropping it does nothing to the box.
#[derive(Debug, Clone)]
pub struct BoxHandle {
    shared: Arc<Shared>,
    id: String,
    name: String,
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
    /// The box's id, 32 hexadecimal digits.
    #[must_use]
    pub fn id(&self) -> &str {
        &self.id
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
        let _ = &self.shared;
        Err(StateError::Closed.into())
    }

    /// Starts the machine and, if the box has one, its main process. Returns when both run.
    ///
    /// Dropping the future ends the attempt.
    ///
    /// # Errors
    /// [`StartError`] says how far the start came, with the last console lines, the likely
    /// cause and the next command.
    pub async fn start(&self) -> Result<(), StartError> {
        Err(StateError::Closed.into())
    }

    /// Starts the machine, and its main process with its streams attached: nothing that it
    /// writes is missed.
    ///
    /// # Errors
    /// As [`start`](Self::start); also when the box has no main process.
    pub async fn start_attached(&self, options: AttachOptions) -> Result<Execution, StartError> {
        let _ = options;
        Err(StateError::Closed.into())
    }

    /// Attaches to the main process of the running box. Output begins now; what came
    /// before is in the [log](Self::logs). Dropping the execution only detaches.
    ///
    /// # Errors
    /// When the box does not run or has no main process.
    pub async fn attach(&self, options: AttachOptions) -> Result<Execution, AttachError> {
        let _ = options;
        Err(StateError::Closed.into())
    }

    /// Stops the box in order: signal, grace, kill, sync, power off. Returns when it is
    /// over. A box that does not run is left as it is.
    ///
    /// Dropping the future does not take the stop back.
    ///
    /// # Errors
    /// When the box is gone or its supervisor does not answer.
    pub async fn stop(&self, options: StopOptions) -> Result<(), StopError> {
        let _ = options;
        Err(StateError::Closed.into())
    }

    /// Signals the main process. SIGKILL ends the box, and so does any fatal signal to an
    /// idle box.
    ///
    /// # Errors
    /// When the box does not run.
    pub async fn kill(&self, signal: Signal) -> Result<(), KillError> {
        let _ = signal;
        Err(StateError::Closed.into())
    }

    /// Stops the box if it runs, and starts it.
    ///
    /// # Errors
    /// As [`stop`](Self::stop) and [`start`](Self::start).
    pub async fn restart(&self, options: StopOptions) -> Result<(), RestartError> {
        self.stop(options).await?;
        self.start().await.map_err(Box::new)?;
        Ok(())
    }

    /// Waits until the box has ended, whoever started it, and gives the status of its main
    /// process. An idle box that was stopped gives code 0.
    ///
    /// # Errors
    /// When the box was never started or is gone, or its machine failed.
    pub async fn wait(&self) -> Result<ExitStatus, WaitError> {
        Err(StateError::Closed.into())
    }

    /// Removes the box with its disk and logs.
    ///
    /// # Errors
    /// When it runs and `force` is not set.
    pub async fn remove(&self, options: RemoveOptions) -> Result<(), RemoveError> {
        let _ = options;
        Err(StateError::Closed.into())
    }

    /// Runs one process in the box. Returns when it runs.
    ///
    /// # Errors
    /// When the box does not run, or the agent refuses ([`ExecError::refusal`]).
    pub async fn exec(&self, options: ExecOptions) -> Result<Execution, ExecError> {
        let _ = options;
        Err(StateError::Closed.into())
    }

    /// What the main process has written, at every start of the box.
    ///
    /// # Errors
    /// When the box is gone or the log can't be opened.
    pub async fn logs(&self, options: LogOptions) -> Result<LogStream, LogsError> {
        let _ = options;
        Err(StateError::Closed.into())
    }

    /// What the running box uses.
    ///
    /// # Errors
    /// When the box does not run.
    pub async fn metrics(&self) -> Result<Metrics, QueryError> {
        Err(StateError::Closed.into())
    }

    /// The processes of the running box.
    ///
    /// # Errors
    /// When the box does not run.
    pub async fn processes(&self) -> Result<Vec<ProcessInfo>, QueryError> {
        Err(StateError::Closed.into())
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
        let _ = (source, destination, options);
        Err(StateError::Closed.into())
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
        let _ = (source, destination, options);
        Err(StateError::Closed.into())
    }

    /// Unpacks a tar stream into a folder of the running box, which must exist.
    ///
    /// # Errors
    /// When the folder is not there, or the stream is no tar stream.
    pub async fn copy_in_tar<R>(
        &self,
        tar: R,
        destination: &str,
        options: CopyOptions,
    ) -> Result<CopyReport, CopyError>
    where
        R: AsyncRead + Send + Unpin + 'static,
    {
        let _ = (tar, destination, options);
        Err(StateError::Closed.into())
    }

    /// A path of the running box as a tar stream (PAX), as the box sends it: whoever
    /// unpacks it must not trust it.
    ///
    /// # Errors
    /// When the path is not there.
    pub async fn copy_out_tar(
        &self,
        source: &str,
        options: CopyOptions,
    ) -> Result<TarStream, CopyError> {
        let _ = (source, options);
        Err(StateError::Closed.into())
    }
}
