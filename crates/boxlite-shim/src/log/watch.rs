//! Waiting for the log to grow.

use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use rustix::fs::inotify;
use tokio::io::unix::AsyncFd;

use super::OUTPUT_LOG_NAME;

/// Tells when a box's log may have grown (inotify(7)). Make it before the first read, then
/// read to the end and wait, in turns: nothing is missed.
#[derive(Debug)]
pub struct Watch {
    notifications: AsyncFd<OwnedFd>,
    path: PathBuf,
}

impl Watch {
    /// A watch of the log in `box_dir`. Needs a tokio runtime with I/O.
    ///
    /// # Errors
    /// As inotify_add_watch(2): the folder is missing, or the user's limit of watches
    /// (`fs.inotify.max_user_watches`) or instances is reached.
    pub fn new(box_dir: &Path) -> io::Result<Self> {
        let notifications = inotify::init(inotify::CreateFlags::CLOEXEC | inotify::CreateFlags::NONBLOCK)?;
        // The folder tells of new files only: the box's disk is in it and is written all the time.
        inotify::add_watch(
            &notifications,
            box_dir,
            inotify::WatchFlags::CREATE
                | inotify::WatchFlags::MOVED_TO
                | inotify::WatchFlags::DELETE
                | inotify::WatchFlags::DELETE_SELF
                | inotify::WatchFlags::ONLYDIR,
        )?;
        #[expect(
            deprecated,
            reason = "an OwnedFd stays the same open descriptor, which `register` asks to be promised"
        )]
        let notifications = AsyncFd::new(notifications)?;
        let watch = Self {
            notifications,
            path: box_dir.join(OUTPUT_LOG_NAME),
        };
        watch.watch_file()?;
        Ok(watch)
    }

    /// Returns when something may have been written since the last call (or since the watch
    /// was made); now and then without reason. Cancel-safe.
    ///
    /// # Errors
    /// As inotify_add_watch(2) and read(2).
    pub async fn changed(&mut self) -> io::Result<()> {
        loop {
            let mut ready = self.notifications.readable().await?;
            let mut events = [0; 4096];
            match ready.try_io(|fd| Ok(rustix::io::read(fd, &mut events)?)) {
                Ok(result) => {
                    result?;
                    return self.watch_file();
                }
                Err(_would_block) => {}
            }
        }
    }

    fn watch_file(&self) -> io::Result<()> {
        let flags = inotify::WatchFlags::MODIFY | inotify::WatchFlags::MOVE_SELF;
        match inotify::add_watch(self.notifications.get_ref(), &self.path, flags) {
            Ok(_) | Err(rustix::io::Errno::NOENT) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Limits, Stream, Writer};
    use super::*;

    #[tokio::test]
    async fn wakes_for_writes_and_rotations() {
        let dir = tempfile::tempdir().unwrap();
        let mut watch = Watch::new(dir.path()).unwrap();
        let limits = Limits {
            max_file_bytes: 64 * 1024,
            max_files: 2,
        };
        let mut writer = Writer::open(dir.path(), limits).unwrap();
        watch.changed().await.unwrap();
        for _ in 0..4 {
            writer.append(Stream::Stdout, 0, &[b'x'; 60_000]).unwrap();
            watch.changed().await.unwrap();
        }
    }
}
