use std::path::PathBuf;

use crate::choice::list_platforms;
use crate::content::ContentError;
use crate::digest::Digest;
use crate::document::DocumentError;
use crate::kind::ErrorKind;
use crate::platform::Platform;
use crate::reference::Reference;
use crate::registry::{AddressError, RegistryError};

/// Why an image could not be pulled, or a reference not be resolved.
///
/// Nothing of a failed pull remains in the content store but whole, verified blobs and
/// downloads that the next pull resumes; a collection removes both.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PullError {
    /// The caller cancelled.
    #[error("pulling {reference} was cancelled")]
    Cancelled {
        /// What was being pulled.
        reference: Box<Reference>,
    },
    /// A mirror's or plain-http registry's address in the options is malformed.
    #[error("cannot pull {reference}: {source}")]
    Address {
        /// What was to be pulled.
        reference: Box<Reference>,
        /// Which address.
        source: AddressError,
    },
    /// The registry, and its mirrors if there are any, can't be used or refuse.
    #[error("cannot pull {reference}: {source}")]
    Registry {
        /// What was being pulled.
        reference: Box<Reference>,
        /// What went wrong with the registry.
        source: Box<RegistryError>,
        /// What went wrong with its mirrors before.
        mirrors: Vec<RegistryError>,
    },
    /// The manifest, the index or the config is unusable.
    #[error("cannot pull {reference}: {source} (digest {digest})")]
    Document {
        /// What was being pulled.
        reference: Box<Reference>,
        /// The digest of the unusable document.
        digest: Digest,
        /// What is wrong with it.
        source: DocumentError,
    },
    /// There is no image for the platform.
    #[error("{reference} has no image for {wanted}; there are: {}", list_platforms(.available))]
    Platform {
        /// What was being pulled.
        reference: Box<Reference>,
        /// What was looked for.
        wanted: Box<Platform>,
        /// What there is.
        available: Vec<Platform>,
    },
    /// Indexes in indexes, deeper than anyone needs.
    #[error("{reference} leads through {depth} indexes without coming to an image")]
    NestedIndexes {
        /// What was being pulled.
        reference: Box<Reference>,
        /// How deep was looked.
        depth: usize,
    },
    /// The layers do not fit on the file system.
    #[error(
        "cannot pull {reference}: its layers need {needed_bytes} bytes, but {path} has only {free_bytes} free",
        path = .path.display()
    )]
    NoSpace {
        /// What was being pulled.
        reference: Box<Reference>,
        /// Bytes that are still to come.
        needed_bytes: u64,
        /// Bytes that are free.
        free_bytes: u64,
        /// Where the content store is.
        path: PathBuf,
    },
    /// The content store can't be read or written.
    #[error("cannot pull {reference}: {source}")]
    Content {
        /// What was being pulled.
        reference: Box<Reference>,
        /// Why not.
        source: ContentError,
    },
}

impl PullError {
    /// What was being pulled.
    pub fn reference(&self) -> &Reference {
        match self {
            Self::Cancelled { reference }
            | Self::Address { reference, .. }
            | Self::Registry { reference, .. }
            | Self::Document { reference, .. }
            | Self::Platform { reference, .. }
            | Self::NestedIndexes { reference, .. }
            | Self::NoSpace { reference, .. }
            | Self::Content { reference, .. } => reference,
        }
    }

    /// The coarse class of this failure.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::Cancelled { .. } => ErrorKind::Cancelled,
            Self::Address { .. } => ErrorKind::Invalid,
            Self::Registry { source, .. } => source.kind(),
            Self::Document { source, .. } => source.kind(),
            Self::Platform { .. } => ErrorKind::NotFound,
            Self::NestedIndexes { .. } => ErrorKind::Unsupported,
            Self::NoSpace { .. } => ErrorKind::NoSpace,
            Self::Content { source, .. } => source.kind(),
        }
    }

    /// The likely cause and what to try next.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Cancelled { .. } => None,
            Self::Address { .. } => Some("mend the mirrors and plain-http registries in the settings".to_owned()),
            Self::Registry { reference, source, .. } => Some(source.hint(reference.registry())),
            Self::Document { source, .. } => Some(source.hint().to_owned()),
            Self::Platform { available, .. } => available
                .first()
                .map(|platform| format!("choose another image, or one of its platforms with `--platform {platform}`")),
            Self::NestedIndexes { .. } => Some("name the image itself, as NAME@sha256:DIGEST".to_owned()),
            Self::NoSpace { .. } => Some(
                "free some space: `boxlite system df` shows what takes it, `boxlite system prune` frees it".to_owned(),
            ),
            Self::Content { source, .. } => Some(source.hint().to_owned()),
        }
    }

    /// What else is known about the failure, one fact a line.
    pub fn evidence(&self) -> Vec<String> {
        match self {
            Self::Registry { source, mirrors, .. } => {
                let mut lines: Vec<String> = mirrors
                    .iter()
                    .map(|error| format!("mirror failed before: {error}"))
                    .collect();
                if let RegistryError::Unauthorized {
                    credential_error: Some(error),
                    ..
                } = &**source
                {
                    lines.push(error.to_string());
                }
                if let RegistryError::Status {
                    retry_after: Some(wait),
                    ..
                } = &**source
                {
                    lines.push(format!("the registry wants to be asked again in {} s", wait.as_secs()));
                }
                lines
            }
            _ => Vec::new(),
        }
    }
}
