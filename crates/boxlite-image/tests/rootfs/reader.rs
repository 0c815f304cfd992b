//! Reads an EROFS image back and finds fault with whatever the kernel might stumble over.

use std::collections::BTreeMap;
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::process::{Command, Stdio};

pub(crate) const BLOCK: u64 = 4096;

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Node {
    pub(crate) nid: u64,
    pub(crate) mode: u32,
    pub(crate) uid: u32,
    pub(crate) gid: u32,
    pub(crate) mtime: (i64, u32),
    pub(crate) links: u32,
    pub(crate) size: u64,
    pub(crate) device: (u32, u32),
    pub(crate) link: Vec<u8>,
    pub(crate) xattrs: BTreeMap<Vec<u8>, Vec<u8>>,
    /// Where the content is: position and bytes in the file, position in the image or a hole.
    pub(crate) pieces: Vec<(u64, u64, Option<u64>)>,
}

impl Node {
    pub(crate) fn kind(&self) -> u32 {
        self.mode & 0o170_000
    }

    pub(crate) fn is_directory(&self) -> bool {
        self.kind() == 0o040_000
    }
}

#[derive(Debug)]
pub(crate) struct Image {
    file: File,
    pub(crate) nodes: BTreeMap<Vec<u8>, Node>,
    /// Without what follows the file system on its device.
    pub(crate) bytes: u64,
}

struct Superblock {
    meta: u64,
    root: u64,
    blocks: u64,
}

/// Of the first block, which is the same in every image, and of the place for the inode of the
/// image's root.
pub(crate) const HEAD_BYTES: u64 = 66 * BLOCK;

impl Image {
    /// Reads everything but the content of files.
    pub(crate) fn open(path: &Path) -> Self {
        let file = File::open(path).unwrap();
        let superblock = superblock(&file);
        let mut image = Self {
            bytes: file.metadata().unwrap().len(),
            file,
            nodes: BTreeMap::new(),
        };
        let root = image.root(&superblock);
        let mut occupied = vec![(0, BLOCK)];
        let mut by_nid: BTreeMap<u64, u32> = BTreeMap::new();
        let mut subdirectories: BTreeMap<Vec<u8>, u32> = BTreeMap::new();
        let mut pending = vec![(Vec::new(), root, superblock.root, 2)];
        while let Some((path, nid, parent, kind)) = pending.pop() {
            let node = image.inode(&superblock, nid, &mut occupied, !by_nid.contains_key(&nid));
            let type_of_mode = match node.kind() {
                0o100_000 => 1,
                0o040_000 => 2,
                0o020_000 => 3,
                0o060_000 => 4,
                0o010_000 => 5,
                0o120_000 => 7,
                other => panic!("mode {other:o}"),
            };
            assert_eq!(kind, type_of_mode, "file type in the directory of {path:?}");
            *by_nid.entry(nid).or_default() += 1;
            if node.is_directory() {
                assert_eq!(by_nid[&nid], 1, "directory with two names: {path:?}");
                subdirectories.insert(path.clone(), 0);
                let slash = if path.is_empty() { &b""[..] } else { b"/" };
                for (name, child, kind) in image.directory(&node) {
                    match &name[..] {
                        b"." => assert_eq!((child, kind), (nid, 2)),
                        b".." => assert_eq!((child, kind), (parent, 2)),
                        name => {
                            assert!(!name.contains(&b'/') && !name.is_empty());
                            if kind == 2 {
                                *subdirectories.get_mut(&path).unwrap() += 1;
                            }
                            pending.push(([&path, slash, name].concat(), child, nid, kind));
                        }
                    }
                }
            }
            assert!(image.nodes.insert(path, node).is_none(), "a name twice");
        }
        for (path, node) in &image.nodes {
            let links = match subdirectories.get(path) {
                Some(count) => 2 + count,
                None => by_nid[&node.nid],
            };
            assert_eq!(node.links, links, "links of {}", String::from_utf8_lossy(path));
        }
        occupied.retain(|(start, end)| start < end);
        occupied.sort_unstable();
        for pair in occupied.windows(2) {
            assert!(pair[0].1 <= pair[1].0, "used twice: {pair:?}");
        }
        let end = occupied.last().unwrap().1.max(HEAD_BYTES);
        assert!(end <= image.bytes && end <= superblock.blocks * BLOCK);
        image.bytes = end.next_multiple_of(BLOCK);
        image
    }

    /// The number of the image's root, the one directory in the file system's own.
    fn root(&self, superblock: &Superblock) -> u64 {
        let own = self.inode(superblock, superblock.root, &mut Vec::new(), false);
        assert_eq!((own.mode, own.uid, own.gid, own.links), (0o040_555, 0, 0, 3));
        let entries = self.directory(&own);
        let [(dot, here, 2), (dots, parent, 2), (name, root, 2)] = entries.as_slice() else {
            panic!("{entries:?}");
        };
        assert_eq!(
            (&dot[..], &dots[..], &name[..]),
            (&b"."[..], &b".."[..], &b"rootfs"[..])
        );
        assert_eq!((*here, *parent), (superblock.root, superblock.root));
        *root
    }

    pub(crate) fn node(&self, path: &str) -> &Node {
        self.nodes
            .get(path.as_bytes())
            .unwrap_or_else(|| panic!("no {path:?} in the image"))
    }

    pub(crate) fn has(&self, path: &str) -> bool {
        self.nodes.contains_key(path.as_bytes())
    }

    pub(crate) fn content(&self, node: &Node) -> Vec<u8> {
        assert!(node.size < 1 << 28, "too large to be read whole");
        let mut content = vec![0; usize::try_from(node.size).unwrap()];
        for (start, bytes, position) in &node.pieces {
            if let Some(position) = position {
                let start = usize::try_from(*start).unwrap();
                let bytes = usize::try_from(*bytes).unwrap();
                self.file
                    .read_exact_at(&mut content[start..start + bytes], *position)
                    .unwrap();
            }
        }
        content
    }

    pub(crate) fn read_at(&self, node: &Node, offset: u64, bytes: usize) -> Vec<u8> {
        let mut content = vec![0; bytes];
        for (index, byte) in content.iter_mut().enumerate() {
            let at = offset + index as u64;
            let piece = node
                .pieces
                .iter()
                .find(|(start, bytes, _)| (*start..start + bytes).contains(&at))
                .unwrap();
            if let Some(position) = piece.2 {
                self.file
                    .read_exact_at(std::slice::from_mut(byte), position + at - piece.0)
                    .unwrap();
            }
        }
        content
    }

    fn bytes(&self, position: u64, bytes: u64) -> Vec<u8> {
        let mut read = vec![0; usize::try_from(bytes).unwrap()];
        self.file.read_exact_at(&mut read, position).unwrap();
        read
    }

    fn inode(&self, superblock: &Superblock, nid: u64, occupied: &mut Vec<(u64, u64)>, first: bool) -> Node {
        assert_ne!(nid, 0);
        let position = superblock.meta + nid * 32;
        let raw = self.bytes(position, 64);
        let format = u16_at(&raw, 0);
        assert_eq!(format & 1, 1, "extended inode");
        let layout = format >> 1;
        let xattr_bytes = match u64::from(u16_at(&raw, 2)) {
            0 => 0,
            count => 12 + 4 * (count - 1),
        };
        let mode = u32::from(u16_at(&raw, 4));
        assert_eq!(u16_at(&raw, 6), 0);
        assert_eq!(raw[48..64], [0; 16]);
        let size = u64_at(&raw, 8);
        let union_field = u32_at(&raw, 16);
        assert_ne!(u32_at(&raw, 20), 0);
        let kind = mode & 0o170_000;
        let start = position + 64 + xattr_bytes;
        let mut end = start;
        let mut pieces = Vec::new();
        let has_content = matches!(kind, 0o100_000 | 0o040_000 | 0o120_000);
        let mut claim = |start: u64, end: u64| {
            if first {
                occupied.push((start, end));
            }
        };
        match layout {
            _ if !has_content => assert_eq!((layout, size), (0, 0)),
            0 => {
                let from = u64::from(union_field) * BLOCK;
                pieces.push((0, size, Some(from)));
                if size > 0 {
                    claim(from, from + size.next_multiple_of(BLOCK));
                }
            }
            2 => {
                let tail = size % BLOCK;
                assert_ne!(tail, 0, "the kernel would look for a whole inline block");
                let from = u64::from(union_field) * BLOCK;
                pieces.push((0, size - tail, Some(from)));
                pieces.push((size - tail, tail, Some(start)));
                assert_eq!(start / BLOCK, (start + tail - 1) / BLOCK, "inline data crosses blocks");
                if size > tail {
                    claim(from, from + size - tail);
                }
                end += tail;
            }
            4 => {
                assert_eq!(kind, 0o100_000);
                assert_eq!(union_field & !0x1f, 0);
                let chunk = BLOCK << union_field;
                let count = size.div_ceil(chunk);
                assert_eq!(start % 4, 0);
                end += 4 * count;
                for (index, address) in (0..).zip(self.bytes(start, 4 * count).chunks(4)) {
                    let bytes = chunk.min(size - index * chunk);
                    let address = match u32_at(address, 0) {
                        u32::MAX => None,
                        address => Some(u64::from(address) * BLOCK),
                    };
                    if let Some(from) = address {
                        claim(from, from + bytes.next_multiple_of(BLOCK));
                    }
                    pieces.push((index * chunk, bytes, address));
                }
            }
            other => panic!("layout {other}"),
        }
        claim(position, end);
        pieces.retain(|piece| piece.1 > 0);
        let mut node = Node {
            nid,
            mode,
            uid: u32_at(&raw, 24),
            gid: u32_at(&raw, 28),
            mtime: (u64_at(&raw, 32).cast_signed(), u32_at(&raw, 40)),
            links: u32_at(&raw, 44),
            size,
            device: match kind {
                // As the kernel's new_decode_dev takes it apart.
                0o020_000 | 0o060_000 => (
                    (union_field & 0xfff00) >> 8,
                    (union_field & 0xff) | ((union_field >> 12) & 0xfff00),
                ),
                _ => (0, 0),
            },
            link: Vec::new(),
            xattrs: xattrs(&self.bytes(position + 64, xattr_bytes)),
            pieces,
        };
        if kind == 0o120_000 {
            assert_eq!(mode & 0o7777, 0o777);
            node.link = self.content(&node);
        }
        node
    }

    /// Names, inode numbers and file types, checked to be in the kernel's order.
    fn directory(&self, node: &Node) -> Vec<(Vec<u8>, u64, u8)> {
        let content = self.content(node);
        let mut entries: Vec<(Vec<u8>, u64, u8)> = Vec::new();
        for block in content.chunks(BLOCK as usize) {
            let first = usize::from(u16_at(block, 8));
            assert!(first > 0 && first % 12 == 0 && first < block.len());
            let count = first / 12;
            let offset = |index: usize| usize::from(u16_at(block, 12 * index + 8));
            for index in 0..count {
                let start = offset(index);
                let name = match index + 1 {
                    next if next < count => &block[start..offset(next)],
                    _ => {
                        let rest = &block[start..];
                        &rest[..rest.iter().position(|byte| *byte == 0).unwrap_or(rest.len())]
                    }
                };
                assert!((1..=255).contains(&name.len()) && !name.contains(&0));
                if let Some((last, ..)) = entries.last() {
                    assert!(&last[..] < name, "unsorted: {last:?}, {name:?}");
                }
                assert_eq!(block[12 * index + 11], 0);
                entries.push((name.to_vec(), u64_at(block, 12 * index), block[12 * index + 10]));
            }
        }
        let names: Vec<_> = entries.iter().map(|entry| &entry.0[..]).collect();
        assert!(names.contains(&&b"."[..]) && names.contains(&&b".."[..]));
        entries
    }
}

fn superblock(file: &File) -> Superblock {
    let mut block = [0; BLOCK as usize];
    file.read_exact_at(&mut block, 0).unwrap();
    assert_eq!(block[..1024], [0; 1024]);
    let mut rest = block[1024..].to_vec();
    let stored = u32_at(&rest, 4);
    rest[4..8].fill(0);
    let checksum = rest.iter().fold(u32::MAX, |mut crc, byte| {
        crc ^= u32::from(*byte);
        for _ in 0..8 {
            crc = if crc & 1 == 1 { crc >> 1 ^ 0x82f6_3b78 } else { crc >> 1 };
        }
        crc
    });
    assert_eq!(stored, checksum);
    let raw = &block[1024..];
    assert_eq!(u32_at(raw, 0), 0xe0f5_e1e2);
    assert_eq!(u32_at(raw, 8), 3, "compatible features");
    assert_eq!(raw[12], 12);
    assert_eq!(u32_at(raw, 80), 4, "incompatible features");
    Superblock {
        meta: u64::from(u32_at(raw, 40)) * BLOCK,
        root: u16_at(raw, 14).into(),
        blocks: u32_at(raw, 36).into(),
    }
}

fn xattrs(body: &[u8]) -> BTreeMap<Vec<u8>, Vec<u8>> {
    let mut xattrs = BTreeMap::new();
    if body.is_empty() {
        return xattrs;
    }
    assert!(body.len() > 12);
    assert_eq!(body[..12], [0; 12], "nothing is shared");
    let mut rest = &body[12..];
    while !rest.is_empty() {
        let name_end = 4 + usize::from(rest[0]);
        let value_end = name_end + usize::from(u16_at(rest, 2));
        let prefix = match rest[1] {
            1 => "user.",
            2 => "system.posix_acl_access",
            3 => "system.posix_acl_default",
            4 => "trusted.",
            6 => "security.",
            other => panic!("name index {other}"),
        };
        let name = [prefix.as_bytes(), &rest[4..name_end]].concat();
        let former = xattrs.insert(name, rest[name_end..value_end].to_vec());
        assert!(former.is_none());
        rest = &rest[value_end.next_multiple_of(4)..];
    }
    xattrs
}

fn u16_at(bytes: &[u8], at: usize) -> u16 {
    u16::from_le_bytes(bytes[at..at + 2].try_into().unwrap())
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(bytes[at..at + 4].try_into().unwrap())
}

fn u64_at(bytes: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(bytes[at..at + 8].try_into().unwrap())
}

/// Lets `fsck.erofs` judge an image.
pub(crate) fn fsck(image: &Path) {
    let output = Command::new("fsck.erofs")
        .arg("--extract")
        .arg(image)
        .stdin(Stdio::null())
        .output()
        .unwrap_or_else(|error| panic!("fsck.erofs: {error} (Debian package: erofs-utils)"));
    let text = [output.stdout, output.stderr].concat();
    let text = String::from_utf8_lossy(&text);
    assert!(
        output.status.success() && !text.contains("<E>") && !text.contains("<W>"),
        "fsck.erofs: {}\n{text}",
        output.status
    );
}
