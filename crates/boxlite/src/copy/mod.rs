//! Copying files between host and box.

use std::pin::Pin;
use std::task::{Context, Poll};

use serde::{Deserialize, Serialize};
use tokio::io::{AsyncRead, ReadBuf};

/// How files are copied.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
#[non_exhaustive]
pub struct CopyOptions {
    /// When the source itself is a symbolic link, copy what it points to.
    pub follow_link: bool,
    /// Into the box: keep owners (by number) instead of giving everything to root.
    pub keep_owner: bool,
}

/// What was copied.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[non_exhaustive]
pub struct CopyReport {
    /// Files, folders, links and so on.
    pub entries: u64,
    /// Bytes of files.
    pub bytes: u64,
    /// What was left out and why; at most a hundred are listed.
    pub skipped: Vec<SkippedEntry>,
    /// How many were left out.
    pub skipped_count: u64,
}

/// Something that was not copied.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SkippedEntry {
    /// Its path, with what is not UTF-8 replaced.
    pub path: String,
    /// Why.
    pub reason: String,
}

/// A tar stream out of a box; from [`crate::BoxHandle::copy_out_tar`].
#[derive(Debug)]
pub struct TarStream {}

impl AsyncRead for TarStream {
    fn poll_read(
        self: Pin<&mut Self>,
        _context: &mut Context<'_>,
        _buffer: &mut ReadBuf<'_>,
    ) -> Poll<std::io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}
