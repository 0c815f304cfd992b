//! The root directory: one block with itself and itself as its parent.

use crate::checksum::crc32c;
use crate::fields::Fields;
use crate::inode::inode_seed;
use crate::layout::BLOCK_BYTES;

const DIRECTORY: u8 = 2;
/// What looks like an entry at the end of a block and has the checksum in it.
const TAIL_BYTES: u16 = 12;
const TAIL_TYPE: u8 = 0xde;
/// The shortest entry: 8 bytes and a name of up to 4.
const SHORT_ENTRY_BYTES: u16 = 12;

fn put_entry(block: &mut Fields, offset: u16, inode: u32, length: u16, name: &[u8], kind: u8) {
    let offset = usize::from(offset);
    block.put_u32(offset, inode);
    block.put_u16(offset + 4, length);
    // No name here is longer than two bytes.
    block.put_u8(offset + 6, name.len() as u8);
    block.put_u8(offset + 7, kind);
    block.put(offset + 8, name);
}

/// An empty directory that is its own parent.
pub(crate) fn encode(filesystem_seed: u32, inode: u32) -> Vec<u8> {
    let end = BLOCK_BYTES as u16 - TAIL_BYTES;
    let mut block = Fields::new(BLOCK_BYTES as usize);
    put_entry(&mut block, 0, inode, SHORT_ENTRY_BYTES, b".", DIRECTORY);
    put_entry(
        &mut block,
        SHORT_ENTRY_BYTES,
        inode,
        end - SHORT_ENTRY_BYTES,
        b"..",
        DIRECTORY,
    );
    put_entry(&mut block, end, 0, TAIL_BYTES, b"", TAIL_TYPE);
    let sum = crc32c(inode_seed(filesystem_seed, inode), &block.bytes()[..usize::from(end)]);
    block.put_u32(usize::from(end) + 8, sum);
    block.into_bytes()
}
