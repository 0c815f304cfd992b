//! What the writer writes the reader reads back, and no bytes make the reader panic.

#![allow(clippy::unwrap_used, reason = "the functions that tests share may panic as well")]

use std::io::Read;

use boxlite_tar::{Entry, EntryKind, Extent, Limits, ReadError, Reader, Timestamp, WriteError, Writer};
use proptest::prelude::*;

fn read_all(archive: &[u8]) -> Result<Vec<(Entry, Vec<u8>)>, ReadError> {
    let mut reader = Reader::new(archive, Limits::default());
    let mut entries = Vec::new();
    while let Some(entry) = reader.next_entry()? {
        let mut content = Vec::new();
        let mut buffer = [0; 777];
        // A hostile size must not fill the memory of the test.
        while content.len() < 1 << 20 {
            match reader.read_data(&mut buffer)? {
                0 => break,
                bytes => content.extend_from_slice(&buffer[..bytes]),
            }
        }
        entries.push((entry, content));
    }
    Ok(entries)
}

fn bytes(range: std::ops::Range<usize>) -> impl Strategy<Value = Vec<u8>> {
    prop::collection::vec(any::<u8>(), range)
}

fn name(range: std::ops::Range<usize>) -> impl Strategy<Value = Vec<u8>> {
    prop::collection::vec(1_u8.., range)
}

fn path() -> impl Strategy<Value = Vec<u8>> {
    prop::collection::vec(prop::collection::vec(b'a'..=b'e', 1..90), 1..5).prop_map(|components| components.join(&b'/'))
}

fn kind() -> impl Strategy<Value = EntryKind> {
    prop_oneof![
        4 => Just(EntryKind::File),
        1 => Just(EntryKind::HardLink),
        1 => Just(EntryKind::SymLink),
        1 => Just(EntryKind::Directory),
        1 => Just(EntryKind::CharDevice),
        1 => Just(EntryKind::BlockDevice),
        1 => Just(EntryKind::Fifo),
    ]
}

type Pieces = (Vec<(u64, u64)>, u64, u64);

/// A hole and the blocks of each piece, adjacent pieces too; a last piece; a hole at the end.
fn pieces() -> impl Strategy<Value = Option<Pieces>> {
    prop::option::of((
        prop::collection::vec((0_u64..3000, (1_u64..4).prop_map(|blocks| blocks * 512)), 0..30),
        0_u64..1500,
        0_u64..5000,
    ))
}

fn member() -> impl Strategy<Value = (Entry, Vec<u8>)> {
    (
        (path(), kind(), name(1..300)),
        (0_u32..0o10000, 0_u64..1 << 40, 0_u64..1 << 40),
        (name(0..40), name(0..40)),
        (-(1_i64 << 40)..1 << 40, prop_oneof![Just(0), 0_u32..1_000_000_000]),
        (any::<u32>(), any::<u32>()),
        prop::collection::btree_map(name(1..40), bytes(0..200), 0..4),
        pieces(),
        bytes(0..5000),
    )
        .prop_map(
            |((path, kind, link), (mode, uid, gid), (user, group), time, device, xattrs, pieces, data)| {
                let mut entry = Entry::new(path, kind);
                let mut data = data;
                if matches!(kind, EntryKind::HardLink | EntryKind::SymLink) {
                    entry.link = link;
                }
                if kind == EntryKind::Directory {
                    entry.path.push(b'/');
                }
                if matches!(kind, EntryKind::CharDevice | EntryKind::BlockDevice) {
                    entry.device = device;
                }
                (entry.mode, entry.uid, entry.gid, entry.user, entry.group) = (mode, uid, gid, user, group);
                entry.mtime = Timestamp {
                    seconds: time.0,
                    nanoseconds: time.1,
                };
                entry.xattrs = xattrs.into_iter().collect();
                match (kind, pieces) {
                    (EntryKind::File, Some((mut pieces, last, hole))) => {
                        if last > 0 {
                            pieces.push((last / 2, last));
                        }
                        let mut offset = 0;
                        let mut extents = Vec::new();
                        for (hole, size) in pieces {
                            offset += hole;
                            extents.push(Extent { offset, size });
                            offset += size;
                        }
                        entry.size = offset + hole;
                        entry.sparse = Some(extents);
                        let stored = usize::try_from(entry.stored_size()).unwrap();
                        data = data.into_iter().chain(std::iter::repeat(7)).take(stored).collect();
                    }
                    (EntryKind::File, None) => entry.size = data.len() as u64,
                    _ => data.clear(),
                }
                (entry, data)
            },
        )
}

/// The content with its holes.
fn logical(entry: &Entry, data: &[u8]) -> Vec<u8> {
    let Some(extents) = &entry.sparse else {
        return data.to_vec();
    };
    let mut content = vec![0; usize::try_from(entry.size).unwrap()];
    let mut data = data;
    for extent in extents {
        let start = usize::try_from(extent.offset).unwrap();
        let (piece, rest) = data.split_at(usize::try_from(extent.size).unwrap());
        content[start..start + piece.len()].copy_from_slice(piece);
        data = rest;
    }
    content
}

fn archive_of(members: &[(Entry, Vec<u8>)]) -> Vec<u8> {
    let mut writer = Writer::new(Vec::new());
    for (entry, data) in members {
        writer.append(entry, &data[..]).unwrap();
    }
    writer.finish().unwrap()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]

    #[test]
    fn entries_come_back(members in prop::collection::vec(member(), 0..6)) {
        let archive = archive_of(&members);
        prop_assert_eq!(archive.len() % 512, 0);
        let expected: Vec<_> = members
            .iter()
            .map(|(entry, data)| (entry.clone(), logical(entry, data)))
            .collect();
        prop_assert_eq!(read_all(&archive).unwrap(), expected);
    }

    #[test]
    fn extents_come_back((entry, data) in member(), skip in any::<bool>()) {
        prop_assume!(entry.kind == EntryKind::File);
        let archive = archive_of(&[(entry.clone(), data.clone())]);
        let mut reader = Reader::new(&archive[..], Limits::default());
        reader.next_entry().unwrap().unwrap();
        let mut rest = &data[..];
        let mut found = Vec::new();
        while let Some(extent) = reader.next_extent().unwrap() {
            found.push(extent);
            let (piece, after) = rest.split_at(usize::try_from(extent.size).unwrap());
            rest = after;
            if skip && found.len() % 2 == 0 {
                continue;
            }
            let mut content = Vec::new();
            let mut buffer = [0; 100];
            loop {
                match reader.read_extent(&mut buffer).unwrap() {
                    0 => break,
                    bytes => content.extend_from_slice(&buffer[..bytes]),
                }
            }
            prop_assert_eq!(&content[..], piece);
        }
        prop_assert!(rest.is_empty());
        let expected = match entry.sparse {
            Some(extents) => extents,
            None if data.is_empty() => Vec::new(),
            None => vec![Extent { offset: 0, size: data.len() as u64 }],
        };
        prop_assert_eq!(found, expected);
        prop_assert!(reader.next_entry().unwrap().is_none());
    }

    #[test]
    fn truncated_archives_are_noticed(members in prop::collection::vec(member(), 1..4), at in any::<prop::sample::Index>()) {
        let archive = archive_of(&members);
        let cut = at.index(archive.len() - 1024);
        match read_all(&archive[..cut]) {
            Err(ReadError::UnexpectedEnd { .. }) => {}
            // Nothing tells an archive that was cut between two entries from one without its
            // final zeros, which many programs write.
            Ok(entries) => prop_assert!(cut % 512 == 0 && entries.len() < members.len()),
            Err(error) => prop_assert!(false, "{error}"),
        }
    }

    #[test]
    fn damaged_archives_do_not_panic(
        members in prop::collection::vec(member(), 1..4),
        damage in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..6),
    ) {
        let mut archive = archive_of(&members);
        for (at, byte) in damage {
            let at = at.index(archive.len());
            archive[at] = byte;
            fix_checksum(&mut archive, at / 512 * 512);
        }
        let _ = read_all(&archive);
    }

    #[test]
    fn arbitrary_blocks_do_not_panic(
        blocks in prop::collection::vec((header(), bytes(0..1200)), 1..6),
    ) {
        let mut archive = Vec::new();
        for (header, data) in blocks {
            archive.extend_from_slice(&header);
            let start = archive.len() - 512;
            fix_checksum(&mut archive, start);
            archive.extend_from_slice(&data);
            archive.resize(archive.len().next_multiple_of(512), 0);
        }
        let _ = read_all(&archive);
    }

    #[test]
    fn arbitrary_bytes_do_not_panic(archive in bytes(0..3000)) {
        let _ = read_all(&archive);
    }
}

/// A header whose fields are arbitrary but often plausible.
fn header() -> impl Strategy<Value = Vec<u8>> {
    (
        bytes(512..513),
        prop::sample::select(&b"0\x001234567xgLKSDVX"[..]),
        prop::sample::select(vec![&b"ustar\x0000"[..], b"ustar  \0", b"\0\0\0\0\0\0\0\0"]),
        prop_oneof![
            (0_u64..3000).prop_map(|size| format!("{size:011o}\0").into_bytes()),
            bytes(12..13)
        ],
        any::<bool>(),
    )
        .prop_map(|(mut block, type_flag, magic, size, plain)| {
            if plain {
                block[100..124].fill(b'0');
                block[136..148].fill(b'0');
                block[329..345].fill(b'0');
            }
            block[124..136].copy_from_slice(&size);
            block[156] = type_flag;
            block[257..265].copy_from_slice(magic);
            block
        })
}

fn fix_checksum(archive: &mut [u8], start: usize) {
    let block = &mut archive[start..start + 512];
    block[148..156].fill(b' ');
    let sum: u32 = block.iter().map(|byte| u32::from(*byte)).sum();
    block[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
}

#[test]
fn data_mixes_with_extents() {
    let mut entry = Entry::new("f", EntryKind::File);
    entry.size = 1030;
    entry.sparse = Some(vec![Extent { offset: 5, size: 512 }, Extent { offset: 1020, size: 5 }]);
    let archive = archive_of(&[(entry, [&[b'a'; 512][..], b"bbbbb"].concat())]);
    let mut reader = Reader::new(&archive[..], Limits::default());
    reader.next_entry().unwrap().unwrap();
    let mut buffer = [1; 7];
    reader.data().read_exact(&mut buffer).unwrap();
    assert_eq!(&buffer, b"\0\0\0\0\0aa");
    assert_eq!(reader.next_extent().unwrap(), Some(Extent { offset: 1020, size: 5 }));
    let mut rest = Vec::new();
    reader.data().read_to_end(&mut rest).unwrap();
    assert_eq!(rest, b"bbbbb\0\0\0\0\0");
    assert_eq!(reader.next_extent().unwrap(), None);
}

#[test]
fn short_data_leaves_a_sound_archive() {
    let mut writer = Writer::new(Vec::new());
    let mut entry = Entry::new("log", EntryKind::File);
    entry.size = 1000;
    let error = writer.append(&entry, &b"short"[..]).unwrap_err();
    assert!(error.to_string().contains("995 bytes of 1000"), "{error}");
    writer
        .append(&Entry::new("next", EntryKind::Fifo), std::io::empty())
        .unwrap();
    let entries = read_all(&writer.finish().unwrap()).unwrap();
    assert_eq!(entries.len(), 2);
    assert_eq!(entries[0].1.len(), 1000);
}

#[test]
fn what_no_archive_can_hold_is_refused() {
    let mut writer = Writer::new(Vec::new());
    let mut nameless_xattr = Entry::new("a", EntryKind::File);
    nameless_xattr.xattrs.push((Vec::new(), Vec::new()));
    let mut overlapping = Entry::new("a", EntryKind::File);
    overlapping.sparse = Some(vec![Extent { offset: 0, size: 1 }]);
    let mut huge = Entry::new("a", EntryKind::Fifo);
    huge.uid = u64::MAX;
    for entry in [
        Entry::new("", EntryKind::File),
        Entry::new("a\0b", EntryKind::File),
        Entry::new("a", EntryKind::SymLink),
        nameless_xattr,
        overlapping,
        huge,
    ] {
        writer.append(&entry, std::io::empty()).unwrap_err();
    }
    assert_eq!(writer.finish().unwrap(), [0; 1024]);
}

/// What moves data itself, past the reader's and the writer's buffers, gets just the data.
#[test]
fn data_is_moved_by_others() {
    let mut entry = Entry::new("f", EntryKind::File);
    entry.size = 1000;
    let content: Vec<u8> = (0..1000_u32).map(|byte| byte as u8).collect();
    let mut writer = Writer::new(Vec::new());
    let mut rest = &content[..];
    writer
        .append_moved(&entry, |sink, left| {
            assert_eq!(left, rest.len() as u64);
            let (piece, after) = rest.split_at(rest.len().min(300));
            sink.extend_from_slice(piece);
            rest = after;
            Ok(piece.len() as u64)
        })
        .unwrap();
    let mut short = entry.clone();
    short.path = "short".into();
    let error = writer.append_moved(&short, |_, _| Ok(0)).unwrap_err();
    assert!(
        matches!(error, WriteError::DataTooShort { missing: 1000, .. }),
        "{error}"
    );
    let archive = writer.finish().unwrap();

    let mut reader = Reader::new(&archive[..], Limits::default());
    assert_eq!(reader.next_entry().unwrap().unwrap().path, b"f");
    assert_eq!(reader.next_extent().unwrap().unwrap().size, 1000);
    let mut moved = Vec::new();
    let mut piece = |source: &mut &[u8], left: u64| {
        let (piece, after) = source.split_at(usize::try_from(left.min(300)).unwrap());
        moved.extend_from_slice(piece);
        *source = after;
        Ok::<_, ReadError>(piece.len() as u64)
    };
    for expected in [300, 300, 300, 100, 0] {
        assert_eq!(reader.move_extent(&mut piece).unwrap(), expected);
    }
    assert_eq!(moved, content);
    // The one that was too short is filled up, and what follows is found.
    assert_eq!(reader.next_entry().unwrap().unwrap().path, b"short");
    reader.next_extent().unwrap();
    let error = reader.move_extent(|_, _| Ok::<_, ReadError>(0)).unwrap_err();
    assert!(matches!(error, ReadError::UnexpectedEnd { .. }), "{error}");
    assert!(matches!(reader.next_entry(), Err(ReadError::Failed)));
}
