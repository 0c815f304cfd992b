//! Errors of copying between host and box.

use std::path::PathBuf;

use crate::error::access::code_of_io;
use crate::error::boxes::diagnose;
use crate::error::{AgentError, Diagnose, ErrorCode, GetError, StateError};

/// Files could not be copied. What was copied before stays.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CopyError {
    /// There is no such box.
    #[error(transparent)]
    Get(#[from] GetError),
    /// A path in the box is not absolute or has a NUL byte.
    #[error("path {path:?} of the box is not absolute")]
    BoxPath {
        /// What was given.
        path: String,
    },
    /// The source is not there.
    #[error("{path:?} does not exist")]
    SourceMissing {
        /// The path.
        path: String,
    },
    /// The folder that the destination would be in is not there.
    #[error("the folder {path:?} does not exist")]
    ParentMissing {
        /// The folder.
        path: String,
    },
    /// The destination ends with a slash but there is no such folder.
    #[error("the destination folder {path:?} does not exist")]
    DestinationMissing {
        /// The folder.
        path: String,
    },
    /// A folder can't replace a file.
    #[error("a folder can't be copied over the file {path:?}")]
    FolderOverFile {
        /// The file.
        path: String,
    },
    /// The path ends with a slash but is a file.
    #[error("{path:?} is not a folder")]
    NotAFolder {
        /// The path.
        path: String,
    },
    /// Symbolic links go in circles.
    #[error("too many symbolic links at {path:?}")]
    LinkLoop {
        /// The path.
        path: String,
    },
    /// A file of the host could not be read or written.
    #[error("{action} {path}", path = path.display())]
    Host {
        /// What was being done.
        action: &'static str,
        /// To which file.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: std::io::Error,
    },
    /// A file of the host can't be put into an archive.
    #[error("packing {path}", path = path.display())]
    Pack {
        /// The file.
        path: PathBuf,
        /// Why not.
        #[source]
        source: boxlite_tar::WriteError,
    },
    /// The stream that was given could not be read.
    #[error("reading the tar stream")]
    Stream(#[source] std::io::Error),
    /// The stream from the box can't be unpacked.
    #[error(transparent)]
    Unpack(#[from] UnpackError),
    /// The box does not run, or its agent refused or did not answer as it should.
    #[error(transparent)]
    Agent(#[from] AgentError),
    /// The home's state could not be read.
    #[error(transparent)]
    State(#[from] StateError),
}

diagnose!(CopyError {
    Self::BoxPath { .. } => ErrorCode::InvalidArgument, Some("begin the path with a slash".to_owned());
    Self::SourceMissing { .. } => ErrorCode::NotFound, None;
    Self::ParentMissing { path } => ErrorCode::NotFound, Some(format!("create {path} first"));
    Self::DestinationMissing { path } => ErrorCode::NotFound, Some(format!("create {path} first, or leave out the slash at its end"));
    Self::FolderOverFile { .. } => ErrorCode::InvalidArgument, None;
    Self::NotAFolder { .. } => ErrorCode::InvalidArgument, None;
    Self::LinkLoop { .. } => ErrorCode::InvalidArgument, None;
    Self::Host { source, .. } => code_of_io(source), None;
    Self::Pack { source, .. } => match source {
        boxlite_tar::WriteError::Io { source } | boxlite_tar::WriteError::Data { source, .. } => code_of_io(source),
        _ => ErrorCode::InvalidArgument,
    }, None;
    Self::Stream(source) => code_of_io(source), None;
} wraps { Get Unpack Agent State });

/// An archive that came out of a box can't be unpacked on the host.
///
/// Everything in it is taken as hostile: see [`crate::BoxHandle::copy_out`].
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum UnpackError {
    /// A name leaves the folder, or is none.
    #[error("the archive names {name:?}, which is not a path below the copied one")]
    Name {
        /// What the archive has, with what is not UTF-8 replaced.
        name: String,
    },
    /// A hard link to something that this archive did not bring.
    #[error("the archive links {name:?} to {target:?}, which it did not bring")]
    HardLink {
        /// The entry.
        name: String,
        /// Where to.
        target: String,
    },
    /// A folder where the host has something else, or the other way round.
    #[error("{path} exists and is of another kind", path = path.display())]
    Kind {
        /// The path on the host.
        path: PathBuf,
    },
    /// The archive is empty.
    #[error("the archive is empty")]
    Empty,
    /// It is no tar archive, or a damaged one.
    #[error("the archive can't be read")]
    Archive(#[source] boxlite_tar::ReadError),
    /// It has more entries than can be kept track of.
    #[error("the archive has more than {limit} entries")]
    TooManyEntries {
        /// The most that are unpacked.
        limit: u64,
    },
    /// A file of the host could not be written.
    #[error("{action} {path}", path = path.display())]
    Host {
        /// What was being done.
        action: &'static str,
        /// To which file.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: std::io::Error,
    },
}

diagnose!(UnpackError {
    Self::Name { .. } => ErrorCode::InvalidArgument, Some("the box is lying about its files: don't trust what it holds".to_owned());
    Self::HardLink { .. } => ErrorCode::InvalidArgument, None;
    Self::Kind { .. } => ErrorCode::AlreadyExists, Some("remove it, or choose another destination".to_owned());
    Self::Empty => ErrorCode::Engine, None;
    Self::Archive(_) => ErrorCode::Engine, None;
    Self::TooManyEntries { .. } => ErrorCode::ResourceExhausted, None;
    Self::Host { source, .. } => code_of_io(source), None;
} wraps {});
