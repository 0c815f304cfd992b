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
    /// A blocking step ended without a result: it panicked, or the runtime is shutting down.
    #[error("the runtime ended a step early")]
    Runtime(#[from] tokio::task::JoinError),
}

impl Diagnose for StateError {
    fn code(&self) -> ErrorCode {
        match self {
            Self::Closed => ErrorCode::Closed,
            Self::File { source, .. } => code_of_io(source),
            Self::Runtime(_) => ErrorCode::Internal,
        }
    }

    fn hint(&self) -> Option<String> {
        match self {
            Self::Closed => Some("keep the client for as long as its handles are used".to_owned()),
            _ => None,
        }
    }
}

/// The code that a system error stands for.
pub(crate) fn code_of_io(error: &std::io::Error) -> ErrorCode {
    use std::io::ErrorKind;
    match error.kind() {
        ErrorKind::NotFound => ErrorCode::NotFound,
        ErrorKind::AlreadyExists => ErrorCode::AlreadyExists,
        ErrorKind::StorageFull | ErrorKind::QuotaExceeded | ErrorKind::OutOfMemory => {
            ErrorCode::ResourceExhausted
        }
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
