//! Putting the file system into a file.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use crate::checksum::crc32c;
use crate::inode::{self, Inode};
use crate::layout::{BLOCK_BYTES, INODE_BYTES, Layout, NoLayout};
use crate::{LARGEST_FILESYSTEM_BYTES, SMALLEST_FILESYSTEM_BYTES, directory, group, journal, superblock};

/// The superblock is so far from the beginning of the device.
const SUPERBLOCK_OFFSET: u64 = 1024;
/// The most bytes of a label.
const LONGEST_LABEL: usize = 16;
/// ext4 has 34 bits for the seconds of a time stamp.
const LATEST_SECONDS: u64 = (1 << 34) - 1;

/// What file system to make. The same options give the same bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FormatOptions {
    /// The size of the file system, 16 MiB to 16 TiB. Used in whole blocks of 4 KiB; a last group
    /// too small for its own tables is left off.
    pub filesystem_bytes: u64,
    /// The size of the file, at least that of the file system: what the machine sees as the
    /// device.
    pub device_bytes: u64,
    /// The volume's name, at most 16 bytes.
    pub label: String,
    /// The volume's UUID.
    pub uuid: [u8; 16],
    /// When it was made, in seconds since the Unix epoch.
    pub created_at_seconds: u64,
    /// The size of the journal, at least 4 MiB and at most half of the free space; `None` is what
    /// mke2fs would take (64 MiB from 2 to 16 GiB).
    pub journal_bytes: Option<u64>,
}

/// Why there is no file system. There is no file then either.
#[derive(Debug, thiserror::Error)]
pub enum FormatError {
    /// No room for a journal and anything else.
    #[error("a file system of {filesystem_bytes} bytes is too small, {SMALLEST_FILESYSTEM_BYTES} are needed")]
    TooSmall {
        /// What was asked for.
        filesystem_bytes: u64,
    },
    /// Beyond what is supported.
    #[error("a file system of {filesystem_bytes} bytes is too large, {LARGEST_FILESYSTEM_BYTES} are possible")]
    TooLarge {
        /// What was asked for.
        filesystem_bytes: u64,
    },
    /// The journal is too short for the kernel or too long for the file system.
    #[error("a journal of {journal_bytes} bytes doesn't fit: {smallest_bytes} to {largest_bytes} are possible")]
    Journal {
        /// What was asked for.
        journal_bytes: u64,
        /// The shortest.
        smallest_bytes: u64,
        /// The longest for this file system.
        largest_bytes: u64,
    },
    /// The device is smaller than the file system.
    #[error("a file system of {filesystem_bytes} bytes doesn't fit on a device of {device_bytes} bytes")]
    DeviceTooSmall {
        /// What was asked for.
        filesystem_bytes: u64,
        /// What was asked for.
        device_bytes: u64,
    },
    /// The label is too long or has a zero byte in it.
    #[error("{label:?} can't be a label: at most {LONGEST_LABEL} bytes, and no zero byte, are possible")]
    Label {
        /// What was asked for.
        label: String,
    },
    /// The time is beyond what ext4 can say.
    #[error("{created_at_seconds} seconds are beyond what ext4 can say (year 2446)")]
    Time {
        /// What was asked for.
        created_at_seconds: u64,
    },
    /// The file exists already or could not be made.
    #[error("can't make {}: {source}", path.display())]
    Create {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The file could not be written, or not be made that large.
    #[error("can't write {}: {source}", path.display())]
    Write {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
}

/// Makes the file `path` (mode 0600), which must not exist, with an empty ext4 in it. Does not
/// wait for the disk: `fsync` it before something durable names it. Takes milliseconds. Blocks.
///
/// # Errors
/// [`FormatError`].
pub fn format(path: &Path, options: &FormatOptions) -> Result<(), FormatError> {
    let layout = check(options)?;
    let file = OpenOptions::new()
        .read(true)
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(path)
        .map_err(|source| FormatError::Create {
            path: path.to_owned(),
            source,
        })?;
    write(&file, &layout, options).map_err(|source| {
        // What is half-made helps nobody; that it can't be deleted would be no better news.
        let _ = std::fs::remove_file(path);
        FormatError::Write {
            path: path.to_owned(),
            source,
        }
    })
}

fn check(options: &FormatOptions) -> Result<Layout, FormatError> {
    let &FormatOptions {
        filesystem_bytes,
        device_bytes,
        created_at_seconds,
        journal_bytes,
        ..
    } = options;
    if options.label.len() > LONGEST_LABEL || options.label.contains('\0') {
        return Err(FormatError::Label {
            label: options.label.clone(),
        });
    }
    if created_at_seconds > LATEST_SECONDS {
        return Err(FormatError::Time { created_at_seconds });
    }
    if device_bytes < filesystem_bytes {
        return Err(FormatError::DeviceTooSmall {
            filesystem_bytes,
            device_bytes,
        });
    }
    Layout::new(filesystem_bytes, journal_bytes).map_err(|error| match error {
        NoLayout::TooSmall => FormatError::TooSmall { filesystem_bytes },
        NoLayout::TooLarge => FormatError::TooLarge { filesystem_bytes },
        NoLayout::Journal {
            smallest_bytes,
            largest_bytes,
        } => FormatError::Journal {
            journal_bytes: journal_bytes.unwrap_or_default(),
            smallest_bytes,
            largest_bytes,
        },
    })
}

fn write(file: &File, layout: &Layout, options: &FormatOptions) -> io::Result<()> {
    let seed = crc32c(!0, &options.uuid);
    let write_block = |block: u64, bytes: &[u8]| file.write_all_at(bytes, block * BLOCK_BYTES);
    let write_inode = |number: u32, bytes: &[u8]| {
        let place = u64::from(number - 1) * INODE_BYTES;
        file.write_all_at(bytes, layout.inode_table(0) * BLOCK_BYTES + place)
    };
    file.set_len(options.device_bytes)?;

    let root = Inode {
        number: inode::ROOT,
        mode: 0o040_755,
        links: 2,
        blocks: std::slice::from_ref(&layout.root_directory),
        extent_block: None,
        time_seconds: options.created_at_seconds,
    };
    write_inode(root.number, &root.encode(seed))?;
    write_block(layout.root_directory.start, &directory::encode(seed, root.number))?;

    let log = Inode {
        number: inode::JOURNAL,
        mode: 0o100_600,
        links: 1,
        blocks: &layout.journal,
        extent_block: layout.journal_extent_block,
        time_seconds: options.created_at_seconds,
    };
    let log_inode = log.encode(seed);
    write_inode(log.number, &log_inode)?;
    if let (Some(block), Some(bytes)) = (log.extent_block, log.encode_extent_block(seed)) {
        write_block(block, &bytes)?;
    }
    if let Some(first) = layout.journal.first() {
        write_block(
            first.start,
            &journal::encode(log.size_bytes() / BLOCK_BYTES, options.uuid),
        )?;
    }

    let groups = group::encode(layout, seed);
    for (block, bitmap) in &groups.bitmaps {
        write_block(*block, bitmap)?;
    }
    let backup = inode::journal_backup(&log_inode);
    for group in 0..layout.groups.min(2) {
        if let Some(place) = layout.superblock_and_descriptors(group) {
            write_block(place.start + 1, &groups.descriptors)?;
            let offset = if group == 0 { SUPERBLOCK_OFFSET } else { 0 };
            let superblock = superblock::encode(layout, options, &backup, group);
            file.write_all_at(&superblock, place.start * BLOCK_BYTES + offset)?;
        }
    }
    Ok(())
}
