//! Directories: names sorted by their bytes, in blocks of their own.

use super::{BLOCK_BYTES, NAME_BYTES};

const ENTRY_BYTES: usize = 12;

/// What a directory entry says about what it leads to, as `d_type` does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum FileType {
    File = 1,
    Directory = 2,
    CharDevice = 3,
    BlockDevice = 4,
    Fifo = 5,
    SymLink = 7,
}

/// Groups names into blocks: how many names the block has that starts at each.
#[derive(Debug, Default)]
pub(super) struct Packing {
    used: usize,
    full_blocks: u64,
}

impl Packing {
    /// Takes the next name in; says whether a new block starts with it.
    pub(super) fn push(&mut self, name: &[u8]) -> bool {
        debug_assert!(!name.is_empty() && name.len() <= NAME_BYTES);
        let bytes = ENTRY_BYTES + name.len();
        if self.used + bytes > BLOCK_BYTES as usize {
            self.full_blocks += 1;
            self.used = bytes;
            return true;
        }
        self.used += bytes;
        false
    }

    /// Blocks before the last one.
    pub(super) fn full_blocks(&self) -> u64 {
        self.full_blocks
    }

    /// Bytes that the last block has.
    pub(super) fn last_bytes(&self) -> u64 {
        self.used as u64
    }
}

/// Collects the entries of one block.
#[derive(Debug, Default)]
pub(super) struct BlockBuilder {
    entries: Vec<(u64, FileType, usize)>,
    names: Vec<u8>,
}

impl BlockBuilder {
    pub(super) fn push(&mut self, name: &[u8], nid: u64, file_type: FileType) {
        self.entries.push((nid, file_type, self.names.len()));
        self.names.extend_from_slice(name);
    }

    /// The block without the zeros that fill it up; starts the next one.
    pub(super) fn take(&mut self) -> Vec<u8> {
        let start = self.entries.len() * ENTRY_BYTES;
        let mut block = Vec::with_capacity(BLOCK_BYTES as usize);
        for (nid, file_type, offset) in self.entries.drain(..) {
            block.extend_from_slice(&nid.to_le_bytes());
            // At most a block, so it fits 16 bits.
            block.extend_from_slice(&((start + offset) as u16).to_le_bytes());
            block.extend_from_slice(&[file_type as u8, 0]);
        }
        block.append(&mut self.names);
        block
    }
}
