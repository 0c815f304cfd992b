//! Errors of the operations on templates.

use crate::error::boxes::diagnose;
use crate::error::{BundleError, Diagnose, ErrorCode, StateError};

/// A template could not be made. Nothing of it is left.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TemplateCreateError {
    /// Its machine can't be one.
    #[error("{what} {value}: a template has {range}")]
    Shape {
        /// Of what there is too much or too little.
        what: &'static str,
        /// How much.
        value: u64,
        /// How much there may be.
        range: &'static str,
    },
    /// The guest bundle is missing.
    #[error(transparent)]
    Bundle(#[from] BundleError),
    /// The process that makes it could not be started.
    #[error("the process that makes a template could not be started")]
    Launch(#[from] boxlite_shim::LaunchError),
    /// It did not succeed.
    #[error("the template could not be made: {message}")]
    Failed {
        /// Why.
        message: String,
    },
    /// It ended without a word.
    #[error("the process that makes the template ended without saying why")]
    Lost,
    /// The home's state could not be read or written.
    #[error(transparent)]
    State(#[from] StateError),
}

diagnose!(TemplateCreateError {
    Self::Shape { .. } => ErrorCode::InvalidArgument, None;
    Self::Launch(_) => ErrorCode::Engine, Some("boxlite doctor".to_owned());
    Self::Failed { .. } => ErrorCode::Engine, Some("boxlite doctor, and run a box with --cold".to_owned());
    Self::Lost => ErrorCode::Engine, Some("it was killed, for want of memory perhaps: dmesg | tail".to_owned());
} wraps { Bundle State });

/// The templates could not be listed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TemplateListError {
    /// The home's state could not be read.
    #[error(transparent)]
    State(#[from] StateError),
}

diagnose!(TemplateListError {} wraps { State });

/// A template could not be removed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TemplateRemoveError {
    /// There is none.
    #[error("no template has a key that begins with {key:?}")]
    NotFound {
        /// What was given.
        key: String,
    },
    /// There are several.
    #[error("{count} templates have a key that begins with {key:?}")]
    Ambiguous {
        /// What was given.
        key: String,
        /// How many.
        count: usize,
    },
    /// The home's state could not be read or written.
    #[error(transparent)]
    State(#[from] StateError),
}

diagnose!(TemplateRemoveError {
    Self::NotFound { .. } => ErrorCode::NotFound, Some("boxlite template ls shows them".to_owned());
    Self::Ambiguous { .. } => ErrorCode::InvalidArgument, Some("say more of the key".to_owned());
} wraps { State });
