//! Why a client could not be opened.

use std::path::PathBuf;

use crate::error::boxes::diagnose;
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
    /// The home's state could not be read or written.
    #[error(transparent)]
    State(#[from] StateError),
}

diagnose!(OpenError {
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
            Self::Unpack { source, .. } => crate::error::access::code_of_io(source),
        }
    }

    fn hint(&self) -> Option<String> {
        Some(match self {
            Self::NotFound { .. } | Self::Incomplete { .. } => {
                "build it with `make`, or set BOXLITE_BUNDLE_DIR to a directory with boxlite-shim, vmlinux and initramfs.cpio".to_owned()
            }
            Self::Unpack { .. } => "check the free space and the permissions of the home".to_owned(),
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
