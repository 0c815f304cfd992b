use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, Read};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::SystemTime;

use crate::digest::{Algorithm, Digest, Hasher};
use crate::kind::ErrorKind;
use crate::media_type::Compression;

mod exclusive;
mod partial;
mod writer;

pub use exclusive::{Exclusive, Freed};
pub(crate) use partial::{Claim, CommitError, Partial};
pub use writer::{BlobWriter, PendingBlob};

/// Content by digest: the blobs of images, laid out as the OCI image layout has them.
///
/// ```text
/// blobs/sha256/<hex>   whole and verified; immutable
/// partial/<alg>-<hex>  downloads that may be resumed, locked while someone writes
/// tmp/<random>         what is being written from elsewhere
/// lock                 shared by everyone who writes, exclusive to delete
/// ```
///
/// A blob appears under its name only when it is whole, verified and on disk. Several
/// processes may use one store. All methods block, but none for long except on the file
/// system; the value is cheap to clone.
#[derive(Debug, Clone)]
pub struct ContentStore {
    root: Arc<Path>,
}

/// Why something could not be read from or written to a content store.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ContentError {
    /// A file or folder of the store could not be used.
    #[error("{action} {path}: {source}", path = .path.display())]
    Io {
        /// What was tried, e.g. "creating".
        action: &'static str,
        /// Where.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// The blob is not in the store.
    #[error("blob {digest} is not in the content store")]
    Missing {
        /// Which blob.
        digest: Digest,
    },
    /// The content's digest is another than it should be.
    #[error("content is damaged: its digest should be {expected} but is {actual}")]
    Digest {
        /// What it should be.
        expected: Digest,
        /// What it is.
        actual: Digest,
    },
    /// The content's size is another than it should be.
    #[error("blob {digest} should be {expected} bytes long but is {actual}")]
    Size {
        /// Which blob.
        digest: Digest,
        /// What it should be.
        expected: u64,
        /// What it is.
        actual: u64,
    },
    /// The blob is longer than the caller will read.
    #[error("blob {digest} is {bytes} bytes long; at most {limit} are allowed here")]
    TooLong {
        /// Which blob.
        digest: Digest,
        /// How long it is.
        bytes: u64,
        /// The limit.
        limit: u64,
    },
}

impl ContentError {
    pub(crate) fn io(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_owned();
        move |source| Self::Io { action, path, source }
    }

    /// The coarse class of this failure.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::Io { source, .. } => match ErrorKind::of_io(source) {
                ErrorKind::NoSpace => ErrorKind::NoSpace,
                _ => ErrorKind::Io,
            },
            Self::Missing { .. } => ErrorKind::NotFound,
            Self::Digest { .. } | Self::Size { .. } => ErrorKind::Corrupt,
            Self::TooLong { .. } => ErrorKind::TooLarge,
        }
    }

    /// The likely cause and what to try next.
    pub fn hint(&self) -> &'static str {
        match self.kind() {
            ErrorKind::NoSpace => {
                "free some space: `boxlite system df` shows what takes it, `boxlite system prune` frees it"
            }
            ErrorKind::NotFound => "pull or load the image again",
            ErrorKind::Corrupt => "remove the image and pull or load it again; if it comes back, check the disk",
            ErrorKind::TooLarge => "raise the limit if you trust where the image comes from",
            _ => "check the permissions and the health of the file system that holds boxlite's home",
        }
    }
}

/// One blob of a store.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BlobInfo {
    /// Its digest.
    pub digest: Digest,
    /// Its size in bytes.
    pub size_bytes: u64,
    /// When it was written.
    pub modified: Option<SystemTime>,
}

/// As long as this lives nobody deletes anything from the store. See [`ContentStore::lease`].
#[derive(Debug, Clone)]
pub struct Lease {
    // An flock(2) on an open file description of its own: dropping the last clone unlocks.
    _file: Arc<File>,
}

impl ContentStore {
    /// Opens the store in a folder; creates what is missing (mode 0700).
    ///
    /// # Errors
    /// When folders or the lock file can't be created.
    pub fn open(root: impl Into<PathBuf>) -> Result<Self, ContentError> {
        let store = Self {
            root: Arc::from(root.into()),
        };
        let blobs = Algorithm::ALL.map(|algorithm| store.blob_dir(algorithm));
        for dir in blobs.iter().chain(&[store.partial_dir(), store.tmp_dir()]) {
            let mut builder = fs::DirBuilder::new();
            std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
            builder
                .recursive(true)
                .create(dir)
                .map_err(ContentError::io("creating", dir))?;
        }
        store.open_lock()?;
        Ok(store)
    }

    /// The folder that the store is in.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// Where a blob is, or would be.
    pub fn blob_path(&self, digest: &Digest) -> PathBuf {
        self.blob_dir(digest.algorithm()).join(digest.hex())
    }

    /// Whether the store has a blob.
    ///
    /// # Errors
    /// When the file system can't tell.
    pub fn contains(&self, digest: &Digest) -> Result<bool, ContentError> {
        Ok(self.size(digest)?.is_some())
    }

    /// The size of a blob in bytes; `None` if the store does not have it.
    ///
    /// # Errors
    /// When the file system can't tell.
    pub fn size(&self, digest: &Digest) -> Result<Option<u64>, ContentError> {
        let path = self.blob_path(digest);
        match fs::symlink_metadata(&path) {
            Ok(metadata) => Ok(Some(metadata.len())),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(ContentError::io("examining", &path)(error)),
        }
    }

    /// Opens a blob for reading. Its content was verified when it was written and is not
    /// verified again.
    ///
    /// # Errors
    /// When the store does not have it or it can't be opened.
    pub fn open_blob(&self, digest: &Digest) -> Result<File, ContentError> {
        let path = self.blob_path(digest);
        File::open(&path).map_err(|error| match error.kind() {
            io::ErrorKind::NotFound => ContentError::Missing { digest: digest.clone() },
            _ => ContentError::io("opening", &path)(error),
        })
    }

    /// Reads a small blob whole, and verifies it.
    ///
    /// # Errors
    /// When it is missing, longer than `limit` bytes, or damaged.
    pub fn read(&self, digest: &Digest, limit: u64) -> Result<Vec<u8>, ContentError> {
        let path = self.blob_path(digest);
        let file = self.open_blob(digest)?;
        let bytes = file.metadata().map_err(ContentError::io("examining", &path))?.len();
        if bytes > limit {
            return Err(ContentError::TooLong {
                digest: digest.clone(),
                bytes,
                limit,
            });
        }
        let mut content = Vec::new();
        file.take(limit)
            .read_to_end(&mut content)
            .map_err(ContentError::io("reading", &path))?;
        let mut hasher = Hasher::new(digest.algorithm());
        hasher.update(&content);
        let actual = hasher.finish();
        if actual != *digest {
            return Err(ContentError::Digest {
                expected: digest.clone(),
                actual,
            });
        }
        Ok(content)
    }

    /// Reads a blob and compares it with its digest. Takes as long as reading it does.
    ///
    /// # Errors
    /// When it is missing, unreadable or damaged.
    pub fn verify(&self, digest: &Digest) -> Result<(), ContentError> {
        let path = self.blob_path(digest);
        let mut file = self.open_blob(digest)?;
        let mut hasher = Hasher::new(digest.algorithm());
        let mut buffer = vec![0; 1 << 18];
        loop {
            match file.read(&mut buffer).map_err(ContentError::io("reading", &path))? {
                0 => break,
                n => hasher.update(&buffer[..n]),
            }
        }
        let actual = hasher.finish();
        if actual != *digest {
            return Err(ContentError::Digest {
                expected: digest.clone(),
                actual,
            });
        }
        Ok(())
    }

    /// How a blob is compressed, by its first bytes.
    ///
    /// # Errors
    /// When it is missing or unreadable.
    pub fn compression(&self, digest: &Digest) -> Result<Compression, ContentError> {
        let mut start = Vec::with_capacity(Compression::MAGIC_BYTES);
        self.open_blob(digest)?
            .take(Compression::MAGIC_BYTES as u64)
            .read_to_end(&mut start)
            .map_err(ContentError::io("reading", &self.blob_path(digest)))?;
        Ok(Compression::detect(&start))
    }

    /// Stores some bytes under their SHA-256 digest.
    ///
    /// # Errors
    /// When they can't be written.
    pub fn write(&self, content: &[u8]) -> Result<Digest, ContentError> {
        let digest = Digest::sha256(content);
        if self.size(&digest)? != Some(content.len() as u64) {
            self.write_as(&digest, content)?;
        }
        Ok(digest)
    }

    /// Stores some bytes that must have this digest.
    ///
    /// # Errors
    /// When they have another, or can't be written.
    pub fn write_as(&self, digest: &Digest, content: &[u8]) -> Result<(), ContentError> {
        let mut writer = self.writer(digest.algorithm())?;
        writer.append(content)?;
        writer.finish()?.commit_as(digest)
    }

    /// Begins a blob whose digest may not be known yet. Nothing of it remains unless it is
    /// committed.
    ///
    /// # Errors
    /// When no temporary file can be created.
    pub fn writer(&self, algorithm: Algorithm) -> Result<BlobWriter, ContentError> {
        BlobWriter::create(self, algorithm, self.lease()?)
    }

    /// As [`writer`](Self::writer), under a lease that the caller holds already.
    ///
    /// # Errors
    /// When no temporary file can be created.
    pub fn writer_under(&self, lease: &Lease, algorithm: Algorithm) -> Result<BlobWriter, ContentError> {
        BlobWriter::create(self, algorithm, lease.clone())
    }

    /// Keeps everybody from deleting anything from this store for as long as the result
    /// lives.
    ///
    /// Hold a lease from before an image is pulled or loaded until what records the image (a
    /// database) is written: otherwise a collection in between takes its blobs for garbage.
    ///
    /// # Errors
    /// When the lock file can't be opened or locked.
    pub fn lease(&self) -> Result<Lease, ContentError> {
        let file = self.open_lock()?;
        file.lock_shared()
            .map_err(ContentError::io("locking", &self.lock_path()))?;
        Ok(Lease { _file: Arc::new(file) })
    }

    /// The right to delete, if nobody holds a lease (no pull or load is under way); does not
    /// wait.
    ///
    /// # Errors
    /// When the lock file can't be opened or locked.
    pub fn try_exclusive(&self) -> Result<Option<Exclusive<'_>>, ContentError> {
        let file = self.open_lock()?;
        match file.try_lock() {
            Ok(()) => Ok(Some(Exclusive::new(self, file))),
            Err(TryLockError::WouldBlock) => Ok(None),
            Err(TryLockError::Error(error)) => Err(ContentError::io("locking", &self.lock_path())(error)),
        }
    }

    /// Every blob of the store, in no particular order. Foreign files are passed over.
    ///
    /// # Errors
    /// When a folder can't be read.
    pub fn blobs(&self) -> Result<Vec<BlobInfo>, ContentError> {
        let mut blobs = Vec::new();
        for algorithm in Algorithm::ALL {
            let dir = self.blob_dir(algorithm);
            for entry in fs::read_dir(&dir).map_err(ContentError::io("reading", &dir))? {
                let entry = entry.map_err(ContentError::io("reading", &dir))?;
                let name = entry.file_name();
                let Some(digest) = name.to_str().and_then(|hex| Digest::from_hex(algorithm, hex).ok()) else {
                    continue;
                };
                let metadata = match entry.metadata() {
                    Ok(metadata) => metadata,
                    // Deleted since the folder was read.
                    Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                    Err(error) => return Err(ContentError::io("examining", &entry.path())(error)),
                };
                let modified = metadata.modified().ok();
                blobs.push(BlobInfo {
                    digest,
                    size_bytes: metadata.len(),
                    modified,
                });
            }
        }
        Ok(blobs)
    }

    /// Bytes that unfinished downloads and temporary files take.
    ///
    /// # Errors
    /// When a folder can't be read.
    pub fn unfinished_bytes(&self) -> Result<u64, ContentError> {
        let mut bytes = 0;
        for dir in [self.partial_dir(), self.tmp_dir()] {
            for entry in fs::read_dir(&dir).map_err(ContentError::io("reading", &dir))? {
                let entry = entry.map_err(ContentError::io("reading", &dir))?;
                bytes += entry.metadata().map_or(0, |metadata| metadata.len());
            }
        }
        Ok(bytes)
    }

    /// Bytes that an unprivileged user may still write to the store's file system.
    ///
    /// # Errors
    /// When the file system can't tell.
    pub fn free_bytes(&self) -> Result<u64, ContentError> {
        let stat = rustix::fs::statvfs(&*self.root)
            .map_err(|errno| ContentError::io("examining", &self.root)(errno.into()))?;
        Ok(stat.f_bavail.saturating_mul(stat.f_frsize))
    }

    /// Bytes of an unfinished download that may be resumed.
    pub(crate) fn partial_bytes(&self, digest: &Digest) -> u64 {
        fs::symlink_metadata(self.partial_path(digest)).map_or(0, |metadata| metadata.len())
    }

    /// Deletes a blob that turned out not to be what its name says, so that it can be
    /// fetched again. Needs no exclusive access: nobody can want what is deleted.
    pub(crate) fn discard_damaged(&self, digest: &Digest) -> Result<(), ContentError> {
        match self.verify(digest) {
            Err(ContentError::Digest { .. }) => {
                let path = self.blob_path(digest);
                tracing::warn!(%digest, "deleting a damaged blob");
                match fs::remove_file(&path) {
                    Err(error) if error.kind() != io::ErrorKind::NotFound => {
                        Err(ContentError::io("deleting", &path)(error))
                    }
                    _ => Ok(()),
                }
            }
            Ok(()) | Err(ContentError::Missing { .. }) => Ok(()),
            Err(other) => Err(other),
        }
    }

    fn open_lock(&self) -> Result<File, ContentError> {
        let path = self.lock_path();
        OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(&path)
            .map_err(ContentError::io("opening", &path))
    }

    fn blob_dir(&self, algorithm: Algorithm) -> PathBuf {
        self.root.join("blobs").join(algorithm.as_str())
    }

    fn partial_dir(&self) -> PathBuf {
        self.root.join("partial")
    }

    fn partial_path(&self, digest: &Digest) -> PathBuf {
        self.partial_dir()
            .join(format!("{}-{}", digest.algorithm().as_str(), digest.hex()))
    }

    fn tmp_dir(&self) -> PathBuf {
        self.root.join("tmp")
    }

    fn lock_path(&self) -> PathBuf {
        self.root.join("lock")
    }

    /// Makes a whole, verified and synced file a blob.
    fn publish(&self, from: &Path, digest: &Digest) -> Result<(), ContentError> {
        let path = self.blob_path(digest);
        fs::rename(from, &path).map_err(ContentError::io("creating", &path))?;
        let dir = self.blob_dir(digest.algorithm());
        File::open(&dir)
            .and_then(|dir| dir.sync_all())
            .map_err(ContentError::io("syncing", &dir))
    }
}

#[cfg(test)]
mod tests;
