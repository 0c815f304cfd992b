//! Templates that no start can go on from any more, and what is left of makers that died.

use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use crate::harness::{Boxlite, eventually, needed, process_exists, send_signal, unique};
use crate::templates::{create, start, with_busybox};

/// What is in the folder of templates.
fn names(boxlite: &Boxlite) -> Vec<String> {
    let entries = match std::fs::read_dir(boxlite.home.join("templates")) {
        Ok(entries) => entries,
        Err(error) => panic!("{error}"),
    };
    entries
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect()
}

fn listed(boxlite: &Boxlite) -> String {
    boxlite.ok(["template", "ls", "--quiet"]).trim().to_owned()
}

/// Puts `content` in the place of a file, as package managers do.
fn replace(file: &Path, content: &[u8], mode: u32) {
    let new = file.with_extension("new");
    std::fs::write(&new, content).unwrap();
    std::fs::set_permissions(&new, std::fs::Permissions::from_mode(mode)).unwrap();
    std::fs::rename(new, file).unwrap();
}

#[test]
#[ignore = "starts machines"]
fn a_template_goes_with_its_kernel_and_who_runs_from_it_stays() {
    let (folder, mut boxlite) = with_busybox();
    let bundle = folder.path().join("bundle");
    std::fs::create_dir(&bundle).unwrap();
    for name in ["boxlite-shim", "vmlinux", "initramfs.cpio"] {
        std::fs::copy(needed("BOXLITE_TEST_BUNDLE_DIR").join(name), bundle.join(name)).unwrap();
    }
    boxlite.variables.push(("BOXLITE_BUNDLE_DIR", bundle.clone()));
    let key = create(&boxlite, &[]);
    let running = unique("mapped");
    assert_eq!(start(&boxlite, &running, &[]), ("warm".to_owned(), None));
    let read_memory = || {
        // Programs and pages that nobody has touched since the template was made, and new ones.
        let script = "dd if=/dev/zero of=/dev/shm/new bs=1M count=30 2>/dev/null && md5sum /dev/shm/new /bin/busybox \
                      && rm /dev/shm/new && dmesg | head -n 1 && sort /proc/kallsyms | md5sum";
        boxlite.ok(["exec", &running, "sh", "-c", script])
    };

    let kernel = bundle.join("vmlinux");
    let content = std::fs::read(&kernel).unwrap();
    replace(&kernel, &content, 0o755);
    assert_eq!(listed(&boxlite), "");
    assert_eq!(names(&boxlite), [""; 0]);

    let before = read_memory();
    assert_eq!(read_memory(), before);
    let late = unique("late");
    let (mode, reason) = start(&boxlite, &late, &[]);
    assert_eq!(mode, "cold");
    assert!(reason.unwrap().contains("no template of this shape"));
    let made = create(&boxlite, &[]);
    assert_ne!(made, key);
    boxlite.ok(["restart", "-t", "0", &late]);
    assert_eq!(boxlite.inspect(&late)["run"]["start_mode"], "warm");
    assert_eq!(read_memory(), before);
    boxlite.ok(["rm", "-f", &running, &late]);
}

#[test]
#[ignore = "starts machines"]
fn a_template_goes_with_its_engine() {
    let (folder, mut boxlite) = with_busybox();
    let engine = folder.path().join("qemu-system-x86_64");
    let script = |version: u32| format!("#!/bin/sh\n# {version}\nexec /usr/bin/qemu-system-x86_64 \"$@\"\n");
    replace(&engine, script(1).as_bytes(), 0o755);
    boxlite.variables.push(("BOXLITE_QEMU", engine.clone()));
    let key = create(&boxlite, &[]);
    assert_eq!(listed(&boxlite), key);
    let name = unique("engine");
    assert_eq!(start(&boxlite, &name, &[]).0, "warm");
    boxlite.ok(["rm", "-f", &name]);
    replace(&engine, script(2).as_bytes(), 0o755);
    // Whatever opens the home; the new engine's is made under another name.
    let made = create(&boxlite, &[]);
    assert_ne!(made, key);
    assert_eq!(listed(&boxlite), made);
    assert!(!names(&boxlite).iter().any(|name| name.starts_with(&key)));
}

/// The name that the template will have which is made in `staging`.
fn key_of(staging: &Path) -> String {
    let name = staging.file_name().unwrap().to_str().unwrap();
    name.strip_prefix(".making-").unwrap().to_owned()
}

fn lock_of(staging: &Path) -> PathBuf {
    staging.with_file_name(format!("{}.lock", key_of(staging)))
}

/// The process that has `file` open.
fn holder(file: &Path) -> Option<u32> {
    std::fs::read_dir("/proc").unwrap().find_map(|process| {
        let process = process.ok()?;
        let pid = process.file_name().to_str()?.parse().ok()?;
        let descriptors = std::fs::read_dir(process.path().join("fd")).ok()?;
        let has_it = descriptors
            .filter_map(|descriptor| std::fs::read_link(descriptor.ok()?.path()).ok())
            .any(|target| target == file);
        has_it.then_some(pid)
    })
}

#[test]
#[ignore = "starts machines"]
fn a_maker_that_is_killed_leaves_nothing() {
    let (_folder, boxlite) = with_busybox();
    let templates = boxlite.home.canonicalize().unwrap().join("templates");
    let staging = || -> Option<PathBuf> {
        let entries = std::fs::read_dir(&templates).ok()?;
        entries
            .filter_map(|entry| Some(entry.ok()?.path()))
            .find(|path| path.file_name().unwrap().to_string_lossy().starts_with(".making-"))
    };
    // It is to stand still in the middle, so that whatever comes finds it at work. One that is
    // done before that is of no use here.
    let (mut making, maker, staging) = loop {
        let mut making = boxlite.spawn(["template", "create", "-m", "128m"]);
        eventually("a template is made", || {
            staging().is_some_and(|staging| staging.join("ram").exists()) || making.try_wait().unwrap().is_some()
        });
        if let Some(staging) = staging()
            && let Some(maker) = holder(&lock_of(&staging))
        {
            send_signal("STOP", maker);
            if staging.join("ram").exists() {
                break (making, maker, staging);
            }
            send_signal("CONT", maker);
        }
        making.wait().unwrap();
        boxlite.ok(["system", "prune", "--force"]);
    };
    let lock = lock_of(&staging);
    let key = key_of(&staging);
    boxlite.ok(["template", "ls"]);
    boxlite.ok(["system", "prune", "--force"]);
    assert!(staging.join("ram").exists() && lock.exists(), "{:?}", names(&boxlite));

    send_signal("KILL", maker);
    assert!(!making.wait().unwrap().success());
    eventually("the maker has ended", || !process_exists(maker));
    assert!(staging.exists(), "nobody has cleaned up yet");
    assert_eq!(listed(&boxlite), "");
    assert_eq!(names(&boxlite), [""; 0]);

    let name = unique("after");
    assert_eq!(create(&boxlite, &[]), key);
    assert_eq!(start(&boxlite, &name, &[]).0, "warm");
    boxlite.ok(["rm", "-f", &name]);
}
