//! What can go wrong: one enum per operation, each with a stable code, a hint and evidence.
//!
//! `Display` says what failed; [`Diagnose`] adds what a program needs to react
//! ([`Diagnose::code`]) and what a person needs to mend it ([`Diagnose::hint`],
//! [`Diagnose::evidence`]).

mod access;
mod boxes;
mod copy;
mod engine;
mod execution;
mod image;
mod open;
mod options;
mod start;
mod system;
mod template;

use serde::{Deserialize, Serialize};

pub use access::{AgentError, ConnectError, StateError};
pub use boxes::{
    CreateError, GetError, KillError, ListError, LogsError, PauseError, QueryError, RemoveError, RenameError,
    RestartError, StopError, WaitError,
};
pub use copy::{CopyError, UnpackError};
pub use engine::EngineError;
pub use execution::{AttachError, ExecError, ExecutionError, Refusal, RefusalReason};
pub use image::{
    ImageGetError, ImageListError, ImageLoadError, ImageRemoveError, ImageTagError, PullError, RootfsError,
};
pub use open::{BundleError, OpenError};
pub use options::OptionsError;
pub use start::{StartError, StartFailure};
pub use system::{DiskUsageError, InfoError, PruneError};
pub use template::{TemplateCreateError, TemplateListError, TemplateRemoveError};

/// The kind of an error, in a small set that does not change with the causes.
///
/// Serialized in snake case (`"not_found"`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum ErrorCode {
    /// What was named does not exist.
    NotFound,
    /// Something with that name exists already.
    AlreadyExists,
    /// The box (or the handle) is in a state in which this can't be done.
    InvalidState,
    /// An argument or option is wrong.
    InvalidArgument,
    /// This host, engine or version can't do it.
    Unsupported,
    /// The client was closed.
    Closed,
    /// No space, memory, descriptors, or a port that is taken.
    ResourceExhausted,
    /// An image could not be resolved, fetched, read or built.
    Image,
    /// The virtual machine or what runs it failed.
    Engine,
    /// A deadline passed.
    Timeout,
    /// The caller cancelled the operation.
    Cancelled,
    /// Anything else: the host's file system, the store, a defect.
    Internal,
}

impl ErrorCode {
    /// The stable name, in snake case.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::NotFound => "not_found",
            Self::AlreadyExists => "already_exists",
            Self::InvalidState => "invalid_state",
            Self::InvalidArgument => "invalid_argument",
            Self::Unsupported => "unsupported",
            Self::Closed => "closed",
            Self::ResourceExhausted => "resource_exhausted",
            Self::Image => "image",
            Self::Engine => "engine",
            Self::Timeout => "timeout",
            Self::Cancelled => "cancelled",
            Self::Internal => "internal",
        }
    }
}

impl std::fmt::Display for ErrorCode {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.as_str())
    }
}

/// What every error of this crate can say about itself.
pub trait Diagnose: std::error::Error {
    /// The kind of the error.
    fn code(&self) -> ErrorCode;

    /// What to try next, one or two sentences, when there is something to try.
    fn hint(&self) -> Option<String> {
        None
    }

    /// What was observed: console lines, responses, system errors; one item a line.
    fn evidence(&self) -> Vec<String> {
        Vec::new()
    }

    /// Everything in one value that can be stored or sent.
    fn diagnosis(&self) -> Diagnosis {
        Diagnosis {
            code: self.code(),
            message: full_message(self),
            hint: self.hint(),
            evidence: self.evidence(),
        }
    }
}

/// An error as data: what [`Diagnose::diagnosis`] gives and what a failed box records.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Diagnosis {
    /// The kind of the error.
    pub code: ErrorCode,
    /// What failed, with its causes.
    pub message: String,
    /// What to try next.
    pub hint: Option<String>,
    /// What was observed.
    #[serde(default)]
    pub evidence: Vec<String>,
}

/// `error` and its chain of sources in one line, without saying anything twice.
#[must_use]
pub fn full_message<E: std::error::Error + ?Sized>(error: &E) -> String {
    let mut message = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let text = cause.to_string();
        if !message.contains(&text) {
            message.push_str(": ");
            message.push_str(&text);
        }
        source = cause.source();
    }
    message
}
