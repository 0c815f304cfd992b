//! Where paths of a layer lead within the root filesystem, never out of it.

use std::collections::VecDeque;

use crate::erofs::NAME_BYTES;
use crate::rootfs::tree::{Content, InodeId, Tree};

/// Symbolic links that one path may lead through, and names in all of them together.
const LINKS: usize = 255;
const STEPS: usize = 8192;

/// Why a path can't be followed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PathError {
    /// A path with `..` in it.
    #[error("the path has a `..` in it")]
    ParentTraversal,
    /// A name is longer than a file system allows.
    #[error("a name in the path has {bytes} bytes, at most {limit} are possible")]
    NameTooLong {
        /// Bytes of the name.
        bytes: usize,
        /// The limit.
        limit: usize,
    },
    /// The path goes deeper than allowed.
    #[error("the path has more than {limit} components")]
    TooManyComponents {
        /// The limit.
        limit: usize,
    },
    /// Something in the middle of the path is no directory.
    #[error("{parent:?} in the path is not a directory")]
    ParentNotDirectory {
        /// The name of what is in the way.
        parent: String,
    },
    /// Symbolic links in the path lead in a circle.
    #[error("too many symbolic links in the path")]
    SymLinkLoop,
}

/// The names in a path, without those that mean nothing.
#[derive(Debug)]
pub(super) struct Components<'a>(Vec<&'a [u8]>);

impl<'a> Components<'a> {
    pub(super) fn parse(path: &'a [u8], limit: usize) -> Result<Self, PathError> {
        let mut components = Vec::new();
        for name in path.split(|byte| *byte == b'/') {
            match name {
                b"" | b"." => {}
                b".." => return Err(PathError::ParentTraversal),
                name if name.len() > NAME_BYTES => {
                    return Err(PathError::NameTooLong {
                        bytes: name.len(),
                        limit: NAME_BYTES,
                    });
                }
                name => components.push(name),
            }
        }
        if components.len() > limit {
            return Err(PathError::TooManyComponents { limit });
        }
        Ok(Self(components))
    }

    /// The last name and those before it; `None` for the root.
    pub(super) fn split_last(&self) -> Option<(&'a [u8], &[&'a [u8]])> {
        self.0.split_last().map(|(last, before)| (*last, before))
    }
}

/// What a path leads to.
#[derive(Debug)]
pub(super) enum Resolved {
    Directory(InodeId),
    /// So far it exists; the first of these names does not, or is no directory.
    Missing {
        existing: InodeId,
        names: Vec<Vec<u8>>,
    },
}

/// Follows a path and the symbolic links in it, the root filesystem's root being `/`. A `..`
/// in a link after something that does not exist takes that away again.
pub(super) fn resolve(tree: &Tree, path: &[&[u8]]) -> Result<Resolved, PathError> {
    let mut pending: VecDeque<&[u8]> = path.iter().copied().collect();
    let mut current = InodeId::ROOT;
    // Names below `current`, of which the first does not exist or is no directory.
    let mut virtual_names: Vec<&[u8]> = Vec::new();
    let (mut links, mut steps) = (0, 0);
    while let Some(name) = pending.pop_front() {
        steps += 1;
        if steps > STEPS {
            return Err(PathError::SymLinkLoop);
        }
        match name {
            b"" | b"." => continue,
            b".." => {
                if virtual_names.pop().is_none() {
                    current = tree
                        .directory(current)
                        .map_or(InodeId::ROOT, |directory| directory.parent);
                }
                continue;
            }
            _ => {}
        }
        if name.len() > NAME_BYTES {
            return Err(PathError::NameTooLong {
                bytes: name.len(),
                limit: NAME_BYTES,
            });
        }
        let existing = match virtual_names.is_empty() {
            true => tree.child(current, name),
            false => None,
        };
        match existing.map(|child| (child.inode, &tree.inode(child.inode).content)) {
            Some((inode, Content::Directory(_))) => current = inode,
            Some((_, Content::SymLink(target))) => {
                links += 1;
                if links > LINKS {
                    return Err(PathError::SymLinkLoop);
                }
                if target.starts_with(b"/") {
                    current = InodeId::ROOT;
                }
                for component in target.rsplit(|byte| *byte == b'/') {
                    pending.push_front(component);
                }
            }
            _ => virtual_names.push(name),
        }
    }
    if virtual_names.is_empty() {
        return Ok(Resolved::Directory(current));
    }
    Ok(Resolved::Missing {
        existing: current,
        names: virtual_names.into_iter().map(<[u8]>::to_vec).collect(),
    })
}
