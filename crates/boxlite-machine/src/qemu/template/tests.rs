use proptest::prelude::*;

use super::*;
use crate::qemu::probe::Version;
use crate::spec::{ConsoleLog, Disk, EngineSpec, Security};

fn spec(dir: &Path, shares: usize) -> MachineSpec {
    let disk = |serial: &str| {
        Some(Disk {
            file: dir.join(serial),
            serial: serial.to_owned(),
            read_only: false,
        })
    };
    MachineSpec {
        vcpus: 1,
        memory_mib: 128,
        kernel: dir.join("kernel"),
        initramfs: dir.join("initramfs"),
        kernel_args_extra: Vec::new(),
        rootfs: disk("rootfs"),
        disk: disk("disk"),
        blank: None,
        shares: (0..shares)
            .map(|place| Share::folder(share_tag(place), dir, false))
            .collect(),
        network: NetworkSpec::None,
        console_log: ConsoleLog {
            path: dir.join("console"),
            max_bytes: 8192,
        },
        runtime_dir: dir.to_owned(),
        engine: EngineSpec::default(),
        accelerator: None,
        security: Security::Default,
    }
}

fn qemu(dir: &Path) -> QemuInfo {
    QemuInfo {
        path: dir.join("qemu"),
        version: Version {
            major: 7,
            minor: 2,
            micro: 0,
        },
        sandbox: true,
        mtime_ns: FileIdentity::of(&dir.join("qemu")).unwrap().mtime_ns,
        size_bytes: FileIdentity::of(&dir.join("qemu")).unwrap().bytes,
    }
}

fn files() -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    for name in ["kernel", "initramfs", "qemu"] {
        std::fs::write(dir.path().join(name), name).unwrap();
    }
    dir
}

fn shape(dir: &Path, spec: &MachineSpec) -> Shape {
    Shape::of(spec, &qemu(dir), Accelerator::Tcg).unwrap()
}

#[test]
fn what_a_guest_sees_is_the_shape_and_nothing_else() {
    let files = files();
    let dir = files.path();
    let base = shape(dir, &spec(dir, 0));
    assert_eq!(base.key().len(), 16);
    let mut same = spec(dir, 0);
    same.rootfs.as_mut().unwrap().file = "/elsewhere".into();
    same.runtime_dir = "/elsewhere".into();
    assert_eq!(shape(dir, &same), base);
    let others: [fn(&mut MachineSpec); 5] = [
        |spec| spec.vcpus = 2,
        |spec| spec.memory_mib = 256,
        |spec| spec.disk = None,
        |spec| spec.kernel_args_extra.push("a".to_owned()),
        |spec| {
            spec.network = NetworkSpec::User {
                mac: "52:54:00:00:00:01".to_owned(),
                ports: Vec::new(),
            }
        },
    ];
    for change in others {
        let mut other = spec(dir, 0);
        change(&mut other);
        assert_ne!(shape(dir, &other).key(), base.key(), "{other:?}");
    }
    assert!(base.is_current());
    std::fs::write(dir.join("kernel"), "a newer one").unwrap();
    assert!(!base.is_current());
    assert_ne!(shape(dir, &spec(dir, 0)), base);
}

#[test]
fn shares_take_the_next_number_of_devices() {
    let files = files();
    let dir = files.path();
    for (shares, devices) in [(0, 0), (1, 1), (2, MAX_SHARES), (MAX_SHARES, MAX_SHARES)] {
        let spec = spec(dir, shares);
        let shape = shape(dir, &spec);
        assert_eq!(shape.shares, devices);
        let filled = shape.fill(&spec, Path::new("/blank"));
        assert_eq!(filled.shares.len(), devices);
        assert_eq!(filled.shares[..shares], spec.shares[..]);
        for (place, share) in filled.shares.iter().enumerate().skip(shares) {
            assert_eq!(
                (share.tag.as_str(), share.is_read_only()),
                (share_tag(place).as_str(), true)
            );
        }
    }
    let refused = Shape::of(&spec(dir, MAX_SHARES + 1), &qemu(dir), Accelerator::Tcg);
    assert!(matches!(refused, Err(ShapeError::Shares(_))));
    let mut odd = spec(dir, 1);
    odd.shares[0].tag = "other".to_owned();
    assert!(matches!(
        Shape::of(&odd, &qemu(dir), Accelerator::Tcg),
        Err(ShapeError::Tag { place: 0, .. })
    ));
}

#[test]
fn a_folder_without_a_manifest_is_no_template() {
    let dir = tempfile::tempdir().unwrap();
    assert!(matches!(Template::open(dir.path()), Err(OpenError::Missing)));
    std::fs::write(dir.path().join(MANIFEST_NAME), "{}").unwrap();
    assert!(matches!(Template::open(dir.path()), Err(OpenError::Manifest(_))));
}

/// A template as it is left by its making, of a machine that never was.
fn made(dir: &Path, shape: &Shape) -> PathBuf {
    let place = dir.join(shape.key());
    std::fs::create_dir(&place).unwrap();
    for name in [RAM_NAME, STATE_NAME, BLANK_NAME] {
        std::fs::write(place.join(name), name).unwrap();
    }
    make::seal(shape, &place).unwrap();
    std::fs::write(lock_of(&place), "").unwrap();
    place
}

fn lock_of(place: &Path) -> PathBuf {
    place.with_extension("lock")
}

#[test]
fn templates_go_with_what_they_were_made_of() {
    assert_eq!(sweep(Path::new("/no/such/folder")).unwrap(), Swept::default());
    for changed in ["kernel", "initramfs", "qemu"] {
        let (files, others, templates) = (files(), files(), tempfile::tempdir().unwrap());
        let gone = made(templates.path(), &shape(files.path(), &spec(files.path(), 0)));
        let stays = made(templates.path(), &shape(others.path(), &spec(others.path(), 0)));
        assert_eq!(sweep(templates.path()).unwrap(), Swept::default());
        std::fs::write(files.path().join(changed), "a newer one").unwrap();
        let swept = sweep(templates.path()).unwrap();
        assert_eq!(swept.keys, [gone.file_name().unwrap().to_str().unwrap()], "{changed}");
        assert!(swept.bytes > 0);
        assert!(!gone.exists() && !lock_of(&gone).exists(), "{changed}");
        assert!(stays.exists() && lock_of(&stays).exists(), "{changed}");
    }
    let (files, templates) = (files(), tempfile::tempdir().unwrap());
    let base = shape(files.path(), &spec(files.path(), 0));
    let changes: [fn(&mut Shape); 2] = [|shape| shape.cpu.push_str(" of before"), |shape| shape.format -= 1];
    for change in changes {
        let mut other = base.clone();
        change(&mut other);
        let gone = made(templates.path(), &other);
        assert_eq!(sweep(templates.path()).unwrap().keys, [other.key()]);
        assert!(!gone.exists());
    }
}

#[test]
fn what_is_being_made_stays_and_what_nobody_makes_goes() {
    let dir = tempfile::tempdir().unwrap();
    let key = "0123456789abcdef";
    let staging = dir.path().join(format!("{}{key}", make::STAGING_PREFIX));
    let begin = || {
        std::fs::create_dir_all(staging.join("blank")).unwrap();
        std::fs::write(staging.join(RAM_NAME), "x").unwrap();
    };
    begin();
    let maker = lock::KeyLock::try_take(dir.path(), key).unwrap().unwrap();
    assert_eq!(sweep(dir.path()).unwrap(), Swept::default());
    assert!(staging.join(RAM_NAME).exists() && dir.path().join(key).with_extension("lock").exists());
    drop(maker);
    sweep(dir.path()).unwrap();
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);

    // Not even the lock is left.
    begin();
    sweep(dir.path()).unwrap();
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);

    // One who has only just begun, too.
    let maker = lock::KeyLock::try_take(dir.path(), key).unwrap().unwrap();
    sweep(dir.path()).unwrap();
    assert!(lock::KeyLock::try_take(dir.path(), key).unwrap().is_none());
    drop(maker);
    sweep(dir.path()).unwrap();
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);
}

#[test]
fn only_what_says_nothing_is_removed_unasked() {
    let (files, templates) = (files(), tempfile::tempdir().unwrap());
    let at = |name: &str| templates.path().join(name);
    let damaged = made(templates.path(), &shape(files.path(), &spec(files.path(), 0)));
    std::fs::write(damaged.join(RAM_NAME), "changed since").unwrap();
    std::fs::create_dir(at("0000000000000000")).unwrap();
    let foreign = made(templates.path(), &shape(files.path(), &spec(files.path(), 1)));
    std::fs::write(foreign.join(MANIFEST_NAME), "{}").unwrap();
    let misplaced = made(templates.path(), &shape(files.path(), &spec(files.path(), 2)));
    std::fs::rename(&misplaced, at("1111111111111111")).unwrap();
    std::fs::create_dir(at("notes")).unwrap();
    std::fs::write(at("2222222222222222"), "a file").unwrap();
    assert_eq!(sweep(templates.path()).unwrap().keys.len(), 3);
    let mut left: Vec<_> = std::fs::read_dir(templates.path())
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect();
    left.sort();
    let mut expected = vec![at("2222222222222222"), lock_of(&damaged), damaged, at("notes")];
    expected.sort();
    assert_eq!(left, expected);
}

proptest! {
    #[test]
    fn any_manifest_is_read_or_refused(bytes: Vec<u8>) {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join(MANIFEST_NAME), bytes).unwrap();
        prop_assert!(Template::open(dir.path()).is_err());
    }
}
