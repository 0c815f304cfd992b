//! Why a box did not start.

use crate::BoxState;
use crate::error::{AgentError, BundleError, Diagnose, ErrorCode, GetError, OptionsError, Refusal, StateError};

/// A box could not be started. Nothing of the attempt runs on.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StartError {
    /// There is no such box.
    #[error(transparent)]
    Get(#[from] GetError),
    /// It is in a state from which it can't start.
    #[error("box {name} is {state}")]
    InvalidState {
        /// Name of the box.
        name: String,
        /// Its state.
        state: BoxState,
    },
    /// There is nothing to attach to: the box is idle by its options.
    #[error("box {name} has no main process to attach to")]
    NoMainProcess {
        /// Name of the box.
        name: String,
    },
    /// Something that the box was created with is not there any more (a mount's source).
    #[error(transparent)]
    Options(#[from] OptionsError),
    /// The image's root filesystem is not in the home any more.
    #[error("the root filesystem of box {name} (image {image}) is missing")]
    RootfsMissing {
        /// Name of the box.
        name: String,
        /// The image it was made from.
        image: String,
    },
    /// Supervisor, kernel or initramfs are not there.
    #[error(transparent)]
    Bundle(#[from] BundleError),
    /// The supervisor could not be started.
    #[error("starting the supervisor of box {name}")]
    Supervisor {
        /// Name of the box.
        name: String,
        /// What failed.
        #[source]
        source: boxlite_shim::LaunchError,
    },
    /// The supervisor ended without a word.
    #[error("the supervisor of box {name} ended before the box was up (last stage: {stage})")]
    SupervisorLost {
        /// Name of the box.
        name: String,
        /// How far the start came.
        stage: String,
        /// The last lines of its log.
        log: Vec<String>,
    },
    /// A step of the start could not be taken in the box's folder.
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
    /// The machine did not come up.
    #[error(transparent)]
    Machine(Box<StartFailure>),
    /// The main process could not be started.
    #[error("the main process of box {name} did not start: {refusal}")]
    Refused {
        /// Name of the box.
        name: String,
        /// Why.
        refusal: Refusal,
    },
    /// The supervisor or the agent did not answer as it should.
    #[error(transparent)]
    Agent(#[from] AgentError),
    /// The home's state could not be read or written.
    #[error(transparent)]
    State(#[from] StateError),
}

impl StartError {
    /// Why the main process was refused, if that is what happened.
    #[must_use]
    pub fn refusal(&self) -> Option<&Refusal> {
        match self {
            Self::Refused { refusal, .. } => Some(refusal),
            _ => None,
        }
    }
}

impl Diagnose for StartError {
    fn code(&self) -> ErrorCode {
        match self {
            Self::Get(error) => error.code(),
            Self::InvalidState { .. } | Self::NoMainProcess { .. } => ErrorCode::InvalidState,
            Self::Options(error) => error.code(),
            Self::RootfsMissing { .. } => ErrorCode::Image,
            Self::Bundle(error) => error.code(),
            Self::Supervisor { .. } | Self::SupervisorLost { .. } => ErrorCode::Engine,
            Self::File { source, .. } => crate::error::access::code_of_io(source),
            Self::Machine(failure) => failure.code,
            Self::Refused { refusal, .. } => refusal.code(),
            Self::Agent(error) => error.code(),
            Self::State(error) => error.code(),
        }
    }

    fn hint(&self) -> Option<String> {
        match self {
            Self::Get(error) => error.hint(),
            Self::InvalidState { name, state } => Some(match state {
                BoxState::Running => format!("it runs already: boxlite exec {name} COMMAND"),
                BoxState::Paused => format!("it is paused: boxlite unpause {name}"),
                _ => "wait until it has settled, then try again".to_owned(),
            }),
            Self::NoMainProcess { .. } => Some("create it with a command, or start it and use exec".to_owned()),
            Self::Options(error) => error.hint(),
            Self::RootfsMissing { image, .. } => Some(format!(
                "pull the image again, then start the box: boxlite pull {image}"
            )),
            Self::Bundle(error) => error.hint(),
            Self::Supervisor { .. } | Self::SupervisorLost { .. } => {
                Some("see what is missing: boxlite doctor".to_owned())
            }
            Self::File { .. } => None,
            Self::Machine(failure) => failure.hint.clone(),
            Self::Refused { refusal, .. } => refusal.hint(),
            Self::Agent(error) => error.hint(),
            Self::State(error) => error.hint(),
        }
    }

    fn evidence(&self) -> Vec<String> {
        match self {
            Self::Machine(failure) => failure.evidence.clone(),
            Self::Bundle(error) => error.evidence(),
            Self::SupervisorLost { log, .. } => log.clone(),
            _ => Vec::new(),
        }
    }
}

/// What the supervisor found out about a start that failed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("box {name} did not start ({stage}): {message}{}", cause.as_ref().map(|c| format!("; likely cause: {c}")).unwrap_or_default())]
pub struct StartFailure {
    /// Name of the box.
    pub name: String,
    /// How far the start came: `prepare`, `engine`, `kernel`, `agent`, `configure`, `main` …
    pub stage: String,
    /// The kind of the failure.
    pub code: ErrorCode,
    /// What failed.
    pub message: String,
    /// The last lines of the console and of the engine.
    pub evidence: Vec<String>,
    /// The likely cause.
    pub cause: Option<String>,
    /// The next command to try.
    pub hint: Option<String>,
}
