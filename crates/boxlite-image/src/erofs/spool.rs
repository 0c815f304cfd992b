//! The last bytes of files, which go behind their inodes, until it is known where those are.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::Path;

/// What is kept in memory before it goes to a file.
const MEMORY_BYTES: usize = 8 << 20;

/// Bytes that are appended and read back by their place; beyond a few MiB in a file without
/// a name.
#[derive(Debug)]
pub(super) struct Spool {
    file: File,
    /// Bytes in the file; what follows is in `recent`.
    stored: u64,
    recent: Vec<u8>,
}

impl Spool {
    /// `scratch` is the path of a file that may be created and is deleted at once.
    pub(super) fn new(scratch: &Path) -> io::Result<Self> {
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(scratch)?;
        std::fs::remove_file(scratch)?;
        Ok(Self {
            file,
            stored: 0,
            recent: Vec::new(),
        })
    }

    /// Appends; returns where.
    pub(super) fn push(&mut self, bytes: &[u8]) -> io::Result<u64> {
        if self.recent.len() + bytes.len() > MEMORY_BYTES {
            self.file.write_all_at(&self.recent, self.stored)?;
            self.stored += self.recent.len() as u64;
            self.recent.clear();
        }
        let position = self.stored + self.recent.len() as u64;
        self.recent.extend_from_slice(bytes);
        Ok(position)
    }

    /// Reads what was appended.
    pub(super) fn read(&self, position: u64, bytes: &mut [u8]) -> io::Result<()> {
        match position.checked_sub(self.stored) {
            // No piece is on both sides: `push` moves whole ones.
            Some(start) => {
                let start = start as usize;
                bytes.copy_from_slice(&self.recent[start..start + bytes.len()]);
                Ok(())
            }
            None => self.file.read_exact_at(bytes, position),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_come_back_from_memory_and_file() {
        let scratch = tempfile::tempdir().unwrap();
        let path = scratch.path().join("spool");
        let mut spool = Spool::new(&path).unwrap();
        assert!(!path.exists());
        let piece = |index: usize| vec![index as u8; 1000 + index % 3000];
        let places: Vec<_> = (0..5000).map(|index| spool.push(&piece(index)).unwrap()).collect();
        assert!(spool.stored > 0);
        for (index, place) in places.into_iter().enumerate() {
            let mut read = piece(index + 1);
            read.resize(piece(index).len(), 1);
            spool.read(place, &mut read).unwrap();
            assert_eq!(read, piece(index));
        }
    }
}
