//! Completing a file system: directories, inodes and superblock, behind the content of files.

use std::io;

use super::BLOCK_BYTES;
use super::blocks::Output;
use super::directory::{BlockBuilder, FileType, Packing};
use super::head;
use super::image::{Blocks, Image, ImageError, Sealed, is_inline};
use super::inode::{DataLayout, DiskInode, INODE_BYTES, encode_device};
use super::layout::{Layout, SLOT_BYTES};
use crate::rootfs::tree::{Content, InodeId, Tree};

/// What the image's root has in the field for an inode's number, which nobody uses any more. The
/// file system's own root has 1.
const ROOT_NUMBER: u32 = 2;

/// Where an inode and what belongs to it go.
#[derive(Debug, Clone, Copy, Default)]
struct Place {
    /// The inode's first byte.
    position: u64,
    /// The first of its blocks among those of directories and long links.
    block: u64,
    /// Bytes of content that follow the inode.
    inline: u16,
}

impl Place {
    /// The inode's number.
    fn nid(self) -> u64 {
        self.position / SLOT_BYTES
    }
}

impl Image {
    /// Writes the metadata of all that `tree` has.
    pub(crate) fn seal(mut self, tree: &Tree) -> Result<Sealed, ImageError> {
        for run in self.allocator.trim() {
            self.output.clear(run)?;
        }
        let data_end = self.allocator.end();
        self.output.truncate(data_end * BLOCK_BYTES)?;

        let order = breadth_first(tree);
        let mut places = vec![Place::default(); tree.slots()];
        let mut layout = Layout::default();
        let mut next_block = data_end;
        for id in &order {
            places[id.index()] = place(tree, *id, &mut layout, &mut next_block);
        }
        let meta_start = next_block * BLOCK_BYTES;
        for id in &order {
            places[id.index()].position += match *id {
                InodeId::ROOT => head::IMAGE_ROOT_POSITION,
                _ => meta_start,
            };
        }
        let end = meta_start + layout.bytes();
        self.check_size(end.div_ceil(BLOCK_BYTES))?;

        let mut sealing = Sealing {
            image: &mut self,
            tree,
            places: &places,
        };
        sealing.output().seek(data_end * BLOCK_BYTES)?;
        sealing.write_blocks(&order)?;
        sealing.write_inodes(&order)?;
        sealing.output().fill_to(end)?;
        sealing.output().seek(head::IMAGE_ROOT_POSITION)?;
        sealing.write_inode(InodeId::ROOT, ROOT_NUMBER)?;
        self.output.seek(0)?;
        self.output.write(&head::encode())?;
        Ok(Sealed {
            file: self.output.into_file()?,
            bytes: end,
            inodes: order.len() as u64,
        })
    }
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
        // From where its area begins: the root has one of its own.
        position: match id {
            InodeId::ROOT => 0,
            _ => layout.place(fixed + inline + map),
        },
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
        // Only the image's root is its own parent, and in the file system it has another.
        let nid = match name {
            b".." if inode == id => head::ROOT_NID,
            _ => places[inode.index()].nid(),
        };
        block.push(name, nid, file_type(&tree.inode(inode).content));
    }
    each(block.take(), true)
}

/// The state of [`Image::seal`] while it writes.
struct Sealing<'a> {
    image: &'a mut Image,
    tree: &'a Tree,
    places: &'a [Place],
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
                        }
                        Ok(())
                    })?;
                }
                Content::SymLink(target) if inline == 0 => {
                    self.image.output.write(target)?;
                    self.image.output.fill_block()?;
                }
                _ => {}
            }
        }
        Ok(())
    }

    /// Writes all inodes but the root's, in the order of their places.
    fn write_inodes(&mut self, order: &[InodeId]) -> io::Result<()> {
        let mut by_position: Vec<(u64, u32, InodeId)> = (ROOT_NUMBER..)
            .zip(order)
            .filter(|(_, id)| **id != InodeId::ROOT)
            .map(|(number, id)| (self.place(*id).position, number, *id))
            .collect();
        by_position.sort_unstable_by_key(|(position, ..)| *position);
        for (position, number, id) in by_position {
            self.output().fill_to(position)?;
            self.write_inode(id, number)?;
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
        let output = &mut self.image.output;
        output.write(&on_disk.encode())?;
        output.write(attributes.xattrs.as_slice())?;
        output.write(&tail)
    }
}
