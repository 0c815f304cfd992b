//! The first block: `struct erofs_super_block`, and the file system's root directory.

use boxlite_tar::Timestamp;

use super::directory::{BlockBuilder, FileType};
use super::inode::{DataLayout, DiskInode, INODE_BYTES};
use super::layout::SLOT_BYTES;
use super::{BLOCK_BYTES, IMAGE_ROOT_NAME};

const SUPERBLOCK: usize = 1024;
const SUPERBLOCK_BYTES: u64 = 128;
const MAGIC: u32 = 0xe0f5_e1e2;
const COMPAT_CHECKSUM: u32 = 1;
/// Extended inodes hold the time of modification, not of change.
const COMPAT_MTIME: u32 = 2;
/// Said of every image, whether it has such files or not.
const INCOMPAT_CHUNKED_FILE: u32 = 4;
/// Of the largest device that an image may have; no kernel holds it against its own.
const BLOCKS: u32 = u32::MAX;
/// Of version 8 (RFC 9562): it names the format, not an image.
const UUID: [u8; 16] = *b"boxlit\x80e\x80rootfs1";

/// Behind the superblock.
const ROOT_POSITION: u64 = SUPERBLOCK as u64 + SUPERBLOCK_BYTES;
/// Inodes are numbered by where they are, in units of [`SLOT_BYTES`].
pub(super) const ROOT_NID: u64 = ROOT_POSITION / SLOT_BYTES;
/// Where the inode of the image's root directory is.
pub(super) const IMAGE_ROOT_POSITION: u64 = BLOCK_BYTES;
const IMAGE_ROOT_NID: u64 = IMAGE_ROOT_POSITION / SLOT_BYTES;
/// Kept for that inode, which may have as many extended attributes as an inode can have.
const IMAGE_ROOT_BLOCKS: u64 = 65;
/// The first block that is free for anything.
pub(super) const FIRST_FREE_BLOCK: u64 = IMAGE_ROOT_POSITION / BLOCK_BYTES + IMAGE_ROOT_BLOCKS;

/// The whole first block.
pub(super) fn encode() -> Vec<u8> {
    let mut block = vec![0; BLOCK_BYTES as usize];
    let mut put = |at: usize, bytes: &[u8]| block[at..at + bytes.len()].copy_from_slice(bytes);
    put(SUPERBLOCK, &MAGIC.to_le_bytes());
    put(SUPERBLOCK + 8, &(COMPAT_CHECKSUM | COMPAT_MTIME).to_le_bytes());
    put(SUPERBLOCK + 12, &[BLOCK_BYTES.trailing_zeros() as u8]);
    put(SUPERBLOCK + 14, &(ROOT_NID as u16).to_le_bytes());
    put(SUPERBLOCK + 36, &BLOCKS.to_le_bytes());
    put(SUPERBLOCK + 48, &UUID);
    put(SUPERBLOCK + 80, &INCOMPAT_CHUNKED_FILE.to_le_bytes());
    let names = directory();
    let inode = DiskInode {
        layout: DataLayout::Inline,
        xattr_icount: 0,
        mode: 0o040_555,
        size: names.len() as u64,
        union_field: u32::MAX,
        number: 1,
        uid: 0,
        gid: 0,
        mtime: Timestamp::default(),
        links: 3,
    };
    put(ROOT_POSITION as usize, &inode.encode());
    put((ROOT_POSITION + INODE_BYTES) as usize, &names);
    // Over the block from the superblock on, its own field zero.
    let checksum = crc32c(&block[SUPERBLOCK..]);
    block[SUPERBLOCK + 4..SUPERBLOCK + 8].copy_from_slice(&checksum.to_le_bytes());
    block
}

fn directory() -> Vec<u8> {
    let mut block = BlockBuilder::default();
    block.push(b".", ROOT_NID, FileType::Directory);
    block.push(b"..", ROOT_NID, FileType::Directory);
    block.push(IMAGE_ROOT_NAME.as_bytes(), IMAGE_ROOT_NID, FileType::Directory);
    block.take()
}

/// CRC-32C as the kernel's `crc32c(~0, …)` gives it: not inverted at the end.
fn crc32c(bytes: &[u8]) -> u32 {
    bytes.iter().fold(!0, |crc, byte| {
        (0..8).fold(crc ^ u32::from(*byte), |crc, _| {
            (crc >> 1) ^ (0x82f6_3b78 & (crc & 1).wrapping_neg())
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::erofs::xattr::LARGEST_BODY_BYTES;

    #[test]
    fn checksum() {
        // The check value of CRC-32C, before the final inversion.
        assert_eq!(!crc32c(b"123456789"), 0xe306_9283);
    }

    #[test]
    fn the_largest_root_has_room() {
        assert!(INODE_BYTES + LARGEST_BODY_BYTES as u64 <= IMAGE_ROOT_BLOCKS * BLOCK_BYTES);
    }
}
