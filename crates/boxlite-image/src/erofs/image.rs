use std::fs::File;
use std::io;
use std::path::Path;

use boxlite_tar::Extent;

use super::blocks::{Allocator, Output, Run};
use super::chunk::{self, ChunkPlan};
use super::head;
use super::inode::INODE_BYTES;
use super::spool::Spool;
use super::{BLOCK_BYTES, XattrBody};

/// Why an image could not be written.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ImageError {
    /// The file, or one beside it for passing use, can't be written.
    #[error(transparent)]
    Io(#[from] io::Error),
    /// The file system would be larger than the device that it is for.
    #[error("the root filesystem needs {bytes} bytes, but its device will have {limit} bytes")]
    TooLarge {
        /// What it takes so far.
        bytes: u64,
        /// What it may take.
        limit: u64,
    },
}

/// Where the content of a file is.
#[derive(Debug)]
pub(crate) struct FileData {
    /// Bytes as its reader sees them.
    pub(crate) size: u64,
    pub(super) blocks: Blocks,
    /// What does not fill a block, in the spool.
    pub(super) tail: Option<Tail>,
}

#[derive(Debug)]
pub(super) enum Blocks {
    Run(Run),
    Chunks {
        bits: u32,
        /// One for each chunk, [`chunk::HOLE`] for those without data.
        addresses: Box<[u32]>,
        run: Run,
    },
}

#[derive(Debug, Clone, Copy)]
pub(super) struct Tail {
    pub(super) position: u64,
    pub(super) bytes: u16,
}

impl FileData {
    /// That of a file without content.
    pub(crate) fn empty() -> Self {
        Self {
            size: 0,
            blocks: Blocks::Run(Run { start: 0, blocks: 0 }),
            tail: None,
        }
    }

    /// What it takes beside itself, in memory.
    pub(crate) fn memory_bytes(&self) -> u64 {
        match &self.blocks {
            Blocks::Run(_) => 0,
            Blocks::Chunks { addresses, .. } => 4 * addresses.len() as u64,
        }
    }
}

/// A file system that is being written.
#[derive(Debug)]
pub(crate) struct Image {
    pub(super) output: Output,
    pub(super) spool: Spool,
    pub(super) allocator: Allocator,
    /// Bytes that the whole may have at most.
    limit: u64,
}

/// A file system that is complete.
#[derive(Debug)]
pub(crate) struct Sealed {
    pub(crate) file: File,
    /// Bytes of the file system, without what follows it on its device.
    pub(crate) bytes: u64,
    pub(crate) inodes: u64,
}

impl Image {
    /// Writes to `file`, which is empty. `scratch` is a path beside it for passing use.
    /// Sizes beyond `limit` bytes, or what 32 bits can address, are refused.
    pub(crate) fn new(file: File, scratch: &Path, limit: u64) -> io::Result<Self> {
        Ok(Self {
            output: Output::new(file),
            spool: Spool::new(scratch)?,
            allocator: Allocator::new(head::FIRST_FREE_BLOCK),
            limit: limit.min(u64::from(u32::MAX) * BLOCK_BYTES),
        })
    }

    /// Stores a file of `size` bytes, or of what `extents` cover of them. `read` gives the
    /// content, without holes; it returns 0 only at the end.
    pub(crate) fn store<E: From<ImageError>>(
        &mut self,
        size: u64,
        extents: Option<&[Extent]>,
        xattrs: &XattrBody,
        mut read: impl FnMut(&mut [u8]) -> Result<usize, E>,
    ) -> Result<FileData, E> {
        match extents {
            Some(extents) if has_holes(size, extents) => self.store_sparse(size, extents, &mut read),
            _ => self.store_whole(size, xattrs, &mut read),
        }
    }

    fn store_whole<E: From<ImageError>>(
        &mut self,
        size: u64,
        xattrs: &XattrBody,
        read: &mut impl FnMut(&mut [u8]) -> Result<usize, E>,
    ) -> Result<FileData, E> {
        let tail_bytes = if is_inline(size % BLOCK_BYTES, xattrs) {
            size % BLOCK_BYTES
        } else {
            0
        };
        let blocks = (size - tail_bytes).div_ceil(BLOCK_BYTES);
        let run = match blocks {
            0 => Run { start: 0, blocks },
            _ => self.allocator.allocate(blocks),
        };
        self.check_size(self.allocator.end())?;
        if blocks > 0 {
            self.output.seek(run.start * BLOCK_BYTES).map_err(ImageError::from)?;
            self.copy(size - tail_bytes, read)?;
            self.output.fill_block().map_err(ImageError::from)?;
        }
        let mut tail = None;
        if tail_bytes > 0 {
            let mut buffer = [0; BLOCK_BYTES as usize];
            let buffer = &mut buffer[..tail_bytes as usize];
            let mut filled = 0;
            while filled < buffer.len() {
                match read(&mut buffer[filled..])? {
                    0 => return Err(ImageError::from(io::Error::from(io::ErrorKind::UnexpectedEof)).into()),
                    bytes => filled += bytes,
                }
            }
            tail = Some(Tail {
                position: self.spool.push(buffer).map_err(ImageError::from)?,
                bytes: tail_bytes as u16,
            });
        }
        Ok(FileData {
            size,
            blocks: Blocks::Run(run),
            tail,
        })
    }

    fn store_sparse<E: From<ImageError>>(
        &mut self,
        size: u64,
        extents: &[Extent],
        read: &mut impl FnMut(&mut [u8]) -> Result<usize, E>,
    ) -> Result<FileData, E> {
        let plan = ChunkPlan::new(size, extents);
        self.check_size(self.allocator.end().saturating_add(plan.blocks))?;
        // What no extent covers must read as zeros, which is sure only of fresh blocks.
        let run = self.allocator.allocate_fresh(plan.blocks);
        let mut addresses = vec![chunk::HOLE; plan.count as usize].into_boxed_slice();
        let mut next = run.start;
        for chunk in &plan.occupied {
            // Checked above to be within 32 bits.
            addresses[*chunk as usize] = next as u32;
            next += chunk::blocks_of_chunk(*chunk, plan.bits, size);
        }
        for extent in extents {
            let mut position = extent.offset;
            let end = extent.offset + extent.size;
            while position < end {
                let chunk = position / plan.bytes_of_chunk();
                let chunk_end = (chunk + 1) * plan.bytes_of_chunk();
                let piece = end.min(chunk_end) - position;
                let within = position % plan.bytes_of_chunk();
                let address = u64::from(addresses[chunk as usize]) * BLOCK_BYTES;
                self.output.seek(address + within).map_err(ImageError::from)?;
                self.copy(piece, read)?;
                position += piece;
            }
        }
        Ok(FileData {
            size,
            blocks: Blocks::Chunks {
                bits: plan.bits,
                addresses,
                run,
            },
            tail: None,
        })
    }

    fn copy<E: From<ImageError>>(
        &mut self,
        mut bytes: u64,
        read: &mut impl FnMut(&mut [u8]) -> Result<usize, E>,
    ) -> Result<(), E> {
        while bytes > 0 {
            let room = self.output.room().map_err(ImageError::from)?;
            let piece = usize::try_from(bytes).unwrap_or(usize::MAX).min(room.len());
            match read(&mut room[..piece])? {
                0 => return Err(ImageError::from(io::Error::from(io::ErrorKind::UnexpectedEof)).into()),
                copied => {
                    self.output.advance(copied);
                    bytes -= copied as u64;
                }
            }
        }
        Ok(())
    }

    /// Takes back what a file had. Its bytes in the spool stay there until the end.
    pub(crate) fn release(&mut self, data: &FileData) {
        let (Blocks::Run(run) | Blocks::Chunks { run, .. }) = &data.blocks;
        self.allocator.release(*run);
    }

    pub(super) fn check_size(&self, blocks: u64) -> Result<(), ImageError> {
        let bytes = blocks.saturating_mul(BLOCK_BYTES);
        if bytes > self.limit {
            return Err(ImageError::TooLarge {
                bytes,
                limit: self.limit,
            });
        }
        Ok(())
    }
}

fn has_holes(size: u64, extents: &[Extent]) -> bool {
    let mut end = 0;
    for extent in extents {
        if extent.offset > end {
            return true;
        }
        end = extent.offset + extent.size;
    }
    end < size
}

/// Whether some last bytes fit behind their inode within a block.
pub(super) fn is_inline(bytes: u64, xattrs: &XattrBody) -> bool {
    INODE_BYTES + xattrs.as_slice().len() as u64 + bytes <= BLOCK_BYTES
}
