//! Sparse files: pieces ("chunks") of one size, each with the address of its blocks, or none.

use boxlite_tar::Extent;

use super::BLOCK_BYTES;

/// Chunks of a file at most, so that the map of the largest file stays small.
const CHUNK_LIMIT: u64 = 1 << 16;

/// The address of a hole.
pub(super) const HOLE: u32 = u32::MAX;

/// Block sizes beyond 4 KiB × 2³¹ can't be expressed; files of 2⁶³ bytes need far less.
const BITS_LIMIT: u32 = 31;

/// How a sparse file will be cut into chunks.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct ChunkPlan {
    /// A chunk has 2^bits blocks.
    pub(super) bits: u32,
    /// Which chunks have data, ascending.
    pub(super) occupied: Vec<u64>,
    /// All chunks.
    pub(super) count: u64,
    /// Blocks that the chunks with data take.
    pub(super) blocks: u64,
}

impl ChunkPlan {
    /// The largest chunks that take at most a quarter more blocks than the smallest allowed
    /// ones: the kernel reads a chunk at a time. `extents` are ascending and within `size`.
    pub(super) fn new(size: u64, extents: &[Extent]) -> Self {
        let smallest = (0..BITS_LIMIT)
            .find(|bits| size.div_ceil(BLOCK_BYTES << bits) <= CHUNK_LIMIT)
            .unwrap_or(BITS_LIMIT);
        let blocks_of = |bits: u32| {
            occupied(extents, bits)
                .map(|chunk| blocks_of_chunk(chunk, bits, size))
                .sum::<u64>()
        };
        let floor = blocks_of(smallest);
        let bits = (smallest..=BITS_LIMIT.min(smallest + 10))
            .rev()
            .find(|bits| blocks_of(*bits) <= floor + floor / 4)
            .unwrap_or(smallest);
        Self {
            bits,
            occupied: occupied(extents, bits).collect(),
            count: size.div_ceil(BLOCK_BYTES << bits),
            blocks: blocks_of(bits),
        }
    }

    pub(super) fn bytes_of_chunk(&self) -> u64 {
        BLOCK_BYTES << self.bits
    }
}

/// Blocks that a chunk takes; the last one ends with the file.
pub(super) fn blocks_of_chunk(chunk: u64, bits: u32, size: u64) -> u64 {
    let start = chunk << bits;
    (size.div_ceil(BLOCK_BYTES) - start).min(1 << bits)
}

/// The chunks that extents touch, each once.
fn occupied(extents: &[Extent], bits: u32) -> impl Iterator<Item = u64> + '_ {
    let mut next = 0;
    extents.iter().filter(|extent| extent.size > 0).flat_map(move |extent| {
        let first = (extent.offset / (BLOCK_BYTES << bits)).max(next);
        let end = (extent.offset + extent.size - 1) / (BLOCK_BYTES << bits) + 1;
        next = end.max(next);
        first..end
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn extent(offset: u64, size: u64) -> Extent {
        Extent { offset, size }
    }

    #[test]
    fn small_holes_need_small_chunks() {
        let plan = ChunkPlan::new(40_960, &[extent(0, 1), extent(8192, 4096), extent(40_959, 1)]);
        assert_eq!(
            plan,
            ChunkPlan {
                bits: 0,
                occupied: vec![0, 2, 9],
                count: 10,
                blocks: 3
            }
        );
    }

    #[test]
    fn runs_get_large_chunks() {
        let plan = ChunkPlan::new(100 << 20, &[extent(0, 50 << 20)]);
        assert!(plan.bits >= 8, "{plan:?}");
        assert!(plan.blocks <= (50 << 20) / 4096 * 5 / 4);
    }

    #[test]
    fn huge_files_have_small_maps() {
        for size in [1 << 40, (1 << 40) + 1, 1 << 58] {
            let plan = ChunkPlan::new(size, &[extent(0, 1), extent(size - 1, 1)]);
            assert!(plan.count <= CHUNK_LIMIT, "{plan:?}");
            assert_eq!(plan.occupied, [0, plan.count - 1]);
            assert_eq!(plan.count, size.div_ceil(plan.bytes_of_chunk()));
        }
    }

    #[test]
    fn only_a_hole() {
        let plan = ChunkPlan::new(1 << 40, &[]);
        assert_eq!((plan.blocks, plan.occupied.len()), (0, 0));
    }

    #[test]
    fn extents_that_share_a_chunk_take_it_once() {
        let extents: Vec<_> = (0..64).map(|index| extent(index * 64, 32)).collect();
        let plan = ChunkPlan::new(1 << 20, &extents);
        assert_eq!((plan.occupied.len(), plan.occupied[0]), (1, 0));
    }
}
