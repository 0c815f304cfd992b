//! Errors that several operations share: reaching the home's state, the supervisor, the agent.

use crate::error::{Diagnose, ErrorCode};

/// The home's state could not be read or written.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StateError {
    /// The client was closed or dropped.
    #[error("the client is closed")]
    Closed,
    /// A file of the home could not be read or written.
    #[error("{action} {path}", path = path.display())]
    File {
        /// What was being done.
        action: &'static str,
        /// To which file.
        path: std::path::PathBuf,
        /// What the system said.
        #[source]
        source: std::io::Error,
    },
    /// The home's database failed.
    #[error(transparent)]
    Database(#[from] boxlite_store::DatabaseError),
    /// A lock of the home could not be taken.
    #[error(transparent)]
    Lock(#[from] boxlite_store::LockError),
    /// Something could not be staged in the home.
    #[error(transparent)]
    Stage(#[from] boxlite_store::StageError),
    /// What nobody uses could not be deleted.
    #[error(transparent)]
    Garbage(#[from] boxlite_store::GarbageError),
    /// The space could not be counted.
    #[error(transparent)]
    Usage(#[from] boxlite_store::UsageError),
    /// A row of the home has a form that this version does not know.
    #[error("the {what} of {id} in the home's database can't be read")]
    Row {
        /// What of it.
        what: &'static str,
        /// Of which box or image.
        id: String,
        /// Where it is wrong.
        #[source]
        source: serde_json::Error,
    },
    /// A blocking step ended without a result: it panicked, or the runtime is shutting down.
    #[error("the runtime ended a step early")]
    Runtime(#[from] tokio::task::JoinError),
}

impl Diagnose for StateError {
    fn code(&self) -> ErrorCode {
        match self {
            Self::Closed => ErrorCode::Closed,
            Self::File { source, .. } => code_of_io(source),
            Self::Database(error) => code_of_database(error),
            Self::Lock(error) => code_of_lock(error),
            Self::Stage(boxlite_store::StageError::Io { source, .. })
            | Self::Garbage(boxlite_store::GarbageError::Io { source, .. })
            | Self::Usage(boxlite_store::UsageError::Io { source, .. }) => code_of_io(source),
            Self::Stage(boxlite_store::StageError::Lock(error))
            | Self::Garbage(boxlite_store::GarbageError::Lock(error)) => code_of_lock(error),
            Self::Garbage(boxlite_store::GarbageError::Database(error))
            | Self::Usage(boxlite_store::UsageError::Database(error)) => code_of_database(error),
            Self::Row { .. } | Self::Runtime(_) => ErrorCode::Internal,
        }
    }

    fn hint(&self) -> Option<String> {
        match self {
            Self::Closed => Some("keep the client for as long as its handles are used".to_owned()),
            Self::Row { .. } => {
                Some("it was made by another version of boxlite: use that version, or remove it".to_owned())
            }
            _ if self.code() == ErrorCode::ResourceExhausted => {
                Some("free some space: boxlite system prune".to_owned())
            }
            _ => None,
        }
    }
}

/// The code that trouble with the database stands for.
pub(crate) fn code_of_database(error: &boxlite_store::DatabaseError) -> ErrorCode {
    use boxlite_store::DatabaseTrouble;
    match error.trouble() {
        DatabaseTrouble::Full => ErrorCode::ResourceExhausted,
        DatabaseTrouble::Busy => ErrorCode::Timeout,
        _ => ErrorCode::Internal,
    }
}

/// The code that trouble with a lock stands for.
pub(crate) fn code_of_lock(error: &boxlite_store::LockError) -> ErrorCode {
    use boxlite_store::LockError;
    match error {
        LockError::Gone { .. } => ErrorCode::NotFound,
        LockError::Io { source, .. } => code_of_io(source),
        LockError::TimedOut { .. } => ErrorCode::Timeout,
        LockError::Cancelled { .. } => ErrorCode::Cancelled,
    }
}

impl From<boxlite_store::ListBoxesError> for StateError {
    fn from(error: boxlite_store::ListBoxesError) -> Self {
        match error {
            boxlite_store::ListBoxesError::Database(error) => Self::Database(error),
        }
    }
}

impl From<boxlite_store::ImageError> for StateError {
    fn from(error: boxlite_store::ImageError) -> Self {
        match error {
            boxlite_store::ImageError::Database(error) => Self::Database(error),
        }
    }
}

impl From<boxlite_store::ReconcileError> for StateError {
    fn from(error: boxlite_store::ReconcileError) -> Self {
        match error {
            boxlite_store::ReconcileError::Lock(error) => Self::Lock(error),
            boxlite_store::ReconcileError::Database(error) => Self::Database(error),
        }
    }
}

/// The code that a system error stands for.
pub(crate) fn code_of_io(error: &std::io::Error) -> ErrorCode {
    use std::io::ErrorKind;
    match error.kind() {
        ErrorKind::NotFound => ErrorCode::NotFound,
        ErrorKind::AlreadyExists => ErrorCode::AlreadyExists,
        ErrorKind::StorageFull | ErrorKind::QuotaExceeded | ErrorKind::OutOfMemory => ErrorCode::ResourceExhausted,
        ErrorKind::InvalidInput => ErrorCode::InvalidArgument,
        ErrorKind::TimedOut => ErrorCode::Timeout,
        ErrorKind::Unsupported => ErrorCode::Unsupported,
        _ => ErrorCode::Internal,
    }
}

/// The supervisor of a running box could not be reached.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ConnectError {
    /// The box is not running.
    #[error("box {name} is not running: it is {state}")]
    NotRunning {
        /// Name of the box.
        name: String,
        /// What it is instead.
        state: crate::BoxState,
    },
    /// The supervisor's socket does not answer.
    #[error("the supervisor of box {name} does not answer")]
    Socket {
        /// Name of the box.
        name: String,
        /// What the system said.
        #[source]
        source: std::io::Error,
    },
    /// The box's state could not be read.
    #[error(transparent)]
    State(#[from] StateError),
}

impl Diagnose for ConnectError {
    fn code(&self) -> ErrorCode {
        match self {
            Self::NotRunning { .. } => ErrorCode::InvalidState,
            Self::Socket { .. } => ErrorCode::Engine,
            Self::State(error) => error.code(),
        }
    }

    fn hint(&self) -> Option<String> {
        match self {
            Self::NotRunning {
                name,
                state: crate::BoxState::Paused,
            } => Some(format!("let it go on: boxlite unpause {name}")),
            Self::NotRunning { name, .. } => Some(format!("start it first: boxlite start {name}")),
            Self::Socket { name, .. } => Some(format!("look at it: boxlite inspect {name}")),
            Self::State(error) => error.hint(),
        }
    }
}

/// A call to the supervisor or the agent failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum AgentError {
    /// It could not be reached.
    #[error(transparent)]
    Connect(#[from] ConnectError),
    /// It refused or broke off.
    #[error("{operation}: {message}")]
    Call {
        /// What was asked.
        operation: &'static str,
        /// The kind of the failure.
        code: ErrorCode,
        /// What it answered.
        message: String,
    },
    /// It answered something that the protocol does not allow.
    #[error("{operation}: the answer breaks the protocol: {detail}")]
    Protocol {
        /// What was asked.
        operation: &'static str,
        /// What is wrong with the answer.
        detail: &'static str,
    },
}

impl Diagnose for AgentError {
    fn code(&self) -> ErrorCode {
        match self {
            Self::Connect(error) => error.code(),
            Self::Call { code, .. } => *code,
            Self::Protocol { .. } => ErrorCode::Engine,
        }
    }

    fn hint(&self) -> Option<String> {
        match self {
            Self::Connect(error) => error.hint(),
            _ => None,
        }
    }
}
