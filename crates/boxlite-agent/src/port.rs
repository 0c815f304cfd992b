//! The guest's end of the stream to the host: a virtio-serial port.

use std::{
    collections::VecDeque,
    fs,
    io::{self, IoSlice},
    os::fd::OwnedFd,
    path::{Path, PathBuf},
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll, ready},
    time::Duration,
};

use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    fs::{CWD, Mode, OFlags, openat},
};
use tokio::io::{AsyncRead, AsyncWrite, Interest, ReadBuf, unix::AsyncFd};

use crate::{console::log, sys};

/// How much one write(2) to a port takes (drivers/char/virtio_console.c).
const WRITE_BYTES: usize = 32 * 1024;

/// How many of the last bytes are remembered: a preamble.
const RECENT_BYTES: usize = 16;

/// The last bytes that were read, up to [`RECENT_BYTES`].
type Recent = Arc<Mutex<VecDeque<u8>>>;

/// The open device of a port. It stays open from host to host: closing it would throw
/// away what the next one has sent already.
#[derive(Debug)]
pub(crate) struct Device {
    fd: OwnedFd,
    recent: Recent,
}

impl Device {
    /// Waits until the machine has a port named `name`, and opens it.
    pub(crate) async fn open(name: &str) -> Self {
        let mut complained = false;
        loop {
            match Self::try_open(name) {
                Ok(Some(device)) => return device,
                Ok(None) => {}
                Err(error) if !complained => {
                    complained = true;
                    log!("port {name}: {error}");
                }
                Err(_) => {}
            }
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }

    fn try_open(name: &str) -> io::Result<Option<Self>> {
        let Some(path) = find(Path::new("/sys/class/virtio-ports"), name)? else {
            return Ok(None);
        };
        let flags = OFlags::RDWR | OFlags::NONBLOCK | OFlags::CLOEXEC;
        Ok(Some(Device {
            fd: openat(CWD, &path, flags, Mode::empty())?,
            recent: Recent::default(),
        }))
    }

    /// Waits until there is a host at the other end.
    pub(crate) async fn connect(&self) -> io::Result<Port> {
        let mut wait = Duration::from_millis(1);
        loop {
            // Without a host the port reads as ended, and epoll(7) would say so for ever.
            let mut fds = [PollFd::new(&self.fd, PollFlags::OUT)];
            poll(&mut fds, Some(&Timespec::default()))?;
            if !fds[0].revents().contains(PollFlags::HUP) {
                break;
            }
            tokio::time::sleep(wait).await;
            wait = (wait + wait / 8).min(Duration::from_millis(20));
        }
        let fd = self.fd.try_clone()?;
        Ok(Port {
            fd: sys::watch(fd, Interest::READABLE | Interest::WRITABLE)?,
            gathered: Vec::with_capacity(WRITE_BYTES),
            replay: std::mem::take(&mut *lock(&self.recent)),
            recent: Arc::clone(&self.recent),
        })
    }

    /// To be called when what was read so far has been understood.
    pub(crate) fn forget(&self) {
        lock(&self.recent).clear();
    }
}

fn lock(recent: &Mutex<VecDeque<u8>>) -> MutexGuard<'_, VecDeque<u8>> {
    recent.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A port with a host at the other end.
pub(crate) struct Port {
    fd: AsyncFd<OwnedFd>,
    /// Where the parts of a vectored write are put together: each write is a
    /// round trip to the device.
    gathered: Vec<u8>,
    /// What the last connection read last. When a host goes and another comes at once,
    /// nothing tells the two apart, and the preamble of the second breaks the connection
    /// of the first: here it is.
    replay: VecDeque<u8>,
    recent: Recent,
}

/// The device of the port named `name`, if it is there yet.
fn find(class: &Path, name: &str) -> io::Result<Option<PathBuf>> {
    let entries = match fs::read_dir(class) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    for entry in entries {
        let entry = entry?;
        // The file comes after the folder, with the host's message that names the port.
        if let Ok(found) = fs::read_to_string(entry.path().join("name"))
            && found.trim_end() == name
        {
            return Ok(Some(Path::new("/dev").join(entry.file_name())));
        }
    }
    Ok(None)
}

impl Port {
    fn write(&mut self, cx: &mut Context<'_>, bytes: Option<&[u8]>) -> Poll<io::Result<usize>> {
        let bytes = bytes.unwrap_or(&self.gathered);
        loop {
            let mut ready = ready!(self.fd.poll_write_ready(cx))?;
            let is_hung_up = ready.ready().is_write_closed();
            match ready.try_io(|fd| Ok(rustix::io::write(fd, bytes)?)) {
                Ok(result) => return Poll::Ready(result),
                // A port without a host takes nothing more, and its readiness never changes.
                Err(_would_block) if is_hung_up => return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into())),
                Err(_would_block) => {}
            }
        }
    }
}

impl AsyncRead for Port {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        if !self.replay.is_empty() {
            let (bytes, _) = self.replay.as_slices();
            let count = bytes.len().min(buffer.remaining());
            buffer.put_slice(&bytes[..count]);
            self.replay.drain(..count);
            return Poll::Ready(Ok(()));
        }
        let before = buffer.filled().len();
        // One read(2) gives at most one page, however much has come.
        while buffer.remaining() > 0 {
            let mut ready = match self.fd.poll_read_ready(cx) {
                Poll::Ready(ready) => ready?,
                Poll::Pending if buffer.filled().len() > before => return Poll::Ready(Ok(())),
                Poll::Pending => return Poll::Pending,
            };
            match ready.try_io(|fd| sys::read_into(fd.get_ref(), buffer)) {
                Ok(Ok(0)) => break,
                Ok(Ok(_)) => {}
                Ok(Err(error)) if buffer.filled().len() == before => return Poll::Ready(Err(error)),
                Ok(Err(_)) => break,
                Err(_would_block) if buffer.filled().len() > before => break,
                Err(_would_block) => {}
            }
        }
        let new = &buffer.filled()[before..];
        let mut recent = lock(&self.recent);
        recent.extend(&new[new.len().saturating_sub(RECENT_BYTES)..]);
        let surplus = recent.len().saturating_sub(RECENT_BYTES);
        recent.drain(..surplus);
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Port {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.write(cx, Some(bytes))
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        parts: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        if let Some(first) = parts.iter().find(|part| !part.is_empty())
            && first.len() >= WRITE_BYTES
        {
            return self.write(cx, Some(first));
        }
        let gathered = &mut self.gathered;
        gathered.clear();
        for part in parts {
            let room = WRITE_BYTES - gathered.len();
            gathered.extend_from_slice(&part[..part.len().min(room)]);
        }
        self.write(cx, None)
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ports_are_found_by_name() {
        let class = tempfile::tempdir().unwrap();
        assert_eq!(find(&class.path().join("missing"), "a").unwrap(), None);
        for (port, name) in [("vport0p0", None), ("vport0p1", Some("other")), ("vport1p2", Some("a"))] {
            let dir = class.path().join(port);
            fs::create_dir(&dir).unwrap();
            if let Some(name) = name {
                fs::write(dir.join("name"), format!("{name}\n")).unwrap();
            }
        }
        assert_eq!(find(class.path(), "a").unwrap(), Some("/dev/vport1p2".into()));
        assert_eq!(find(class.path(), "b").unwrap(), None);
    }
}
