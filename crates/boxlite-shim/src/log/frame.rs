//! One frame of the log: magic (2), stream (1), zero (1), length (4, little-endian),
//! nanoseconds since the epoch (8, little-endian), payload.

use std::io::{self, Read};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use super::{Entry, Stream};

/// Longest payload of one frame.
pub const MAX_PAYLOAD_BYTES: usize = 64 << 10;
/// Bytes of a frame's header.
pub(super) const HEADER_BYTES: usize = 16;
const MAGIC: [u8; 2] = [0xb0, 0x1e];

/// Bytes that are no frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum FrameError {
    /// The magic word is another.
    #[error("no frame begins here")]
    Magic,
    /// The stream is neither stdout nor stderr.
    #[error("stream {0} is unknown")]
    Stream(u8),
    /// The payload is longer than a frame can be.
    #[error("a frame of {0} bytes is too long")]
    Length(u32),
}

/// A frame's header.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Header {
    pub(super) stream: Stream,
    pub(super) length: u32,
    pub(super) unix_ns: u64,
}

impl Header {
    pub(super) fn encode(self) -> [u8; HEADER_BYTES] {
        let mut bytes = [0; HEADER_BYTES];
        bytes[..2].copy_from_slice(&MAGIC);
        bytes[2] = match self.stream {
            Stream::Stdout => 1,
            Stream::Stderr => 2,
        };
        bytes[4..8].copy_from_slice(&self.length.to_le_bytes());
        bytes[8..].copy_from_slice(&self.unix_ns.to_le_bytes());
        bytes
    }

    pub(super) fn decode(bytes: [u8; HEADER_BYTES]) -> Result<Self, FrameError> {
        let [m0, m1, stream, zero, l0, l1, l2, l3, time @ ..] = bytes;
        if [m0, m1] != MAGIC || zero != 0 {
            return Err(FrameError::Magic);
        }
        let stream = match stream {
            1 => Stream::Stdout,
            2 => Stream::Stderr,
            other => return Err(FrameError::Stream(other)),
        };
        let length = u32::from_le_bytes([l0, l1, l2, l3]);
        if length as usize > MAX_PAYLOAD_BYTES {
            return Err(FrameError::Length(length));
        }
        Ok(Self { stream, length, unix_ns: u64::from_le_bytes(time) })
    }

    pub(super) fn time(self) -> SystemTime {
        UNIX_EPOCH + Duration::from_nanos(self.unix_ns)
    }
}

/// What was found at a place where a frame may be.
#[derive(Debug)]
pub(super) enum Found {
    Frame(Entry),
    /// The file ends here, or in the middle of a frame.
    End,
    Damaged(FrameError),
}

/// Reads one frame.
pub(super) fn read(file: &mut impl Read) -> io::Result<Found> {
    let mut header = [0; HEADER_BYTES];
    if !read_whole(file, &mut header)? {
        return Ok(Found::End);
    }
    let header = match Header::decode(header) {
        Ok(header) => header,
        Err(error) => return Ok(Found::Damaged(error)),
    };
    let mut payload = vec![0; header.length as usize];
    if !read_whole(file, &mut payload)? {
        return Ok(Found::End);
    }
    Ok(Found::Frame(Entry { stream: header.stream, time: header.time(), bytes: payload.into() }))
}

/// Fills `buffer`; `false` when the file ends before.
fn read_whole(file: &mut impl Read, buffer: &mut [u8]) -> io::Result<bool> {
    match file.read_exact(buffer) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Ok(false),
        Err(error) => Err(error),
    }
}
