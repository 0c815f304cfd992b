//! What a client tells the supervisor to run.

use std::path::PathBuf;

use boxlite_machine::MachineSpec;
use serde::{Deserialize, Serialize};

use crate::byte_string::ByteString;
use crate::log;
use crate::template_config::Templates;

/// Descriptor on which the supervisor reads its [`LaunchConfig`] (JSON, to end of file).
pub const CONFIG_FD: i32 = 3;
/// Descriptor on which it writes [`StartEvent`](crate::StartEvent)s, one JSON object a line,
/// and which it closes after `ready` or `failed`.
pub const STATUS_FD: i32 = 4;
/// Descriptor of the box's lock; held for as long as the supervisor lives.
pub const LOCK_FD: i32 = 5;
/// Read end of the pipe whose other end the client holds (only with
/// [`LaunchConfig::parent_watch`]): at end of file the box is stopped.
pub const PARENT_FD: i32 = 6;

/// One start of one box.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LaunchConfig {
    /// The box.
    pub box_id: String,
    /// This start of it; comes back in [`ExitRecord::run_id`](crate::ExitRecord).
    pub run_id: String,
    /// The box's folder: `shim.sock`, `shim.log`, `output.log` and `exit.json` are made in it.
    pub box_dir: PathBuf,
    /// The machine.
    pub machine: MachineSpec,
    /// The disk is formatted as [`Templates::blank`] and was never used: a template's, which is
    /// mounted already, may take its place.
    #[serde(default)]
    pub disk_is_blank: bool,
    /// What the start begins with.
    #[serde(default)]
    pub start_from: StartFrom,
    /// What the agent is told before anything runs.
    pub configure: Configure,
    /// The main process; `None`: the box is idle until it is stopped.
    #[serde(default)]
    pub main: Option<Process>,
    /// The main process starts with the first `Attach` that says `release_main`
    /// (so that its caller misses nothing), not before.
    #[serde(default)]
    pub wait_for_attach: bool,
    /// The Linux signal number that asks the main process to end.
    #[serde(default = "default_stop_signal")]
    pub stop_signal: i32,
    /// From the stop signal to SIGKILL, in milliseconds, unless a stop names its own.
    #[serde(default = "default_stop_grace_ms")]
    pub stop_grace_ms: u64,
    /// The whole start, in milliseconds; `None`: by accelerator
    /// ([`default_start_timeout_ms`]). It is a bound on silence, not a bound on
    /// work: a machine that still makes progress gets as long again.
    #[serde(default)]
    pub start_timeout_ms: Option<u64>,
    /// The main process's stdin stays open when an attached client that fed it goes away.
    #[serde(default)]
    pub keep_stdin_open: bool,
    /// How much of the main process's output is kept.
    #[serde(default)]
    pub log_limits: log::Limits,
    /// The box is removed when it ends: its disk is deleted at once.
    #[serde(default)]
    pub remove_disk_on_exit: bool,
    /// [`PARENT_FD`] is there and its end of file stops the box.
    #[serde(default)]
    pub parent_watch: bool,
}

/// What a start begins with.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum StartFrom {
    /// With the kernel, because templates are switched off.
    #[default]
    Kernel,
    /// With the kernel: whoever starts the box asked for that.
    KernelAsAsked,
    /// With a template if there is one that fits and works, else with the kernel.
    Template(Templates),
}

fn default_stop_signal() -> i32 {
    15
}

fn default_stop_grace_ms() -> u64 {
    10_000
}

/// How long a start may take when the configuration doesn't say, in milliseconds.
pub const fn default_start_timeout_ms(accelerator: boxlite_machine::Accelerator) -> u64 {
    match accelerator {
        boxlite_machine::Accelerator::Kvm | boxlite_machine::Accelerator::Hvf => 20_000,
        boxlite_machine::Accelerator::Tcg => 90_000,
    }
}

/// `ConfigureRequest` of the guest protocol, without entropy and wall clock (the supervisor
/// adds both when it sends it).
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Configure {
    /// The guest's host name.
    pub hostname: String,
    /// 32 lower-case hexadecimal digits.
    pub machine_id: String,
    /// Serial of the disk that holds the root file system.
    pub rootfs_serial: String,
    /// Serial of the box's own disk.
    pub disk_serial: String,
    /// What to mount, by share tag.
    #[serde(default)]
    pub volumes: Vec<Volume>,
    /// `None`: loopback only.
    #[serde(default)]
    pub network: Option<Network>,
    /// Lines of `/etc/hosts` beside localhost and the box's own name.
    #[serde(default)]
    pub hosts: Vec<HostEntry>,
    /// Directories that must exist.
    #[serde(default)]
    pub volume_dirs: Vec<String>,
}

/// A volume, as the guest sees it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Volume {
    /// The share's mount tag.
    pub tag: String,
    /// Absolute path in the box.
    pub target: String,
    /// Mounted read-only.
    #[serde(default)]
    pub read_only: bool,
    /// The folder or file in the share that is the volume, beside which others may be. `None`:
    /// the share itself.
    #[serde(default)]
    pub file_name: Option<String>,
}

/// The guest's interface.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Network {
    /// The interface to configure, `52:54:00:…`.
    pub mac: String,
    /// Address and prefix length.
    pub address_cidr: String,
    /// The default route's next hop.
    pub gateway: String,
    /// Name servers.
    #[serde(default)]
    pub nameservers: Vec<String>,
    /// Search domains.
    #[serde(default)]
    pub search: Vec<String>,
}

/// A line of `/etc/hosts`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HostEntry {
    /// The name.
    pub name: String,
    /// The address.
    pub address: String,
}

/// `ProcessSpec` of the guest protocol.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Process {
    /// The arguments; the first is looked up in `PATH`, in the box.
    pub args: Vec<ByteString>,
    /// `KEY=value`.
    #[serde(default)]
    pub env: Vec<ByteString>,
    /// Empty: `/`.
    #[serde(default)]
    pub working_dir: ByteString,
    /// Make the working directory if it is missing.
    #[serde(default)]
    pub create_working_dir: bool,
    /// Empty, `name`, `uid`, `name:group` or `uid:gid`.
    #[serde(default)]
    pub user: String,
    /// On a terminal of its own.
    #[serde(default)]
    pub tty: bool,
    /// The terminal's size at the start.
    #[serde(default)]
    pub size: Option<TerminalSize>,
    /// Has a stdin (otherwise `/dev/null`).
    #[serde(default)]
    pub stdin: bool,
}

/// A terminal's size in characters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct TerminalSize {
    /// Rows.
    pub rows: u32,
    /// Columns.
    pub columns: u32,
}
