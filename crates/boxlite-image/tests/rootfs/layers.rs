//! What particular layers add up to.

use boxlite_image::rootfs::{self, LayerInput};
use boxlite_image::{Compression, Digest};
use boxlite_tar::EntryKind;
use tokio_util::sync::CancellationToken;

use crate::reader::{BLOCK, HEAD_BYTES, Image, fsck};
use crate::sample::{
    Member, Workshop, build, compress, device, dir, dir_mode, entry, file, hard_link, sparse, symlink, tar,
};

/// A capability set whose bytes have a newline among them.
const CAPABILITY: &[u8] = b"\x01\x00\x00\x02\x0a\x0a\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00";

fn whiteout(path: &str) -> Member {
    file(path, b"")
}

#[test]
fn everything_about_a_file_is_kept() {
    let mut special = file("bin/ping", b"#!");
    special.0.mode = 0o4755;
    special.0.uid = 4_000_000_000;
    special.0.gid = 3_000_000_000;
    special.0.mtime.seconds = -7;
    special.0.xattrs = vec![
        (b"security.capability".to_vec(), CAPABILITY.to_vec()),
        (b"system.posix_acl_access".to_vec(), b"\x02\0\0\0".to_vec()),
        (b"trusted.overlay.opaque".to_vec(), b"y".to_vec()),
        (b"user.empty".to_vec(), Vec::new()),
        (b"user.large".to_vec(), vec![7; 20_000]),
    ];
    let mut modeless = file("modeless", b"secret");
    modeless.0.mode = 0;
    let long = format!("{}/{}", "d".repeat(255), "f".repeat(255));
    let target = "t/".repeat(2047);
    let mut pipe = (entry("pipe", EntryKind::Fifo), Vec::new());
    pipe.0.mode = 0o622;
    let (_workshop, image) = build(&[&[
        dir_mode("./", 0o1755),
        dir("bin"),
        special,
        modeless,
        dir(&"d".repeat(255)),
        file(&long, b"deep"),
        symlink("short", "bin"),
        symlink("long", &target),
        device("null", EntryKind::CharDevice, 1, 3),
        device("disk", EntryKind::BlockDevice, 259, 1_048_575),
        device("high", EntryKind::CharDevice, 4095, 256),
        pipe,
        hard_link("bin/ping6", "bin/ping"),
        hard_link("short-too", "short"),
        hard_link("null-too", "./null"),
    ]]);

    assert_eq!(image.node("").mode, 0o041_755);
    let ping = image.node("bin/ping");
    assert_eq!(
        (ping.mode, ping.uid, ping.gid),
        (0o104_755, 4_000_000_000, 3_000_000_000)
    );
    assert_eq!((ping.mtime, ping.links), ((-7, 123_456_789), 2));
    assert_eq!(image.content(ping), b"#!");
    let xattrs = &ping.xattrs;
    assert_eq!(xattrs[&b"security.capability"[..]], CAPABILITY);
    assert_eq!(xattrs[&b"system.posix_acl_access"[..]], b"\x02\0\0\0");
    assert_eq!(xattrs[&b"trusted.overlay.overlay.opaque"[..]], b"y");
    assert_eq!(xattrs[&b"user.empty"[..]], b"");
    assert_eq!(xattrs[&b"user.large"[..]], [7; 20_000]);
    assert_eq!(xattrs.len(), 5);
    assert_eq!(image.node("bin/ping6").nid, ping.nid);
    assert_eq!(image.node("modeless").mode, 0o100_000);
    assert_eq!(image.content(image.node(&long)), b"deep");
    assert_eq!(image.node("short").link, b"bin");
    assert_eq!(image.node("short-too").nid, image.node("short").nid);
    assert_eq!(image.node("long").link, target.as_bytes());
    assert_eq!(image.node("null").device, (1, 3));
    assert_eq!(image.node("null").links, 2);
    assert_eq!(image.node("disk").device, (259, 1_048_575));
    assert_eq!(image.node("disk").mode, 0o060_644);
    assert_eq!(image.node("high").device, (4095, 256));
    assert_eq!(image.node("pipe").mode, 0o010_622);
}

#[test]
fn content_of_every_length_around_a_block() {
    let lengths = [
        0, 1, 4031, 4032, 4033, 4095, 4096, 4097, 8127, 8128, 8129, 8192, 12_287, 3_000_000,
    ];
    let contents: Vec<Vec<u8>> = lengths
        .iter()
        .map(|length| {
            (0..*length)
                .map(|index: u32| (index.wrapping_mul(37) >> 5) as u8)
                .collect()
        })
        .collect();
    let members: Vec<_> = contents
        .iter()
        .map(|content| file(&format!("f{}", content.len()), content))
        .collect();
    let (_workshop, image) = build(&[&members]);
    for content in &contents {
        let node = image.node(&format!("f{}", content.len()));
        assert!(image.content(node) == *content, "{} bytes", content.len());
    }
}

#[test]
fn directories_of_many_names() {
    let members: Vec<_> = (0..5000)
        .map(|index| {
            file(
                &format!("etc/{:x}-{}", index * 7919 % 5000, "n".repeat(index % 200)),
                b"",
            )
        })
        .collect();
    // Names that sort before `.` and between `.` and `..`.
    let odd = ["!", "-", ".", "..", ".\u{1}", "...", "/", "0", "\u{7f}", "é"];
    let odd: Vec<_> = odd
        .iter()
        .filter(|name| !matches!(**name, "." | ".." | "/"))
        .map(|name| file(&format!("odd/{name}"), name.as_bytes()))
        .collect();
    let (_workshop, image) = build(&[&members, &odd]);
    assert_eq!(image.nodes.len(), 3 + members.len() + odd.len());
    for (entry, content) in &odd {
        let path = std::str::from_utf8(&entry.path).unwrap();
        assert_eq!(image.content(image.node(path)), *content);
    }
}

#[test]
fn whiteouts_hide_lower_layers_only() {
    let lower = [
        dir("etc"),
        file("etc/a", b"old"),
        file("etc/b", b"old"),
        dir("opt"),
        dir("opt/deep"),
        file("opt/deep/x", b"old"),
        file("opt/y", b"old"),
        dir("var"),
        file("var/gone", b"old"),
        dir_mode("srv", 0o700),
        file("srv/old", b"old"),
    ];
    let upper = [
        file("etc/a", b"new"),
        whiteout("etc/.wh.a"),
        whiteout("etc/.wh.b"),
        whiteout("etc/.wh.never-was"),
        file("opt/deep/z", b"new"),
        whiteout("opt/.wh..wh..opq"),
        file("opt/w", b"new"),
        whiteout(".wh.var"),
        whiteout("not/there/.wh.x"),
        // The directory is gone, so nothing of it is inherited.
        whiteout(".wh.srv"),
        file("srv/new", b"new"),
        whiteout(".wh..wh.aufs"),
        file(".wh..wh.plnk/1.2", b"of AUFS"),
    ];
    let (_workshop, image) = build(&[&lower, &upper]);
    let paths: Vec<_> = image
        .nodes
        .keys()
        .map(|path| std::str::from_utf8(path).unwrap())
        .collect();
    assert_eq!(
        paths,
        [
            "",
            "etc",
            "etc/a",
            "opt",
            "opt/deep",
            "opt/deep/z",
            "opt/w",
            "srv",
            "srv/new"
        ]
    );
    assert_eq!(image.content(image.node("etc/a")), b"new");
    assert_eq!(image.node("srv").mode, 0o040_755);
}

#[test]
fn attributes_of_directories_come_from_the_highest_layer_that_has_them() {
    let mut first = dir_mode("d", 0o700);
    first.0.xattrs = vec![(b"user.first".to_vec(), b"1".to_vec())];
    let mut second = dir_mode("d", 0o750);
    second.0.mtime.seconds = 5;
    let (_workshop, image) = build(&[
        &[first, file("d/one", b"1")],
        &[second],
        // No word about `d`: it stays as it is.
        &[file("d/two", b"2"), file("made/up/three", b"3")],
    ]);
    let found = image.node("d");
    assert_eq!((found.mode, found.mtime), (0o040_750, (5, 123_456_789)));
    assert!(found.xattrs.is_empty());
    assert!(image.has("d/one") && image.has("d/two"));
    let made = image.node("made/up");
    assert_eq!((made.mode, made.uid, made.mtime), (0o040_755, 0, (0, 0)));
}

#[test]
fn kinds_replace_each_other() {
    let (_workshop, image) = build(&[
        &[
            dir("was-dir"),
            file("was-dir/x", b"x"),
            file("was-file", b"x"),
            symlink("was-link", "was-dir"),
            file("implied", b"x"),
        ],
        &[
            file("was-dir", b"now a file"),
            dir("was-file"),
            file("was-file/y", b"y"),
            dir("was-link"),
            file("was-link/z", b"z"),
            file("implied/dir", b"d"),
        ],
    ]);
    let paths: Vec<_> = image
        .nodes
        .keys()
        .map(|path| std::str::from_utf8(path).unwrap())
        .collect();
    assert_eq!(
        paths,
        [
            "",
            "implied",
            "implied/dir",
            "was-dir",
            "was-file",
            "was-file/y",
            "was-link",
            "was-link/z"
        ]
    );
    assert_eq!(image.content(image.node("was-dir")), b"now a file");
}

#[test]
fn hard_links_reach_into_lower_layers() {
    let (_workshop, image) = build(&[
        &[file("a", b"first"), file("big", &[7; 10_000])],
        &[
            hard_link("b", "a"),
            file("a", b"second"),
            hard_link("c", "/a"),
            hard_link("big2", "./big"),
            hard_link("a", "a"),
        ],
        &[whiteout(".wh.big"), hard_link("d", "b")],
    ]);
    assert_eq!(image.content(image.node("b")), b"first");
    assert_eq!(image.node("d").nid, image.node("b").nid);
    assert_eq!(image.content(image.node("c")), b"second");
    assert_eq!(image.node("c").nid, image.node("a").nid);
    assert_eq!(image.node("big2").links, 1);
    assert_eq!(image.content(image.node("big2")), [7; 10_000]);
}

#[test]
fn paths_follow_links_within_the_root() {
    let (_workshop, image) = build(&[
        &[
            dir("usr"),
            dir("usr/bin"),
            symlink("bin", "usr/bin"),
            symlink("abs", "/usr"),
            symlink("out", "../../../usr/./bin/"),
            symlink("nowhere", "missing/../made"),
            file("plain", b""),
            symlink("beside", "plain/../beside-plain"),
            symlink("chain", "abs/../chain2"),
            symlink("chain2", "/abs/bin"),
        ],
        &[
            file("bin/sh", b"sh"),
            file("/abs/local", b"local"),
            file("out/env", b"env"),
            file("nowhere/x", b"x"),
            file("beside/x", b"beside"),
            file("chain/y", b"y"),
            hard_link("hard", "abs/bin/sh"),
        ],
        &[whiteout("bin/.wh.sh"), whiteout("chain/.wh.y")],
    ]);
    for gone in ["usr/bin/sh", "usr/bin/y", "missing"] {
        assert!(!image.has(gone), "{gone}");
    }
    for (path, content) in [
        ("usr/local", &b"local"[..]),
        ("usr/bin/env", b"env"),
        ("made/x", b"x"),
        ("beside-plain/x", b"beside"),
        ("plain", b""),
        ("hard", b"sh"),
    ] {
        assert_eq!(image.content(image.node(path)), content, "{path}");
    }
    assert_eq!(image.node("bin").link, b"usr/bin");
}

#[test]
fn a_parent_that_a_whiteout_took_is_made_again() {
    let (_workshop, image) = build(&[
        &[dir_mode("a", 0o700), dir("a/b"), file("a/b/x", b"x")],
        &[whiteout(".wh.a"), file("a/b/y", b"y")],
    ]);
    assert!(!image.has("a/b/x"));
    assert_eq!(image.content(image.node("a/b/y")), b"y");
    assert_eq!(image.node("a").mode, 0o040_755);
}

#[test]
fn a_link_that_a_layer_repeats_is_its_own() {
    let (_workshop, image) = build(&[
        &[file("a", b"a"), hard_link("b", "a"), dir("d"), hard_link("d/c", "a")],
        &[
            hard_link("b", "a"),
            hard_link("d/c", "a"),
            whiteout(".wh.b"),
            whiteout(".wh.d"),
            whiteout(".wh.a"),
        ],
    ]);
    assert!(!image.has("a"));
    assert_eq!(image.node("b").links, 2);
    assert_eq!(image.node("d/c").nid, image.node("b").nid);
}

#[test]
fn every_layer_may_empty_a_directory() {
    let (_workshop, image) = build(&[
        &[dir("d"), dir("d/e"), file("d/e/1", b"")],
        &[file("d/e/2", b""), whiteout("d/.wh..wh..opq"), file("d/e/3", b"")],
        &[
            file("d/e/4", b""),
            whiteout("d/.wh..wh..opq"),
            whiteout("d/e/.wh..wh..opq"),
        ],
    ]);
    let paths: Vec<_> = image
        .nodes
        .keys()
        .map(|path| std::str::from_utf8(path).unwrap())
        .collect();
    assert_eq!(paths, ["", "d", "d/e", "d/e/4"]);
}

#[test]
fn sparse_files_take_no_room() {
    const TIB: u64 = 1 << 40;
    let data = vec![7; 4096];
    let workshop = Workshop::new();
    let image = workshop.build(&[&[
        sparse("huge", TIB, &[(0, &data), (TIB / 2 + 512, &data), (TIB - 4096, &data)]),
        sparse("hole", TIB, &[]),
        sparse("small", 20_000, &[(5000, &data[..512]), (8192, &data[..100])]),
        sparse("whole", 5000, &[(0, &data), (4096, &data[..904])]),
        sparse("empty", 0, &[]),
    ]]);
    let huge = image.node("huge");
    assert_eq!(huge.size, TIB);
    for (offset, byte) in [
        (0, 7),
        (4095, 7),
        (4096, 0),
        (TIB / 2 + 511, 0),
        (TIB / 2 + 512, 7),
        (TIB / 2 + 4608, 0),
        (TIB - 4097, 0),
        (TIB - 1, 7),
    ] {
        assert_eq!(image.read_at(huge, offset, 1), [byte], "at {offset}");
    }
    assert_eq!(image.node("hole").size, TIB);
    let mut small = vec![0; 20_000];
    small[5000..5512].fill(7);
    small[8192..8292].fill(7);
    assert_eq!(image.content(image.node("small")), small);
    assert_eq!(image.content(image.node("whole")), [7; 5000]);
    let metadata = std::fs::metadata(workshop.path("rootfs.erofs")).unwrap();
    let allocated = std::os::unix::fs::MetadataExt::blocks(&metadata) * 512;
    assert!(allocated < 1 << 20, "{allocated} bytes");
}

#[test]
fn space_of_replaced_files_is_used_again() {
    let content = |byte: u8| vec![byte; 1 << 20];
    let layers: Vec<Vec<Member>> = (0..8)
        .map(|layer| {
            (0..4)
                .map(|index| file(&format!("f{index}"), &content(layer * 4 + index)))
                .collect()
        })
        .collect();
    let layers: Vec<&[Member]> = layers.iter().map(|members| &members[..]).collect();
    let (_workshop, image) = build(&layers);
    assert!(image.bytes < (4 << 20) + 65_536 + HEAD_BYTES, "{} bytes", image.bytes);
    for index in 0..4 {
        assert!(image.content(image.node(&format!("f{index}"))) == content(28 + index));
    }

    // What is left free in the middle reads as zeros, whatever was there.
    let removed = [whiteout(".wh.f1")];
    let kept = [layers[7], &removed];
    let (workshop, image) = build(&kept);
    let metadata = std::fs::metadata(workshop.path("rootfs.erofs")).unwrap();
    assert!(std::os::unix::fs::MetadataExt::blocks(&metadata) * 512 < (3 << 20) + 65_536);
    assert!(image.content(image.node("f3")) == content(31));
}

#[test]
fn compressions_and_digests_and_padding() {
    let layers = [
        tar(&[dir("a"), file("a/x", &[1; 100_000])]),
        tar(&[file("a/y", b"y")]),
        tar(&[file("a/z", b"z"), whiteout("a/.wh.y")]),
    ];
    let mut workshop = Workshop::new();
    workshop.options.device_bytes = Some(16 << 20);
    let inputs: Vec<LayerInput> = [Compression::None, Compression::Gzip, Compression::Zstd]
        .iter()
        .zip(&layers)
        .map(|(compression, tar)| {
            let path = workshop.path(&format!("layer-{compression}"));
            std::fs::write(&path, compress(tar, *compression)).unwrap();
            LayerInput {
                path,
                compression: *compression,
                diff_id: Some(Digest::sha256(tar)),
            }
        })
        .collect();
    let dest = workshop.path("rootfs.erofs");
    let info = rootfs::build_from_layers(&inputs, &dest, &workshop.options, &CancellationToken::new()).unwrap();
    let digests: Vec<_> = layers.iter().map(|tar| Digest::sha256(tar)).collect();
    assert_eq!(info.diff_ids, digests);
    assert_eq!(std::fs::metadata(&dest).unwrap().len(), 16 << 20);
    fsck(&dest);
    let image = Image::open(&dest);
    assert_eq!(image.content(image.node("a/x")), [1; 100_000]);
    assert!(image.has("a/z") && !image.has("a/y"));

    // The same layers without compression give the same file, and replace it.
    let before = std::fs::read(&dest).unwrap();
    workshop.try_build(&layers).unwrap();
    assert!(std::fs::read(&dest).unwrap() == before, "not reproducible");
    for input in &inputs {
        std::fs::remove_file(&input.path).unwrap();
    }
    std::fs::remove_file(&dest).unwrap();
    workshop.assert_nothing_left();
}

#[test]
fn an_image_without_layers_is_an_empty_root() {
    let (_workshop, image) = build(&[]);
    assert_eq!(image.nodes.len(), 1);
    assert_eq!(image.node("").mode, 0o040_755);
}

#[test]
fn the_first_block_is_the_same_in_every_image() {
    let first_block = |members: &[Member]| {
        let workshop = Workshop::new();
        workshop.build(&[members]);
        let mut block = vec![0; BLOCK as usize];
        let image = std::fs::File::open(workshop.path("rootfs.erofs")).unwrap();
        std::io::Read::read_exact(&mut &image, &mut block).unwrap();
        block
    };
    let sparse = file("sparse", b"");
    assert_eq!(
        first_block(&[]),
        first_block(&[sparse, dir("d"), file("d/f", &[7; 70_000])])
    );
}
