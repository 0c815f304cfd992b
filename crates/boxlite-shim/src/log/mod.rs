//! The main process's output, kept on disk: what was written to which stream, and when.
//!
//! `output.log` is the file being written; when it has grown to
//! [`Limits::max_file_bytes`] it becomes `output.log.1` (and that `output.log.2`, …), and
//! the oldest beyond [`Limits::max_files`] is deleted.

mod frame;
mod reader;
mod watch;
mod writer;

use serde::{Deserialize, Serialize};

pub use reader::{ReadError, ReadOptions, Reader};
pub use watch::Watch;
pub use writer::Writer;

/// Name of the log's newest file in the box's folder.
pub const OUTPUT_LOG_NAME: &str = "output.log";

/// One of the main process's output streams.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Stream {
    /// Standard output (all output of a process on a terminal).
    Stdout,
    /// Standard error.
    Stderr,
}

/// A piece of output: as it was read from the guest, not cut into lines.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// Where it was written.
    pub stream: Stream,
    /// When it arrived: nanoseconds since 1970 by the host's wall clock.
    pub time_unix_ns: u64,
    /// What.
    pub bytes: Vec<u8>,
}

/// How much output is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Limits {
    /// A file that would grow beyond this many bytes is rotated; at least 64 KiB.
    pub max_file_bytes: u64,
    /// Files kept, the one being written included; at least 1.
    pub max_files: u32,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            max_file_bytes: 64 << 20,
            max_files: 2,
        }
    }
}
