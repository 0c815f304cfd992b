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
    /// A request failed and is tried again.
    Retrying {
        /// What is being pulled.
        what: String,
        /// Why it failed.
        reason: String,
        /// Which attempt comes now, counted from 1 for the first.
        attempt: u32,
    },
    /// A file or folder is being read.
    Reading {
        /// Which.
        path: std::path::PathBuf,
        /// Bytes that were read.
        current_bytes: u64,
        /// Bytes that there are, when that is known.
        total_bytes: Option<u64>,
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

/// The same event as callers of this crate see it; `None` for one that is not known here.
pub(crate) fn from_image(what: &str, event: boxlite_image::Progress) -> Option<Progress> {
    use boxlite_image::{LayerState as State, Progress as Event};
    Some(match event {
        Event::Resolving { reference } => Progress::Resolving {
            reference: reference.to_string(),
        },
        Event::Resolved {
            digest,
            layers,
            total_bytes,
        } => Progress::Resolved {
            digest: digest.to_string(),
            layers: layers as u64,
            total_bytes,
        },
        Event::Layer {
            digest,
            current_bytes,
            total_bytes,
            state,
        } => Progress::Layer {
            digest: digest.to_string(),
            state: match state {
                State::Waiting => LayerState::Waiting,
                State::Exists => LayerState::Exists,
                State::Done => LayerState::Complete,
                _ => LayerState::Downloading,
            },
            current_bytes,
            total_bytes: Some(total_bytes),
        },
        Event::Retrying { attempt, error, .. } => Progress::Retrying {
            what: what.to_owned(),
            reason: error,
            attempt,
        },
        Event::Reading {
            path,
            current_bytes,
            total_bytes,
        } => Progress::Reading {
            path,
            current_bytes,
            total_bytes,
        },
        _ => return None,
    })
}

/// A progress function that does nothing.
#[must_use]
pub fn no_progress() -> ProgressFn {
    Arc::new(|_| {})
}
