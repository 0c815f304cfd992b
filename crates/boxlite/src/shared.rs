//! What a client and its handles have in common, and how they reach the home's state.

use std::collections::BTreeSet;
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::process::Child;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use boxlite_image::ContentStore;
use boxlite_store::{BoxId, BoxLock, BoxRecord, Home};
use tokio_util::sync::CancellationToken;

use crate::bundle::Bundle;
use crate::client::{Accelerator, RegistryOptions, TemplateUse};
use crate::error::{BundleError, GetError, StateError};
use crate::options::EngineKind;
use crate::record;

/// How long a box that is to be removed stays after its end, when nobody waits for it, so
/// that whoever wants to know how it ended can still read it.
pub(crate) const ENDED_GRACE_MS: i64 = 10_000;

/// How long layers of a pull that was broken off are kept for the next try.
pub(crate) const KEEP_BLOBS_FOR: Duration = Duration::from_secs(24 * 60 * 60);

/// The state of a client.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) home: Home,
    pub(crate) content: ContentStore,
    pub(crate) engine: EngineKind,
    pub(crate) accelerator: Accelerator,
    pub(crate) templates: TemplateUse,
    pub(crate) bundle_dir: Option<PathBuf>,
    pub(crate) registries: RegistryOptions,
    pub(crate) closed: CancellationToken,
    bundle: Mutex<Option<Bundle>>,
    life: Mutex<Life>,
    /// Supervisors that were started here and are not waited for yet.
    children: Mutex<Vec<Child>>,
}

/// What ties boxes to this client.
#[derive(Debug)]
struct Life {
    /// Whose reading end the supervisors of boxes that are not detached hold. Gone once the
    /// client is closed.
    pipe: Option<LifePipe>,
    /// The boxes that end with the client.
    boxes: BTreeSet<String>,
}

/// A pipe that nobody ever writes to: its end is the message.
#[derive(Debug)]
struct LifePipe {
    reader: OwnedFd,
    _writer: OwnedFd,
}

/// What a shared state is made from.
#[derive(Debug)]
pub(crate) struct Parts {
    pub(crate) home: Home,
    pub(crate) content: ContentStore,
    pub(crate) engine: EngineKind,
    pub(crate) accelerator: Accelerator,
    pub(crate) templates: TemplateUse,
    pub(crate) bundle_dir: Option<PathBuf>,
    pub(crate) registries: RegistryOptions,
}

impl Shared {
    pub(crate) fn new(parts: Parts) -> std::io::Result<Arc<Self>> {
        // Close-on-exec: a program that this process starts must not keep the boxes alive.
        let (reader, writer) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC)?;
        Ok(Arc::new(Self {
            home: parts.home,
            content: parts.content,
            engine: parts.engine,
            accelerator: parts.accelerator,
            templates: parts.templates,
            bundle_dir: parts.bundle_dir,
            registries: parts.registries,
            closed: CancellationToken::new(),
            bundle: Mutex::new(None),
            life: Mutex::new(Life {
                pipe: Some(LifePipe {
                    reader,
                    _writer: writer,
                }),
                boxes: BTreeSet::new(),
            }),
            children: Mutex::new(Vec::new()),
        }))
    }

    /// Fails once the client is closed.
    pub(crate) fn check_open(&self) -> Result<(), StateError> {
        if self.closed.is_cancelled() {
            Err(StateError::Closed)
        } else {
            Ok(())
        }
    }

    /// Runs a step that blocks where that is allowed. Dropping the future does not stop it.
    pub(crate) async fn blocking<T, E>(
        self: &Arc<Self>,
        step: impl FnOnce(&Shared) -> Result<T, E> + Send + 'static,
    ) -> Result<T, E>
    where
        T: Send + 'static,
        E: From<StateError> + Send + 'static,
    {
        self.check_open()?;
        let shared = Arc::clone(self);
        match tokio::task::spawn_blocking(move || step(&shared)).await {
            Ok(result) => result,
            Err(error) => Err(StateError::Runtime(error).into()),
        }
    }

    /// The box with this name, id or beginning of an id, as it really is. Blocking.
    pub(crate) fn find(&self, reference: &str) -> Result<BoxRecord, GetError> {
        let record = self.home.find_box(reference)?;
        Ok(self.home.reconcile_box(record, &record::parse_exit_record)?)
    }

    /// The box with this id, as it really is. Blocking.
    pub(crate) fn current(&self, id: &BoxId) -> Result<BoxRecord, GetError> {
        let record = self.home.get_box(id)?;
        Ok(self.home.reconcile_box(record, &record::parse_exit_record)?)
    }

    /// Puts all rows right, and removes the boxes that were to go and that nobody waits for.
    /// Blocking.
    pub(crate) fn settle(&self) -> Result<(), StateError> {
        self.home.reconcile(&record::parse_exit_record)?;
        match self.home.remove_ended(ENDED_GRACE_MS) {
            Ok(_) => Ok(()),
            Err(boxlite_store::RemoveBoxError::Database(error)) => Err(error.into()),
            Err(boxlite_store::RemoveBoxError::NotFound { .. }) => Ok(()),
        }
    }

    /// Removes a box that was to go once it had ended. Another process may be faster, or may
    /// have it locked: then it sees to it. Blocking.
    pub(crate) fn remove_if_due(&self, record: &BoxRecord) {
        if !record.auto_remove || record.state.is_live() {
            return;
        }
        if let Ok(Some(lock)) = BoxLock::try_acquire(&self.home, &record.id)
            && self
                .home
                .get_box(&record.id)
                .is_ok_and(|now| !now.state.is_live() && now.run_id == record.run_id)
            && let Err(error) = self.home.remove_box(lock)
        {
            tracing::debug!(%error, id = %record.id, "left for the next recovery");
        }
    }

    /// Supervisor, kernel and initramfs; unpacked when they are needed and not there.
    pub(crate) async fn bundle(self: &Arc<Self>) -> Result<Bundle, BundleError> {
        let shared = Arc::clone(self);
        tokio::task::spawn_blocking(move || {
            let mut known = shared.bundle.lock().unwrap_or_else(PoisonError::into_inner);
            if let Some(bundle) = known.as_ref().filter(|bundle| bundle.is_intact()) {
                return Ok(bundle.clone());
            }
            let bundle = Bundle::locate(&shared.home, shared.bundle_dir.as_deref())?;
            *known = Some(bundle.clone());
            Ok(bundle)
        })
        .await
        .map_err(BundleError::Runtime)?
    }

    /// The reading end of the pipe that ends with this client, for a supervisor, which from
    /// now on is known to end with it.
    pub(crate) fn tie(&self, id: &BoxId) -> Result<OwnedFd, StateError> {
        let mut life = self.life.lock().unwrap_or_else(PoisonError::into_inner);
        let pipe = life.pipe.as_ref().ok_or(StateError::Closed)?;
        let reader = pipe.reader.try_clone().map_err(|source| StateError::File {
            action: "duplicating",
            path: PathBuf::from("a pipe"),
            source,
        })?;
        life.boxes.insert(id.as_str().to_owned());
        Ok(reader)
    }

    /// Forgets that a box ends with this client.
    pub(crate) fn untie(&self, id: &str) {
        let mut life = self.life.lock().unwrap_or_else(PoisonError::into_inner);
        life.boxes.remove(id);
    }

    /// Takes over a supervisor's process, which has to be waited for once it has ended.
    pub(crate) fn adopt(&self, child: Child) {
        let mut children = self.children.lock().unwrap_or_else(PoisonError::into_inner);
        children.push(child);
    }

    /// Waits for the supervisors that have ended, without waiting for any to end. There is
    /// no handler for SIGCHLD in a library, so it is done whenever boxes are looked at.
    pub(crate) fn reap(&self) {
        let mut children = self.children.lock().unwrap_or_else(PoisonError::into_inner);
        children.retain_mut(|child| matches!(child.try_wait(), Ok(None)));
    }

    /// Closes the client: its boxes that are not detached begin to stop. Gives their ids.
    pub(crate) fn close(&self) -> BTreeSet<String> {
        self.closed.cancel();
        let mut life = self.life.lock().unwrap_or_else(PoisonError::into_inner);
        life.pipe = None;
        std::mem::take(&mut life.boxes)
    }
}
