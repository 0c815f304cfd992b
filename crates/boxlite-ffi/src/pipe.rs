//! Descriptors that are made here.

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};

use rustix::net::{AddressFamily, SocketFlags, SocketType, socketpair};
use rustix::pipe::{PipeFlags, pipe_with};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

/// What a pipe is asked to hold: a process goes on while its reader is away for a moment. The
/// user's limit for all pipes may not allow it; less is still a pipe.
const PIPE_BYTES: usize = 1 << 20;

/// A pair of descriptors: the library's end, which does not block, and the caller's, which does.
/// They are two open file descriptions, so that one's mode is not the other's.
#[derive(Debug)]
pub(crate) struct Pair {
    pub(crate) ours: OwnedFd,
    pub(crate) theirs: OwnedFd,
}

/// A pipe that the library writes to.
pub(crate) fn to_caller() -> io::Result<Pair> {
    let (reader, writer) = pipe_with(PipeFlags::CLOEXEC)?;
    enlarge(&writer);
    rustix::io::ioctl_fionbio(&writer, true)?;
    Ok(Pair {
        ours: writer,
        theirs: reader,
    })
}

/// A pipe that the library reads from.
pub(crate) fn from_caller() -> io::Result<Pair> {
    let (reader, writer) = pipe_with(PipeFlags::CLOEXEC)?;
    rustix::io::ioctl_fionbio(&reader, true)?;
    Ok(Pair {
        ours: reader,
        theirs: writer,
    })
}

/// A connection in both directions.
pub(crate) fn both_ways() -> io::Result<Pair> {
    let (ours, theirs) = socketpair(AddressFamily::UNIX, SocketType::STREAM, SocketFlags::CLOEXEC, None)?;
    rustix::io::ioctl_fionbio(&ours, true)?;
    Ok(Pair { ours, theirs })
}

#[cfg(target_os = "linux")]
fn enlarge(pipe: &OwnedFd) {
    let _ = rustix::pipe::fcntl_setpipe_size(pipe, PIPE_BYTES);
}

#[cfg(not(target_os = "linux"))]
fn enlarge(_pipe: &OwnedFd) {}

/// A copy of a descriptor that a caller owns.
pub(crate) fn duplicate(fd: RawFd) -> io::Result<OwnedFd> {
    if fd < 0 {
        return Err(io::Error::from_raw_os_error(libc::EBADF));
    }
    // SAFETY: only borrowed for the call below, which fails for a number that is no open
    // descriptor; nothing else is done with it.
    let borrowed = unsafe { BorrowedFd::borrow_raw(fd) };
    borrowed.try_clone_to_owned()
}

/// Lets the runtime watch a descriptor. Needs the runtime.
pub(crate) fn watch(fd: OwnedFd, interest: Interest) -> io::Result<AsyncFd<OwnedFd>> {
    // SAFETY: an `OwnedFd` keeps the same open descriptor, under the same number, for as long as
    // it lives, and it lives in what is made here.
    unsafe { AsyncFd::register_with_interest(fd, interest) }.map_err(Into::into)
}

/// A descriptor that is readable while it is raised.
#[derive(Debug)]
pub(crate) struct Event {
    reader: OwnedFd,
    #[cfg(not(target_os = "linux"))]
    writer: OwnedFd,
}

#[cfg(target_os = "linux")]
impl Event {
    pub(crate) fn new() -> io::Result<Self> {
        use rustix::event::{EventfdFlags, eventfd};
        let reader = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?;
        Ok(Self { reader })
    }

    fn writer(&self) -> BorrowedFd<'_> {
        self.reader.as_fd()
    }
}

#[cfg(not(target_os = "linux"))]
impl Event {
    pub(crate) fn new() -> io::Result<Self> {
        let (reader, writer) = pipe_with(PipeFlags::CLOEXEC)?;
        rustix::io::ioctl_fionbio(&reader, true)?;
        rustix::io::ioctl_fionbio(&writer, true)?;
        Ok(Self { reader, writer })
    }

    fn writer(&self) -> BorrowedFd<'_> {
        self.writer.as_fd()
    }
}

impl Event {
    /// Makes it readable, anew for those who wait for edges.
    pub(crate) fn raise(&self) {
        // It fails only where it is raised so often already that it stays raised.
        let _ = rustix::io::write(self.writer(), &1_u64.to_ne_bytes());
    }

    pub(crate) fn clear(&self) {
        let mut count = [0; 512];
        while rustix::io::read(&self.reader, &mut count).is_ok_and(|read| read == count.len()) {}
    }

    pub(crate) fn number(&self) -> RawFd {
        self.reader.as_raw_fd()
    }
}
