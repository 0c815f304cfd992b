//! Child processes of the agent: always reaped, whoever loses interest in them, and
//! helpers that do in the box what could block.

use std::{
    io,
    os::fd::{AsFd, AsRawFd as _, BorrowedFd, OwnedFd},
};

use boxlite_protocol::guest::ExitStatus;
use rustix::{
    pipe::{PipeFlags, pipe_with},
    process::{Signal, WaitId, WaitIdOptions, pidfd_send_signal, waitid},
};
use tokio::{
    io::{Interest, unix::AsyncFd},
    sync::watch,
};

use crate::{console::log, spaces::Spaces, sys};

/// A child process that is reaped by itself.
#[derive(Debug)]
pub(crate) struct Child {
    pid: i32,
    pidfd: OwnedFd,
    ended: watch::Receiver<Option<ExitStatus>>,
}

impl Child {
    /// Takes over what [`sys::fork`] gave.
    pub(crate) fn adopt(pid: i32, pidfd: OwnedFd) -> io::Result<Self> {
        let watched = sys::watch(pidfd.try_clone()?, Interest::READABLE)?;
        let (report, ended) = watch::channel(None);
        tokio::spawn(async move {
            let status = reap(&watched).await.unwrap_or_else(|error| {
                log!("wait for process {pid}: {error}");
                ExitStatus::default()
            });
            report.send_replace(Some(status));
        });
        Ok(Child { pid, pidfd, ended })
    }

    /// Its number in the agent's PID namespace.
    pub(crate) fn pid(&self) -> i32 {
        self.pid
    }

    /// A pidfd of it.
    pub(crate) fn pidfd(&self) -> BorrowedFd<'_> {
        self.pidfd.as_fd()
    }

    /// True until it was reaped.
    pub(crate) fn is_alive(&self) -> bool {
        self.ended.borrow().is_none()
    }

    /// Waits until it has ended and was reaped.
    pub(crate) async fn wait(&self) -> ExitStatus {
        let mut ended = self.ended.clone();
        match ended.wait_for(Option::is_some).await {
            Ok(status) => status.unwrap_or_default(),
            // The task that reaps ends only after it has reported.
            Err(_) => ExitStatus::default(),
        }
    }

    /// Sends it a signal; one that has ended is not an error.
    pub(crate) fn signal(&self, signal: Signal) -> io::Result<()> {
        match pidfd_send_signal(&self.pidfd, signal) {
            Ok(()) | Err(rustix::io::Errno::SRCH) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }
}

async fn reap(pidfd: &AsyncFd<OwnedFd>) -> io::Result<ExitStatus> {
    loop {
        let mut ready = pidfd.readable().await?;
        let options = WaitIdOptions::EXITED | WaitIdOptions::NOHANG;
        match waitid(WaitId::PidFd(pidfd.as_fd()), options)? {
            Some(status) => {
                return Ok(match (status.exit_status(), status.terminating_signal()) {
                    (Some(code), _) => ExitStatus::from_code(code),
                    (None, Some(signal)) => ExitStatus::from_signal(signal),
                    (None, None) => ExitStatus::default(),
                });
            }
            None => ready.clear_ready(),
        }
    }
}

/// A helper in the box, which is killed when this is dropped before it has ended.
#[derive(Debug)]
pub(crate) struct Helper(Child);

impl Helper {
    /// Runs `work` in a child that has the box's root, with no descriptors but those in
    /// `keep` (and none for 0, 1 and 2). The code that `work` returns is its exit code.
    pub(crate) fn start(spaces: &Spaces, keep: &[BorrowedFd<'_>], work: impl FnOnce() -> i32) -> io::Result<Self> {
        match sys::fork(false, None)? {
            sys::Fork::Parent(pid, pidfd) => Ok(Helper(Child::adopt(pid, pidfd)?)),
            sys::Fork::Child => {
                let _ = std::fs::write("/proc/self/oom_score_adj", "0");
                let code = match spaces.enter() {
                    Ok(()) => {
                        let keep: Vec<_> = keep.iter().map(|fd| fd.as_raw_fd()).collect();
                        sys::close_all_except(&keep);
                        work()
                    }
                    Err(_) => 1,
                };
                sys::exit(code)
            }
        }
    }

    /// Waits until it has ended.
    pub(crate) async fn wait(&self) -> ExitStatus {
        self.0.wait().await
    }
}

impl Drop for Helper {
    fn drop(&mut self) {
        if self.0.is_alive() {
            let _ = self.0.signal(Signal::KILL);
        }
    }
}

/// Why a helper gave no answer.
#[derive(Debug, thiserror::Error)]
pub(crate) enum HelperError {
    #[error("start a helper in the box: {0}")]
    Start(#[source] io::Error),
    #[error("read a helper's answer: {0}")]
    Read(#[source] io::Error),
    #[error("a helper in the box ended with {0:?}")]
    Ended(ExitStatus),
}

/// Runs `work` in a child in the box and returns its bytes.
pub(crate) async fn ask(spaces: &Spaces, work: impl FnOnce() -> Vec<u8>) -> Result<Vec<u8>, HelperError> {
    let (receive, send) = pipe_with(PipeFlags::CLOEXEC).map_err(|error| HelperError::Start(error.into()))?;
    let sender = send.as_fd();
    let helper = Helper::start(spaces, &[sender], || i32::from(write_all(sender, &work()).is_err()))
        .map_err(HelperError::Start)?;
    drop(send);
    let answer = read_to_end(receive).await.map_err(HelperError::Read)?;
    let status = helper.wait().await;
    if status.success() {
        Ok(answer)
    } else {
        Err(HelperError::Ended(status))
    }
}

/// Writes all of `bytes`, in a child that may block.
pub(crate) fn write_all(fd: impl AsFd, mut bytes: &[u8]) -> io::Result<()> {
    while !bytes.is_empty() {
        match rustix::io::write(&fd, bytes) {
            Ok(count) => bytes = &bytes[count..],
            Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}

/// Reads a pipe's end to its end.
pub(crate) async fn read_to_end(fd: OwnedFd) -> io::Result<Vec<u8>> {
    rustix::io::ioctl_fionbio(&fd, true)?;
    let fd = sys::watch(fd, Interest::READABLE)?;
    let mut bytes = Vec::new();
    let mut buffer = [0; 4096];
    loop {
        let count = fd
            .async_io(Interest::READABLE, |fd| Ok(rustix::io::read(fd, &mut buffer)?))
            .await?;
        if count == 0 {
            return Ok(bytes);
        }
        bytes.extend_from_slice(&buffer[..count]);
    }
}
