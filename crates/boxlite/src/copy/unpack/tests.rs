use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt, symlink};

use boxlite_tar::{Limits, Writer};
use proptest::prelude::*;

use super::*;

/// An entry and its data.
type Member = (Entry, Vec<u8>);

fn file(path: &str, data: &str) -> Member {
    let mut entry = Entry::new(path, EntryKind::File);
    entry.size = data.len() as u64;
    (entry, data.into())
}

fn folder(path: &str) -> Member {
    (Entry::new(path, EntryKind::Directory), Vec::new())
}

fn link(kind: EntryKind, path: &str, target: &str) -> Member {
    let mut entry = Entry::new(path, kind);
    entry.link = target.into();
    (entry, Vec::new())
}

fn archive(members: &[Member]) -> Vec<u8> {
    let mut writer = Writer::new(Vec::new());
    for (entry, data) in members {
        writer.append(entry, &data[..]).unwrap();
    }
    writer.finish().unwrap()
}

fn unpack_members(members: &[Member], folder: &Path, target: &Target) -> Result<CopyReport, UnpackError> {
    let archive = archive(members);
    unpack(&mut Reader::new(&archive[..], Limits::default()), folder, target)
}

fn named(name: &str) -> Target {
    Target::Named(name.into())
}

/// A folder `inside` to unpack into, in a folder that must stay as it is otherwise.
struct Scene {
    outer: tempfile::TempDir,
}

impl Scene {
    fn new() -> Self {
        let outer = tempfile::tempdir().unwrap();
        std::fs::create_dir(outer.path().join("inside")).unwrap();
        std::fs::write(outer.path().join("secret"), "untouched").unwrap();
        Self { outer }
    }

    fn inside(&self) -> PathBuf {
        self.outer.path().join("inside")
    }

    fn assert_outside_untouched(&self) {
        let mut names: Vec<_> = std::fs::read_dir(self.outer.path())
            .unwrap()
            .map(|entry| entry.unwrap().file_name())
            .collect();
        names.sort();
        assert_eq!(names, ["inside", "secret"]);
        let secret = self.outer.path().join("secret");
        assert_eq!(std::fs::read(&secret).unwrap(), b"untouched");
        assert_eq!(std::fs::metadata(&secret).unwrap().nlink(), 1);
    }
}

#[test]
fn trees_keep_contents_modes_times_and_links() {
    let scene = Scene::new();
    let mut tree = folder("root");
    tree.0.mode = 0o1750;
    tree.0.mtime.seconds = 1_000_000_000;
    let mut script = file("root/bin/script", "#!/bin/sh\n");
    script.0.mode = 0o6755;
    script.0.mtime = Timestamp {
        seconds: 1_234_567_890,
        nanoseconds: 123_456_789,
    };
    let mut sealed = folder("root/sealed");
    sealed.0.mode = 0o500;
    let members = [
        tree,
        folder("root/bin"),
        script,
        sealed,
        file("root/sealed/file", "inner"),
        link(EntryKind::SymLink, "root/link", "../../etc/passwd"),
        link(EntryKind::HardLink, "root/hard", "root/bin/script"),
        (Entry::new("root/fifo", EntryKind::Fifo), Vec::new()),
    ];
    let report = unpack_members(&members, &scene.inside(), &named("copy")).unwrap();
    assert_eq!((report.entries, report.bytes), (8, 15));
    let copy = scene.inside().join("copy");
    let metadata = std::fs::metadata(&copy).unwrap();
    assert_eq!(metadata.mode() & 0o7777, 0o1750);
    assert_eq!(metadata.mtime(), 1_000_000_000);
    let script = std::fs::metadata(copy.join("bin/script")).unwrap();
    assert_eq!(script.mode() & 0o7777, 0o755, "set-id bits are not taken over");
    assert_eq!((script.mtime(), script.mtime_nsec()), (1_234_567_890, 123_456_789));
    assert_eq!(script.nlink(), 2);
    assert_eq!(std::fs::metadata(copy.join("hard")).unwrap().ino(), script.ino());
    assert_eq!(
        std::fs::read_link(copy.join("link")).unwrap(),
        Path::new("../../etc/passwd")
    );
    assert!(
        std::fs::symlink_metadata(copy.join("fifo"))
            .unwrap()
            .file_type()
            .is_fifo()
    );
    let sealed = std::fs::metadata(copy.join("sealed")).unwrap();
    assert_eq!(sealed.permissions().mode() & 0o7777, 0o500);
    assert_eq!(std::fs::read(copy.join("sealed/file")).unwrap(), b"inner");
    scene.assert_outside_untouched();
}

#[test]
fn contents_are_spread_without_touching_the_folder_itself() {
    let scene = Scene::new();
    let before = std::fs::metadata(scene.inside()).unwrap().mode();
    let mut root = folder("root");
    root.0.mode = 0o700;
    let members = [root, file("root/a", "1"), folder("root/b"), file("root/b/c", "2")];
    unpack_members(&members, &scene.inside(), &Target::Spread).unwrap();
    assert_eq!(std::fs::read(scene.inside().join("a")).unwrap(), b"1");
    assert_eq!(std::fs::read(scene.inside().join("b/c")).unwrap(), b"2");
    assert_eq!(std::fs::metadata(scene.inside()).unwrap().mode(), before);
}

#[test]
fn sparse_files_stay_sparse() {
    let scene = Scene::new();
    let mut entry = Entry::new("sparse", EntryKind::File);
    entry.size = 64 << 20;
    entry.sparse = Some(vec![boxlite_tar::Extent {
        offset: 32 << 20,
        size: 4,
    }]);
    unpack_members(&[(entry, b"data".to_vec())], &scene.inside(), &named("sparse")).unwrap();
    let path = scene.inside().join("sparse");
    let metadata = std::fs::metadata(&path).unwrap();
    assert_eq!(metadata.len(), 64 << 20);
    assert!(metadata.blocks() * 512 < 1 << 20);
    let content = std::fs::read(&path).unwrap();
    assert_eq!(&content[32 << 20..(32 << 20) + 4], b"data");
}

#[test]
fn no_name_leads_outside() {
    for path in [
        "../secret",
        "root/../../secret",
        "/etc/boxlite-attack",
        "root/./../..",
        "other",
        "rootx/file",
    ] {
        let scene = Scene::new();
        let members = [folder("root"), file(path, "overwritten")];
        let error = unpack_members(&members, &scene.inside(), &named("root")).unwrap_err();
        assert!(matches!(error, UnpackError::Name { .. }), "{path}: {error:?}");
        scene.assert_outside_untouched();
    }
}

#[test]
fn the_first_name_can_t_lead_outside_either() {
    for path in ["..", "../x", "/", "/x", "a/../.."] {
        let scene = Scene::new();
        let error = unpack_members(&[folder(path)], &scene.inside(), &Target::Spread).unwrap_err();
        assert!(matches!(error, UnpackError::Name { .. }), "{path}: {error:?}");
        scene.assert_outside_untouched();
    }
}

#[test]
fn links_of_the_archive_are_not_followed() {
    let outside = Scene::new();
    for target in [
        outside.outer.path().to_str().unwrap().to_owned(),
        "..".to_owned(),
        "../..".to_owned(),
        ".".to_owned(),
    ] {
        let scene = Scene::new();
        let members = [
            folder("root"),
            link(EntryKind::SymLink, "root/out", &target),
            file("root/out/secret", "overwritten"),
        ];
        let error = unpack_members(&members, &scene.inside(), &named("root")).unwrap_err();
        assert!(matches!(error, UnpackError::Kind { .. }), "{target}: {error:?}");
        scene.assert_outside_untouched();
        outside.assert_outside_untouched();
    }
}

#[test]
fn a_file_replaces_a_link_instead_of_writing_through_it() {
    let scene = Scene::new();
    let members = [
        folder("root"),
        link(EntryKind::SymLink, "root/x", "../../secret"),
        file("root/x", "overwritten"),
    ];
    unpack_members(&members, &scene.inside(), &named("root")).unwrap();
    scene.assert_outside_untouched();
    let written = scene.inside().join("root/x");
    assert!(std::fs::symlink_metadata(&written).unwrap().is_file());
    assert_eq!(std::fs::read(written).unwrap(), b"overwritten");
}

#[test]
fn links_of_the_host_are_not_followed() {
    let scene = Scene::new();
    std::fs::create_dir(scene.inside().join("root")).unwrap();
    symlink("../../secret", scene.inside().join("root/file")).unwrap();
    symlink("../..", scene.inside().join("root/folder")).unwrap();
    let members = [folder("root"), file("root/file", "new")];
    unpack_members(&members, &scene.inside(), &named("root")).unwrap();
    scene.assert_outside_untouched();
    let members = [folder("root"), file("root/folder/secret", "new")];
    let error = unpack_members(&members, &scene.inside(), &named("root")).unwrap_err();
    assert!(matches!(error, UnpackError::Kind { .. }), "{error:?}");
    scene.assert_outside_untouched();
}

#[test]
fn hard_links_only_join_files_of_the_archive() {
    for target in [
        "../secret",
        "/etc/passwd",
        "root/absent",
        "root/own",
        "root/link",
        "root/folder",
        "own",
    ] {
        let scene = Scene::new();
        std::fs::create_dir(scene.inside().join("root")).unwrap();
        std::fs::write(scene.inside().join("root/own"), "the host's").unwrap();
        let members = [
            folder("root"),
            folder("root/folder"),
            link(EntryKind::SymLink, "root/link", "../../secret"),
            link(EntryKind::HardLink, "root/joined", target),
        ];
        let error = unpack_members(&members, &scene.inside(), &named("root")).unwrap_err();
        assert!(matches!(error, UnpackError::HardLink { .. }), "{target}: {error:?}");
        assert!(!scene.inside().join("root/joined").exists());
        scene.assert_outside_untouched();
    }
}

#[test]
fn a_file_linked_to_itself_stays() {
    let scene = Scene::new();
    let members = [
        folder("root"),
        file("root/x", "data"),
        link(EntryKind::HardLink, "root/x", "root/x"),
    ];
    unpack_members(&members, &scene.inside(), &named("root")).unwrap();
    assert_eq!(std::fs::read(scene.inside().join("root/x")).unwrap(), b"data");
}

#[test]
fn device_nodes_are_left_out_and_told() {
    let scene = Scene::new();
    let mut device = Entry::new("root/sda", EntryKind::BlockDevice);
    device.device = (8, 0);
    let members = [folder("root"), (device, Vec::new()), file("root/x", "1")];
    let report = unpack_members(&members, &scene.inside(), &named("root")).unwrap();
    assert_eq!((report.entries, report.skipped_count), (2, 1));
    assert_eq!(report.skipped[0].path, "root/sda");
    assert!(!scene.inside().join("root/sda").exists());
}

#[test]
fn kinds_don_t_replace_each_other() {
    let scene = Scene::new();
    std::fs::create_dir_all(scene.inside().join("root/folder")).unwrap();
    std::fs::write(scene.inside().join("root/file"), "old").unwrap();
    for members in [
        [folder("root"), file("root/folder", "x")],
        [folder("root"), folder("root/file")],
        [folder("root"), link(EntryKind::SymLink, "root/folder", "x")],
    ] {
        let error = unpack_members(&members, &scene.inside(), &named("root")).unwrap_err();
        assert!(matches!(error, UnpackError::Kind { .. }), "{error:?}");
    }
    assert_eq!(std::fs::read(scene.inside().join("root/file")).unwrap(), b"old");
    assert!(scene.inside().join("root/folder").is_dir());
}

#[test]
fn truncated_and_empty_archives_are_errors() {
    let scene = Scene::new();
    let whole = archive(&[folder("root"), file("root/x", &"data".repeat(1000))]);
    let cut = &whole[..2000];
    let error = unpack(
        &mut Reader::new(cut, Limits::default()),
        &scene.inside(),
        &named("root"),
    )
    .unwrap_err();
    assert!(matches!(error, UnpackError::Archive(_)), "{error:?}");
    let error = unpack_members(&[], &scene.inside(), &named("root")).unwrap_err();
    assert!(matches!(error, UnpackError::Empty), "{error:?}");
}

fn any_member() -> impl Strategy<Value = Member> {
    let part = prop_oneof![
        Just("root"),
        Just(".."),
        Just("."),
        Just(""),
        Just("a"),
        Just("b"),
        Just("inside"),
        Just("secret")
    ];
    let path = proptest::collection::vec(part, 1..5).prop_map(|parts| parts.join("/"));
    let kind = prop_oneof![
        Just(EntryKind::File),
        Just(EntryKind::Directory),
        Just(EntryKind::SymLink),
        Just(EntryKind::HardLink),
    ];
    (path.clone(), path, kind).prop_map(|(path, target, kind)| match kind {
        EntryKind::File => file(&path, "overwritten"),
        EntryKind::Directory => folder(&path),
        kind => link(kind, &path, &target),
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn whatever_the_archive_says_nothing_outside_changes(
        members in proptest::collection::vec(any_member(), 0..12),
        spread in any::<bool>(),
    ) {
        let scene = Scene::new();
        let mut writer = Writer::new(Vec::new());
        for (entry, data) in std::iter::once(&folder("root")).chain(&members) {
            // What can't be in an archive can't come out of a box either.
            let _ = writer.append(entry, &data[..]);
        }
        let archive = writer.finish().unwrap();
        let target = if spread { Target::Spread } else { named("copy") };
        let _ = unpack(
            &mut Reader::new(&archive[..], Limits::default()),
            &scene.inside(),
            &target,
        );
        scene.assert_outside_untouched();
    }
}
