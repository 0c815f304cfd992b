//! What umoci unpacks as root, and what we build, of the same images.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileExt, MetadataExt, PermissionsExt, symlink as make_symlink};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use boxlite_image::rootfs::{self, LayerInput};
use boxlite_image::{Compression, Digest};
use boxlite_tar::EntryKind;
use rustix::fs::XattrFlags;
use tokio_util::sync::CancellationToken;

use crate::reader::{Image, fsck};
use crate::sample::{Workshop, device, dir, dir_mode, entry, file, hard_link, symlink, tar};

fn run(command: &mut Command, package: &str) {
    let output = command
        .stdin(Stdio::null())
        .output()
        .unwrap_or_else(|error| panic!("{command:?}: {error} (Debian package: {package})"));
    assert!(
        output.status.success(),
        "{command:?}: {} (root is needed)\n{}",
        output.status,
        String::from_utf8_lossy(&output.stderr)
    );
}

fn umoci(arguments: &[&str], paths: &[&Path]) {
    run(Command::new("umoci").args(arguments).args(paths), "umoci");
}

fn xattrs_of(path: &Path) -> BTreeMap<Vec<u8>, Vec<u8>> {
    let mut names = vec![0; 1 << 16];
    let length = rustix::fs::llistxattr(path, &mut names).unwrap();
    names[..length]
        .split(|byte| *byte == 0)
        .filter(|name| !name.is_empty())
        .map(|name| {
            let mut value = vec![0; 1 << 16];
            let length = rustix::fs::lgetxattr(path, name, &mut value).unwrap();
            value.truncate(length);
            (name.to_vec(), value)
        })
        .collect()
}

fn walk(root: &Path) -> BTreeMap<Vec<u8>, fs::Metadata> {
    let mut found = BTreeMap::from([(Vec::new(), fs::symlink_metadata(root).unwrap())]);
    let mut pending = vec![PathBuf::new()];
    while let Some(folder) = pending.pop() {
        for child in fs::read_dir(root.join(&folder)).unwrap() {
            let path = folder.join(child.unwrap().file_name());
            let metadata = fs::symlink_metadata(root.join(&path)).unwrap();
            if metadata.is_dir() {
                pending.push(path.clone());
            }
            found.insert(path.into_os_string().into_encoded_bytes(), metadata);
        }
    }
    found
}

/// Compares an image with a folder by everything that a file has. Of what is in `unread` the
/// content is not compared, of what is in `timeless` the time.
pub(crate) fn assert_same(image: &Image, root: &Path, unread: &[&str], timeless: &[&str]) {
    let tree = walk(root);
    let lossy = |paths: Vec<&Vec<u8>>| -> Vec<String> {
        paths
            .into_iter()
            .map(|path| String::from_utf8_lossy(path).into_owned())
            .collect()
    };
    assert_eq!(lossy(image.nodes.keys().collect()), lossy(tree.keys().collect()));
    let mut inodes: BTreeMap<u64, u64> = BTreeMap::new();
    for (path, metadata) in &tree {
        let node = &image.nodes[path];
        let what = String::from_utf8_lossy(path);
        let on_disk = root.join(OsStr::from_bytes(path));
        assert_eq!(format!("{:o}", node.mode), format!("{:o}", metadata.mode()), "{what}");
        assert_eq!((node.uid, node.gid), (metadata.uid(), metadata.gid()), "{what}");
        if !timeless.contains(&&what[..]) {
            assert_eq!(
                (node.mtime.0, i64::from(node.mtime.1)),
                (metadata.mtime(), metadata.mtime_nsec()),
                "{what}"
            );
        }
        assert_eq!(node.xattrs, xattrs_of(&on_disk), "{what}");
        if !metadata.is_dir() {
            assert_eq!(u64::from(node.links), metadata.nlink(), "{what}");
            assert_eq!(*inodes.entry(metadata.ino()).or_insert(node.nid), node.nid, "{what}");
            assert_eq!(node.size, metadata.len(), "{what}");
        }
        match node.kind() {
            0o100_000 if !unread.contains(&&what[..]) => {
                assert!(image.content(node) == fs::read(&on_disk).unwrap(), "content of {what}");
            }
            0o120_000 => {
                let link = fs::read_link(&on_disk).unwrap();
                assert_eq!(node.link, link.as_os_str().as_bytes(), "{what}");
            }
            0o020_000 | 0o060_000 => {
                let device = (rustix::fs::major(metadata.rdev()), rustix::fs::minor(metadata.rdev()));
                assert_eq!(node.device, device, "{what}");
            }
            _ => {}
        }
    }
}

fn json(path: &Path) -> serde_json::Value {
    serde_json::from_slice(&fs::read(path).unwrap()).unwrap()
}

/// The layers of the image that a tag of an OCI layout names.
fn layers_of(layout: &Path, tag: &str) -> Vec<LayerInput> {
    let blob = |digest: &serde_json::Value| {
        let hex = digest.as_str().unwrap().strip_prefix("sha256:").unwrap();
        layout.join("blobs/sha256").join(hex)
    };
    let index = json(&layout.join("index.json"));
    let descriptor = index["manifests"]
        .as_array()
        .unwrap()
        .iter()
        .find(|manifest| manifest["annotations"]["org.opencontainers.image.ref.name"] == tag)
        .unwrap();
    let manifest = json(&blob(&descriptor["digest"]));
    let config = json(&blob(&manifest["config"]["digest"]));
    let layers = manifest["layers"].as_array().unwrap();
    let diff_ids = config["rootfs"]["diff_ids"].as_array().unwrap();
    assert_eq!(layers.len(), diff_ids.len());
    layers
        .iter()
        .zip(diff_ids)
        .map(|(layer, diff_id)| {
            let path = blob(&layer["digest"]);
            let start = fs::read(&path).unwrap();
            LayerInput {
                compression: Compression::detect(&start),
                path,
                diff_id: Some(Digest::parse(diff_id.as_str().unwrap()).unwrap()),
            }
        })
        .collect()
}

/// Builds what a tag names, and compares with what umoci makes of it in `bundle`.
fn assert_like_umoci(workshop: &Workshop, layout: &Path, tag: &str, bundle: &str, timeless: &[&str]) -> PathBuf {
    let bundle = workshop.path(bundle);
    let tagged = format!("{}:{tag}", layout.display());
    umoci(&["unpack", "--image", &tagged], &[&bundle]);
    let dest = workshop.path("rootfs.erofs");
    let layers = layers_of(layout, tag);
    rootfs::build_from_layers(&layers, &dest, &workshop.options, &CancellationToken::new()).unwrap();
    fsck(&dest);
    assert_same(&Image::open(&dest), &bundle.join("rootfs"), &[], timeless);
    bundle
}

fn new_layout(workshop: &Workshop) -> PathBuf {
    let layout = workshop.path("layout");
    umoci(&["init", "--layout"], &[&layout]);
    umoci(&["new", "--image", &format!("{}:base", layout.display())], &[]);
    layout
}

#[test]
fn layers_that_umoci_makes() {
    let workshop = Workshop::new();
    let layout = new_layout(&workshop);
    let tagged = |tag: &str| format!("{}:{tag}", layout.display());
    let repack = |bundle: &Path, tag: &str| umoci(&["repack", "--image", &tagged(tag)], &[bundle]);
    let bundle = workshop.path("bundle");
    umoci(&["unpack", "--image", &tagged("base")], &[&bundle]);
    let root = bundle.join("rootfs");
    let write = |path: &str, content: &[u8]| {
        let path = root.join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, content).unwrap();
    };
    let set = |path: &str, name: &str, value: &[u8]| {
        rustix::fs::lsetxattr(root.join(path), name, value, XattrFlags::empty()).unwrap();
    };

    for index in 0..40 {
        write(
            &format!("usr/lib/lib{index}.so"),
            &vec![index; 1000 * usize::from(index)],
        );
    }
    write("usr/bin/tool", b"#!/bin/sh\n");
    fs::set_permissions(root.join("usr/bin/tool"), fs::Permissions::from_mode(0o4755)).unwrap();
    std::os::unix::fs::chown(root.join("usr/lib/lib1.so"), Some(70_000), Some(1_000_000)).unwrap();
    fs::hard_link(root.join("usr/bin/tool"), root.join("usr/bin/tool-too")).unwrap();
    make_symlink("usr/bin", root.join("bin")).unwrap();
    make_symlink("l/".repeat(150), root.join("long-link")).unwrap();
    write("etc/removed", b"x");
    write("etc/becomes-folder", b"x");
    write("opt/folder/removed/deep", b"x");
    write("var/becomes-file/x", b"x");
    write("etc/modeless", b"secret");
    fs::set_permissions(root.join("etc/modeless"), fs::Permissions::from_mode(0o0)).unwrap();
    set("usr/bin/tool", "user.note", b"one\ntwo");
    set(
        "usr/bin/tool",
        "security.capability",
        b"\x01\x00\x00\x02\x0a\x0a\0\0\0\0\0\0\0\0\0\0\0\0\0\0",
    );
    set("usr/lib", "user.folder", b"f");
    let sparse = fs::File::create(root.join("sparse")).unwrap();
    sparse.set_len(10 << 20).unwrap();
    sparse.write_all_at(b"middle", 5 << 20).unwrap();
    repack(&bundle, "first");
    let bundle = assert_like_umoci(&workshop, &layout, "first", "first", &[]);

    let root = bundle.join("rootfs");
    let write = |path: &str, content: &[u8]| {
        let path = root.join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, content).unwrap();
    };
    fs::remove_file(root.join("etc/removed")).unwrap();
    fs::remove_file(root.join("etc/becomes-folder")).unwrap();
    write("etc/becomes-folder/x", b"new");
    fs::remove_dir_all(root.join("opt/folder/removed")).unwrap();
    fs::remove_dir_all(root.join("var/becomes-file")).unwrap();
    write("var/becomes-file", b"new");
    write("usr/lib/lib3.so", b"patched");
    fs::remove_file(root.join("usr/bin/tool-too")).unwrap();
    fs::hard_link(root.join("etc/modeless"), root.join("etc/modeless-too")).unwrap();
    fs::set_permissions(root.join("usr/lib"), fs::Permissions::from_mode(0o700)).unwrap();
    rustix::fs::removexattr(root.join("usr/lib"), "user.folder").unwrap();
    repack(&bundle, "second");
    assert_like_umoci(&workshop, &layout, "second", "second", &[]);
}

#[test]
fn layers_made_by_hand() {
    let workshop = Workshop::new();
    let layout = new_layout(&workshop);
    let mut special = file("usr/bin/ping", b"ping");
    special.0.mode = 0o2755;
    special.0.uid = 3_000_000_000;
    special.0.xattrs = vec![
        (
            b"security.capability".to_vec(),
            b"\x01\x00\x00\x02\x0a\x0a\0\0\0\0\0\0\0\0\0\0\0\0\0\0".to_vec(),
        ),
        (b"user.note".to_vec(), b"a\nb".to_vec()),
    ];
    let mut sticky = dir_mode("tmp/", 0o1777);
    sticky.0.xattrs = vec![(b"user.sticky".to_vec(), b"yes".to_vec())];
    let lower = [
        dir_mode("./", 0o711),
        dir("usr/"),
        dir("usr/bin/"),
        special,
        symlink("bin", "usr/bin"),
        symlink("sbin", "/usr/bin"),
        symlink("up", "../../usr/bin/../bin"),
        sticky,
        dir("dev/"),
        device("dev/null", EntryKind::CharDevice, 1, 3),
        device("dev/disk", EntryKind::BlockDevice, 259, 3),
        (entry("dev/pipe", EntryKind::Fifo), Vec::new()),
        dir("etc/"),
        file("etc/a", b"a"),
        file("etc/b", b"b"),
        dir("etc/opaque/"),
        dir("etc/opaque/sub/"),
        file("etc/opaque/sub/old", b"old"),
        file("etc/opaque/old", b"old"),
        dir("srv/"),
        dir("etc/gone/"),
        file("etc/gone/x", b"x"),
        dir("etc/replaced/"),
        file("etc/replaced/x", b"x"),
    ];
    let middle = [
        // Through links of the lower layer.
        file("bin/sh", b"sh"),
        file("sbin/init", b"init"),
        file("up/env", b"env"),
        hard_link("usr/bin/ping6", "bin/ping"),
        hard_link("etc/a-too", "etc/a"),
        file("etc/a", b"a again"),
        file("etc/opaque/sub/new", b"new"),
        file("etc/opaque/.wh..wh..opq", b""),
        file("etc/.wh.gone", b""),
        file("etc/.wh.b", b""),
        file("etc/replaced", b"now a file"),
        dir_mode("tmp/", 0o755),
    ];
    let upper = [
        file("bin/.wh.init", b""),
        file("etc/.wh.a", b""),
        hard_link("etc/kept", "etc/a-too"),
        dir("etc/gone"),
        file("etc/gone/back", b"back"),
        file("srv/made/x", b"x"),
        symlink("etc/replaced", "a-too"),
    ];
    let tagged = format!("{}:base", layout.display());
    for (index, members) in [&lower[..], &middle, &upper].iter().enumerate() {
        let path = workshop.path(&format!("layer-{index}.tar"));
        fs::write(&path, tar(members)).unwrap();
        umoci(&["raw", "add-layer", "--image", &tagged], &[&path]);
    }
    // Made without an entry of its own, or something in it was hidden: umoci leaves the time of
    // day there.
    let timeless = ["srv", "srv/made", "etc/opaque/sub"];
    assert_like_umoci(&workshop, &layout, "base", "bundle", &timeless);
}
