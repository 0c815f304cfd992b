//! Random stacks of layers give what the model says, and random bytes never a panic.

use std::collections::BTreeMap;

use boxlite_tar::{Entry, EntryKind, Extent, Timestamp};
use proptest::prelude::*;
use proptest::sample::{Index, select};

use crate::model::{Inode, Model};
use crate::reader::{Image, fsck};
use crate::sample::{Member, Workshop, tar};

fn name() -> impl Strategy<Value = &'static str> {
    select(vec!["a", "b", "c", "d", "!", "0"])
}

fn path() -> impl Strategy<Value = String> {
    (
        select(vec!["", "./", "/", "//."]),
        prop::collection::vec(name(), 1..4),
        select(vec!["", "", "/"]),
    )
        .prop_map(|(start, names, end)| {
            let start = if start == "//." { ".//" } else { start };
            format!("{start}{}{end}", names.join("/"))
        })
}

fn whiteout() -> impl Strategy<Value = String> {
    (prop::collection::vec(name(), 0..3), prop::option::of(name())).prop_map(|(names, hidden)| {
        let last = hidden.map_or(".wh..wh..opq".to_owned(), |name| format!(".wh.{name}"));
        names
            .into_iter()
            .map(str::to_owned)
            .chain([last])
            .collect::<Vec<_>>()
            .join("/")
    })
}

fn target() -> impl Strategy<Value = String> {
    prop::collection::vec(select(vec!["a", "b", "c", "..", ".", ""]), 1..4)
        .prop_map(|names| names.join("/"))
        .prop_filter("not empty", |target| !target.is_empty())
}

fn kind() -> impl Strategy<Value = EntryKind> {
    prop_oneof![
        6 => Just(EntryKind::File),
        4 => Just(EntryKind::Directory),
        3 => Just(EntryKind::SymLink),
        3 => Just(EntryKind::HardLink),
        1 => Just(EntryKind::CharDevice),
        1 => Just(EntryKind::BlockDevice),
        1 => Just(EntryKind::Fifo),
    ]
}

fn xattrs() -> impl Strategy<Value = Vec<(Vec<u8>, Vec<u8>)>> {
    let name = select(vec![
        "user.a",
        "user.long-name",
        "trusted.t",
        "security.capability",
        "system.posix_acl_access",
    ]);
    let bytes = prop_oneof![4 => 0_usize..50, 1 => 3000_usize..9000];
    let value = (any::<u8>(), bytes).prop_map(|(byte, length)| vec![byte; length]);
    prop::collection::btree_map(name.prop_map(|name| name.as_bytes().to_vec()), value, 0..3)
        .prop_map(|xattrs| xattrs.into_iter().collect())
}

fn content() -> impl Strategy<Value = Vec<u8>> {
    let length = prop_oneof![
        4 => 0_usize..100,
        2 => 3900_usize..4200,
        2 => 8192_usize..20_000,
        1 => Just(4096_usize),
    ];
    (any::<u8>(), length).prop_map(|(byte, length)| {
        (0..length)
            .map(|index| byte.wrapping_add((index / 512) as u8))
            .collect()
    })
}

fn member() -> impl Strategy<Value = Member> {
    let described = (
        (path(), kind(), target(), path()),
        (
            0_u32..0o10000,
            0_u64..4_294_967_295,
            any::<u32>().prop_map(|gid| u64::from(gid / 2)),
        ),
        (any::<i32>(), 0_u32..1_000_000_000),
        (0_u32..4096, 0_u32..1 << 20),
        xattrs(),
        content(),
        prop::option::weighted(0.2, prop::collection::vec((1_u64..30, 1_u64..20), 0..6)),
    )
        .prop_map(
            |((path, kind, target, other), (mode, uid, gid), time, device, xattrs, content, holes)| {
                let mut entry = Entry::new(path, kind);
                (entry.mode, entry.uid, entry.gid) = (mode, uid, gid);
                entry.mtime = Timestamp {
                    seconds: time.0.into(),
                    nanoseconds: time.1,
                };
                match kind {
                    EntryKind::SymLink => entry.link = target.into_bytes(),
                    EntryKind::HardLink => entry.link = other.trim_end_matches('/').as_bytes().to_vec(),
                    EntryKind::CharDevice | EntryKind::BlockDevice => entry.device = device,
                    _ => {}
                }
                if kind != EntryKind::HardLink {
                    entry.xattrs = xattrs;
                }
                let mut content = content;
                match (kind, holes) {
                    (EntryKind::File, Some(holes)) => {
                        let mut extents = Vec::new();
                        let mut offset = 0;
                        for (hole, blocks) in holes {
                            offset += hole * 700;
                            extents.push(Extent {
                                offset,
                                size: blocks * 512,
                            });
                            offset += blocks * 512;
                        }
                        entry.size = offset + 5000;
                        entry.sparse = Some(extents);
                        let stored = usize::try_from(entry.stored_size()).unwrap();
                        content = (0..stored).map(|index| (index / 100 % 255) as u8 + 1).collect();
                    }
                    (EntryKind::File, None) => entry.size = content.len() as u64,
                    _ => content.clear(),
                }
                (entry, content)
            },
        );
    prop_oneof![
        5 => described,
        1 => whiteout().prop_map(|path| (Entry::new(path, EntryKind::File), Vec::new())),
    ]
}

fn stack() -> impl Strategy<Value = Vec<Vec<Member>>> {
    prop::collection::vec(prop::collection::vec(member(), 0..14), 1..5)
}

fn logical(entry: &Entry, data: &[u8]) -> Vec<u8> {
    let Some(extents) = &entry.sparse else {
        return data.to_vec();
    };
    let mut content = vec![0; usize::try_from(entry.size).unwrap()];
    let mut rest = data;
    for extent in extents {
        let start = usize::try_from(extent.offset).unwrap();
        let (piece, after) = rest.split_at(usize::try_from(extent.size).unwrap());
        content[start..start + piece.len()].copy_from_slice(piece);
        rest = after;
    }
    content
}

/// The model of those entries that it accepts, those entries, and where the first one was
/// that it does not.
fn accepted(stack: &[Vec<Member>]) -> (Model, Vec<Vec<Member>>, Option<(usize, usize)>) {
    let mut model = Model::new();
    let mut kept = Vec::new();
    let mut refused = None;
    for (layer, members) in stack.iter().enumerate() {
        model.begin_layer();
        let mut kept_here = Vec::new();
        for member in members {
            let mut next = model.clone();
            match next.apply(&member.0, &logical(&member.0, &member.1)) {
                Ok(()) => {
                    model = next;
                    kept_here.push(member.clone());
                }
                Err(_) => refused = refused.or(Some((layer, kept_here.len()))),
            }
        }
        kept.push(kept_here);
    }
    (model, kept, refused)
}

fn assert_matches(image: &Image, model: &Model) {
    let lossy = |paths: Vec<Vec<u8>>| -> Vec<String> {
        paths
            .iter()
            .map(|path| String::from_utf8_lossy(path).into_owned())
            .collect()
    };
    let joined: BTreeMap<Vec<u8>, usize> = model.names.iter().map(|(path, id)| (path.join(&b'/'), *id)).collect();
    assert_eq!(
        lossy(image.nodes.keys().cloned().collect()),
        lossy(joined.keys().cloned().collect())
    );
    let mut inodes: BTreeMap<usize, u64> = BTreeMap::new();
    for (path, id) in &joined {
        let node = &image.nodes[path];
        let expected = &model.inodes[*id];
        let what = String::from_utf8_lossy(path);
        let kind = match node.kind() {
            0o100_000 => EntryKind::File,
            0o040_000 => EntryKind::Directory,
            0o120_000 => EntryKind::SymLink,
            0o020_000 => EntryKind::CharDevice,
            0o060_000 => EntryKind::BlockDevice,
            _ => EntryKind::Fifo,
        };
        let found = Inode {
            kind,
            mode: node.mode & 0o7777,
            owner: (node.uid.into(), node.gid.into()),
            mtime: node.mtime,
            xattrs: node.xattrs.clone(),
            link: node.link.clone(),
            device: node.device,
            content: if kind == EntryKind::File {
                image.content(node)
            } else {
                Vec::new()
            },
        };
        assert!(found.content == expected.content, "content of {what}");
        assert_eq!(&found, expected, "{what}");
        let nid = *inodes.entry(*id).or_insert(node.nid);
        assert_eq!(nid, node.nid, "{what} is no hard link any more");
    }
    let mut nids: Vec<_> = inodes.values().collect();
    nids.sort_unstable();
    nids.dedup();
    assert_eq!(nids.len(), inodes.len(), "inodes became one");
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 192, max_shrink_iters: 4000, ..ProptestConfig::default() })]

    #[test]
    fn stacks_add_up_to_what_the_model_says(stack in stack()) {
        let (model, kept, _) = accepted(&stack);
        let workshop = Workshop::new();
        let tars: Vec<_> = kept.iter().map(|members| tar(members)).collect();
        let (info, image) = workshop.try_build(&tars).unwrap();
        assert_matches(&image, &model);
        prop_assert_eq!(info.unpacked_bytes, tars.iter().map(|tar| tar.len() as u64).sum::<u64>());
    }

    #[test]
    fn what_the_model_refuses_is_refused(stack in stack()) {
        let (_, mut kept, refused) = accepted(&stack);
        let Some((layer, position)) = refused else {
            return Ok(());
        };
        // Puts the first refused entry back where it was.
        let mut seen = 0;
        let mut model = Model::new();
        'search: for (index, members) in stack.iter().enumerate() {
            model.begin_layer();
            seen = 0;
            for member in members {
                let mut next = model.clone();
                if next.apply(&member.0, &logical(&member.0, &member.1)).is_err() {
                    kept[index].insert(seen, member.clone());
                    break 'search;
                }
                model = next;
                seen += 1;
            }
        }
        prop_assert_eq!(seen, position);
        let tars: Vec<_> = kept[..=layer].iter().map(|members| tar(members)).collect();
        Workshop::new().refusal(&tars);
    }

    #[test]
    fn damaged_layers_never_panic(
        stack in stack(),
        damage in prop::collection::vec((any::<Index>(), any::<u8>()), 1..8),
    ) {
        let (_, kept, _) = accepted(&stack);
        let mut tars: Vec<_> = kept.iter().map(|members| tar(members)).collect();
        for (at, byte) in damage {
            let layer = at.index(tars.len());
            let tar = &mut tars[layer];
            let position = at.index(tar.len());
            tar[position] = byte;
            let block = &mut tar[position / 512 * 512..][..512];
            if block[257..262] == *b"ustar" {
                block[148..156].fill(b' ');
                let sum: u32 = block.iter().map(|byte| u32::from(*byte)).sum();
                block[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
            }
        }
        let mut workshop = Workshop::new();
        // A damaged number may ask for a sparse file of any size.
        workshop.options.device_bytes = Some(1 << 30);
        // Reading it back checks all that was written.
        let _ = workshop.try_build(&tars);
    }

    #[test]
    fn arbitrary_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..2000)) {
        let _ = Workshop::new().try_build(&[bytes]);
    }
}

/// A few large stacks, judged by `fsck.erofs` too.
#[test]
fn large_stacks() {
    use proptest::strategy::ValueTree;
    use proptest::test_runner::TestRunner;

    let mut runner = TestRunner::deterministic();
    let strategy = prop::collection::vec(prop::collection::vec(member(), 300), 4);
    for _ in 0..2 {
        let stack = strategy.new_tree(&mut runner).unwrap().current();
        let (model, kept, _) = accepted(&stack);
        let workshop = Workshop::new();
        let tars: Vec<_> = kept.iter().map(|members| tar(members)).collect();
        let (_, image) = workshop.try_build(&tars).unwrap();
        assert_matches(&image, &model);
        fsck(&workshop.path("rootfs.erofs"));
    }
}
