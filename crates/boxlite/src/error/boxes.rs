//! Errors of the operations on boxes that concern their records and their life.

use crate::BoxState;
use crate::error::{
    AgentError, Diagnose, Diagnosis, ErrorCode, ImageLoadError, OptionsError, PullError, RootfsError, StartError,
    StateError,
};

/// Delegates [`Diagnose`] to the variants that wrap another error.
macro_rules! diagnose {
    ($type:ty { $($own:pat => $code:expr, $hint:expr;)* } wraps { $($wrapped:ident)* }) => {
        impl Diagnose for $type {
            #[allow(unused_variables)]
            fn code(&self) -> ErrorCode {
                match self {
                    $($own => $code,)*
                    $(Self::$wrapped(error) => error.code(),)*
                }
            }
            #[allow(unused_variables)]
            fn hint(&self) -> Option<String> {
                match self {
                    $($own => $hint,)*
                    $(Self::$wrapped(error) => error.hint(),)*
                }
            }
            fn evidence(&self) -> Vec<String> {
                #[allow(unreachable_patterns)]
                match self {
                    $(Self::$wrapped(error) => error.evidence(),)*
                    _ => Vec::new(),
                }
            }
        }
    };
}
pub(crate) use diagnose;

/// A box could not be found.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum GetError {
    /// No box has this name or id.
    #[error("no box is named {reference:?}")]
    NotFound {
        /// What was asked for.
        reference: String,
    },
    /// Several ids begin so.
    #[error("{reference:?} is the beginning of several ids: {}", candidates.join(", "))]
    Ambiguous {
        /// What was asked for.
        reference: String,
        /// Ids that begin so.
        candidates: Vec<String>,
    },
    /// The home's state could not be read.
    #[error(transparent)]
    State(#[from] StateError),
}

impl From<boxlite_store::FindBoxError> for GetError {
    fn from(error: boxlite_store::FindBoxError) -> Self {
        use boxlite_store::FindBoxError;
        match error {
            FindBoxError::NotFound { query } => Self::NotFound { reference: query },
            FindBoxError::Ambiguous { query, matches } => Self::Ambiguous {
                reference: query,
                candidates: matches.iter().map(|id| id.short().to_owned()).collect(),
            },
            FindBoxError::Database(error) => StateError::from(error).into(),
        }
    }
}

impl From<boxlite_store::ReconcileError> for GetError {
    fn from(error: boxlite_store::ReconcileError) -> Self {
        StateError::from(error).into()
    }
}

diagnose!(GetError {
    Self::NotFound { .. } => ErrorCode::NotFound, Some("see all boxes: boxlite ps -a".to_owned());
    Self::Ambiguous { .. } => ErrorCode::InvalidArgument, Some("give more digits of the id, or the name".to_owned());
} wraps { State });

/// A box could not be created. Nothing of it is left.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CreateError {
    /// An option is wrong.
    #[error(transparent)]
    Options(#[from] OptionsError),
    /// Another box has this name.
    #[error("the name {name:?} is taken by box {id}")]
    NameTaken {
        /// The name.
        name: String,
        /// Who has it.
        id: String,
    },
    /// The image could not be had.
    #[error(transparent)]
    Image(#[from] Box<PullError>),
    /// The image's root filesystem could not be built.
    #[error(transparent)]
    Rootfs(#[from] Box<RootfsError>),
    /// The folder of a `dir:` image could not be made into a root filesystem.
    #[error(transparent)]
    Load(#[from] Box<ImageLoadError>),
    /// A local image file holds several images.
    #[error("{source_text} holds {count} images")]
    SeveralImages {
        /// What was given.
        source_text: String,
        /// How many there are.
        count: usize,
    },
    /// The box's disk could not be made.
    #[error("making the box's disk")]
    Disk(#[source] boxlite_disk::FormatError),
    /// The home's state could not be read or written.
    #[error(transparent)]
    State(#[from] StateError),
}

diagnose!(CreateError {
    Self::SeveralImages { source_text, .. } => ErrorCode::InvalidArgument,
        Some(format!("say which one: {source_text}:TAG"));
    Self::Disk(error) => match error {
        boxlite_disk::FormatError::Create { source, .. }
        | boxlite_disk::FormatError::Write { source, .. } => crate::error::access::code_of_io(source),
        _ => ErrorCode::InvalidArgument,
    }, Some("check the free space of the home: boxlite system df".to_owned());
    Self::NameTaken { name, .. } => ErrorCode::AlreadyExists,
        Some(format!("choose another name, or remove that box: boxlite rm {name}"));
} wraps { Options Image Rootfs Load State });

/// Boxes could not be listed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ListError {
    /// The home's state could not be read.
    #[error(transparent)]
    State(#[from] StateError),
}

diagnose!(ListError {} wraps { State });

/// Something about one box could not be read.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum QueryError {
    /// The box is gone.
    #[error(transparent)]
    Get(#[from] GetError),
    /// The box's supervisor or agent did not answer.
    #[error(transparent)]
    Agent(#[from] AgentError),
    /// The home's state could not be read.
    #[error(transparent)]
    State(#[from] StateError),
}

diagnose!(QueryError {} wraps { Get Agent State });

/// A box could not be removed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RemoveError {
    /// There is no such box.
    #[error(transparent)]
    Get(#[from] GetError),
    /// It runs, and `force` was not given.
    #[error("box {name} is {state}")]
    Running {
        /// Name of the box.
        name: String,
        /// Its state.
        state: BoxState,
    },
    /// The supervisor did not go when it was told to.
    #[error("the supervisor of box {name} does not end")]
    Stuck {
        /// Name of the box.
        name: String,
        /// Process id of the supervisor, if it is known.
        pid: Option<u32>,
    },
    /// The home's state could not be read or written.
    #[error(transparent)]
    State(#[from] StateError),
}

diagnose!(RemoveError {
    Self::Running { name, .. } => ErrorCode::InvalidState,
        Some(format!("stop it first, or remove it with force: boxlite rm -f {name}"));
    Self::Stuck { pid, .. } => ErrorCode::Engine,
        pid.map(|pid| format!("look at process {pid}; it holds the box's lock"));
} wraps { Get State });

/// A box could not be given another name.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RenameError {
    /// There is no such box.
    #[error(transparent)]
    Get(#[from] GetError),
    /// It can't be a name.
    #[error(transparent)]
    Name(#[from] boxlite_store::InvalidName),
    /// Another box has this name.
    #[error("the name {name:?} is taken by box {id}")]
    NameTaken {
        /// The name.
        name: String,
        /// Who has it.
        id: String,
    },
    /// The home's state could not be read or written.
    #[error(transparent)]
    State(#[from] StateError),
}

impl From<boxlite_store::RenameBoxError> for RenameError {
    fn from(error: boxlite_store::RenameBoxError) -> Self {
        use boxlite_store::RenameBoxError;
        match error {
            RenameBoxError::Name(error) => Self::Name(error),
            RenameBoxError::NameTaken { name, by } => Self::NameTaken {
                name,
                id: by.short().to_owned(),
            },
            RenameBoxError::NotFound { id } => GetError::NotFound {
                reference: id.to_string(),
            }
            .into(),
            RenameBoxError::Database(error) => StateError::from(error).into(),
        }
    }
}

diagnose!(RenameError {
    Self::Name(_) => ErrorCode::InvalidArgument, None;
    Self::NameTaken { .. } => ErrorCode::AlreadyExists, Some("choose another name".to_owned());
} wraps { Get State });

/// A box could not be stopped.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StopError {
    /// There is no such box.
    #[error(transparent)]
    Get(#[from] GetError),
    /// The supervisor did not answer as it should.
    #[error(transparent)]
    Agent(#[from] AgentError),
    /// The box ended, but its end was a failure.
    #[error("box {name} ended in a failure: {}", failure.message)]
    Failed {
        /// Name of the box.
        name: String,
        /// What happened.
        failure: Box<Diagnosis>,
    },
    /// The home's state could not be read or written.
    #[error(transparent)]
    State(#[from] StateError),
}

impl Diagnose for StopError {
    fn code(&self) -> ErrorCode {
        match self {
            Self::Get(error) => error.code(),
            Self::Agent(error) => error.code(),
            Self::Failed { failure, .. } => failure.code,
            Self::State(error) => error.code(),
        }
    }
    fn hint(&self) -> Option<String> {
        match self {
            Self::Get(error) => error.hint(),
            Self::Agent(error) => error.hint(),
            Self::Failed { failure, .. } => failure.hint.clone(),
            Self::State(error) => error.hint(),
        }
    }
    fn evidence(&self) -> Vec<String> {
        match self {
            Self::Failed { failure, .. } => failure.evidence.clone(),
            _ => Vec::new(),
        }
    }
}

/// A signal could not be sent to a box.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum KillError {
    /// There is no such box.
    #[error(transparent)]
    Get(#[from] GetError),
    /// The supervisor did not answer as it should, or the box does not run.
    #[error(transparent)]
    Agent(#[from] AgentError),
    /// The home's state could not be read or written.
    #[error(transparent)]
    State(#[from] StateError),
}

diagnose!(KillError {} wraps { Get Agent State });

/// A box could not be paused, or a paused one can't go on.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PauseError {
    /// There is no such box.
    #[error(transparent)]
    Get(#[from] GetError),
    /// It neither runs nor is paused.
    #[error("box {name} is {state}: only a box that runs can be paused")]
    InvalidState {
        /// Name of the box.
        name: String,
        /// What it is.
        state: crate::BoxState,
    },
    /// The supervisor did not answer as it should.
    #[error(transparent)]
    Agent(#[from] AgentError),
    /// The home's state could not be read or written.
    #[error(transparent)]
    State(#[from] StateError),
}

diagnose!(PauseError {
    Self::InvalidState { name, .. } => ErrorCode::InvalidState,
        Some(format!("start it first: boxlite start {name}"));
} wraps { Get Agent State });

/// A box could not be restarted.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RestartError {
    /// It did not stop.
    #[error(transparent)]
    Stop(#[from] StopError),
    /// It stopped but did not start again.
    #[error(transparent)]
    Start(#[from] Box<StartError>),
    /// It is removed once it has ended, so there is nothing to start again.
    #[error("box {name} is removed once it has ended")]
    AutoRemove {
        /// Name of the box.
        name: String,
    },
}

diagnose!(RestartError {
    Self::AutoRemove { .. } => ErrorCode::InvalidState,
        Some("create a box without auto_remove to be able to restart it".to_owned());
} wraps { Stop Start });

/// The end of a box could not be waited for, or the box ended without a status.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum WaitError {
    /// There is no such box (any more).
    #[error(transparent)]
    Get(#[from] GetError),
    /// The box was never started.
    #[error("box {name} was never started")]
    NeverStarted {
        /// Name of the box.
        name: String,
    },
    /// The machine or its supervisor failed, so there is no status of the main process.
    #[error("box {name} ended in a failure: {}", failure.message)]
    Failed {
        /// Name of the box.
        name: String,
        /// What happened.
        failure: Box<Diagnosis>,
    },
    /// The supervisor did not answer as it should.
    #[error(transparent)]
    Agent(#[from] AgentError),
    /// The home's state could not be read.
    #[error(transparent)]
    State(#[from] StateError),
}

impl Diagnose for WaitError {
    fn code(&self) -> ErrorCode {
        match self {
            Self::Get(error) => error.code(),
            Self::NeverStarted { .. } => ErrorCode::InvalidState,
            Self::Failed { failure, .. } => failure.code,
            Self::Agent(error) => error.code(),
            Self::State(error) => error.code(),
        }
    }
    fn hint(&self) -> Option<String> {
        match self {
            Self::Get(error) => error.hint(),
            Self::NeverStarted { name } => Some(format!("start it first: boxlite start {name}")),
            Self::Failed { failure, .. } => failure.hint.clone(),
            Self::Agent(error) => error.hint(),
            Self::State(error) => error.hint(),
        }
    }
    fn evidence(&self) -> Vec<String> {
        match self {
            Self::Failed { failure, .. } => failure.evidence.clone(),
            _ => Vec::new(),
        }
    }
}

/// The log of a box could not be read.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LogsError {
    /// There is no such box.
    #[error(transparent)]
    Get(#[from] GetError),
    /// The log could not be read.
    #[error("reading the log of box {name}")]
    Read {
        /// Name of the box.
        name: String,
        /// Why not.
        #[source]
        source: boxlite_shim::log::ReadError,
    },
    /// The log can't be followed.
    #[error("following the log of box {name}")]
    Watch {
        /// Name of the box.
        name: String,
        /// What the system said.
        #[source]
        source: std::io::Error,
    },
    /// The home's state could not be read.
    #[error(transparent)]
    State(#[from] StateError),
}

diagnose!(LogsError {
    Self::Read { source, .. } => match source {
        boxlite_shim::log::ReadError::Io { source, .. } => crate::error::access::code_of_io(source),
        boxlite_shim::log::ReadError::Damaged { .. } => ErrorCode::Internal,
    }, None;
    Self::Watch { source, .. } => crate::error::access::code_of_io(source),
        Some("the limits of inotify may be reached: sysctl fs.inotify".to_owned());
} wraps { Get State });
