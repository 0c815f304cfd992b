//! Whether a file system was ever used: [`unused_bytes`].

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt as _;
use std::path::Path;

use crate::layout::BLOCK_BYTES;
use crate::superblock::{MAGIC, SUPERBLOCK_BYTES};

/// The size of the file system on a disk that was formatted by [`format`](crate::format) and
/// never mounted since, in bytes; `None` if it was mounted, or there is none. Reads 1 KiB
/// (blocking).
///
/// # Errors
/// As open(2) and pread(2).
pub fn unused_bytes(path: &Path) -> io::Result<Option<u64>> {
    let mut superblock = [0; SUPERBLOCK_BYTES];
    match File::open(path)?.read_exact_at(&mut superblock, 1024) {
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(None),
        read => read?,
    }
    let field = |at: usize| {
        let bytes = [
            superblock[at],
            superblock[at + 1],
            superblock[at + 2],
            superblock[at + 3],
        ];
        u32::from_le_bytes(bytes)
    };
    let is_ext4 = superblock[0x38..0x3a] == MAGIC.to_le_bytes();
    // s_mtime and s_mnt_count: the kernel sets the one and counts the other up at every mount
    // that may write.
    let is_used = field(0x2c) != 0 || superblock[0x34..0x36] != [0, 0];
    let blocks = u64::from(field(0x04)) | u64::from(field(0x150)) << 32;
    Ok((is_ext4 && !is_used).then(|| blocks.saturating_mul(BLOCK_BYTES)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{DISK_DEVICE_BYTES, FormatOptions, format};

    #[test]
    fn a_disk_is_unused_until_something_mounts_it() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("disk");
        let options = FormatOptions {
            filesystem_bytes: 5 << 30,
            device_bytes: DISK_DEVICE_BYTES,
            label: "box".into(),
            uuid: [7; 16],
            created_at_seconds: 1_700_000_000,
            journal_bytes: None,
        };
        format(&path, &options).unwrap();
        assert_eq!(unused_bytes(&path).unwrap(), Some(5 << 30));
        let file = File::options().write(true).open(&path).unwrap();
        // What mount(2) writes: the time, and the number of times.
        for (offset, bytes) in [(0x2c, &[1_u8, 2, 3, 4][..]), (0x34, &[1, 0])] {
            file.write_all_at(bytes, 1024 + offset).unwrap();
            assert_eq!(unused_bytes(&path).unwrap(), None);
            file.write_all_at(&[0; 4][..bytes.len()], 1024 + offset).unwrap();
        }
        assert_eq!(unused_bytes(&path).unwrap(), Some(5 << 30));
        file.set_len(1500).unwrap();
        assert_eq!(unused_bytes(&path).unwrap(), None);
        assert!(unused_bytes(&directory.path().join("none")).is_err());
    }
}
