//! The form of one entry in the file.
//!
//! ```text
//! 0      1        2..4       4..8                8..16              16..
//! MARK   stream   reserved   payload length LE   time LE (unix ns)  payload
//! ```

use super::Stream;

/// First byte of every frame.
const MARK: u8 = 0xb7;
/// Length of what comes before the payload.
pub(super) const HEADER_BYTES: usize = 16;
/// The longest payload of a frame.
pub(super) const MAX_PAYLOAD_BYTES: usize = 64 * 1024;

/// What comes before the payload.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Header {
    pub(super) stream: Stream,
    pub(super) time_unix_ns: u64,
    pub(super) payload_bytes: usize,
}

impl Header {
    /// The bytes of this header. The payload must not be longer than [`MAX_PAYLOAD_BYTES`].
    pub(super) fn encode(&self) -> [u8; HEADER_BYTES] {
        let mut bytes = [0; HEADER_BYTES];
        bytes[0] = MARK;
        bytes[1] = match self.stream {
            Stream::Stdout => 1,
            Stream::Stderr => 2,
        };
        bytes[4..8].copy_from_slice(&(self.payload_bytes as u32).to_le_bytes());
        bytes[8..16].copy_from_slice(&self.time_unix_ns.to_le_bytes());
        bytes
    }

    /// Reads a header; `None` when it is none.
    pub(super) fn decode(bytes: &[u8; HEADER_BYTES]) -> Option<Self> {
        let [mark, stream, 0, 0, l0, l1, l2, l3, time @ ..] = *bytes else {
            return None;
        };
        let stream = match (mark, stream) {
            (MARK, 1) => Stream::Stdout,
            (MARK, 2) => Stream::Stderr,
            _ => return None,
        };
        let payload_bytes = u32::from_le_bytes([l0, l1, l2, l3]) as usize;
        (payload_bytes <= MAX_PAYLOAD_BYTES).then_some(Self {
            stream,
            time_unix_ns: u64::from_le_bytes(time),
            payload_bytes,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn headers_survive(time: u64, payload_bytes in 0..=MAX_PAYLOAD_BYTES, stderr: bool) {
            let header = Header {
                stream: if stderr { Stream::Stderr } else { Stream::Stdout },
                time_unix_ns: time,
                payload_bytes,
            };
            prop_assert_eq!(Header::decode(&header.encode()), Some(header));
        }

        #[test]
        fn any_bytes_are_a_bounded_header_or_none(bytes: [u8; HEADER_BYTES]) {
            if let Some(header) = Header::decode(&bytes) {
                prop_assert!(header.payload_bytes <= MAX_PAYLOAD_BYTES);
                prop_assert_eq!(header.encode(), bytes);
            }
        }
    }
}
