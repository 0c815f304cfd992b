//! Writing EROFS, the kernel's read-only file system; `fs/erofs/erofs_fs.h` is its
//! specification.
//!
//! Blocks of 4 KiB, nothing compressed. The content of files is written as it comes, and all
//! metadata behind it at the end, when everything about it is known:
//!
//! ```text
//! 0         superblock, at byte 1024
//! 1..       whole blocks of files
//! ..        whole blocks of directories and of long symbolic links
//! meta..    inodes, each with its extended attributes and the last bytes of its content
//! ```

mod blocks;
mod chunk;
mod directory;
mod image;
mod inode;
mod layout;
mod seal;
mod spool;
mod superblock;
mod xattr;

pub use image::ImageError;
pub(crate) use image::{FileData, Image, Sealed};
pub(crate) use xattr::XattrBody;
pub use xattr::XattrError;

/// Bytes of a block.
pub(crate) const BLOCK_BYTES: u64 = 4096;

/// The longest name of a directory entry.
pub(crate) const NAME_BYTES: usize = 255;

/// The longest symbolic link that the kernel follows: a page, less its terminator.
pub(crate) const LINK_BYTES: usize = 4095;

/// What device numbers can be: Linux has 12 bits for the major, 20 for the minor number.
pub(crate) const DEVICE_MAJOR_LIMIT: u32 = 1 << 12;
pub(crate) const DEVICE_MINOR_LIMIT: u32 = 1 << 20;
