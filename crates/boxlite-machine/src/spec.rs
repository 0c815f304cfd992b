//! What a machine is made of: [`MachineSpec`] and the types in it.

use std::net::IpAddr;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

/// One machine, complete: everything that is needed to start it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MachineSpec {
    /// Virtual CPUs, at least 1.
    pub vcpus: u32,
    /// Memory in MiB.
    pub memory_mib: u64,
    /// The guest kernel, an ELF `vmlinux` with a PVH entry.
    pub kernel: PathBuf,
    /// The initramfs with the agent as `/init`.
    pub initramfs: PathBuf,
    /// Words for the kernel's command line, behind the engine's own.
    #[serde(default)]
    pub kernel_args_extra: Vec<String>,
    /// The image's root filesystem.
    pub rootfs: Option<Disk>,
    /// The box's own disk.
    pub disk: Option<Disk>,
    /// A disk on which nothing was written yet. Only machines of templates have one, and those
    /// that go on from such: the new box's disk takes its place.
    #[serde(default)]
    pub blank: Option<Disk>,
    /// Folders and files of the host, in the order of the guest's devices: at most
    /// [`MAX_SHARES`](crate::qemu::MAX_SHARES).
    #[serde(default)]
    pub shares: Vec<Share>,
    /// How the machine is connected.
    #[serde(default)]
    pub network: NetworkSpec,
    /// Where the serial console is kept.
    pub console_log: ConsoleLog,
    /// A private folder of this machine (mode 0700) for mount points of the jail.
    pub runtime_dir: PathBuf,
    /// Which program runs the machine.
    #[serde(default)]
    pub engine: EngineSpec,
    /// Absent: chosen by evidence, see [`accelerator::choose`](crate::accelerator::choose).
    #[serde(default)]
    pub accelerator: Option<Accelerator>,
    /// How much of the jail is required.
    #[serde(default)]
    pub security: Security,
}

/// One virtio-blk device.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Disk {
    /// The raw image, a regular file.
    pub file: PathBuf,
    /// The device's serial, by which the guest finds it: 1 to 20 of `[A-Za-z0-9_-]`.
    pub serial: String,
    /// Whether the guest may only read it.
    pub read_only: bool,
}

/// One virtio-9p device.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Share {
    /// The mount tag, by which the guest finds it: 1 to 31 of `[A-Za-z0-9_-]`.
    pub tag: String,
    /// What the guest finds in it.
    pub content: ShareContent,
}

/// What the guest finds in a share.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum ShareContent {
    /// A folder of the host.
    Folder {
        /// Which one.
        source: PathBuf,
        /// Whether the guest may only read it. The engine enforces it.
        read_only: bool,
    },
    /// A private folder with these in it, and nothing else. They are mounted in the jail's mount
    /// namespace: a host that allows none refuses the machine.
    Members(Vec<ShareMember>),
}

/// A folder or file of the host that is shared with others beside it, or alone in its folder.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ShareMember {
    /// What it is called in the share: one path component, unlike the others'.
    pub name: String,
    /// The folder or regular file of the host.
    pub source: PathBuf,
    /// Whether the guest may only read it. The host's kernel enforces it.
    pub read_only: bool,
}

impl Share {
    /// A share of one folder of the host.
    #[must_use]
    pub fn folder(tag: impl Into<String>, source: impl Into<PathBuf>, read_only: bool) -> Self {
        Self {
            tag: tag.into(),
            content: ShareContent::Folder {
                source: source.into(),
                read_only,
            },
        }
    }

    /// Whether the guest may write to nothing of it.
    #[must_use]
    pub fn is_read_only(&self) -> bool {
        match &self.content {
            ShareContent::Folder { read_only, .. } => *read_only,
            ShareContent::Members(members) => members.iter().all(|member| member.read_only),
        }
    }
}

/// How a machine is connected.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum NetworkSpec {
    /// No network device; the engine has no network either where namespaces are allowed.
    #[default]
    None,
    /// The engine's user-mode network, 10.0.2.0/24: gateway 10.0.2.2, resolver 10.0.2.3,
    /// guest 10.0.2.15.
    User {
        /// MAC address of the device, `52:54:00:12:34:56`.
        mac: String,
        /// Published ports.
        ports: Vec<PortForward>,
    },
}

/// A port of the host that leads to a port of the guest.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PortForward {
    /// The host's address to listen on (IPv4). Unspecified: all of them.
    pub host_ip: IpAddr,
    /// The host's port; 0: one that is free, found in
    /// [`Machine::published_ports`](crate::qemu::Machine::published_ports).
    pub host_port: u16,
    /// The guest's port, at least 1.
    pub guest_port: u16,
    /// TCP or UDP.
    pub protocol: Protocol,
}

/// A transport protocol.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Protocol {
    /// TCP.
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

/// Where the serial console is kept: `path`, and `path` with `.1` behind it, which
/// together never exceed `max_bytes`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ConsoleLog {
    /// The current file.
    pub path: PathBuf,
    /// Bytes of both files together, at least 8192.
    pub max_bytes: u64,
}

/// Which program runs a machine, and where what was found out about it is kept.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EngineSpec {
    /// `qemu-system-x86_64` of one's own. Absent: `BOXLITE_QEMU`, then `PATH`.
    #[serde(default)]
    pub qemu: Option<PathBuf>,
    /// A folder for the answers of the probes. Absent: nothing is remembered.
    #[serde(default)]
    pub cache_dir: Option<PathBuf>,
}

/// What executes the guest's instructions.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Accelerator {
    /// The processor, through Linux's `/dev/kvm`.
    Kvm,
    /// The processor, through macOS's Hypervisor framework. Not usable on Linux.
    Hvf,
    /// QEMU's translator: works everywhere, an order of magnitude slower.
    Tcg,
}

impl Accelerator {
    /// Its name, as in `BOXLITE_ACCEL`.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Kvm => "kvm",
            Self::Hvf => "hvf",
            Self::Tcg => "tcg",
        }
    }
}

impl std::fmt::Display for Accelerator {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.as_str())
    }
}

/// The text names no accelerator.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is no accelerator: kvm, hvf or tcg")]
pub struct UnknownAccelerator(pub String);

impl std::str::FromStr for Accelerator {
    type Err = UnknownAccelerator;
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "kvm" => Ok(Self::Kvm),
            "hvf" => Ok(Self::Hvf),
            "tcg" => Ok(Self::Tcg),
            _ => Err(UnknownAccelerator(text.to_owned())),
        }
    }
}

/// How much of the jail around the engine is required.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Security {
    /// What the host allows; the rest is reported.
    #[default]
    Default,
    /// All of it, or no start.
    Strict,
}
