//! Where everything is: groups, tables, journal.

use std::ops::Range;

pub(crate) const BLOCK_BYTES: u64 = 4096;
/// A group is what one block of bitmap describes.
pub(crate) const BLOCKS_PER_GROUP: u64 = BLOCK_BYTES * 8;
pub(crate) const INODE_BYTES: u64 = 256;
pub(crate) const DESCRIPTOR_BYTES: u64 = 64;
/// The tables of so many groups are together in the first of them, so that the others are empty.
pub(crate) const LOG_GROUPS_PER_FLEX: u8 = 4;
const GROUPS_PER_FLEX: u64 = 1 << LOG_GROUPS_PER_FLEX;
/// One inode for so many bytes.
const BYTES_PER_INODE: u64 = 16 << 10;
/// The inodes that ext4 has a use of its own for.
pub(crate) const RESERVED_INODES: u64 = 10;
/// A last group with less than this beside its tables is not worth having.
const SMALLEST_GROUP_DATA_BLOCKS: u64 = 50;
/// The kernel refuses a shorter journal (JBD2_MIN_JOURNAL_BLOCKS).
const SMALLEST_JOURNAL_BLOCKS: u64 = 1024;
/// A longer one helps nobody, and its length has to fit into 32 bits.
const LARGEST_JOURNAL_BLOCKS: u64 = 10 << 20;

/// Below this there is no room for a journal and anything else.
pub const SMALLEST_FILESYSTEM_BYTES: u64 = 16 << 20;
/// Beyond this block numbers would need more than 32 bits, and most hosts' files end there too.
pub const LARGEST_FILESYSTEM_BYTES: u64 = 16 << 40;

/// Why there is no layout.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum NoLayout {
    TooSmall,
    TooLarge,
    Journal { smallest_bytes: u64, largest_bytes: u64 },
}

/// The group that has the one copy of the superblock and of the group descriptors, if there are
/// two groups.
pub(crate) const BACKUP_GROUP: u64 = 1;

#[derive(Clone, Debug)]
pub(crate) struct Layout {
    pub(crate) blocks: u64,
    pub(crate) groups: u64,
    pub(crate) inodes_per_group: u64,
    pub(crate) inode_table_blocks: u64,
    pub(crate) descriptor_blocks: u64,
    pub(crate) root_directory: Range<u64>,
    /// Where the journal's extents are listed, if they are too many for its inode.
    pub(crate) journal_extent_block: Option<u64>,
    /// The journal, in order.
    pub(crate) journal: Vec<Range<u64>>,
    /// Everything that is in use, sorted, disjoint.
    pub(crate) used: Vec<Range<u64>>,
}

/// The journal that mke2fs makes for a file system of so many blocks of 4 KiB.
fn default_journal_blocks(blocks: u64) -> u64 {
    const MIB: u64 = (1 << 20) / BLOCK_BYTES;
    const GIB: u64 = 1024 * MIB;
    match blocks / MIB {
        0..128 => 4 * MIB,
        128..1024 => 16 * MIB,
        1024..2048 => 32 * MIB,
        2048..16384 => 64 * MIB,
        16384..32768 => 128 * MIB,
        32768..65536 => 256 * MIB,
        65536..131_072 => 512 * MIB,
        _ => GIB,
    }
}

impl Layout {
    pub(crate) fn new(filesystem_bytes: u64, journal_bytes: Option<u64>) -> Result<Layout, NoLayout> {
        if filesystem_bytes < SMALLEST_FILESYSTEM_BYTES {
            return Err(NoLayout::TooSmall);
        }
        if filesystem_bytes > LARGEST_FILESYSTEM_BYTES {
            return Err(NoLayout::TooLarge);
        }
        let blocks = filesystem_bytes / BLOCK_BYTES;
        let mut layout = Layout::of_blocks(blocks);
        if layout.last_group_is_too_small() {
            layout = Layout::of_blocks((layout.groups - 1) * BLOCKS_PER_GROUP);
        }
        layout.place_tables();
        layout.root_directory = layout.take(1)[0].clone();

        let free = layout.free_blocks();
        let largest = (free / 2).min(LARGEST_JOURNAL_BLOCKS);
        let journal_blocks =
            journal_bytes.map_or_else(|| default_journal_blocks(layout.blocks), |bytes| bytes / BLOCK_BYTES);
        if largest < SMALLEST_JOURNAL_BLOCKS {
            return Err(NoLayout::TooSmall);
        }
        if !(SMALLEST_JOURNAL_BLOCKS..=largest).contains(&journal_blocks) {
            return Err(NoLayout::Journal {
                smallest_bytes: SMALLEST_JOURNAL_BLOCKS * BLOCK_BYTES,
                largest_bytes: largest * BLOCK_BYTES,
            });
        }
        layout.place_journal(journal_blocks);
        Ok(layout)
    }

    fn of_blocks(blocks: u64) -> Layout {
        let groups = blocks.div_ceil(BLOCKS_PER_GROUP);
        let inodes_per_block = BLOCK_BYTES / INODE_BYTES;
        let inodes = (blocks * BLOCK_BYTES / BYTES_PER_INODE).max(RESERVED_INODES + 1);
        let inodes_per_group = inodes.div_ceil(groups).next_multiple_of(inodes_per_block);
        Layout {
            blocks,
            groups,
            inodes_per_group,
            inode_table_blocks: inodes_per_group / inodes_per_block,
            descriptor_blocks: (groups * DESCRIPTOR_BYTES).div_ceil(BLOCK_BYTES),
            root_directory: 0..0,
            journal_extent_block: None,
            journal: Vec::new(),
            used: Vec::new(),
        }
    }

    fn last_group_is_too_small(&self) -> bool {
        let last = self.groups - 1;
        let mut overhead = SMALLEST_GROUP_DATA_BLOCKS;
        if last == 0 {
            return false;
        }
        if last == BACKUP_GROUP {
            overhead += 1 + self.descriptor_blocks;
        }
        if last.is_multiple_of(GROUPS_PER_FLEX) {
            overhead += 2 + self.inode_table_blocks;
        }
        let blocks = self.group_blocks(last);
        blocks.end - blocks.start < overhead
    }

    pub(crate) fn inodes(&self) -> u64 {
        self.inodes_per_group * self.groups
    }

    pub(crate) fn group_blocks(&self, group: u64) -> Range<u64> {
        group * BLOCKS_PER_GROUP..((group + 1) * BLOCKS_PER_GROUP).min(self.blocks)
    }

    /// The superblock or its copy, and the group descriptors or theirs, if this group has them.
    pub(crate) fn superblock_and_descriptors(&self, group: u64) -> Option<Range<u64>> {
        let start = group * BLOCKS_PER_GROUP;
        (group == 0 || group == BACKUP_GROUP).then_some(start..start + 1 + self.descriptor_blocks)
    }

    /// The first block of the tables of the flex group that `group` is in, the group's place in
    /// it, and how many groups it has.
    fn flex(&self, group: u64) -> (u64, u64, u64) {
        let first = group - group % GROUPS_PER_FLEX;
        let start = match self.superblock_and_descriptors(first) {
            Some(before) => before.end,
            None => first * BLOCKS_PER_GROUP,
        };
        (start, group - first, GROUPS_PER_FLEX.min(self.groups - first))
    }

    pub(crate) fn block_bitmap(&self, group: u64) -> u64 {
        let (start, place, _) = self.flex(group);
        start + place
    }

    pub(crate) fn inode_bitmap(&self, group: u64) -> u64 {
        let (start, place, groups) = self.flex(group);
        start + groups + place
    }

    pub(crate) fn inode_table(&self, group: u64) -> u64 {
        let (start, place, groups) = self.flex(group);
        start + 2 * groups + place * self.inode_table_blocks
    }

    fn place_tables(&mut self) {
        for group in 0..self.groups {
            self.used.extend(self.superblock_and_descriptors(group));
            if group.is_multiple_of(GROUPS_PER_FLEX) {
                let (start, _, groups) = self.flex(group);
                self.used.push(start..start + groups * (2 + self.inode_table_blocks));
            }
        }
        self.merge_used();
    }

    fn place_journal(&mut self, blocks: u64) {
        self.journal = self.take(blocks);
        if crate::inode::needs_extent_block(&self.journal) {
            self.journal_extent_block = Some(self.take(1)[0].start);
        }
    }

    /// Takes the first free blocks, in as many pieces as it needs. There are enough.
    fn take(&mut self, blocks: u64) -> Vec<Range<u64>> {
        let mut taken = Vec::new();
        let mut missing = blocks;
        for gap in self.gaps() {
            let length = missing.min(gap.end - gap.start);
            if length > 0 {
                taken.push(gap.start..gap.start + length);
            }
            missing -= length;
        }
        debug_assert_eq!(missing, 0);
        self.used.extend(taken.iter().cloned());
        self.merge_used();
        taken
    }

    fn gaps(&self) -> Vec<Range<u64>> {
        let starts = std::iter::once(0).chain(self.used.iter().map(|range| range.end));
        let ends = self.used.iter().map(|range| range.start).chain([self.blocks]);
        starts.zip(ends).map(|(start, end)| start..end).collect()
    }

    fn merge_used(&mut self) {
        self.used.sort_by_key(|range| range.start);
        self.used.dedup_by(|next, before| {
            debug_assert!(next.start >= before.end);
            let touches = next.start == before.end;
            if touches {
                before.end = next.end;
            }
            touches
        });
    }

    pub(crate) fn free_blocks(&self) -> u64 {
        self.blocks - self.used.iter().map(|range| range.end - range.start).sum::<u64>()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_smallest_and_the_largest_are_possible_and_no_more() {
        assert!(Layout::new(SMALLEST_FILESYSTEM_BYTES, None).is_ok());
        assert_eq!(
            Layout::new(SMALLEST_FILESYSTEM_BYTES - BLOCK_BYTES, None).unwrap_err(),
            NoLayout::TooSmall
        );
        assert!(Layout::new(LARGEST_FILESYSTEM_BYTES, None).is_ok());
        assert_eq!(
            Layout::new(LARGEST_FILESYSTEM_BYTES + 1, None).unwrap_err(),
            NoLayout::TooLarge
        );
    }

    #[test]
    fn a_journal_that_does_not_fit_is_refused() {
        for journal_bytes in [0, 1 << 20, 60 << 20] {
            let result = Layout::new(64 << 20, Some(journal_bytes));
            assert!(matches!(result, Err(NoLayout::Journal { .. })), "{journal_bytes}");
        }
    }

    proptest! {
        #[test]
        fn nothing_overlaps_and_everything_is_inside(megabytes in 16_u64..4_000_000, odd in 0_u64..256) {
            let layout = Layout::new((megabytes << 20) + odd * BLOCK_BYTES, None).unwrap();
            prop_assert!(layout.blocks * BLOCK_BYTES <= (megabytes << 20) + odd * BLOCK_BYTES);
            let mut end = 0;
            for range in &layout.used {
                prop_assert!(range.start >= end && range.start < range.end);
                end = range.end;
            }
            prop_assert!(end <= layout.blocks);
            let journal: u64 = layout.journal.iter().map(|range| range.end - range.start).sum();
            prop_assert_eq!(journal, default_journal_blocks(layout.blocks));
            prop_assert!(layout.inodes_per_group <= BLOCKS_PER_GROUP);
            let last = layout.groups - 1;
            let end = layout.inode_table(last) + layout.inode_table_blocks;
            prop_assert!(end <= layout.blocks);
            prop_assert!(layout.inodes() >= layout.blocks * BLOCK_BYTES / BYTES_PER_INODE);
        }
    }
}
