//! What a file really takes.

use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

/// The bytes that the host's file system has allocated for a file: holes count nothing.
///
/// # Errors
/// What stat(2) says.
pub fn allocated_bytes(path: &Path) -> io::Result<u64> {
    // st_blocks counts units of 512 bytes, whatever the file system's blocks are (stat(2)).
    Ok(std::fs::metadata(path)?.blocks() * 512)
}
