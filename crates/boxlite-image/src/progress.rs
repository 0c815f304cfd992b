use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use crate::digest::Digest;
use crate::reference::Reference;

/// What a pull or load is doing.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Progress {
    /// The registry is being asked for the manifest.
    Resolving {
        /// What is being pulled.
        reference: Reference,
    },
    /// The manifest and the config are here; layers follow.
    Resolved {
        /// The manifest's digest.
        digest: Digest,
        /// How many different layers there are.
        layers: usize,
        /// Bytes of all layers.
        total_bytes: u64,
    },
    /// One layer's state, or how far it is.
    Layer {
        /// The layer's digest.
        digest: Digest,
        /// Bytes that are here.
        current_bytes: u64,
        /// Bytes that it has.
        total_bytes: u64,
        /// What happens to it.
        state: LayerState,
    },
    /// A request failed and is going to be repeated.
    Retrying {
        /// The attempt that comes, counted from 1 for the first.
        attempt: u32,
        /// When it comes.
        delay: Duration,
        /// Why the last one failed.
        error: String,
    },
    /// An archive or layout is being read.
    Reading {
        /// The file or folder.
        path: PathBuf,
        /// Bytes read.
        current_bytes: u64,
        /// Bytes that there are, if that is known.
        total_bytes: Option<u64>,
    },
}

/// What happens to a layer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum LayerState {
    /// Another pull is downloading it.
    Waiting,
    /// It is being downloaded.
    Downloading,
    /// It was in the content store already.
    Exists,
    /// It is in the content store now.
    Done,
}

/// Called with each [`Progress`], from several threads; it should return quickly.
pub type ProgressFn = Arc<dyn Fn(Progress) + Send + Sync>;

/// Tells the listener about bytes, but not about each single packet.
pub(crate) struct Meter {
    progress: ProgressFn,
    told_bytes: u64,
}

impl Meter {
    const STEP_BYTES: u64 = 256 << 10;

    pub(crate) fn new(progress: &ProgressFn) -> Self {
        Self {
            progress: Arc::clone(progress),
            told_bytes: 0,
        }
    }

    /// Tells, if enough has happened since the last time.
    pub(crate) fn tick(&mut self, current_bytes: u64, event: impl FnOnce() -> Progress) {
        if current_bytes.abs_diff(self.told_bytes) >= Self::STEP_BYTES {
            self.told_bytes = current_bytes;
            (self.progress)(event());
        }
    }
}

impl fmt::Debug for Meter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Meter")
            .field("told_bytes", &self.told_bytes)
            .finish_non_exhaustive()
    }
}
