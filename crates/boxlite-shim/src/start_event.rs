//! What the supervisor says while a box starts.

use boxlite_machine::jail::JailReport;
use boxlite_machine::{Accelerator, PortForward};
use serde::{Deserialize, Serialize};

/// One line on [`STATUS_FD`](crate::STATUS_FD). The last is `ready` or `failed`; end of file
/// without either means that the supervisor died.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum StartEvent {
    /// A stage was entered.
    Stage {
        /// Which.
        stage: Stage,
        /// Since the supervisor's start, in microseconds.
        elapsed_us: u64,
    },
    /// The box runs: its main process was started, or waits for an attach, or the box is idle.
    Ready(Box<Ready>),
    /// It does not, and nothing of it is left running.
    Failed(Box<StartFailure>),
}

/// The stages of a start, in order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Stage {
    /// Reading the configuration, finding the engine, choosing the accelerator.
    Prepare,
    /// Confining the engine's process.
    Jail,
    /// The engine's own start.
    Engine,
    /// The guest kernel's start, up to the agent's answer.
    Kernel,
    /// Hello.
    Agent,
    /// Root file system, volumes, network.
    Configure,
    /// The main process.
    Main,
}

impl std::fmt::Display for Stage {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Prepare => "prepare",
            Self::Jail => "jail",
            Self::Engine => "engine",
            Self::Kernel => "kernel",
            Self::Agent => "agent",
            Self::Configure => "configure",
            Self::Main => "main process",
        })
    }
}

/// A box that runs.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Ready {
    /// The supervisor's process.
    pub shim_pid: u32,
    /// The engine's process.
    pub engine_pid: u32,
    /// Where the time went.
    pub timings: StageTimings,
    /// What it started with.
    pub start_mode: StartMode,
    /// Why it did not start with a template, for a person.
    pub cold_reason: Option<String>,
    /// What runs the guest's instructions.
    pub accelerator: Accelerator,
    /// Why this accelerator, for a person.
    pub accelerator_evidence: Vec<String>,
    /// The engine, `qemu`.
    pub engine: String,
    /// Its version, `7.2.22`.
    pub engine_version: String,
    /// Things that a person should know: of this engine (an untested version), and of a start from
    /// a template that failed.
    pub warnings: Vec<String>,
    /// The published ports with the host ports that they really got.
    pub ports: Vec<PortForward>,
    /// How the engine is confined.
    pub jail: JailReport,
    /// The agent's version.
    pub agent_version: String,
    /// The guest kernel's release.
    pub kernel_release: String,
    /// The main process in the box's PID namespace; `None`: idle, or waiting for an attach.
    pub main_pid: Option<i32>,
}

/// What a machine's start began with.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum StartMode {
    /// A template.
    Warm,
    /// The kernel.
    Cold,
}

impl StartMode {
    /// `warm` or `cold`.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Warm => "warm",
            Self::Cold => "cold",
        }
    }
}

/// The stages of a start in microseconds.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct StageTimings {
    /// From the supervisor's start to the spawn of the engine.
    pub prepare_us: u64,
    /// From the spawn to the jail's report.
    pub jail_us: u64,
    /// From there until the engine answered on its control channel.
    pub engine_us: u64,
    /// A start from a template that did not work, before all that follows (0: there was none).
    #[serde(default)]
    pub failed_warm_us: u64,
    /// From there until the agent answered on its stream.
    pub boot_us: u64,
    /// Of [`boot_us`](Self::boot_us), by the guest's own clock: before the agent's first
    /// instruction.
    pub kernel_us: u64,
    /// Of [`boot_us`](Self::boot_us), by the guest's own clock: the agent until it served.
    pub agent_us: u64,
    /// Connection and Hello.
    pub hello_us: u64,
    /// Configure.
    pub configure_us: u64,
    /// Of [`configure_us`](Self::configure_us), by the guest's own clock: mounting.
    pub mounts_us: u64,
    /// Starting the main process (0 when idle or waiting).
    pub main_us: u64,
    /// From the supervisor's start to ready.
    pub total_us: u64,
}

/// A start that failed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StartFailure {
    /// How far it came.
    pub stage: Stage,
    /// What kind of failure.
    pub code: StartFailureCode,
    /// What failed, in one sentence.
    pub message: String,
    /// What was seen: last lines of the console and of the engine's stderr.
    pub evidence: Vec<String>,
    /// The likely cause, when there is one.
    pub cause: Option<String>,
    /// What to do or to run next.
    pub hint: Option<String>,
}

impl std::fmt::Display for StartFailure {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for StartFailure {}

/// The kind of a failed start.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum StartFailureCode {
    /// The configuration can't be run (out of range, not for this host).
    InvalidConfig,
    /// No engine binary.
    EngineNotFound,
    /// An engine that is too old or lacks what is needed.
    EngineUnusable,
    /// The accelerator that was asked for doesn't work here.
    AcceleratorUnusable,
    /// A disk, the kernel or the initramfs can't be opened.
    FileUnusable,
    /// A volume's source is missing or can't be shared.
    VolumeUnusable,
    /// A published port is taken.
    PortInUse,
    /// A part of the jail can't be applied and `security` is strict.
    JailIncomplete,
    /// The engine ended or refused its configuration.
    EngineFailed,
    /// The guest kernel panicked.
    KernelPanicked,
    /// Nothing was heard from the engine or the guest in time.
    GuestSilent,
    /// The agent speaks another version of the protocol.
    ProtocolMismatch,
    /// The agent could not make the machine this box's machine.
    ConfigureFailed,
    /// The main process: no such command (exit status 127 of `run`).
    CommandNotFound,
    /// The main process: not executable (exit status 126 of `run`).
    CommandNotExecutable,
    /// The main process was refused for another reason.
    CommandRefused,
    /// The box was stopped, or its parent went away, while it started.
    Interrupted,
    /// The supervisor itself failed.
    Internal,
}
