//! Bare machines: QEMU, boxlite's kernel, and an init of a hundred lines.

use std::fs::File;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use command_fds::{CommandFdExt as _, FdMapping};
use serde_json::{Value, json};

use super::qmp::Qmp;
use crate::bench::milliseconds;
use crate::error::BenchError;

/// A guest that is silent for longer has failed.
const PATIENCE: Duration = Duration::from_secs(60);
/// Size of the sparse disks: what is in them is never read.
const DISK_BYTES: u64 = 4 << 30;
/// How often it is asked whether the template is saved. Nothing is measured meanwhile.
const SAVE_POLL: Duration = Duration::from_millis(2);
/// From when the template's init has said that it waits until it really does.
const SETTLE: Duration = Duration::from_millis(100);

const QMP_FD: i32 = 3;
const PORT_FD: i32 = 4;
const STATE_FD: i32 = 5;

/// What bare machines are made of.
#[derive(Debug, Clone)]
pub(crate) struct Kit {
    /// QEMU.
    pub(crate) engine: PathBuf,
    /// `kvm` or `tcg`.
    pub(crate) accelerator: &'static str,
    /// boxlite's.
    pub(crate) kernel: PathBuf,
    /// With the floor's init.
    pub(crate) initramfs: PathBuf,
    /// For its files.
    pub(crate) work: PathBuf,
    /// As the boxes have that stand beside it.
    pub(crate) memory_mib: u64,
}

/// A bare machine that runs. It is killed when it is dropped.
#[derive(Debug)]
pub(crate) struct BareMachine {
    child: Child,
    port: BufReader<UnixStream>,
    qmp: Qmp,
}

/// A bare machine that has booted, saved.
#[derive(Debug)]
pub(crate) struct Template {
    kit: Kit,
    ram: PathBuf,
    state: PathBuf,
}

impl Drop for BareMachine {
    fn drop(&mut self) {
        end(&mut self.child);
    }
}

fn end(child: &mut Child) {
    // It may have ended by itself; there is nobody to tell of another failure.
    let _ = child.kill();
    let _ = child.wait();
}

impl Kit {
    /// As boxlite starts it, as far as it goes without disks, network and agent.
    fn command(&self, mode: &str) -> Command {
        let mut command = Command::new(&self.engine);
        command.args(["-nodefaults", "-no-user-config", "-no-reboot", "-display", "none"]);
        command.args(match self.accelerator {
            "kvm" => ["-accel", "kvm", "-cpu", "host"],
            // Without what is slow under emulation, as boxlite.
            _ => [
                "-accel",
                "tcg,thread=multi,tb-size=128",
                "-cpu",
                "max,-erms,-fsrm,-smap",
            ],
        });
        let machine = match self.accelerator {
            "kvm" => "microvm,acpi=off,memory-backend=ram,pit=off,pic=off,rtc=on",
            _ => "microvm,acpi=off,memory-backend=ram",
        };
        command.args(["-M", machine, "-smp", "1", "-m", &self.memory_mib.to_string()]);
        command.arg("-kernel").arg(&self.kernel);
        command.arg("-initrd").arg(&self.initramfs);
        let mut line = "quiet panic=-1 reboot=t console=ttyS0 random.trust_cpu=on".to_owned();
        if self.accelerator != "kvm" {
            line.push_str(" no_timer_check lapic_timer_hz=1000000000");
            if let Some(khz) = counter_khz() {
                line.push_str(&format!(" tsc_early_khz={khz} tsc=reliable lpj={}", u64::from(khz) * 4));
            }
        }
        // Not after a `--`, which would keep the devices that QEMU appends from the kernel.
        command.args(["-append", &format!("{line} {mode}")]);
        command
    }

    fn memory(&self, command: &mut Command, backend: &str) {
        let size = self.memory_mib;
        command.args(["-object", &format!("{backend},id=ram,size={size}M,merge=off,dump=off")]);
    }

    /// Boots a machine until its init has printed; gives milliseconds. Blocking.
    pub(crate) fn boot(&self) -> Result<f64, BenchError> {
        let mut command = self.command("print");
        self.memory(&mut command, "memory-backend-memfd");
        command.args(["-serial", "stdio"]);
        command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null());
        let begin = Instant::now();
        let mut child = spawn(&mut command)?;
        let found = child.stdout.take().is_some_and(|console| {
            BufReader::new(console)
                .split(b'\n')
                .map_while(Result::ok)
                .any(|line| line.starts_with(b"first output"))
        });
        let elapsed = milliseconds(begin);
        end(&mut child);
        if found {
            Ok(elapsed)
        } else {
            Err(silent("the raw boot", "its first output"))
        }
    }

    /// Devices as a box with one volume and a network has them.
    fn devices(&self, command: &mut Command) -> Result<(), BenchError> {
        let folder = self.work.join("floor-volume");
        std::fs::create_dir_all(&folder).map_err(BenchError::file(&folder))?;
        command.args([
            "-chardev",
            &format!("socket,id=qmp,fd={QMP_FD}"),
            "-mon",
            "chardev=qmp,mode=control",
        ]);
        command.args(["-device", "virtio-serial-device"]);
        command.args(["-chardev", &format!("socket,id=port,fd={PORT_FD}")]);
        command.args(["-device", "virtserialport,chardev=port"]);
        for name in ["image", "disk"] {
            let path = self.work.join(format!("floor-{name}"));
            let disk = File::options().create(true).truncate(false).write(true).open(&path);
            disk.and_then(|disk| disk.set_len(DISK_BYTES))
                .map_err(BenchError::file(&path))?;
            let read_only = if name == "image" { ",readonly=on" } else { "" };
            let drive = format!(
                "if=none,id={name},format=raw,file={},file.locking=off{read_only}",
                path.display()
            );
            command.args(["-drive", &drive, "-device", &format!("virtio-blk-device,drive={name}")]);
        }
        let share = format!("local,id=volume,path={},security_model=none", folder.display());
        command.args([
            "-fsdev",
            &share,
            "-device",
            "virtio-9p-device,fsdev=volume,mount_tag=volume0",
        ]);
        command.args([
            "-netdev",
            "user,id=net,ipv6=off",
            "-device",
            "virtio-net-device,netdev=net",
        ]);
        Ok(())
    }

    /// Starts the machine, with its control channel, its port and perhaps a saved state.
    fn start(&self, mut command: Command, state: Option<&Path>) -> Result<BareMachine, BenchError> {
        let pair = || UnixStream::pair().map_err(BenchError::stream("socketpair"));
        let ((qmp, engine_qmp), (port, engine_port)) = (pair()?, pair()?);
        port.set_read_timeout(Some(PATIENCE))
            .map_err(BenchError::stream("port"))?;
        let mut mappings = vec![mapping(engine_qmp.into(), QMP_FD), mapping(engine_port.into(), PORT_FD)];
        if let Some(path) = state {
            let state = File::open(path).map_err(BenchError::file(path))?;
            mappings.push(mapping(state.into(), STATE_FD));
        }
        // The numbers are distinct, so there is no collision.
        let _ = command.fd_mappings(mappings);
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let mut child = spawn(&mut command)?;
        // The command keeps our copies of QEMU's ends open: its end would not be seen.
        drop(command);
        let mut qmp = match Qmp::greet(qmp) {
            Ok(qmp) => qmp,
            Err(error) => {
                end(&mut child);
                return Err(error);
            }
        };
        let mut commands = vec![("qmp_capabilities", json!({}))];
        if state.is_some() {
            commands.push(("migrate-set-capabilities", device_state_only()));
            commands.push(("migrate-incoming", json!({ "uri": format!("fd:{STATE_FD}") })));
        }
        let answered = qmp.execute(&commands);
        let machine = BareMachine {
            child,
            port: BufReader::new(port),
            qmp,
        };
        answered.map(|_| machine)
    }

    /// Boots a machine with all devices until it serves, and saves it. Blocking.
    pub(crate) fn template(&self) -> Result<Template, BenchError> {
        let (ram, state) = (self.work.join("floor-ram"), self.work.join("floor-state"));
        let mut command = self.command("serve");
        self.memory(
            &mut command,
            &format!("memory-backend-file,share=on,mem-path={}", ram.display()),
        );
        self.devices(&mut command)?;
        let mut machine = self.start(command, None)?;
        machine.expect("ready\n")?;
        std::thread::sleep(SETTLE);
        machine.qmp.execute(&[
            ("migrate-set-capabilities", device_state_only()),
            ("migrate", json!({ "uri": format!("exec:cat > '{}'", state.display()) })),
        ])?;
        loop {
            let status = machine.qmp.execute(&[("query-migrate", json!({}))])?;
            match status["status"].as_str() {
                Some("completed") => break,
                Some("failed" | "cancelled") => return Err(silent("saving the bare machine", "completed")),
                _ => std::thread::sleep(SAVE_POLL),
            }
        }
        Ok(Template {
            kit: self.clone(),
            ram,
            state,
        })
    }
}

impl Template {
    /// Starts a machine from it. Blocking.
    pub(crate) fn restore(&self) -> Result<BareMachine, BenchError> {
        let mut command = self.kit.command("serve");
        let ram = self.ram.display();
        self.kit
            .memory(&mut command, &format!("memory-backend-file,share=off,mem-path={ram}"));
        self.kit.devices(&mut command)?;
        command.args(["-incoming", "defer"]);
        self.kit.start(command, Some(&self.state))
    }

    /// Restores a machine and lets it run a program; gives milliseconds until its output.
    /// Blocking.
    pub(crate) fn first_output(&self) -> Result<f64, BenchError> {
        let begin = Instant::now();
        let mut machine = self.restore()?;
        machine.ask("run")?;
        machine.expect(super::FIRST_OUTPUT)?;
        Ok(milliseconds(begin))
    }
}

impl BareMachine {
    /// Sends a request. Blocking.
    pub(crate) fn ask(&mut self, request: &str) -> Result<(), BenchError> {
        let line = format!("{request}\n");
        self.port
            .get_mut()
            .write_all(line.as_bytes())
            .map_err(BenchError::stream("port"))
    }

    /// Takes a line. Blocking.
    pub(crate) fn expect(&mut self, line: &'static str) -> Result<(), BenchError> {
        let mut got = String::new();
        self.port.read_line(&mut got).map_err(BenchError::stream("port"))?;
        if got == line {
            return Ok(());
        }
        Err(BenchError::Answer {
            what: "a bare machine",
            expected: line.trim_end().to_owned(),
            got,
        })
    }

    /// A request that is answered with `ok`; gives milliseconds. Blocking.
    pub(crate) fn round_trip(&mut self, request: &str) -> Result<f64, BenchError> {
        let begin = Instant::now();
        self.ask(request)?;
        self.expect("ok\n")?;
        Ok(milliseconds(begin))
    }

    /// Bytes from the guest; gives milliseconds. Blocking.
    pub(crate) fn source(&mut self, bytes: u64) -> Result<f64, BenchError> {
        let begin = Instant::now();
        self.ask(&format!("source {bytes}"))?;
        let mut limited = (&mut self.port).take(bytes);
        let taken = std::io::copy(&mut limited, &mut std::io::sink()).map_err(BenchError::stream("port"))?;
        if taken == bytes {
            Ok(milliseconds(begin))
        } else {
            Err(silent("reading from a bare machine", "all bytes"))
        }
    }

    /// Bytes to the guest, in writes of `block`; gives milliseconds. Blocking.
    pub(crate) fn sink(&mut self, blocks: u64, block: &[u8]) -> Result<f64, BenchError> {
        let begin = Instant::now();
        self.ask(&format!("sink {}", blocks * block.len() as u64))?;
        for _ in 0..blocks {
            self.port
                .get_mut()
                .write_all(block)
                .map_err(BenchError::stream("port"))?;
        }
        self.expect("ok\n")?;
        Ok(milliseconds(begin))
    }

    /// The engine's process.
    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }
}

/// The host's time stamp counter, so that the kernel needs not measure it: what boxlite tells
/// an emulated machine's kernel, too; one under KVM asks KVM. Absent where the host's kernel keeps
/// its time with something else.
fn counter_khz() -> Option<u32> {
    let source = std::fs::read_to_string("/sys/devices/system/clocksource/clocksource0/current_clocksource").ok()?;
    if source.trim() != "tsc" {
        return None;
    }
    let text = std::fs::read_to_string("/proc/cpuinfo").ok()?;
    let line = text.lines().find(|line| line.starts_with("cpu MHz"))?;
    let mhz: f64 = line.split(':').nth(1)?.trim().parse().ok()?;
    Some((mhz * 1e3) as u32)
}

fn device_state_only() -> Value {
    json!({ "capabilities": [{ "capability": "x-ignore-shared", "state": true }] })
}

fn mapping(parent_fd: OwnedFd, child_fd: i32) -> FdMapping {
    FdMapping { parent_fd, child_fd }
}

fn spawn(command: &mut Command) -> Result<Child, BenchError> {
    let program = command.get_program().to_string_lossy().into_owned();
    command.spawn().map_err(|source| BenchError::Spawn { program, source })
}

fn silent(what: &'static str, expected: &str) -> BenchError {
    BenchError::Answer {
        what,
        expected: expected.to_owned(),
        got: "the end".to_owned(),
    }
}
