//! The superblock.

use crate::checksum::crc32c;
use crate::fields::{Fields, low_u32};
use crate::format::FormatOptions;
use crate::inode::{EXTRA_BYTES, JOURNAL};
use crate::layout::{
    BACKUP_GROUP, BLOCKS_PER_GROUP, DESCRIPTOR_BYTES, INODE_BYTES, LOG_GROUPS_PER_FLEX, Layout, RESERVED_INODES,
};

pub(crate) const SUPERBLOCK_BYTES: usize = 1024;

/// Features that an older kernel may ignore.
mod compatible {
    pub(super) const HAS_JOURNAL: u32 = 0x4;
    pub(super) const EXT_ATTR: u32 = 0x8;
    pub(super) const DIR_INDEX: u32 = 0x20;
    /// Copies are where s_backup_bgs says, instead of in some twenty groups.
    pub(super) const SPARSE_SUPER2: u32 = 0x200;
}

/// Features without which a kernel may not mount.
mod incompatible {
    pub(super) const FILETYPE: u32 = 0x2;
    pub(super) const EXTENTS: u32 = 0x40;
    pub(super) const BITS_64: u32 = 0x80;
    pub(super) const FLEX_BG: u32 = 0x200;
}

/// Features without which a kernel may not mount for writing.
mod read_only_compatible {
    pub(super) const SPARSE_SUPER: u32 = 0x1;
    pub(super) const LARGE_FILE: u32 = 0x2;
    pub(super) const HUGE_FILE: u32 = 0x8;
    pub(super) const DIR_NLINK: u32 = 0x20;
    pub(super) const EXTRA_ISIZE: u32 = 0x40;
    pub(super) const METADATA_CSUM: u32 = 0x400;
}

pub(crate) const MAGIC: u16 = 0xef53;
const CLEAN: u16 = 1;
/// On an error: log it and go on, as mke2fs has it.
const ERRORS_CONTINUE: u16 = 1;
const DYNAMIC_REVISION: u32 = 1;
/// Blocks have 2^(10+2) bytes.
const LOG_BLOCK_BYTES: u32 = 2;
const HALF_MD4: u8 = 1;
const SIGNED_HASH: u32 = 1;
const CRC32C: u8 = 1;
/// The journal's inode has a copy in the superblock.
const JOURNAL_BACKUP: u8 = 1;
/// Default mount options: user_xattr and acl.
const DEFAULT_MOUNT_OPTIONS: u32 = 0x4 | 0x8;

/// The superblock as it is in `group`. `journal_backup` is from the journal's inode.
pub(crate) fn encode(layout: &Layout, options: &FormatOptions, journal_backup: &[u8], group: u64) -> Vec<u8> {
    let mut superblock = Fields::new(SUPERBLOCK_BYTES);
    superblock.put_u32(0x00, low_u32(layout.inodes()));
    superblock.put_split_u64(0x04, 0x150, layout.blocks);
    superblock.put_split_u64(0x0c, 0x158, layout.free_blocks());
    superblock.put_u32(0x10, low_u32(layout.inodes() - RESERVED_INODES));
    superblock.put_u32(0x18, LOG_BLOCK_BYTES);
    superblock.put_u32(0x1c, LOG_BLOCK_BYTES);
    superblock.put_u32(0x20, low_u32(BLOCKS_PER_GROUP));
    superblock.put_u32(0x24, low_u32(BLOCKS_PER_GROUP));
    superblock.put_u32(0x28, low_u32(layout.inodes_per_group));
    // Written, last checked and made: the lower 32 bits and, apart from them, 8 more.
    for (low, high) in [(0x30, 0x274), (0x40, 0x277), (0x108, 0x276)] {
        superblock.put_u32(low, low_u32(options.created_at_seconds));
        superblock.put_u8(high, options.created_at_seconds.to_le_bytes()[4]);
    }
    // No check after so many mounts.
    superblock.put_u16(0x36, u16::MAX);
    superblock.put_u16(0x38, MAGIC);
    superblock.put_u16(0x3a, CLEAN);
    superblock.put_u16(0x3c, ERRORS_CONTINUE);
    superblock.put_u32(0x4c, DYNAMIC_REVISION);
    superblock.put_u32(0x54, low_u32(RESERVED_INODES + 1));
    superblock.put_u16(0x58, INODE_BYTES as u16);
    // Only the first two groups have one.
    superblock.put_u16(0x5a, group as u16);
    superblock.put_u32(
        0x5c,
        compatible::HAS_JOURNAL | compatible::EXT_ATTR | compatible::DIR_INDEX | compatible::SPARSE_SUPER2,
    );
    superblock.put_u32(
        0x60,
        incompatible::FILETYPE | incompatible::EXTENTS | incompatible::BITS_64 | incompatible::FLEX_BG,
    );
    superblock.put_u32(
        0x64,
        read_only_compatible::SPARSE_SUPER
            | read_only_compatible::LARGE_FILE
            | read_only_compatible::HUGE_FILE
            | read_only_compatible::DIR_NLINK
            | read_only_compatible::EXTRA_ISIZE
            | read_only_compatible::METADATA_CSUM,
    );
    superblock.put(0x68, &options.uuid);
    superblock.put(0x78, options.label.as_bytes());
    superblock.put_u32(0xe0, JOURNAL);
    superblock.put(0xec, &hash_seed(options.uuid));
    superblock.put_u8(0xfc, HALF_MD4);
    superblock.put_u8(0xfd, JOURNAL_BACKUP);
    superblock.put_u16(0xfe, DESCRIPTOR_BYTES as u16);
    superblock.put_u32(0x100, DEFAULT_MOUNT_OPTIONS);
    superblock.put(0x10c, journal_backup);
    superblock.put_u16(0x15c, EXTRA_BYTES);
    superblock.put_u16(0x15e, EXTRA_BYTES);
    superblock.put_u32(0x160, SIGNED_HASH);
    superblock.put_u8(0x174, LOG_GROUPS_PER_FLEX);
    superblock.put_u8(0x175, CRC32C);
    if layout.groups > BACKUP_GROUP {
        superblock.put_u32(0x24c, low_u32(BACKUP_GROUP));
    }
    let end = SUPERBLOCK_BYTES - 4;
    let sum = crc32c(!0, &superblock.bytes()[..end]);
    superblock.put_u32(end, sum);
    superblock.into_bytes()
}

/// The seed of directory hashes: different from disk to disk, the same for the same disk.
fn hash_seed(uuid: [u8; 16]) -> Vec<u8> {
    (0_u8..4)
        .flat_map(|word| crc32c(!u32::from(word), &uuid).to_le_bytes())
        .collect()
}
