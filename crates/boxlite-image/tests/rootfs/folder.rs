//! Root filesystems of folders.

use std::fs;
use std::os::unix::fs::{FileExt, PermissionsExt, symlink};
use std::os::unix::net::UnixListener;
use std::path::Path;

use boxlite_image::rootfs::{self, BuildError, RootfsInfo};
use rustix::fs::XattrFlags;
use tokio_util::sync::CancellationToken;

use crate::reader::{Image, fsck};
use crate::sample::Workshop;
use crate::umoci::assert_same;

fn build(workshop: &Workshop, dir: &Path) -> Result<(RootfsInfo, Image), BuildError> {
    let dest = workshop.path("rootfs.erofs");
    let info = rootfs::build_from_dir(dir, &dest, &workshop.options, &CancellationToken::new())?;
    fsck(&dest);
    Ok((info, Image::open(&dest)))
}

fn make(root: &Path) {
    fs::create_dir_all(root.join("usr/share/doc")).unwrap();
    fs::write(root.join("usr/share/doc/text"), vec![3; 70_000]).unwrap();
    fs::write(root.join("usr/small"), b"small").unwrap();
    fs::hard_link(root.join("usr/small"), root.join("another-name")).unwrap();
    symlink("/etc/passwd", root.join("out")).unwrap();
    symlink("usr", root.join("inside")).unwrap();
    fs::hard_link(root.join("inside"), root.join("inside-too")).unwrap();
    fs::write(root.join(".wh.literal"), b"no whiteout here").unwrap();
    fs::write(root.join("modeless"), b"secret").unwrap();
    fs::set_permissions(root.join("modeless"), fs::Permissions::from_mode(0o0)).unwrap();
    fs::set_permissions(root.join("usr"), fs::Permissions::from_mode(0o2750)).unwrap();
    let sparse = fs::File::create(root.join("sparse")).unwrap();
    sparse.set_len(1 << 40).unwrap();
    sparse.write_all_at(b"middle", 1 << 39).unwrap();
    let set = |path: &str, name: &str, value: &[u8]| {
        rustix::fs::lsetxattr(root.join(path), name, value, XattrFlags::empty()).unwrap_or_else(|error| {
            panic!("{name} of {path}: {error}; root and a file system with extended attributes are needed")
        });
    };
    set("usr/small", "user.lines", b"a\nb\0c");
    set("usr/small", "user.long", &[b'v'; 3000]);
    set("usr", "trusted.directory", b"d");
    set("out", "trusted.link", b"l");
    let mknod = |path: &str, kind, device| {
        rustix::fs::mknodat(
            rustix::fs::CWD,
            root.join(path),
            kind,
            rustix::fs::Mode::from_raw_mode(0o620),
            device,
        )
        .unwrap_or_else(|error| panic!("{path}: {error}; root is needed"));
    };
    mknod("null", rustix::fs::FileType::CharacterDevice, rustix::fs::makedev(1, 3));
    mknod(
        "disk",
        rustix::fs::FileType::BlockDevice,
        rustix::fs::makedev(259, 70_000),
    );
    mknod("pipe", rustix::fs::FileType::Fifo, 0);
}

#[test]
fn a_folder_with_everything() {
    let workshop = Workshop::new();
    let root = workshop.path("tree");
    fs::create_dir(&root).unwrap();
    make(&root);
    let socket = UnixListener::bind(root.join("socket")).unwrap();
    let (info, image) = build(&workshop, &root).unwrap();
    drop(socket);
    fs::remove_file(root.join("socket")).unwrap();
    assert_eq!(info.left_out_files, 1);
    assert!(!image.has("socket"));
    let sparse = image.node("sparse");
    assert_eq!(image.read_at(sparse, (1 << 39) - 1, 7), b"\0middle");
    assert_eq!(image.node("inside-too").nid, image.node("inside").nid);
    // The root's time has changed with the socket.
    assert_same(&image, &root, &["sparse"], &[""]);

    // The same folder gives the same file system.
    let (_, first) = build(&workshop, &root).unwrap();
    let (_, second) = build(&workshop, &root).unwrap();
    assert_eq!(first.nodes, second.nodes);
}

#[test]
fn a_mount_point_stays_empty() {
    let workshop = Workshop::new();
    // A folder with a mount in it that every Linux has.
    let (info, image) = build(&workshop, Path::new("/dev")).unwrap();
    if fs::metadata("/dev/pts/ptmx").is_ok() {
        assert!(image.node("pts").is_directory() && !image.has("pts/ptmx"));
        assert!(info.left_out_files >= 1);
    }
    assert_eq!(image.node("null").device, (1, 3));
}

#[test]
fn errors_name_the_file() {
    let workshop = Workshop::new();
    let root = workshop.path("tree");
    let error = build(&workshop, &root).unwrap_err();
    assert!(matches!(error, BuildError::ReadFolder { .. }), "{error}");
    fs::create_dir(&root).unwrap();
    fs::write(root.join("not-a-folder"), b"x").unwrap();
    build(&workshop, &root.join("not-a-folder")).unwrap_err();

    let mut workshop = workshop;
    workshop.options.limits.unpacked_bytes = 10;
    fs::write(root.join("long"), [1; 11]).unwrap();
    let error = build(&workshop, &root).unwrap_err();
    assert!(matches!(error, BuildError::FolderTooLarge { limit: 10 }), "{error}");
    workshop.options.limits.unpacked_bytes = 1000;
    workshop.options.limits.entries = 1;
    let error = build(&workshop, &root).unwrap_err();
    assert!(error.to_string().contains("more than 1 entries"), "{error}");
    let left: Vec<_> = fs::read_dir(root.parent().unwrap()).unwrap().collect();
    assert_eq!(left.len(), 1, "{left:?}");
}
