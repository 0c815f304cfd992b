//! `-v`: folders and single files of the host in the box.

use std::os::unix::fs::MetadataExt as _;

use std::path::{Path, PathBuf};

use crate::harness::{Boxlite, fresh, shared, text, unique};
use crate::templates::{create, start, with_busybox};

#[test]
#[ignore = "starts a machine"]
fn folders_are_shared_both_ways() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("from-host"), "host\n").unwrap();
    let boxlite = shared();
    let running = boxlite.sleeper(
        "busybox",
        &["-v", &format!("{}:/deep/new/target", folder.path().display())],
    );
    assert_eq!(running.sh("cat /deep/new/target/from-host"), "host\n");
    running.sh("cd /deep/new/target && echo box > from-box && chmod 640 from-box && mkdir sub && ln -s from-box link && mv from-box sub/moved && rm from-host");
    let moved = folder.path().join("sub/moved");
    assert_eq!(std::fs::read_to_string(&moved).unwrap(), "box\n");
    assert_eq!(moved.metadata().unwrap().mode() & 0o7777, 0o640);
    assert_eq!(
        std::fs::read_link(folder.path().join("link")).unwrap().to_str(),
        Some("from-box")
    );
    assert!(!folder.path().join("from-host").exists());
    // The host's user owns what the box wrote, and can delete it.
    assert_eq!(moved.metadata().unwrap().uid(), folder.path().metadata().unwrap().uid());
    std::fs::remove_dir_all(folder.path().join("sub")).unwrap();
    // What the host writes later is seen.
    std::fs::write(folder.path().join("later"), "later\n").unwrap();
    assert_eq!(running.sh("cat /deep/new/target/later"), "later\n");
}

#[test]
#[ignore = "starts a machine"]
fn read_only_is_the_hosts_word() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("kept"), "kept").unwrap();
    let boxlite = shared();
    let running = boxlite.sleeper("busybox", &["-v", &format!("{}:/data:ro", folder.path().display())]);
    assert_eq!(running.sh("cat /data/kept"), "kept");
    // A root that remounts it still cannot write: the engine's file server refuses.
    let said = running.sh("(echo x > /data/kept) 2>&1 || echo refused; mount -o remount,rw /data 2>&1; (echo x > /data/kept) 2>&1 || echo refused again; rm -f /data/kept 2>&1 || echo not removed");
    assert!(
        said.contains("refused") && said.contains("refused again") && said.contains("not removed"),
        "{said}"
    );
    assert_eq!(std::fs::read_to_string(folder.path().join("kept")).unwrap(), "kept");
}

#[test]
#[ignore = "starts a machine"]
fn a_single_file_shows_nothing_of_its_folder() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("one"), "only this\n").unwrap();
    std::fs::write(folder.path().join("secret"), "not this\n").unwrap();
    let boxlite = shared();
    let running = boxlite.sleeper(
        "busybox",
        &["-v", &format!("{}:/etc/one:ro", folder.path().join("one").display())],
    );
    assert_eq!(running.sh("cat /etc/one"), "only this\n");
    let found = running.sh("find / -xdev -name secret; for m in $(awk '$3 == \"9p\" {print $2}' /proc/mounts); do ls -a $m; done; mkdir /probe; for t in /sys/bus/virtio/drivers/9pnet_virtio/virtio*/mount_tag; do mount -t 9p -o trans=virtio,version=9p2000.L $(cat $t) /probe 2>/dev/null && ls -a /probe; done; true");
    assert!(!found.contains("secret"), "{found}");
}

#[test]
#[ignore = "starts machines"]
fn a_source_that_is_missing_is_refused_before_anything_starts() {
    let boxlite = shared();
    let said = boxlite.fails(125, ["run", "--rm", "-v", "/no/such/folder:/data", "busybox", "true"]);
    assert!(said.contains("/no/such/folder"), "{said}");
    let said = boxlite.fails(125, ["run", "--rm", "-v", "/tmp:relative", "busybox", "true"]);
    assert!(said.contains("relative"), "{said}");
}

#[test]
#[ignore = "starts a machine"]
fn four_volumes_each_at_its_place() {
    let folder = tempfile::tempdir().unwrap();
    let boxlite = shared();
    let mut args = vec!["run".to_owned(), "--rm".into(), "--memory".into(), "256m".into()];
    for n in 0..4 {
        let source = folder.path().join(n.to_string());
        std::fs::create_dir(&source).unwrap();
        std::fs::write(source.join("n"), n.to_string()).unwrap();
        args.extend(["-v".into(), format!("{}:/volumes/{n}", source.display())]);
    }
    args.extend(["busybox", "sh", "-c", "cat /volumes/*/n"].map(String::from));
    let output = boxlite.output(&args);
    assert_eq!(text(&output.stdout), "0123", "{}", text(&output.stderr));
}

/// Sources of eight volumes and where they go: folders and files, in each other, of which every
/// two share a device (the first with the fifth, and so on).
fn eight(root: &Path) -> [(PathBuf, &'static str, bool); 8] {
    let folder = |name: &str| {
        std::fs::create_dir_all(root.join(name)).unwrap();
        std::fs::write(root.join(name).join("f"), format!("{name}\n")).unwrap();
        root.join(name)
    };
    let file = |name: &str| {
        std::fs::write(root.join(name), format!("{name}\n")).unwrap();
        root.join(name)
    };
    let all = [
        (folder("outer"), "/data", false),
        (folder("middle"), "/data/middle", true),
        (file("file-read"), "/etc/file-read", true),
        (file("file-written"), "/data/file-written", false),
        (folder("inner"), "/data/middle/inner", false),
        (folder("read"), "/mnt/read", true),
        (folder("written"), "/mnt/written", false),
        (file("deep"), "/opt/a/b/deep", true),
    ];
    // A place in a folder that can't be written to has to be there.
    std::fs::create_dir_all(root.join("middle/inner")).unwrap();
    std::fs::write(root.join("secret"), "secret\n").unwrap();
    let _ = std::fs::remove_file(root.join("written/up"));
    std::os::unix::fs::symlink("../secret", root.join("written/up")).unwrap();
    let _ = std::fs::remove_file(root.join("written/out"));
    std::os::unix::fs::symlink(root.join("secret"), root.join("written/out")).unwrap();
    all
}

/// Runs what a box may do with [`eight`] volumes, and what it may not.
fn use_eight(boxlite: &Boxlite, root: &Path, start_mode: &str, more: &[&str]) {
    let volumes = eight(root).map(|(source, target, read_only)| {
        let access = if read_only { ":ro" } else { "" };
        format!("{}:{target}{access}", source.display())
    });
    let name = unique("eight");
    let mut options = more.to_vec();
    options.extend(volumes.iter().flat_map(|volume| ["-v", volume.as_str()]));
    assert_eq!(start(boxlite, &name, &options).0, start_mode);
    let sh = |script: &str| boxlite.ok(["exec", &name, "sh", "-c", script]);

    assert_eq!(
        sh(
            "cat /data/f /data/middle/f /etc/file-read /data/file-written /data/middle/inner/f /mnt/read/f /mnt/written/f /opt/a/b/deep"
        ),
        "outer\nmiddle\nfile-read\nfile-written\ninner\nread\nwritten\ndeep\n"
    );
    sh("for path in /data/new /data/file-written /data/middle/inner/new /mnt/written/new; do echo box > $path; done");
    for path in ["outer/new", "file-written", "inner/new", "written/new"] {
        assert_eq!(std::fs::read_to_string(root.join(path)).unwrap(), "box\n", "{path}");
        std::fs::remove_file(root.join(path)).unwrap();
    }

    // A root that takes away what its own kernel knows of read-only still can't write.
    let refused = "/data/middle/f /data/middle/new /etc/file-read /mnt/read/f /mnt/read/new /opt/a/b/deep";
    let tried = format!("for path in {refused}; do (echo x > $path) 2>/dev/null && echo wrote $path; done; true");
    assert_eq!(sh(&tried), "");
    sh("for target in /data/middle /etc/file-read /mnt/read /opt/a/b/deep; do mount -o remount,bind,rw $target; done");
    assert_eq!(sh(&tried), "");
    assert_eq!(
        sh("mv /mnt/written/f /mnt/read/f 2>/dev/null && echo moved; rm -f /mnt/read/f 2>/dev/null; cat /mnt/read/f"),
        "read\n"
    );

    // Links lead nowhere, and the shares have nothing but the volumes in them.
    assert_eq!(
        sh("cat /mnt/written/up /mnt/written/out /data/../secret /mnt/written/../../secret 2>/dev/null; true"),
        ""
    );
    let found = sh(
        "for target in /data/middle/inner /data/middle /data/file-written /data /etc/file-read /mnt/read \
          /mnt/written /opt/a/b/deep; do umount $target || exit 1; done; mkdir /probe; \
          for tag in /sys/bus/virtio/drivers/9pnet_virtio/virtio*/mount_tag; do \
          mount -t 9p -o trans=virtio,version=9p2000.L $(cat $tag) /probe || exit 1; \
          ls -A /probe; (touch /probe/new) 2>/dev/null && echo made; \
          for path in /probe/1/f /probe/5/f /probe/2 /probe/7; do \
          [ ! -e $path ] || ! (echo x > $path) 2>/dev/null || echo wrote $path; done; \
          cat /probe/../secret /probe/*/../../secret /probe/6/up /probe/6/out 2>/dev/null; umount /probe; done",
    );
    let mut entries: Vec<&str> = found.lines().collect();
    entries.sort_unstable();
    assert_eq!(entries, ["0", "1", "2", "3", "4", "5", "6", "7"]);
    for (path, content) in [
        ("middle/f", "middle\n"),
        ("file-read", "file-read\n"),
        ("read/f", "read\n"),
        ("deep", "deep\n"),
    ] {
        assert_eq!(std::fs::read_to_string(root.join(path)).unwrap(), content, "{path}");
    }
    for path in ["middle/new", "read/new"] {
        assert!(!root.join(path).exists(), "{path}");
    }
    boxlite.ok(["rm", "-f", &name]);
}

#[test]
#[ignore = "starts machines"]
fn eight_volumes_on_four_devices() {
    let (folder, boxlite) = with_busybox();
    let root = folder.path().join("volumes");
    use_eight(&boxlite, &root, "cold", &["--cold"]);
    let key = create(&boxlite, &["--volumes", "8"]);
    assert_eq!(create(&boxlite, &["--volumes", "2"]), key, "the devices are the same");
    use_eight(&boxlite, &root, "warm", &[]);
}

#[test]
#[ignore = "needs a bundle"]
fn nine_volumes_are_refused() {
    let (folder, boxlite) = fresh();
    let mut args = vec!["run".to_owned(), "--rm".to_owned()];
    for number in 0..9 {
        args.extend([
            "-v".to_owned(),
            format!("{}:/volumes/{number}", folder.path().display()),
        ]);
    }
    args.extend(["busybox", "true"].map(str::to_owned));
    let said = boxlite.fails(125, &args);
    assert!(said.contains("at most 8"), "{said}");
    let said = boxlite.fails(1, ["template", "create", "--volumes", "9"]);
    assert!(said.contains("at most 8"), "{said}");
}
