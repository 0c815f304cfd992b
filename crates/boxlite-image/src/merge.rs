//! Merging layers into one tree, the lowest first, as unpacking them one over the other does.
//!
//! Bottom-up, because only then everything means what its author saw: a path may lead through
//! a symbolic link of a lower layer, and a hard link means what its target's path led to at
//! that moment. Nothing of this can be known from the upper layers alone. The price, writing
//! files that a later layer replaces, is small: their blocks are used again at once.

mod path;

use boxlite_tar::{Entry, EntryKind};

pub use self::path::PathError;
use self::path::{Components, Resolved};
use crate::erofs::{DEVICE_MAJOR_LIMIT, DEVICE_MINOR_LIMIT, FileData, LINK_BYTES, XattrBody, XattrError};
use crate::rootfs::tree::{Attributes, Content, InodeId, LayerIndex, Tree};

const WHITEOUT: &[u8] = b".wh.";
const OPAQUE: &[u8] = b".wh..wh..opq";
/// What AUFS keeps about itself; no part of the file system.
const AUFS: &[u8] = b".wh..wh.";

/// Why an entry of a layer can't be part of a file system.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum EntryError {
    /// Its path leads nowhere.
    #[error(transparent)]
    Path(#[from] PathError),
    /// The root is made something other than a directory.
    #[error("the root of the file system can only be a directory")]
    RootNotDirectory,
    /// A hard link to nothing.
    #[error("hard link to {target:?}, which does not exist")]
    HardLinkTargetMissing {
        /// What it should lead to.
        target: String,
    },
    /// A hard link whose target leads nowhere.
    #[error("hard link to {target:?}: {source}")]
    HardLinkTarget {
        /// What it should lead to.
        target: String,
        /// Why it does not.
        source: PathError,
    },
    /// A hard link to a directory.
    #[error("hard link to {target:?}, which is a directory")]
    HardLinkToDirectory {
        /// What it should lead to.
        target: String,
    },
    /// A symbolic link to nowhere, or beyond what Linux can follow.
    #[error("the target of a symbolic link has {bytes} bytes: 1 to {limit} are possible")]
    SymLinkTarget {
        /// Bytes of the target.
        bytes: usize,
        /// How many it may have.
        limit: usize,
    },
    /// A whiteout whose name, without `.wh.`, is none of a file.
    #[error("a whiteout of nothing that can have a name")]
    InvalidWhiteout,
    /// An owner or group that Linux has no number for.
    #[error("the {what} {value} is out of range")]
    OwnerOutOfRange {
        /// User or group.
        what: &'static str,
        /// Its number.
        value: u64,
    },
    /// A device number that Linux can't have.
    #[error("device number {major}:{minor} is out of range")]
    DeviceOutOfRange {
        /// Major number.
        major: u32,
        /// Minor number.
        minor: u32,
    },
    /// Its extended attributes don't fit.
    #[error(transparent)]
    Xattr(#[from] XattrError),
    /// There are more entries, with directories that no layer describes, than allowed.
    #[error("the image has more than {limit} entries")]
    TooManyEntries {
        /// The limit.
        limit: u64,
    },
    /// All names, links and attributes together take more memory than allowed.
    #[error("the image's names, links and attributes take more than {limit} bytes")]
    MetadataTooLarge {
        /// The limit in bytes.
        limit: u64,
    },
}

/// What an image may be at most while it is merged.
#[derive(Debug, Clone)]
pub(crate) struct MergeLimits {
    pub(crate) entries: u64,
    pub(crate) path_components: usize,
    pub(crate) metadata_bytes: u64,
}

/// Layers being merged.
#[derive(Debug)]
pub(crate) struct Merge {
    pub(crate) tree: Tree,
    limits: MergeLimits,
    layer: LayerIndex,
    entries: u64,
    /// Extended attributes that Linux would not take either.
    pub(crate) left_out_xattrs: u64,
    /// Where the parents of the last entry were, as long as nothing changes that.
    parent: Option<(Vec<Vec<u8>>, InodeId, u64)>,
}

/// What an entry needs yet.
#[derive(Debug)]
pub(crate) enum Applied {
    /// Nothing.
    Done,
    /// The content of a file.
    NeedsContent(Place),
}

/// Where a file will be when its content is stored.
#[derive(Debug)]
pub(crate) struct Place {
    directory: InodeId,
    name: Vec<u8>,
    attributes: Attributes,
}

impl Place {
    pub(crate) fn xattrs(&self) -> &XattrBody {
        &self.attributes.xattrs
    }
}

impl Merge {
    pub(crate) fn new(limits: MergeLimits) -> Self {
        Self {
            tree: Tree::new(),
            limits,
            layer: 0,
            entries: 0,
            left_out_xattrs: 0,
            parent: None,
        }
    }

    /// From now on entries are those of the next layer.
    pub(crate) fn begin_layer(&mut self) {
        self.layer += 1;
        self.tree.touch(InodeId::ROOT, self.layer);
    }

    /// Applies the next entry of the current layer. Content of files that it replaces is in
    /// [`Tree::released`] afterwards.
    pub(crate) fn apply(&mut self, entry: &Entry) -> Result<Applied, EntryError> {
        self.count_entry()?;
        let components = Components::parse(&entry.path, self.limits.path_components)?;
        let Some((name, parents)) = components.split_last() else {
            return self.apply_root(entry);
        };
        for component in parents {
            if component.starts_with(AUFS) {
                return Ok(Applied::Done);
            }
            if component.starts_with(WHITEOUT) {
                return Err(EntryError::InvalidWhiteout);
            }
        }
        if name.starts_with(WHITEOUT) {
            self.apply_whiteout(parents, name)?;
            return Ok(Applied::Done);
        }
        let directory = self.parent_directory(parents)?;
        self.apply_named(entry, directory, name)
    }

    /// Applies an entry whose directory is known and whose name is nothing but a name.
    pub(crate) fn apply_in(&mut self, directory: InodeId, name: &[u8], entry: &Entry) -> Result<Applied, EntryError> {
        self.count_entry()?;
        self.apply_named(entry, directory, name)
    }

    /// Gives an inode one more name.
    pub(crate) fn link_in(&mut self, directory: InodeId, name: &[u8], inode: InodeId) -> Result<(), EntryError> {
        self.count_entry()?;
        self.tree.link(directory, name, self.layer, inode);
        Ok(())
    }

    /// Puts a file where [`apply`](Self::apply) said.
    pub(crate) fn add_file(&mut self, place: Place, data: FileData) -> InodeId {
        self.tree.add(
            place.directory,
            &place.name,
            self.layer,
            place.attributes,
            Content::File(data),
        )
    }

    fn count_entry(&mut self) -> Result<(), EntryError> {
        self.entries += 1;
        if self.entries > self.limits.entries {
            return Err(EntryError::TooManyEntries {
                limit: self.limits.entries,
            });
        }
        Ok(())
    }

    /// Describes the root directory.
    pub(crate) fn apply_root(&mut self, entry: &Entry) -> Result<Applied, EntryError> {
        if entry.kind != EntryKind::Directory {
            return Err(EntryError::RootNotDirectory);
        }
        let attributes = self.attributes(entry)?;
        self.tree.set_attributes(InodeId::ROOT, attributes);
        Ok(Applied::Done)
    }

    fn apply_named(&mut self, entry: &Entry, directory: InodeId, name: &[u8]) -> Result<Applied, EntryError> {
        self.check_depth(directory)?;
        if self.tree.bytes > self.limits.metadata_bytes {
            return Err(EntryError::MetadataTooLarge {
                limit: self.limits.metadata_bytes,
            });
        }
        let existing = self.tree.child(directory, name);
        match entry.kind {
            EntryKind::Directory => {
                let attributes = self.attributes(entry)?;
                match existing {
                    Some(child) if self.tree.directory(child.inode).is_some() => {
                        self.tree.set_attributes(child.inode, attributes);
                        self.tree.touch(child.inode, self.layer);
                    }
                    _ => {
                        self.tree.remove(directory, name);
                        self.tree.add_directory(directory, name, self.layer, attributes);
                    }
                }
                Ok(Applied::Done)
            }
            EntryKind::HardLink => {
                self.apply_hard_link(entry, directory, name)?;
                Ok(Applied::Done)
            }
            EntryKind::File => {
                let attributes = self.attributes(entry)?;
                self.tree.remove(directory, name);
                Ok(Applied::NeedsContent(Place {
                    directory,
                    name: name.to_vec(),
                    attributes,
                }))
            }
            EntryKind::SymLink | EntryKind::CharDevice | EntryKind::BlockDevice | EntryKind::Fifo => {
                let content = content_of(entry)?;
                let mut attributes = self.attributes(entry)?;
                if entry.kind == EntryKind::SymLink {
                    // Linux knows no other.
                    attributes.permissions = 0o777;
                }
                self.tree.remove(directory, name);
                self.tree.add(directory, name, self.layer, attributes, content);
                Ok(Applied::Done)
            }
        }
    }

    fn apply_hard_link(&mut self, entry: &Entry, directory: InodeId, name: &[u8]) -> Result<(), EntryError> {
        let target = || String::from_utf8_lossy(&entry.link).into_owned();
        let missing = || EntryError::HardLinkTargetMissing { target: target() };
        let unusable = |source| EntryError::HardLinkTarget {
            target: target(),
            source,
        };
        let components = Components::parse(&entry.link, self.limits.path_components).map_err(unusable)?;
        let (target_name, parents) = components
            .split_last()
            .ok_or_else(|| EntryError::HardLinkToDirectory { target: target() })?;
        let found = match path::resolve(&self.tree, parents).map_err(unusable)? {
            Resolved::Directory(id) => id,
            Resolved::Missing { .. } => return Err(missing()),
        };
        let child = self.tree.child(found, target_name).ok_or_else(missing)?;
        if self.tree.directory(child.inode).is_some() {
            return Err(EntryError::HardLinkToDirectory { target: target() });
        }
        if found == directory && target_name == name {
            // GNU tar writes this for a file that it was given twice.
            return Ok(());
        }
        let existing = self.tree.child(directory, name);
        if existing.is_some_and(|existing| existing.inode == child.inode) {
            // Another name of the same inode: removed and made again as this layer's.
            self.tree.link_again(directory, name, self.layer);
            return Ok(());
        }
        self.tree.remove(directory, name);
        // What was removed may have been a directory with the target in it.
        let child = self
            .tree
            .directory(found)
            .and_then(|_| self.tree.child(found, target_name))
            .filter(|again| again.inode == child.inode)
            .ok_or_else(missing)?;
        self.tree.link(directory, name, self.layer, child.inode);
        Ok(())
    }

    fn apply_whiteout(&mut self, parents: &[&[u8]], name: &[u8]) -> Result<(), EntryError> {
        let hidden = &name[WHITEOUT.len()..];
        if matches!(hidden, b"" | b"." | b"..") {
            return Err(EntryError::InvalidWhiteout);
        }
        let directory = match path::resolve(&self.tree, parents)? {
            Resolved::Directory(id) => id,
            Resolved::Missing { .. } => return Ok(()),
        };
        if name == OPAQUE {
            self.tree.remove_from_lower_layers(directory, self.layer);
            return Ok(());
        }
        if name.starts_with(AUFS) {
            return Ok(());
        }
        match self.tree.child(directory, hidden) {
            Some(child) if self.tree.layer_of(child) == self.layer => {
                self.tree.remove_from_lower_layers(child.inode, self.layer);
            }
            Some(_) => self.tree.remove(directory, hidden),
            None => {}
        }
        Ok(())
    }

    /// The directory that a path's parents lead to, made if it is missing.
    fn parent_directory(&mut self, parents: &[&[u8]]) -> Result<InodeId, EntryError> {
        if let Some((known, id, generation)) = &self.parent
            && *generation == self.tree.generation
            && known.len() == parents.len()
            && known.iter().zip(parents).all(|(known, parent)| known == parent)
        {
            return Ok(*id);
        }
        let id = match path::resolve(&self.tree, parents)? {
            Resolved::Directory(id) => id,
            Resolved::Missing { existing, names } => {
                self.clear_way(existing, &names[0])?;
                self.make_directories(existing, &names)?
            }
        };
        self.parent = Some((
            parents.iter().map(|parent| parent.to_vec()).collect(),
            id,
            self.tree.generation,
        ));
        Ok(id)
    }

    /// Removes what stands where a directory is implied. A lower layer's file, and no word
    /// about the directory that replaces it: overlayfs makes a directory of such a layer.
    fn clear_way(&mut self, directory: InodeId, name: &[u8]) -> Result<(), PathError> {
        match self.tree.child(directory, name) {
            Some(child) if self.tree.layer_of(child) == self.layer => Err(PathError::ParentNotDirectory {
                parent: String::from_utf8_lossy(name).into_owned(),
            }),
            Some(_) => {
                self.tree.remove(directory, name);
                Ok(())
            }
            None => Ok(()),
        }
    }

    fn make_directories(&mut self, mut parent: InodeId, names: &[Vec<u8>]) -> Result<InodeId, EntryError> {
        for name in names {
            self.count_entry()?;
            self.check_depth(parent)?;
            parent = self
                .tree
                .add_directory(parent, name, self.layer, Attributes::of_missing_directory());
        }
        Ok(parent)
    }

    /// Whether something may be in a directory: symbolic links lead deeper than a path's own
    /// length says.
    fn check_depth(&self, directory: InodeId) -> Result<(), PathError> {
        let limit = self.limits.path_components;
        match self.tree.directory(directory) {
            Some(directory) if directory.depth >= limit => Err(PathError::TooManyComponents { limit }),
            _ => Ok(()),
        }
    }

    fn attributes(&mut self, entry: &Entry) -> Result<Attributes, EntryError> {
        let owner = |what, value| {
            // The highest number stands for "none" in system calls.
            u32::try_from(value)
                .ok()
                .filter(|number| *number != u32::MAX)
                .ok_or(EntryError::OwnerOutOfRange { what, value })
        };
        let (xattrs, left_out) = XattrBody::encode(&entry.xattrs)?;
        if !left_out.is_empty() {
            let path = String::from_utf8_lossy(&entry.path);
            tracing::debug!(%path, ?left_out, "leaving extended attributes out that Linux does not know");
            self.left_out_xattrs += left_out.len() as u64;
        }
        Ok(Attributes {
            permissions: (entry.mode & 0o7777) as u16,
            uid: owner("user", entry.uid)?,
            gid: owner("group", entry.gid)?,
            mtime: entry.mtime,
            xattrs,
        })
    }
}

/// The content of an entry that is neither file, directory nor hard link.
fn content_of(entry: &Entry) -> Result<Content, EntryError> {
    let (major, minor) = entry.device;
    let is_device = matches!(entry.kind, EntryKind::CharDevice | EntryKind::BlockDevice);
    if is_device && (major >= DEVICE_MAJOR_LIMIT || minor >= DEVICE_MINOR_LIMIT) {
        return Err(EntryError::DeviceOutOfRange { major, minor });
    }
    Ok(match entry.kind {
        EntryKind::CharDevice => Content::CharDevice(major, minor),
        EntryKind::BlockDevice => Content::BlockDevice(major, minor),
        EntryKind::Fifo => Content::Fifo,
        _ if entry.link.is_empty() || entry.link.len() > LINK_BYTES => {
            return Err(EntryError::SymLinkTarget {
                bytes: entry.link.len(),
                limit: LINK_BYTES,
            });
        }
        _ => Content::SymLink(entry.link.as_slice().into()),
    })
}
