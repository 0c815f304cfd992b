//! The guest's end of the stream to the host: a virtio-serial port.

use std::{
    fs,
    io::{self, IoSlice},
    os::fd::OwnedFd,
    path::{Path, PathBuf},
    pin::Pin,
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

/// An open port with a host at the other end.
pub(crate) struct Port {
    fd: AsyncFd<OwnedFd>,
    /// Where the parts of a vectored write are put together: each write is a
    /// round trip to the device.
    gathered: Vec<u8>,
}

/// Waits until the machine has a port named `name` and a host at its other end,
/// and opens it.
pub(crate) async fn open(name: &str) -> Port {
    let mut complained = false;
    let mut wait = Duration::from_millis(1);
    loop {
        match try_open(name) {
            Ok(Some(port)) => return port,
            Ok(None) => {}
            Err(error) if !complained => {
                complained = true;
                log!("port {name}: {error}");
            }
            Err(_) => {}
        }
        tokio::time::sleep(wait).await;
        // The port appears within milliseconds of the boot. A host that went away may
        // take its time to come back.
        wait = (wait + wait / 8).min(Duration::from_millis(20));
    }
}

fn try_open(name: &str) -> io::Result<Option<Port>> {
    let Some(device) = find(Path::new("/sys/class/virtio-ports"), name)? else {
        return Ok(None);
    };
    let fd = openat(
        CWD,
        &device,
        OFlags::RDWR | OFlags::NONBLOCK | OFlags::CLOEXEC,
        Mode::empty(),
    )?;
    // Without a host the port reads as ended, and epoll(7) would say so for ever.
    let mut fds = [PollFd::new(&fd, PollFlags::OUT)];
    poll(&mut fds, Some(&Timespec { tv_sec: 0, tv_nsec: 0 }))?;
    if fds[0].revents().contains(PollFlags::HUP) {
        return Ok(None);
    }
    Ok(Some(Port {
        fd: sys::watch(fd, Interest::READABLE | Interest::WRITABLE)?,
        gathered: Vec::with_capacity(WRITE_BYTES),
    }))
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
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        // One read(2) gives at most one page, however much has come.
        while buffer.remaining() > 0 {
            let mut ready = match self.fd.poll_read_ready(cx) {
                Poll::Ready(ready) => ready?,
                Poll::Pending if buffer.filled().len() > before => return Poll::Ready(Ok(())),
                Poll::Pending => return Poll::Pending,
            };
            match ready.try_io(|fd| Ok(rustix::io::read(fd, buffer.initialize_unfilled())?)) {
                Ok(Ok(0)) => break,
                Ok(Ok(count)) => buffer.advance(count),
                Ok(Err(error)) if buffer.filled().len() == before => return Poll::Ready(Err(error)),
                Ok(Err(_)) => break,
                Err(_would_block) if buffer.filled().len() > before => break,
                Err(_would_block) => {}
            }
        }
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
