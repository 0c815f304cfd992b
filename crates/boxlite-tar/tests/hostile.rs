//! Archives that lie, by hand.

#![allow(clippy::unwrap_used, reason = "the functions that tests share may panic as well")]

use boxlite_tar::{Entry, EntryKind, Limits, PaxError, ReadError, Reader, SparseError};

const MAGIC_USTAR: &[u8; 8] = b"ustar\x0000";
const MAGIC_GNU: &[u8; 8] = b"ustar  \0";

struct Header([u8; 512]);

impl Header {
    fn new(name: &[u8], type_flag: u8, size: usize) -> Self {
        let mut block = [0; 512];
        block[..name.len()].copy_from_slice(name);
        block[100..107].copy_from_slice(b"0000644");
        block[124..135].copy_from_slice(format!("{size:011o}").as_bytes());
        block[156] = type_flag;
        block[257..265].copy_from_slice(MAGIC_USTAR);
        Self(block)
    }

    fn set(mut self, at: usize, bytes: &[u8]) -> Self {
        self.0[at..at + bytes.len()].copy_from_slice(bytes);
        self
    }

    fn gnu(self) -> Self {
        self.set(257, MAGIC_GNU)
    }

    fn finish(mut self) -> Vec<u8> {
        self.0[148..156].fill(b' ');
        let sum: u32 = self.0.iter().map(|byte| u32::from(*byte)).sum();
        self.0[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
        self.0.to_vec()
    }

    fn with(self, data: &[u8]) -> Vec<u8> {
        let mut bytes = self.finish();
        bytes.extend_from_slice(data);
        bytes.resize(bytes.len().next_multiple_of(512), 0);
        bytes
    }
}

fn extension(type_flag: u8, data: &[u8]) -> Vec<u8> {
    Header::new(b"ext", type_flag, data.len()).with(data)
}

fn record(key: &str, value: &str) -> String {
    let content = key.len() + value.len() + 3;
    let length = (content + 1..content + 8)
        .find(|length| length - length.to_string().len() == content)
        .unwrap();
    format!("{length} {key}={value}\n")
}

fn pax(records: &[(&str, &str)]) -> Vec<u8> {
    let data: String = records.iter().map(|(key, value)| record(key, value)).collect();
    extension(b'x', data.as_bytes())
}

fn file(name: &str, data: &str) -> Vec<u8> {
    Header::new(name.as_bytes(), b'0', data.len()).with(data.as_bytes())
}

fn read(pieces: &[Vec<u8>]) -> Result<Vec<Entry>, ReadError> {
    read_within(pieces, Limits::default())
}

fn read_within(pieces: &[Vec<u8>], limits: Limits) -> Result<Vec<Entry>, ReadError> {
    let archive = pieces.concat();
    let mut reader = Reader::new(&archive[..], limits);
    let mut entries = Vec::new();
    loop {
        match reader.next_entry() {
            Ok(Some(entry)) => entries.push(entry),
            Ok(None) => return Ok(entries),
            Err(error) => {
                assert!(matches!(reader.next_entry(), Err(ReadError::Failed)));
                return Err(error);
            }
        }
    }
}

fn paths(entries: &[Entry]) -> Vec<String> {
    entries
        .iter()
        .map(|entry| String::from_utf8_lossy(&entry.path).into_owned())
        .collect()
}

#[test]
fn a_newline_in_a_value_is_part_of_it() {
    let value = "\u{1}\n22 linkpath=/etc/evil\n";
    let entries = read(&[
        pax(&[("SCHILY.xattr.security.capability", value), ("linkpath", "good")]),
        Header::new(b"l", b'2', 0).finish(),
    ])
    .unwrap();
    assert_eq!(entries[0].link, b"good");
    assert_eq!(
        entries[0].xattrs,
        [(b"security.capability".to_vec(), value.as_bytes().to_vec())]
    );
}

#[test]
fn the_size_of_a_record_decides_where_the_next_header_is() {
    // The header says 0: whoever believes it takes the data for the next header.
    let hidden = file("hidden", "");
    let mut archive = pax(&[("size", "1024")]);
    archive.extend(Header::new(b"outer", b'0', 0).with(&hidden));
    archive.resize(archive.len() + 512, 0);
    let entries = read(&[archive, file("after", "")]).unwrap();
    assert_eq!(paths(&entries), ["outer", "after"]);
    assert_eq!(entries[0].size, 1024);
}

#[test]
fn contradictions_are_refused() {
    let long = |name: &str| extension(b'L', format!("{name}\0").as_bytes());
    for pieces in [
        [long("a"), long("a")],
        [long("a"), pax(&[("path", "b")])],
        [pax(&[("path", "b")]), pax(&[("path", "b")])],
        [extension(b'K', b"a\0"), pax(&[("linkpath", "b")])],
    ] {
        let pieces = [pieces.concat(), Header::new(b"f", b'2', 0).finish()];
        assert!(matches!(read(&pieces), Err(ReadError::Ambiguous { .. })));
    }
    let agreeing = [long("a"), pax(&[("path", "a")]), file("f", "")];
    assert_eq!(paths(&read(&agreeing).unwrap()), ["a"]);
}

#[test]
fn global_records_apply_until_overridden() {
    let entries = read(&[
        extension(b'g', record("uid", "7").as_bytes()),
        file("a", ""),
        pax(&[("uid", "8")]),
        file("b", ""),
        extension(b'g', record("gid", "9").as_bytes()),
        pax(&[("uid", "")]),
        file("c", ""),
    ])
    .unwrap();
    let owners: Vec<_> = entries.iter().map(|entry| (entry.uid, entry.gid)).collect();
    assert_eq!(owners, [(7, 0), (8, 0), (0, 9)]);
}

#[test]
fn ends_of_archives() {
    let zeros = |blocks: usize| vec![0; blocks * 512];
    assert_eq!(read(&[]).unwrap(), []);
    assert_eq!(read(&[zeros(1)]).unwrap(), []);
    assert_eq!(read(&[zeros(2), file("beyond", "")]).unwrap(), []);
    assert!(matches!(
        read(&[zeros(1), file("a", "")]),
        Err(ReadError::LoneZeroBlock { offset: 0 })
    ));
    for extended in [pax(&[("path", "a")]), extension(b'L', b"a")] {
        assert!(matches!(
            read(std::slice::from_ref(&extended)),
            Err(ReadError::UnexpectedEnd { .. })
        ));
        assert!(matches!(
            read(&[extended, zeros(2)]),
            Err(ReadError::UnexpectedEnd { .. })
        ));
    }
    assert!(matches!(
        read(&[file("a", "data")[..515].to_vec()]),
        Err(ReadError::UnexpectedEnd { offset: 515, .. })
    ));
    assert!(matches!(
        read(&[b"not a tar archive".repeat(100)]),
        Err(ReadError::Checksum { offset: 0 })
    ));
}

#[test]
fn numbers_out_of_range_are_refused() {
    let huge = [0x80, 0, 0, 0, 0x80, 0, 0, 0, 0, 0, 0, 0];
    let negative = [0xff; 12];
    for (at, bytes, field) in [
        (124, &huge[..], "size"),
        (124, &negative, "size"),
        (124, b"0000000000x ", "size"),
        (108, &negative[..8], "uid"),
        (136, b"zzzzzzzzzzzz", "mtime"),
    ] {
        match read(&[Header::new(b"f", b'0', 0).set(at, bytes).finish()]) {
            Err(ReadError::Number { field: found, .. }) => assert_eq!(found, field),
            other => panic!("{other:?}"),
        }
    }
    let before_1970 = Header::new(b"f", b'0', 0).set(136, &negative).finish();
    assert_eq!(read(&[before_1970]).unwrap()[0].mtime.seconds, -1);
    for (key, value) in [
        ("size", "9223372036854775808"),
        ("size", "-1"),
        ("uid", "1x"),
        ("mtime", "1.2.3"),
        ("LIBARCHIVE.xattr.user.a", "*"),
        ("LIBARCHIVE.xattr.user.%x", "YQ"),
        ("SCHILY.xattr.", "x"),
    ] {
        assert!(
            matches!(
                read(&[pax(&[(key, value)]), file("f", "")]),
                Err(ReadError::Pax {
                    source: PaxError::Value { .. },
                    ..
                })
            ),
            "{key}"
        );
    }
}

#[test]
fn limits_hold() {
    let limits = Limits {
        path_bytes: 10,
        extension_bytes: 100,
        sparse_extents: 2,
    };
    let long = "x".repeat(101);
    for pieces in [
        vec![file("12345678901", "")],
        vec![pax(&[("path", "12345678901")]), file("a", "")],
        vec![pax(&[("linkpath", "12345678901")]), Header::new(b"l", b'1', 0).finish()],
        vec![extension(b'L', b"12345678901"), file("a", "")],
        vec![extension(b'K', &[b'x'; 600]), file("a", "")],
        vec![pax(&[("comment", &long)]), file("a", "")],
        vec![
            extension(b'g', record("a", &long[..60]).as_bytes()),
            extension(b'g', record("b", &long[..60]).as_bytes()),
        ],
        vec![Header::new(b"ext", b'x', 0o77_777_777_777).finish()],
    ] {
        assert!(matches!(
            read_within(&pieces, limits.clone()),
            Err(ReadError::TooLong { .. })
        ));
    }
    assert!(matches!(
        read_within(
            &[pax(&[("GNU.sparse.map", "0,0,0,0,0,0")]), file("a", "")],
            limits.clone()
        ),
        Err(ReadError::Sparse {
            source: SparseError::TooMany { limit: 2 },
            ..
        })
    ));
    assert!(matches!(
        read_within(
            &[
                pax(&[
                    ("GNU.sparse.major", "1"),
                    ("GNU.sparse.minor", "0"),
                    ("GNU.sparse.realsize", "9")
                ]),
                file("a", "999999999999\n"),
            ],
            limits
        ),
        Err(ReadError::Sparse { .. })
    ));
}

#[test]
fn kinds_that_nobody_should_unpack_are_refused() {
    for type_flag in *b"MNAZ8\x7f" {
        assert!(matches!(
            read(&[Header::new(b"f", type_flag, 0).finish()]),
            Err(ReadError::UnsupportedKind { .. })
        ));
    }
    let not_gnu = Header::new(b"f", b'S', 0).finish();
    assert!(matches!(read(&[not_gnu]), Err(ReadError::UnsupportedKind { .. })));
}

#[test]
fn sizes_of_kinds_without_data_are_ignored() {
    for type_flag in *b"123456" {
        let entries = read(&[
            Header::new(b"l", type_flag, 512).set(157, b"target").finish(),
            file("after", ""),
        ])
        .unwrap();
        assert_eq!(paths(&entries), ["l", "after"]);
        assert_eq!(entries[0].size, 0);
    }
    let entries = read(&[
        Header::new(b"d/", b'D', 600).gnu().with(&[b'Y'; 600]),
        Header::new(b"label", b'V', 5).gnu().with(b"label"),
        Header::new(b"old/", 0, 0).finish(),
    ])
    .unwrap();
    assert_eq!(paths(&entries), ["d/", "old/"]);
    assert!(entries.iter().all(|entry| entry.kind == EntryKind::Directory));
}

#[test]
fn sparse_maps_that_lie_are_refused() {
    let old = |size: usize, pieces: &[(u64, u64)], real: u64| {
        let mut header = Header::new(b"s", b'S', size).gnu();
        for (index, (offset, bytes)) in pieces.iter().enumerate() {
            header = header
                .set(386 + 24 * index, format!("{offset:011o}\0").as_bytes())
                .set(398 + 24 * index, format!("{bytes:011o}\0").as_bytes());
        }
        header
            .set(483, format!("{real:011o}\0").as_bytes())
            .with(&vec![b'x'; size])
    };
    let entries = read(&[old(515, &[(0, 512), (1 << 30, 3)], 1 << 31)]).unwrap();
    assert_eq!(entries[0].size, 1 << 31);
    for (size, pieces, real) in [
        (515, &[(0, 512), (511, 3)][..], 1000),
        (6, &[(0, 3), (5, 3)], 10),
        (6, &[(4, 3), (0, 3)], 10),
        (6, &[(0, 3), (8, 3)], 10),
        (6, &[(0, 3)], 10),
        (2, &[(0, 3)], 10),
    ] {
        assert!(matches!(
            read(&[old(size, pieces, real)]),
            Err(ReadError::Sparse { .. })
        ));
    }
    for map in ["1\n0\n", "1\n0\nx\n", "\n", "2\n0\n1\n0\n1\n", "1\n0\n1\n"] {
        assert!(
            matches!(
                read(&[
                    pax(&[
                        ("GNU.sparse.major", "1"),
                        ("GNU.sparse.minor", "0"),
                        ("GNU.sparse.realsize", "9")
                    ]),
                    file("a", map),
                ]),
                Err(ReadError::Sparse { .. } | ReadError::UnexpectedEnd { .. })
            ),
            "{map:?}"
        );
    }
}

#[test]
fn a_map_of_blocks_without_pieces_ends() {
    let mut endless = vec![0; 512];
    endless[504] = 1;
    let header = Header::new(b"s", b'S', 0).gnu().set(482, &[1]).finish();
    assert!(matches!(
        read(&[header, endless.repeat(50)]),
        Err(ReadError::Sparse {
            source: SparseError::Malformed,
            ..
        })
    ));
}

#[test]
fn nul_in_a_path_is_refused() {
    assert!(matches!(
        read(&[pax(&[("path", "a\0b")]), file("f", "")]),
        Err(ReadError::Pax {
            source: PaxError::Nul { .. },
            ..
        })
    ));
}

#[test]
fn star_headers_have_a_shorter_prefix() {
    let header = Header::new(b"name", b'0', 0)
        .set(345, b"prefix")
        .set(476, b"00000000001\0")
        .set(508, b"tar\0")
        .finish();
    assert_eq!(paths(&read(&[header]).unwrap()), ["prefix/name"]);
    let header = Header::new(b"name", b'0', 0).gnu().set(345, b"00000000001\0").finish();
    assert_eq!(paths(&read(&[header]).unwrap()), ["name"]);
}
