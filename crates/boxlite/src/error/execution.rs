//! Errors of running and attached processes.

use serde::{Deserialize, Serialize};

use crate::error::boxes::diagnose;
use crate::error::{AgentError, Diagnose, ErrorCode, GetError, StateError};

/// Why the agent did not start a process.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Refusal {
    /// The kind of the refusal.
    pub reason: RefusalReason,
    /// What was tried and what the guest's kernel said.
    pub message: String,
    /// The guest's error number, 0 if there was none.
    pub errno: i32,
}

/// The kinds of [`Refusal`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum RefusalReason {
    /// No such program in `PATH` (or its interpreter is missing).
    NotFound,
    /// The program can't be executed.
    NotExecutable,
    /// The box has no such user.
    NoSuchUser,
    /// The box has no such group.
    NoSuchGroup,
    /// The working directory is not there or can't be entered.
    WorkingDir,
    /// The request makes no sense (no arguments, a NUL byte).
    Invalid,
    /// The guest has no memory, processes or descriptors left.
    Resources,
    /// The box has no first process (yet, or any more).
    NotRunning,
    /// A reason that this version does not know.
    Other,
}

impl Refusal {
    /// The kind of the error.
    #[must_use]
    pub fn code(&self) -> ErrorCode {
        match self.reason {
            RefusalReason::NotFound => ErrorCode::NotFound,
            RefusalReason::Resources => ErrorCode::ResourceExhausted,
            RefusalReason::NotRunning => ErrorCode::InvalidState,
            RefusalReason::Other => ErrorCode::Engine,
            RefusalReason::NotExecutable
            | RefusalReason::NoSuchUser
            | RefusalReason::NoSuchGroup
            | RefusalReason::WorkingDir
            | RefusalReason::Invalid => ErrorCode::InvalidArgument,
        }
    }

    /// The exit status that shells and container tools use for it: 127 for a command
    /// that is not there, 126 for one that can't be executed, else 125.
    #[must_use]
    pub fn exit_code(&self) -> u8 {
        match self.reason {
            RefusalReason::NotFound => 127,
            RefusalReason::NotExecutable | RefusalReason::WorkingDir => 126,
            _ => 125,
        }
    }

    /// What to try next.
    #[must_use]
    pub fn hint(&self) -> Option<String> {
        Some(
            match self.reason {
                RefusalReason::NotFound => "check the command's name and the box's PATH",
                RefusalReason::NotExecutable => "check the file's mode and its format",
                RefusalReason::NoSuchUser | RefusalReason::NoSuchGroup => {
                    "use a name from the image's /etc/passwd and /etc/group, or numbers"
                }
                RefusalReason::Resources => "give the box more memory, or end processes in it",
                RefusalReason::NotRunning => "the box is ending; start it again",
                RefusalReason::WorkingDir | RefusalReason::Invalid | RefusalReason::Other => {
                    return None;
                }
            }
            .to_owned(),
        )
    }
}

impl std::fmt::Display for Refusal {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.message)
    }
}

/// A process could not be started in a box.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ExecError {
    /// There is no such box.
    #[error(transparent)]
    Get(#[from] GetError),
    /// No command was given, or it has a NUL byte.
    #[error("no command is given, or it has a NUL byte")]
    Command,
    /// A variable's name is empty or has `=` or a NUL byte.
    #[error("environment variable {key:?} has no valid name or value")]
    Env {
        /// Name of the variable.
        key: String,
    },
    /// The agent did not start it.
    #[error("{refusal}")]
    Refused {
        /// Why.
        refusal: Refusal,
    },
    /// The box does not run, or its supervisor or agent did not answer as it should.
    #[error(transparent)]
    Agent(#[from] AgentError),
    /// The home's state could not be read.
    #[error(transparent)]
    State(#[from] StateError),
}

impl ExecError {
    /// Why the process was refused, if that is what happened.
    #[must_use]
    pub fn refusal(&self) -> Option<&Refusal> {
        match self {
            Self::Refused { refusal } => Some(refusal),
            _ => None,
        }
    }
}

diagnose!(ExecError {
    Self::Command => ErrorCode::InvalidArgument, None;
    Self::Env { .. } => ErrorCode::InvalidArgument, None;
    Self::Refused { refusal } => refusal.code(), refusal.hint();
} wraps { Get Agent State });

/// The main process of a box could not be attached to.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum AttachError {
    /// There is no such box.
    #[error(transparent)]
    Get(#[from] GetError),
    /// The box is idle by its options.
    #[error("box {name} has no main process to attach to")]
    NoMainProcess {
        /// Name of the box.
        name: String,
    },
    /// The main process could not be started.
    #[error("{refusal}")]
    Refused {
        /// Why.
        refusal: Refusal,
    },
    /// The box does not run, or its supervisor did not answer as it should.
    #[error(transparent)]
    Agent(#[from] AgentError),
    /// The home's state could not be read.
    #[error(transparent)]
    State(#[from] StateError),
}

diagnose!(AttachError {
    Self::NoMainProcess { .. } => ErrorCode::InvalidState,
        Some("use exec to run something in an idle box".to_owned());
    Self::Refused { refusal } => refusal.code(), refusal.hint();
} wraps { Get Agent State });

/// A running process could not be waited for or signalled.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum ExecutionError {
    /// The stream to the process broke before the process ended: the box was stopped or
    /// its machine failed.
    #[error("the connection to the process broke: {message}")]
    Broken {
        /// The kind of the failure.
        code: ErrorCode,
        /// What was seen.
        message: String,
    },
    /// The process has ended already.
    #[error("the process has ended")]
    Ended,
    /// The execution was closed.
    #[error("the execution is closed")]
    Closed,
    /// The agent answered something that the protocol does not allow.
    #[error("the answer breaks the protocol: {detail}")]
    Protocol {
        /// What is wrong with the answer.
        detail: &'static str,
    },
}

diagnose!(ExecutionError {
    Self::Broken { code, .. } => *code, Some("see what became of the box: boxlite ps -a".to_owned());
    Self::Ended => ErrorCode::InvalidState, None;
    Self::Closed => ErrorCode::Closed, None;
    Self::Protocol { .. } => ErrorCode::Engine, None;
} wraps {});
