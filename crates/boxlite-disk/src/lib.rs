//! A box's disk: an empty ext4 file system with a journal, in a sparse file.
//!
//! The file system is written by this crate itself, in a few writes of together some hundred
//! kibibytes whatever its size, so that no `mkfs` runs on the way to a box. What it writes
//! follows the kernel's `Documentation/filesystems/ext4` and is what `e2fsck -f` finds clean and
//! Linux mounts read-write. Everything that a new file reads as zeros anyway (inode tables,
//! bitmaps of groups that nothing is in, the journal's blocks) is not written.
//!
//! ```
//! use boxlite_disk::{DISK_DEVICE_BYTES, FormatOptions, allocated_bytes, format};
//!
//! # let directory = tempfile::tempdir().unwrap();
//! let disk = directory.path().join("disk");
//! let options = FormatOptions {
//!     filesystem_bytes: 10 << 30,
//!     device_bytes: DISK_DEVICE_BYTES,
//!     label: "box".into(),
//!     uuid: [7; 16],
//!     created_at_seconds: 1_700_000_000,
//!     journal_bytes: None,
//! };
//! format(&disk, &options)?;
//! assert_eq!(std::fs::metadata(&disk)?.len(), DISK_DEVICE_BYTES);
//! assert!(allocated_bytes(&disk)? < 1 << 20);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

#![forbid(unsafe_code)]

mod allocation;
mod checksum;
mod directory;
mod fields;
mod format;
mod group;
mod inode;
mod journal;
mod layout;
mod superblock;
mod unused;

pub use allocation::allocated_bytes;
pub use format::{FormatError, FormatOptions, format};
pub use layout::{LARGEST_FILESYSTEM_BYTES, SMALLEST_FILESYSTEM_BYTES};
pub use unused::unused_bytes;

/// The virtual size of every disk of every machine, whatever file system is on it. One size for
/// all of them, so that a machine that was saved with one disk can go on with another; the files
/// are sparse, so it costs nothing.
pub const DISK_DEVICE_BYTES: u64 = 1 << 40;
