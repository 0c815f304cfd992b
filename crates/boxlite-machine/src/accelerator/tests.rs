use std::os::unix::fs::PermissionsExt as _;

use super::*;
use crate::{ConsoleLog, EngineSpec, NetworkSpec, Security};

const WITH_SVM: &str = "processor\t: 0\nmodel name\t: a vmx in a name\nflags\t\t: fpu svm lm\n";
const WITHOUT: &str = "processor\t: 0\nmodel name\t: vmx svm\nflags\t\t: fpu lm svm_lock\nvmx flags\t: ept\n";

/// A host in a folder, with an "engine" that is a script.
struct Scene {
    dir: tempfile::TempDir,
    host: Host,
    spec: MachineSpec,
}

impl Scene {
    fn new(cpuinfo: &str, engine: &str) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let path = |name: &str| dir.path().join(name);
        for (name, text) in [
            ("cpuinfo", cpuinfo),
            ("kvm", ""),
            ("boot_id", "one\n"),
            ("kernel", "k"),
            ("initramfs", "i"),
        ] {
            std::fs::write(path(name), text).unwrap();
        }
        let script = format!("#!/bin/sh\necho run >> {}\n{engine}\n", path("runs").display());
        std::fs::write(path("qemu"), script).unwrap();
        std::fs::set_permissions(path("qemu"), std::fs::Permissions::from_mode(0o755)).unwrap();
        let host = Host {
            cpuinfo: path("cpuinfo"),
            kvm: path("kvm"),
            boot_id: path("boot_id"),
            wanted: None,
            deadline: Duration::from_secs(60),
        };
        let spec = MachineSpec {
            vcpus: 1,
            memory_mib: 128,
            kernel: path("kernel"),
            initramfs: path("initramfs"),
            kernel_args_extra: Vec::new(),
            rootfs: None,
            disk: None,
            blank: None,
            shares: Vec::new(),
            network: NetworkSpec::None,
            console_log: ConsoleLog {
                path: path("console.log"),
                max_bytes: 8192,
            },
            runtime_dir: path("run"),
            engine: EngineSpec {
                qemu: None,
                cache_dir: Some(path("cache")),
            },
            accelerator: None,
            security: Security::Default,
        };
        Self { dir, host, spec }
    }

    async fn choose(&self) -> Result<AcceleratorChoice, ChooseError> {
        choose_on(&self.host, &self.dir.path().join("qemu"), &self.spec).await
    }

    async fn chosen(&self) -> (Accelerator, String) {
        let choice = self.choose().await.unwrap();
        (choice.accelerator, choice.evidence.join("; "))
    }

    fn runs(&self) -> usize {
        std::fs::read_to_string(self.dir.path().join("runs")).map_or(0, |text| text.lines().count())
    }
}

const ORDERLY: &str = "echo '[    0.3] reboot: Restarting system'";

#[test]
fn only_the_flags_line_counts() {
    assert_eq!(virtualization_flag(WITH_SVM), Some("svm"));
    assert_eq!(virtualization_flag(WITHOUT), None);
    assert_eq!(virtualization_flag(""), None);
}

#[tokio::test]
async fn a_device_without_the_flag_is_not_kvm() {
    let scene = Scene::new(WITHOUT, ORDERLY);
    let (accelerator, evidence) = scene.chosen().await;
    assert_eq!(accelerator, Accelerator::Tcg);
    assert!(evidence.contains("neither vmx nor svm"), "{evidence}");
    assert_eq!(scene.runs(), 0);
}

#[tokio::test]
async fn a_flag_without_the_device_is_not_kvm() {
    let mut scene = Scene::new(WITH_SVM, ORDERLY);
    scene.host.kvm = scene.dir.path().join("missing");
    let (accelerator, evidence) = scene.chosen().await;
    assert_eq!(accelerator, Accelerator::Tcg);
    assert!(evidence.contains("missing does not open"), "{evidence}");
    assert_eq!(scene.runs(), 0);
}

#[tokio::test]
async fn a_guest_that_ran_is_kvm_and_is_remembered_for_this_boot() {
    let scene = Scene::new(WITH_SVM, ORDERLY);
    assert_eq!(scene.chosen().await.0, Accelerator::Kvm);
    let (accelerator, evidence) = scene.chosen().await;
    assert_eq!(accelerator, Accelerator::Kvm);
    assert!(evidence.contains("ran to its end"), "{evidence}");
    assert_eq!(scene.runs(), 1);
    std::fs::write(scene.dir.path().join("boot_id"), "two\n").unwrap();
    assert_eq!(scene.chosen().await.0, Accelerator::Kvm);
    assert_eq!(scene.runs(), 2);
    std::fs::write(scene.dir.path().join("kernel"), "another").unwrap();
    assert_eq!(scene.chosen().await.0, Accelerator::Kvm);
    assert_eq!(scene.runs(), 3);
}

#[tokio::test]
async fn a_guest_that_fails_is_tcg_with_the_reason() {
    for (engine, reason) in [
        (
            "echo 'Kernel panic - not syncing: x'; echo 'reboot: Restarting'",
            "Kernel panic - not syncing: x",
        ),
        ("echo hello", "its last words: hello"),
        (
            "echo 'ioctl(KVM_CREATE_VM) failed' >&2; exit 1",
            "ioctl(KVM_CREATE_VM) failed",
        ),
    ] {
        let (accelerator, evidence) = Scene::new(WITH_SVM, engine).chosen().await;
        assert_eq!(accelerator, Accelerator::Tcg);
        assert!(evidence.contains(reason), "{evidence}");
    }
}

#[tokio::test]
async fn a_guest_that_hangs_is_ended_and_forgotten_after_a_while() {
    let mut scene = Scene::new(WITH_SVM, "exec sleep 1000");
    scene.host.deadline = Duration::from_millis(100);
    let (accelerator, evidence) = scene.chosen().await;
    assert_eq!(accelerator, Accelerator::Tcg);
    assert!(evidence.contains("did not end"), "{evidence}");
    let cache = scene.dir.path().join("cache").join(CACHE_NAME);
    let mut known: Remembered = serde_json::from_slice(&std::fs::read(&cache).unwrap()).unwrap();
    assert!(recall(&cache, &known.key, known.unix_s + 599).is_some());
    assert!(recall(&cache, &known.key, known.unix_s + 600).is_none());
    known.works = true;
    remember(&cache, &known).unwrap();
    assert!(recall(&cache, &known.key, known.unix_s + 1_000_000).is_some());
    std::fs::write(&cache, "{ half a fi").unwrap();
    assert!(recall(&cache, &known.key, known.unix_s).is_none());
}

#[tokio::test]
async fn who_asks_gets_it_or_the_reason() {
    let mut scene = Scene::new(WITHOUT, ORDERLY);
    scene.host.wanted = Some("kvm".to_owned());
    assert_eq!(scene.chosen().await.0, Accelerator::Kvm);
    scene.spec.accelerator = Some(Accelerator::Tcg);
    assert_eq!(scene.chosen().await.0, Accelerator::Tcg);
    scene.spec.accelerator = None;
    scene.host.kvm = scene.dir.path().join("missing");
    assert!(matches!(
        scene.choose().await,
        Err(ChooseError::Unusable {
            accelerator: Accelerator::Kvm,
            ..
        })
    ));
    scene.host.wanted = Some("warp".to_owned());
    assert!(matches!(scene.choose().await, Err(ChooseError::Unknown(name)) if name == "warp"));
    assert_eq!(scene.runs(), 0);
}
