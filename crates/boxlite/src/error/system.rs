//! Errors of the operations on the whole home.

use crate::error::boxes::diagnose;
use crate::error::{Diagnose, ErrorCode, StateError};

/// The state of the system could not be read.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum InfoError {
    /// The home's state could not be read.
    #[error(transparent)]
    State(#[from] StateError),
}

diagnose!(InfoError {} wraps { State });

/// The disk usage could not be counted.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DiskUsageError {
    /// The home's state could not be read.
    #[error(transparent)]
    State(#[from] StateError),
}

diagnose!(DiskUsageError {} wraps { State });

/// What is unused could not be removed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PruneError {
    /// The home's state could not be read or written.
    #[error(transparent)]
    State(#[from] StateError),
}

diagnose!(PruneError {} wraps { State });
