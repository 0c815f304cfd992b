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
        size_bytes: 1,
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

proptest! {
    #[test]
    fn any_manifest_is_read_or_refused(bytes: Vec<u8>) {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join(MANIFEST_NAME), bytes).unwrap();
        prop_assert!(Template::open(dir.path()).is_err());
    }
}
