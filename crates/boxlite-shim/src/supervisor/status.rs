//! What the client that started the box hears on its status pipe.

use std::fs::File;
use std::io::Write as _;
use std::os::fd::OwnedFd;
use std::time::Instant;

use boxlite_shim::{Stage, StartEvent};

/// The status pipe, until the start is over.
#[derive(Debug)]
pub(crate) struct Status {
    pipe: Option<File>,
    began: Instant,
}

impl Status {
    pub(crate) fn new(pipe: Option<OwnedFd>, began: Instant) -> Self {
        Self {
            pipe: pipe.map(File::from),
            began,
        }
    }

    /// Microseconds since the supervisor's start.
    pub(crate) fn elapsed_us(&self) -> u64 {
        u64::try_from(self.began.elapsed().as_micros()).unwrap_or(u64::MAX)
    }

    pub(crate) fn stage(&mut self, stage: Stage) {
        tracing::info!(%stage, elapsed_us = self.elapsed_us(), "start");
        let elapsed_us = self.elapsed_us();
        self.write(&StartEvent::Stage { stage, elapsed_us });
    }

    /// Says the last word and closes the pipe.
    pub(crate) fn finish(&mut self, event: &StartEvent) {
        self.write(event);
        self.pipe = None;
    }

    /// A client that is gone needs no word: the parent pipe or the box's lock tells others.
    fn write(&mut self, event: &StartEvent) {
        let Some(pipe) = &mut self.pipe else { return };
        let written = serde_json::to_vec(event)
            .map_err(std::io::Error::from)
            .and_then(|mut line| {
                line.push(b'\n');
                pipe.write_all(&line)
            });
        if let Err(error) = written {
            tracing::debug!(%error, "nobody reads the status pipe");
            self.pipe = None;
        }
    }
}
