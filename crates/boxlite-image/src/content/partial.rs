use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use super::{ContentError, ContentStore, Lease};
use crate::digest::{Digest, Hasher};

/// What came of an attempt to begin or resume the download of a blob.
#[derive(Debug)]
pub(crate) enum Claim {
    /// The store has the blob.
    Exists,
    /// Another pull, in this process or in another, is at it.
    Busy,
    /// It is the caller's.
    Mine(Box<Partial>),
}

/// A download of a blob that survives its process and is continued by the next. Locked: only
/// one writer exists at a time, whatever process it is in.
#[derive(Debug)]
pub(crate) struct Partial {
    store: ContentStore,
    digest: Digest,
    size_bytes: u64,
    hasher: Hasher,
    // An flock(2) is on this open file description.
    file: File,
    path: PathBuf,
    written_bytes: u64,
    _lease: Lease,
}

/// Why a download did not become a blob.
#[derive(Debug)]
pub(crate) enum CommitError {
    Content(ContentError),
    /// The content is wrong. The partial is empty again.
    Digest {
        actual: Digest,
    },
}

impl Partial {
    /// Begins or resumes a blob of this digest and size. What is there already is read once,
    /// to hash it. Blocking.
    pub(crate) fn claim(store: &ContentStore, digest: &Digest, size_bytes: u64) -> Result<Claim, ContentError> {
        let lease = store.lease()?;
        let path = store.partial_path(digest);
        if exists(store, digest, size_bytes)? {
            return Ok(Claim::Exists);
        }
        let file = loop {
            let file = OpenOptions::new()
                .read(true)
                .write(true)
                .create(true)
                .truncate(false)
                .mode(0o600)
                .open(&path)
                .map_err(ContentError::io("creating", &path))?;
            match file.try_lock() {
                Ok(()) => {}
                Err(TryLockError::WouldBlock) => return Ok(Claim::Busy),
                Err(TryLockError::Error(error)) => {
                    return Err(ContentError::io("locking", &path)(error));
                }
            }
            // Between opening and locking its last owner may have made it a blob, or deleted
            // it: then the lock is on a file that no longer has this name.
            if same_file(&file, &path)? {
                break file;
            }
        };
        let mut partial = Self {
            hasher: Hasher::new(digest.algorithm()),
            store: store.clone(),
            digest: digest.clone(),
            size_bytes,
            file,
            path,
            written_bytes: 0,
            _lease: lease,
        };
        partial.take_in()?;
        // Its last owner may have finished it since the first look.
        if exists(store, digest, size_bytes)? {
            return Ok(Claim::Exists);
        }
        Ok(Claim::Mine(Box::new(partial)))
    }

    /// Hashes what an earlier attempt left.
    fn take_in(&mut self) -> Result<(), ContentError> {
        let path = self.path.clone();
        let found = self
            .file
            .metadata()
            .map_err(ContentError::io("examining", &path))?
            .len();
        if found > self.size_bytes {
            return self.restart();
        }
        let mut buffer = vec![0; 1 << 18];
        loop {
            match self
                .file
                .read(&mut buffer)
                .map_err(ContentError::io("reading", &path))?
            {
                0 => return Ok(()),
                n => {
                    self.hasher.update(&buffer[..n]);
                    self.written_bytes += n as u64;
                }
            }
        }
    }

    /// Bytes that are there.
    pub(crate) fn written_bytes(&self) -> u64 {
        self.written_bytes
    }

    /// Bytes that the whole blob has.
    pub(crate) fn size_bytes(&self) -> u64 {
        self.size_bytes
    }

    /// Appends to the download. The caller sees to it that it does not get too long.
    pub(crate) fn append(&mut self, content: &[u8]) -> Result<(), ContentError> {
        self.file
            .write_all(content)
            .map_err(ContentError::io("writing", &self.path))?;
        self.hasher.update(content);
        self.written_bytes += content.len() as u64;
        Ok(())
    }

    /// Throws away what is there.
    pub(crate) fn restart(&mut self) -> Result<(), ContentError> {
        self.file
            .set_len(0)
            .and_then(|()| self.file.seek(SeekFrom::Start(0)))
            .map_err(ContentError::io("truncating", &self.path))?;
        self.hasher = Hasher::new(self.digest.algorithm());
        self.written_bytes = 0;
        Ok(())
    }

    /// Verifies the download and makes it a blob.
    pub(crate) fn commit(&mut self) -> Result<(), CommitError> {
        let actual = self.hasher.clone().finish();
        if actual != self.digest {
            self.restart().map_err(CommitError::Content)?;
            return Err(CommitError::Digest { actual });
        }
        self.file
            .sync_all()
            .map_err(ContentError::io("syncing", &self.path))
            .and_then(|()| self.store.publish(&self.path, &self.digest))
            .map_err(CommitError::Content)
    }
}

impl Drop for Partial {
    fn drop(&mut self) {
        // An empty download is worth nothing; it is still locked, so it is still ours.
        if self.written_bytes == 0
            && same_file(&self.file, &self.path).unwrap_or(false)
            && let Err(error) = fs::remove_file(&self.path)
        {
            tracing::warn!(path = %self.path.display(), %error, "cannot delete empty download");
        }
    }
}

fn exists(store: &ContentStore, digest: &Digest, size_bytes: u64) -> Result<bool, ContentError> {
    match store.size(digest)? {
        None => Ok(false),
        Some(actual) if actual == size_bytes => Ok(true),
        Some(actual) => {
            // Either the store is damaged or the descriptor lies about the size.
            store.verify(digest)?;
            Err(ContentError::Size {
                digest: digest.clone(),
                expected: size_bytes,
                actual,
            })
        }
    }
}

fn same_file(file: &File, path: &Path) -> Result<bool, ContentError> {
    let ours = file.metadata().map_err(ContentError::io("examining", path))?;
    match fs::symlink_metadata(path) {
        Ok(there) => Ok((there.dev(), there.ino()) == (ours.dev(), ours.ino())),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(ContentError::io("examining", path)(error)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_that_lost_its_name_is_not_the_one_that_has_it_now() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("partial");
        let old = File::create(&path).unwrap();
        assert!(same_file(&old, &path).unwrap());
        fs::remove_file(&path).unwrap();
        assert!(!same_file(&old, &path).unwrap());
        let new = File::create(&path).unwrap();
        assert!(!same_file(&old, &path).unwrap() && same_file(&new, &path).unwrap());
    }
}
