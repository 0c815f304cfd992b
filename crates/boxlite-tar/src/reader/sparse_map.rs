//! The maps of sparse files that follow their headers.

use std::io::Read;

use super::Reader;
use super::fields::number_error;
use crate::block::{self, BLOCK_BYTES, Block, Format};
use crate::entry::Extent;
use crate::pax;
use crate::read_error::ReadError;
use crate::sparse::{self, Map, PaxSparse, SparseError};

impl<R: Read> Reader<R> {
    pub(super) fn read_gnu_sparse(
        &mut self,
        block: &Block,
        offset: u64,
        stored: u64,
    ) -> Result<(Vec<Extent>, u64), ReadError> {
        if block.format() != Format::Gnu {
            return Err(ReadError::UnsupportedKind { offset, type_flag: 'S' });
        }
        let sparse = |source| ReadError::Sparse { offset, source };
        let size = block
            .number(block::GNU_REAL_SIZE)
            .and_then(|size| u64::try_from(size).ok())
            .ok_or_else(|| number_error(block, offset, block::GNU_REAL_SIZE))?;
        let mut map = Map::new(self.limits.sparse_extents);
        let mut push = |piece: Option<(u64, u64)>| {
            let (offset, size) = piece.ok_or(SparseError::Malformed)?;
            map.push(offset)?;
            map.push(size)
        };
        let (mut pieces, mut more) = block.gnu_sparse();
        pieces.try_for_each(&mut push).map_err(sparse)?;
        while more {
            let block = self
                .read_block("the map of a sparse file")?
                .ok_or_else(|| self.end_within("the map of a sparse file"))?;
            let (mut pieces, and_more) = block.gnu_sparse_extension();
            let mut any = false;
            pieces
                .try_for_each(|piece| {
                    any = true;
                    push(piece)
                })
                .map_err(sparse)?;
            // Blocks without pieces would let a map go on for ever.
            if and_more && !any {
                return Err(sparse(SparseError::Malformed));
            }
            more = and_more;
        }
        let extents = map
            .finish()
            .and_then(|extents| sparse::check(extents, size, Some(stored)))
            .map_err(sparse)?;
        Ok((extents, size))
    }

    pub(super) fn read_pax_sparse(
        &mut self,
        found: PaxSparse,
        offset: u64,
        stored: &mut u64,
    ) -> Result<(Vec<Extent>, u64), ReadError> {
        let sparse = |source| ReadError::Sparse { offset, source };
        let (pieces, real_size) = match found {
            PaxSparse::Map { pieces, real_size } => (pieces, real_size),
            PaxSparse::InData { real_size } => (self.read_map_in_data(offset, stored)?, real_size),
        };
        let size = match real_size {
            Some(size) => size,
            None => return Err(sparse(SparseError::Malformed)),
        };
        let extents = sparse::check(pieces, size, Some(*stored)).map_err(sparse)?;
        Ok((extents, size))
    }

    /// The map of version 1.0: decimal numbers, each with a newline, filling whole blocks.
    fn read_map_in_data(&mut self, offset: u64, stored: &mut u64) -> Result<Vec<Extent>, ReadError> {
        let malformed = || ReadError::Sparse {
            offset,
            source: SparseError::Malformed,
        };
        let sparse = |source| ReadError::Sparse { offset, source };
        let mut map = Map::new(self.limits.sparse_extents);
        let mut missing: Option<u64> = None;
        let mut digits = Vec::with_capacity(20);
        while missing != Some(0) {
            if *stored < BLOCK_BYTES as u64 {
                return Err(malformed());
            }
            *stored -= BLOCK_BYTES as u64;
            let block = self
                .read_block("the map of a sparse file")?
                .ok_or_else(|| self.end_within("the map of a sparse file"))?;
            for byte in block.0 {
                match byte {
                    _ if missing == Some(0) => break,
                    b'0'..=b'9' if digits.len() < 20 => digits.push(byte),
                    b'\n' => {
                        let number = pax::decimal(&digits).ok_or_else(malformed)?;
                        digits.clear();
                        missing = Some(match missing {
                            None if number > self.limits.sparse_extents as u64 => {
                                return Err(sparse(SparseError::TooMany {
                                    limit: self.limits.sparse_extents,
                                }));
                            }
                            None => 2 * number,
                            Some(missing) => {
                                map.push(number).map_err(sparse)?;
                                missing - 1
                            }
                        });
                    }
                    _ => return Err(malformed()),
                }
            }
        }
        map.finish().map_err(sparse)
    }
}
