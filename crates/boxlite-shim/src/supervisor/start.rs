//! Bringing a box up, stage by stage.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use boxlite_machine::qemu::{self, Boot, EngineExit, Machine, QemuInfo, StartOptions};
use boxlite_machine::{Accelerator, JailReport, MachineSpec, PortForward, accelerator};
use boxlite_protocol::guest::{
    ConfigureRequest, HelloRequest, HelloResponse, HostEntry, Network, ProcessSpec, TerminalSize, Volume,
};
use boxlite_protocol::version::SendVersion;
use boxlite_protocol::{PROTOCOL_MAX, PROTOCOL_MIN};
use boxlite_shim::{
    LaunchConfig, Ready, Stage, StageTimings, StartFailure, StartMode, TemplateConfig, default_start_timeout_ms,
};

use super::agent::{Agent, Stream, StreamBroke};
use super::console::Console;
use super::failure;
use super::guest_text;
use super::main_process::{Log, MainProcess, Phase};
use super::publish::Publish;
use super::status::Status;
use super::warm::ColdReason;

/// A start may take so many times the longest silence that it may have in it.
const SILENCES: u32 = 5;

/// How long an engine may take to end after its streams have broken.
const LAST_BREATH: Duration = Duration::from_secs(2);

/// A box on its way up. What has been reached stays here when it fails.
#[derive(Debug)]
pub(crate) struct Start<'a> {
    pub(crate) config: &'a LaunchConfig,
    pub(crate) status: &'a mut Status,
    pub(crate) publish: &'a Publish,
    pub(crate) main: Option<&'a Arc<MainProcess>>,
    pub(crate) stage: Stage,
    pub(crate) machine: Option<Machine>,
    pub(crate) console: Option<Console>,
}

/// The parts of a box that is up, beside its machine and console.
#[derive(Debug)]
pub(crate) struct Up {
    pub(crate) agent: Agent,
    pub(crate) ready: Ready,
    /// What later starts could begin with.
    pub(crate) template: Option<TemplateConfig>,
}

/// A machine that is this box's, and on which nothing of the box runs yet.
#[derive(Debug)]
pub(super) struct Booted {
    agent: Agent,
    hello: HelloResponse,
    version: SendVersion,
    pid: u32,
    jail: JailReport,
    ports: Vec<PortForward>,
}

impl Start<'_> {
    /// All stages. Cancelled by dropping it: the machine is then still here.
    pub(crate) async fn run(&mut self) -> Result<Up, StartFailure> {
        let config = self.config;
        let mut timings = StageTimings::default();

        self.enter(Stage::Prepare);
        let engine = config.machine.engine.clone();
        let qemu = tokio::task::spawn_blocking(move || qemu::probe(&engine))
            .await
            .map_err(|error| failure::internal(Stage::Prepare, "probing the engine", &error))?
            .map_err(|error| failure::no_engine(&error))?;
        let choice = accelerator::choose(&qemu.path, &config.machine)
            .await
            .map_err(|error| failure::no_accelerator(&error))?;
        let timeout_ms = config
            .start_timeout_ms
            .unwrap_or(default_start_timeout_ms(choice.accelerator));
        let silence = Duration::from_millis(timeout_ms.max(1));
        timings.prepare_us = self.status.elapsed_us();

        let mut plan = self.plan(&qemu, choice.accelerator)?;
        let (booted, cold_reason) = self
            .boot_as_planned(&mut plan, (&qemu, choice.accelerator), silence, &mut timings)
            .await?;
        let Booted {
            agent,
            hello,
            version,
            pid,
            jail,
            ports,
        } = booted;
        let console = self
            .console
            .clone()
            .ok_or_else(|| failure::interrupted(Stage::Configure, "its console is gone"))?;

        let mut main_pid = None;
        if let (Some(main), Some(process), false) = (self.main, &config.main, config.wait_for_attach) {
            self.enter(Stage::Main);
            let began = Instant::now();
            let log = Log::open(&config.box_dir, config.log_limits);
            let start = main.start(agent.client(version), process_spec(process), log);
            let phase = self
                .watched(silence, start)
                .await?
                .map_err(|status| failure::refused_by_agent(Stage::Main, &status, &console))?;
            match phase {
                Phase::Running(started) => main_pid = Some(started.pid),
                Phase::Refused(refused) => return Err(failure::main_refused(&refused)),
                _ => {}
            }
            timings.main_us = micros_since(began);
        }
        timings.total_us = self.status.elapsed_us();
        let mut warnings = qemu.warnings();
        warnings.extend(cold_reason.as_ref().and_then(ColdReason::warning));
        Ok(Up {
            agent,
            ready: Ready {
                shim_pid: std::process::id(),
                engine_pid: pid,
                timings,
                start_mode: match cold_reason {
                    None => StartMode::Warm,
                    Some(_) => StartMode::Cold,
                },
                cold_reason: cold_reason.map(ColdReason::into_text),
                accelerator: choice.accelerator,
                accelerator_evidence: choice.evidence,
                engine: "qemu".to_owned(),
                engine_version: qemu.version.to_string(),
                warnings,
                ports,
                jail,
                agent_version: guest_text::message(&hello.agent_version),
                kernel_release: guest_text::message(&hello.kernel_release),
                main_pid,
            },
            template: plan.to_make,
        })
    }

    /// From the engine's start to where the machine is this box's.
    pub(super) async fn boot(
        &mut self,
        boot: Boot<'_>,
        spec: &MachineSpec,
        engine: (&QemuInfo, Accelerator),
        silence: Duration,
        timings: &mut StageTimings,
    ) -> Result<Booted, StartFailure> {
        let config = self.config;
        let (qemu, accelerator) = engine;
        self.enter(Stage::Jail);
        let options = StartOptions {
            boot,
            // Not by its path: the bundle may have been replaced meanwhile.
            shim: PathBuf::from("/proc/self/exe"),
            uid_seed: &config.box_id,
        };
        let machine = Machine::start(spec, qemu, accelerator, options);
        let mut machine = tokio::time::timeout(silence, machine)
            .await
            .map_err(|_| failure::engine_silent(u64::try_from(silence.as_millis()).unwrap_or(u64::MAX)))?
            .map_err(|error| failure::not_started(&error))?;
        timings.jail_us = machine.timings().jail_us;
        timings.engine_us = machine.timings().engine_us;
        self.publish.engine(Some(machine.pid()));
        let (agent_stream, console_stream) = (machine.take_agent_stream(), machine.take_console());
        let machine = self.machine.insert(machine);
        let (pid, jail, ports) = (
            machine.pid(),
            machine.jail_report().clone(),
            machine.published_ports().to_vec(),
        );
        let internal = |error: std::io::Error| failure::internal(Stage::Engine, "the engine's streams", &error);
        let missing = || internal(std::io::ErrorKind::NotFound.into());
        let console_stream = console_stream.ok_or_else(missing)?;
        console_stream.set_nonblocking(true).map_err(internal)?;
        let console_stream = tokio::net::UnixStream::from_std(console_stream).map_err(internal)?;
        let console = Console::spawn(console_stream, &config.machine.console_log);
        self.console = Some(console.clone());

        self.enter(Stage::Kernel);
        let began = Instant::now();
        let stream = Stream::new(agent_stream.ok_or_else(missing)?).map_err(internal)?;
        let stream = self
            .watched(silence, stream.find_agent())
            .await?
            .map_err(|error| failure::no_connection(Stage::Kernel, &error, &console))?;
        timings.boot_us = micros_since(began);

        self.enter(Stage::Agent);
        let began = Instant::now();
        let agent = self
            .watched(silence, stream.connect())
            .await?
            .map_err(|error| failure::no_connection(Stage::Agent, &error, &console))?;
        let mut client = agent.client(SendVersion::hello());
        let hello = HelloRequest {
            protocol_min: PROTOCOL_MIN,
            protocol_max: PROTOCOL_MAX,
            host_version: env!("CARGO_PKG_VERSION").to_owned(),
        };
        let hello = self
            .watched(silence, client.hello(hello))
            .await?
            .and_then(|answer| {
                let hello = answer.into_inner();
                boxlite_protocol::negotiate(hello.protocol, hello.protocol)?;
                Ok(hello)
            })
            .map_err(|status| failure::refused_by_agent(Stage::Agent, &status, &console))?;
        let version = SendVersion::negotiated(hello.protocol);
        // The guest's own clock knows of the boot only, which may have been another machine's.
        if matches!(boot, Boot::Kernel) {
            timings.kernel_us = hello.kernel_us;
            timings.agent_us = hello.agent_us;
        }
        timings.hello_us = micros_since(began);

        self.enter(Stage::Configure);
        let began = Instant::now();
        let request = configure_request(config, spec)
            .map_err(|error| failure::internal(Stage::Configure, "entropy for the guest", &error))?;
        let mut client = agent.client(version.clone());
        let configured = self
            .watched(silence, client.configure(request))
            .await?
            .map_err(|status| failure::refused_by_agent(Stage::Configure, &status, &console))?
            .into_inner();
        timings.mounts_us = configured.mounts_us;
        timings.configure_us = micros_since(began);

        Ok(Booted {
            agent,
            hello,
            version,
            pid,
            jail,
            ports,
        })
    }

    fn enter(&mut self, stage: Stage) {
        self.stage = stage;
        self.status.stage(stage);
    }

    /// `work`, unless the engine ends, the guest panics, or nothing moves for `silence`.
    async fn watched<T, E: StreamBroke>(
        &mut self,
        silence: Duration,
        work: impl Future<Output = Result<T, E>>,
    ) -> Result<Result<T, E>, StartFailure> {
        let stage = self.stage;
        let (Some(machine), Some(console)) = (&mut self.machine, &self.console) else {
            return Ok(work.await);
        };
        let mut bytes = console.bytes();
        let mut console_open = true;
        let whole = tokio::time::sleep(silence * SILENCES);
        tokio::pin!(work, whole);
        loop {
            tokio::select! {
                biased;
                done = &mut work => {
                    // The streams of an engine that ends break before it is gone.
                    let broke = done.as_ref().is_err_and(StreamBroke::stream_broke);
                    if broke && let Ok(exit) = tokio::time::timeout(LAST_BREATH, machine.wait()).await {
                        return Err(engine_ended(stage, exit, machine, console).await);
                    }
                    return Ok(done);
                }
                exit = machine.wait() => return Err(engine_ended(stage, exit, machine, console).await),
                changed = bytes.changed(), if console_open => {
                    console_open = changed.is_ok();
                    if console.panic().is_some() {
                        console.ended().await;
                        return Err(failure::panicked(stage, console));
                    }
                }
                () = tokio::time::sleep(silence) => return Err(failure::silent(stage, silence.as_millis(), console)),
                () = &mut whole => return Err(failure::silent(stage, (silence * SILENCES).as_millis(), console)),
            }
        }
    }
}

async fn engine_ended(
    stage: Stage,
    exit: std::io::Result<EngineExit>,
    machine: &Machine,
    console: &Console,
) -> StartFailure {
    console.ended().await;
    match exit {
        Ok(exit) => failure::engine_ended(stage, &exit, machine.stderr_tail(), console),
        Err(error) => failure::internal(stage, "waiting for the engine", &error),
    }
}

fn micros_since(began: Instant) -> u64 {
    u64::try_from(began.elapsed().as_micros()).unwrap_or(u64::MAX)
}

fn configure_request(config: &LaunchConfig, spec: &MachineSpec) -> std::io::Result<ConfigureRequest> {
    // A new box's disk may have taken the place of the blank one.
    let own = config.machine.disk.as_ref().map(|disk| &disk.file);
    let disk_serial = match &spec.blank {
        Some(blank) if Some(&blank.file) == own => &blank.serial,
        _ => &config.configure.disk_serial,
    };
    let mut entropy = vec![0; 64];
    rustix::rand::getrandom(&mut entropy, rustix::rand::GetRandomFlags::empty())?;
    let configure = &config.configure;
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Ok(ConfigureRequest {
        box_id: config.box_id.clone(),
        entropy: entropy.into(),
        unix_time_ns: u64::try_from(now.as_nanos()).unwrap_or(u64::MAX),
        hostname: configure.hostname.clone(),
        machine_id: configure.machine_id.clone(),
        rootfs_serial: configure.rootfs_serial.clone(),
        disk_serial: disk_serial.clone(),
        volumes: configure
            .volumes
            .iter()
            .map(|volume| Volume {
                tag: volume.tag.clone(),
                target: volume.target.clone(),
                read_only: volume.read_only,
                file_name: volume.file_name.clone().unwrap_or_default(),
            })
            .collect(),
        network: configure.network.as_ref().map(|network| Network {
            mac: network.mac.clone(),
            address_cidr: network.address_cidr.clone(),
            gateway: network.gateway.clone(),
            nameservers: network.nameservers.clone(),
            search: network.search.clone(),
        }),
        hosts: configure
            .hosts
            .iter()
            .map(|host| HostEntry {
                name: host.name.clone(),
                address: host.address.clone(),
            })
            .collect(),
        volume_dirs: configure.volume_dirs.clone(),
        idle: config.main.is_none(),
    })
}

/// The main process, as the agent is told.
pub(crate) fn process_spec(process: &boxlite_shim::Process) -> ProcessSpec {
    let bytes = |text: &boxlite_shim::ByteString| bytes::Bytes::from(text.0.clone());
    ProcessSpec {
        args: process.args.iter().map(bytes).collect(),
        env: process.env.iter().map(bytes).collect(),
        working_dir: bytes(&process.working_dir),
        create_working_dir: process.create_working_dir,
        user: process.user.clone(),
        tty: process.tty,
        size: process.size.map(|size| TerminalSize {
            rows: size.rows,
            columns: size.columns,
        }),
        stdin: process.stdin,
        detached: false,
        merge_stderr: false,
        output_grace_ms: 0,
    }
}
