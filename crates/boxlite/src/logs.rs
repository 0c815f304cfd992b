//! The log of a box: what its main process wrote.

use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use futures_util::Stream;
use serde::{Deserialize, Serialize};

use crate::error::LogsError;

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
/// Dropping it ends the reading.
#[derive(Debug)]
pub struct LogStream {
    receiver: tokio::sync::mpsc::Receiver<Result<LogEntry, LogsError>>,
}

impl LogStream {
    /// The next entry; `None` at the end.
    pub async fn next(&mut self) -> Option<Result<LogEntry, LogsError>> {
        self.receiver.recv().await
    }
}

impl Stream for LogStream {
    type Item = Result<LogEntry, LogsError>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.receiver.poll_recv(context)
    }
}
