use std::io;

use crate::pax::PaxError;
use crate::sparse::SparseError;

/// Why an archive could not be read. `offset` is where the header of the entry starts, in
/// bytes from the archive's start.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ReadError {
    /// The source could not be read.
    #[error("reading the archive at byte {offset}: {source}")]
    Io {
        /// How far reading got.
        offset: u64,
        /// Why not further.
        source: io::Error,
    },
    /// The archive ends within an entry.
    #[error("the archive is truncated: it ends at byte {offset}, within {within}")]
    UnexpectedEnd {
        /// Where it ends.
        offset: u64,
        /// What is missing.
        within: &'static str,
    },
    /// A header's checksum is wrong: this is no tar archive, or it is damaged.
    #[error("no tar header at byte {offset}: its checksum is wrong")]
    Checksum {
        /// Where the header starts.
        offset: u64,
    },
    /// One block of zeros is followed by something other than another: some programs would
    /// end here, others would read on.
    #[error("a single block of zeros at byte {offset} is followed by more data")]
    LoneZeroBlock {
        /// Where the zeros start.
        offset: u64,
    },
    /// A numeric field of the header is malformed or out of range.
    #[error("header at byte {offset}: {field} is not a number in range: {bytes:?}")]
    Number {
        /// Where the header starts.
        offset: u64,
        /// The field.
        field: &'static str,
        /// What it holds.
        bytes: String,
    },
    /// The entry is of a kind that is not known, e.g. part of a file from another volume.
    #[error("entry at byte {offset} is of the unsupported kind {type_flag:?}")]
    UnsupportedKind {
        /// Where its header starts.
        offset: u64,
        /// The kind's letter.
        type_flag: char,
    },
    /// PAX records are malformed.
    #[error("extended header at byte {offset}: {source}")]
    Pax {
        /// Where the header starts.
        offset: u64,
        /// What is wrong.
        source: PaxError,
    },
    /// The map of a sparse file is unusable.
    #[error("sparse file at byte {offset}: {source}")]
    Sparse {
        /// Where its header starts.
        offset: u64,
        /// What is wrong.
        source: SparseError,
    },
    /// Something is larger than the reader's [`Limits`](crate::Limits) allow.
    #[error("entry at byte {offset}: {what} has {bytes} bytes, at most {limit} are allowed")]
    TooLong {
        /// Where its header starts.
        offset: u64,
        /// What is too long.
        what: &'static str,
        /// How long it is.
        bytes: u64,
        /// The limit.
        limit: usize,
    },
    /// An entry has two extended headers of a kind, or they contradict each other: programs
    /// disagree about which counts.
    #[error("entry at byte {offset} is ambiguous: it has two different values for its {what}")]
    Ambiguous {
        /// Where its header starts.
        offset: u64,
        /// What there is twice.
        what: &'static str,
    },
    /// An earlier call has failed; there is no telling what follows.
    #[error("reading this archive has failed before")]
    Failed,
}
