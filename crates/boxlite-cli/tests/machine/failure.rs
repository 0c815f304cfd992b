//! Failures are part of the product: each says what failed, the evidence, the likely
//! cause and the next command, and leaves nothing half-made.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::harness::{Boxlite, fixtures, fresh, repository, shared, text};

fn bundle() -> PathBuf {
    PathBuf::from(std::env::var_os("BOXLITE_TEST_BUNDLE_DIR").expect("BOXLITE_TEST_BUNDLE_DIR: run `make test`"))
}

/// A bundle whose initramfs is a shell script.
fn bundle_with_init(folder: &Path, script: &str) -> PathBuf {
    let root = folder.join("root");
    std::fs::create_dir_all(root.join("bin")).unwrap();
    std::fs::copy("/bin/busybox", root.join("bin/busybox")).unwrap();
    std::fs::write(root.join("init"), format!("#!/bin/busybox sh\n{script}\n")).unwrap();
    let pack = "chmod 755 init && find . | cpio --quiet -o -H newc";
    let packed = Command::new("sh")
        .args(["-c", pack])
        .current_dir(&root)
        .output()
        .unwrap();
    assert!(packed.status.success(), "{}", text(&packed.stderr));
    let out = folder.join("bundle");
    std::fs::create_dir_all(&out).unwrap();
    std::fs::write(out.join("initramfs.cpio"), packed.stdout).unwrap();
    for name in ["vmlinux", "boxlite-shim"] {
        std::fs::copy(bundle().join(name), out.join(name)).unwrap();
    }
    out
}

fn loaded() -> (tempfile::TempDir, Boxlite) {
    let (folder, boxlite) = fresh();
    boxlite.ok([
        "load",
        &format!("oci:{}:latest", fixtures().join("busybox").display()),
        "--tag",
        "b",
    ]);
    (folder, boxlite)
}

fn nothing_is_left(boxlite: &Boxlite) {
    assert_eq!(boxlite.ok(["ps", "-aq"]), "", "a box was left");
    assert_eq!(
        std::fs::read_dir(boxlite.home.join("boxes")).unwrap().count(),
        0,
        "a folder was left"
    );
}

#[track_caller]
fn refusal(boxlite: &Boxlite, change: impl FnOnce(&mut Command) -> &mut Command) -> String {
    let mut command = boxlite.command(["run", "--rm", "--memory", "256m", "b", "true"]);
    let output = change(&mut command).output().unwrap();
    let said = text(&output.stderr);
    assert_eq!(output.status.code(), Some(125), "{said}");
    assert!(said.contains("try:"), "no next command:\n{said}");
    said
}

#[test]
#[ignore = "needs the fixtures"]
fn no_qemu() {
    let (_folder, boxlite) = loaded();
    let said = refusal(&boxlite, |command| command.env("PATH", "/nowhere"));
    assert!(
        said.contains("qemu") && said.contains("apt-get install qemu-system-x86"),
        "{said}"
    );
    nothing_is_left(&boxlite);
    let output = boxlite.command(["doctor"]).env("PATH", "/nowhere").output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(text(&output.stdout).contains("qemu"), "{}", text(&output.stdout));
}

#[test]
#[ignore = "needs the fixtures"]
fn a_qemu_that_is_too_old() {
    let (folder, boxlite) = loaded();
    let old = folder.path().join("qemu-system-x86_64");
    std::fs::write(&old, "#!/bin/sh\necho 'QEMU emulator version 4.2.1'\n").unwrap();
    std::fs::set_permissions(&old, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    let said = refusal(&boxlite, |command| command.env("BOXLITE_QEMU", &old));
    assert!(said.contains("4.2") && said.contains("7.2"), "{said}");
    nothing_is_left(&boxlite);
}

#[test]
#[ignore = "needs the fixtures"]
fn no_kernel() {
    let (folder, boxlite) = loaded();
    let empty = folder.path().join("bundle");
    std::fs::create_dir(&empty).unwrap();
    let said = refusal(&boxlite, |command| command.env("BOXLITE_BUNDLE_DIR", &empty));
    assert!(said.contains(empty.to_str().unwrap()), "{said}");
    nothing_is_left(&boxlite);
}

#[test]
#[ignore = "starts a machine"]
fn a_kernel_that_panics_shows_its_last_words() {
    let (folder, boxlite) = loaded();
    let bundle = bundle_with_init(folder.path(), "exit 3");
    let said = refusal(&boxlite, |command| command.env("BOXLITE_BUNDLE_DIR", &bundle));
    assert!(
        said.contains("Kernel panic") && said.contains("Attempted to kill init"),
        "{said}"
    );
    nothing_is_left(&boxlite);
}

#[test]
#[ignore = "starts a machine"]
fn an_agent_that_never_says_hello_is_given_up() {
    let (folder, boxlite) = loaded();
    let bundle = bundle_with_init(
        folder.path(),
        "/bin/busybox echo the last console line > /dev/console; exec /bin/busybox sleep 100000",
    );
    let mut command = boxlite.command(["run", "--rm", "--memory", "256m", "--start-timeout", "10", "b", "true"]);
    let output = command.env("BOXLITE_BUNDLE_DIR", &bundle).output().unwrap();
    let said = text(&output.stderr);
    assert_eq!(output.status.code(), Some(125), "{said}");
    assert!(said.contains("try:"), "no next command:\n{said}");
    assert!(
        said.contains("nothing moved") && said.contains("the last console line"),
        "{said}"
    );
    nothing_is_left(&boxlite);
}

#[test]
#[ignore = "starts a machine"]
fn a_start_that_fails_keeps_the_box_and_the_reason() {
    let (folder, boxlite) = loaded();
    let bundle = bundle_with_init(folder.path(), "exit 3");
    boxlite.ok(["create", "--name", "kept", "b", "true"]);
    let output = boxlite
        .command(["start", "--start-timeout", "20", "kept"])
        .env("BOXLITE_BUNDLE_DIR", &bundle)
        .output()
        .unwrap();
    assert!(!output.status.success());
    let info = boxlite.inspect("kept");
    assert_eq!(info["state"], "failed");
    assert!(
        info["error"]["message"]
            .as_str()
            .is_some_and(|message| !message.is_empty()),
        "{info:#}"
    );
    // With a bundle that works it starts.
    boxlite.ok(["start", "kept"]);
    assert_eq!(boxlite.ok(["wait", "kept"]).trim(), "0");
}

#[test]
#[ignore = "needs the fixtures and root"]
fn no_space_is_said_and_cleaned_up() {
    let folder = tempfile::tempdir().unwrap();
    let small = folder.path().join("small");
    std::fs::create_dir(&small).unwrap();
    // A mount namespace of the command's own, so that nothing of it outlives the test.
    let script = format!(
        "mount -t tmpfs -o size=24m small {small} && BOXLITE_HOME={small}/home {bin} load oci:{debian}:latest --tag d; echo status $?; BOXLITE_HOME={small}/home {bin} images -q; BOXLITE_HOME={small}/home {bin} system prune -a -f >/dev/null; find {small}/home/images -type f ! -name lock",
        small = small.display(),
        bin = std::env::var("BOXLITE_TEST_BIN").unwrap(),
        debian = fixtures().join("debian").display(),
    );
    let output = Command::new("unshare")
        .args(["--user", "--map-root-user", "--mount", "sh", "-c", &script])
        .output()
        .unwrap();
    let (out, said) = (text(&output.stdout), text(&output.stderr));
    assert!(said.contains("space"), "{out}{said}");
    assert_eq!(out.trim(), "status 1", "{said}");
}

#[test]
#[ignore = "needs the fixtures"]
fn a_layer_that_was_damaged_is_not_loaded() {
    let folder = tempfile::tempdir().unwrap();
    let copy = folder.path().join("copy");
    let status = Command::new("cp")
        .arg("-r")
        .arg(fixtures().join("busybox"))
        .arg(&copy)
        .status()
        .unwrap();
    assert!(status.success());
    let blobs = std::fs::read_dir(copy.join("blobs/sha256"))
        .unwrap()
        .map(|entry| entry.unwrap().path());
    let layer = blobs.max_by_key(|path| path.metadata().unwrap().len()).unwrap();
    let mut bytes = std::fs::read(&layer).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    std::fs::write(&layer, bytes).unwrap();
    let (_home, boxlite) = fresh();
    let said = boxlite.fails(1, ["load", &format!("oci:{}:latest", copy.display())]);
    assert!(
        said.contains("digest") && said.contains(layer.file_name().unwrap().to_str().unwrap()),
        "{said}"
    );
    assert_eq!(boxlite.ok(["images", "-q"]), "");
}

#[test]
#[ignore = "starts no machine"]
fn emulation_is_said_once_and_shown() {
    let info = shared().ok(["info", "--format", "json"]);
    let info: serde_json::Value = serde_json::from_str(&info).unwrap();
    let accelerator = info["accelerator"]["name"]
        .as_str()
        .unwrap_or_else(|| panic!("{info:#}"));
    assert!(["tcg", "kvm", "hvf"].contains(&accelerator), "{info:#}");
    let doctor = shared().output(["doctor"]);
    assert!(doctor.status.success(), "{}", text(&doctor.stdout));
    assert!(text(&doctor.stdout).contains(accelerator), "{}", text(&doctor.stdout));
    assert!(repository().join("Cargo.toml").exists());
}
