//! Real machines for the tests: QEMU with the kernel and the agent under test.

use std::{
    fs,
    os::{fd::AsRawFd as _, unix::net::UnixStream},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::OnceLock,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use boxlite_protocol::{
    PROTOCOL_MAX, PROTOCOL_MIN,
    guest::{
        CloseStdin, ConfigureRequest, ConfigureResponse, ExecInput, ExecOutput, ExecRefused, ExecStart, ExitStatus,
        HelloRequest, HelloResponse, Network, ProcessSpec, ShutdownRequest, SignalExecutionRequest, Volume,
        exec_input::Input, exec_output::Output, guest_client::GuestClient,
    },
    preamble, transport,
    version::SendVersion,
};
use bytes::Bytes;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Streaming, service::interceptor::InterceptedService, transport::Channel};

pub(crate) type Client = GuestClient<InterceptedService<Channel, SendVersion>>;

/// Longer than anything takes on a busy machine without hardware virtualization.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

fn variable(name: &str) -> PathBuf {
    let value = std::env::var_os(name).unwrap_or_else(|| {
        panic!(
            "{name} must be set: BOXLITE_TEST_KERNEL to the guest kernel (vmlinux), \
             BOXLITE_TEST_AGENT to the static agent (cargo build --profile guest)"
        )
    });
    PathBuf::from(value)
}

fn run(package: &str, command: &mut Command) {
    let output = command
        .output()
        .unwrap_or_else(|error| panic!("{command:?}: {error}; install the Debian package {package}"));
    assert!(
        output.status.success(),
        "{command:?}: {}",
        String::from_utf8_lossy(&output.stderr)
    );
}

/// What all machines of a test run share.
struct Inputs {
    _dir: tempfile::TempDir,
    initramfs: PathBuf,
    rootfs: PathBuf,
    blank_disk: PathBuf,
}

fn inputs() -> &'static Inputs {
    static INPUTS: OnceLock<Inputs> = OnceLock::new();
    INPUTS.get_or_init(|| {
        let dir = tempfile::tempdir().unwrap();
        let at = |path: &str| dir.path().join(path);
        fs::create_dir(at("initramfs")).unwrap();
        fs::copy(variable("BOXLITE_TEST_AGENT"), at("initramfs/init")).unwrap();
        let mut cpio = Command::new("sh");
        cpio.current_dir(at("initramfs"))
            .args(["-c", "echo init | cpio --quiet -o -H newc > ../initramfs.cpio"]);
        run("cpio", &mut cpio);
        // An image's root is one level down.
        fs::create_dir(at("image")).unwrap();
        rootfs_tree(&at("image/rootfs"));
        run(
            "erofs-utils",
            Command::new("mkfs.erofs").arg(at("rootfs.erofs")).arg(at("image")),
        );
        let disk = fs::File::create(at("disk")).unwrap();
        disk.set_len(512 << 20).unwrap();
        run(
            "e2fsprogs",
            Command::new("mke2fs").args(["-q", "-F", "-t", "ext4"]).arg(at("disk")),
        );
        Inputs {
            initramfs: at("initramfs.cpio"),
            rootfs: at("rootfs.erofs"),
            blank_disk: at("disk"),
            _dir: dir,
        }
    })
}

/// An image: busybox, users, links that point to places that only exist in it.
fn rootfs_tree(root: &Path) {
    let at = |path: &str| root.join(path);
    for dir in ["bin", "etc", "tmp", "root", "home/app", "var", "usr/lib"] {
        fs::create_dir_all(at(dir)).unwrap();
    }
    fs::copy("/bin/busybox", at("bin/busybox")).expect("install the Debian package busybox-static");
    for applet in [
        "cat", "chmod", "cp", "cut", "dd", "df", "echo", "env", "false", "grep", "hostname", "id", "ifconfig", "kill",
        "ln", "ls", "md5sum", "mkdir", "mount", "mv", "nslookup", "ping", "ps", "pwd", "readlink", "rm", "route",
        "seq", "setsid", "sh", "sleep", "sort", "stat", "stty", "sync", "tail", "touch", "tr", "true", "tty", "wc",
        "wget", "yes",
    ] {
        std::os::unix::fs::symlink("busybox", at("bin").join(applet)).unwrap();
    }
    for (source, program) in [("map_file.c", "map-file"), ("eat_memory.c", "eat-memory")] {
        let mut cc = Command::new("gcc");
        cc.args(["-static", "-O1", "-x", "c", "-o"])
            .arg(at("bin").join(program))
            .arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/machine").join(source));
        run("gcc", &mut cc);
    }
    fs::write(
        at("etc/passwd"),
        "root:x:0:0:root:/root:/bin/sh\napp:x:1000:1001:App:/home/app:/bin/sh\n",
    )
    .unwrap();
    fs::write(at("etc/group"), "root:x:0:\napp:x:1001:\nextra:x:2000:app\n").unwrap();
    fs::write(at("etc/motd"), "from the image\n").unwrap();
    // As in many images: the file is a link to where nothing is yet.
    std::os::unix::fs::symlink("../run/resolver/stub.conf", at("etc/resolv.conf")).unwrap();
    std::os::unix::fs::symlink("/run", at("var/run")).unwrap();
    std::os::unix::fs::symlink("/elsewhere/deep", at("link-to-nowhere")).unwrap();
    fs::write(at("bin/no-interpreter"), "#!/no/such/interpreter\n").unwrap();
    fs::write(at("bin/not-a-program"), "just text\n").unwrap();
    fs::write(at("bin/not-executable"), "#!/bin/sh\n").unwrap();
    use std::os::unix::fs::PermissionsExt as _;
    for (path, mode) in [
        ("bin/no-interpreter", 0o755),
        ("bin/not-a-program", 0o755),
        ("bin/not-executable", 0o644),
        ("home/app", 0o700),
        ("tmp", 0o1777),
    ] {
        fs::set_permissions(at(path), fs::Permissions::from_mode(mode)).unwrap();
    }
}

/// A folder of the host that the machine can mount.
pub(crate) struct Share {
    pub(crate) tag: &'static str,
    pub(crate) source: PathBuf,
    pub(crate) read_only: bool,
}

/// What a machine is started with.
pub(crate) struct Options {
    pub(crate) memory_mib: u32,
    pub(crate) kernel_args: &'static str,
    pub(crate) shares: Vec<Share>,
    pub(crate) network: bool,
    /// A disk that an earlier machine has used.
    pub(crate) disk: Option<PathBuf>,
    /// Where QEMU listens for the host, instead of one end of a socket pair.
    pub(crate) socket: Option<PathBuf>,
}

impl Default for Options {
    fn default() -> Self {
        Options {
            memory_mib: 256,
            kernel_args: "quiet",
            shares: Vec::new(),
            network: false,
            disk: None,
            socket: None,
        }
    }
}

/// A running machine; dropping it kills it.
pub(crate) struct Machine {
    qemu: Child,
    dir: tempfile::TempDir,
    pub(crate) disk: PathBuf,
    stream: Option<UnixStream>,
    pub(crate) started: Instant,
}

impl Machine {
    pub(crate) fn start(options: &Options) -> Machine {
        let inputs = inputs();
        let dir = tempfile::tempdir().unwrap();
        let disk = options.disk.clone().unwrap_or_else(|| {
            let disk = dir.path().join("disk");
            run(
                "coreutils",
                Command::new("cp")
                    .arg("--sparse=always")
                    .arg(&inputs.blank_disk)
                    .arg(&disk),
            );
            disk
        });
        let (host, guest) = UnixStream::pair().unwrap();
        rustix::io::fcntl_setfd(&guest, rustix::io::FdFlags::empty()).unwrap();
        let chardev = match &options.socket {
            Some(path) => format!("socket,id=agent,server=on,wait=off,path={}", path.display()),
            None => format!("socket,id=agent,fd={}", guest.as_raw_fd()),
        };
        let mut qemu = Command::new("qemu-system-x86_64");
        qemu.args([
            "-accel",
            "tcg,thread=multi",
            "-M",
            "microvm,acpi=off,ioapic2=on",
            "-cpu",
            "max,-erms",
        ])
        .args(["-nodefaults", "-no-user-config", "-display", "none", "-no-reboot"])
        .args(["-m", &options.memory_mib.to_string(), "-smp", "1"])
        .arg("-kernel")
        .arg(variable("BOXLITE_TEST_KERNEL"))
        .arg("-initrd")
        .arg(&inputs.initramfs)
        .args([
            "-append",
            &format!("console=ttyS0 panic=-1 reboot=t {}", options.kernel_args),
        ])
        .arg("-serial")
        .arg(format!("file:{}", dir.path().join("console").display()))
        .args(["-device", "virtio-serial-device", "-chardev", &chardev])
        .args(["-device", "virtserialport,chardev=agent,name=boxlite.agent"])
        .args(["-device", "virtio-rng-device"]);
        for (id, file, read_only) in [("disk", &disk, "off"), ("rootfs", &inputs.rootfs, "on")] {
            qemu.arg("-drive").arg(format!(
                "if=none,id={id},format=raw,file={},readonly={read_only},file.locking=off,discard=unmap",
                file.display()
            ));
            qemu.args(["-device", &format!("virtio-blk-device,drive={id},serial=bl-{id}")]);
        }
        for share in &options.shares {
            let read_only = if share.read_only { ",readonly=on" } else { "" };
            qemu.arg("-fsdev").arg(format!(
                "local,id={0},path={1},security_model=mapped-xattr,multidevs=remap{read_only}",
                share.tag,
                share.source.display()
            ));
            qemu.args([
                "-device",
                &format!("virtio-9p-device,fsdev={0},mount_tag={0}", share.tag),
            ]);
        }
        if options.network {
            qemu.args(["-netdev", "user,id=net"]);
            qemu.args(["-device", "virtio-net-device,netdev=net,mac=52:54:00:00:00:07"]);
        }
        let started = Instant::now();
        let qemu = qemu
            .stdin(Stdio::null())
            .spawn()
            .expect("install the Debian package qemu-system-x86");
        Machine {
            qemu,
            dir,
            disk,
            stream: Some(host),
            started,
        }
    }

    pub(crate) fn console(&self) -> String {
        fs::read(self.dir.path().join("console"))
            .map(|bytes| String::from_utf8_lossy(&bytes).into_owned())
            .unwrap_or_default()
    }

    /// Waits for the agent and says hello.
    pub(crate) async fn connect(&mut self) -> (Client, HelloResponse) {
        let stream = self.stream.take().unwrap();
        let connected = tokio::time::timeout(PATIENCE, connect(stream)).await;
        connected.unwrap_or_else(|_| panic!("no agent; the console says:\n{}", self.console()))
    }

    /// Starts a machine with a configured box.
    pub(crate) async fn with_box(
        options: &Options,
        change: impl FnOnce(&mut ConfigureRequest),
    ) -> (Machine, Client, ConfigureResponse) {
        let mut machine = Machine::start(options);
        let (mut client, _) = machine.connect().await;
        let mut request = configure_request(options);
        change(&mut request);
        let response = client
            .configure(request)
            .await
            .unwrap_or_else(|status| panic!("{status}; the console says:\n{}", machine.console()));
        (machine, client, response.into_inner())
    }

    /// Waits until QEMU has ended by itself.
    pub(crate) async fn wait_off(&mut self) {
        let began = Instant::now();
        loop {
            if let Some(status) = self.qemu.try_wait().unwrap() {
                assert!(status.success(), "{status}; the console says:\n{}", self.console());
                return;
            }
            assert!(
                began.elapsed() < PATIENCE,
                "still on; the console says:\n{}",
                self.console()
            );
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    /// Shuts down; true when the box's processes had to be killed.
    pub(crate) async fn shut_down(&mut self, client: &mut Client, signal: i32, grace_ms: u64) -> bool {
        let request = ShutdownRequest {
            signal,
            grace_ms,
            ..Default::default()
        };
        let response = client.shutdown(request).await.unwrap().into_inner();
        self.wait_off().await;
        let console = self.console();
        assert!(
            !console.contains("boxlite-agent: /dev/"),
            "the disk was busy:\n{console}"
        );
        response.killed
    }

    /// Memory of the engine process that is its own (proportional), in MiB.
    pub(crate) fn pss_mib(&self) -> u64 {
        let rollup = fs::read_to_string(format!("/proc/{}/smaps_rollup", self.qemu.id())).unwrap();
        let line = rollup.lines().find(|line| line.starts_with("Pss:")).unwrap();
        line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap() / 1024
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        let _ = self.qemu.kill();
        let _ = self.qemu.wait();
        if std::thread::panicking() {
            eprintln!("the console says:\n{}", self.console());
        }
    }
}

/// Preamble, HTTP/2 and hello on a stream.
pub(crate) async fn connect(stream: UnixStream) -> (Client, HelloResponse) {
    stream.set_nonblocking(true).unwrap();
    let mut stream = tokio::net::UnixStream::from_std(stream).unwrap();
    preamble::host(&mut stream).await.unwrap();
    let channel = transport::client_over(stream).await.unwrap();
    let mut client = GuestClient::with_interceptor(channel.clone(), SendVersion::hello());
    let hello = client
        .hello(HelloRequest {
            protocol_min: PROTOCOL_MIN,
            protocol_max: PROTOCOL_MAX,
            host_version: "test".into(),
        })
        .await
        .unwrap()
        .into_inner();
    let interceptor = SendVersion::negotiated(hello.protocol);
    (GuestClient::with_interceptor(channel, interceptor), hello)
}

pub(crate) fn configure_request(options: &Options) -> ConfigureRequest {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    ConfigureRequest {
        box_id: "test".into(),
        entropy: vec![0x5a; 64].into(),
        unix_time_ns: now.as_nanos() as u64,
        hostname: "box-one".into(),
        machine_id: "00112233445566778899aabbccddeeff".into(),
        rootfs_serial: "bl-rootfs".into(),
        disk_serial: "bl-disk".into(),
        volumes: options
            .shares
            .iter()
            .map(|share| Volume {
                tag: share.tag.into(),
                target: format!("/{}", share.tag),
                read_only: share.read_only,
                file_name: String::new(),
            })
            .collect(),
        network: options.network.then(|| Network {
            mac: "52:54:00:00:00:07".into(),
            address_cidr: "10.0.2.15/24".into(),
            gateway: "10.0.2.2".into(),
            nameservers: vec!["10.0.2.3".into()],
            search: vec![],
        }),
        hosts: vec![],
        volume_dirs: vec!["/data/of/image".into()],
        idle: true,
    }
}

/// A process to start.
pub(crate) fn spec(args: &[&str]) -> ProcessSpec {
    ProcessSpec {
        args: args.iter().map(|arg| Bytes::copy_from_slice(arg.as_bytes())).collect(),
        ..Default::default()
    }
}

/// A shell command line to start.
pub(crate) fn shell(line: &str) -> ProcessSpec {
    spec(&["sh", "-c", line])
}

/// An execution as a client sees it.
pub(crate) struct Execution {
    pub(crate) input: mpsc::Sender<ExecInput>,
    pub(crate) output: Streaming<ExecOutput>,
    pub(crate) pid: i32,
    pub(crate) number: u64,
}

impl Execution {
    pub(crate) async fn start(client: &mut Client, process: ProcessSpec, main: bool) -> Result<Execution, ExecRefused> {
        let (input, messages) = mpsc::channel(4);
        let start = ExecStart {
            process: Some(process),
            main,
        };
        input
            .send(ExecInput {
                input: Some(Input::Start(start)),
            })
            .await
            .unwrap();
        let mut output = client.exec(ReceiverStream::new(messages)).await.unwrap().into_inner();
        match output.message().await.unwrap().unwrap().output.unwrap() {
            Output::Started(started) => Ok(Execution {
                input,
                output,
                pid: started.pid,
                number: started.execution,
            }),
            Output::Refused(refused) => {
                assert_eq!(output.message().await.unwrap(), None);
                Err(refused)
            }
            other => panic!("{other:?} comes first"),
        }
    }

    pub(crate) async fn send(&self, input: Input) {
        self.input.send(ExecInput { input: Some(input) }).await.unwrap();
    }

    pub(crate) async fn signal(&self, client: &mut Client, signal: i32) {
        let execution = self.number;
        let request = SignalExecutionRequest { execution, signal };
        client.signal_execution(request).await.unwrap();
    }

    pub(crate) async fn close_stdin(&self) {
        self.send(Input::CloseStdin(CloseStdin {})).await;
    }

    pub(crate) async fn next(&mut self) -> Output {
        let message = tokio::time::timeout(PATIENCE, self.output.message()).await;
        let message = message.expect("output comes").unwrap().expect("the stream goes on");
        message.output.unwrap()
    }

    /// Reads standard output until it contains `text`.
    pub(crate) async fn read_until(&mut self, text: &str) -> String {
        let mut seen = Vec::new();
        loop {
            match self.next().await {
                Output::Stdout(bytes) => seen.extend_from_slice(&bytes),
                other => panic!("{other:?} before {text:?}; seen: {}", String::from_utf8_lossy(&seen)),
            }
            let seen = String::from_utf8_lossy(&seen);
            if seen.contains(text) {
                return seen.into_owned();
            }
        }
    }

    /// Takes all output and the exit status, which must come last.
    pub(crate) async fn finish(mut self) -> Finished {
        let mut finished = Finished::default();
        loop {
            match self.next().await {
                Output::Stdout(bytes) => finished.stdout.extend_from_slice(&bytes),
                Output::Stderr(bytes) => finished.stderr.extend_from_slice(&bytes),
                Output::Exited(status) => {
                    finished.status = status;
                    assert_eq!(self.output.message().await.unwrap(), None);
                    return finished;
                }
                other => panic!("{other:?} in the middle"),
            }
        }
    }
}

#[derive(Debug, Default)]
pub(crate) struct Finished {
    pub(crate) stdout: Vec<u8>,
    pub(crate) stderr: Vec<u8>,
    pub(crate) status: ExitStatus,
}

impl Finished {
    pub(crate) fn text(&self) -> &str {
        std::str::from_utf8(&self.stdout).unwrap()
    }
}

/// Runs a process without input to its end.
pub(crate) async fn exec(client: &mut Client, process: ProcessSpec) -> Finished {
    let execution = Execution::start(client, process, false).await;
    let execution = execution.unwrap_or_else(|refused| panic!("{refused:?}"));
    execution.finish().await
}

/// What a shell command line prints; it must succeed.
pub(crate) async fn print(client: &mut Client, line: &str) -> String {
    let finished = exec(client, shell(line)).await;
    assert!(finished.status.success(), "{line}: {finished:?}");
    finished.text().to_owned()
}
