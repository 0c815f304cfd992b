//! The entry: a [`Client`] works with one home.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::doctor::DoctorReport;
use crate::error::{
    CreateError, DiskUsageError, GetError, InfoError, ListError, OpenError, PruneError,
    RemoveError, StateError,
};
use crate::handle::BoxHandle;
use crate::images::{Credentials, Images};
use crate::info::{BoxInfo, ListFilter};
use crate::options::{BoxOptions, EngineKind};
use crate::progress::{ProgressFn, no_progress};
use crate::system::{DiskUsage, PruneOptions, PruneReport, SystemInfo};

/// Manages the boxes and images of one home directory.
///
/// Cheap to clone; all clones are one client. Boxes that are not
/// [`detached`](BoxOptions::detached) stop when the last clone is dropped, when it is
/// [closed](Client::close), or when the process ends in whatever way. Handles don't keep
/// a client open: after that their operations fail with [`crate::ErrorCode::Closed`].
///
/// Several processes may have clients on the same home.
#[derive(Debug, Clone)]
pub struct Client {
    shared: Arc<Shared>,
}

/// What a client and its handles have in common.
#[derive(Debug)]
pub(crate) struct Shared {}

/// Which accelerator machines use.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Accelerator {
    /// Chosen by evidence: what was seen to run a guest on this host.
    #[default]
    Auto,
    /// The kernel's virtual machine.
    Kvm,
    /// macOS's hypervisor.
    Hvf,
    /// Translation in software.
    Tcg,
}

impl std::str::FromStr for Accelerator {
    type Err = crate::options::UnknownWord;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "auto" => Ok(Self::Auto),
            "kvm" => Ok(Self::Kvm),
            "hvf" => Ok(Self::Hvf),
            "tcg" => Ok(Self::Tcg),
            _ => Err(crate::options::UnknownWord::new(
                text,
                "auto, kvm, hvf, tcg",
            )),
        }
    }
}

/// How registries are reached.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
#[non_exhaustive]
pub struct RegistryOptions {
    /// Registries (`host[:port]`) that speak plain http.
    pub plain_http: Vec<String>,
    /// For a registry, others to ask before it, in this order: `https://host[:port]`.
    pub mirrors: BTreeMap<String, Vec<String>>,
    /// Credentials by registry (`host[:port]`), before docker's and podman's files.
    pub credentials: BTreeMap<String, Credentials>,
}

/// Options of a [`Client`]; from [`Client::builder`].
#[derive(Debug, Clone, Default)]
pub struct ClientBuilder {
    pub(crate) home: Option<PathBuf>,
    pub(crate) engine: Option<EngineKind>,
    pub(crate) accelerator: Option<Accelerator>,
    pub(crate) bundle_dir: Option<PathBuf>,
    pub(crate) registries: RegistryOptions,
}

impl ClientBuilder {
    /// The home directory. Absent: `BOXLITE_HOME`, else `~/.boxlite`.
    #[must_use]
    pub fn home(mut self, path: impl Into<PathBuf>) -> Self {
        self.home = Some(path.into());
        self
    }

    /// The engine for boxes whose options say `auto`. Absent: `BOXLITE_ENGINE`, else `auto`.
    #[must_use]
    pub fn engine(mut self, engine: EngineKind) -> Self {
        self.engine = Some(engine);
        self
    }

    /// The accelerator. Absent: `BOXLITE_ACCEL`, else by evidence.
    #[must_use]
    pub fn accelerator(mut self, accelerator: Accelerator) -> Self {
        self.accelerator = Some(accelerator);
        self
    }

    /// A directory with `boxlite-shim`, `vmlinux` and `initramfs.cpio`. Absent:
    /// `BOXLITE_BUNDLE_DIR`, else what the library has in itself.
    #[must_use]
    pub fn bundle_dir(mut self, path: impl Into<PathBuf>) -> Self {
        self.bundle_dir = Some(path.into());
        self
    }

    /// How registries are reached.
    #[must_use]
    pub fn registries(mut self, registries: RegistryOptions) -> Self {
        self.registries = registries;
        self
    }

    /// Opens the home: makes what is missing, and mends what a killed process left.
    ///
    /// # Errors
    /// When the home can't be made or is on a file system without what is needed, when
    /// its schema is newer than this version, or when the environment names nonsense. A
    /// missing engine or bundle is no error here, but of the first start.
    pub async fn build(self) -> Result<Client, OpenError> {
        Err(StateError::Closed.into())
    }
}

impl Client {
    /// Begins to open a client.
    pub fn builder() -> ClientBuilder {
        ClientBuilder::default()
    }

    /// Makes a box. It is not started. Pulls the image if
    /// [`pull_policy`](BoxOptions::pull_policy) wants that.
    ///
    /// Dropping the future stops the work and leaves nothing of the box behind.
    ///
    /// # Errors
    /// See [`CreateError`].
    pub async fn create(&self, options: BoxOptions) -> Result<BoxHandle, CreateError> {
        self.create_with(options, no_progress()).await
    }

    /// [`create`](Self::create), with the progress of the pull.
    ///
    /// # Errors
    /// See [`CreateError`].
    pub async fn create_with(
        &self,
        options: BoxOptions,
        progress: ProgressFn,
    ) -> Result<BoxHandle, CreateError> {
        let _ = (options, progress);
        Err(StateError::Closed.into())
    }

    /// Finds a box by name, id, or the beginning of an id.
    ///
    /// # Errors
    /// When there is none, or the beginning is not unique.
    pub async fn get(&self, id_or_name: &str) -> Result<BoxHandle, GetError> {
        let _ = id_or_name;
        Err(StateError::Closed.into())
    }

    /// Lists boxes, the newest first.
    ///
    /// # Errors
    /// When the home's state can't be read.
    pub async fn list(&self, filter: ListFilter) -> Result<Vec<BoxInfo>, ListError> {
        let _ = filter;
        Err(StateError::Closed.into())
    }

    /// Removes a box with its disk and logs.
    ///
    /// # Errors
    /// When there is none, or it runs and `force` is not set.
    pub async fn remove(
        &self,
        id_or_name: &str,
        options: RemoveOptions,
    ) -> Result<(), RemoveError> {
        let _ = (id_or_name, options);
        Err(StateError::Closed.into())
    }

    /// The images of this home.
    #[must_use]
    pub fn images(&self) -> Images {
        Images::new(Arc::clone(&self.shared))
    }

    /// What this client works with.
    ///
    /// # Errors
    /// When the home's state can't be read. A missing engine or bundle is part of the
    /// answer, not an error.
    pub async fn info(&self) -> Result<SystemInfo, InfoError> {
        Err(StateError::Closed.into())
    }

    /// Checks everything that a start needs.
    pub async fn doctor(&self) -> DoctorReport {
        DoctorReport::default()
    }

    /// The same checks where a client can't even be opened.
    pub async fn doctor_for(builder: ClientBuilder) -> DoctorReport {
        let _ = builder;
        DoctorReport::default()
    }

    /// What the home takes of the host's disk.
    ///
    /// # Errors
    /// When the home's state or files can't be read.
    pub async fn disk_usage(&self) -> Result<DiskUsage, DiskUsageError> {
        Err(StateError::Closed.into())
    }

    /// Removes what is not used.
    ///
    /// # Errors
    /// When the home's state or files can't be read or written. What was removed before
    /// stays removed.
    pub async fn prune(&self, options: PruneOptions) -> Result<PruneReport, PruneError> {
        let _ = options;
        Err(StateError::Closed.into())
    }

    /// Closes the client and waits until its boxes that are not detached have stopped.
    /// Clones and handles are closed with it.
    pub async fn close(self) {}
}

/// How [`Client::remove`] removes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
#[non_exhaustive]
pub struct RemoveOptions {
    /// End the box first if it runs.
    pub force: bool,
}

impl RemoveOptions {
    /// End the box first if it runs.
    #[must_use]
    pub fn force() -> Self {
        Self { force: true }
    }
}
