//! `-v`: folders and single files of the host in the box.

use std::os::unix::fs::MetadataExt as _;

use crate::harness::{shared, text};

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
