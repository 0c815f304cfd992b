//! `struct erofs_inode_extended`.

use boxlite_tar::Timestamp;

pub(super) const INODE_BYTES: u64 = 64;

const EXTENDED: u16 = 1;

/// How an inode's content is found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum DataLayout {
    /// In blocks from `union_field` on.
    Plain = 0,
    /// The same, but what does not fill a block follows the inode.
    Inline = 2,
    /// By the block addresses of pieces of the same size, which follow the inode.
    Chunks = 4,
}

#[derive(Debug)]
pub(super) struct DiskInode {
    pub(super) layout: DataLayout,
    pub(super) xattr_icount: u16,
    pub(super) mode: u16,
    pub(super) size: u64,
    /// First block, device number, or format of the chunks.
    pub(super) union_field: u32,
    pub(super) number: u32,
    pub(super) uid: u32,
    pub(super) gid: u32,
    pub(super) mtime: Timestamp,
    pub(super) links: u32,
}

impl DiskInode {
    pub(super) fn encode(&self) -> [u8; INODE_BYTES as usize] {
        let mut bytes = [0; INODE_BYTES as usize];
        let mut put = |at: usize, field: &[u8]| {
            bytes[at..at + field.len()].copy_from_slice(field);
        };
        put(0, &(EXTENDED | (self.layout as u16) << 1).to_le_bytes());
        put(2, &self.xattr_icount.to_le_bytes());
        put(4, &self.mode.to_le_bytes());
        put(8, &self.size.to_le_bytes());
        put(16, &self.union_field.to_le_bytes());
        put(20, &self.number.to_le_bytes());
        put(24, &self.uid.to_le_bytes());
        put(28, &self.gid.to_le_bytes());
        put(32, &self.mtime.seconds.to_le_bytes());
        put(40, &self.mtime.nanoseconds.to_le_bytes());
        put(44, &self.links.to_le_bytes());
        bytes
    }
}

/// A device number as the kernel's `new_encode_dev` packs it.
pub(super) fn encode_device(major: u32, minor: u32) -> u32 {
    (minor & 0xff) | (major << 8) | ((minor & !0xff) << 12)
}
