//! The signals that this process takes, in their order of arrival.

use std::io;

use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc;

use crate::failure::Failure;

/// A signal that arrived.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Arrived {
    /// For the box, by Linux's number; also what stops a command that has no box yet.
    Forward(i32),
    /// The terminal has another size.
    Resized,
    /// This process goes on after it was stopped.
    Continued,
}

/// Linux's numbers, because that is what the box understands.
const FORWARDED: [(fn() -> SignalKind, i32); 7] = [
    (SignalKind::hangup, 1),
    (SignalKind::interrupt, 2),
    (SignalKind::quit, 3),
    (SignalKind::user_defined1, 10),
    (SignalKind::user_defined2, 12),
    (SignalKind::alarm, 14),
    (SignalKind::terminate, 15),
];

/// SIGINT.
pub(crate) const INTERRUPT: i32 = 2;

/// Takes the signals from when it is made until the process ends.
#[derive(Debug)]
pub(crate) struct Signals {
    arrived: mpsc::UnboundedReceiver<Arrived>,
}

impl Signals {
    /// Begins to take the signals. Must be called inside a Tokio runtime.
    pub(crate) fn listen() -> io::Result<Self> {
        let (sender, arrived) = mpsc::unbounded_channel();
        let listen_to = |kind, what| -> io::Result<()> {
            let mut stream = signal(kind)?;
            let sender = sender.clone();
            tokio::spawn(async move {
                while stream.recv().await.is_some() {
                    if sender.send(what).is_err() {
                        break;
                    }
                }
            });
            Ok(())
        };
        for (kind, number) in FORWARDED {
            listen_to(kind(), Arrived::Forward(number))?;
        }
        listen_to(SignalKind::window_change(), Arrived::Resized)?;
        listen_to(SignalKind::from_raw(libc_sigcont()), Arrived::Continued)?;
        Ok(Self { arrived })
    }

    /// The next signal.
    pub(crate) async fn next(&mut self) -> Arrived {
        match self.arrived.recv().await {
            Some(arrived) => arrived,
            // The tasks that send end with the runtime only.
            None => std::future::pending().await,
        }
    }

    /// Does something unless a signal asks to stop first; what was begun is dropped then.
    pub(crate) async fn unless_stopped<T>(
        &mut self,
        work: impl Future<Output = Result<T, Failure>>,
    ) -> Result<T, Failure> {
        tokio::select! {
            result = work => result,
            signal = self.next_stop() => Err(Failure::interrupted(signal)),
        }
    }

    /// The next signal that asks a command to stop.
    async fn next_stop(&mut self) -> i32 {
        loop {
            if let Arrived::Forward(number) = self.next().await {
                return number;
            }
        }
    }
}

/// This system's number of SIGCONT.
fn libc_sigcont() -> i32 {
    rustix::process::Signal::CONT.as_raw()
}
