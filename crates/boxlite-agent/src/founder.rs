//! The process that founds the box: forked before the host says hello, as the first of the
//! box's PID namespace, it makes the other namespaces and all that is mounted in them
//! whatever the box is. Told which box it is to be, it puts the root together; then it becomes
//! process 1.
//!
//! One process does all of it because a fork is expensive in a machine that was just restored
//! under emulation: none of the code for it has been translated yet.

use std::{
    fs,
    io::{self, IoSlice, IoSliceMut},
    mem::MaybeUninit,
    os::fd::{AsFd as _, BorrowedFd, OwnedFd},
    sync::Arc,
};

use boxlite_protocol::guest::{ConfigureRequest, ProcessSpec};
use prost::Message as _;
use rustix::{
    net::{
        AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage,
        SendFlags, SocketFlags, SocketType, recvmsg, sendmsg, socketpair,
    },
    thread::set_name,
};
use tokio::io::{Interest, unix::AsyncFd};

use crate::{
    cgroup,
    child::{self, Child},
    disks::Disks,
    first_process::FirstProcess,
    launch::{Entry, Launch},
    rootfs::Site,
    sys,
};

/// The streams of the main process and the pipe of its report.
const MAIN_FDS: usize = 4;
/// A message with more bytes is none: the host's are smaller (`MESSAGE_LIMIT_BYTES`).
const MESSAGE_BYTES: usize = 64 << 20;

/// The agent's side of it.
#[derive(Debug)]
pub(crate) struct Founder {
    child: Arc<Child>,
    line: AsyncFd<OwnedFd>,
}

/// Why the box was not founded.
#[derive(Debug, thiserror::Error)]
pub(crate) enum FoundError {
    #[error("start the process that makes the box: {0}")]
    Fork(#[source] io::Error),
    #[error("speak to the process that makes the box: {0}")]
    Line(#[source] io::Error),
    /// What it said.
    #[error("{0}")]
    Refused(String),
}

impl Founder {
    /// Forks it and waits until it has prepared what it can.
    pub(crate) async fn start(disks: &Disks) -> Result<Self, FoundError> {
        let group = cgroup::open_box().map_err(FoundError::Fork)?;
        let (line, theirs) = socketpair(AddressFamily::UNIX, SocketType::STREAM, SocketFlags::CLOEXEC, None)
            .map_err(|error| FoundError::Fork(error.into()))?;
        match sys::fork(true, Some(group.as_fd())).map_err(FoundError::Fork)? {
            sys::Fork::Child => {
                drop(line);
                found(&theirs, disks)
            }
            sys::Fork::Parent(pid, pidfd) => {
                drop(theirs);
                let child = Arc::new(Child::adopt(pid, pidfd).map_err(FoundError::Fork)?);
                rustix::io::ioctl_fionbio(&line, true).map_err(|error| FoundError::Line(error.into()))?;
                let line = sys::watch(line, Interest::READABLE | Interest::WRITABLE).map_err(FoundError::Line)?;
                let founder = Founder { child, line };
                founder.answer().await?;
                Ok(founder)
            }
        }
    }

    /// Its number in the agent's PID namespace.
    pub(crate) fn pid(&self) -> i32 {
        self.child.pid()
    }

    /// Tells it which box it is to be, and waits until the root is there.
    pub(crate) async fn build(&self, request: &ConfigureRequest) -> Result<(), FoundError> {
        self.send(&request.encode_to_vec(), &[])
            .await
            .map_err(FoundError::Line)?;
        self.answer().await
    }

    /// Process 1 of an idle box, which it becomes by itself.
    pub(crate) fn into_idle(self) -> FirstProcess {
        FirstProcess {
            child: self.child,
            idle: true,
        }
    }

    /// Has it become the main process. What comes of that is on `report`.
    pub(crate) async fn become_main(
        self,
        spec: &ProcessSpec,
        streams: [BorrowedFd<'_>; 3],
        report: BorrowedFd<'_>,
    ) -> io::Result<Arc<Child>> {
        let [stdin, stdout, stderr] = streams;
        self.send(&spec.encode_to_vec(), &[stdin, stdout, stderr, report])
            .await?;
        Ok(self.child)
    }

    async fn send(&self, body: &[u8], fds: &[BorrowedFd<'_>]) -> io::Result<()> {
        let header = (body.len() as u32).to_ne_bytes();
        let mut message = [&header[..], body].concat();
        let mut fds = fds;
        while !message.is_empty() {
            let send = |line: &OwnedFd| {
                let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MAIN_FDS))];
                let mut control = SendAncillaryBuffer::new(&mut space);
                if !fds.is_empty() {
                    control.push(SendAncillaryMessage::ScmRights(fds));
                }
                let data = [IoSlice::new(&message)];
                Ok(sendmsg(line, &data, &mut control, SendFlags::NOSIGNAL)?)
            };
            let count = self.line.async_io(Interest::WRITABLE, send).await?;
            message.drain(..count);
            // They went with the first byte.
            fds = &[];
        }
        Ok(())
    }

    /// What it says to what it was told: nothing, when it did it.
    async fn answer(&self) -> Result<(), FoundError> {
        let mut header = [0; 4];
        self.read(&mut header).await.map_err(FoundError::Line)?;
        let mut words = vec![0; (u32::from_ne_bytes(header) as usize).min(MESSAGE_BYTES)];
        self.read(&mut words).await.map_err(FoundError::Line)?;
        match words.is_empty() {
            true => Ok(()),
            false => Err(FoundError::Refused(String::from_utf8_lossy(&words).into_owned())),
        }
    }

    async fn read(&self, mut buffer: &mut [u8]) -> io::Result<()> {
        while !buffer.is_empty() {
            let read = |line: &OwnedFd| Ok(rustix::io::read(line, &mut *buffer)?);
            match self.line.async_io(Interest::READABLE, read).await? {
                0 => return Err(io::ErrorKind::UnexpectedEof.into()),
                count => buffer = &mut buffer[count..],
            }
        }
        Ok(())
    }
}

/// What the founder does. It holds on to nothing of the agent's but its end of the line.
fn found(line: &OwnedFd, disks: &Disks) -> ! {
    // The agent's score is for the agent alone. The /proc is still the agent's.
    let prepared = fs::write("/proc/self/oom_score_adj", "0")
        .map_err(|error| format!("set oom_score_adj: {error}"))
        .and_then(|()| Site::prepare(disks).map_err(|error| error.to_string()));
    let site = answer(line, prepared);
    let Some((order, _)) = receive(line) else { sys::exit(0) };
    let built = ConfigureRequest::decode(&order[..])
        .map_err(|error| format!("read what the box is: {error}"))
        .and_then(|request| {
            site.build(&request, disks).map_err(|error| error.to_string())?;
            Ok(request)
        });
    let request = answer(line, built);
    if request.idle {
        idle();
    }
    let Some((order, fds)) = receive(line) else {
        sys::exit(0)
    };
    let (Ok(spec), Ok([stdin, stdout, stderr, report])) =
        (ProcessSpec::decode(&order[..]), <[OwnedFd; MAIN_FDS]>::try_from(fds))
    else {
        sys::exit(1)
    };
    let launch = Launch {
        spec: &spec,
        hostname: &request.hostname,
        entry: Entry::Inside,
        stdin: stdin.as_fd(),
        stdout: stdout.as_fd(),
        stderr: stderr.as_fd(),
        report: report.as_fd(),
    };
    launch.run()
}

/// Tells the agent what came of an order; a process that could not follow one is of no use.
fn answer<T>(line: &OwnedFd, result: Result<T, String>) -> T {
    let words = result.as_ref().err().map_or("", String::as_str);
    let message = [&(words.len() as u32).to_ne_bytes()[..], words.as_bytes()].concat();
    match (child::write_all(line, &message), result) {
        (Ok(()), Ok(result)) => result,
        _ => sys::exit(1),
    }
}

/// The next order, and the descriptors that came with it. `None` when the agent is gone.
fn receive(line: &OwnedFd) -> Option<(Vec<u8>, Vec<OwnedFd>)> {
    let mut header = [0; 4];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MAIN_FDS))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let mut data = [IoSliceMut::new(&mut header)];
    let received = recvmsg(
        line,
        &mut data,
        &mut control,
        RecvFlags::CMSG_CLOEXEC | RecvFlags::WAITALL,
    )
    .ok()?;
    if received.bytes != header.len() {
        return None;
    }
    let fds = control
        .drain()
        .filter_map(|message| match message {
            RecvAncillaryMessage::ScmRights(fds) => Some(fds),
            _ => None,
        })
        .flatten()
        .collect();
    let length = u32::from_ne_bytes(header) as usize;
    if length > MESSAGE_BYTES {
        return None;
    }
    let mut body = vec![0; length];
    let mut rest = &mut body[..];
    while !rest.is_empty() {
        match rustix::io::read(line, &mut *rest) {
            Ok(0) => return None,
            Ok(count) => rest = &mut rest[count..],
            Err(rustix::io::Errno::INTR) => {}
            Err(_) => return None,
        }
    }
    Some((body, fds))
}

/// Process 1 of an idle box does nothing but wait for orphans.
fn idle() -> ! {
    let _ = fs::write("/proc/self/oom_score_adj", "-999");
    let _ = set_name(c"boxlite-init");
    let _ = sys::set_command_line(c"boxlite-init");
    let _ = rustix::process::setsid();
    sys::close_all_except(&[]);
    sys::reap_forever()
}
