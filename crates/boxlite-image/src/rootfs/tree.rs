//! A file tree in memory: everything but the content of files.

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;

use boxlite_tar::Timestamp;

use crate::erofs::{FileData, XattrBody};

/// What holding one inode and one name costs, roughly; the rest is counted by its length.
const INODE_BYTES: u64 = 160;
const NAME_BYTES: u64 = 64;

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct InodeId(u32);

impl InodeId {
    pub(crate) const ROOT: Self = Self(0);

    pub(crate) fn index(self) -> usize {
        self.0 as usize
    }
}

/// Which layer, counted from 0.
pub(crate) type LayerIndex = u16;

#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Attributes {
    /// The twelve permission bits.
    pub(crate) permissions: u16,
    pub(crate) uid: u32,
    pub(crate) gid: u32,
    pub(crate) mtime: Timestamp,
    pub(crate) xattrs: XattrBody,
}

impl Attributes {
    /// Those of a directory that nobody described.
    pub(crate) fn of_missing_directory() -> Self {
        Self {
            permissions: 0o755,
            ..Self::default()
        }
    }
}

#[derive(Debug)]
pub(crate) struct Inode {
    pub(crate) attributes: Attributes,
    /// Names that lead here; those of subdirectories (`..`) are not counted.
    pub(crate) links: u32,
    pub(crate) content: Content,
}

#[derive(Debug)]
pub(crate) enum Content {
    File(FileData),
    SymLink(Box<[u8]>),
    /// Major and minor number.
    CharDevice(u32, u32),
    BlockDevice(u32, u32),
    Fifo,
    Directory(Box<Directory>),
    /// A slot that nothing leads to.
    Unused,
}

#[derive(Debug)]
pub(crate) struct Directory {
    pub(crate) children: BTreeMap<Box<[u8]>, Child>,
    /// The root's is the root.
    pub(crate) parent: InodeId,
    /// Names from the root to here.
    pub(crate) depth: usize,
    /// The last layer that has this directory or something in it.
    pub(crate) layer: LayerIndex,
    /// The last layer in which nothing that this directory had from lower ones is left.
    pub(crate) emptied_in: Option<LayerIndex>,
}

#[derive(Debug, Clone, Copy)]
pub(crate) struct Child {
    pub(crate) inode: InodeId,
    /// The layer that has this name. Directories say it themselves.
    layer: LayerIndex,
}

#[derive(Debug)]
pub(crate) struct Tree {
    inodes: Vec<Inode>,
    unused: Vec<InodeId>,
    xattrs: HashSet<Arc<[u8]>>,
    /// Content of files that are gone.
    pub(crate) released: Vec<FileData>,
    /// Grows whenever a path may lead elsewhere than before.
    pub(crate) generation: u64,
    /// Roughly the memory that all this takes.
    pub(crate) bytes: u64,
}

impl Tree {
    pub(crate) fn new() -> Self {
        let mut tree = Self {
            inodes: Vec::new(),
            unused: Vec::new(),
            xattrs: HashSet::new(),
            released: Vec::new(),
            generation: 0,
            bytes: 0,
        };
        let root = Directory {
            children: BTreeMap::new(),
            parent: InodeId::ROOT,
            depth: 0,
            layer: 0,
            emptied_in: None,
        };
        tree.add_inode(Attributes::of_missing_directory(), Content::Directory(Box::new(root)));
        tree.inodes[0].links = 1;
        tree
    }

    pub(crate) fn inode(&self, id: InodeId) -> &Inode {
        &self.inodes[id.index()]
    }

    /// The slots, used or not: one more than the highest index.
    pub(crate) fn slots(&self) -> usize {
        self.inodes.len()
    }

    pub(crate) fn directory(&self, id: InodeId) -> Option<&Directory> {
        match &self.inode(id).content {
            Content::Directory(directory) => Some(directory),
            _ => None,
        }
    }

    pub(crate) fn directory_mut(&mut self, id: InodeId) -> Option<&mut Directory> {
        match &mut self.inodes[id.index()].content {
            Content::Directory(directory) => Some(directory),
            _ => None,
        }
    }

    pub(crate) fn child(&self, directory: InodeId, name: &[u8]) -> Option<Child> {
        self.directory(directory)?.children.get(name).copied()
    }

    /// The last layer that has what a name leads to.
    pub(crate) fn layer_of(&self, child: Child) -> LayerIndex {
        self.directory(child.inode)
            .map_or(child.layer, |directory| directory.layer)
    }

    pub(crate) fn set_attributes(&mut self, id: InodeId, attributes: Attributes) {
        let attributes = self.interned(attributes);
        self.inodes[id.index()].attributes = attributes;
    }

    /// Adds an inode without a name.
    fn add_inode(&mut self, attributes: Attributes, content: Content) -> InodeId {
        self.bytes += INODE_BYTES + content_bytes(&content);
        let inode = Inode {
            attributes: self.interned(attributes),
            links: 0,
            content,
        };
        match self.unused.pop() {
            Some(id) => {
                self.inodes[id.index()] = inode;
                id
            }
            None => {
                #[expect(clippy::expect_used, reason = "entries are limited far below 2^32")]
                let index = u32::try_from(self.inodes.len()).expect("fewer than 2^32 inodes");
                self.inodes.push(inode);
                InodeId(index)
            }
        }
    }

    fn interned(&mut self, mut attributes: Attributes) -> Attributes {
        if let Some(body) = attributes.xattrs.bytes() {
            match self.xattrs.get(body) {
                Some(known) => attributes.xattrs = XattrBody::from_encoded(Arc::clone(known)),
                None => {
                    self.bytes += body.len() as u64;
                    self.xattrs.insert(Arc::clone(body));
                }
            }
        }
        attributes
    }

    /// Adds something that is no directory; the name must be free.
    pub(crate) fn add(
        &mut self,
        parent: InodeId,
        name: &[u8],
        layer: LayerIndex,
        attributes: Attributes,
        content: Content,
    ) -> InodeId {
        let inode = self.add_inode(attributes, content);
        self.link(parent, name, layer, inode);
        inode
    }

    /// Adds an empty directory; the name must be free.
    pub(crate) fn add_directory(
        &mut self,
        parent: InodeId,
        name: &[u8],
        layer: LayerIndex,
        attributes: Attributes,
    ) -> InodeId {
        let depth = self.directory(parent).map_or(0, |parent| parent.depth) + 1;
        let directory = Directory {
            children: BTreeMap::new(),
            parent,
            depth,
            layer,
            emptied_in: Some(layer),
        };
        self.add(parent, name, layer, attributes, Content::Directory(Box::new(directory)))
    }

    /// Gives an inode one more name, which must be free.
    pub(crate) fn link(&mut self, parent: InodeId, name: &[u8], layer: LayerIndex, inode: InodeId) {
        self.bytes += NAME_BYTES + name.len() as u64;
        self.inodes[inode.index()].links += 1;
        if let Some(directory) = self.directory_mut(parent) {
            let former = directory.children.insert(name.into(), Child { inode, layer });
            debug_assert!(former.is_none());
        }
        self.touch(parent, layer);
    }

    /// Notes that a layer has a name that exists already.
    pub(crate) fn link_again(&mut self, parent: InodeId, name: &[u8], layer: LayerIndex) {
        if let Some(directory) = self.directory_mut(parent)
            && let Some(child) = directory.children.get_mut(name)
        {
            child.layer = layer;
        }
        self.touch(parent, layer);
    }

    /// Notes that a layer has something in a directory.
    pub(crate) fn touch(&mut self, mut directory: InodeId, layer: LayerIndex) {
        while let Some(found) = self.directory_mut(directory) {
            if found.layer == layer && directory != InodeId::ROOT {
                break;
            }
            found.layer = layer;
            let parent = found.parent;
            if parent == directory {
                break;
            }
            directory = parent;
        }
    }

    /// Removes a name and all that is below it.
    pub(crate) fn remove(&mut self, parent: InodeId, name: &[u8]) {
        let removed = self
            .directory_mut(parent)
            .and_then(|directory| directory.children.remove(name));
        if let Some(child) = removed {
            self.forget_name(name);
            self.unlink(child.inode);
        }
    }

    fn forget_name(&mut self, name: &[u8]) {
        self.bytes -= NAME_BYTES + name.len() as u64;
    }

    /// Takes one name away from an inode, and with its last all that is below it.
    fn unlink(&mut self, inode: InodeId) {
        let mut pending = vec![inode];
        while let Some(id) = pending.pop() {
            let inode = &mut self.inodes[id.index()];
            inode.links -= 1;
            if matches!(inode.content, Content::Directory(_) | Content::SymLink(_)) {
                self.generation += 1;
            }
            if inode.links > 0 {
                continue;
            }
            let content = std::mem::replace(&mut inode.content, Content::Unused);
            inode.attributes = Attributes::default();
            self.bytes -= INODE_BYTES + content_bytes(&content);
            self.unused.push(id);
            match content {
                Content::File(data) => self.released.push(data),
                Content::Directory(directory) => {
                    for (name, child) in directory.children {
                        self.forget_name(&name);
                        pending.push(child.inode);
                    }
                }
                _ => {}
            }
        }
    }

    /// Removes from a directory whatever `layer` does not have, at any depth.
    pub(crate) fn remove_from_lower_layers(&mut self, directory: InodeId, layer: LayerIndex) {
        let mut pending = vec![directory];
        while let Some(id) = pending.pop() {
            let Some(directory) = self.directory(id) else {
                continue;
            };
            if directory.emptied_in == Some(layer) {
                continue;
            }
            let mut removed = Vec::new();
            for (name, child) in &directory.children {
                if self.layer_of(*child) != layer {
                    removed.push((name.clone(), child.inode));
                } else if self.directory(child.inode).is_some() {
                    pending.push(child.inode);
                }
            }
            if let Some(directory) = self.directory_mut(id) {
                directory.emptied_in = Some(layer);
                for (name, _) in &removed {
                    directory.children.remove(name);
                }
            }
            for (name, inode) in removed {
                self.forget_name(&name);
                self.unlink(inode);
            }
        }
    }
}

fn content_bytes(content: &Content) -> u64 {
    match content {
        Content::File(data) => data.memory_bytes(),
        Content::SymLink(target) => target.len() as u64,
        Content::Directory(_) => size_of::<Directory>() as u64,
        _ => 0,
    }
}
