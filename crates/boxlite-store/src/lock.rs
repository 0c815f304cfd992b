//! Locks that end with their holder, however it ends.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use crate::sys::{self, LockKind};
use crate::{BoxId, Digest, Home};

/// The longest that anybody waits for a lock that is only ever held for moments.
const SHORT_LOCK_TIMEOUT: Duration = Duration::from_secs(30);

/// The pause between two attempts grows from the first to the second.
const FIRST_PAUSE: Duration = Duration::from_millis(1);
const LONGEST_PAUSE: Duration = Duration::from_millis(50);

/// Why a lock could not be taken.
#[derive(Debug, thiserror::Error)]
pub enum LockError {
    /// What the lock belongs to is not there (any more).
    #[error("{} is gone", path.display())]
    Gone {
        /// The lock file.
        path: PathBuf,
    },
    /// The lock file could not be opened or locked.
    #[error("can't lock {}: {source}", path.display())]
    Io {
        /// The lock file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// Another process kept the lock for too long.
    #[error("another process has held {} for more than {} ms", path.display(), waited.as_millis())]
    TimedOut {
        /// The lock file.
        path: PathBuf,
        /// How long this process waited.
        waited: Duration,
    },
    /// The caller gave up.
    #[error("gave up waiting for {}", path.display())]
    Cancelled {
        /// The lock file.
        path: PathBuf,
    },
}

/// A held lock on a file. Dropping it closes the descriptor and nothing else: where the open
/// file description lives on in another process, so does the lock.
#[derive(Debug)]
pub(crate) struct LockFile {
    file: File,
}

fn open(path: &Path, create: bool) -> io::Result<File> {
    OpenOptions::new()
        .read(true)
        .write(true)
        .create(create)
        .truncate(false)
        .mode(0o600)
        .open(path)
}

/// Whether `path` still names the very file that `file` has open.
fn is_still_named(file: &File, path: &Path) -> io::Result<bool> {
    let held = file.metadata()?;
    match std::fs::symlink_metadata(path) {
        Ok(named) => Ok(named.dev() == held.dev() && named.ino() == held.ino()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(error),
    }
}

impl LockFile {
    /// Takes the lock if it is free. A lock on a file that was unlinked or renamed meanwhile is
    /// worth nothing, so the name is looked at again once the lock is held.
    pub(crate) fn try_lock(path: &Path, kind: LockKind, create: bool) -> io::Result<Option<LockFile>> {
        loop {
            let file = open(path, create)?;
            if !sys::try_lock(&file, kind)? {
                return Ok(None);
            }
            if is_still_named(&file, path)? {
                return Ok(Some(LockFile { file }));
            }
        }
    }

    /// Takes the lock, waiting until `give_up` says so.
    pub(crate) fn lock(
        path: &Path,
        kind: LockKind,
        create: bool,
        timeout: Option<Duration>,
        is_cancelled: &dyn Fn() -> bool,
    ) -> Result<LockFile, LockError> {
        let begun = Instant::now();
        let mut pause = FIRST_PAUSE;
        loop {
            match LockFile::try_lock(path, kind, create) {
                Ok(Some(lock)) => return Ok(lock),
                Ok(None) => {}
                Err(source) => return Err(lock_error(path, source)),
            }
            if is_cancelled() {
                return Err(LockError::Cancelled { path: path.to_owned() });
            }
            let waited = begun.elapsed();
            if timeout.is_some_and(|timeout| waited >= timeout) {
                return Err(LockError::TimedOut {
                    path: path.to_owned(),
                    waited,
                });
            }
            std::thread::sleep(pause);
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
    }

    /// Whether anybody holds the lock at `path`; nobody does if there is no such file.
    pub(crate) fn is_locked(path: &Path) -> io::Result<bool> {
        match open(path, false) {
            Ok(file) => sys::is_locked(&file),
            Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => Ok(false),
            Err(error) => Err(error),
        }
    }
}

fn lock_error(path: &Path, source: io::Error) -> LockError {
    match source.kind() {
        io::ErrorKind::NotFound => LockError::Gone { path: path.to_owned() },
        _ => LockError::Io {
            path: path.to_owned(),
            source,
        },
    }
}

/// The lock of one box. Who holds it, or inherited its descriptor, runs, makes or removes the
/// box; nobody else does meanwhile.
///
/// Dropping it closes this process's descriptor. The lock is free once every process that
/// shares the open file description has closed its own or ended. A child that another thread is
/// just starting shares it until it executes its program, so a lock that was dropped may look
/// held for a moment longer: who needs a lock that ought to be free waits with
/// [`BoxLock::acquire`].
#[derive(Debug)]
pub struct BoxLock {
    id: BoxId,
    lock: LockFile,
}

impl BoxLock {
    /// Takes the lock of a box if nobody holds it; `None` if somebody does. Does not wait.
    ///
    /// # Errors
    /// [`LockError::Gone`] if there is no such box, [`LockError::Io`].
    pub fn try_acquire(home: &Home, id: &BoxId) -> Result<Option<BoxLock>, LockError> {
        let path = home.box_lock_path(id);
        match LockFile::try_lock(&path, LockKind::Exclusive, false) {
            Ok(lock) => Ok(lock.map(|lock| BoxLock { id: id.clone(), lock })),
            Err(source) => Err(lock_error(&path, source)),
        }
    }

    /// Takes the lock of a box, waiting for its holder at most `timeout` and until
    /// `is_cancelled` answers yes (asked at least every 50 ms). Blocks.
    ///
    /// # Errors
    /// [`LockError`]; `Gone` also if the box is removed while this waits.
    pub fn acquire(
        home: &Home,
        id: &BoxId,
        timeout: Duration,
        is_cancelled: &dyn Fn() -> bool,
    ) -> Result<BoxLock, LockError> {
        let path = home.box_lock_path(id);
        LockFile::lock(&path, LockKind::Exclusive, false, Some(timeout), is_cancelled)
            .map(|lock| BoxLock { id: id.clone(), lock })
    }

    /// Whether any process holds the box's lock, that is: whether a supervisor lives. Never
    /// takes the lock, so it can't make anybody else fail. `false` for a box that is not there.
    ///
    /// # Errors
    /// [`LockError::Io`].
    pub fn is_locked(home: &Home, id: &BoxId) -> Result<bool, LockError> {
        let path = home.box_lock_path(id);
        LockFile::is_locked(&path).map_err(|source| LockError::Io { path, source })
    }

    /// Creates the lock file in the folder of a box that is being made, and takes it.
    pub(crate) fn create(home: &Home, id: &BoxId) -> Result<BoxLock, LockError> {
        let path = home.box_lock_path(id);
        LockFile::lock(&path, LockKind::Exclusive, true, Some(SHORT_LOCK_TIMEOUT), &|| false)
            .map(|lock| BoxLock { id: id.clone(), lock })
    }

    /// The box that is locked.
    #[must_use]
    pub fn box_id(&self) -> &BoxId {
        &self.id
    }

    /// The descriptor whose inheritance hands the lock on. It is close-on-exec.
    #[must_use]
    pub fn into_fd(self) -> OwnedFd {
        self.lock.file.into()
    }
}

impl AsFd for BoxLock {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.lock.file.as_fd()
    }
}

/// A shared hold on the image files: as long as anybody has one, no image file that lacks a row
/// is deleted. Held from before the first blob is written until the image's row, and its root
/// filesystem, are recorded.
#[derive(Debug)]
pub struct ImageLease {
    _lock: LockFile,
}

/// The right to build one image's root filesystem; others wait for it and then find it built.
#[derive(Debug)]
pub struct RootfsLock {
    _lock: LockFile,
}

impl Home {
    /// Takes a shared hold on the image files. Waits only for a garbage collection, which is
    /// moments. Blocks.
    ///
    /// # Errors
    /// [`LockError`].
    pub fn lease_images(&self) -> Result<ImageLease, LockError> {
        let path = self.lock_path("images");
        LockFile::lock(&path, LockKind::Shared, true, Some(SHORT_LOCK_TIMEOUT), &|| false)
            .map(|lock| ImageLease { _lock: lock })
    }

    /// Waits until no other process builds the root filesystem of `image`, for as long as it
    /// takes or until `is_cancelled` answers yes (asked at least every 50 ms). Look again
    /// whether it is built once this returns. Blocks.
    ///
    /// # Errors
    /// [`LockError`].
    pub fn lock_rootfs(
        &self,
        _lease: &ImageLease,
        image: &Digest,
        is_cancelled: &dyn Fn() -> bool,
    ) -> Result<RootfsLock, LockError> {
        let path = self.lock_path(&format!("rootfs-{}", image.hex()));
        LockFile::lock(&path, LockKind::Exclusive, true, None, is_cancelled).map(|lock| RootfsLock { _lock: lock })
    }

    /// Takes the image files for oneself, if nobody has a lease.
    pub(crate) fn try_own_images(&self) -> Result<Option<LockFile>, LockError> {
        let path = self.lock_path("images");
        LockFile::try_lock(&path, LockKind::Exclusive, true).map_err(|source| lock_error(&path, source))
    }

    /// Held shared while a folder and the lock in it come into being, and exclusively while
    /// somebody looks for folders that nobody owns.
    pub(crate) fn lock_arrivals(&self, kind: LockKind) -> Result<LockFile, LockError> {
        let path = self.lock_path("arrivals");
        LockFile::lock(&path, kind, true, Some(SHORT_LOCK_TIMEOUT), &|| false)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_description_is_kept_out_and_a_duplicate_keeps_the_lock() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("lock");
        assert!(!LockFile::is_locked(&path).unwrap());
        let lock = LockFile::try_lock(&path, LockKind::Exclusive, true).unwrap().unwrap();
        assert!(LockFile::try_lock(&path, LockKind::Shared, true).unwrap().is_none());
        assert!(LockFile::is_locked(&path).unwrap());
        let duplicate = lock.file.try_clone().unwrap();
        drop(lock);
        assert!(LockFile::is_locked(&path).unwrap());
        drop(duplicate);
        assert!(!LockFile::is_locked(&path).unwrap());
    }

    #[test]
    fn shared_holders_meet_and_keep_an_exclusive_one_out() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("lock");
        let first = LockFile::try_lock(&path, LockKind::Shared, true).unwrap().unwrap();
        let second = LockFile::try_lock(&path, LockKind::Shared, true).unwrap().unwrap();
        assert!(LockFile::try_lock(&path, LockKind::Exclusive, true).unwrap().is_none());
        drop((first, second));
        assert!(LockFile::try_lock(&path, LockKind::Exclusive, true).unwrap().is_some());
    }

    #[test]
    fn a_lock_file_that_was_replaced_does_not_count() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("lock");
        let old = LockFile::try_lock(&path, LockKind::Exclusive, true).unwrap().unwrap();
        std::fs::remove_file(&path).unwrap();
        assert!(!is_still_named(&old.file, &path).unwrap());
        let new = LockFile::try_lock(&path, LockKind::Exclusive, true).unwrap().unwrap();
        assert!(is_still_named(&new.file, &path).unwrap());
    }

    #[test]
    fn waiting_ends_by_time_and_by_cancellation() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("lock");
        let held = LockFile::try_lock(&path, LockKind::Exclusive, true).unwrap().unwrap();
        let wait = |timeout, is_cancelled: &dyn Fn() -> bool| {
            LockFile::lock(&path, LockKind::Exclusive, true, timeout, is_cancelled)
        };
        assert!(matches!(
            wait(Some(Duration::from_millis(5)), &|| false),
            Err(LockError::TimedOut { .. })
        ));
        assert!(matches!(wait(None, &|| true), Err(LockError::Cancelled { .. })));
        drop(held);
        assert!(wait(None, &|| true).is_ok());
    }
}
