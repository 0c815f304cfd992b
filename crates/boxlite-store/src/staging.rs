//! A private folder for something half-made, which disappears with its maker.

use std::fs::{DirBuilder, File};
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use crate::Home;
use crate::box_id::random_hex;
use crate::lock::{LockError, LockFile};
use crate::sys::LockKind;

/// A folder in the home, on the same file system as everything else there, locked for as long
/// as this value lives. Dropped, or left behind by a crash, it disappears with what is in it.
#[derive(Debug)]
pub struct Staging {
    home: Home,
    path: PathBuf,
    _lock: LockFile,
}

/// Why something could not be staged or published.
#[derive(Debug, thiserror::Error)]
pub enum StageError {
    /// A file or folder could not be made, written out or renamed.
    #[error("can't stage {}: {source}", path.display())]
    Io {
        /// Which one.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The lock could not be had.
    #[error(transparent)]
    Lock(#[from] LockError),
}

impl Home {
    /// A new empty folder for something half-made.
    ///
    /// # Errors
    /// [`StageError`].
    pub fn stage(&self) -> Result<Staging, StageError> {
        let tmp = self.tmp_dir();
        let name = random_hex().map_err(|source| StageError::Io {
            path: tmp.clone(),
            source,
        })?;
        let path = tmp.join(name);
        let _arriving = self.lock_arrivals(LockKind::Shared)?;
        DirBuilder::new()
            .mode(0o700)
            .create(&path)
            .map_err(|source| StageError::Io {
                path: path.clone(),
                source,
            })?;
        match LockFile::lock(&path.join("lock"), LockKind::Exclusive, true, None, &|| false) {
            Ok(lock) => Ok(Staging {
                home: self.clone(),
                path,
                _lock: lock,
            }),
            Err(error) => {
                self.discard(&path);
                Err(error.into())
            }
        }
    }
}

impl Staging {
    /// The folder. The name `lock` in it is taken.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Writes the file or folder `name` out to the disk and moves it to `destination` in the
    /// home, where it replaces a file atomically. The contents of a folder must have been
    /// written out by who made them.
    ///
    /// # Errors
    /// [`StageError::Io`].
    pub fn publish(&self, name: &str, destination: &Path) -> Result<(), StageError> {
        let source_path = self.path.join(name);
        let sync = |path: &Path| {
            File::open(path)
                .and_then(|file| file.sync_all())
                .map_err(|source| StageError::Io {
                    path: path.to_owned(),
                    source,
                })
        };
        sync(&source_path)?;
        std::fs::rename(&source_path, destination).map_err(|source| StageError::Io {
            path: destination.to_owned(),
            source,
        })?;
        destination.parent().map_or(Ok(()), sync)
    }
}

impl Drop for Staging {
    fn drop(&mut self) {
        self.home.discard(&self.path);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_published_stays_and_the_rest_goes() {
        let directory = tempfile::tempdir().unwrap();
        let home = Home::open(directory.path()).unwrap();
        let staging = home.stage().unwrap();
        std::fs::write(staging.path().join("wanted"), "w").unwrap();
        std::fs::write(staging.path().join("unwanted"), "u").unwrap();
        let destination = home.bundles_dir().join("wanted");
        staging.publish("wanted", &destination).unwrap();
        assert!(matches!(
            staging.publish("absent", &destination),
            Err(StageError::Io { .. })
        ));
        drop(staging);
        assert_eq!(std::fs::read(destination).unwrap(), b"w");
        assert_eq!(std::fs::read_dir(home.tmp_dir()).unwrap().count(), 0);
        assert_eq!(std::fs::read_dir(home.trash_dir()).unwrap().count(), 0);
    }
}
