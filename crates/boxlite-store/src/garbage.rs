//! Deleting what no row names, without touching what another process is just making.

use std::collections::HashSet;
use std::ffi::OsString;
use std::fs::{DirEntry, File, TryLockError};
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::allocation::allocated_bytes;
use crate::box_id::random_hex;
use crate::database::{DatabaseError, from_sqlite};
use crate::lock::{LockError, LockFile};
use crate::sys::LockKind;
use crate::{Home, box_row, images};

/// How thorough a collection is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct GarbageOptions {
    /// Blobs and parts of blobs that no image names, but that were written less than this ago,
    /// stay: a pull that was broken off goes on with them when it is tried again.
    pub keep_blobs_for: Duration,
}

/// Whether image files were looked at.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ImageCollection {
    /// They were.
    #[default]
    Done,
    /// Somebody is just pulling, loading or building; a later collection looks again.
    Deferred,
}

/// What a collection deleted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Collected {
    /// Folders of boxes without a row.
    pub box_folders: u64,
    /// Folders of things half-made.
    pub stagings: u64,
    /// Blobs, root filesystems and temporary files of images without a row.
    pub image_files: u64,
    /// What all that took.
    pub reclaimed_bytes: u64,
    /// Whether image files were looked at.
    pub images: ImageCollection,
}

/// Why a collection ended early. What it deleted until then was garbage.
#[derive(Debug, thiserror::Error)]
pub enum GarbageError {
    /// A folder could not be read or a file not deleted.
    #[error("can't clean up {}: {source}", path.display())]
    Io {
        /// Which one.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// A lock could not be had.
    #[error(transparent)]
    Lock(#[from] LockError),
    /// The database failed.
    #[error(transparent)]
    Database(#[from] DatabaseError),
}

from_sqlite!(GarbageError);

fn io_error(path: &Path) -> impl FnOnce(io::Error) -> GarbageError {
    move |source| GarbageError::Io {
        path: path.to_owned(),
        source,
    }
}

fn entries(path: &Path) -> Result<Vec<DirEntry>, GarbageError> {
    match std::fs::read_dir(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
        other => other.and_then(Iterator::collect).map_err(io_error(path)),
    }
}

fn delete(path: &Path) -> io::Result<()> {
    let result = match std::fs::symlink_metadata(path) {
        Ok(metadata) if metadata.is_dir() => std::fs::remove_dir_all(path),
        Ok(_) => std::fs::remove_file(path),
        Err(error) => Err(error),
    };
    match result {
        // Another process empties the same trash.
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other,
    }
}

/// Whether a file was written less than `age` ago, by its time stamp and this computer's clock.
fn is_younger_than(path: &Path, age: Duration) -> bool {
    let modified = std::fs::symlink_metadata(path).and_then(|metadata| metadata.modified());
    modified.is_ok_and(|modified| modified.elapsed().map_or(true, |elapsed| elapsed < age))
}

impl Home {
    /// Moves something that no row names out of everybody's sight; `None` if it is gone.
    fn put_into_trash(&self, path: &Path) -> io::Result<Option<PathBuf>> {
        let target = self.trash_dir().join(random_hex()?);
        match std::fs::rename(path, &target) {
            Ok(()) => Ok(Some(target)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Deletes something that no row names, and leaves to a later recovery what can't be.
    pub(crate) fn discard(&self, path: &Path) {
        let result = self
            .put_into_trash(path)
            .and_then(|target| target.map_or(Ok(()), |target| delete(&target)));
        if let Err(error) = result {
            tracing::warn!(path = %path.display(), %error, "left for the next recovery");
        }
    }

    /// Deletes what no row names: folders of boxes, things half-made, blobs and root
    /// filesystems. What somebody holds a lock on is just being made and stays. Any number of
    /// processes may do so at the same time as any others work. Blocks for as long as the
    /// deleting takes, without keeping others waiting.
    ///
    /// # Errors
    /// [`GarbageError`].
    pub fn collect_garbage(&self, options: &GarbageOptions) -> Result<Collected, GarbageError> {
        let mut collected = Collected::default();
        {
            // Nothing new arrives while this is held, so every folder seen below is either
            // locked by who makes it, recorded, or garbage.
            let _no_arrivals = self.lock_arrivals(LockKind::Exclusive)?;
            collected.box_folders = self.trash_boxes()?;
            collected.stagings = self.trash_stagings()?;
        }
        match self.try_own_image_files()? {
            Some(_own) => collected.image_files = self.trash_image_files(options)?,
            None => collected.images = ImageCollection::Deferred,
        }
        collected.reclaimed_bytes = self.empty_trash()?;
        Ok(collected)
    }

    fn trash_boxes(&self) -> Result<u64, GarbageError> {
        let folder = self.boxes_dir();
        // Listed before the rows are read: a folder that is recorded in between has a row then.
        let entries = entries(&folder)?;
        let named = self.box_ids()?;
        let is_named = |name: &OsString, ids: &HashSet<String>| name.to_str().is_some_and(|name| ids.contains(name));
        let mut unlocked = Vec::new();
        for entry in entries {
            let path = entry.path();
            if !is_named(&entry.file_name(), &named)
                && !LockFile::is_locked(&path.join("lock")).map_err(io_error(&path))?
            {
                unlocked.push(entry);
            }
        }
        if unlocked.is_empty() {
            return Ok(0);
        }
        // Whoever held a lock a moment ago, and not now, may have recorded its box meanwhile.
        let named = self.box_ids()?;
        let mut count = 0;
        for entry in unlocked {
            let path = entry.path();
            if !is_named(&entry.file_name(), &named) && self.put_into_trash(&path).map_err(io_error(&path))?.is_some() {
                count += 1;
            }
        }
        Ok(count)
    }

    fn box_ids(&self) -> Result<HashSet<String>, GarbageError> {
        self.database().read(|transaction| Ok(box_row::all_ids(transaction)?))
    }

    fn trash_stagings(&self) -> Result<u64, GarbageError> {
        let mut count = 0;
        for entry in entries(&self.tmp_dir())? {
            let path = entry.path();
            let is_locked = LockFile::is_locked(&path.join("lock")).map_err(io_error(&path))?;
            if !is_locked && self.put_into_trash(&path).map_err(io_error(&path))?.is_some() {
                count += 1;
            }
        }
        Ok(count)
    }

    /// The image files to oneself: no lease in this home, and nobody who writes to the content
    /// store by itself, which has a flock(2) lock of its own.
    fn try_own_image_files(&self) -> Result<Option<(LockFile, Option<File>)>, GarbageError> {
        let Some(own) = self.try_own_images()? else {
            return Ok(None);
        };
        let path = self.content_lock_path();
        let content_lock = match File::open(&path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Some((own, None))),
            Err(error) => return Err(io_error(&path)(error)),
        };
        match content_lock.try_lock() {
            Ok(()) => Ok(Some((own, Some(content_lock)))),
            Err(TryLockError::WouldBlock) => Ok(None),
            Err(TryLockError::Error(error)) => Err(io_error(&path)(error)),
        }
    }

    fn content_lock_path(&self) -> PathBuf {
        self.content_dir().join("lock")
    }

    /// Only with the image files to oneself.
    fn trash_image_files(&self, options: &GarbageOptions) -> Result<u64, GarbageError> {
        let content = self.content_dir();
        let mut named: HashSet<PathBuf> = HashSet::from([
            self.content_lock_path(),
            content.join("oci-layout"),
            content.join("index.json"),
        ]);
        self.database().read(|transaction| {
            named.extend(
                images::named_blobs(transaction)?
                    .iter()
                    .map(|(_, blob)| self.blob_path(blob)),
            );
            named.extend(images::built(transaction)?.iter().map(|image| self.rootfs_path(image)));
            Ok::<_, GarbageError>(())
        })?;
        let rootfs = content.join("rootfs");
        let mut count = 0;
        let mut pending = vec![content];
        while let Some(folder) = pending.pop() {
            for entry in entries(&folder)? {
                let path = entry.path();
                if entry.file_type().map_err(io_error(&path))?.is_dir() {
                    pending.push(path);
                    continue;
                }
                let is_named = named.contains(&path);
                let is_kept = !path.starts_with(&rootfs) && is_younger_than(&path, options.keep_blobs_for);
                if !is_named && !is_kept && self.put_into_trash(&path).map_err(io_error(&path))?.is_some() {
                    count += 1;
                }
            }
        }
        // Whoever waits for one of these has a lease, so nobody does.
        for entry in entries(&self.lock_path("."))? {
            if entry.file_name().to_string_lossy().starts_with("rootfs-") {
                let path = entry.path();
                delete(&path).map_err(io_error(&path))?;
            }
        }
        Ok(count)
    }

    fn empty_trash(&self) -> Result<u64, GarbageError> {
        let mut bytes = 0;
        for entry in entries(&self.trash_dir())? {
            let path = entry.path();
            bytes += allocated_bytes(&path).map_err(io_error(&path))?;
            delete(&path).map_err(io_error(&path))?;
        }
        Ok(bytes)
    }
}
