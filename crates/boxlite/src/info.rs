//! What can be known about a box.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::error::Diagnosis;
use crate::exit_status::ExitStatus;
use crate::options::{EngineKind, Mount, NetworkMode, Protocol};

/// The state of a box.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum BoxState {
    /// Made and never started.
    Created,
    /// A start is under way.
    Starting,
    /// The machine runs.
    Running,
    /// A stop is under way.
    Stopping,
    /// It ran, and ended in order (by itself, by a stop, or with its client).
    Stopped,
    /// The machine stands still; its memory is kept.
    Paused,
    /// The machine or its supervisor failed; [`BoxInfo::error`] says how.
    Failed,
}

impl BoxState {
    /// The stable name, in snake case.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Created => "created",
            Self::Starting => "starting",
            Self::Running => "running",
            Self::Stopping => "stopping",
            Self::Stopped => "stopped",
            Self::Paused => "paused",
            Self::Failed => "failed",
        }
    }

    /// Whether a machine exists, or is about to.
    #[must_use]
    pub fn is_alive(self) -> bool {
        matches!(self, Self::Starting | Self::Running | Self::Stopping | Self::Paused)
    }
}

impl std::fmt::Display for BoxState {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.as_str())
    }
}

impl std::str::FromStr for BoxState {
    type Err = crate::options::UnknownWord;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        [
            Self::Created,
            Self::Starting,
            Self::Running,
            Self::Stopping,
            Self::Stopped,
            Self::Paused,
            Self::Failed,
        ]
        .into_iter()
        .find(|state| state.as_str() == text)
        .ok_or_else(|| {
            crate::options::UnknownWord::new(text, "created, starting, running, stopping, stopped, paused, failed")
        })
    }
}

/// Everything about a box, as it was when it was asked for.
///
/// Its JSON form is stable: names are in snake case, times are milliseconds since 1970,
/// what is unknown is `null`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct BoxInfo {
    /// 32 hexadecimal digits.
    pub id: String,
    /// Its name.
    pub name: String,
    /// The image as it was asked for.
    pub image: String,
    /// Digest of the image's manifest (`sha256:…`).
    pub image_digest: String,
    /// Platform of the image (`linux/amd64`).
    pub platform: String,
    /// Its state.
    pub state: BoxState,
    /// When it was created.
    pub created_at_ms: u64,
    /// When it was last started.
    pub started_at_ms: Option<u64>,
    /// When it last ended.
    pub finished_at_ms: Option<u64>,
    /// How the main process ended, if the box has ended and had one.
    pub exit_status: Option<ExitStatus>,
    /// Why it failed, if it did.
    pub error: Option<Diagnosis>,
    /// vCPUs.
    pub cpus: u32,
    /// Memory in MiB.
    pub memory_mib: u64,
    /// Size of the writable disk in MiB.
    pub disk_mib: u64,
    /// Program and arguments of the main process; empty for an idle box.
    pub command: Vec<String>,
    /// Environment of the main process and of what `exec` runs, as `KEY=value`.
    pub env: Vec<String>,
    /// Working directory.
    pub working_dir: String,
    /// User; empty for root.
    pub user: String,
    /// Host name in the box.
    pub hostname: String,
    /// Signal that a stop sends, by name.
    pub stop_signal: String,
    /// How long a stop waits before it kills.
    pub stop_timeout_ms: u64,
    /// Whether the main process has a terminal.
    pub tty: bool,
    /// Whether its standard input stays open with nobody attached.
    pub stdin_open: bool,
    /// Whether the box outlives its client.
    pub detached: bool,
    /// Whether it is removed once it has ended.
    pub auto_remove: bool,
    /// Folders and files of the host in the box.
    pub mounts: Vec<Mount>,
    /// Published ports; while the box runs, with the real port of the host.
    pub ports: Vec<PublishedPort>,
    /// How it is connected.
    pub network: NetworkMode,
    /// Labels: the image's, and over them the box's own.
    pub labels: BTreeMap<String, String>,
    /// Engine that was asked for.
    pub engine: EngineKind,
    /// What the last start found and took.
    pub run: Option<RunInfo>,
    /// What the jail around the engine is made of, at the last start.
    pub jail: Option<JailInfo>,
    /// Folder of the box in the home (its disk, its logs).
    pub directory: PathBuf,
}

/// A published port.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct PublishedPort {
    /// Address of the host.
    pub host_ip: IpAddr,
    /// Port of the host; 0 while none is picked.
    pub host: u16,
    /// Port in the box.
    pub guest: u16,
    /// Transport.
    pub protocol: Protocol,
}

/// One run of a box's machine: the current one, or the last.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct RunInfo {
    /// Identifies the run.
    pub run_id: String,
    /// Engine and its version (`qemu 7.2.9`).
    pub engine: Option<String>,
    /// `kvm`, `hvf` or `tcg`.
    pub accelerator: Option<String>,
    /// What the accelerator was chosen by.
    pub accelerator_evidence: Vec<String>,
    /// `warm` (it began with a template) or `cold` (with the kernel).
    pub start_mode: Option<String>,
    /// Why it was cold.
    pub cold_reason: Option<String>,
    /// How long each stage of the start took, in their order.
    pub stages: Vec<StageTiming>,
    /// What a person should know about the engine that was taken, and why a start from a template
    /// failed, if one did.
    pub warnings: Vec<String>,
    /// Version of the agent in the guest.
    pub agent_version: Option<String>,
    /// Release of the guest's kernel.
    pub kernel_release: Option<String>,
    /// Process id of the supervisor on the host, while the box runs.
    pub shim_pid: Option<u32>,
    /// Process id of the engine on the host, while the box runs.
    pub engine_pid: Option<u32>,
}

/// One stage of a start.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StageTiming {
    /// Name of the stage: `launch`, `prepare`, `jail`, `engine`; `kernel` of a cold start or
    /// `restore` of a warm one; `agent`, `configure`, `main`. A warm start that failed is before
    /// the cold one's `jail` as `failed_warm`.
    pub stage: String,
    /// Microseconds that it took.
    pub duration_us: u64,
}

/// What confines the engine on this host.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct JailInfo {
    /// Measures that are in force.
    pub applied: Vec<String>,
    /// Measures that could not be taken.
    pub missing: Vec<MissingMeasure>,
}

/// A measure that could not be taken.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MissingMeasure {
    /// The measure.
    pub what: String,
    /// Why not.
    pub why: String,
}

/// Which boxes [`crate::Client::list`] gives. All conditions must hold; of several
/// values of one condition, one must.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
#[non_exhaustive]
pub struct ListFilter {
    /// Also boxes that don't run. Implied by `states`.
    pub all: bool,
    /// Beginnings of ids.
    pub ids: Vec<String>,
    /// Parts of names.
    pub names: Vec<String>,
    /// `key` or `key=value`. Of several labels, all must be there.
    pub labels: Vec<String>,
    /// States.
    pub states: Vec<BoxState>,
    /// Images: references or digests that the box was made from.
    pub ancestors: Vec<String>,
}

impl ListFilter {
    /// All boxes.
    #[must_use]
    pub fn all() -> Self {
        Self {
            all: true,
            ..Self::default()
        }
    }

    /// Whether a box passes, its image aside.
    pub(crate) fn matches(&self, info: &BoxInfo) -> bool {
        let state = if self.states.is_empty() {
            self.all || info.state.is_alive()
        } else {
            self.states.contains(&info.state)
        };
        let any = |values: &[String], passes: &dyn Fn(&str) -> bool| {
            values.is_empty() || values.iter().any(|value| passes(value))
        };
        state
            && any(&self.ids, &|id| info.id.starts_with(id))
            && any(&self.names, &|name| info.name.contains(name))
            && self.labels.iter().all(|label| match label.split_once('=') {
                Some((key, value)) => info.labels.get(key).is_some_and(|has| has == value),
                None => info.labels.contains_key(label),
            })
    }
}

/// What a box uses, measured now. Counters begin with the box's start.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Metrics {
    /// When it was measured, in milliseconds since 1970.
    pub sampled_at_ms: u64,
    /// Processor time of the box's processes.
    pub cpu_usage_us: u64,
    /// Memory of the box's processes.
    pub memory_usage_bytes: u64,
    /// Memory of the machine.
    pub memory_limit_bytes: u64,
    /// Bytes received.
    pub net_rx_bytes: u64,
    /// Bytes sent.
    pub net_tx_bytes: u64,
    /// Bytes read from disks.
    pub block_read_bytes: u64,
    /// Bytes written to disks.
    pub block_write_bytes: u64,
    /// Processes in the box.
    pub processes: u32,
    /// Used part of the writable disk.
    pub disk_used_bytes: u64,
    /// Size of the writable disk.
    pub disk_total_bytes: u64,
    /// Time since the guest's kernel started.
    pub uptime_us: u64,
    /// What the machine costs the host.
    pub host: HostMetrics,
}

/// What a box's machine costs the host.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HostMetrics {
    /// Processor time of the engine.
    pub cpu_us: u64,
    /// Resident memory of the engine.
    pub rss_bytes: u64,
    /// Proportional share of memory of engine and supervisor.
    pub pss_bytes: u64,
}

/// A process in a box.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProcessInfo {
    /// Process id in the box.
    pub pid: i32,
    /// Its parent's.
    pub parent_pid: i32,
    /// User id.
    pub uid: u32,
    /// Name of the user in the box, or the number.
    pub user: String,
    /// Processor time.
    pub cpu_us: u64,
    /// When it was started, in milliseconds since 1970.
    pub started_at_ms: u64,
    /// Resident memory.
    pub memory_bytes: u64,
    /// One letter, `proc(5)`.
    pub state: String,
    /// Terminal, empty if there is none.
    pub tty: String,
    /// Its arguments, joined with spaces; what is not UTF-8 is replaced.
    pub command: String,
}
