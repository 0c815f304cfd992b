//! What layers add up to, as simply as it can be said: paths in a map, one operation after
//! the other, as umoci does it on a disk.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use boxlite_tar::{Entry, EntryKind};

pub(crate) type Path = Vec<Vec<u8>>;

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Inode {
    pub(crate) kind: EntryKind,
    pub(crate) mode: u32,
    pub(crate) owner: (u64, u64),
    pub(crate) mtime: (i64, u32),
    pub(crate) xattrs: BTreeMap<Vec<u8>, Vec<u8>>,
    pub(crate) link: Vec<u8>,
    pub(crate) device: (u32, u32),
    pub(crate) content: Vec<u8>,
}

impl Inode {
    fn of(entry: &Entry, content: &[u8]) -> Self {
        Self {
            kind: entry.kind,
            mode: if entry.kind == EntryKind::SymLink {
                0o777
            } else {
                entry.mode
            },
            owner: (entry.uid, entry.gid),
            mtime: (entry.mtime.seconds, entry.mtime.nanoseconds),
            xattrs: entry.xattrs.iter().cloned().collect(),
            link: entry.link.clone(),
            device: entry.device,
            content: content.to_vec(),
        }
    }

    fn missing_directory() -> Self {
        Self::of(&Entry::new("", EntryKind::Directory), b"")
    }
}

/// An entry that umoci would refuse too.
#[derive(Debug)]
pub(crate) struct Refused;

#[derive(Debug, Clone)]
pub(crate) struct Model {
    /// Everything but the root is below something.
    pub(crate) names: BTreeMap<Path, usize>,
    pub(crate) inodes: Vec<Inode>,
    /// What the current layer has, and all that is above it.
    touched: BTreeSet<Path>,
}

impl Model {
    pub(crate) fn new() -> Self {
        Self {
            names: BTreeMap::from([(Vec::new(), 0)]),
            inodes: vec![Inode::missing_directory()],
            touched: BTreeSet::new(),
        }
    }

    pub(crate) fn begin_layer(&mut self) {
        self.touched.clear();
    }

    fn at(&self, path: &Path) -> Option<&Inode> {
        self.names.get(path).map(|id| &self.inodes[*id])
    }

    fn is_directory(&self, path: &Path) -> bool {
        self.at(path).is_some_and(|inode| inode.kind == EntryKind::Directory)
    }

    fn remove(&mut self, path: &Path) {
        self.names.retain(|name, _| !name.starts_with(path));
    }

    fn put(&mut self, path: Path, inode: Inode) {
        self.inodes.push(inode);
        self.names.insert(path, self.inodes.len() - 1);
    }

    fn touch(&mut self, path: &Path) {
        for length in 0..=path.len() {
            self.touched.insert(path[..length].to_vec());
        }
    }

    fn follow(&self, path: &[Vec<u8>]) -> Result<Path, Refused> {
        let mut pending: VecDeque<_> = path.iter().cloned().collect();
        let mut found: Path = Vec::new();
        let mut links = 0;
        while let Some(name) = pending.pop_front() {
            match &name[..] {
                b"" | b"." => continue,
                b".." => {
                    found.pop();
                    continue;
                }
                _ => found.push(name),
            }
            let Some(inode) = self.at(&found).filter(|inode| inode.kind == EntryKind::SymLink) else {
                continue;
            };
            links += 1;
            if links > 255 {
                return Err(Refused);
            }
            found.pop();
            if inode.link.starts_with(b"/") {
                found.clear();
            }
            for part in inode.link.split(|byte| *byte == b'/').rev() {
                pending.push_front(part.to_vec());
            }
        }
        Ok(found)
    }

    fn make_directories(&mut self, path: &Path) -> Result<(), Refused> {
        for length in 1..=path.len() {
            let part = path[..length].to_vec();
            if self.at(&part).is_some() && !self.is_directory(&part) {
                if self.touched.contains(&part) {
                    return Err(Refused);
                }
                self.remove(&part);
            }
            if self.at(&part).is_none() {
                self.put(part, Inode::missing_directory());
            }
        }
        Ok(())
    }

    pub(crate) fn apply(&mut self, entry: &Entry, content: &[u8]) -> Result<(), Refused> {
        let path = components(&entry.path)?;
        let Some((name, parents)) = path.split_last() else {
            if entry.kind != EntryKind::Directory {
                return Err(Refused);
            }
            self.inodes[0] = Inode::of(entry, b"");
            self.touch(&Vec::new());
            return Ok(());
        };
        let parent = self.follow(parents)?;
        if let Some(hidden) = name.strip_prefix(b".wh.") {
            self.hide(&parent, hidden);
            return Ok(());
        }
        self.make_directories(&parent)?;
        let mut path = parent;
        path.push(name.clone());
        if entry.kind == EntryKind::HardLink {
            let target = components(&entry.link)?;
            let (target_name, target_parents) = target.split_last().ok_or(Refused)?;
            let mut target = self.follow(target_parents)?;
            target.push(target_name.clone());
            if self.at(&target).is_none() || self.is_directory(&target) {
                return Err(Refused);
            }
            if target == path {
                return Ok(());
            }
            let id = self.names[&target];
            self.remove(&path);
            if self.at(&target).is_none() {
                return Err(Refused);
            }
            self.names.insert(path.clone(), id);
        } else if entry.kind == EntryKind::Directory && self.is_directory(&path) {
            let id = self.names[&path];
            self.inodes[id] = Inode::of(entry, b"");
        } else {
            self.remove(&path);
            self.put(path.clone(), Inode::of(entry, content));
        }
        self.touch(&path);
        Ok(())
    }

    fn hide(&mut self, parent: &Path, hidden: &[u8]) {
        let is_opaque = hidden == b".wh..opq";
        let mut top = parent.clone();
        if !is_opaque {
            top.push(hidden.to_vec());
        }
        let below: Vec<_> = self
            .names
            .keys()
            .filter(|name| name.starts_with(&top))
            .filter(|name| !(is_opaque && **name == top))
            .filter(|name| !self.touched.contains(*name))
            .cloned()
            .collect();
        for name in below {
            self.remove(&name);
        }
    }
}

fn components(path: &[u8]) -> Result<Path, Refused> {
    let parts: Path = path
        .split(|byte| *byte == b'/')
        .filter(|name| !matches!(*name, b"" | b"."))
        .map(<[u8]>::to_vec)
        .collect();
    match parts.iter().any(|name| name == b"..") {
        true => Err(Refused),
        false => Ok(parts),
    }
}
