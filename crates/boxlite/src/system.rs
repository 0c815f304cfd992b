//! The home as a whole: what it is, what it takes, what can go.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

/// What a client works with; from [`crate::Client::info`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct SystemInfo {
    /// Version of the library.
    pub version: String,
    /// The home.
    pub home: PathBuf,
    /// Platform of images that run here (`linux/amd64`).
    pub platform: String,
    /// The engine that `auto` takes, if one was found.
    pub engine: Option<EngineInfo>,
    /// Why there is no engine, or none with the accelerator that was asked for.
    pub engine_error: Option<crate::error::Diagnosis>,
    /// The accelerator that a start takes.
    pub accelerator: Option<AcceleratorInfo>,
    /// Supervisor, kernel and initramfs.
    pub bundle: Option<BundleInfo>,
    /// Why there is no bundle.
    pub bundle_error: Option<crate::error::Diagnosis>,
    /// How many boxes there are.
    pub boxes: BoxCounts,
    /// How many images there are.
    pub images: u64,
    /// Processors of the host that this process may use.
    pub host_cpus: u32,
    /// Memory of the host.
    pub host_memory_bytes: u64,
    /// Release of the host's kernel.
    pub host_kernel: String,
}

/// An engine on this host.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct EngineInfo {
    /// `qemu`.
    pub name: String,
    /// Its version.
    pub version: String,
    /// The program.
    pub path: PathBuf,
}

/// An accelerator and why it was chosen.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AcceleratorInfo {
    /// `kvm`, `hvf` or `tcg`.
    pub name: String,
    /// What it was chosen by.
    pub evidence: Vec<String>,
}

/// Where supervisor, kernel and initramfs come from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BundleInfo {
    /// The folder that they are in.
    pub directory: PathBuf,
    /// Where that comes from.
    pub origin: BundleOrigin,
}

/// Where a bundle comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum BundleOrigin {
    /// The library has it in itself.
    Embedded,
    /// `BOXLITE_BUNDLE_DIR` or [`crate::ClientBuilder::bundle_dir`] names it.
    Given,
    /// It lies in the build tree beside the running program.
    BuildTree,
}

/// How many boxes are in which state.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct BoxCounts {
    /// All.
    pub total: u64,
    /// With a running machine.
    pub running: u64,
    /// Paused.
    pub paused: u64,
    /// Created, stopped or failed.
    pub stopped: u64,
}

/// What the home takes of the host's disk; from [`crate::Client::disk_usage`].
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[non_exhaustive]
pub struct DiskUsage {
    /// Compressed layers, manifests and root filesystems.
    pub images: UsageClass,
    /// Disks and logs of boxes.
    pub boxes: UsageClass,
    /// Unpacked bundles.
    pub bundles: UsageClass,
    /// Templates of machines; those that boxes can start from are active.
    pub templates: UsageClass,
    /// Layers and root filesystems that no image names any more.
    pub build_cache: UsageClass,
    /// Each image.
    pub image_list: Vec<ImageUsage>,
    /// Each box.
    pub box_list: Vec<BoxUsage>,
}

/// One class of things that take space. Bytes are what the files really take, holes
/// not counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct UsageClass {
    /// How many there are.
    pub count: u64,
    /// How many of them are in use (images with boxes, boxes that run).
    pub active: u64,
    /// What they take.
    pub size_bytes: u64,
    /// What [`crate::Client::prune`] could free.
    pub reclaimable_bytes: u64,
}

/// What one image takes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ImageUsage {
    /// Its names.
    pub references: Vec<String>,
    /// Its digest.
    pub digest: String,
    /// Compressed layers; those that it shares with other images are counted for each.
    pub layers_bytes: u64,
    /// Its root filesystem.
    pub rootfs_bytes: u64,
    /// Number of boxes that were made from it.
    pub boxes: u64,
}

/// What one box takes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BoxUsage {
    /// Its id.
    pub id: String,
    /// Its name.
    pub name: String,
    /// Its state.
    pub state: crate::BoxState,
    /// Disk and logs.
    pub size_bytes: u64,
}

/// What [`crate::Client::prune`] removes, beside what nothing names any more, which it always
/// removes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
#[non_exhaustive]
pub struct PruneOptions {
    /// Boxes that don't run.
    pub boxes: bool,
    /// Images without a name and without a box.
    pub images: bool,
    /// All images without a box, also those with a name.
    pub all_images: bool,
    /// Guest bundles of other versions of boxlite.
    pub bundles: bool,
    /// All templates: the next start of a shape makes another.
    pub templates: bool,
}

impl Default for PruneOptions {
    fn default() -> Self {
        Self {
            boxes: true,
            images: true,
            all_images: false,
            bundles: true,
            templates: true,
        }
    }
}

/// What was removed.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[non_exhaustive]
pub struct PruneReport {
    /// Names of boxes.
    pub boxes: Vec<String>,
    /// Names, or digests, of images.
    pub images: Vec<String>,
    /// Keys of templates.
    pub templates: Vec<String>,
    /// Bytes that are free again.
    pub freed_bytes: u64,
}
