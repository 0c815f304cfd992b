//! What may end a box from outside, in one place.

use std::os::fd::OwnedFd;
use std::time::Duration;

use tokio::io::AsyncReadExt as _;
use tokio::net::unix::pipe;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::mpsc;

use super::service::{Command, Reply};

/// Something that the supervisor is asked for.
#[derive(Debug)]
pub(crate) enum Request {
    /// The main process may start.
    ReleaseMain,
    /// End in order.
    Stop {
        signal: Option<i32>,
        grace: Option<Duration>,
    },
    /// End an idle box without grace.
    KillIdle,
    /// End the engine.
    Terminate,
    /// Stand the machine still.
    Pause(Reply),
    /// Let it go on.
    Unpause(Reply),
    /// The program that started the box is gone.
    ParentGone,
}

/// Commands of clients, signals, and the end of the parent.
#[derive(Debug)]
pub(crate) struct Requests {
    commands: mpsc::UnboundedReceiver<Command>,
    terminate: Signal,
    interrupt: Signal,
    parent: Option<pipe::Receiver>,
}

impl Requests {
    pub(crate) fn new(commands: mpsc::UnboundedReceiver<Command>, parent: Option<OwnedFd>) -> std::io::Result<Self> {
        let parent = match parent {
            Some(fd) => {
                rustix::io::ioctl_fionbio(&fd, true)?;
                Some(pipe::Receiver::from_owned_fd(fd)?)
            }
            None => None,
        };
        Ok(Self {
            commands,
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            parent,
        })
    }

    /// Waits for the next. Cancel-safe.
    pub(crate) async fn next(&mut self) -> Request {
        let stop = Request::Stop {
            signal: None,
            grace: None,
        };
        tokio::select! {
            Some(command) = self.commands.recv() => match command {
                Command::ReleaseMain => Request::ReleaseMain,
                Command::Stop { signal, grace } => Request::Stop { signal, grace },
                Command::KillIdle => Request::KillIdle,
                Command::Terminate => Request::Terminate,
                Command::Pause(reply) => Request::Pause(reply),
                Command::Unpause(reply) => Request::Unpause(reply),
            },
            _ = self.terminate.recv() => stop,
            _ = self.interrupt.recv() => stop,
            () = end_of(&mut self.parent) => {
                self.parent = None;
                Request::ParentGone
            }
        }
    }
}

/// Never, without a pipe.
async fn end_of(pipe: &mut Option<pipe::Receiver>) {
    let Some(pipe) = pipe else {
        return std::future::pending().await;
    };
    let mut bytes = [0; 64];
    // Nobody writes; an error is an end too.
    while let Ok(1..) = pipe.read(&mut bytes).await {}
}
