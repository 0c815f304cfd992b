//! The places on which every box mounts something.

use super::tree::{Attributes, Content, InodeId, LayerIndex, Tree};
use crate::erofs::FileData;

/// Above all layers.
const LAYER: LayerIndex = LayerIndex::MAX;

/// Folders and names in them; those that end with a slash are folders themselves.
const PLACES: [(&[u8], &[&str]); 2] = [
    (b"", &["dev/", "proc/", "sys/", "etc/"]),
    (b"etc", &["hosts", "hostname", "resolv.conf", "machine-id"]),
];

/// Adds those that are missing. What is there stays as it is, whatever it is: what a box makes
/// of a link in its way, only the box can tell.
pub(super) fn add_missing(tree: &mut Tree) {
    for (folder, names) in PLACES {
        let folder = match folder {
            b"" => Some(InodeId::ROOT),
            name => tree.child(InodeId::ROOT, name).map(|child| child.inode),
        };
        let Some(folder) = folder.filter(|folder| tree.directory(*folder).is_some()) else {
            continue;
        };
        for name in names {
            let bare = name.trim_end_matches('/').as_bytes();
            if tree.child(folder, bare).is_some() {
                continue;
            }
            if name.ends_with('/') {
                tree.add_directory(folder, bare, LAYER, Attributes::of_missing_directory());
            } else {
                let attributes = Attributes {
                    permissions: 0o644,
                    ..Attributes::default()
                };
                tree.add(folder, bare, LAYER, attributes, Content::File(FileData::empty()));
            }
        }
    }
}
