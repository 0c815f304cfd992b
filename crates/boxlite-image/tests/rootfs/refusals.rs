//! What is refused, with an error that says what and where.

use boxlite_image::rootfs::{self, BuildError, BuildLimits, EntryError, LayerInput, PathError, XattrError};
use boxlite_image::{Compression, Digest, ErrorKind};
use boxlite_tar::{EntryKind, ReadError};
use tokio_util::sync::CancellationToken;

use crate::sample::{Member, Workshop, compress, device, dir, file, hard_link, sparse, symlink, tar};

fn refusal(layers: &[&[Member]]) -> (usize, String, EntryError) {
    let tars: Vec<_> = layers.iter().map(|members| tar(members)).collect();
    match Workshop::new().refusal(&tars) {
        BuildError::Entry { layer, path, source } => (layer, path, source),
        other => panic!("{other}"),
    }
}

fn path_refusal(member: Member) -> PathError {
    match refusal(&[&[member]]).2 {
        EntryError::Path(error) => error,
        other => panic!("{other}"),
    }
}

#[test]
fn paths_that_lead_out_or_nowhere() {
    for path in ["../etc/passwd", "a/../../b", "..", "a/.."] {
        assert_eq!(path_refusal(file(path, b"")), PathError::ParentTraversal, "{path}");
    }
    assert_eq!(
        path_refusal(file(&"n".repeat(256), b"")),
        PathError::NameTooLong { bytes: 256, limit: 255 }
    );
    assert_eq!(
        path_refusal(file(&"d/".repeat(1025), b"")),
        PathError::TooManyComponents { limit: 1024 }
    );
    let (layer, path, error) = refusal(&[&[dir("ok")], &[file("f", b""), file("f/below", b"")]]);
    assert_eq!((layer, &path[..]), (2, "f/below"));
    assert_eq!(
        error,
        EntryError::Path(PathError::ParentNotDirectory { parent: "f".into() })
    );
    let circle = [symlink("a", "b"), symlink("b", "a"), file("a/x", b"")];
    assert_eq!(refusal(&[&circle]).2, EntryError::Path(PathError::SymLinkLoop));
}

#[test]
fn links_make_nothing_deeper_than_paths_may() {
    let limit = 1024;
    let mut members = Vec::new();
    let mut target = "d/".repeat(limit);
    for index in 0..3 {
        members.push(dir(&target));
        let link = format!("l{index}");
        members.push(symlink(&link, target.trim_end_matches('/')));
        target = format!("{link}/{}", "e/".repeat(limit - 2));
    }
    assert_eq!(
        refusal(&[&members]).2,
        EntryError::Path(PathError::TooManyComponents { limit })
    );
}

#[test]
fn entries_that_no_file_system_has() {
    assert_eq!(refusal(&[&[file("./", b"")]]).2, EntryError::RootNotDirectory);
    assert_eq!(refusal(&[&[symlink(".", "/tmp")]]).2, EntryError::RootNotDirectory);
    assert!(matches!(
        refusal(&[&[hard_link("a", "missing")]]).2,
        EntryError::HardLinkTargetMissing { .. }
    ));
    // A link does not keep what its own name replaces.
    assert!(matches!(
        refusal(&[&[dir("a"), file("a/b", b""), hard_link("a", "a/b")]]).2,
        EntryError::HardLinkTargetMissing { .. }
    ));
    assert!(matches!(
        refusal(&[&[dir("a"), hard_link("b", "a")]]).2,
        EntryError::HardLinkToDirectory { .. }
    ));
    assert!(matches!(
        refusal(&[&[hard_link("b", "../a")]]).2,
        EntryError::HardLinkTarget {
            source: PathError::ParentTraversal,
            ..
        }
    ));
    assert!(matches!(
        refusal(&[&[symlink("a", &"t".repeat(4096))]]).2,
        EntryError::SymLinkTarget {
            bytes: 4096,
            limit: 4095
        }
    ));
    for name in [".wh.", ".wh..", ".wh...", "d/.wh.", ".wh.d/f"] {
        assert_eq!(refusal(&[&[file(name, b"")]]).2, EntryError::InvalidWhiteout, "{name}");
    }
    for (uid, gid) in [(u64::from(u32::MAX), 0), (0, 1 << 32)] {
        let mut member = file("a", b"");
        (member.0.uid, member.0.gid) = (uid, gid);
        assert!(matches!(refusal(&[&[member]]).2, EntryError::OwnerOutOfRange { .. }));
    }
    for (major, minor) in [(4096, 0), (0, 1 << 20)] {
        let member = device("a", EntryKind::CharDevice, major, minor);
        assert_eq!(refusal(&[&[member]]).2, EntryError::DeviceOutOfRange { major, minor });
    }
    let mut member = file("a", b"");
    member.0.xattrs = vec![(b"user.a".to_vec(), vec![0; 65_536])];
    assert!(matches!(
        refusal(&[&[member]]).2,
        EntryError::Xattr(XattrError::ValueTooLarge { .. })
    ));
}

#[test]
fn every_limit_has_its_error() {
    let layer = tar(&[dir("a"), file("a/b", &[0; 5000]), file("c/d/e", b"")]);
    let refusal = |limits: BuildLimits| {
        let mut workshop = Workshop::new();
        workshop.options.limits = limits;
        let error = workshop.refusal(&[layer.clone(), layer.clone()]);
        assert_eq!(error.kind(), ErrorKind::TooLarge, "{error}");
        error.to_string()
    };
    let default = BuildLimits::default;
    for (limits, text) in [
        (BuildLimits { layers: 1, ..default() }, "2 layers, at most 1"),
        // Three entries, and two directories that none describes.
        (
            BuildLimits {
                entries: 4,
                ..default()
            },
            "layer 1, entry \"c/d/e\": the image has more than 4 entries",
        ),
        (
            BuildLimits {
                entries: 7,
                ..default()
            },
            "layer 2, entry \"c/d/e\"",
        ),
        (
            BuildLimits {
                path_bytes: 4,
                ..default()
            },
            "the path has 5 bytes, at most 4",
        ),
        (
            BuildLimits {
                unpacked_bytes: layer.len() as u64 + 1000,
                ..default()
            },
            "unpacks to more than",
        ),
        (
            BuildLimits {
                metadata_bytes: 100,
                ..default()
            },
            "more than 100 bytes",
        ),
    ] {
        let error = refusal(limits);
        assert!(error.contains(text), "{error:?} does not say {text:?}");
    }
    let mut workshop = Workshop::new();
    workshop.options.limits.path_components = 2;
    let error = workshop.refusal(std::slice::from_ref(&layer)).to_string();
    assert!(error.contains("more than 2 components"), "{error}");
}

#[test]
fn a_file_system_larger_than_its_device() {
    let mut workshop = Workshop::new();
    workshop.options.device_bytes = Some(1 << 20);
    for members in [
        vec![file("big", &vec![1; 1 << 20])],
        (0..400).map(|index| file(&format!("f{index}"), &[1; 3000])).collect(),
        vec![sparse("s", 1 << 50, &[(0, &[1; 512]), (1 << 49, &[1])])],
    ] {
        let error = workshop.refusal(&[tar(&members)]);
        assert_eq!(error.kind(), ErrorKind::TooLarge);
        assert!(error.to_string().contains("1048576 bytes"), "{error}");
    }
}

#[test]
fn damaged_and_exchanged_layers() {
    let tar = tar(&[file("a", &[5; 300_000])]);
    let workshop = Workshop::new();
    let dest = workshop.path("rootfs.erofs");
    let build = |content: &[u8], compression, diff_id| {
        let path = workshop.path("layer-0");
        std::fs::write(&path, content).unwrap();
        let input = LayerInput {
            path,
            compression,
            diff_id,
        };
        let built = rootfs::build_from_layers(&[input], &dest, &workshop.options, &CancellationToken::new());
        workshop.assert_nothing_left();
        built.unwrap_err()
    };
    let gzip = compress(&tar, Compression::Gzip);
    let error = build(&gzip[..gzip.len() - 9], Compression::Gzip, None);
    assert!(matches!(error, BuildError::Decompress { layer: 1, .. }), "{error}");
    let error = build(&tar, Compression::Zstd, None);
    assert!(matches!(error, BuildError::Decompress { layer: 1, .. }), "{error}");
    let error = build(&tar, Compression::None, Some(Digest::sha256(b"another")));
    assert!(matches!(error, BuildError::DiffId { layer: 1, .. }), "{error}");
    assert_eq!(error.kind(), ErrorKind::Corrupt);
    let error = build(&tar[..1000], Compression::None, None);
    assert!(
        matches!(
            error,
            BuildError::Tar {
                layer: 1,
                source: ReadError::UnexpectedEnd { .. },
                ..
            }
        ),
        "{error}"
    );
    // What follows the archive's end counts for the digest, and only for that.
    let trailing = [&tar[..], b"anything"].concat();
    let error = build(&trailing, Compression::None, Some(Digest::sha256(&tar)));
    assert!(matches!(error, BuildError::DiffId { .. }), "{error}");

    let missing = LayerInput {
        path: workshop.path("missing"),
        compression: Compression::None,
        diff_id: None,
    };
    let error = rootfs::build_from_layers(&[missing], &dest, &workshop.options, &CancellationToken::new()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotFound);
}

#[test]
fn cancelling_leaves_nothing() {
    let workshop = Workshop::new();
    let inputs = workshop.inputs(&[tar(&[file("a", &[5; 300_000])])]);
    let cancel = CancellationToken::new();
    cancel.cancel();
    let dest = workshop.path("rootfs.erofs");
    let error = rootfs::build_from_layers(&inputs, &dest, &workshop.options, &cancel).unwrap_err();
    assert!(matches!(error, BuildError::Cancelled));
    workshop.assert_nothing_left();
}

#[test]
fn a_destination_that_can_not_be_written() {
    let workshop = Workshop::new();
    let dest = workshop.path("no/such/folder/rootfs.erofs");
    let error = rootfs::build_from_layers(&[], &dest, &workshop.options, &CancellationToken::new()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Io);
    assert!(error.to_string().contains("no/such/folder"), "{error}");
}
