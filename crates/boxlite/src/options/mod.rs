//! What a box is made of: [`BoxOptions`] and the types in it.

mod validate;

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::signal::Signal;

pub(crate) use validate::validate;

/// vCPUs of a box when nothing is said: one for the program and one for what serves it, which
/// doubles how fast files and output go in and out.
pub const DEFAULT_CPUS: u32 = 2;
/// The most folders and files of the host that a box can have
/// ([`mounts`](BoxOptions#structfield.mounts)).
pub const MAX_VOLUMES: usize = 8;
/// Memory of a box in MiB when nothing is said.
pub const DEFAULT_MEMORY_MIB: u64 = 512;
/// Writable disk of a box in MiB when nothing is said (sparse: it costs what is written).
pub const DEFAULT_DISK_MIB: u64 = 10 * 1024;
/// How long a stop waits before it kills, in milliseconds, when nothing is said.
pub const DEFAULT_STOP_TIMEOUT_MS: u64 = 10_000;
/// Rotation size of a box's log in MiB when nothing is said.
pub const DEFAULT_LOG_MAX_MIB: u64 = 10;
/// Rotated log files kept beside the current one when nothing is said.
pub const DEFAULT_LOG_FILES: u32 = 3;

/// Everything that can be said about a new box.
///
/// Only `image` is required. Each field can be set directly, or with the method of
/// the same name that takes and returns the value. In JSON, unknown fields are errors.
///
/// A box without a main process is *idle* after its start: it runs until it is
/// stopped, and `exec` runs things in it. Setting [`command`](Self::command) or
/// [`entrypoint`](Self::entrypoint), or [`run_image_command`](Self::run_image_command),
/// gives it a main process with the rules of OCI; when that exits the box stops.
///
/// ```
/// use boxlite::{BoxOptions, Mount, Port};
///
/// let options = BoxOptions::new("debian:12")
///     .name("build")
///     .cpus(2)
///     .memory_mib(1024)
///     .env("LANG", "C.UTF-8")
///     .mount(Mount::new("/srv/source", "/src").read_only())
///     .port(Port::new(8080, 80))
///     .command(["make", "-C", "/src"]);
/// assert_eq!(options.command, ["make", "-C", "/src"]);
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
pub struct BoxOptions {
    /// What to run: a registry reference (`alpine:3.20`) or a local form
    /// (`docker-archive:PATH`, `oci:PATH[:TAG]`, `oci-archive:PATH`, `dir:ROOTFS`).
    pub image: String,
    /// A name, unique in the home: `[a-zA-Z0-9][a-zA-Z0-9_.-]*`, at most 128 bytes.
    /// Absent: one is made up.
    #[serde(default)]
    pub name: Option<String>,
    /// vCPUs, at least 1.
    #[serde(default = "default_cpus")]
    pub cpus: u32,
    /// Memory in MiB.
    #[serde(default = "default_memory_mib")]
    pub memory_mib: u64,
    /// Size of the writable disk in MiB (sparse).
    #[serde(default = "default_disk_mib")]
    pub disk_mib: u64,
    /// Environment, over the image's.
    #[serde(default)]
    pub env: BTreeMap<String, String>,
    /// Working directory, absolute; created if missing. Absent: the image's, else `/`.
    #[serde(default)]
    pub working_dir: Option<String>,
    /// `name`, `uid`, `name:group` or `uid:gid`, looked up in the box. Absent: the image's.
    #[serde(default)]
    pub user: Option<String>,
    /// Host name in the box. Absent: the first twelve digits of the id.
    #[serde(default)]
    pub hostname: Option<String>,
    /// Arguments of the entrypoint, or the command itself where there is none; replaces
    /// the image's command.
    #[serde(default)]
    pub command: Vec<String>,
    /// Replaces the image's entrypoint and drops its command. An empty list clears it.
    #[serde(default)]
    pub entrypoint: Option<Vec<String>>,
    /// Run the image's own entrypoint and command as the main process.
    #[serde(default)]
    pub run_image_command: bool,
    /// Folders and files of the host in the box, at most 8. Single files, and more than 4 of any
    /// kind, need a mount namespace of the engine's, which a host may deny to its users.
    #[serde(default)]
    pub mounts: Vec<Mount>,
    /// Ports of the box that are published on the host.
    #[serde(default)]
    pub ports: Vec<Port>,
    /// How the box is connected.
    #[serde(default)]
    pub network: NetworkMode,
    /// Labels, for filters and for programs.
    #[serde(default)]
    pub labels: BTreeMap<String, String>,
    /// Whether the box outlives the client that starts it.
    #[serde(default)]
    pub detached: bool,
    /// What runs the machine.
    #[serde(default)]
    pub engine: EngineKind,
    /// `os/architecture[/variant]` of the image. Absent: the host's.
    #[serde(default)]
    pub platform: Option<String>,
    /// Give the main process a terminal.
    #[serde(default)]
    pub tty: bool,
    /// Keep the main process's standard input open also while nobody is attached.
    #[serde(default)]
    pub stdin_open: bool,
    /// Remove the box once it has ended.
    #[serde(default)]
    pub auto_remove: bool,
    /// When to ask the registry.
    #[serde(default)]
    pub pull_policy: PullPolicy,
    /// Signal that asks the main process to end. Absent: the image's, else SIGTERM.
    #[serde(default)]
    pub stop_signal: Option<Signal>,
    /// How long a stop waits before it kills, in milliseconds.
    #[serde(default = "default_stop_timeout_ms")]
    pub stop_timeout_ms: u64,
    /// How long a start may take without showing progress, in milliseconds. Absent:
    /// scaled by the accelerator.
    #[serde(default)]
    pub start_timeout_ms: Option<u64>,
    /// How much of the jail around the engine is required.
    #[serde(default)]
    pub security: Security,
    /// What the machine's start may begin with.
    #[serde(default)]
    pub start: StartPreference,
    /// Lines for `/etc/hosts`.
    #[serde(default)]
    pub extra_hosts: Vec<ExtraHost>,
    /// Name servers. Empty: the engine's own resolver, which asks the host's.
    #[serde(default)]
    pub dns: Vec<IpAddr>,
    /// Search domains for `/etc/resolv.conf`.
    #[serde(default)]
    pub dns_search: Vec<String>,
    /// How much output of the main process is kept.
    #[serde(default)]
    pub log_limits: LogLimits,
}

fn default_cpus() -> u32 {
    DEFAULT_CPUS
}
fn default_memory_mib() -> u64 {
    DEFAULT_MEMORY_MIB
}
fn default_disk_mib() -> u64 {
    DEFAULT_DISK_MIB
}
fn default_stop_timeout_ms() -> u64 {
    DEFAULT_STOP_TIMEOUT_MS
}

/// Generates the builder methods that only store a value.
macro_rules! setters {
    ($($(#[$doc:meta])* $field:ident: $ty:ty;)*) => {
        $($(#[$doc])*
        #[must_use]
        pub fn $field(mut self, $field: $ty) -> Self {
            self.$field = $field;
            self
        })*
    };
}

impl BoxOptions {
    /// Options for a box of `image`, with every default.
    #[must_use]
    pub fn new(image: impl Into<String>) -> Self {
        Self {
            image: image.into(),
            name: None,
            cpus: DEFAULT_CPUS,
            memory_mib: DEFAULT_MEMORY_MIB,
            disk_mib: DEFAULT_DISK_MIB,
            env: BTreeMap::new(),
            working_dir: None,
            user: None,
            hostname: None,
            command: Vec::new(),
            entrypoint: None,
            run_image_command: false,
            mounts: Vec::new(),
            ports: Vec::new(),
            network: NetworkMode::default(),
            labels: BTreeMap::new(),
            detached: false,
            engine: EngineKind::default(),
            platform: None,
            tty: false,
            stdin_open: false,
            auto_remove: false,
            pull_policy: PullPolicy::default(),
            stop_signal: None,
            stop_timeout_ms: DEFAULT_STOP_TIMEOUT_MS,
            start_timeout_ms: None,
            security: Security::default(),
            start: StartPreference::default(),
            extra_hosts: Vec::new(),
            dns: Vec::new(),
            dns_search: Vec::new(),
            log_limits: LogLimits::default(),
        }
    }

    setters! {
        /// Sets [`cpus`](Self#structfield.cpus).
        cpus: u32;
        /// Sets [`memory_mib`](Self#structfield.memory_mib).
        memory_mib: u64;
        /// Sets [`disk_mib`](Self#structfield.disk_mib).
        disk_mib: u64;
        /// Sets [`run_image_command`](Self#structfield.run_image_command).
        run_image_command: bool;
        /// Sets [`network`](Self#structfield.network).
        network: NetworkMode;
        /// Sets [`detached`](Self#structfield.detached).
        detached: bool;
        /// Sets [`engine`](Self#structfield.engine).
        engine: EngineKind;
        /// Sets [`tty`](Self#structfield.tty).
        tty: bool;
        /// Sets [`stdin_open`](Self#structfield.stdin_open).
        stdin_open: bool;
        /// Sets [`auto_remove`](Self#structfield.auto_remove).
        auto_remove: bool;
        /// Sets [`pull_policy`](Self#structfield.pull_policy).
        pull_policy: PullPolicy;
        /// Sets [`stop_timeout_ms`](Self#structfield.stop_timeout_ms).
        stop_timeout_ms: u64;
        /// Sets [`security`](Self#structfield.security).
        security: Security;
        /// Sets [`start`](Self#structfield.start).
        start: StartPreference;
        /// Sets [`log_limits`](Self#structfield.log_limits).
        log_limits: LogLimits;
    }

    /// Sets the name.
    #[must_use]
    pub fn name(mut self, name: impl Into<String>) -> Self {
        self.name = Some(name.into());
        self
    }

    /// Adds one variable to the environment.
    #[must_use]
    pub fn env(mut self, key: impl Into<String>, value: impl Into<String>) -> Self {
        self.env.insert(key.into(), value.into());
        self
    }

    /// Sets the working directory.
    #[must_use]
    pub fn working_dir(mut self, path: impl Into<String>) -> Self {
        self.working_dir = Some(path.into());
        self
    }

    /// Sets the user.
    #[must_use]
    pub fn user(mut self, user: impl Into<String>) -> Self {
        self.user = Some(user.into());
        self
    }

    /// Sets the host name.
    #[must_use]
    pub fn hostname(mut self, hostname: impl Into<String>) -> Self {
        self.hostname = Some(hostname.into());
        self
    }

    /// Sets the command.
    #[must_use]
    pub fn command<I: IntoIterator<Item = S>, S: Into<String>>(mut self, command: I) -> Self {
        self.command = command.into_iter().map(Into::into).collect();
        self
    }

    /// Sets the entrypoint.
    #[must_use]
    pub fn entrypoint<I: IntoIterator<Item = S>, S: Into<String>>(mut self, words: I) -> Self {
        self.entrypoint = Some(words.into_iter().map(Into::into).collect());
        self
    }

    /// Adds a mount.
    #[must_use]
    pub fn mount(mut self, mount: Mount) -> Self {
        self.mounts.push(mount);
        self
    }

    /// Publishes a port.
    #[must_use]
    pub fn port(mut self, port: Port) -> Self {
        self.ports.push(port);
        self
    }

    /// Adds one label.
    #[must_use]
    pub fn label(mut self, key: impl Into<String>, value: impl Into<String>) -> Self {
        self.labels.insert(key.into(), value.into());
        self
    }

    /// Sets the platform.
    #[must_use]
    pub fn platform(mut self, platform: impl Into<String>) -> Self {
        self.platform = Some(platform.into());
        self
    }

    /// Sets the stop signal.
    #[must_use]
    pub fn stop_signal(mut self, signal: Signal) -> Self {
        self.stop_signal = Some(signal);
        self
    }

    /// Sets how long a start may take without showing progress.
    #[must_use]
    pub fn start_timeout_ms(mut self, start_timeout_ms: u64) -> Self {
        self.start_timeout_ms = Some(start_timeout_ms);
        self
    }

    /// Adds a line to `/etc/hosts`.
    #[must_use]
    pub fn extra_host(mut self, name: impl Into<String>, address: IpAddr) -> Self {
        self.extra_hosts.push(ExtraHost {
            name: name.into(),
            address,
        });
        self
    }

    /// Adds a name server.
    #[must_use]
    pub fn dns(mut self, server: IpAddr) -> Self {
        self.dns.push(server);
        self
    }

    /// Whether these options give the box a main process.
    #[must_use]
    pub fn has_main_process(&self) -> bool {
        self.run_image_command || !self.command.is_empty() || self.entrypoint.is_some()
    }

    /// Checks everything that can be checked without the image and the host's files.
    ///
    /// # Errors
    /// The first thing that is wrong.
    pub fn validate(&self) -> Result<(), crate::OptionsError> {
        validate(self)
    }
}

/// A folder or a file of the host that the box sees.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Mount {
    /// Path on the host; must exist when the box starts. Relative paths are made
    /// absolute when the box is created.
    pub source: PathBuf,
    /// Absolute path in the box; created if missing.
    pub target: String,
    /// Whether the box may only read; enforced on the host's side.
    #[serde(default)]
    pub read_only: bool,
}

impl Mount {
    /// `source` of the host at `target` in the box, writable.
    #[must_use]
    pub fn new(source: impl Into<PathBuf>, target: impl Into<String>) -> Self {
        Self {
            source: source.into(),
            target: target.into(),
            read_only: false,
        }
    }

    /// The same mount, read-only.
    #[must_use]
    pub fn read_only(mut self) -> Self {
        self.read_only = true;
        self
    }
}

/// A port of the box on the host.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Port {
    /// Address of the host to listen on. Absent: 127.0.0.1.
    #[serde(default)]
    pub host_ip: Option<IpAddr>,
    /// Port of the host; 0 picks a free one at every start ([`crate::BoxInfo::ports`] says which).
    #[serde(default)]
    pub host: u16,
    /// Port in the box.
    pub guest: u16,
    /// Transport.
    #[serde(default)]
    pub protocol: Protocol,
}

impl Port {
    /// TCP port `guest` of the box at port `host` of 127.0.0.1.
    #[must_use]
    pub fn new(host: u16, guest: u16) -> Self {
        Self {
            host_ip: None,
            host,
            guest,
            protocol: Protocol::Tcp,
        }
    }
}

/// Transport of a published port.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Protocol {
    /// TCP.
    #[default]
    Tcp,
    /// UDP.
    Udp,
}

impl std::fmt::Display for Protocol {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Tcp => "tcp",
            Self::Udp => "udp",
        })
    }
}

/// How a box is connected.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum NetworkMode {
    /// Outbound through the engine's user-mode network stack, with DNS.
    #[default]
    User,
    /// Loopback only.
    None,
}

/// What runs the machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum EngineKind {
    /// The first engine that works here.
    #[default]
    Auto,
    /// QEMU.
    Qemu,
    /// libkrun (not built yet: asking for it is an error that says so).
    Krun,
}

impl EngineKind {
    /// The name: `auto`, `qemu`, `krun`.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Auto => "auto",
            Self::Qemu => "qemu",
            Self::Krun => "krun",
        }
    }
}

impl std::fmt::Display for EngineKind {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.as_str())
    }
}

/// When the registry is asked for an image.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PullPolicy {
    /// When the home does not have it.
    #[default]
    Missing,
    /// Each time.
    Always,
    /// Never: it must be there.
    Never,
}

/// How much of the jail around the engine is required.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Security {
    /// Everything this host allows; what could not be applied shows in [`crate::BoxInfo::jail`].
    #[default]
    Standard,
    /// All of it, else the box does not start.
    Strict,
}

/// What a machine's start may begin with.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum StartPreference {
    /// A template of the machine's shape if there is one, else the kernel.
    #[default]
    Auto,
    /// The kernel.
    Cold,
}

/// A line of `/etc/hosts`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ExtraHost {
    /// Host name.
    pub name: String,
    /// Its address.
    pub address: IpAddr,
}

/// How much output of the main process is kept in the box's log.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct LogLimits {
    /// Size at which the log is rotated, in MiB.
    pub max_mib: u64,
    /// Rotated files that are kept beside the current one.
    pub files: u32,
}

impl Default for LogLimits {
    fn default() -> Self {
        Self {
            max_mib: DEFAULT_LOG_MAX_MIB,
            files: DEFAULT_LOG_FILES,
        }
    }
}

impl std::str::FromStr for NetworkMode {
    type Err = UnknownWord;
    fn from_str(text: &str) -> Result<Self, UnknownWord> {
        match text {
            "user" => Ok(Self::User),
            "none" => Ok(Self::None),
            _ => Err(UnknownWord::new(text, "user, none")),
        }
    }
}

impl std::str::FromStr for EngineKind {
    type Err = UnknownWord;
    fn from_str(text: &str) -> Result<Self, UnknownWord> {
        match text {
            "auto" => Ok(Self::Auto),
            "qemu" => Ok(Self::Qemu),
            "krun" => Ok(Self::Krun),
            _ => Err(UnknownWord::new(text, "auto, qemu, krun")),
        }
    }
}

impl std::str::FromStr for PullPolicy {
    type Err = UnknownWord;
    fn from_str(text: &str) -> Result<Self, UnknownWord> {
        match text {
            "missing" => Ok(Self::Missing),
            "always" => Ok(Self::Always),
            "never" => Ok(Self::Never),
            _ => Err(UnknownWord::new(text, "missing, always, never")),
        }
    }
}

impl std::str::FromStr for Protocol {
    type Err = UnknownWord;
    fn from_str(text: &str) -> Result<Self, UnknownWord> {
        match text {
            "tcp" => Ok(Self::Tcp),
            "udp" => Ok(Self::Udp),
            _ => Err(UnknownWord::new(text, "tcp, udp")),
        }
    }
}

impl std::str::FromStr for StartPreference {
    type Err = UnknownWord;
    fn from_str(text: &str) -> Result<Self, UnknownWord> {
        match text {
            "auto" => Ok(Self::Auto),
            "cold" => Ok(Self::Cold),
            _ => Err(UnknownWord::new(text, "auto, cold")),
        }
    }
}

impl std::str::FromStr for Security {
    type Err = UnknownWord;
    fn from_str(text: &str) -> Result<Self, UnknownWord> {
        match text {
            "standard" => Ok(Self::Standard),
            "strict" => Ok(Self::Strict),
            _ => Err(UnknownWord::new(text, "standard, strict")),
        }
    }
}

/// A word where only a few others are known.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is not one of: {known}")]
pub struct UnknownWord {
    /// What was given.
    pub text: String,
    /// What is known, separated by commas.
    pub known: &'static str,
}

impl UnknownWord {
    pub(crate) fn new(text: &str, known: &'static str) -> Self {
        Self {
            text: text.to_owned(),
            known,
        }
    }
}
