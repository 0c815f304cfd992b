//! How far a pull, a load or a create is: events added up.

use std::sync::{Arc, Mutex, PoisonError};

use boxlite::{LayerState, Progress as Event, ProgressFn};
use serde::Serialize;

use crate::code::Code;
use crate::error::Failure;

/// What is being done about an image.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum ProgressPhase {
    /// Nothing yet.
    #[default]
    Waiting,
    /// The registry is asked what the name stands for.
    Resolving,
    /// A file or folder is being read.
    Reading,
    /// Layers are being fetched.
    Downloading,
    /// The root filesystem is being built.
    Building,
    /// The image is there.
    Done,
}

/// How far an operation is with an image.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
pub struct Progress {
    /// What is being done.
    pub phase: ProgressPhase,
    /// The image's full name, once it is known.
    pub reference: Option<String>,
    /// Digest of its manifest, once it is known.
    pub digest: Option<String>,
    /// Its layers, as far as they were heard of.
    pub layers: Vec<LayerProgress>,
    /// Bytes that are there, of all layers or of the file that is read.
    pub current_bytes: u64,
    /// Bytes that there will be, when that is known.
    pub total_bytes: Option<u64>,
    /// The failure after which a request is tried again, until something moves on.
    pub retry: Option<RetryProgress>,
}

/// How far a layer is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct LayerProgress {
    /// Digest of the compressed layer.
    pub digest: String,
    /// What is being done to it.
    pub state: LayerState,
    /// Bytes that are there.
    pub current_bytes: u64,
    /// Bytes that there will be, when that is known.
    pub total_bytes: Option<u64>,
}

/// A request that is tried again.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct RetryProgress {
    /// What is being pulled.
    pub what: String,
    /// Why the attempt before failed.
    pub reason: String,
    /// Which attempt comes now; the first was 1.
    pub attempt: u32,
}

impl Progress {
    fn apply(&mut self, event: Event) {
        match event {
            Event::Resolving { reference } => {
                self.phase = ProgressPhase::Resolving;
                self.reference = Some(reference);
            }
            Event::Resolved {
                digest, total_bytes, ..
            } => {
                self.phase = ProgressPhase::Downloading;
                self.digest = Some(digest);
                self.total_bytes = Some(total_bytes);
                self.retry = None;
            }
            Event::Layer {
                digest,
                state,
                current_bytes,
                total_bytes,
            } => {
                self.retry = None;
                let layer = LayerProgress {
                    digest,
                    state,
                    current_bytes,
                    total_bytes,
                };
                match self.layers.iter_mut().find(|known| known.digest == layer.digest) {
                    Some(known) => *known = layer,
                    None => self.layers.push(layer),
                }
                self.current_bytes = self.layers.iter().map(|layer| layer.current_bytes).sum();
            }
            Event::Retrying { what, reason, attempt } => {
                self.retry = Some(RetryProgress { what, reason, attempt });
            }
            Event::Reading {
                current_bytes,
                total_bytes,
                ..
            } => {
                self.phase = ProgressPhase::Reading;
                self.current_bytes = current_bytes;
                self.total_bytes = total_bytes;
            }
            Event::BuildingRootfs { digest } => {
                self.phase = ProgressPhase::Building;
                self.digest = Some(digest);
            }
            Event::Done { reference, digest } => {
                self.phase = ProgressPhase::Done;
                self.reference = reference.or(self.reference.take());
                self.digest = Some(digest);
            }
            _ => {}
        }
    }
}

/// Progress that is written by the work and read by whoever asks.
#[derive(Debug, Default)]
pub(crate) struct ProgressState(Mutex<Progress>);

impl ProgressState {
    /// The function that the library reports to.
    pub(crate) fn function(self: &Arc<Self>) -> ProgressFn {
        let state = Arc::clone(self);
        Arc::new(move |event| state.0.lock().unwrap_or_else(PoisonError::into_inner).apply(event))
    }

    pub(crate) fn json(&self) -> Result<String, Failure> {
        let progress = self.0.lock().unwrap_or_else(PoisonError::into_inner).clone();
        serde_json::to_string(&progress)
            .map_err(|error| Failure::new(Code::Internal, format!("the progress is no JSON: {error}")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn layer(digest: &str, current_bytes: u64) -> Event {
        Event::Layer {
            digest: digest.to_owned(),
            state: LayerState::Downloading,
            current_bytes,
            total_bytes: Some(10),
        }
    }

    #[test]
    fn events_add_up() {
        let mut progress = Progress::default();
        progress.apply(Event::Resolving {
            reference: "r".to_owned(),
        });
        assert_eq!(progress.phase, ProgressPhase::Resolving);
        progress.apply(Event::Resolved {
            digest: "d".to_owned(),
            layers: 2,
            total_bytes: 20,
        });
        progress.apply(layer("a", 3));
        progress.apply(Event::Retrying {
            what: "r".to_owned(),
            reason: "reset".to_owned(),
            attempt: 2,
        });
        assert_eq!(progress.retry.as_ref().unwrap().attempt, 2);
        progress.apply(layer("b", 4));
        progress.apply(layer("a", 5));
        assert_eq!((progress.current_bytes, progress.total_bytes), (9, Some(20)));
        assert_eq!(progress.layers.len(), 2);
        assert_eq!(progress.retry, None);
        progress.apply(Event::BuildingRootfs { digest: "d".to_owned() });
        progress.apply(Event::Done {
            reference: None,
            digest: "d".to_owned(),
        });
        assert_eq!(
            (progress.phase, progress.reference.as_deref()),
            (ProgressPhase::Done, Some("r"))
        );
    }
}
