//! Boxes for the supervisor's tests: what a client would prepare, by the shortest way.
#![allow(dead_code, reason = "each test program uses its part")]

use std::fs::File;
use std::io::{BufRead as _, BufReader};
use std::os::fd::OwnedFd;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus};
use std::sync::LazyLock;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use boxlite_machine::{Accelerator, ConsoleLog, Disk, EngineSpec, MachineSpec, NetworkSpec, Security};
use boxlite_protocol::guest::guest_client::GuestClient;
use boxlite_protocol::shim::shim_client::ShimClient;
use boxlite_protocol::transport;
use boxlite_protocol::version::SendVersion;
use boxlite_shim::log::Limits;
use boxlite_shim::{
    Configure, ExitRecord, Launch, LaunchConfig, Process, Ready, SOCKET_NAME, StartEvent, StartFailure,
};
use tonic::service::interceptor::InterceptedService;
use tonic::transport::Channel;

/// Ends a test that would hang.
pub(crate) const PATIENCE: Duration = Duration::from_secs(120);
/// What every disk of a machine is as large as; sparse.
const DEVICE_BYTES: u64 = 1 << 40;

pub(crate) type Shims = ShimClient<InterceptedService<Channel, SendVersion>>;
pub(crate) type Guests = GuestClient<InterceptedService<Channel, SendVersion>>;

/// A box's folder and configuration.
pub(crate) struct Scene {
    pub(crate) dir: tempfile::TempDir,
    pub(crate) config: LaunchConfig,
    /// On the engine's command line, and on no other.
    mark: String,
}

/// The bundle with kernel, initramfs and agent.
pub(crate) fn bundle() -> PathBuf {
    let dir = std::env::var_os("BOXLITE_TEST_BUNDLE_DIR")
        .expect("BOXLITE_TEST_BUNDLE_DIR must name the guest bundle (`make bundle` makes target/bundle)");
    let dir = PathBuf::from(dir);
    assert!(
        dir.join("vmlinux").exists() && dir.join("initramfs.cpio").exists(),
        "{} holds no vmlinux and initramfs.cpio: run `make bundle`",
        dir.display()
    );
    dir
}

fn kernel() -> PathBuf {
    std::env::var_os("BOXLITE_KERNEL").map_or_else(|| bundle().join("vmlinux"), PathBuf::from)
}

fn busybox() -> PathBuf {
    let path = PathBuf::from("/bin/busybox");
    assert!(
        path.exists(),
        "{} is missing: apt-get install busybox-static",
        path.display()
    );
    path
}

fn run(package: &str, command: &mut Command) {
    let output = match command.output() {
        Ok(output) => output,
        Err(error) => panic!("{command:?}: {error}: apt-get install {package}"),
    };
    assert!(
        output.status.success(),
        "{command:?}: {}",
        String::from_utf8_lossy(&output.stderr)
    );
}

impl Scene {
    /// A box whose machine has files where it needs them, but nothing in them.
    pub(crate) fn hollow() -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let dir = tempfile::tempdir().unwrap();
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let mark = format!("boxlite.test={}.{number}", std::process::id());
        let path = |name: &str| dir.path().join(name);
        for name in ["kernel", "initramfs"] {
            std::fs::write(path(name), "neither").unwrap();
        }
        let machine = MachineSpec {
            vcpus: 1,
            memory_mib: 192,
            kernel: path("kernel"),
            initramfs: path("initramfs"),
            kernel_args_extra: vec![mark.clone()],
            rootfs: None,
            disk: None,
            blank: None,
            shares: Vec::new(),
            network: NetworkSpec::None,
            console_log: ConsoleLog {
                path: path("console.log"),
                max_bytes: 64 * 1024,
            },
            runtime_dir: path("run"),
            engine: EngineSpec {
                qemu: None,
                cache_dir: Some(path("cache")),
            },
            accelerator: Some(Accelerator::Tcg),
            security: Security::Default,
        };
        let config = LaunchConfig {
            disk_is_blank: false,
            start_from: boxlite_shim::StartFrom::Kernel,
            box_id: format!("{number:032x}"),
            run_id: format!("run-{number}"),
            box_dir: dir.path().to_owned(),
            machine,
            configure: Configure::default(),
            main: None,
            wait_for_attach: false,
            stop_signal: 15,
            stop_grace_ms: 2_000,
            start_timeout_ms: None,
            keep_stdin_open: false,
            log_limits: Limits::default(),
            remove_disk_on_exit: false,
            parent_watch: false,
        };
        Self { dir, config, mark }
    }

    /// A machine with the real kernel, and a shell script for process 1.
    pub(crate) fn with_init(script: &str) -> Self {
        let mut scene = Self::hollow();
        scene.config.machine.kernel = kernel();
        let init = format!("#!/bin/busybox sh\n/bin/busybox mount -t devtmpfs d /dev\n{script}\n");
        let mut archive = Vec::new();
        for (name, mode, bytes) in [
            ("bin", 0o040_755, Vec::new()),
            ("dev", 0o040_755, Vec::new()),
            ("bin/busybox", 0o100_755, std::fs::read(busybox()).unwrap()),
            ("init", 0o100_755, init.into_bytes()),
            ("TRAILER!!!", 0, Vec::new()),
        ] {
            cpio_entry(&mut archive, name, mode, &bytes);
        }
        std::fs::write(&scene.config.machine.initramfs, archive).unwrap();
        scene
    }

    /// A whole box with busybox for an image, and no main process.
    pub(crate) fn idle() -> Self {
        static ROOTFS: LazyLock<tempfile::TempDir> = LazyLock::new(busybox_rootfs);
        let mut scene = Self::hollow();
        let bundle = bundle();
        scene.config.machine.kernel = bundle.join("vmlinux");
        scene.config.machine.initramfs = bundle.join("initramfs.cpio");
        let disk = scene.dir.path().join("disk");
        File::create(&disk).unwrap().set_len(128 << 20).unwrap();
        run("e2fsprogs", Command::new("mkfs.ext4").args(["-q", "-F"]).arg(&disk));
        File::options()
            .write(true)
            .open(&disk)
            .unwrap()
            .set_len(DEVICE_BYTES)
            .unwrap();
        scene.config.machine.rootfs = Some(Disk {
            file: ROOTFS.path().join("rootfs.erofs"),
            serial: "rootfs".to_owned(),
            read_only: true,
        });
        scene.config.machine.disk = Some(Disk {
            file: disk,
            serial: "disk".to_owned(),
            read_only: false,
        });
        scene.config.configure = Configure {
            hostname: "tested".to_owned(),
            machine_id: scene.config.box_id.clone(),
            rootfs_serial: "rootfs".to_owned(),
            disk_serial: "disk".to_owned(),
            ..Configure::default()
        };
        scene
    }

    /// A whole box with a main process.
    pub(crate) fn with_main(command: &[&str]) -> Self {
        let mut scene = Self::idle();
        scene.config.main = Some(Process {
            args: command.iter().map(|word| (*word).into()).collect(),
            env: vec!["PATH=/bin".into()],
            ..Process::default()
        });
        scene
    }

    pub(crate) fn main(&mut self) -> &mut Process {
        self.config.main.as_mut().unwrap()
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// Starts the supervisor.
    pub(crate) fn launch(&self) -> Shim<'_> {
        std::fs::create_dir_all(&self.config.machine.runtime_dir).unwrap();
        let lock = File::create(self.path("lock")).unwrap();
        rustix::fs::flock(&lock, rustix::fs::FlockOperation::NonBlockingLockExclusive).unwrap();
        let (parent, parent_write) = if self.config.parent_watch {
            let (read, write) = std::io::pipe().unwrap();
            (Some(read.into()), Some(write.into()))
        } else {
            (None, None)
        };
        let launched = Launch {
            shim: Path::new(env!("CARGO_BIN_EXE_boxlite-shim")),
            config: &self.config,
            lock: lock.into(),
            parent,
        }
        .spawn()
        .unwrap();
        Shim {
            scene: self,
            child: launched.child,
            status: Some(launched.status),
            parent: parent_write,
        }
    }

    /// Starts a box that must come up.
    pub(crate) fn start(&self) -> (Shim<'_>, Ready) {
        let mut shim = self.launch();
        let ready = shim
            .started()
            .unwrap_or_else(|failure| panic!("{failure:#?}\n{}", self.logs()));
        (shim, ready)
    }

    /// Starts a box that must not come up, and makes sure that nothing is left of it.
    pub(crate) fn fail(&self) -> StartFailure {
        let mut shim = self.launch();
        let failure = shim.started().expect_err("the box came up");
        shim.ended_with_failure(&failure);
        failure
    }

    pub(crate) async fn shims(&self) -> Shims {
        ShimClient::with_interceptor(self.channel().await, SendVersion::default())
    }

    pub(crate) async fn guests(&self) -> Guests {
        GuestClient::with_interceptor(self.channel().await, SendVersion::default())
    }

    async fn channel(&self) -> Channel {
        transport::channel_unix(self.dir.path(), SOCKET_NAME).await.unwrap()
    }

    pub(crate) fn console(&self) -> String {
        String::from_utf8_lossy(&std::fs::read(self.path("console.log")).unwrap_or_default()).into_owned()
    }

    /// For the message of a test that fails.
    pub(crate) fn logs(&self) -> String {
        let shim = std::fs::read_to_string(self.path("shim.log")).unwrap_or_default();
        format!("shim.log:\n{shim}\nconsole.log:\n{}", self.console())
    }

    /// Processes with this box's mark on their command line.
    pub(crate) fn engines(&self) -> Vec<u32> {
        std::fs::read_dir("/proc")
            .unwrap()
            .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse::<u32>().ok())
            .filter(|pid| {
                let line = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
                // The mark ends the kernel's command line, which ends with a zero byte.
                line.windows(self.mark.len() + 1)
                    .any(|window| window.strip_suffix(b"\0") == Some(self.mark.as_bytes()))
            })
            .collect()
    }
}

/// A running supervisor; killed with its engine when a test fails.
pub(crate) struct Shim<'a> {
    scene: &'a Scene,
    child: Child,
    status: Option<OwnedFd>,
    /// The end of the parent pipe that a client holds.
    pub(crate) parent: Option<OwnedFd>,
}

impl Shim<'_> {
    pub(crate) fn pid(&self) -> rustix::process::Pid {
        rustix::process::Pid::from_child(&self.child)
    }

    pub(crate) fn signal(&self, signal: rustix::process::Signal) {
        rustix::process::kill_process(self.pid(), signal).unwrap();
    }

    /// Reads the status pipe to its end.
    pub(crate) fn started(&mut self) -> Result<Ready, StartFailure> {
        let status = File::from(self.status.take().unwrap());
        let events: Vec<StartEvent> = BufReader::new(status)
            .lines()
            .map(|line| serde_json::from_str(&line.unwrap()).unwrap())
            .collect();
        let (last, stages) = events
            .split_last()
            .unwrap_or_else(|| panic!("no word from the shim\n{}", self.scene.logs()));
        let stages: Vec<_> = stages
            .iter()
            .map(|event| match event {
                StartEvent::Stage { stage, elapsed_us } => (*elapsed_us, *stage),
                other => panic!("{other:?} is not the last"),
            })
            .collect();
        assert!(stages.is_sorted(), "{stages:?}");
        match last {
            StartEvent::Ready(ready) => Ok(*ready.clone()),
            StartEvent::Failed(failure) => Err(*failure.clone()),
            StartEvent::Stage { .. } => panic!("the shim ended without a last word\n{}", self.scene.logs()),
        }
    }

    /// Waits for the box's end, makes sure that nothing is left of it, and reads its record.
    pub(crate) fn ended(&mut self) -> ExitRecord {
        let status = self.wait();
        assert!(status.success(), "{status}\n{}", self.scene.logs());
        self.left_nothing()
    }

    /// Waits for its end, whatever its exit status.
    pub(crate) fn over(&mut self) -> ExitRecord {
        self.wait();
        self.left_nothing()
    }

    fn ended_with_failure(&mut self, failure: &StartFailure) {
        self.wait();
        let record = self.left_nothing();
        assert_eq!(
            record.reason,
            boxlite_shim::ExitReason::StartFailed(Box::new(failure.clone()))
        );
        assert_eq!(record.main, None);
    }

    fn wait(&mut self) -> ExitStatus {
        let began = Instant::now();
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                return status;
            }
            assert!(
                began.elapsed() < PATIENCE,
                "the shim does not end\n{}",
                self.scene.logs()
            );
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    fn left_nothing(&self) -> ExitRecord {
        let scene = self.scene;
        // The engine was waited for, or dies with the shim.
        let began = Instant::now();
        while !scene.engines().is_empty() {
            assert!(
                began.elapsed() < Duration::from_secs(5),
                "an engine is left: {:?}",
                scene.engines()
            );
            std::thread::sleep(Duration::from_millis(5));
        }
        assert!(!scene.path(SOCKET_NAME).exists(), "the socket is left");
        let lock = File::open(scene.path("lock")).unwrap();
        rustix::fs::flock(&lock, rustix::fs::FlockOperation::NonBlockingLockExclusive).expect("the lock is still held");
        let record = ExitRecord::read(scene.dir.path()).unwrap().expect("no exit record");
        assert_eq!(record.run_id, scene.config.run_id);
        record
    }
}

impl Drop for Shim<'_> {
    fn drop(&mut self) {
        // Both fail when it has ended, as it should have.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn busybox_rootfs() -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    // An image's root is one level down.
    let whole = dir.path().join("image");
    let tree = whole.join("rootfs");
    for name in ["bin", "etc", "tmp", "proc", "sys", "dev", "root", "var"] {
        std::fs::create_dir_all(tree.join(name)).unwrap();
    }
    std::fs::copy(busybox(), tree.join("bin/busybox")).unwrap();
    for name in [
        "sh", "cat", "echo", "sleep", "yes", "head", "dd", "httpd", "ls", "hostname", "md5sum", "true", "stty", "wc",
    ] {
        symlink("busybox", tree.join("bin").join(name)).unwrap();
    }
    std::fs::write(tree.join("etc/passwd"), "root:x:0:0:root:/root:/bin/sh\n").unwrap();
    std::fs::write(tree.join("etc/group"), "root:x:0:\n").unwrap();
    let image = dir.path().join("rootfs.erofs");
    run("erofs-utils", Command::new("mkfs.erofs").arg(&image).arg(&whole));
    File::options()
        .write(true)
        .open(&image)
        .unwrap()
        .set_len(DEVICE_BYTES)
        .unwrap();
    // An engine that is nobody reads it through the descriptor; the folder stays private.
    dir
}

/// One entry of an archive in cpio's `newc` form.
fn cpio_entry(archive: &mut Vec<u8>, name: &str, mode: u32, bytes: &[u8]) {
    let name_bytes = name.len() + 1;
    let fields = [
        0,
        mode,
        0,
        0,
        1,
        0,
        bytes.len() as u32,
        0,
        0,
        0,
        0,
        name_bytes as u32,
        0,
    ];
    archive.extend(b"070701");
    for field in fields {
        archive.extend(format!("{field:08x}").bytes());
    }
    archive.extend(name.bytes());
    archive.push(0);
    archive.resize(archive.len().next_multiple_of(4), 0);
    archive.extend(bytes);
    archive.resize(archive.len().next_multiple_of(4), 0);
}
