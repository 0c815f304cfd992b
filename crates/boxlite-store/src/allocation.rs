//! What files really take.

use std::collections::HashSet;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

/// st_blocks counts units of this, whatever the file system's blocks are (stat(2)).
const ST_BLOCK_BYTES: u64 = 512;

/// The bytes that the file system has allocated for the files below `path`, or for `path` if it
/// is one: holes count nothing, and a file with several names counts once. Folders count nothing,
/// so that a home without contents takes no space that a prune would be expected to free. What
/// disappears meanwhile counts nothing; symbolic links are not followed.
pub(crate) fn allocated_bytes(path: &Path) -> io::Result<u64> {
    let mut seen = HashSet::new();
    let mut total = 0;
    let mut pending = vec![path.to_owned()];
    while let Some(path) = pending.pop() {
        let metadata = match std::fs::symlink_metadata(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            other => other?,
        };
        if metadata.nlink() > 1 && !metadata.is_dir() && !seen.insert((metadata.dev(), metadata.ino())) {
            continue;
        }
        if metadata.is_dir() {
            match std::fs::read_dir(&path) {
                Ok(entries) => {
                    for entry in entries {
                        pending.push(entry?.path());
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => return Err(error),
            }
        } else {
            total += metadata.blocks() * ST_BLOCK_BYTES;
        }
    }
    Ok(total)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn holes_and_second_names_count_nothing() {
        let directory = tempfile::tempdir().unwrap();
        std::fs::create_dir(directory.path().join("folder")).unwrap();
        assert_eq!(allocated_bytes(directory.path()).unwrap(), 0);
        let file = std::fs::File::create(directory.path().join("hole")).unwrap();
        file.set_len(1 << 30).unwrap();
        assert!(allocated_bytes(directory.path()).unwrap() < 1 << 20);
        std::fs::write(directory.path().join("data"), vec![1; 1 << 20]).unwrap();
        std::fs::File::open(directory.path().join("data"))
            .unwrap()
            .sync_all()
            .unwrap();
        let one = allocated_bytes(directory.path()).unwrap();
        assert!(one >= 1 << 20);
        std::fs::hard_link(directory.path().join("data"), directory.path().join("again")).unwrap();
        assert!(allocated_bytes(directory.path()).unwrap() < one + (1 << 19));
        assert_eq!(allocated_bytes(&directory.path().join("absent")).unwrap(), 0);
    }
}
