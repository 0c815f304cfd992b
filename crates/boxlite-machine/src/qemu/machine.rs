//! One running machine: [`Machine`].

use std::io::{self, Write as _};
use std::os::fd::{OwnedFd, RawFd};
use std::os::unix::net::UnixStream as StdUnixStream;
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::time::{Duration, Instant};

use command_fds::{CommandFdExt as _, FdMapping};
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, BufReader};
use tokio::net::UnixStream;
use tokio::net::unix::pipe;
use tokio::process::{Child, Command};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;

use super::command_line::{AGENT_DEVICE, BootDescriptors, Descriptors, arguments};
use super::engine_stderr::LastLines;
use super::files::{boot_file, check_shares, memory_file, open_disk, open_memory, open_state};
use super::probe::{QemuInfo, SANDBOX, Version};
use super::qmp::{Event, Qmp, QmpError};
use super::refused_port::refused_port;
use super::start_error::{FileRole, StartError};
use super::template::Template;
use super::{tsc, usernet};
use crate::jail::process::{ENGINE_FD, Message, REPORT_FD, SPEC_FD, Spec};
use crate::jail::report::SYSTEM_CALL_FILTER;
use crate::jail::{Confinement, JailReport};
use crate::spec::{Accelerator, MachineSpec, NetworkSpec, PortForward};

/// The jail's report is shorter than this.
const MAX_REPORT_BYTES: u64 = 1 << 20;

/// How long an engine that has closed its channels may take to end.
const EXIT_GRACE: Duration = Duration::from_secs(2);

/// Where a machine's first state comes from.
#[derive(Debug, Clone, Copy)]
pub enum Boot<'a> {
    /// Its kernel starts.
    Kernel,
    /// Its kernel starts, with a file as its memory: a template in the making.
    IntoFile {
        /// The file, as large as the memory.
        ram: &'a Path,
    },
    /// It goes on where a template's guest stood. The specification must be of the
    /// template's shape.
    Template(&'a Template),
}

/// What a start needs beside the machine's specification.
#[derive(Debug, Clone)]
pub struct StartOptions<'a> {
    /// Where the first state comes from.
    pub boot: Boot<'a>,
    /// A program whose `jail` argument calls [`jail::main`](crate::jail::main).
    pub shim: PathBuf,
    /// Chooses the user ID of an engine that root starts; the box's ID.
    pub uid_seed: &'a str,
}

/// Where the time of a start went, in microseconds.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct StartTimings {
    /// From the spawn to the jail's report.
    pub jail_us: u64,
    /// From there until the engine's control channel answered.
    pub engine_us: u64,
}

/// How the engine's process ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EngineExit {
    /// Of the process.
    pub status: ExitStatus,
    /// What the guest did to end the machine, if it did.
    pub reason: Option<GuestStop>,
}

/// What a guest does that ends its machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum GuestStop {
    /// It powered off.
    PoweredOff,
    /// It restarted, which a machine does not do.
    Reset,
    /// It said that it panicked.
    Panicked,
}

/// A machine, from when its engine answers until it is dropped, which kills it.
#[derive(Debug)]
pub struct Machine {
    child: Child,
    pid: u32,
    version: Version,
    qmp: Qmp,
    guest_stop: watch::Receiver<Option<GuestStop>>,
    agent_port: watch::Receiver<bool>,
    stderr: LastLines,
    stderr_task: JoinHandle<()>,
    jail: JailReport,
    ports: Vec<PortForward>,
    agent: Option<StdUnixStream>,
    console: Option<StdUnixStream>,
    timings: StartTimings,
}

impl Machine {
    /// Starts `spec`'s machine in its jail and returns when the engine answers; the guest
    /// then begins to run. Must be called on a thread that lives as long as the machine,
    /// because the engine dies with it; needs a Tokio runtime with I/O. Dropping the future
    /// ends what was started. Opens files (blocking, briefly).
    ///
    /// # Errors
    /// [`StartError`].
    pub async fn start(
        spec: &MachineSpec,
        qemu: &QemuInfo,
        accelerator: Accelerator,
        options: StartOptions<'_>,
    ) -> Result<Self, StartError> {
        let began = Instant::now();
        // KVM tells its guests itself; a template's guest learnt it when that was made.
        let tsc_khz = match (accelerator, &options.boot) {
            (Accelerator::Tcg, Boot::Kernel | Boot::IntoFile { .. }) => tokio::task::spawn_blocking(tsc::frequency_khz)
                .await
                .unwrap_or_default(),
            _ => None,
        };
        let mut confinement = Confinement::of(spec, accelerator, options.uid_seed);
        check_shares(spec)?;
        let mut engine_fds = EngineFds::default();
        let (qmp, qmp_engine) = StdUnixStream::pair().map_err(StartError::Descriptors)?;
        let (console, console_engine) = StdUnixStream::pair().map_err(StartError::Descriptors)?;
        let (agent, agent_engine) = StdUnixStream::pair().map_err(StartError::Descriptors)?;
        let as_caller = !matches!(confinement.identity, crate::jail::Identity::Unprivileged { .. });
        let mut boot_file = |role, path: &Path| boot_file(role, path, as_caller, &mut confinement.readable);
        let mut boot_files = || {
            Ok::<_, StartError>((
                boot_file(FileRole::Kernel, &spec.kernel)?,
                boot_file(FileRole::Initramfs, &spec.initramfs)?,
            ))
        };
        let (boot, state) = match options.boot {
            Boot::Kernel => {
                let (kernel, initramfs) = boot_files()?;
                let boot = BootDescriptors::Kernel {
                    kernel: engine_fds.push(kernel),
                    initramfs: engine_fds.push(initramfs),
                    ram: None,
                    tsc_khz,
                };
                (boot, None)
            }
            Boot::IntoFile { ram } => {
                let (kernel, initramfs) = boot_files()?;
                let boot = BootDescriptors::Kernel {
                    kernel: engine_fds.push(kernel),
                    initramfs: engine_fds.push(initramfs),
                    ram: Some(engine_fds.push(open_memory(ram)?)),
                    tsc_khz,
                };
                confinement.writable.push(ram.to_owned());
                (boot, None)
            }
            Boot::Template(template) => {
                let ram = open_memory(&template.ram())?;
                let state = engine_fds.push(open_state(&template.state())?);
                confinement.writable.push(template.ram());
                let ram = engine_fds.push(ram);
                (BootDescriptors::Template { ram }, Some(state))
            }
        };
        let mut disk_fd = |role, disk: &Option<crate::spec::Disk>| match disk {
            None => Ok(None),
            Some(disk) => open_disk(role, disk).map(|file| Some(engine_fds.push(file))),
        };
        let rootfs = disk_fd(FileRole::Rootfs, &spec.rootfs)?;
        let disk = disk_fd(FileRole::Disk, &spec.disk)?;
        let blank = disk_fd(FileRole::Disk, &spec.blank)?;
        let descriptors = Descriptors {
            qmp: engine_fds.push(qmp_engine),
            console: engine_fds.push(console_engine),
            agent: engine_fds.push(agent_engine),
            boot,
            rootfs,
            disk,
            blank,
        };
        let exports: Vec<&Path> = confinement.shares.iter().map(|share| share.export()).collect();
        let sandbox = qemu.sandbox.then_some(SANDBOX);
        let args = arguments(spec, accelerator, sandbox, &exports, &descriptors)?;
        tracing::debug!(?args, "engine");

        let strict = confinement.strict;
        if strict && !qemu.sandbox {
            let mut report = JailReport::default();
            report.add(SYSTEM_CALL_FILTER, Err("this QEMU was built without it"));
            return Err(StartError::JailIncomplete { report });
        }
        let jail = Spec {
            parent_pid: std::process::id(),
            binary: qemu.path.clone(),
            args,
            engine_fds: engine_fds.0.len() as u32,
            confinement,
        };
        let (mut child, report) = spawn(&options.shim, &jail, engine_fds)?;
        let pid = child.id().unwrap_or(0);
        let (stderr, stderr_task) = match child.stderr.take() {
            Some(stream) => LastLines::read(stream),
            None => LastLines::read(tokio::io::empty()),
        };
        let mut starting = Starting {
            child,
            stderr,
            stderr_task,
        };

        let mut jail = starting.jail_report(report).await?;
        jail.add(
            SYSTEM_CALL_FILTER,
            qemu.sandbox.then_some(()).ok_or("this QEMU was built without it"),
        );
        let jailed = Instant::now();
        let (sender, events) = mpsc::unbounded_channel();
        let (stop_sender, guest_stop) = watch::channel(None);
        let (port_sender, agent_port) = watch::channel(false);
        tokio::spawn(follow(events, stop_sender, port_sender));
        qmp.set_nonblocking(true).map_err(StartError::Descriptors)?;
        let qmp = Qmp::new(UnixStream::from_std(qmp).map_err(StartError::Descriptors)?, sender);
        let ports: &[PortForward] = match &spec.network {
            NetworkSpec::None => &[],
            NetworkSpec::User { ports, .. } => ports,
        };
        let ports = match negotiate(&qmp, ports, state).await {
            Ok(ports) => ports,
            Err(QmpError::Closed | QmpError::Write(_)) => return Err(starting.exited(ports).await),
            Err(error) => return Err(error.into()),
        };
        Ok(Self {
            child: starting.child,
            pid,
            version: qemu.version,
            qmp,
            guest_stop,
            agent_port,
            stderr: starting.stderr,
            stderr_task: starting.stderr_task,
            jail,
            ports,
            agent: Some(agent),
            console: Some(console),
            timings: StartTimings {
                jail_us: micros(began, jailed),
                engine_us: micros(jailed, Instant::now()),
            },
        })
    }

    /// The stream to the guest's agent, once.
    pub fn take_agent_stream(&mut self) -> Option<StdUnixStream> {
        self.agent.take()
    }

    /// The guest's serial console, once. The guest stands still when nobody reads it.
    pub fn take_console(&mut self) -> Option<StdUnixStream> {
        self.console.take()
    }

    /// The engine's process.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.pid
    }

    /// The engine's version.
    #[must_use]
    pub fn version(&self) -> Version {
        self.version
    }

    /// How the engine is confined.
    #[must_use]
    pub fn jail_report(&self) -> &JailReport {
        &self.jail
    }

    /// The published ports, in the order of the specification, with the host's ports that
    /// they really have.
    #[must_use]
    pub fn published_ports(&self) -> &[PortForward] {
        &self.ports
    }

    /// Where the time went.
    #[must_use]
    pub fn timings(&self) -> StartTimings {
        self.timings
    }

    /// The last lines that the engine wrote to its standard error.
    #[must_use]
    pub fn stderr_tail(&self) -> Vec<String> {
        self.stderr.get()
    }

    /// Waits until the engine has ended, and [`stderr_tail`](Self::stderr_tail) is complete.
    /// Cancel-safe.
    ///
    /// # Errors
    /// As wait(2).
    pub async fn wait(&mut self) -> io::Result<EngineExit> {
        let status = self.child.wait().await?;
        if !self.stderr_task.is_finished() {
            // The pipe may be open in a process that the engine left behind: not for ever.
            let _ = tokio::time::timeout(EXIT_GRACE, &mut self.stderr_task).await;
        }
        let reason = *self.guest_stop.borrow();
        Ok(EngineExit { status, reason })
    }

    /// Stands the guest still.
    ///
    /// # Errors
    /// [`QmpError`].
    pub async fn stop(&self) -> Result<(), QmpError> {
        self.qmp.execute("stop", Value::Null).await.map(drop)
    }

    /// Lets the guest go on.
    ///
    /// # Errors
    /// [`QmpError`].
    pub async fn cont(&self) -> Result<(), QmpError> {
        self.qmp.execute("cont", Value::Null).await.map(drop)
    }

    /// Whether the guest's agent has opened its port.
    #[must_use]
    pub fn agent_port(&self) -> watch::Receiver<bool> {
        self.agent_port.clone()
    }

    /// The control channel, for what templates are made with.
    pub(super) fn qmp(&self) -> &Qmp {
        &self.qmp
    }

    /// Ends the engine, which flushes its disks; [`wait`](Self::wait) sees the end.
    ///
    /// # Errors
    /// [`QmpError`], except when the engine is gone before it has answered.
    pub async fn quit(&self) -> Result<(), QmpError> {
        match self.qmp.execute("quit", Value::Null).await {
            Ok(_) | Err(QmpError::Closed) => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// Kills the engine; [`wait`](Self::wait) sees the end.
    ///
    /// # Errors
    /// As kill(2); none when it is gone already.
    pub fn kill(&mut self) -> io::Result<()> {
        self.child.start_kill()
    }
}

/// An engine that does not answer yet. Killed when dropped.
struct Starting {
    child: Child,
    stderr: LastLines,
    stderr_task: JoinHandle<()>,
}

impl Starting {
    /// What the jail says; the report only when the process has become the engine.
    async fn jail_report(&mut self, pipe: OwnedFd) -> Result<JailReport, StartError> {
        let pipe = pipe::Receiver::from_owned_fd(pipe).map_err(StartError::Descriptors)?;
        let mut lines = BufReader::new(pipe.take(MAX_REPORT_BYTES)).lines();
        let mut report = None;
        while let Some(line) = lines.next_line().await.map_err(StartError::Descriptors)? {
            match serde_json::from_str(&line).map_err(|error| StartError::Descriptors(error.into()))? {
                Message::Report(applied) => report = Some(applied),
                Message::Incomplete(report) => return Err(StartError::JailIncomplete { report }),
                Message::Failed(failure) => return Err(StartError::Jail { failure }),
            }
        }
        match report {
            Some(report) => Ok(report),
            None => Err(self.exited(&[]).await),
        }
    }

    /// Why the engine ended.
    async fn exited(&mut self, ports: &[PortForward]) -> StartError {
        // It has closed its end, so it is about to be gone; its own status says more than a
        // signal of ours.
        let ended = match tokio::time::timeout(EXIT_GRACE, self.child.wait()).await {
            Ok(ended) => ended,
            Err(_) => match self.child.start_kill() {
                Ok(()) => self.child.wait().await,
                Err(error) => Err(error),
            },
        };
        let status = match ended {
            Ok(status) => status,
            Err(source) => return StartError::Descriptors(source),
        };
        let _ = tokio::time::timeout(EXIT_GRACE, &mut self.stderr_task).await;
        let stderr = self.stderr.get();
        refused_port(&stderr, ports).unwrap_or(StartError::EngineExited { status, stderr })
    }
}

/// The guest's memory is in a file: only the devices' state is moved.
pub(super) fn device_state_only() -> Value {
    json!({ "capabilities": [{ "capability": "x-ignore-shared", "state": true }] })
}

/// Capabilities, the state to go on from (a descriptor), and the ports that were really taken.
async fn negotiate(qmp: &Qmp, ports: &[PortForward], state: Option<RawFd>) -> Result<Vec<PortForward>, QmpError> {
    match state {
        None => drop(qmp.execute("qmp_capabilities", Value::Null).await?),
        // One round trip: the engine takes them in this order.
        Some(state) => drop(tokio::try_join!(
            biased;
            qmp.execute("qmp_capabilities", Value::Null),
            qmp.execute("migrate-set-capabilities", device_state_only()),
            qmp.execute("migrate-incoming", json!({ "uri": format!("fd:{state}") })),
        )?),
    }
    if ports.is_empty() {
        return Ok(Vec::new());
    }
    let command = json!({ "command-line": "info usernet" });
    let text = qmp.execute("human-monitor-command", command).await?;
    Ok(usernet::resolve(ports, text.as_str().unwrap_or_default()))
}

/// Keeps what the guest did to end the machine, and whether its agent has opened its port.
async fn follow(
    mut events: mpsc::UnboundedReceiver<Event>,
    stop: watch::Sender<Option<GuestStop>>,
    agent_port: watch::Sender<bool>,
) {
    while let Some(event) = events.recv().await {
        if event.name == "VSERPORT_CHANGE" && event.data["id"] == AGENT_DEVICE {
            agent_port.send_replace(event.data["open"] == true);
            continue;
        }
        let what = match (event.name.as_str(), event.data["reason"].as_str()) {
            ("GUEST_PANICKED", _) => GuestStop::Panicked,
            ("SHUTDOWN", Some("guest-shutdown")) => GuestStop::PoweredOff,
            ("SHUTDOWN", Some("guest-reset")) => GuestStop::Reset,
            ("SHUTDOWN", Some("guest-panic")) => GuestStop::Panicked,
            _ => continue,
        };
        // The first: a panic is followed by a reset.
        stop.send_if_modified(|stop| stop.is_none() && stop.replace(what).is_none());
    }
}

/// The descriptors for the engine, numbered from [`ENGINE_FD`].
#[derive(Debug, Default)]
struct EngineFds(Vec<OwnedFd>);

impl EngineFds {
    fn push(&mut self, fd: impl Into<OwnedFd>) -> RawFd {
        self.0.push(fd.into());
        ENGINE_FD + self.0.len() as RawFd - 1
    }
}

/// Starts the jail's process, and gives the pipe on which it reports.
fn spawn(shim: &Path, spec: &Spec, engine_fds: EngineFds) -> Result<(Child, OwnedFd), StartError> {
    let json = serde_json::to_vec(spec).map_err(|error| StartError::Descriptors(error.into()))?;
    let spec_file = memory_file("boxlite-jail", |file| file.write_all(&json)).map_err(StartError::Descriptors)?;
    let (report, report_write) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC)
        .map_err(|errno| StartError::Descriptors(errno.into()))?;
    rustix::io::ioctl_fionbio(&report, true).map_err(|errno| StartError::Descriptors(errno.into()))?;
    let mut mappings = vec![
        FdMapping {
            parent_fd: spec_file.into(),
            child_fd: SPEC_FD,
        },
        FdMapping {
            parent_fd: report_write,
            child_fd: REPORT_FD,
        },
    ];
    mappings.extend(
        engine_fds
            .0
            .into_iter()
            .zip(ENGINE_FD..)
            .map(|(parent_fd, child_fd)| FdMapping { parent_fd, child_fd }),
    );
    let mut command = std::process::Command::new(shim);
    command
        .arg("jail")
        .env_clear()
        .current_dir("/")
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped());
    // The numbers are all different by construction.
    command
        .fd_mappings(mappings)
        .map_err(|error| StartError::Descriptors(io::Error::other(error)))?;
    let mut command = Command::from(command);
    let child = command.kill_on_drop(true).spawn().map_err(|source| StartError::Spawn {
        path: shim.to_owned(),
        source,
    })?;
    Ok((child, report))
}

fn micros(from: Instant, to: Instant) -> u64 {
    u64::try_from(to.duration_since(from).as_micros()).unwrap_or(u64::MAX)
}
