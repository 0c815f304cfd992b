//! What is reported while an image is fetched.

use std::sync::Arc;

use serde::Serialize;

/// Called with each step of a pull or load, from any thread; it must return at once.
pub type ProgressFn = Arc<dyn Fn(Progress) + Send + Sync>;

/// One step of a pull or load.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
#[non_exhaustive]
pub enum Progress {
    /// The registry is asked what the name stands for.
    Resolving {
        /// The full name.
        reference: String,
    },
    /// It stands for this manifest.
    Resolved {
        /// Digest of the manifest.
        digest: String,
        /// Number of layers.
        layers: u64,
        /// Sum of the compressed sizes of its layers.
        total_bytes: u64,
    },
    /// A layer moved on.
    Layer {
        /// Digest of the layer.
        digest: String,
        /// What is being done to it.
        state: LayerState,
        /// Bytes that are there.
        current_bytes: u64,
        /// Bytes that there will be, when that is known.
        total_bytes: Option<u64>,
    },
    /// Something failed and is tried again.
    Retrying {
        /// What failed: a digest, or a reference.
        what: String,
        /// Why.
        reason: String,
        /// Which attempt comes now.
        attempt: u32,
    },
    /// The root filesystem is being built.
    BuildingRootfs {
        /// Digest of the image.
        digest: String,
    },
    /// All is there.
    Done {
        /// The full name, if it has one.
        reference: Option<String>,
        /// Digest of the image.
        digest: String,
    },
}

/// What is being done to a layer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum LayerState {
    /// It waits for its turn.
    Waiting,
    /// It is being fetched.
    Downloading,
    /// Its digest is being checked.
    Verifying,
    /// It is there.
    Complete,
    /// It was there already.
    Exists,
}

/// A progress function that does nothing.
#[must_use]
pub fn no_progress() -> ProgressFn {
    Arc::new(|_| {})
}
