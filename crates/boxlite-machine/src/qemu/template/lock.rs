//! Locks of templates: one for each name.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use rustix::fs::{FlockOperation, flock};
use rustix::io::Errno;

/// Behind the name of the template.
pub(super) const SUFFIX: &str = ".lock";

/// The right to make or to remove what has one name in a folder of templates. It ends with the
/// process that has it, however that ends.
#[derive(Debug)]
pub(super) struct KeyLock {
    file: File,
    path: PathBuf,
}

impl KeyLock {
    /// Takes the lock, unless another has it. Blocking, briefly.
    pub(super) fn try_take(dir: &Path, key: &str) -> io::Result<Option<Self>> {
        let mut path = dir.join(format!("{key}{SUFFIX}"));
        loop {
            let file = OpenOptions::new()
                .create(true)
                .truncate(false)
                .write(true)
                .mode(0o600)
                .open(&path)?;
            match flock(&file, FlockOperation::NonBlockingLockExclusive) {
                Ok(()) => {}
                Err(Errno::WOULDBLOCK) => return Ok(None),
                Err(error) => return Err(error.into()),
            }
            let lock = Self { file, path };
            // Whoever had it may have removed the file after it was opened here: this lock would
            // be worth nothing, since the next one makes a new file.
            if lock.is_named()? {
                return Ok(Some(lock));
            }
            path = lock.path;
        }
    }

    /// Gives the lock back, with its file.
    pub(super) fn remove(self) -> io::Result<()> {
        // Before it is unlocked: from now on everybody makes a new file.
        std::fs::remove_file(&self.path)
    }

    fn is_named(&self) -> io::Result<bool> {
        let held = self.file.metadata()?;
        match std::fs::symlink_metadata(&self.path) {
            Ok(named) => Ok((named.dev(), named.ino()) == (held.dev(), held.ino())),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
            Err(error) => Err(error),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU32, Ordering};

    use super::*;

    #[test]
    fn a_lock_that_is_removed_can_be_taken_anew() {
        let dir = tempfile::tempdir().unwrap();
        let lock = KeyLock::try_take(dir.path(), "a").unwrap().unwrap();
        assert!(KeyLock::try_take(dir.path(), "a").unwrap().is_none());
        assert!(KeyLock::try_take(dir.path(), "b").unwrap().is_some());
        lock.remove().unwrap();
        assert!(!dir.path().join("a.lock").exists());
        assert!(KeyLock::try_take(dir.path(), "a").unwrap().is_some());
    }

    #[test]
    fn nobody_shares_a_lock_with_another_while_files_come_and_go() {
        let dir = tempfile::tempdir().unwrap();
        let holders = AtomicU32::new(0);
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    for _ in 0..2000 {
                        let Some(lock) = KeyLock::try_take(dir.path(), "a").unwrap() else {
                            continue;
                        };
                        assert_eq!(holders.fetch_add(1, Ordering::SeqCst), 0);
                        std::thread::yield_now();
                        holders.fetch_sub(1, Ordering::SeqCst);
                        lock.remove().unwrap();
                    }
                });
            }
        });
    }
}
