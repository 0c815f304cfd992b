//! Errors of the operations on the whole home.

use crate::error::access::{code_of_database, code_of_io, code_of_lock};
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
    /// The home could not remove it.
    #[error(transparent)]
    Home(#[from] boxlite_store::PruneError),
    /// The home's state could not be read or written.
    #[error(transparent)]
    State(#[from] StateError),
}

diagnose!(PruneError {
    Self::Home(error) => code_of_prune(error), None;
} wraps { State });

fn code_of_prune(error: &boxlite_store::PruneError) -> ErrorCode {
    use boxlite_store::{GarbageError, PruneError, RemoveBoxError, RemoveImageError, UsageError};
    match error {
        PruneError::Lock(error) | PruneError::Garbage(GarbageError::Lock(error)) => code_of_lock(error),
        PruneError::Garbage(GarbageError::Io { source, .. }) | PruneError::Usage(UsageError::Io { source, .. }) => {
            code_of_io(source)
        }
        PruneError::Database(error)
        | PruneError::Garbage(GarbageError::Database(error))
        | PruneError::Usage(UsageError::Database(error))
        | PruneError::Remove(RemoveBoxError::Database(error))
        | PruneError::RemoveImage(RemoveImageError::Database(error)) => code_of_database(error),
        PruneError::Remove(RemoveBoxError::NotFound { .. })
        | PruneError::RemoveImage(RemoveImageError::NoSuchImage { .. }) => ErrorCode::NotFound,
        PruneError::RemoveImage(RemoveImageError::InUse { .. }) => ErrorCode::InvalidState,
    }
}
