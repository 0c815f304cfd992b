//! Templates: machines that have booted, saved for others of the same shape to go on from.
//!
//! A template is a folder with the guest's memory (`ram`), the state of its devices
//! (`state`) and what both are good for (`manifest.json`). A machine that starts from it maps
//! the memory privately, so one file serves any number of them and costs each only the
//! pages that it writes.
//!
//! Where the machine has a place left for it, there is also a disk that no box has written to
//! (`blank`), as it was when the memory was saved. The guest has it mounted, so a machine can
//! only go on with a copy of it: that becomes the disk of a new box, or is thrown away.

use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::command_line::{DEVICE_SLOTS, MAX_SHARES, TCG_CPU};
use super::probe::QemuInfo;
use crate::spec::{Accelerator, MachineSpec, NetworkSpec, Share};

/// Grows by 1 whenever a template of before can't be gone on from: other devices, other
/// options of the engine, another protocol between agent and host before its first byte.
const FORMAT: u32 = 3;
/// How many shares the machines of one shape have.
const SHARES: [usize; 3] = [0, 1, MAX_SHARES];
/// A manifest larger than this is not one of ours.
const MAX_MANIFEST_BYTES: u64 = 64 * 1024;

/// What `/proc/cpuinfo` says of one processor is shorter than this.
const MAX_CPU_BYTES: u64 = 16 * 1024;

const MANIFEST_NAME: &str = "manifest.json";
const RAM_NAME: &str = "ram";
const STATE_NAME: &str = "state";
const BLANK_NAME: &str = "blank";
/// Places of a machine that has everything but volumes: serial port, root file system, disk,
/// blank disk, network card.
const OTHER_DEVICES: usize = 5;

/// Everything that a guest may have seen of its machine before its host said hello. Machines
/// of one shape may go on from one template.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Shape {
    /// Of the template and of the devices.
    format: u32,
    /// The engine's program.
    pub engine: PathBuf,
    /// Its version.
    pub engine_version: String,
    /// Its length in bytes.
    engine_bytes: u64,
    /// When it was last changed, in nanoseconds since the epoch.
    engine_mtime_ns: i128,
    /// What executes the guest's instructions.
    pub accelerator: Accelerator,
    /// The processor as the guest sees it: the host's under KVM.
    pub cpu: String,
    /// Virtual CPUs.
    pub vcpus: u32,
    /// Memory in MiB.
    pub memory_mib: u64,
    /// The guest's kernel.
    kernel: FileIdentity,
    /// The initramfs with the agent.
    initramfs: FileIdentity,
    kernel_args_extra: Vec<String>,
    /// Devices for shares.
    pub shares: usize,
    /// Whether there is a network card.
    pub network: bool,
    /// Serials of the disks: root file system, the box's own.
    serials: [Option<String>; 2],
    /// Whether there is a disk on which nothing was written yet.
    pub blank: bool,
}

/// One state of one file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct FileIdentity {
    path: PathBuf,
    bytes: u64,
    mtime_ns: i128,
    /// Nobody but the kernel's clock sets it, so it tells of a change that hides itself.
    ctime_ns: i128,
}

impl FileIdentity {
    fn of(path: &Path) -> io::Result<Self> {
        let metadata = std::fs::metadata(path)?;
        let ns = |seconds: i64, nanoseconds: i64| i128::from(seconds) * 1_000_000_000 + i128::from(nanoseconds);
        Ok(Self {
            path: path.to_owned(),
            bytes: metadata.len(),
            mtime_ns: ns(metadata.mtime(), metadata.mtime_nsec()),
            ctime_ns: ns(metadata.ctime(), metadata.ctime_nsec()),
        })
    }
}

/// Why a machine has no shape of which there can be a template.
#[derive(Debug, thiserror::Error)]
pub enum ShapeError {
    /// More shares than there are devices.
    #[error("{0} shares: a template has at most {MAX_SHARES}")]
    Shares(usize),
    /// A share with another tag than its place.
    #[error("the share at place {place} has the tag {tag:?}")]
    Tag {
        /// The place.
        place: usize,
        /// The tag.
        tag: String,
    },
    /// What the guest boots from, or the processor, can't be looked at.
    #[error("{} can't be read", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
}

/// The mount tag of the share at `place`, counted from 0: it is the same in every machine.
#[must_use]
pub fn share_tag(place: usize) -> String {
    format!("volume{place}")
}

impl Shape {
    /// The shape of `spec`'s machine. Blocking (looks at three files).
    ///
    /// # Errors
    /// [`ShapeError`].
    pub fn of(spec: &MachineSpec, qemu: &QemuInfo, accelerator: Accelerator) -> Result<Self, ShapeError> {
        let wanted = spec.shares.len();
        let shares = SHARES
            .into_iter()
            .find(|shares| *shares >= wanted)
            .ok_or(ShapeError::Shares(wanted))?;
        if let Some((place, share)) = spec
            .shares
            .iter()
            .enumerate()
            .find(|(place, share)| share.tag != share_tag(*place))
        {
            let tag = share.tag.clone();
            return Err(ShapeError::Tag { place, tag });
        }
        let file = |path: &Path| {
            FileIdentity::of(path).map_err(|source| ShapeError::File {
                path: path.to_owned(),
                source,
            })
        };
        let serial = |disk: &Option<crate::Disk>| disk.as_ref().map(|disk| disk.serial.clone());
        Ok(Self {
            format: FORMAT,
            engine: qemu.path.clone(),
            engine_version: qemu.version.to_string(),
            engine_bytes: qemu.size_bytes,
            engine_mtime_ns: qemu.mtime_ns,
            accelerator,
            cpu: guest_cpu(accelerator)?,
            vcpus: spec.vcpus,
            memory_mib: spec.memory_mib,
            kernel: file(&spec.kernel)?,
            initramfs: file(&spec.initramfs)?,
            kernel_args_extra: spec.kernel_args_extra.clone(),
            shares,
            network: !matches!(spec.network, NetworkSpec::None),
            serials: [serial(&spec.rootfs), serial(&spec.disk)],
            blank: spec.disk.is_some() && OTHER_DEVICES + shares <= DEVICE_SLOTS,
        })
    }

    /// A name for the shape: 16 hexadecimal digits. Two shapes may have the same.
    #[must_use]
    pub fn key(&self) -> String {
        // Maps have no part in it, so it can't fail; and a shape without a name is one too.
        let json = serde_json::to_vec(self).unwrap_or_default();
        // FNV-1a, 64 bits: spreads, and hides nothing.
        let hash = json.iter().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
            (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3)
        });
        format!("{hash:016x}")
    }

    /// Whether what the template was made with is still what is there. Blocking.
    #[must_use]
    pub fn is_current(&self) -> bool {
        self.is_current_on(&mut HostCpu::default())
    }

    fn is_current_on(&self, host: &mut HostCpu) -> bool {
        let same = |then: &FileIdentity| FileIdentity::of(&then.path).is_ok_and(|now| now == *then);
        self.format == FORMAT
            && same(&self.kernel)
            && same(&self.initramfs)
            && FileIdentity::of(&self.engine)
                .is_ok_and(|now| (now.bytes, now.mtime_ns) == (self.engine_bytes, self.engine_mtime_ns))
            && host.as_seen_with(self.accelerator) == Some(&self.cpu)
    }

    /// `spec` with as many shares as the shape has; those to spare lead to `blank`, an
    /// empty folder.
    #[must_use]
    pub fn fill(&self, spec: &MachineSpec, blank: &Path) -> MachineSpec {
        let mut spec = spec.clone();
        for place in spec.shares.len()..self.shares {
            spec.shares.push(Share::folder(share_tag(place), blank, true));
        }
        spec
    }
}

/// What guests see of this host's processor, looked at once for many of them.
#[derive(Debug, Default)]
struct HostCpu {
    seen: Vec<(Accelerator, Option<String>)>,
}

impl HostCpu {
    fn as_seen_with(&mut self, accelerator: Accelerator) -> Option<&String> {
        if !self.seen.iter().any(|(known, _)| *known == accelerator) {
            self.seen.push((accelerator, guest_cpu(accelerator).ok()));
        }
        let (_, cpu) = self.seen.iter().find(|(known, _)| *known == accelerator)?;
        cpu.as_ref()
    }
}

/// What a guest sees of the processor: under KVM nearly all, under emulation how fast its
/// time stamp counter runs, which follows from the model.
fn guest_cpu(accelerator: Accelerator) -> Result<String, ShapeError> {
    let cpuinfo = Path::new("/proc/cpuinfo");
    match accelerator {
        Accelerator::Kvm => host_cpu(
            cpuinfo,
            &["vendor_id", "cpu family", "model", "stepping", "microcode", "flags"],
        ),
        Accelerator::Tcg | Accelerator::Hvf => {
            let host = host_cpu(cpuinfo, &["vendor_id", "cpu family", "model", "model name", "stepping"])?;
            Ok(format!("{TCG_CPU} on {host}"))
        }
    }
}

/// Some fields of the host's first processor.
fn host_cpu(cpuinfo: &Path, fields: &[&str]) -> Result<String, ShapeError> {
    let failed = |source| ShapeError::File {
        path: cpuinfo.to_owned(),
        source,
    };
    // The kernel writes it as it is read, and it is long where there are many processors.
    let mut text = Vec::new();
    let file = std::fs::File::open(cpuinfo).map_err(failed)?;
    io::Read::read_to_end(&mut io::Read::take(file, MAX_CPU_BYTES), &mut text).map_err(failed)?;
    let text = String::from_utf8_lossy(&text);
    let first = text.split("\n\n").next().unwrap_or_default();
    let values = first
        .lines()
        .filter_map(|line| line.split_once(':'))
        .filter(|(name, _)| fields.contains(&name.trim()))
        .map(|(_, value)| value.trim());
    Ok(values.collect::<Vec<_>>().join("; "))
}

/// What a template is good for; the last of its files to be written.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Manifest {
    /// The shape of its machine.
    pub shape: Shape,
    /// When it was made, in milliseconds since the epoch.
    pub created_at_ms: u64,
    ram: FileIdentity,
    state: FileIdentity,
    #[serde(default)]
    blank: Option<FileIdentity>,
}

/// A template that can be gone on from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Template {
    dir: PathBuf,
    manifest: Manifest,
}

/// Why a template can't be gone on from.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// There is none.
    #[error("there is no template of this shape yet")]
    Missing,
    /// Its files can't be read.
    #[error("the template's {} can't be read", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// Its manifest is damaged, or another version's.
    #[error("the template's manifest is not one of this version: {0}")]
    Manifest(#[source] serde_json::Error),
    /// It is of another shape with the same name.
    #[error("the template is of another shape")]
    Shape,
    /// Somebody wrote to it after it was made.
    #[error("the template's {} was changed after it was made", path.display())]
    Changed {
        /// The file.
        path: PathBuf,
    },
}

impl Template {
    /// Opens the template in `dir`. Blocking (looks at a few files).
    ///
    /// # Errors
    /// [`OpenError`].
    pub fn open(dir: &Path) -> Result<Self, OpenError> {
        let path = dir.join(MANIFEST_NAME);
        let read = |source: io::Error| match source.kind() {
            io::ErrorKind::NotFound => OpenError::Missing,
            _ => OpenError::Read {
                path: path.clone(),
                source,
            },
        };
        let mut json = Vec::new();
        let file = std::fs::File::open(&path).map_err(read)?;
        io::Read::read_to_end(&mut io::Read::take(file, MAX_MANIFEST_BYTES), &mut json).map_err(read)?;
        let manifest: Manifest = serde_json::from_slice(&json).map_err(OpenError::Manifest)?;
        let template = Self {
            dir: dir.to_owned(),
            manifest,
        };
        let manifest = &template.manifest;
        let blank = manifest.blank.as_ref().map(|blank| (template.blank(), blank));
        let files = [(template.ram(), &manifest.ram), (template.state(), &manifest.state)];
        for (path, then) in files.into_iter().chain(blank) {
            let now = FileIdentity::of(&path).map_err(|source| OpenError::Read {
                path: path.clone(),
                source,
            })?;
            if (now.bytes, now.mtime_ns, now.ctime_ns) != (then.bytes, then.mtime_ns, then.ctime_ns) {
                return Err(OpenError::Changed { path });
            }
        }
        Ok(template)
    }

    /// The template for machines of `shape` among those in `dir`. Blocking.
    ///
    /// # Errors
    /// [`OpenError`].
    pub fn find(dir: &Path, shape: &Shape) -> Result<Self, OpenError> {
        let template = Self::open(&dir.join(shape.key()))?;
        if template.manifest.shape == *shape {
            Ok(template)
        } else {
            Err(OpenError::Shape)
        }
    }

    /// Its folder.
    #[must_use]
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// What it is good for.
    #[must_use]
    pub fn manifest(&self) -> &Manifest {
        &self.manifest
    }

    pub(super) fn ram(&self) -> PathBuf {
        self.dir.join(RAM_NAME)
    }

    pub(super) fn state(&self) -> PathBuf {
        self.dir.join(STATE_NAME)
    }

    fn blank(&self) -> PathBuf {
        self.dir.join(BLANK_NAME)
    }
}

mod disk;
mod lock;
mod make;
mod sweep;

pub use disk::{BlankDisks, CopyBlankError};
pub use make::{MakeError, MakeOptions, make};
pub use sweep::{SweepError, Swept, sweep};

#[cfg(test)]
mod tests;
