//! Starts that fail: what is said about them, and that nothing is left.
#![expect(clippy::unwrap_used, clippy::expect_used, reason = "tests")]

mod harness;

use std::net::{IpAddr, Ipv4Addr, TcpListener};
use std::time::{Duration, Instant};

use boxlite_machine::{Disk, NetworkSpec, PortForward, Protocol, Share};
use boxlite_shim::{ExitReason, ExitRecord, Stage, StartFailureCode};
use harness::{PATIENCE, Scene};

fn says(texts: &[String], part: &str) -> bool {
    texts.iter().any(|text| text.contains(part))
}

#[test]
fn without_an_engine_it_says_what_to_install() {
    let mut scene = Scene::hollow();
    scene.config.machine.engine.qemu = Some("/nonexistent/qemu".into());
    let failure = scene.fail();
    assert_eq!(
        (failure.stage, failure.code),
        (Stage::Prepare, StartFailureCode::EngineNotFound)
    );
    assert!(failure.message.contains("/nonexistent/qemu"), "{failure:?}");
    assert!(failure.hint.unwrap().contains("qemu-system-x86"));
}

#[test]
fn a_program_that_is_no_engine_is_refused() {
    let mut scene = Scene::hollow();
    scene.config.machine.engine.qemu = Some("/bin/true".into());
    let failure = scene.fail();
    assert_eq!(
        (failure.stage, failure.code),
        (Stage::Prepare, StartFailureCode::EngineUnusable)
    );
}

#[test]
fn a_missing_disk_is_named() {
    let mut scene = Scene::hollow();
    scene.config.machine.disk = Some(Disk {
        file: scene.path("no-disk"),
        serial: "disk".to_owned(),
        read_only: false,
    });
    let failure = scene.fail();
    assert_eq!(
        (failure.stage, failure.code),
        (Stage::Prepare, StartFailureCode::FileUnusable)
    );
    assert!(failure.message.contains("no-disk"), "{failure:?}");
}

#[test]
fn a_missing_volume_source_is_named_and_not_made() {
    let mut scene = Scene::hollow();
    scene.config.machine.shares = vec![Share::folder("volume0", scene.path("no-source"), false)];
    let failure = scene.fail();
    assert_eq!(
        (failure.stage, failure.code),
        (Stage::Prepare, StartFailureCode::VolumeUnusable)
    );
    assert!(failure.message.contains("no-source"), "{failure:?}");
    assert!(!scene.path("no-source").exists());
}

#[test]
fn a_taken_port_is_named() {
    let taken = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let port = taken.local_addr().unwrap().port();
    let mut scene = Scene::hollow();
    scene.config.machine.network = NetworkSpec::User {
        mac: "52:54:00:12:34:56".to_owned(),
        ports: vec![PortForward {
            host_ip: IpAddr::V4(Ipv4Addr::LOCALHOST),
            host_port: port,
            guest_port: 80,
            protocol: Protocol::Tcp,
        }],
    };
    let failure = scene.fail();
    assert_eq!(failure.code, StartFailureCode::PortInUse, "{failure:?}");
    assert!(failure.message.contains(&format!("127.0.0.1:{port}")), "{failure:?}");
}

#[test]
fn a_kernel_that_is_none_is_the_engines_complaint() {
    let failure = Scene::hollow().fail();
    assert_eq!(failure.code, StartFailureCode::EngineFailed, "{failure:?}");
    let mut texts = failure.evidence.clone();
    texts.push(failure.message.clone());
    assert!(says(&texts, "kernel"), "{failure:?}");
}

#[test]
fn a_machine_that_can_not_be_is_refused() {
    let mut scene = Scene::hollow();
    scene.config.machine.vcpus = 0;
    let failure = scene.fail();
    assert_eq!(failure.code, StartFailureCode::InvalidConfig, "{failure:?}");
}

#[test]
#[ignore = "needs a guest kernel"]
fn a_panic_is_seen_with_its_last_lines() {
    // Process 1 ends: Linux can't go on.
    let scene = Scene::with_init("echo the last straw > /dev/console; exit 3");
    let failure = scene.fail();
    assert_eq!(
        (failure.stage, failure.code),
        (Stage::Kernel, StartFailureCode::KernelPanicked),
        "{failure:?}"
    );
    assert!(says(&failure.evidence, "the last straw"), "{failure:?}");
    assert!(says(&failure.evidence, "Kernel panic"), "{failure:?}");
    assert!(scene.console().contains("Kernel panic"));
}

#[test]
#[ignore = "needs a guest kernel"]
fn a_guest_that_powers_off_is_no_guest() {
    let failure = Scene::with_init("echo farewell > /dev/console; /bin/busybox reboot -f").fail();
    assert_eq!(
        (failure.stage, failure.code),
        (Stage::Kernel, StartFailureCode::EngineFailed),
        "{failure:?}"
    );
    assert!(says(&failure.evidence, "farewell"), "{failure:?}");
}

#[test]
#[ignore = "needs a guest kernel"]
fn a_guest_that_says_nothing_is_given_up() {
    let mut scene = Scene::with_init("echo here I am > /dev/console; exec /bin/busybox sleep 100000");
    scene.config.start_timeout_ms = Some(6_000);
    let failure = scene.fail();
    assert_eq!(
        (failure.stage, failure.code),
        (Stage::Kernel, StartFailureCode::GuestSilent),
        "{failure:?}"
    );
    assert!(says(&failure.evidence, "here I am"), "{failure:?}");
    assert!(failure.cause.is_some() || failure.hint.is_some(), "{failure:?}");
}

#[test]
#[ignore = "needs a guest kernel"]
fn a_guest_that_babbles_on_the_agents_stream_is_given_up() {
    let scene = Scene::with_init("exec /bin/busybox yes > /dev/vport0p1");
    let failure = scene.fail();
    assert_eq!(failure.stage, Stage::Kernel, "{failure:?}");
}

#[test]
#[ignore = "needs a guest kernel"]
fn a_guest_that_floods_its_console_fills_no_disk() {
    let mut scene = Scene::with_init("exec /bin/busybox yes flooding the console > /dev/console");
    scene.config.start_timeout_ms = Some(3_000);
    let limit = scene.config.machine.console_log.max_bytes;
    let failure = scene.fail();
    assert_eq!(failure.code, StartFailureCode::GuestSilent, "{failure:?}");
    let size = |name: &str| std::fs::metadata(scene.path(name)).map_or(0, |file| file.len());
    let (new, old) = (size("console.log"), size("console.log.1"));
    assert!(old > 0 && new + old <= limit, "{new} + {old} bytes");
}

/// Ends a start from outside once its engine runs.
fn interrupted(parent_watch: bool, end: impl FnOnce(&mut harness::Shim<'_>)) {
    let mut scene = Scene::with_init("exec /bin/busybox sleep 100000");
    scene.config.parent_watch = parent_watch;
    let mut shim = scene.launch();
    let began = Instant::now();
    while scene.engines().is_empty() {
        assert!(began.elapsed() < PATIENCE, "no engine\n{}", scene.logs());
        std::thread::sleep(Duration::from_millis(5));
    }
    end(&mut shim);
    let failure = shim.started().unwrap_err();
    assert_eq!(failure.code, StartFailureCode::Interrupted, "{failure:?}");
    // Whatever its exit status: the record says how it ended.
    shim.over();
    let record = ExitRecord::read(scene.dir.path()).unwrap().unwrap();
    assert!(
        matches!(record.reason, ExitReason::StartFailed(_) | ExitReason::ParentGone),
        "{record:?}"
    );
}

#[test]
#[ignore = "needs a guest kernel"]
fn a_signal_ends_a_start() {
    interrupted(false, |shim| shim.signal(rustix::process::Signal::TERM));
}

#[test]
#[ignore = "needs a guest kernel"]
fn the_parents_end_ends_a_start() {
    interrupted(true, |shim| shim.parent = None);
}

#[test]
#[ignore = "needs a guest kernel"]
fn an_engine_does_not_outlive_its_shim() {
    let scene = Scene::with_init("exec /bin/busybox sleep 100000");
    let shim = scene.launch();
    let began = Instant::now();
    while scene.engines().is_empty() {
        assert!(began.elapsed() < PATIENCE, "no engine\n{}", scene.logs());
        std::thread::sleep(Duration::from_millis(5));
    }
    shim.signal(rustix::process::Signal::KILL);
    let began = Instant::now();
    while !scene.engines().is_empty() {
        assert!(began.elapsed() < Duration::from_secs(10), "the engine lives on");
        std::thread::sleep(Duration::from_millis(5));
    }
}
