//! `load`, `images`, `tag`, `rmi`: images in every local form.

use std::os::unix::fs::MetadataExt as _;

use crate::harness::{fixtures, fresh, shared, text};

#[test]
#[ignore = "starts machines"]
fn every_local_form_runs() {
    let boxlite = shared();
    let at = |name: &str| fixtures().join(name).display().to_string();
    let run = |source: &str, command: &[&str]| {
        let mut args = vec!["run", "--rm", "--memory", "256m", source];
        args.extend(command);
        boxlite.ok(args)
    };
    assert_eq!(
        run(
            &format!("docker-archive:{}", at("busybox.docker.tar")),
            &["cat", "/etc/motd"]
        ),
        "hello from an OCI image\n"
    );
    assert_eq!(
        run(&format!("oci:{}:latest", at("busybox")), &["echo", "layout"]),
        "layout\n"
    );
    // Built by buildah: its own entrypoint and command, and those of the call.
    let built = format!("oci-archive:{}", at("built.oci.tar"));
    assert_eq!(run(&built, &[]), "entry from buildah\n");
    assert_eq!(run(&built, &["from", "here"]), "entry from here\n");
}

#[test]
#[ignore = "starts a machine"]
fn a_folder_runs() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::create_dir(folder.path().join("bin")).unwrap();
    std::fs::copy("/bin/busybox", folder.path().join("bin/busybox")).unwrap();
    std::fs::write(folder.path().join("note"), "from a folder\n").unwrap();
    let source = format!("dir:{}", folder.path().display());
    let out = shared().ok([
        "run",
        "--rm",
        "--memory",
        "256m",
        &source,
        "/bin/busybox",
        "sh",
        "-c",
        "/bin/busybox cat /note; echo changed > /note",
    ]);
    assert_eq!(out, "from a folder\n");
    assert_eq!(
        std::fs::read_to_string(folder.path().join("note")).unwrap(),
        "from a folder\n"
    );
}

#[test]
#[ignore = "needs the fixtures"]
fn an_image_is_listed_tagged_and_removed() {
    let (_folder, boxlite) = fresh();
    let archive = format!("docker-archive:{}", fixtures().join("busybox.docker.tar").display());
    let said = boxlite.ok(["load", &archive]);
    assert!(said.contains("busybox:1"), "{said}");
    boxlite.ok(["tag", "busybox:1", "mine:v2"]);
    let listed = boxlite.ok(["images"]);
    assert!(listed.contains("mine") && listed.contains("v2"), "{listed}");
    let described: serde_json::Value = serde_json::from_str(&boxlite.ok(["inspect", "mine:v2"])).unwrap();
    assert!(described[0].to_string().contains("sha256:"), "{described:#}");
    boxlite.ok(["rmi", "busybox:1"]);
    assert!(boxlite.ok(["images"]).contains("mine"));
    boxlite.ok(["create", "--name", "user", "mine:v2"]);
    let said = boxlite.fails(1, ["rmi", "mine:v2"]);
    assert!(said.contains("user") || said.contains("used"), "{said}");
    boxlite.ok(["rm", "user"]);
    boxlite.ok(["rmi", "mine:v2"]);
    assert_eq!(boxlite.ok(["images", "-q"]), "");
}

#[test]
#[ignore = "needs the fixtures"]
fn boxes_of_one_image_share_its_root_filesystem() {
    let (_folder, boxlite) = fresh();
    let source = format!("oci:{}:latest", fixtures().join("busybox").display());
    boxlite.ok(["load", &source, "--tag", "b"]);
    let rootfs = || -> Vec<_> {
        let entries = std::fs::read_dir(boxlite.home.join("images/rootfs")).unwrap();
        entries
            .map(|entry| entry.unwrap())
            .filter(|entry| entry.file_name().to_string_lossy().ends_with(".erofs"))
            .collect()
    };
    boxlite.ok(["create", "--name", "one", "b"]);
    let first = rootfs()[0].metadata().unwrap().ino();
    boxlite.ok(["create", "--name", "two", "b"]);
    let files = rootfs();
    assert_eq!((files.len(), files[0].metadata().unwrap().ino()), (1, first));
    boxlite.ok(["rm", "one", "two"]);
}

#[test]
#[ignore = "needs the fixtures"]
fn an_image_of_another_platform_is_refused() {
    let (_folder, boxlite) = fresh();
    let source = format!("oci:{}:latest", fixtures().join("busybox").display());
    let output = boxlite.output(["load", &source, "--platform", "linux/s390x"]);
    assert_eq!(output.status.code(), Some(1), "{}", text(&output.stdout));
    let said = text(&output.stderr);
    assert!(said.contains("s390x") && said.contains("amd64"), "{said}");
}
