//! Where inodes go in the metadata area.

use super::BLOCK_BYTES;

/// Inodes are addressed in units of this.
pub(super) const SLOT_BYTES: u64 = 32;

/// Blocks with room that are remembered; more would scatter what is used together.
const OPEN_BLOCKS: usize = 16;

/// Gives out places: whatever fits a block lies within one, so that nothing that is inline
/// ever crosses into another.
#[derive(Debug, Default)]
pub(super) struct Layout {
    /// Free from here to their ends.
    open: Vec<u64>,
    /// The first byte of the first untouched block.
    end: u64,
}

impl Layout {
    /// A place for `bytes`, counted from the area's start.
    pub(super) fn place(&mut self, bytes: u64) -> u64 {
        let room = |from: u64| from.next_multiple_of(BLOCK_BYTES) - from;
        let best = self
            .open
            .iter()
            .enumerate()
            .filter(|(_, from)| room(**from) >= bytes)
            .min_by_key(|(_, from)| room(**from))
            .map(|(index, _)| index);
        let start = match best {
            Some(index) => self.open.swap_remove(index),
            None => {
                let start = self.end;
                self.end += bytes.next_multiple_of(BLOCK_BYTES);
                start
            }
        };
        let rest = (start + bytes).next_multiple_of(SLOT_BYTES);
        if !rest.is_multiple_of(BLOCK_BYTES) {
            self.open.push(rest);
            if self.open.len() > OPEN_BLOCKS {
                let fullest = self
                    .open
                    .iter()
                    .enumerate()
                    .min_by_key(|(_, from)| room(**from))
                    .map(|(index, _)| index);
                if let Some(index) = fullest {
                    self.open.swap_remove(index);
                }
            }
        }
        start
    }

    /// Bytes of the area, whole blocks.
    pub(super) fn bytes(&self) -> u64 {
        self.end
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn places_do_not_overlap(sizes in prop::collection::vec(
            prop_oneof![64_u64..300, 64_u64..4097, 4000_u64..20_000], 1..200,
        )) {
            let mut layout = Layout::default();
            let mut places: Vec<_> = sizes
                .iter()
                .map(|bytes| {
                    let start = layout.place(*bytes);
                    (start, start + bytes)
                })
                .collect();
            for (start, end) in &places {
                prop_assert_eq!(start % SLOT_BYTES, 0);
                prop_assert!(*end <= layout.bytes());
                if end - start <= BLOCK_BYTES {
                    prop_assert_eq!(start / BLOCK_BYTES, (end - 1) / BLOCK_BYTES);
                } else {
                    prop_assert_eq!(start % BLOCK_BYTES, 0);
                }
            }
            places.sort_unstable();
            prop_assert!(places.windows(2).all(|pair| pair[0].1 <= pair[1].0));
        }
    }
}
