//! Reading and writing descriptors that callers give: whatever they are, in whatever mode.
//!
//! Their mode is shared with the caller, so that it can't be changed. A pipe is opened once more
//! without blocking, a socket is asked not to block call by call, and everything else is left to
//! threads that may block.

use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd, RawFd};
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use rustix::fs::{FileType, Mode, OFlags, fstat, open};
use rustix::net::{RecvFlags, SendFlags, recv, send};
use tokio::io::unix::AsyncFd;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt, Interest, ReadBuf};

use crate::error::Failure;
use crate::pipe::{duplicate, watch};

/// What is copied at a time.
const CHUNK_BYTES: usize = 256 * 1024;

/// A copy of a descriptor that was given.
pub(crate) fn taken(name: &str, fd: RawFd) -> Result<OwnedFd, Failure> {
    duplicate(fd).map_err(|error| Failure::system(&format!("{name} {fd}"), error))
}

/// The same for one that -1 stands for "nowhere".
pub(crate) fn taken_output(name: &str, fd: RawFd) -> Result<Option<OwnedFd>, Failure> {
    if fd == -1 { Ok(None) } else { taken(name, fd).map(Some) }
}

#[derive(Debug)]
enum Channel {
    Pipe(AsyncFd<OwnedFd>),
    Socket(AsyncFd<OwnedFd>),
    File(tokio::fs::File),
}

impl Channel {
    fn new(fd: OwnedFd, interest: Interest, access: OFlags) -> io::Result<Self> {
        match FileType::from_raw_mode(fstat(&fd)?.st_mode) {
            FileType::Fifo => match reopen(&fd, access) {
                Ok(own) => Ok(Self::Pipe(watch(own, interest)?)),
                // One that another user made, or no /proc.
                Err(_) => Ok(Self::file(fd)),
            },
            FileType::Socket => Ok(Self::Socket(watch(fd, interest)?)),
            _ => Ok(Self::file(fd)),
        }
    }

    fn file(fd: OwnedFd) -> Self {
        Self::File(tokio::fs::File::from_std(fd.into()))
    }
}

fn reopen(fd: &OwnedFd, access: OFlags) -> io::Result<OwnedFd> {
    let path = format!("/proc/self/fd/{}", fd.as_fd().as_raw_fd());
    Ok(open(path, access | OFlags::NONBLOCK | OFlags::CLOEXEC, Mode::empty())?)
}

/// A descriptor that is read until it ends.
#[derive(Debug)]
pub(crate) struct CallersInput(Channel);

impl CallersInput {
    /// Needs the runtime.
    pub(crate) fn new(fd: OwnedFd) -> Result<Self, Failure> {
        Channel::new(fd, Interest::READABLE, OFlags::RDONLY)
            .map(Self)
            .map_err(|error| Failure::system("reading the given descriptor", error))
    }
}

fn poll_fd(
    fd: &AsyncFd<OwnedFd>,
    context: &mut Context<'_>,
    buffer: &mut ReadBuf<'_>,
    read: impl Fn(&OwnedFd, &mut [u8]) -> rustix::io::Result<usize>,
) -> Poll<io::Result<()>> {
    loop {
        let mut ready = std::task::ready!(fd.poll_read_ready(context))?;
        let unfilled = buffer.initialize_unfilled();
        let result = ready.try_io(|fd| Ok(rustix::io::retry_on_intr(|| read(fd.get_ref(), &mut *unfilled))?));
        if let Ok(result) = result {
            return Poll::Ready(result.map(|count| buffer.advance(count)));
        }
    }
}

impl AsyncRead for CallersInput {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match &mut self.0 {
            Channel::Pipe(fd) => poll_fd(fd, context, buffer, |fd, space| rustix::io::read(fd, space)),
            Channel::Socket(fd) => poll_fd(fd, context, buffer, |fd, space| {
                recv(fd, space, RecvFlags::DONTWAIT).map(|(count, _)| count)
            }),
            Channel::File(file) => Pin::new(file).poll_read(context, buffer),
        }
    }
}

/// A descriptor that is written to.
#[derive(Debug)]
pub(crate) struct CallersOutput(Channel);

impl CallersOutput {
    /// Needs the runtime.
    pub(crate) fn new(fd: OwnedFd) -> Result<Self, Failure> {
        Channel::new(fd, Interest::WRITABLE, OFlags::WRONLY)
            .map(Self)
            .map_err(|error| Failure::system("writing the given descriptor", error))
    }

    async fn write_some(&mut self, data: &[u8]) -> io::Result<()> {
        let (fd, is_socket) = match &mut self.0 {
            Channel::Pipe(fd) => (fd, false),
            Channel::Socket(fd) => (fd, true),
            Channel::File(file) => {
                file.write_all(data).await?;
                // A file of the runtime answers before it has written.
                return file.flush().await;
            }
        };
        let mut rest = data;
        while !rest.is_empty() {
            let written = fd.async_io(Interest::WRITABLE, |fd| {
                // SIGPIPE is blocked on the threads that this runs on.
                Ok(rustix::io::retry_on_intr(|| {
                    if is_socket {
                        send(fd, rest, SendFlags::DONTWAIT | SendFlags::NOSIGNAL)
                    } else {
                        rustix::io::write(fd, rest)
                    }
                })?)
            });
            rest = &rest[written.await?..];
        }
        Ok(())
    }

    pub(crate) async fn write(&mut self, data: Bytes) -> Result<(), Failure> {
        self.write_some(&data)
            .await
            .map_err(|error| Failure::system("writing the given descriptor", error))
    }

    /// Writes all that `source` has.
    pub(crate) async fn write_all_of(&mut self, mut source: impl AsyncRead + Unpin) -> Result<(), Failure> {
        let mut buffer = vec![0; CHUNK_BYTES];
        loop {
            let count = source
                .read(&mut buffer)
                .await
                .map_err(|error| Failure::new(crate::code::Code::Engine, error.to_string()))?;
            if count == 0 {
                return Ok(());
            }
            self.write_some(&buffer[..count])
                .await
                .map_err(|error| Failure::system("writing the given descriptor", error))?;
        }
    }
}
