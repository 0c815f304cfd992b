//! The blocks of the file system: which are free, and writing them in long runs.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

use super::BLOCK_BYTES;

/// Writes are collected up to this size.
const BUFFER_BYTES: usize = 1 << 20;

/// Blocks in a row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Run {
    pub(super) start: u64,
    pub(super) blocks: u64,
}

impl Run {
    pub(super) fn end(&self) -> u64 {
        self.start + self.blocks
    }
}

/// Gives blocks out, from what was given back first.
#[derive(Debug)]
pub(super) struct Allocator {
    /// By start; no two of them touch.
    free: BTreeMap<u64, u64>,
    by_length: BTreeSet<(u64, u64)>,
    /// Nothing was ever given out from here on.
    end: u64,
}

impl Allocator {
    pub(super) fn new(start: u64) -> Self {
        Self {
            free: BTreeMap::new(),
            by_length: BTreeSet::new(),
            end: start,
        }
    }

    /// One past the last block ever given out.
    pub(super) fn end(&self) -> u64 {
        self.end
    }

    /// The shortest free run that is long enough, else fresh blocks.
    pub(super) fn allocate(&mut self, blocks: u64) -> Run {
        let found = self.by_length.range((blocks, 0)..).next().copied();
        let Some((length, start)) = found else {
            return self.allocate_fresh(blocks);
        };
        self.take(start, length);
        if length > blocks {
            self.insert(start + blocks, length - blocks);
        }
        Run { start, blocks }
    }

    /// Blocks that nothing was ever written to.
    pub(super) fn allocate_fresh(&mut self, blocks: u64) -> Run {
        let start = self.end;
        self.end = start.saturating_add(blocks);
        Run { start, blocks }
    }

    pub(super) fn release(&mut self, run: Run) {
        let (mut start, mut length) = (run.start, run.blocks);
        if length == 0 {
            return;
        }
        if let Some((before, bytes)) = self.free.range(..start).next_back()
            && before + bytes == start
        {
            let (before, bytes) = (*before, *bytes);
            self.take(before, bytes);
            (start, length) = (before, length + bytes);
        }
        if let Some(after) = self.free.get(&run.end()).copied() {
            self.take(run.end(), after);
            length += after;
        }
        self.insert(start, length);
    }

    fn insert(&mut self, start: u64, length: u64) {
        self.free.insert(start, length);
        self.by_length.insert((length, start));
    }

    fn take(&mut self, start: u64, length: u64) {
        self.free.remove(&start);
        self.by_length.remove(&(length, start));
    }

    /// Gives up what is free at the end, and returns what else is free.
    pub(super) fn trim(&mut self) -> Vec<Run> {
        if let Some((start, length)) = self.free.last_key_value().map(|(start, length)| (*start, *length))
            && start + length == self.end
        {
            self.take(start, length);
            self.end = start;
        }
        self.free
            .iter()
            .map(|(start, blocks)| Run {
                start: *start,
                blocks: *blocks,
            })
            .collect()
    }
}

/// Writes a file at places of the caller's choice, in pieces as large as they can be.
#[derive(Debug)]
pub(super) struct Output {
    file: File,
    /// Where in the file the buffer's first byte goes.
    start: u64,
    buffer: Box<[u8]>,
    used: usize,
}

impl Output {
    pub(super) fn new(file: File) -> Self {
        Self {
            file,
            start: 0,
            buffer: vec![0; BUFFER_BYTES].into_boxed_slice(),
            used: 0,
        }
    }

    /// Where the next byte goes.
    pub(super) fn position(&self) -> u64 {
        self.start + self.used as u64
    }

    /// Goes on elsewhere. What is skipped keeps what it has, or becomes a hole.
    pub(super) fn seek(&mut self, position: u64) -> io::Result<()> {
        if position != self.position() {
            self.flush()?;
            self.start = position;
        }
        Ok(())
    }

    /// Room for what comes next, never empty. Whatever of it was filled must be told to
    /// [`advance`](Self::advance).
    pub(super) fn room(&mut self) -> io::Result<&mut [u8]> {
        if self.used == self.buffer.len() {
            self.flush()?;
        }
        Ok(&mut self.buffer[self.used..])
    }

    pub(super) fn advance(&mut self, bytes: usize) {
        self.used += bytes;
        debug_assert!(self.used <= self.buffer.len());
    }

    pub(super) fn write(&mut self, mut bytes: &[u8]) -> io::Result<()> {
        while !bytes.is_empty() {
            let room = self.room()?;
            let piece = room.len().min(bytes.len());
            room[..piece].copy_from_slice(&bytes[..piece]);
            self.advance(piece);
            bytes = &bytes[piece..];
        }
        Ok(())
    }

    /// Writes zeros up to the next block.
    pub(super) fn fill_block(&mut self) -> io::Result<()> {
        let end = self.position().next_multiple_of(BLOCK_BYTES);
        self.fill_to(end)
    }

    /// Writes zeros up to `end`.
    pub(super) fn fill_to(&mut self, end: u64) -> io::Result<()> {
        while self.position() < end {
            let missing = usize::try_from(end - self.position()).unwrap_or(usize::MAX);
            let room = self.room()?;
            let piece = room.len().min(missing);
            room[..piece].fill(0);
            self.advance(piece);
        }
        Ok(())
    }

    pub(super) fn flush(&mut self) -> io::Result<()> {
        self.file.write_all_at(&self.buffer[..self.used], self.start)?;
        self.start += self.used as u64;
        self.used = 0;
        Ok(())
    }

    /// Makes some blocks read as zeros, and gives their space back where the file system can.
    pub(super) fn clear(&mut self, run: Run) -> io::Result<()> {
        self.flush()?;
        let (start, bytes) = (run.start * BLOCK_BYTES, run.blocks * BLOCK_BYTES);
        #[cfg(target_os = "linux")]
        {
            use rustix::fs::{FallocateFlags, fallocate};
            let flags = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
            if fallocate(&self.file, flags, start, bytes).is_ok() {
                return Ok(());
            }
        }
        self.seek(start)?;
        self.fill_to(start + bytes)
    }

    /// Cuts everything off from here on.
    pub(super) fn truncate(&mut self, bytes: u64) -> io::Result<()> {
        self.flush()?;
        self.file.set_len(bytes)
    }

    pub(super) fn into_file(mut self) -> io::Result<File> {
        self.flush()?;
        Ok(self.file)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn run(start: u64, blocks: u64) -> Run {
        Run { start, blocks }
    }

    #[test]
    fn free_runs_join_and_are_used_again() {
        let mut allocator = Allocator::new(1);
        let runs: Vec<_> = (0..4).map(|_| allocator.allocate(10)).collect();
        assert_eq!(runs[3], run(31, 10));
        allocator.release(runs[0]);
        allocator.release(runs[2]);
        assert_eq!(allocator.allocate(4), run(1, 4));
        assert_eq!(allocator.allocate(10), run(21, 10));
        allocator.release(run(21, 10));
        allocator.release(runs[1]);
        assert_eq!(allocator.allocate(26), run(5, 26));
        assert_eq!(allocator.allocate(1), run(41, 1));
        allocator.release(run(41, 1));
        allocator.release(runs[3]);
        allocator.release(run(5, 2));
        assert_eq!(allocator.trim(), [run(5, 2)]);
        assert_eq!(allocator.end(), 31);
    }

    proptest! {
        #[test]
        fn no_block_is_given_out_twice(steps in prop::collection::vec((0_u64..20, any::<prop::sample::Index>()), 1..100)) {
            let mut allocator = Allocator::new(0);
            let mut held: Vec<Run> = Vec::new();
            for (blocks, index) in steps {
                if blocks < 6 && !held.is_empty() {
                    allocator.release(held.swap_remove(index.index(held.len())));
                } else {
                    held.push(allocator.allocate(blocks.max(1)));
                }
                let mut sorted = held.clone();
                sorted.sort_by_key(|run| run.start);
                prop_assert!(sorted.windows(2).all(|pair| pair[0].end() <= pair[1].start));
                prop_assert!(sorted.last().is_none_or(|run| run.end() <= allocator.end()));
            }
            let free: u64 = allocator.trim().iter().map(|run| run.blocks).sum();
            let used: u64 = held.iter().map(|run| run.blocks).sum();
            prop_assert_eq!(free + used, allocator.end());
        }
    }
}
