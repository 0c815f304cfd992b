//! Group descriptors and bitmaps.

use std::ops::Range;

use crate::checksum::crc32c;
use crate::fields::{Fields, low_u32};
use crate::layout::{BLOCK_BYTES, BLOCKS_PER_GROUP, DESCRIPTOR_BYTES, Layout, RESERVED_INODES};

const INODE_BITMAP_UNSET: u16 = 1;
const BLOCK_BITMAP_UNSET: u16 = 2;
/// A new file reads as zeros, so no table waits for a background thread in the guest to zero it.
const INODE_TABLE_ZEROED: u16 = 4;

/// All descriptors, and the bitmaps that have to be written, by block.
pub(crate) struct Groups {
    pub(crate) descriptors: Vec<u8>,
    pub(crate) bitmaps: Vec<(u64, Vec<u8>)>,
}

fn set_bits(bitmap: &mut [u8], bits: Range<u64>) {
    let mut bit = bits.start;
    while bit < bits.end {
        // A bitmap has 2^15 bits.
        let byte = (bit / 8) as usize;
        if bit.is_multiple_of(8) && bits.end - bit >= 8 {
            let whole = ((bits.end - bit) / 8) as usize;
            bitmap[byte..byte + whole].fill(0xff);
            bit += whole as u64 * 8;
        } else {
            bitmap[byte] |= 1 << (bit % 8);
            bit += 1;
        }
    }
}

/// The parts of `used` inside `blocks`, counted from the first of these.
fn within(used: &[Range<u64>], blocks: &Range<u64>) -> Vec<Range<u64>> {
    let first = used.partition_point(|range| range.end <= blocks.start);
    used[first..]
        .iter()
        .take_while(|range| range.start < blocks.end)
        .map(|range| range.start.max(blocks.start) - blocks.start..range.end.min(blocks.end) - blocks.start)
        .collect()
}

pub(crate) fn encode(layout: &Layout, filesystem_seed: u32) -> Groups {
    let mut descriptors = Vec::with_capacity((layout.descriptor_blocks * BLOCK_BYTES) as usize);
    let mut bitmaps = Vec::new();
    for group in 0..layout.groups {
        let blocks = layout.group_blocks(group);
        let used = within(&layout.used, &blocks);
        let used_blocks: u64 = used.iter().map(|range| range.end - range.start).sum();
        let mut flags = INODE_TABLE_ZEROED;

        let mut block_sum = 0;
        // What the kernel can work out for itself need not be written, but for the last group,
        // whose end it does not look at then.
        let implied = layout
            .superblock_and_descriptors(group)
            .map_or(0, |range| range.end - range.start);
        if used_blocks == implied && group + 1 < layout.groups {
            flags |= BLOCK_BITMAP_UNSET;
        } else {
            let mut bitmap = vec![0; BLOCK_BYTES as usize];
            for range in used {
                set_bits(&mut bitmap, range);
            }
            set_bits(&mut bitmap, blocks.end - blocks.start..BLOCKS_PER_GROUP);
            block_sum = crc32c(filesystem_seed, &bitmap);
            bitmaps.push((layout.block_bitmap(group), bitmap));
        }

        let used_inodes = if group == 0 { RESERVED_INODES } else { 0 };
        let mut inode_sum = 0;
        if used_inodes == 0 {
            flags |= INODE_BITMAP_UNSET;
        } else {
            let mut bitmap = vec![0; BLOCK_BYTES as usize];
            set_bits(&mut bitmap, 0..used_inodes);
            set_bits(&mut bitmap, layout.inodes_per_group..BLOCKS_PER_GROUP);
            inode_sum = crc32c(filesystem_seed, &bitmap[..(layout.inodes_per_group / 8) as usize]);
            bitmaps.push((layout.inode_bitmap(group), bitmap));
        }

        let free_inodes = low_u32(layout.inodes_per_group - used_inodes);
        let mut descriptor = Fields::new(DESCRIPTOR_BYTES as usize);
        descriptor.put_split_u64(0x00, 0x20, layout.block_bitmap(group));
        descriptor.put_split_u64(0x04, 0x24, layout.inode_bitmap(group));
        descriptor.put_split_u64(0x08, 0x28, layout.inode_table(group));
        descriptor.put_split_u32(0x0c, 0x2c, low_u32(blocks.end - blocks.start - used_blocks));
        descriptor.put_split_u32(0x0e, 0x2e, free_inodes);
        descriptor.put_split_u32(0x10, 0x30, u32::from(group == 0));
        descriptor.put_u16(0x12, flags);
        descriptor.put_split_u32(0x18, 0x38, block_sum);
        descriptor.put_split_u32(0x1a, 0x3a, inode_sum);
        descriptor.put_split_u32(0x1c, 0x32, free_inodes);
        let sum = crc32c(
            crc32c(filesystem_seed, &low_u32(group).to_le_bytes()),
            descriptor.bytes(),
        );
        // Only the lower half has a place.
        descriptor.put_u16(0x1e, (sum & 0xffff) as u16);
        descriptors.extend_from_slice(descriptor.bytes());
    }
    Groups { descriptors, bitmaps }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn exactly_the_bits_of_the_range_are_set(start in 0_u64..300, length in 0_u64..300) {
            let mut bitmap = [0; 80];
            set_bits(&mut bitmap, start..start + length);
            for bit in 0..640 {
                let is_set = bitmap[(bit / 8) as usize] >> (bit % 8) & 1 == 1;
                prop_assert_eq!(is_set, (start..start + length).contains(&bit));
            }
        }
    }

    #[test]
    fn ranges_are_cut_to_the_group() {
        let used = [0..5, 8..20, 30..31];
        assert_eq!(within(&used, &(10..32)), [0..10, 20..21]);
        assert_eq!(within(&used, &(4..9)), [0..1, 4..5]);
        assert_eq!(within(&used, &(20..30)), []);
    }
}
