//! Bytes between this process's stdin, stdout and stderr and a box: exact, in
//! order, and never more than a few pieces in memory.

mod input;
mod output;

pub(crate) use input::{forward_stdin, stdin_reader};
pub(crate) use output::{BothStreams, PumpError, StdStream, Writer, pump};

/// The size of a piece.
const PIECE_BYTES: usize = 64 * 1024;
