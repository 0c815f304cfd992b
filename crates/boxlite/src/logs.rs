//! The log of a box: what its main process wrote.

use std::collections::VecDeque;
use std::path::PathBuf;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use boxlite_shim::log;
use boxlite_store::{BoxId, BoxRecord};
use bytes::Bytes;
use futures_util::{Stream, StreamExt};
use serde::{Deserialize, Serialize};

use crate::error::{GetError, LogsError, StateError};
use crate::shared::Shared;

/// What is read from the log at a time.
const BATCH_BYTES: usize = 1 << 20;
/// How often it is looked whether the box that is followed still runs: one that is killed
/// leaves no sign in its folder.
const LIFE_CHECK_PAUSE: Duration = Duration::from_millis(500);

/// Which part of a log [`crate::BoxHandle::logs`] gives.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
#[non_exhaustive]
pub struct LogOptions {
    /// Go on with what comes, until the box ends.
    pub follow: bool,
    /// Only the last so many lines.
    pub tail: Option<u64>,
    /// Only from then on, in milliseconds since 1970.
    pub since_ms: Option<u64>,
    /// Only until then, in milliseconds since 1970.
    pub until_ms: Option<u64>,
}

/// A piece of a log, as the main process wrote it: not necessarily a line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogEntry {
    /// Where it was written to.
    pub stream: LogStreamKind,
    /// When it came, in nanoseconds since 1970.
    pub time_ns: u64,
    /// The bytes.
    pub bytes: Bytes,
}

/// The output that a log entry was written to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LogStreamKind {
    /// Standard output, or the terminal.
    Stdout,
    /// Standard error.
    Stderr,
}

/// The entries of a log, oldest first; from [`crate::BoxHandle::logs`].
///
/// Dropping it ends the reading. Nothing is read ahead of what is asked for but one batch.
pub struct LogStream {
    entries: Pin<Box<dyn Stream<Item = Result<LogEntry, LogsError>> + Send>>,
}

impl std::fmt::Debug for LogStream {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("LogStream").finish_non_exhaustive()
    }
}

impl LogStream {
    /// The next entry; `None` at the end.
    pub async fn next(&mut self) -> Option<Result<LogEntry, LogsError>> {
        self.entries.next().await
    }
}

impl Stream for LogStream {
    type Item = Result<LogEntry, LogsError>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.entries.as_mut().poll_next(context)
    }
}

/// Opens the log of a box.
pub(crate) async fn open(shared: &Arc<Shared>, record: BoxRecord, options: LogOptions) -> Result<LogStream, LogsError> {
    let box_dir = shared.home.box_dir(&record.id);
    let name = record.name.clone();
    // Before the first read, so that nothing is missed in between.
    let watch = if options.follow && record.state.is_live() {
        Some(log::Watch::new(&box_dir).map_err(|source| LogsError::Watch {
            name: name.clone(),
            source,
        })?)
    } else {
        None
    };
    let reader = open_reader(shared, box_dir, name.clone(), &options).await?;
    let follower = Follower {
        shared: Arc::clone(shared),
        id: record.id,
        name,
        reader: Some(reader),
        watch,
        until_ns: options.until_ms.map(|ms| ms.saturating_mul(1_000_000)),
        queue: VecDeque::new(),
    };
    let entries = futures_util::stream::unfold(follower, |mut follower| async move {
        match follower.next().await {
            Ok(Some(entry)) => Some((Ok(entry), follower)),
            Ok(None) => None,
            Err(error) => {
                follower.reader = None;
                Some((Err(error), follower))
            }
        }
    });
    Ok(LogStream {
        entries: Box::pin(entries),
    })
}

async fn open_reader(
    shared: &Arc<Shared>,
    box_dir: PathBuf,
    name: String,
    options: &LogOptions,
) -> Result<log::Reader, LogsError> {
    let read = log::ReadOptions {
        tail_lines: options.tail.map(|lines| usize::try_from(lines).unwrap_or(usize::MAX)),
        since_unix_ns: options.since_ms.map(|ms| ms.saturating_mul(1_000_000)),
    };
    shared
        .blocking(move |_| log::Reader::open(&box_dir, read).map_err(|source| LogsError::Read { name, source }))
        .await
}

/// Reads a log to its end, and goes on while its box runs if that is wanted.
struct Follower {
    shared: Arc<Shared>,
    id: BoxId,
    name: String,
    /// `None` at the end.
    reader: Option<log::Reader>,
    /// There while the box runs and is to be followed.
    watch: Option<log::Watch>,
    until_ns: Option<u64>,
    queue: VecDeque<LogEntry>,
}

impl Follower {
    async fn next(&mut self) -> Result<Option<LogEntry>, LogsError> {
        loop {
            if let Some(entry) = self.queue.pop_front() {
                if self.until_ns.is_some_and(|until| entry.time_ns > until) {
                    self.reader = None;
                    self.queue.clear();
                    return Ok(None);
                }
                return Ok(Some(entry));
            }
            // Looked at before the reading: what is written after it is read by the next.
            let lives = self.watch.is_some() && self.lives().await?;
            if !self.read_batch().await? {
                return Ok(None);
            }
            if !self.queue.is_empty() {
                continue;
            }
            let Some(watch) = self.watch.as_mut().filter(|_| lives) else {
                return Ok(None);
            };
            tokio::select! {
                changed = watch.changed() => changed.map_err(|source| LogsError::Watch {
                    name: self.name.clone(),
                    source,
                })?,
                () = tokio::time::sleep(LIFE_CHECK_PAUSE) => {}
                () = self.shared.closed.cancelled() => return Err(StateError::Closed.into()),
            }
        }
    }

    async fn lives(&self) -> Result<bool, LogsError> {
        match crate::lifecycle::current(&self.shared, &self.id).await {
            Ok(record) => Ok(record.state.is_live()),
            Err(GetError::State(error)) => Err(error.into()),
            // Removed: what is in the open files can still be read.
            Err(_) => Ok(false),
        }
    }

    /// Fills the queue with what there is; whether there is a log to read from.
    async fn read_batch(&mut self) -> Result<bool, LogsError> {
        let Some(mut reader) = self.reader.take() else {
            return Ok(false);
        };
        let name = self.name.clone();
        let (reader, queue) = self
            .shared
            .blocking(move |_| {
                let mut queue = VecDeque::new();
                let mut bytes = 0;
                while bytes < BATCH_BYTES {
                    match reader.next_entry() {
                        Ok(Some(found)) => {
                            bytes += found.bytes.len();
                            queue.push_back(entry(found));
                        }
                        Ok(None) => break,
                        // What was read before the damage is given first.
                        Err(_) if !queue.is_empty() => break,
                        Err(source) => return Err(LogsError::Read { name, source }),
                    }
                }
                Ok((reader, queue))
            })
            .await?;
        self.reader = Some(reader);
        self.queue = queue;
        Ok(true)
    }
}

fn entry(found: log::Entry) -> LogEntry {
    LogEntry {
        stream: match found.stream {
            log::Stream::Stdout => LogStreamKind::Stdout,
            log::Stream::Stderr => LogStreamKind::Stderr,
        },
        time_ns: found.time_unix_ns,
        bytes: found.bytes.into(),
    }
}
