//! Why a client could not be opened.

use std::path::PathBuf;

use crate::error::access::{code_of_database, code_of_io, code_of_lock};
use crate::error::boxes::diagnose;
use crate::error::image::code_of_image;
use crate::error::{Diagnose, ErrorCode, StateError};

/// A home could not be opened.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OpenError {
    /// No home was given, and neither `BOXLITE_HOME` nor `HOME` says where one is.
    #[error("no home directory is known")]
    NoHome,
    /// A variable of the environment has a value that makes no sense.
    #[error("{variable}={value:?}: {reason}")]
    Environment {
        /// Name of the variable.
        variable: &'static str,
        /// Its value.
        value: String,
        /// What is wrong with it.
        reason: String,
    },
    /// The home can't be opened.
    #[error(transparent)]
    Home(#[from] boxlite_store::OpenHomeError),
    /// The content store of the home can't be opened.
    #[error(transparent)]
    Content(#[from] boxlite_image::ContentError),
    /// The pipe by which boxes learn that their client is gone could not be made.
    #[error("making a pipe")]
    Pipe(#[source] std::io::Error),
    /// The home's state could not be read or written.
    #[error(transparent)]
    State(#[from] StateError),
}

/// The code that a home that can't be opened stands for.
fn code_of_home(error: &boxlite_store::OpenHomeError) -> ErrorCode {
    use boxlite_store::{FileSystemDefect, OpenHomeError};
    match error {
        OpenHomeError::Folder { source, .. } => code_of_io(source),
        OpenHomeError::NotAFolder { .. } | OpenHomeError::OwnedByOther { .. } => ErrorCode::InvalidArgument,
        OpenHomeError::FileSystem {
            defect: FileSystemDefect::FileSizeLimit { .. },
            ..
        } => ErrorCode::ResourceExhausted,
        OpenHomeError::FileSystem { .. }
        | OpenHomeError::NewerSchema { .. }
        | OpenHomeError::NoWriteAheadLog { .. } => ErrorCode::Unsupported,
        OpenHomeError::Database { source, .. } => code_of_database(source),
        OpenHomeError::Lock(error) => code_of_lock(error),
    }
}

diagnose!(OpenError {
    Self::Home(error) => code_of_home(error), error.hint();
    Self::Content(error) => code_of_image(error.kind()), Some(error.hint().to_owned());
    Self::Pipe(error) => code_of_io(error), None;
    Self::NoHome => ErrorCode::InvalidArgument,
        Some("set BOXLITE_HOME, or give the builder a home".to_owned());
    Self::Environment { .. } => ErrorCode::InvalidArgument, None;
} wraps { State });

/// Supervisor, kernel and initramfs could not be had.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BundleError {
    /// This build has no bundle in it, and none was found.
    #[error("no guest bundle (supervisor, kernel, initramfs) was found")]
    NotFound {
        /// Where it was looked for.
        searched: Vec<PathBuf>,
    },
    /// A directory was named as the bundle, but a file is missing in it.
    #[error("the bundle directory {directory} has no {file}", directory = directory.display())]
    Incomplete {
        /// The directory.
        directory: PathBuf,
        /// The missing file.
        file: &'static str,
    },
    /// The embedded bundle could not be put into the home.
    #[error(transparent)]
    Stage(boxlite_store::StageError),
    /// A blocking step ended without a result: it panicked, or the runtime is shutting down.
    #[error("the runtime ended a step early")]
    Runtime(#[source] tokio::task::JoinError),
    /// The embedded bundle could not be unpacked.
    #[error("unpacking the embedded bundle to {path}", path = path.display())]
    Unpack {
        /// Where to.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: std::io::Error,
    },
}

impl Diagnose for BundleError {
    fn code(&self) -> ErrorCode {
        match self {
            Self::NotFound { .. } | Self::Incomplete { .. } => ErrorCode::Engine,
            Self::Unpack { source, .. } | Self::Stage(boxlite_store::StageError::Io { source, .. }) => {
                code_of_io(source)
            }
            Self::Stage(boxlite_store::StageError::Lock(error)) => code_of_lock(error),
            Self::Runtime(_) => ErrorCode::Internal,
        }
    }

    fn hint(&self) -> Option<String> {
        Some(match self {
            Self::NotFound { .. } | Self::Incomplete { .. } => {
                "build it with `make`, or set BOXLITE_BUNDLE_DIR to a directory with boxlite-shim, vmlinux and initramfs.cpio".to_owned()
            }
            Self::Unpack { .. } | Self::Stage(_) => {
                "check the free space and the permissions of the home".to_owned()
            }
            Self::Runtime(_) => return None,
        })
    }

    fn evidence(&self) -> Vec<String> {
        match self {
            Self::NotFound { searched } => searched
                .iter()
                .map(|path| format!("looked in {}", path.display()))
                .collect(),
            _ => Vec::new(),
        }
    }
}
