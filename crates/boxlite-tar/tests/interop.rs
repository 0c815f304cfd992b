//! The same archives through GNU tar and Python's `tarfile`, both ways.

#![allow(clippy::unwrap_used, reason = "the functions that tests share may panic as well")]

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fmt::Write as _;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileExt, MetadataExt, PermissionsExt, symlink};
use std::path::Path;
use std::process::{Command, Output, Stdio};

use boxlite_tar::{Entry, EntryKind, Extent, Limits, ReadError, Reader, Timestamp, Writer};
use proptest::prelude::*;
use proptest::test_runner::{RngAlgorithm, TestRng};
use rustix::fs::XattrFlags;

/// A capability set whose bytes have a newline among them.
const CAPABILITY: &[u8] = b"\x01\x00\x00\x02\x0a\x0a\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00";

fn run(command: &mut Command, package: &str) -> Output {
    let output = command
        .stdin(Stdio::null())
        .output()
        .unwrap_or_else(|error| panic!("{command:?}: {error} (Debian package: {package})"));
    assert!(
        output.status.success(),
        "{command:?}: {}\n{}",
        output.status,
        String::from_utf8_lossy(&output.stderr)
    );
    output
}

/// What a member is, for comparison.
#[derive(Debug, PartialEq, Eq, Clone)]
struct Member {
    kind: EntryKind,
    link: Vec<u8>,
    mode: u32,
    owner: (u64, u64),
    mtime: Timestamp,
    content: Vec<u8>,
    xattrs: Vec<(Vec<u8>, Vec<u8>)>,
}

fn read(archive: &[u8]) -> Result<BTreeMap<Vec<u8>, Member>, ReadError> {
    let mut reader = Reader::new(archive, Limits::default());
    let mut members = BTreeMap::new();
    while let Some(entry) = reader.next_entry()? {
        let mut content = Vec::new();
        let mut buffer = vec![0; 1 << 16];
        loop {
            match reader.read_data(&mut buffer)? {
                0 => break,
                bytes => content.extend_from_slice(&buffer[..bytes]),
            }
        }
        let mut path = entry.path;
        while path.ends_with(b"/") {
            path.pop();
        }
        let path = path.strip_prefix(b"./").unwrap_or(&path).to_vec();
        let member = Member {
            kind: entry.kind,
            link: entry.link,
            mode: entry.mode,
            owner: (entry.uid, entry.gid),
            mtime: entry.mtime,
            content,
            xattrs: entry.xattrs,
        };
        assert_eq!(members.insert(path, member), None);
    }
    Ok(members)
}

/// A folder with a bit of everything that `level` of tar formats can hold.
fn make_tree(root: &Path, rich: bool) {
    let long = "long-name-".repeat(20);
    fs::create_dir(root.join("dir")).unwrap();
    fs::write(root.join("dir/empty"), "").unwrap();
    fs::write(root.join("dir/exact"), vec![b'x'; 1024]).unwrap();
    fs::write(root.join("dir/odd"), vec![b'y'; 70_001]).unwrap();
    fs::hard_link(root.join("dir/odd"), root.join("dir/zz-hard")).unwrap();
    symlink("../somewhere/else", root.join("dir/sym")).unwrap();
    fs::write(root.join("unreadable"), "secret").unwrap();
    fs::set_permissions(root.join("unreadable"), PermissionsExt::from_mode(0o0)).unwrap();
    fs::write(root.join("set-uid"), "x").unwrap();
    std::os::unix::fs::chown(root.join("set-uid"), Some(1234), Some(4321)).unwrap();
    fs::set_permissions(root.join("set-uid"), PermissionsExt::from_mode(0o6751)).unwrap();
    if rich {
        let deep = root.join(&long).join("x".repeat(90));
        fs::create_dir_all(&deep).unwrap();
        fs::write(deep.join("leaf"), "leaf").unwrap();
        fs::hard_link(deep.join("leaf"), deep.join("leaf-link")).unwrap();
        symlink("t".repeat(300), root.join("long-link")).unwrap();
        fs::write(root.join("naïve-\u{1f980}"), "utf-8").unwrap();
        fs::write(root.join(OsStr::from_bytes(b"latin-\xe9")), "latin").unwrap();
        fs::write(root.join("big-owner"), "x").unwrap();
        std::os::unix::fs::chown(root.join("big-owner"), Some(4_000_000_000), Some(3_000_000)).unwrap();
        let sparse = fs::File::create(root.join("sparse")).unwrap();
        sparse.set_len(9 << 20).unwrap();
        for index in 0..60 {
            sparse
                .write_all_at(format!("piece {index}").as_bytes(), index * 131_072)
                .unwrap();
        }
        let hole = fs::File::create(root.join("only-a-hole")).unwrap();
        hole.set_len(3 << 20).unwrap();
    }
}

fn set_xattrs(root: &Path) {
    let set = |path: &str, name: &str, value: &[u8]| {
        rustix::fs::setxattr(root.join(path), name, value, XattrFlags::empty())
            .unwrap_or_else(|error| panic!("{name} of {path}: {error}; root and a disk with xattrs are needed"));
    };
    set("dir/exact", "security.capability", CAPABILITY);
    set("dir/exact", "user.lines", b"one\n21 path=somewhere\ntwo\0three");
    set("dir", "user.directory", b"yes");
}

fn walk(root: &Path, relative: &Path, found: &mut BTreeMap<Vec<u8>, fs::Metadata>) {
    for entry in fs::read_dir(root.join(relative)).unwrap() {
        let path = relative.join(entry.unwrap().file_name());
        let metadata = fs::symlink_metadata(root.join(&path)).unwrap();
        found.insert(path.as_os_str().as_bytes().to_vec(), metadata.clone());
        if metadata.is_dir() {
            walk(root, &path, found);
        }
    }
}

/// Compares what was read with the folder it was made from.
fn assert_matches_tree(members: &BTreeMap<Vec<u8>, Member>, root: &Path, nanoseconds: bool, what: &str) {
    let mut tree = BTreeMap::new();
    walk(root, Path::new(""), &mut tree);
    let names = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    assert_eq!(
        members
            .keys()
            .map(|path| names(path))
            .filter(|path| path != ".")
            .collect::<Vec<_>>(),
        tree.keys().map(|path| names(path)).collect::<Vec<_>>(),
        "{what}"
    );
    for (path, metadata) in &tree {
        let member = &members[path];
        let on_disk = root.join(OsStr::from_bytes(path));
        let what = format!("{what}: {}", names(path));
        if member.kind == EntryKind::HardLink {
            let target = fs::symlink_metadata(root.join(OsStr::from_bytes(&member.link))).unwrap();
            assert_eq!((target.ino(), target.dev()), (metadata.ino(), metadata.dev()), "{what}");
            continue;
        }
        assert_eq!(member.mode, metadata.mode() & 0o7777, "{what}");
        assert_eq!(member.owner, (metadata.uid().into(), metadata.gid().into()), "{what}");
        assert_eq!(member.mtime.seconds, metadata.mtime(), "{what}");
        if nanoseconds {
            assert_eq!(i64::from(member.mtime.nanoseconds), metadata.mtime_nsec(), "{what}");
        }
        if metadata.is_file() {
            assert_eq!(member.kind, EntryKind::File, "{what}");
            assert!(member.content == fs::read(&on_disk).unwrap(), "{what}: content differs");
        } else if metadata.is_symlink() {
            assert_eq!(member.kind, EntryKind::SymLink, "{what}");
            assert_eq!(
                member.link,
                fs::read_link(&on_disk).unwrap().as_os_str().as_bytes(),
                "{what}"
            );
        } else {
            assert_eq!(member.kind, EntryKind::Directory, "{what}");
        }
    }
}

#[test]
fn archives_of_gnu_tar() {
    let scratch = tempfile::tempdir().unwrap();
    let (plain, rich) = (scratch.path().join("plain"), scratch.path().join("rich"));
    fs::create_dir(&plain).unwrap();
    fs::create_dir(&rich).unwrap();
    make_tree(&plain, false);
    make_tree(&rich, true);
    set_xattrs(&rich);
    for (format, root, options) in [
        ("v7", &plain, &[][..]),
        ("ustar", &plain, &[]),
        ("oldgnu", &plain, &[]),
        ("oldgnu", &rich, &["--sparse"]),
        ("gnu", &rich, &[]),
        ("gnu", &rich, &["--sparse"]),
        ("posix", &rich, &["--xattrs", "--xattrs-include=*"]),
        ("posix", &rich, &["--sparse", "--sparse-version=0.0"]),
        ("posix", &rich, &["--sparse", "--sparse-version=0.1"]),
        (
            "posix",
            &rich,
            &["--sparse", "--sparse-version=1.0", "--xattrs", "--xattrs-include=*"],
        ),
        ("pax", &rich, &["--sparse", "--hole-detection=raw"]),
    ] {
        let what = format!("{format} {options:?}");
        let archive = run(
            Command::new("tar")
                .arg("--create")
                .arg(format!("--format={format}"))
                .args(options)
                .arg("--directory")
                .arg(root)
                .args(["--numeric-owner", "."]),
            "tar",
        )
        .stdout;
        if options.contains(&"--sparse") {
            assert!(archive.len() < 2 << 20, "{what}: not sparse");
        }
        let members = read(&archive).unwrap_or_else(|error| panic!("{what}: {error}"));
        let nanoseconds = matches!(format, "posix" | "pax");
        assert_matches_tree(&members, root, nanoseconds, &what);
        if options.contains(&"--xattrs") {
            assert_eq!(
                members[&b"dir/exact"[..]].xattrs,
                [
                    (b"security.capability".to_vec(), CAPABILITY.to_vec()),
                    (b"user.lines".to_vec(), b"one\n21 path=somewhere\ntwo\0three".to_vec()),
                ]
            );
            assert_eq!(
                members[&b"dir"[..]].xattrs,
                [(b"user.directory".to_vec(), b"yes".to_vec())]
            );
        }
    }
}

#[test]
fn archives_of_python() {
    let scratch = tempfile::tempdir().unwrap();
    let tree = scratch.path().join("tree");
    fs::create_dir(&tree).unwrap();
    make_tree(&tree, true);
    let script = "import sys, tarfile\n\
        with tarfile.open(sys.argv[2], 'w', format=getattr(tarfile, sys.argv[3] + '_FORMAT')) as t:\n\
        \x20   t.add(sys.argv[1], arcname='.')\n";
    for format in ["GNU", "PAX"] {
        let archive = scratch.path().join(format);
        run(
            Command::new("python3")
                .args(["-c", script])
                .args([&tree, &archive])
                .arg(format),
            "python3",
        );
        let mut members = read(&fs::read(&archive).unwrap()).unwrap();
        for member in members.values_mut() {
            // Python writes times as floating point numbers.
            member.mtime.nanoseconds = 0;
        }
        assert_matches_tree(&members, &tree, false, format);
    }
}

/// One entry of every sort, to be read by others.
fn samples() -> Vec<(Entry, Vec<u8>)> {
    let entry = |path: &str, kind| {
        let mut entry = Entry::new(path, kind);
        entry.mtime = Timestamp {
            seconds: 1_234_567_890,
            nanoseconds: 123_456_789,
        };
        entry
    };
    let file = |path: &str, content: &[u8]| {
        let mut entry = entry(path, EntryKind::File);
        entry.size = content.len() as u64;
        (entry, content.to_vec())
    };
    let mut samples = vec![
        (entry("dir/", EntryKind::Directory), Vec::new()),
        file("dir/plain", b"content"),
        file("dir/empty", b""),
        file(&format!("dir/{}", "n".repeat(96)), b"exactly 100 bytes"),
        file(&format!("dir/{}", "n".repeat(150)), b"no slash where it would help"),
    ];
    let deep = format!("{}/{}/", "a".repeat(60), "b".repeat(80));
    samples.push((entry(&deep, EntryKind::Directory), Vec::new()));
    samples.push(file(&format!("{deep}leaf"), b"split at a slash"));

    let mut hard = entry("dir/hard", EntryKind::HardLink);
    hard.link = b"dir/plain".to_vec();
    samples.push((hard, Vec::new()));
    for (path, target) in [("dir/sym", "plain".to_owned()), ("dir/long-sym", "t".repeat(400))] {
        let mut link = entry(path, EntryKind::SymLink);
        link.link = target.into_bytes();
        samples.push((link, Vec::new()));
    }

    let (mut special, content) = file("special", b"x");
    special.mode = 0o6711;
    special.uid = 4_000_000_000;
    special.gid = 2_097_152;
    special.user = b"someone".to_vec();
    special.group = vec![b'g'; 40];
    special.mtime.seconds = -5;
    special.xattrs = vec![
        (b"security.capability".to_vec(), CAPABILITY.to_vec()),
        (b"user.empty".to_vec(), Vec::new()),
        (b"user.lines".to_vec(), b"one\n21 path=elsewhere\n\0".to_vec()),
    ];
    samples.push((special, content));
    let (mut modeless, content) = file("mode-0", b"x");
    modeless.mode = 0;
    samples.push((modeless, content));

    for (path, kind, device) in [
        ("null", EntryKind::CharDevice, (1, 3)),
        ("disk", EntryKind::BlockDevice, (259, 70_000)),
        ("pipe", EntryKind::Fifo, (0, 0)),
    ] {
        let mut node = entry(path, kind);
        node.device = device;
        samples.push((node, Vec::new()));
    }
    for (path, pieces, size) in [
        ("sparse", vec![(4096, 4096), (1 << 20, 100)], 5 << 20),
        ("sparse-to-its-end", vec![(0, 1024), (8192, 10)], 8202),
        ("hole", vec![], 1 << 20),
    ] {
        let mut sparse = entry(path, EntryKind::File);
        sparse.size = size;
        let extents: Vec<_> = pieces
            .into_iter()
            .map(|(offset, size)| Extent { offset, size })
            .collect();
        sparse.sparse = Some(extents);
        let stored = usize::try_from(sparse.stored_size()).unwrap();
        samples.push((sparse, vec![b's'; stored]));
    }
    samples
}

fn archive_of(members: &[(Entry, Vec<u8>)]) -> Vec<u8> {
    let mut writer = Writer::new(Vec::new());
    for (entry, data) in members {
        writer.append(entry, &data[..]).unwrap();
    }
    writer.finish().unwrap()
}

/// One line for each member, as `DUMP` prints them.
fn dump(archive: &[u8]) -> Result<String, ReadError> {
    let mut lines = String::new();
    let mut reader = Reader::new(archive, Limits::default());
    while let Some(entry) = reader.next_entry()? {
        let (mut low, mut high) = (1_u32, 0_u32);
        let mut buffer = vec![0; 1 << 16];
        loop {
            match reader.read_data(&mut buffer)? {
                0 => break,
                bytes => {
                    // Adler-32 without its modulus for each byte.
                    for piece in buffer[..bytes].chunks(2048) {
                        for byte in piece {
                            low += u32::from(*byte);
                            high += low;
                        }
                        (low, high) = (low % 65521, high % 65521);
                    }
                }
            }
        }
        let hex = |bytes: &[u8]| bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
        let mut path = &entry.path[..];
        while let Some(shorter) = path.strip_suffix(b"/") {
            path = shorter;
        }
        writeln!(
            lines,
            "{} {} {} {:o} {} {} {} {} {:?} {}",
            hex(path),
            match entry.kind {
                EntryKind::File => "0",
                EntryKind::HardLink => "1",
                EntryKind::SymLink => "2",
                EntryKind::CharDevice => "3",
                EntryKind::BlockDevice => "4",
                EntryKind::Directory => "5",
                EntryKind::Fifo => "6",
            },
            hex(&entry.link),
            entry.mode,
            entry.uid,
            entry.gid,
            entry.size,
            entry.mtime.seconds,
            entry.device,
            high << 16 | low,
        )
        .unwrap();
    }
    Ok(lines)
}

/// Prints one line for each member of each archive of a folder, in the form of `dump`.
const DUMP: &str = r#"
import math, os, sys, tarfile, zlib
for name in sorted(os.listdir(sys.argv[1])):
    print('#', name)
    try:
        with tarfile.open(os.path.join(sys.argv[1], name), 'r:', encoding='utf-8') as archive:
            for m in archive:
                total = 1
                if m.isreg():
                    f = archive.extractfile(m)
                    while piece := f.read(65536):
                        total = zlib.adler32(piece, total)
                hexed = lambda text: text.encode('utf-8', 'surrogateescape').hex()
                kind = {b'\0': '0', b'7': '0', b'S': '0', b'D': '5'}.get(m.type, m.type.decode('latin1'))
                device = (m.devmajor, m.devminor) if m.isdev() and not m.isfifo() else (0, 0)
                print(hexed(m.name.rstrip('/')), kind, hexed(m.linkname) if m.issym() or m.islnk() else '',
                      oct(m.mode & 0o7777)[2:], m.uid, m.gid, m.size if m.isreg() else 0,
                      math.floor(m.mtime), device, total)
        print('ok')
    except Exception as error:
        print('error', type(error).__name__)
"#;

fn python_dump(folder: &Path) -> BTreeMap<String, String> {
    let output = run(Command::new("python3").args(["-c", DUMP]).arg(folder), "python3");
    let text = String::from_utf8(output.stdout).unwrap();
    text.split("# ")
        .skip(1)
        .map(|part| {
            let (name, lines) = part.split_once('\n').unwrap();
            (name.to_owned(), lines.to_owned())
        })
        .collect()
}

#[test]
fn python_reads_what_we_write() {
    let scratch = tempfile::tempdir().unwrap();
    let archive = archive_of(&samples());
    fs::write(scratch.path().join("ours"), &archive).unwrap();
    let dumped = python_dump(scratch.path());
    // Python does not know the records for device numbers beyond the header's 21 bits, and
    // these fit.
    assert_eq!(dumped["ours"], dump(&archive).unwrap() + "ok\n");
}

#[test]
fn gnu_tar_unpacks_what_we_write() {
    let scratch = tempfile::tempdir().unwrap();
    let (archive, root) = (scratch.path().join("ours.tar"), scratch.path().join("root"));
    fs::write(&archive, archive_of(&samples())).unwrap();
    fs::create_dir(&root).unwrap();
    run(
        Command::new("tar")
            .args(["--extract", "--numeric-owner", "--same-owner", "--preserve-permissions"])
            .args(["--xattrs", "--xattrs-include=*", "--file"])
            .args([&archive, Path::new("--directory"), &root]),
        "tar",
    );
    for (entry, data) in samples() {
        let name = String::from_utf8(entry.path.clone()).unwrap();
        let path = root.join(&name);
        let found = fs::symlink_metadata(&path).unwrap_or_else(|error| panic!("{name}: {error}"));
        if entry.kind == EntryKind::HardLink {
            let target = root.join(OsStr::from_bytes(&entry.link));
            assert_eq!(fs::metadata(target).unwrap().ino(), found.ino());
            continue;
        }
        assert_eq!(u64::from(found.uid()), entry.uid, "{name}");
        assert_eq!(u64::from(found.gid()), entry.gid, "{name}");
        if entry.kind == EntryKind::SymLink {
            assert_eq!(
                fs::read_link(&path).unwrap().as_os_str().as_bytes(),
                entry.link,
                "{name}"
            );
            continue;
        }
        assert_eq!(found.mode() & 0o7777, entry.mode, "{name}");
        // Entries that come later touch directories once more.
        if entry.kind != EntryKind::Directory {
            assert_eq!(
                (found.mtime(), found.mtime_nsec()),
                (entry.mtime.seconds, entry.mtime.nanoseconds.into()),
                "{name}"
            );
        }
        for (xattr, value) in &entry.xattrs {
            let mut buffer = [0; 100];
            let length = rustix::fs::lgetxattr(&path, &xattr[..], &mut buffer)
                .unwrap_or_else(|error| panic!("{name}: {xattr:?}: {error}"));
            assert_eq!(&buffer[..length], &value[..], "{name}");
        }
        match entry.kind {
            EntryKind::File => {
                let content = fs::read(&path).unwrap();
                assert_eq!(content.len() as u64, entry.size, "{name}");
                let mut rest = &data[..];
                for extent in entry.sparse.unwrap_or_else(|| {
                    vec![Extent {
                        offset: 0,
                        size: entry.size,
                    }]
                }) {
                    let start = usize::try_from(extent.offset).unwrap();
                    let (piece, after) = rest.split_at(usize::try_from(extent.size).unwrap());
                    assert_eq!(&content[start..start + piece.len()], piece, "{name}");
                    rest = after;
                }
                if name.starts_with("hole") || name == "sparse" {
                    assert!(found.blocks() * 512 < entry.size / 4, "{name}: not sparse");
                }
            }
            EntryKind::CharDevice | EntryKind::BlockDevice => {
                let device = (rustix::fs::major(found.rdev()), rustix::fs::minor(found.rdev()));
                assert_eq!(device, entry.device, "{name}");
            }
            _ => {}
        }
    }
}

/// Archives of both programs and ours, damaged at random: whatever we still accept, Python
/// must read the same way.
#[test]
fn damaged_archives_are_read_as_python_reads_them_or_refused() {
    let scratch = tempfile::tempdir().unwrap();
    let tree = scratch.path().join("tree");
    let damaged = scratch.path().join("damaged");
    fs::create_dir(&tree).unwrap();
    fs::create_dir(&damaged).unwrap();
    fs::create_dir(tree.join("dir")).unwrap();
    fs::write(tree.join("dir/file"), "x".repeat(700)).unwrap();
    symlink("l".repeat(130), tree.join("link")).unwrap();
    fs::write(tree.join("n".repeat(140)), "long").unwrap();
    let sparse = fs::File::create(tree.join("sparse")).unwrap();
    sparse.set_len(60_000).unwrap();
    sparse.write_all_at(b"data", 50_000).unwrap();
    let small: Vec<_> = samples().into_iter().filter(|(entry, _)| entry.size < 10_000).collect();
    let mut originals = vec![archive_of(&small)];
    for format in ["oldgnu", "gnu", "posix"] {
        originals.push(
            run(
                Command::new("tar")
                    .args(["--create", "--sparse", "--sort=name", "--blocking-factor=1"])
                    .arg(format!("--format={format}"))
                    .arg("--directory")
                    .args([&tree, Path::new(".")]),
                "tar",
            )
            .stdout,
        );
    }
    let mut random = TestRng::from_seed(RngAlgorithm::ChaCha, &[7; 32]);
    let mut accepted = BTreeMap::new();
    for index in 0..1500 {
        let mut archive = originals[index % originals.len()].clone();
        for _ in 0..=random.random_range(0..2) {
            let at = random.random_range(0..archive.len());
            archive[at] = match random.random_range(0..3) {
                0 => random.random_range(0..=255),
                1 => b'0' + random.random_range(0..8),
                _ => archive[at] ^ (1 << random.random_range(0..8)),
            };
            let block = &mut archive[at / 512 * 512..][..512];
            if block[257..262] == *b"ustar" {
                block[148..156].fill(b' ');
                let sum: u32 = block.iter().map(|byte| u32::from(*byte)).sum();
                block[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
            }
        }
        if let Ok(dumped) = dump(&archive) {
            let name = format!("{index:05}");
            fs::write(damaged.join(&name), &archive).unwrap();
            accepted.insert(name, dumped);
        }
    }
    assert!(accepted.len() > 500, "only {} were accepted", accepted.len());
    let theirs = python_dump(&damaged);
    let mut differing = Vec::new();
    for (name, ours) in &accepted {
        let theirs = &theirs[name];
        // Python takes a header that it can't read for the archive's end.
        let accepted_as_we_do = theirs.strip_suffix("ok\n").is_none_or(|lines| ours.starts_with(lines));
        if !accepted_as_we_do {
            let pairs = ours.lines().zip(theirs.lines());
            let (ours, theirs) = pairs.clone().find(|(ours, theirs)| ours != theirs).unwrap();
            differing.push(format!("{name}\nours:   {ours}\ntheirs: {theirs}"));
        }
    }
    assert!(
        differing.is_empty(),
        "{} differ:\n{}",
        differing.len(),
        differing.join("\n")
    );
}
