//! Writing EROFS, the kernel's read-only file system; `fs/erofs/erofs_fs.h` is its
//! specification.
//!
//! Blocks of 4 KiB, nothing compressed. The content of files is written as it comes, and all
//! metadata behind it at the end, when everything about it is known:
//!
//! ```text
//! 0         superblock, at byte 1024, and the file system's root directory
//! 1..       the inode of the image's root directory
//! 66..      whole blocks of files
//! ..        whole blocks of directories and of long symbolic links
//! meta..    inodes, each with its extended attributes and the last bytes of its content
//! ```
//!
//! The first block is the same in every image, byte for byte. The file system's own root has
//! one entry, [`IMAGE_ROOT_NAME`], which is the image's root directory and always in the same
//! place. So a machine can have mounted the file system before it is known which image it will
//! have: nothing that a kernel reads for that differs between two of them.

mod blocks;
mod chunk;
mod directory;
mod head;
mod image;
mod inode;
mod layout;
mod seal;
mod spool;
mod xattr;

pub use image::ImageError;
pub(crate) use image::{FileData, Image, Sealed};
pub(crate) use xattr::XattrBody;
pub use xattr::XattrError;

/// Where an image's root directory is in its file system.
pub const IMAGE_ROOT_NAME: &str = "rootfs";

/// Bytes of a block.
pub(crate) const BLOCK_BYTES: u64 = 4096;

/// The longest name of a directory entry.
pub(crate) const NAME_BYTES: usize = 255;

/// The longest symbolic link that the kernel follows: a page, less its terminator.
pub(crate) const LINK_BYTES: usize = 4095;

/// What device numbers can be: Linux has 12 bits for the major, 20 for the minor number.
pub(crate) const DEVICE_MAJOR_LIMIT: u32 = 1 << 12;
pub(crate) const DEVICE_MINOR_LIMIT: u32 = 1 << 20;
