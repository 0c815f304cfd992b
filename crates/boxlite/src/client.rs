//! The entry: a [`Client`] works with one home.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use boxlite_image::ContentStore;
use boxlite_store::{GarbageOptions, Home, RecoverError, RemoveBoxError};
use serde::{Deserialize, Serialize};

use crate::doctor::{self, DoctorReport};
use crate::error::{
    CreateError, DiskUsageError, GetError, InfoError, ListError, OpenError, PruneError, RemoveError, RenameError,
    StateError,
};
use crate::handle::BoxHandle;
use crate::images::{self, Credentials, Images};
use crate::info::{BoxInfo, ListFilter};
use crate::options::{BoxOptions, EngineKind};
use crate::progress::{ProgressFn, no_progress};
use crate::shared::{ENDED_GRACE_MS, KEEP_BLOBS_FOR, Parts, Shared};
use crate::system::{DiskUsage, PruneOptions, PruneReport, SystemInfo};
use crate::templates::Templates;
use crate::{create, lifecycle, record, survey, templates};

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
    owner: Arc<Owner>,
}

/// What the clones of a client share, and its handles don't: with the last clone the client
/// is closed.
#[derive(Debug)]
struct Owner {
    shared: Arc<Shared>,
}

impl Drop for Owner {
    fn drop(&mut self) {
        self.shared.close();
    }
}

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
            _ => Err(crate::options::UnknownWord::new(text, "auto, kvm, hvf, tcg")),
        }
    }
}

/// Whether boxes start from templates: machines that have booted, saved for others of their
/// shape to go on from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TemplateUse {
    /// They do, and after the first start of a shape a template of it is made in the
    /// background.
    #[default]
    Auto,
    /// They do where there is a template; none is made unasked.
    Existing,
    /// Every start begins with the kernel.
    Off,
}

impl std::str::FromStr for TemplateUse {
    type Err = crate::options::UnknownWord;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "auto" => Ok(Self::Auto),
            "existing" => Ok(Self::Existing),
            "off" => Ok(Self::Off),
            _ => Err(crate::options::UnknownWord::new(text, "auto, existing, off")),
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
    /// PEM files with certificates of authorities to trust beside the system's.
    pub ca_certificates: Vec<PathBuf>,
    /// Credentials by registry (`host[:port]`), before docker's and podman's files.
    pub credentials: BTreeMap<String, Credentials>,
}

/// Options of a [`Client`]; from [`Client::builder`].
#[derive(Debug, Clone, Default)]
pub struct ClientBuilder {
    pub(crate) home: Option<PathBuf>,
    pub(crate) engine: Option<EngineKind>,
    pub(crate) accelerator: Option<Accelerator>,
    pub(crate) templates: Option<TemplateUse>,
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

    /// Whether boxes start from templates. Absent: `BOXLITE_TEMPLATES`, else `auto`.
    #[must_use]
    pub fn templates(mut self, templates: TemplateUse) -> Self {
        self.templates = Some(templates);
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
        let builder = self.with_environment()?;
        let shared = tokio::task::spawn_blocking(move || builder.open())
            .await
            .map_err(StateError::Runtime)??;
        Ok(Client {
            owner: Arc::new(Owner { shared }),
        })
    }

    /// Fills in what the environment says about what was not set.
    pub(crate) fn with_environment(mut self) -> Result<Self, OpenError> {
        if self.home.is_none() {
            self.home = Some(default_home()?);
        }
        if self.engine.is_none() {
            self.engine = variable("BOXLITE_ENGINE")?;
        }
        if self.accelerator.is_none() {
            self.accelerator = variable("BOXLITE_ACCEL")?;
        }
        if self.templates.is_none() {
            self.templates = variable("BOXLITE_TEMPLATES")?;
        }
        if self.bundle_dir.is_none() {
            self.bundle_dir = path_variable("BOXLITE_BUNDLE_DIR");
        }
        Ok(self)
    }

    /// Opens and repairs the home. Blocking.
    fn open(self) -> Result<Arc<Shared>, OpenError> {
        let path = self.home.ok_or(OpenError::NoHome)?;
        let home = Home::open(&path)?;
        let content = ContentStore::open(home.content_dir())?;
        let garbage = GarbageOptions {
            keep_blobs_for: KEEP_BLOBS_FOR,
        };
        match home.recover(&record::parse_exit_record, ENDED_GRACE_MS, &garbage) {
            Ok(_) => {}
            Err(RecoverError::Reconcile(error)) => return Err(StateError::from(error).into()),
            Err(RecoverError::Remove(RemoveBoxError::Database(error))) => {
                return Err(StateError::from(error).into());
            }
            // What can't be deleted is no reason not to work; the next recovery tries again.
            Err(error) => tracing::warn!(%error, "the home is not all cleaned up"),
        }
        templates::sweep(&home);
        Shared::new(Parts {
            home,
            content,
            engine: self.engine.unwrap_or_default(),
            accelerator: self.accelerator.unwrap_or_default(),
            templates: self.templates.unwrap_or_default(),
            bundle_dir: self.bundle_dir,
            registries: self.registries,
        })
        .map_err(OpenError::Pipe)
    }
}

fn path_variable(name: &str) -> Option<PathBuf> {
    std::env::var_os(name)
        .filter(|value| !value.is_empty())
        .map(PathBuf::from)
}

fn default_home() -> Result<PathBuf, OpenError> {
    if let Some(home) = path_variable("BOXLITE_HOME") {
        return Ok(home);
    }
    let home = path_variable("HOME").ok_or(OpenError::NoHome)?;
    Ok(home.join(".boxlite"))
}

/// A variable of the environment as one of a few words.
fn variable<T>(name: &'static str) -> Result<Option<T>, OpenError>
where
    T: std::str::FromStr<Err = crate::options::UnknownWord>,
{
    let Some(value) = std::env::var_os(name).filter(|value| !value.is_empty()) else {
        return Ok(None);
    };
    let value = value.to_string_lossy().into_owned();
    value
        .parse()
        .map(Some)
        .map_err(|error: crate::options::UnknownWord| OpenError::Environment {
            variable: name,
            value,
            reason: error.to_string(),
        })
}

impl Client {
    fn shared(&self) -> &Arc<Shared> {
        &self.owner.shared
    }

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
    pub async fn create_with(&self, options: BoxOptions, progress: ProgressFn) -> Result<BoxHandle, CreateError> {
        let record = create::create(self.shared(), options, progress).await?;
        Ok(BoxHandle::new(Arc::clone(self.shared()), &record))
    }

    /// Finds a box by name, id, or the beginning of an id.
    ///
    /// # Errors
    /// When there is none, or the beginning is not unique.
    pub async fn get(&self, id_or_name: &str) -> Result<BoxHandle, GetError> {
        let reference = id_or_name.to_owned();
        let record = self.shared().blocking(move |shared| shared.find(&reference)).await?;
        Ok(BoxHandle::new(Arc::clone(self.shared()), &record))
    }

    /// Lists boxes, the newest first.
    ///
    /// # Errors
    /// When the home's state can't be read.
    pub async fn list(&self, filter: ListFilter) -> Result<Vec<BoxInfo>, ListError> {
        self.shared().reap();
        self.shared().blocking(move |shared| list(shared, &filter)).await
    }

    /// Gives a box another name.
    ///
    /// # Errors
    /// When there is no such box, the name is taken, or it can't be a name.
    pub async fn rename(&self, id_or_name: &str, name: &str) -> Result<(), RenameError> {
        let (reference, name) = (id_or_name.to_owned(), name.to_owned());
        self.shared()
            .blocking(move |shared| {
                let record = shared.find(&reference)?;
                Ok(shared.home.rename_box(&record.id, &name)?)
            })
            .await
    }

    /// Removes a box with its disk and logs.
    ///
    /// # Errors
    /// When there is none, or it runs and `force` is not set.
    pub async fn remove(&self, id_or_name: &str, options: RemoveOptions) -> Result<(), RemoveError> {
        let handle = self.get(id_or_name).await?;
        handle.remove(options).await
    }

    /// The images of this home.
    #[must_use]
    pub fn images(&self) -> Images {
        Images::new(Arc::clone(self.shared()))
    }

    /// The templates of this home.
    #[must_use]
    pub fn templates(&self) -> Templates {
        Templates::new(Arc::clone(self.shared()))
    }

    /// What this client works with.
    ///
    /// # Errors
    /// When the home's state can't be read. A missing engine or bundle is part of the
    /// answer, not an error.
    pub async fn info(&self) -> Result<SystemInfo, InfoError> {
        survey::info(self.shared()).await
    }

    /// Checks everything that a start needs.
    pub async fn doctor(&self) -> DoctorReport {
        let shared = self.shared();
        let mut builder = Self::builder()
            .home(shared.home.path())
            .engine(shared.engine)
            .accelerator(shared.accelerator);
        builder.bundle_dir.clone_from(&shared.bundle_dir);
        doctor::examine(builder).await
    }

    /// The same checks where a client can't even be opened.
    pub async fn doctor_for(builder: ClientBuilder) -> DoctorReport {
        doctor::examine(builder).await
    }

    /// What the home takes of the host's disk.
    ///
    /// # Errors
    /// When the home's state or files can't be read.
    pub async fn disk_usage(&self) -> Result<DiskUsage, DiskUsageError> {
        self.shared().blocking(survey::disk_usage).await
    }

    /// Removes what is not used.
    ///
    /// # Errors
    /// When the home's state or files can't be read or written. What was removed before
    /// stays removed.
    pub async fn prune(&self, options: PruneOptions) -> Result<PruneReport, PruneError> {
        self.shared().reap();
        self.shared()
            .blocking(move |shared| survey::prune(shared, options))
            .await
    }

    /// Closes the client and waits until its boxes that are not detached have stopped.
    /// Clones and handles are closed with it.
    pub async fn close(self) {
        let shared = Arc::clone(self.shared());
        let boxes = shared.close();
        lifecycle::wait_for_tied(&shared, boxes).await;
    }
}

/// The boxes that a filter lets through, the newest first. Blocking.
fn list(shared: &Shared, filter: &ListFilter) -> Result<Vec<BoxInfo>, ListError> {
    shared.settle()?;
    let records = shared.home.list_boxes().map_err(StateError::from)?;
    let mut boxes = Vec::new();
    for record in records {
        let name = record.name.clone();
        let digest = record.image_digest.clone();
        match record::info(&shared.home, record) {
            Ok(info) => {
                let descends = filter.ancestors.is_empty()
                    || filter
                        .ancestors
                        .iter()
                        .any(|ancestor| images::descends(&info.image, digest.as_ref(), ancestor));
                if descends && filter.matches(&info) {
                    boxes.push(info);
                }
            }
            // One box that another version made must not hide all the others.
            Err(error) => tracing::warn!(%error, name, "a box can't be listed"),
        }
    }
    Ok(boxes)
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
