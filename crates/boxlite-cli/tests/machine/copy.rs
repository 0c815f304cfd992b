//! `boxlite cp`: files and trees, both ways.

use std::os::unix::fs::{MetadataExt as _, PermissionsExt};
use std::path::Path;
use std::process::Command;

use crate::harness::{shared, text};

fn modified(path: &Path, seconds: u64) {
    let file = std::fs::File::open(path).unwrap();
    file.set_modified(std::time::UNIX_EPOCH + std::time::Duration::new(seconds, 123_456_789))
        .unwrap();
}

#[test]
#[ignore = "starts a machine"]
fn trees_come_back_as_they_went() {
    let boxlite = shared();
    let running = boxlite.sleeper("busybox", &[]);
    let folder = tempfile::tempdir().unwrap();
    let tree = folder.path().join("tree");
    std::fs::create_dir_all(tree.join("a/b")).unwrap();
    let body: Vec<u8> = (0..9_000_001_u32).map(|n| (n * 7) as u8).collect();
    std::fs::write(tree.join("a/b/body"), &body).unwrap();
    std::fs::write(tree.join("a/private"), "p").unwrap();
    std::fs::set_permissions(tree.join("a/private"), PermissionsExt::from_mode(0o600)).unwrap();
    std::fs::write(tree.join("a/run.sh"), "#!/bin/sh\necho ran\n").unwrap();
    std::fs::set_permissions(tree.join("a/run.sh"), PermissionsExt::from_mode(0o755)).unwrap();
    std::os::unix::fs::symlink("b/body", tree.join("a/link")).unwrap();
    std::fs::write(tree.join("empty"), "").unwrap();
    modified(&tree.join("a/private"), 1_234_567_890);
    modified(&tree.join("a/b"), 1_000_000_000);

    let target = format!("{}:/opt", running.name);
    running.sh("mkdir /opt");
    boxlite.ok(["cp", tree.to_str().unwrap(), &target]);
    assert_eq!(running.sh("/opt/tree/a/run.sh; stat -c '%a %Y' /opt/tree/a/private; stat -c %Y /opt/tree/a/b; readlink /opt/tree/a/link"), "ran\n600 1234567890\n1000000000\nb/body\n");

    let back = folder.path().join("back");
    boxlite.ok(["cp", &format!("{}:/opt/tree", running.name), back.to_str().unwrap()]);
    assert!(std::fs::read(back.join("a/b/body")).unwrap() == body);
    assert!(std::fs::read(back.join("a/link")).unwrap() == body);
    for path in ["a/private", "a/run.sh", "a/b", "empty"] {
        let (was, is) = (tree.join(path).metadata().unwrap(), back.join(path).metadata().unwrap());
        assert_eq!(
            (was.mode(), was.mtime(), was.mtime_nsec()),
            (is.mode(), is.mtime(), is.mtime_nsec()),
            "{path}"
        );
    }
}

#[test]
#[ignore = "starts a machine"]
fn the_rules_for_destinations_are_dockers() {
    let boxlite = shared();
    let running = boxlite.sleeper("busybox", &[]);
    let at = |path: &str| format!("{}:{path}", running.name);
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("file");
    std::fs::write(&file, "content").unwrap();
    let file = file.to_str().unwrap();

    boxlite.ok(["cp", file, &at("/tmp/renamed")]);
    boxlite.ok(["cp", file, &at("/tmp")]);
    boxlite.ok(["cp", file, &at("/tmp/")]);
    assert_eq!(running.sh("cat /tmp/renamed /tmp/file"), "contentcontent");
    boxlite.fails(1, ["cp", file, &at("/tmp/no-such-folder/")]);
    boxlite.fails(1, ["cp", &at("/no/such/file"), folder.path().to_str().unwrap()]);

    // A link inside the box resolves inside the box.
    running.sh("mkdir /real; ln -s /real /alias; ln -s ../../../../real/inner /tmp/out");
    boxlite.ok(["cp", file, &at("/alias/inner")]);
    assert_eq!(running.sh("cat /real/inner"), "content");

    // The contents of a folder: `/.`
    std::fs::create_dir(folder.path().join("many")).unwrap();
    std::fs::write(folder.path().join("many/one"), "1").unwrap();
    boxlite.ok(["cp", &format!("{}/many/.", folder.path().display()), &at("/real")]);
    assert_eq!(running.sh("cat /real/one"), "1");
}

#[test]
#[ignore = "starts a machine"]
fn a_dash_is_a_tar_stream() {
    let boxlite = shared();
    let running = boxlite.sleeper("busybox", &[]);
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("from-host"), "through tar").unwrap();
    let packed = Command::new("tar")
        .args(["-C", folder.path().to_str().unwrap(), "-cf", "-", "from-host"])
        .output()
        .unwrap();
    let output = boxlite.with_input(["cp", "-", &format!("{}:/tmp", running.name)], &packed.stdout);
    assert!(output.status.success(), "{}", text(&output.stderr));
    let output = boxlite.output(["cp", &format!("{}:/tmp/from-host", running.name), "-"]);
    assert!(output.status.success(), "{}", text(&output.stderr));
    std::fs::write(folder.path().join("out.tar"), &output.stdout).unwrap();
    let listed = Command::new("tar")
        .arg("-xOf")
        .arg(folder.path().join("out.tar"))
        .output()
        .unwrap();
    assert_eq!(text(&listed.stdout), "through tar");
}

#[test]
#[ignore = "starts a machine"]
fn volumes_are_part_of_the_boxs_paths() {
    let folder = tempfile::tempdir().unwrap();
    let boxlite = shared();
    let running = boxlite.sleeper("busybox", &["-v", &format!("{}:/data", folder.path().display())]);
    let file = folder.path().join("seed");
    std::fs::write(&file, "seed").unwrap();
    boxlite.ok(["cp", file.to_str().unwrap(), &format!("{}:/data/copied", running.name)]);
    assert_eq!(std::fs::read_to_string(folder.path().join("copied")).unwrap(), "seed");
}

#[test]
#[ignore = "starts a machine"]
fn thousands_of_small_files_come_back_as_they_were() {
    // Around what fills a block of an archive, a page, a pipe's buffer and a message, so that the
    // ends of files meet the ends of everything that they go through.
    const SIZES: [usize; 10] = [0, 1, 511, 512, 513, 4095, 4096, 4097, 9000, 140_000];
    const FILES: usize = 4000;
    let folder = tempfile::tempdir().unwrap();
    let tree = folder.path().join("tree");
    let content = |number: usize| -> Vec<u8> {
        // The large ones are few.
        let size = SIZES[if number % 100 == 99 { 9 } else { number % 9 }];
        (0..size)
            .map(|at| ((at * 31) ^ (at >> 8) ^ (number * 7)) as u8)
            .collect()
    };
    let place = |number: usize| format!("{}/{number}", number / 250);
    for number in 0..FILES {
        let file = tree.join(place(number));
        std::fs::create_dir_all(file.parent().unwrap()).unwrap();
        std::fs::write(file, content(number)).unwrap();
    }
    let boxlite = shared();
    let running = boxlite.sleeper("busybox", &[]);
    // Into nothing, and over what is there already.
    for round in ["first", "second"] {
        boxlite.ok([
            "cp",
            &format!("{}/.", tree.display()),
            &format!("{}:/root", running.name),
        ]);
        let back = folder.path().join(round);
        boxlite.ok(["cp", &format!("{}:/root", running.name), back.to_str().unwrap()]);
        for number in 0..FILES {
            let file = back.join(place(number));
            assert!(std::fs::read(&file).unwrap() == content(number), "{}", file.display());
        }
        let files = |folder: &Path| -> usize {
            let folders = std::fs::read_dir(folder).unwrap();
            folders
                .map(|folder| std::fs::read_dir(folder.unwrap().path()).unwrap().count())
                .sum()
        };
        assert_eq!(files(&back), FILES, "nothing beside them");
    }
}
