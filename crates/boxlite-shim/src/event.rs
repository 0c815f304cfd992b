//! What the shim says while it starts a box: [`StartEvent`], one JSON object a line.

use std::net::IpAddr;

use boxlite_machine::{Accelerator, JailReport, Protocol};
use serde::{Deserialize, Serialize};

/// One line of the status pipe. The last is `Ready` or `Failed`; a pipe that ends
/// without either means that the shim itself was killed.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum StartEvent {
    /// A stage was reached.
    Stage {
        /// Which.
        stage: Stage,
        /// Microseconds since the shim began.
        elapsed_us: u64,
    },
    /// The box runs: its socket answers, and its main process (if there is one, and
    /// unless it waits for an attach) has started.
    Ready(Box<Ready>),
    /// The box did not start; nothing of it runs, and the exit record is written.
    Failed(Box<StartFailure>),
}

/// How far a start has come, in this order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Stage {
    /// Reading the configuration, probing the engine, choosing an accelerator.
    Prepare,
    /// The engine's process is being started.
    Engine,
    /// The guest's kernel runs.
    Kernel,
    /// The agent has answered the preamble; Hello is under way.
    Agent,
    /// The agent makes the machine this box's machine.
    Configure,
    /// The main process is being started.
    Main,
}

impl Stage {
    /// Its name in messages.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Prepare => "prepare",
            Self::Engine => "engine",
            Self::Kernel => "kernel",
            Self::Agent => "agent",
            Self::Configure => "configure",
            Self::Main => "main",
        }
    }
}

impl std::fmt::Display for Stage {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Facts about a machine that came up.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Ready {
    /// Where the time went.
    pub timings: StageTimings,
    /// What executes the guest.
    pub accelerator: Accelerator,
    /// Why that one.
    pub accelerator_evidence: Vec<String>,
    /// Version of QEMU.
    pub engine_version: String,
    /// Process id of the engine.
    pub engine_pid: u32,
    /// Process id of the shim.
    pub shim_pid: u32,
    /// Published ports, with the port that was taken where any was asked for.
    pub ports: Vec<PublishedPort>,
    /// What the jail could do.
    pub jail: JailReport,
    /// Version of the agent.
    pub agent_version: String,
    /// The guest's kernel.
    pub kernel_release: String,
    /// Process id of the main process in the box, if it has started.
    pub main_pid: Option<i32>,
}

/// A port that leads into the box.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PublishedPort {
    /// The host's address.
    pub host_ip: IpAddr,
    /// The host's port.
    pub host_port: u16,
    /// The guest's port.
    pub guest_port: u16,
    /// TCP or UDP.
    pub protocol: Protocol,
}

/// Where the time of a start went, in microseconds. `*_at_us` are points in time since
/// the shim began; the others are durations.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct StageTimings {
    /// The engine was spawned.
    pub engine_spawned_at_us: u64,
    /// The engine's monitor answered: the guest begins to run.
    pub engine_ready_at_us: u64,
    /// The agent answered the preamble.
    pub agent_at_us: u64,
    /// The agent answered Hello.
    pub hello_at_us: u64,
    /// The agent answered Configure.
    pub configured_at_us: u64,
    /// The main process has started (or, without one, the box is ready).
    pub ready_at_us: u64,
    /// The guest's own measure: from its start until the agent's main.
    pub guest_kernel_us: u64,
    /// The guest's own measure: from the agent's main until it listened.
    pub guest_agent_us: u64,
    /// The guest's own measure: mounting.
    pub guest_mounts_us: u64,
    /// The guest's own measure: all of Configure.
    pub guest_configure_us: u64,
}

/// Why a box did not start.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[error("{stage}: {message}")]
pub struct StartFailure {
    /// How far it came.
    pub stage: Stage,
    /// The kind.
    pub code: FailureCode,
    /// What failed.
    pub message: String,
    /// The last lines of the engine and of the console.
    pub evidence: Vec<String>,
    /// The likely cause, if there is a better one than the message.
    pub cause: Option<String>,
    /// What to try.
    pub hint: Option<String>,
    /// The agent's refusal, for [`FailureCode::MainRefused`].
    #[serde(default)]
    pub refusal: Option<Refusal>,
    /// The taken port, for [`FailureCode::PortInUse`].
    #[serde(default)]
    pub port: Option<PublishedPort>,
}

/// The kind of a failed start.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FailureCode {
    /// The configuration is not one that can be run.
    InvalidConfig,
    /// A file or folder that the machine needs is not there.
    NotFound,
    /// The engine is missing, too old, or lacks something.
    EngineUnusable,
    /// The engine ended or refused.
    EngineFailed,
    /// `security: strict`, and the host does not allow all of the jail.
    JailIncomplete,
    /// A published port is taken.
    PortInUse,
    /// Memory, processes or descriptors ran out.
    ResourceExhausted,
    /// The guest's kernel panicked.
    GuestPanicked,
    /// The agent speaks no version that the shim speaks.
    ProtocolMismatch,
    /// The agent could not make the machine this box's machine.
    ConfigureFailed,
    /// The agent could not start the main process.
    MainRefused,
    /// Nothing moved for as long as a start may take.
    Timeout,
    /// The start was stopped: by a client, a signal, or because the parent is gone.
    Cancelled,
    /// A fault of the shim or of the host.
    Internal,
}

/// [`ExecRefused`](boxlite_protocol::guest::ExecRefused) of the main process.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Refusal {
    /// Number of [`exec_refused::Reason`](boxlite_protocol::guest::exec_refused::Reason).
    pub reason: i32,
    /// What was tried and what the guest's kernel said.
    pub message: String,
    /// Linux number of the error, or 0.
    pub errno: i32,
}
