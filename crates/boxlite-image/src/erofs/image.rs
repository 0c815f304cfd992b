use std::fs::File;
use std::io;
use std::path::Path;

use boxlite_tar::Extent;
use sha2::{Digest as _, Sha256};

use super::blocks::{Allocator, Output, Run};
use super::chunk::{self, ChunkPlan};
use super::directory::{BlockBuilder, FileType, Packing};
use super::inode::{DataLayout, DiskInode, INODE_BYTES, encode_device};
use super::layout::{Layout, SLOT_BYTES};
use super::spool::Spool;
use super::superblock::Superblock;
use super::{BLOCK_BYTES, XattrBody};
use crate::rootfs::tree::{Content, InodeId, Tree};

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
    blocks: Blocks,
    /// What does not fill a block, in the spool.
    tail: Option<Tail>,
}

#[derive(Debug)]
enum Blocks {
    Run(Run),
    Chunks {
        bits: u32,
        /// One for each chunk, [`chunk::HOLE`] for those without data.
        addresses: Box<[u32]>,
        run: Run,
    },
}

#[derive(Debug, Clone, Copy)]
struct Tail {
    position: u64,
    bytes: u16,
}

impl FileData {
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
    output: Output,
    spool: Spool,
    allocator: Allocator,
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
    pub(crate) uuid: [u8; 16],
}

/// Where an inode and what belongs to it go.
#[derive(Debug, Clone, Copy, Default)]
struct Place {
    /// Bytes from the metadata area's start; 0 if the inode has no place.
    offset: u64,
    /// The first of its blocks among those of directories and long links.
    block: u64,
    /// Bytes of content that follow the inode.
    inline: u16,
}

impl Image {
    /// Writes to `file`, which is empty. `scratch` is a path beside it for passing use.
    /// Sizes beyond `limit` bytes, or what 32 bits can address, are refused.
    pub(crate) fn new(file: File, scratch: &Path, limit: u64) -> io::Result<Self> {
        Ok(Self {
            output: Output::new(file),
            spool: Spool::new(scratch)?,
            allocator: Allocator::new(1),
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

    fn check_size(&self, blocks: u64) -> Result<(), ImageError> {
        let bytes = blocks.saturating_mul(BLOCK_BYTES);
        if bytes > self.limit {
            return Err(ImageError::TooLarge {
                bytes,
                limit: self.limit,
            });
        }
        Ok(())
    }

    /// Writes the metadata of all that `tree` has. The file system's UUID comes from `seed`
    /// and the metadata.
    pub(crate) fn seal(mut self, tree: &Tree, seed: &[u8]) -> Result<Sealed, ImageError> {
        for run in self.allocator.trim() {
            self.output.clear(run)?;
        }
        let data_end = self.allocator.end();
        self.output.truncate(data_end * BLOCK_BYTES)?;

        let order = breadth_first(tree);
        let mut places = vec![Place::default(); tree.slots()];
        let mut layout = Layout::new();
        let mut next_block = data_end;
        for id in &order {
            let place = place(tree, *id, &mut layout, &mut next_block);
            places[id.index()] = place;
        }
        let meta_start = next_block * BLOCK_BYTES;
        let end = meta_start + layout.bytes();
        self.check_size(end.div_ceil(BLOCK_BYTES))?;

        let mut sealing = Sealing {
            image: &mut self,
            tree,
            places: &places,
            meta_start,
            hasher: Sha256::new(),
            has_chunked_files: false,
        };
        sealing.hasher.update(seed);
        sealing.output().seek(data_end * BLOCK_BYTES)?;
        sealing.write_blocks(&order)?;
        sealing.write_inodes(&order)?;
        sealing.output().fill_to(end)?;
        let has_chunked_files = sealing.has_chunked_files;
        let uuid = uuid_of(&sealing.hasher.finalize());

        let superblock = Superblock {
            // The root comes first, so its number is one of the lowest.
            root_nid: (places[InodeId::ROOT.index()].offset / SLOT_BYTES) as u16,
            inodes: order.len() as u64,
            // Both checked to be within 32 bits.
            blocks: (end / BLOCK_BYTES) as u32,
            meta_block: next_block as u32,
            uuid,
            has_chunked_files,
        };
        self.output.seek(0)?;
        self.output.write(&superblock.encode())?;
        Ok(Sealed {
            file: self.output.into_file()?,
            bytes: end,
            inodes: order.len() as u64,
            uuid,
        })
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
fn is_inline(bytes: u64, xattrs: &XattrBody) -> bool {
    INODE_BYTES + xattrs.as_slice().len() as u64 + bytes <= BLOCK_BYTES
}

/// A random-looking UUID of version 8, RFC 9562.
fn uuid_of(hash: &[u8]) -> [u8; 16] {
    let mut uuid = [0; 16];
    uuid.copy_from_slice(&hash[..16]);
    uuid[6] = 0x80 | (uuid[6] & 0x0f);
    uuid[8] = 0x80 | (uuid[8] & 0x3f);
    uuid
}

/// Every inode once, a directory's all together.
fn breadth_first(tree: &Tree) -> Vec<InodeId> {
    let mut seen = vec![false; tree.slots()];
    let mut order = vec![InodeId::ROOT];
    let mut next = 0;
    while let Some(id) = order.get(next).copied() {
        next += 1;
        let Some(directory) = tree.directory(id) else {
            continue;
        };
        for child in directory.children.values() {
            if !std::mem::replace(&mut seen[child.inode.index()], true) {
                order.push(child.inode);
            }
        }
    }
    order
}

/// A directory's names in the order that the file system needs, with what they lead to.
fn names(tree: &Tree, id: InodeId) -> Vec<(&[u8], InodeId)> {
    let Some(directory) = tree.directory(id) else {
        return Vec::new();
    };
    let mut names: Vec<_> = directory
        .children
        .iter()
        .map(|(name, child)| (&name[..], child.inode))
        .collect();
    for (name, inode) in [(&b"."[..], id), (b"..", directory.parent)] {
        let at = names.partition_point(|(other, _)| *other < name);
        names.insert(at, (name, inode));
    }
    names
}

fn place(tree: &Tree, id: InodeId, layout: &mut Layout, next_block: &mut u64) -> Place {
    let inode = tree.inode(id);
    let xattrs = &inode.attributes.xattrs;
    let fixed = INODE_BYTES + xattrs.as_slice().len() as u64;
    let mut inline = 0;
    let mut blocks = 0;
    let mut map = 0;
    match &inode.content {
        Content::Directory(_) => {
            let mut packing = Packing::default();
            for (name, _) in names(tree, id) {
                packing.push(name);
            }
            blocks = packing.full_blocks();
            if packing.last_bytes() < BLOCK_BYTES && is_inline(packing.last_bytes(), xattrs) {
                inline = packing.last_bytes();
            } else {
                blocks += 1;
            }
        }
        Content::SymLink(target) => match target.len() as u64 {
            bytes if is_inline(bytes, xattrs) => inline = bytes,
            _ => blocks = 1,
        },
        Content::File(data) => match &data.blocks {
            Blocks::Run(_) => inline = data.tail.map_or(0, |tail| u64::from(tail.bytes)),
            Blocks::Chunks { addresses, .. } => map = 4 * addresses.len() as u64,
        },
        _ => {}
    }
    let block = *next_block;
    *next_block += blocks;
    Place {
        offset: layout.place(fixed + inline + map),
        block,
        // Less than a block.
        inline: inline as u16,
    }
}

fn file_type(content: &Content) -> FileType {
    match content {
        Content::File(_) => FileType::File,
        Content::SymLink(_) => FileType::SymLink,
        Content::CharDevice(..) => FileType::CharDevice,
        Content::BlockDevice(..) => FileType::BlockDevice,
        Content::Fifo => FileType::Fifo,
        Content::Directory(_) | Content::Unused => FileType::Directory,
    }
}

/// Gives each block of a directory to `each`, without the zeros that fill it up, and whether
/// it is the last.
fn directory_blocks(
    tree: &Tree,
    places: &[Place],
    id: InodeId,
    mut each: impl FnMut(Vec<u8>, bool) -> io::Result<()>,
) -> io::Result<()> {
    let mut packing = Packing::default();
    let mut block = BlockBuilder::default();
    for (name, inode) in names(tree, id) {
        if packing.push(name) {
            each(block.take(), false)?;
        }
        let nid = places[inode.index()].offset / SLOT_BYTES;
        block.push(name, nid, file_type(&tree.inode(inode).content));
    }
    each(block.take(), true)
}

/// The state of [`Image::seal`] while it writes.
struct Sealing<'a> {
    image: &'a mut Image,
    tree: &'a Tree,
    places: &'a [Place],
    meta_start: u64,
    hasher: Sha256,
    has_chunked_files: bool,
}

impl Sealing<'_> {
    fn output(&mut self) -> &mut Output {
        &mut self.image.output
    }

    fn place(&self, id: InodeId) -> Place {
        self.places[id.index()]
    }

    /// Writes the blocks of directories and of long links, in the order of their places.
    fn write_blocks(&mut self, order: &[InodeId]) -> io::Result<()> {
        for id in order {
            let inline = self.place(*id).inline;
            match &self.tree.inode(*id).content {
                Content::Directory(_) => {
                    directory_blocks(self.tree, self.places, *id, |block, is_last| {
                        if !is_last || inline == 0 {
                            self.image.output.write(&block)?;
                            self.image.output.fill_block()?;
                            self.hasher.update(&block);
                        }
                        Ok(())
                    })?;
                }
                Content::SymLink(target) if inline == 0 => {
                    self.image.output.write(target)?;
                    self.image.output.fill_block()?;
                    self.hasher.update(target);
                }
                _ => {}
            }
        }
        Ok(())
    }

    fn write_inodes(&mut self, order: &[InodeId]) -> io::Result<()> {
        let mut by_offset: Vec<(u64, u32)> = (1..)
            .zip(order)
            .map(|(number, id)| (self.place(*id).offset, number))
            .collect();
        by_offset.sort_unstable();
        for (offset, number) in by_offset {
            let position = self.meta_start + offset;
            self.output().fill_to(position)?;
            self.write_inode(order[number as usize - 1], number)?;
        }
        Ok(())
    }

    fn write_inode(&mut self, id: InodeId, number: u32) -> io::Result<()> {
        let inode = self.tree.inode(id);
        let place = self.place(id);
        let mut links = inode.links;
        let mut tail = Vec::new();
        // Checked to be within 32 bits, like every block's address.
        let own_block = place.block as u32;
        let inline_if = |inline: bool| match inline {
            true => DataLayout::Inline,
            false => DataLayout::Plain,
        };
        let (kind, layout, size, union_field) = match &inode.content {
            Content::File(data) => {
                let (layout, union_field) = match &data.blocks {
                    Blocks::Run(run) => {
                        if let Some(found) = data.tail {
                            tail.resize(found.bytes.into(), 0);
                            self.image.spool.read(found.position, &mut tail)?;
                        }
                        (inline_if(data.tail.is_some()), run.start as u32)
                    }
                    Blocks::Chunks { bits, addresses, .. } => {
                        self.has_chunked_files = true;
                        tail = addresses.iter().flat_map(|address| address.to_le_bytes()).collect();
                        (DataLayout::Chunks, *bits)
                    }
                };
                (0o100_000, layout, data.size, union_field)
            }
            Content::SymLink(target) => {
                if place.inline > 0 {
                    tail.extend_from_slice(target);
                }
                let layout = inline_if(place.inline > 0);
                (0o120_000, layout, target.len() as u64, own_block)
            }
            Content::Directory(directory) => {
                let mut size = 0;
                let mut last = Vec::new();
                directory_blocks(self.tree, self.places, id, |block, is_last| {
                    size += if is_last { block.len() as u64 } else { BLOCK_BYTES };
                    last = block;
                    Ok(())
                })?;
                if place.inline > 0 {
                    tail = last;
                }
                let subdirectories = directory
                    .children
                    .values()
                    .filter(|child| self.tree.directory(child.inode).is_some())
                    .count();
                links = 2 + subdirectories as u32;
                (0o040_000, inline_if(place.inline > 0), size, own_block)
            }
            Content::CharDevice(major, minor) => (0o020_000, DataLayout::Plain, 0, encode_device(*major, *minor)),
            Content::BlockDevice(major, minor) => (0o060_000, DataLayout::Plain, 0, encode_device(*major, *minor)),
            Content::Fifo | Content::Unused => (0o010_000, DataLayout::Plain, 0, 0),
        };
        let attributes = &inode.attributes;
        let on_disk = DiskInode {
            layout,
            xattr_icount: attributes.xattrs.icount(),
            mode: kind | attributes.permissions,
            size,
            union_field,
            number,
            uid: attributes.uid,
            gid: attributes.gid,
            mtime: attributes.mtime,
            links,
        };
        let encoded = on_disk.encode();
        self.hasher.update(encoded);
        if !matches!(inode.content, Content::File(_)) {
            self.hasher.update(&tail);
        }
        self.hasher.update(attributes.xattrs.as_slice());
        let output = &mut self.image.output;
        output.write(&encoded)?;
        output.write(attributes.xattrs.as_slice())?;
        output.write(&tail)
    }
}
