//! Errors of the operations on images.

use crate::error::boxes::diagnose;
use crate::error::{Diagnose, ErrorCode, StateError};

/// An image could not be pulled. What was fetched completely is kept for the next try.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PullError {
    /// The name can't be read.
    #[error("image {image:?}: {reason}")]
    Reference {
        /// What was given.
        image: String,
        /// What is wrong with it.
        reason: String,
    },
    /// The platform can't be read.
    #[error("platform {platform:?} is not of the form os/architecture[/variant]")]
    Platform {
        /// What was given.
        platform: String,
    },
    /// The policy is `never`, and the home does not have it.
    #[error("image {image} is not in the home, and the pull policy is never")]
    NotLocal {
        /// The image.
        image: String,
    },
    /// The caller gave up.
    #[error("the pull was cancelled")]
    Cancelled,
    /// The home's state could not be read or written.
    #[error(transparent)]
    State(#[from] StateError),
}

diagnose!(PullError {
    Self::Reference { .. } => ErrorCode::InvalidArgument, None;
    Self::Platform { .. } => ErrorCode::InvalidArgument, None;
    Self::NotLocal { image } => ErrorCode::NotFound, Some(format!("pull it first: boxlite pull {image}"));
    Self::Cancelled => ErrorCode::Cancelled, None;
} wraps { State });

/// A root filesystem could not be built. Nothing half-made is left.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RootfsError {
    /// The home's state could not be read or written.
    #[error(transparent)]
    State(#[from] StateError),
}

diagnose!(RootfsError {} wraps { State });

/// An image could not be loaded from a file or folder.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ImageLoadError {
    /// The source can't be read as one.
    #[error("{text:?}: {reason}")]
    Source {
        /// What was given.
        text: String,
        /// What is wrong with it.
        reason: String,
    },
    /// The home's state could not be read or written.
    #[error(transparent)]
    State(#[from] StateError),
}

diagnose!(ImageLoadError {
    Self::Source { .. } => ErrorCode::InvalidArgument,
        Some("use docker-archive:PATH, oci:PATH[:TAG], oci-archive:PATH[:TAG] or the path of such a file".to_owned());
} wraps { State });

/// An image could not be found.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ImageGetError {
    /// The name can't be read.
    #[error("image {image:?}: {reason}")]
    Reference {
        /// What was given.
        image: String,
        /// What is wrong with it.
        reason: String,
    },
    /// The home has no such image.
    #[error("no image is named {image:?}")]
    NotFound {
        /// What was asked for.
        image: String,
    },
    /// Several digests begin so.
    #[error("{image:?} is the beginning of several digests")]
    Ambiguous {
        /// What was asked for.
        image: String,
    },
    /// The home's state could not be read.
    #[error(transparent)]
    State(#[from] StateError),
}

diagnose!(ImageGetError {
    Self::Reference { .. } => ErrorCode::InvalidArgument, None;
    Self::NotFound { image } => ErrorCode::NotFound, Some(format!("pull it first: boxlite pull {image}"));
    Self::Ambiguous { .. } => ErrorCode::InvalidArgument, Some("give more digits of the digest, or the name".to_owned());
} wraps { State });

/// Images could not be listed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ImageListError {
    /// The home's state could not be read.
    #[error(transparent)]
    State(#[from] StateError),
}

diagnose!(ImageListError {} wraps { State });

/// An image could not be removed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ImageRemoveError {
    /// There is no such image.
    #[error(transparent)]
    Get(#[from] ImageGetError),
    /// Boxes were made from it.
    #[error("image {image} is used by the boxes {}", boxes.join(", "))]
    InUse {
        /// The image.
        image: String,
        /// Names of the boxes.
        boxes: Vec<String>,
    },
    /// A digest was given that has several names.
    #[error("image {image} has several names: {}", names.join(", "))]
    SeveralNames {
        /// The image.
        image: String,
        /// Its names.
        names: Vec<String>,
    },
    /// The home's state could not be read or written.
    #[error(transparent)]
    State(#[from] StateError),
}

diagnose!(ImageRemoveError {
    Self::InUse { boxes, .. } => ErrorCode::InvalidState,
        Some(format!("remove the boxes first: boxlite rm {}", boxes.join(" ")));
    Self::SeveralNames { .. } => ErrorCode::InvalidState,
        Some("remove one of the names, or all of them with force".to_owned());
} wraps { Get State });

/// An image could not be given another name.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ImageTagError {
    /// There is no such image.
    #[error(transparent)]
    Get(#[from] ImageGetError),
    /// The new name can't be read, or has a digest.
    #[error("name {name:?}: {reason}")]
    Name {
        /// What was given.
        name: String,
        /// What is wrong with it.
        reason: String,
    },
    /// The home's state could not be read or written.
    #[error(transparent)]
    State(#[from] StateError),
}

diagnose!(ImageTagError {
    Self::Name { .. } => ErrorCode::InvalidArgument, None;
} wraps { Get State });
