use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use super::{ContentError, ContentStore, Lease};
use crate::digest::{Algorithm, Digest, Hasher};

/// A blob that is being written; hashed on the way.
#[derive(Debug)]
pub struct BlobWriter {
    hasher: Hasher,
    file: File,
    bytes: u64,
    pending: Temporary,
}

/// A blob that is written but not yet in the store; deleted unless it is committed.
#[derive(Debug)]
pub struct PendingBlob {
    digest: Digest,
    bytes: u64,
    pending: Temporary,
}

/// A file in the store's `tmp`, deleted when dropped.
#[derive(Debug)]
struct Temporary {
    store: ContentStore,
    path: PathBuf,
    // Without it a collection would delete the file under the writer.
    _lease: Lease,
}

impl Drop for Temporary {
    fn drop(&mut self) {
        match fs::remove_file(&self.path) {
            // Not found: it was committed.
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                tracing::warn!(path = %self.path.display(), %error, "cannot delete temporary file");
            }
            _ => {}
        }
    }
}

impl BlobWriter {
    pub(super) fn create(store: &ContentStore, algorithm: Algorithm, lease: Lease) -> Result<Self, ContentError> {
        loop {
            let path = store.tmp_dir().join(random_name()?);
            let created = OpenOptions::new()
                .read(true)
                .write(true)
                .create_new(true)
                .mode(0o600)
                .open(&path);
            match created {
                Ok(file) => {
                    let pending = Temporary {
                        store: store.clone(),
                        path,
                        _lease: lease,
                    };
                    return Ok(Self {
                        hasher: Hasher::new(algorithm),
                        file,
                        bytes: 0,
                        pending,
                    });
                }
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
                Err(error) => return Err(ContentError::io("creating", &path)(error)),
            }
        }
    }

    /// Appends to the blob.
    ///
    /// # Errors
    /// When the file system refuses.
    pub fn append(&mut self, content: &[u8]) -> Result<(), ContentError> {
        self.file
            .write_all(content)
            .map_err(ContentError::io("writing", &self.pending.path))?;
        self.hasher.update(content);
        self.bytes += content.len() as u64;
        Ok(())
    }

    /// Takes a whole file over without copying where the file system can share its blocks
    /// (`FICLONE`, see ioctl_ficlonerange(2)); `false` if it can't. The blob must be empty.
    ///
    /// # Errors
    /// When the shared file can't be read.
    pub fn share(&mut self, source: &File) -> Result<bool, ContentError> {
        debug_assert_eq!(self.bytes, 0, "a shared file replaces what was written");
        if rustix::fs::ioctl_ficlone(&self.file, source).is_err() {
            return Ok(false);
        }
        // What is hashed is the clone, which nobody else can change any more.
        let action = |error| ContentError::io("reading", &self.pending.path)(error);
        self.file.seek(SeekFrom::Start(0)).map_err(action)?;
        let mut buffer = vec![0; 1 << 18];
        loop {
            match self.file.read(&mut buffer).map_err(action)? {
                0 => return Ok(true),
                n => {
                    self.hasher.update(&buffer[..n]);
                    self.bytes += n as u64;
                }
            }
        }
    }

    /// Bytes written so far.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Ends the blob.
    ///
    /// # Errors
    /// Never at the moment; file systems that report errors late do so at the commit.
    pub fn finish(self) -> Result<PendingBlob, ContentError> {
        let Self {
            hasher, bytes, pending, ..
        } = self;
        Ok(PendingBlob {
            digest: hasher.finish(),
            bytes,
            pending,
        })
    }
}

impl PendingBlob {
    /// The digest of what was written.
    pub fn digest(&self) -> &Digest {
        &self.digest
    }

    /// How many bytes were written.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// The first bytes, at most `limit`.
    ///
    /// # Errors
    /// When they can't be read back.
    pub fn read(&self, limit: u64) -> Result<Vec<u8>, ContentError> {
        let path = &self.pending.path;
        let mut content = Vec::new();
        File::open(path)
            .and_then(|file| file.take(limit).read_to_end(&mut content))
            .map_err(ContentError::io("reading", path))?;
        Ok(content)
    }

    /// Syncs the blob to disk and puts it into the store.
    ///
    /// # Errors
    /// When the file system refuses.
    pub fn commit(self) -> Result<Digest, ContentError> {
        let Self { digest, bytes, pending } = self;
        if pending.store.size(&digest)? == Some(bytes) {
            return Ok(digest);
        }
        sync(&pending.path)?;
        pending.store.publish(&pending.path, &digest)?;
        Ok(digest)
    }

    /// Commits what must have this digest.
    ///
    /// # Errors
    /// When it has another, or the file system refuses.
    pub fn commit_as(self, expected: &Digest) -> Result<(), ContentError> {
        if self.digest != *expected {
            let actual = self.digest.clone();
            return Err(ContentError::Digest {
                expected: expected.clone(),
                actual,
            });
        }
        self.commit().map(drop)
    }
}

fn sync(path: &Path) -> Result<(), ContentError> {
    File::open(path)
        .and_then(|file| file.sync_all())
        .map_err(ContentError::io("syncing", path))
}

fn random_name() -> Result<String, ContentError> {
    let mut bytes = [0; 12];
    getrandom::fill(&mut bytes).map_err(|error| {
        let error = io::Error::other(error.to_string());
        ContentError::io("reading", Path::new("the system's random numbers"))(error)
    })?;
    Ok(bytes.iter().map(|byte| format!("{byte:02x}")).collect())
}
