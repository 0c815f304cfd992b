//! Inodes and the extents in them.

use std::ops::Range;

use crate::checksum::crc32c;
use crate::fields::{Fields, low_u32};
use crate::layout::{BLOCK_BYTES, INODE_BYTES};

const EXTENT_MAGIC: u16 = 0xf30a;
const EXTENT_BYTES: usize = 12;
/// How many extents an inode has room for.
const EXTENTS_IN_INODE: u16 = 4;
/// How many extents a block has room for, with a checksum behind them.
const EXTENTS_IN_BLOCK: u16 = 340;
/// The longest extent that is not marked as unwritten.
const LONGEST_EXTENT: u64 = 1 << 15;
const EXTENTS_FLAG: u32 = 0x8_0000;
/// i_blocks counts units of 512 bytes.
const SECTORS_PER_BLOCK: u64 = BLOCK_BYTES / 512;
/// The fields behind the first 128 bytes that this crate and the kernel know.
pub(crate) const EXTRA_BYTES: u16 = 32;

pub(crate) const ROOT: u32 = 2;
pub(crate) const JOURNAL: u32 = 8;

/// The offset and the length of i_block.
const I_BLOCK: Range<usize> = 0x28..0x64;

#[derive(Clone, Copy, Debug)]
struct Extent {
    logical: u32,
    physical: u64,
    blocks: u16,
}

fn extents(ranges: &[Range<u64>]) -> Vec<Extent> {
    let mut extents = Vec::new();
    let mut logical = 0;
    for range in ranges {
        let mut start = range.start;
        while start < range.end {
            let blocks = (range.end - start).min(LONGEST_EXTENT);
            // An extent's length is at most 2^15.
            extents.push(Extent {
                logical,
                physical: start,
                blocks: blocks as u16,
            });
            start += blocks;
            logical += low_u32(blocks);
        }
    }
    extents
}

/// Whether the extents of these blocks are too many for an inode.
pub(crate) fn needs_extent_block(ranges: &[Range<u64>]) -> bool {
    extents(ranges).len() > usize::from(EXTENTS_IN_INODE)
}

fn put_header(fields: &mut Fields, offset: usize, entries: u16, room: u16, depth: u16) {
    fields.put_u16(offset, EXTENT_MAGIC);
    fields.put_u16(offset + 2, entries);
    fields.put_u16(offset + 4, room);
    fields.put_u16(offset + 6, depth);
}

fn put_extents(fields: &mut Fields, offset: usize, room: u16, extents: &[Extent]) {
    // The callers have looked that there is room.
    put_header(fields, offset, extents.len() as u16, room, 0);
    for (place, extent) in extents.iter().enumerate() {
        let offset = offset + EXTENT_BYTES * (place + 1);
        fields.put_u32(offset, extent.logical);
        fields.put_u16(offset + 4, extent.blocks);
        // The upper bits of the block's number; the layout has none beyond 32.
        fields.put_u16(offset + 6, (extent.physical >> 32) as u16);
        fields.put_u32(offset + 8, low_u32(extent.physical));
    }
}

/// What begins every checksum of what belongs to an inode (of generation 0).
pub(crate) fn inode_seed(filesystem_seed: u32, number: u32) -> u32 {
    crc32c(crc32c(filesystem_seed, &number.to_le_bytes()), &[0; 4])
}

/// An inode that is to be written.
#[derive(Debug)]
pub(crate) struct Inode<'a> {
    pub(crate) number: u32,
    pub(crate) mode: u16,
    pub(crate) links: u16,
    pub(crate) blocks: &'a [Range<u64>],
    /// Where the extents are if they are too many for the inode.
    pub(crate) extent_block: Option<u64>,
    pub(crate) time_seconds: u64,
}

impl Inode<'_> {
    pub(crate) fn size_bytes(&self) -> u64 {
        self.blocks.iter().map(|range| range.end - range.start).sum::<u64>() * BLOCK_BYTES
    }

    pub(crate) fn encode(&self, filesystem_seed: u32) -> Vec<u8> {
        let mut inode = Fields::new(INODE_BYTES as usize);
        let size = self.size_bytes();
        let sectors = (size / BLOCK_BYTES + u64::from(self.extent_block.is_some())) * SECTORS_PER_BLOCK;
        inode.put_u16(0x00, self.mode);
        inode.put_split_u64(0x04, 0x6c, size);
        for offset in [0x08, 0x0c, 0x10, 0x90] {
            inode.put_u32(offset, low_u32(self.time_seconds));
        }
        // The two bits beyond 32, in the fields that have nanoseconds above them.
        for offset in [0x84, 0x88, 0x8c, 0x94] {
            inode.put_u32(offset, low_u32(self.time_seconds >> 32) & 3);
        }
        inode.put_u16(0x1a, self.links);
        inode.put_u32(0x1c, low_u32(sectors));
        inode.put_u32(0x20, EXTENTS_FLAG);
        let extents = extents(self.blocks);
        match self.extent_block {
            None => put_extents(&mut inode, I_BLOCK.start, EXTENTS_IN_INODE, &extents),
            Some(block) => {
                put_header(&mut inode, I_BLOCK.start, 1, EXTENTS_IN_INODE, 1);
                let index = I_BLOCK.start + EXTENT_BYTES;
                inode.put_u32(index + 4, low_u32(block));
                inode.put_u16(index + 8, (block >> 32) as u16);
            }
        }
        inode.put_u16(0x80, EXTRA_BYTES);
        let sum = crc32c(inode_seed(filesystem_seed, self.number), inode.bytes());
        inode.put_split_u32(0x7c, 0x82, sum);
        inode.into_bytes()
    }

    /// The block of extents, if there has to be one.
    pub(crate) fn encode_extent_block(&self, filesystem_seed: u32) -> Option<Vec<u8>> {
        self.extent_block?;
        let mut block = Fields::new(BLOCK_BYTES as usize);
        put_extents(&mut block, 0, EXTENTS_IN_BLOCK, &extents(self.blocks));
        let tail = EXTENT_BYTES * (usize::from(EXTENTS_IN_BLOCK) + 1);
        let sum = crc32c(inode_seed(filesystem_seed, self.number), &block.bytes()[..tail]);
        block.put_u32(tail, sum);
        Some(block.into_bytes())
    }
}

/// The part of an encoded inode that the superblock keeps a copy of for the journal: i_block,
/// then the upper and the lower half of the size.
pub(crate) fn journal_backup(inode: &[u8]) -> Vec<u8> {
    [&inode[I_BLOCK], &inode[0x6c..0x70], &inode[0x04..0x08]].concat()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_ranges_become_extents_of_at_most_2_to_the_15() {
        let ranges = [5..6, 10..10 + 2 * LONGEST_EXTENT + 1];
        let extents = extents(&ranges);
        let lengths: Vec<u64> = extents.iter().map(|extent| extent.blocks.into()).collect();
        assert_eq!(lengths, [1, LONGEST_EXTENT, LONGEST_EXTENT, 1]);
        assert_eq!(extents[2].logical, 1 + 32768);
        assert!(!needs_extent_block(&ranges));
    }

    #[test]
    fn the_largest_journal_s_extents_fit_into_one_block() {
        // The tables are in the way once in 16 groups, and the copies once.
        let blocks = 10_u64 << 20;
        let ranges: Vec<_> = (0..blocks.div_ceil(32768))
            .map(|group| group * 32768..(group + 1) * 32768)
            .collect();
        assert!(extents(&ranges).len() + 8 <= usize::from(EXTENTS_IN_BLOCK));
    }
}
