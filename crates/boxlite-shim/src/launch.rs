//! What the shim is told: [`LaunchConfig`], read as JSON from descriptor 3.

use std::path::PathBuf;

use boxlite_machine::MachineSpec;
use serde::{Deserialize, Serialize};

/// The shim reads its [`LaunchConfig`] from here, to the end.
pub const CONFIG_FD: i32 = 3;
/// The shim writes its [`StartEvent`](crate::StartEvent)s here, one JSON object a line,
/// and closes it after the last ([`Ready`](crate::StartEvent::Ready) or
/// [`Failed`](crate::StartEvent::Failed)).
pub const STATUS_FD: i32 = 4;
/// The box's lock: never touched, held until the shim ends.
pub const LOCK_FD: i32 = 5;
/// With [`LaunchConfig::parent_watch`]: a pipe whose end of file means that the program
/// that started the box is gone.
pub const PARENT_FD: i32 = 6;

/// Name of the shim's socket in the box's folder.
pub const SOCKET_NAME: &str = "shim.sock";
/// Name of the exit record in the box's folder.
pub const EXIT_RECORD_NAME: &str = "exit.json";
/// Name of the main process's log in the box's folder.
pub const OUTPUT_LOG_NAME: &str = "output.log";
/// Name of the serial console's log in the box's folder.
pub const CONSOLE_LOG_NAME: &str = "console.log";
/// Name of the shim's own log in the box's folder.
pub const SHIM_LOG_NAME: &str = "shim.log";

/// Everything that the shim needs to run one box once.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LaunchConfig {
    /// The box.
    pub box_id: String,
    /// This run of it; comes back in the [`ExitRecord`](crate::ExitRecord).
    pub run_id: String,
    /// The box's folder: socket, logs and exit record are made here.
    pub box_dir: PathBuf,
    /// The machine to start.
    pub machine: MachineSpec,
    /// What the agent is told before any process.
    pub configure: Configure,
    /// The main process. Absent: the box is idle, and runs until it is stopped.
    #[serde(default)]
    pub main: Option<Process>,
    /// The main process starts with the first Attach that says `release_main`.
    #[serde(default)]
    pub wait_for_attach: bool,
    /// Linux number of the signal that asks the main process to end.
    pub stop_signal: i32,
    /// Milliseconds from that signal until SIGKILL.
    pub stop_grace_ms: u64,
    /// Milliseconds that a start may take without showing progress. Absent: by the
    /// accelerator.
    #[serde(default)]
    pub start_timeout_ms: Option<u64>,
    /// The main process's stdin stays open while nobody is attached. Otherwise it ends
    /// with the attached client's.
    #[serde(default)]
    pub keep_stdin_open: bool,
    /// How much of the main process's output is kept.
    #[serde(default)]
    pub log_limits: LogLimits,
    /// Delete the box's disk when the machine is gone (for boxes that are removed at
    /// their end: gives back the space even if no client comes to do it).
    #[serde(default)]
    pub remove_disk_on_exit: bool,
    /// Descriptor [`PARENT_FD`] is there: the box ends when it reaches its end.
    pub parent_watch: bool,
}

/// Limits of the main process's log.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LogLimits {
    /// Bytes of one file.
    pub max_file_bytes: u64,
    /// Files, the current one included; at least 1.
    pub files: u32,
}

impl Default for LogLimits {
    fn default() -> Self {
        Self { max_file_bytes: 64 << 20, files: 2 }
    }
}

/// [`ConfigureRequest`](boxlite_protocol::guest::ConfigureRequest) without what is made
/// at the start: entropy and time, and `idle`, which follows from [`LaunchConfig::main`].
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Configure {
    /// Host name in the box.
    pub hostname: String,
    /// 32 lower-case hexadecimal digits.
    pub machine_id: String,
    /// Serial of [`MachineSpec::rootfs`].
    pub rootfs_serial: String,
    /// Serial of [`MachineSpec::disk`].
    pub disk_serial: String,
    /// Volumes, of the shares in [`MachineSpec::shares`].
    #[serde(default)]
    pub volumes: Vec<Volume>,
    /// Absent: no interface but loopback.
    #[serde(default)]
    pub network: Option<Network>,
    /// Lines of `/etc/hosts` beside localhost and the box's own name.
    #[serde(default)]
    pub hosts: Vec<HostEntry>,
    /// Directories of the image's `VOLUME`s.
    #[serde(default)]
    pub volume_dirs: Vec<String>,
}

/// A share and its place in the box.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Volume {
    /// [`Share::tag`](boxlite_machine::Share::tag).
    pub tag: String,
    /// Absolute path in the box.
    pub target: String,
    /// Whether the box may only read it.
    pub read_only: bool,
    /// [`Share::file_name`](boxlite_machine::Share::file_name).
    #[serde(default)]
    pub file_name: Option<String>,
}

/// Addresses of the box's interface.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Network {
    /// MAC address of the interface.
    pub mac: String,
    /// `10.0.2.15/24`.
    pub address_cidr: String,
    /// `10.0.2.2`.
    pub gateway: String,
    /// Name servers.
    pub nameservers: Vec<String>,
    /// Search domains.
    #[serde(default)]
    pub search: Vec<String>,
}

/// One line of `/etc/hosts`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HostEntry {
    /// The name.
    pub name: String,
    /// The address.
    pub address: String,
}

/// [`ProcessSpec`](boxlite_protocol::guest::ProcessSpec) of the main process.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Process {
    /// Arguments; the first is looked up in PATH of `env`, in the box.
    pub args: Vec<String>,
    /// `KEY=value`.
    #[serde(default)]
    pub env: Vec<String>,
    /// Empty: `/`.
    #[serde(default)]
    pub working_dir: String,
    /// Make the working directory if it is missing.
    #[serde(default)]
    pub create_working_dir: bool,
    /// `name`, `uid`, `name:group` or `uid:gid`; empty: root.
    #[serde(default)]
    pub user: String,
    /// Give it a terminal.
    #[serde(default)]
    pub tty: bool,
    /// Rows and columns of the terminal, until a client says otherwise.
    #[serde(default)]
    pub size: Option<(u32, u32)>,
    /// Give it a stdin that clients can feed; otherwise it is `/dev/null`.
    #[serde(default)]
    pub stdin: bool,
}
