//! Why there is no engine to run machines.

use crate::error::boxes::diagnose;
use crate::error::{Diagnose, ErrorCode, StateError};

/// No engine was found, or none that can be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum EngineError {
    /// QEMU is missing, too old or lacks something.
    #[error(transparent)]
    Qemu(#[from] boxlite_machine::qemu::ProbeError),
    /// The accelerator that was asked for can't be used.
    #[error(transparent)]
    Accelerator(#[from] boxlite_machine::accelerator::ChooseError),
    /// The engine is not there yet.
    #[error("the engine {engine} is not supported by this version")]
    Unsupported {
        /// What was asked for.
        engine: &'static str,
    },
    /// The home's state could not be read or written.
    #[error(transparent)]
    State(#[from] StateError),
}

diagnose!(EngineError {
    Self::Qemu(error) => ErrorCode::Engine, Some(error.hint());
    Self::Accelerator(error) => ErrorCode::Unsupported, Some("leave the choice of the accelerator to boxlite".to_owned());
    Self::Unsupported { .. } => ErrorCode::Unsupported, Some("use the engine qemu, or auto".to_owned());
} wraps { State });
