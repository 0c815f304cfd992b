use std::fs::{self, File};
use std::io;
use std::path::Path;

use super::{ContentError, ContentStore};
use crate::digest::Digest;

/// The right to delete from a [`ContentStore`]: while it lives nobody else writes there.
#[derive(Debug)]
pub struct Exclusive<'store> {
    store: &'store ContentStore,
    // Dropping it unlocks.
    _lock: File,
}

/// What a deletion freed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Freed {
    /// Files that were deleted.
    pub files: u64,
    /// Bytes that they took.
    pub bytes: u64,
}

impl<'store> Exclusive<'store> {
    pub(super) fn new(store: &'store ContentStore, lock: File) -> Self {
        Self { store, _lock: lock }
    }

    /// Deletes a blob; nothing happens if there is none.
    ///
    /// # Errors
    /// When it can't be deleted.
    pub fn remove(&self, digest: &Digest) -> Result<Freed, ContentError> {
        remove_file(&self.store.blob_path(digest))
    }

    /// Deletes every blob that is not to be kept.
    ///
    /// # Errors
    /// When a folder can't be read or a file can't be deleted.
    pub fn retain(&self, mut keep: impl FnMut(&Digest) -> bool) -> Result<Freed, ContentError> {
        let mut freed = Freed::default();
        for blob in self.store.blobs()? {
            if !keep(&blob.digest) {
                freed += self.remove(&blob.digest)?;
            }
        }
        Ok(freed)
    }

    /// Deletes unfinished downloads and what crashed writers left.
    ///
    /// # Errors
    /// When a folder can't be read or a file can't be deleted.
    pub fn remove_unfinished(&self) -> Result<Freed, ContentError> {
        let mut freed = Freed::default();
        for dir in [self.store.partial_dir(), self.store.tmp_dir()] {
            for entry in fs::read_dir(&dir).map_err(ContentError::io("reading", &dir))? {
                let entry = entry.map_err(ContentError::io("reading", &dir))?;
                freed += remove_file(&entry.path())?;
            }
        }
        Ok(freed)
    }
}

impl std::ops::AddAssign for Freed {
    fn add_assign(&mut self, other: Self) {
        self.files += other.files;
        self.bytes += other.bytes;
    }
}

fn remove_file(path: &Path) -> Result<Freed, ContentError> {
    let bytes = match fs::symlink_metadata(path) {
        Ok(metadata) => metadata.len(),
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Freed::default()),
        Err(error) => return Err(ContentError::io("examining", path)(error)),
    };
    fs::remove_file(path).map_err(ContentError::io("deleting", path))?;
    Ok(Freed { files: 1, bytes })
}
