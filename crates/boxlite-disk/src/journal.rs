//! The superblock of an empty journal; the kernel's `include/linux/jbd2.h` is its definition.

use crate::fields::{Fields, low_u32};
use crate::layout::BLOCK_BYTES;

const MAGIC: u32 = 0xc03b_3998;
const SUPERBLOCK_V2: u32 = 4;

/// The first block of a journal of so many blocks. Its numbers are big-endian.
pub(crate) fn encode(blocks: u64, uuid: [u8; 16]) -> Vec<u8> {
    let mut superblock = Fields::new(1024);
    superblock.put_u32_be(0x00, MAGIC);
    superblock.put_u32_be(0x04, SUPERBLOCK_V2);
    superblock.put_u32_be(0x0c, low_u32(BLOCK_BYTES));
    superblock.put_u32_be(0x10, low_u32(blocks));
    // The first block of the log, and the first commit that is expected in it. That the start
    // (0x1c) is zero says that the log is empty.
    superblock.put_u32_be(0x14, 1);
    superblock.put_u32_be(0x18, 1);
    superblock.put(0x30, &uuid);
    superblock.put_u32_be(0x40, 1);
    superblock.into_bytes()
}
