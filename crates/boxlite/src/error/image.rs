//! Errors of the operations on images.

use crate::error::boxes::diagnose;
use crate::error::{Diagnose, ErrorCode, StateError};
use crate::images::obtain::PutError;

/// The code that a kind of failure with an image stands for.
pub(crate) fn code_of_image(kind: boxlite_image::ErrorKind) -> ErrorCode {
    use boxlite_image::ErrorKind;
    match kind {
        ErrorKind::NotFound => ErrorCode::NotFound,
        ErrorKind::Timeout => ErrorCode::Timeout,
        ErrorKind::Unsupported => ErrorCode::Unsupported,
        ErrorKind::Cancelled => ErrorCode::Cancelled,
        ErrorKind::NoSpace => ErrorCode::ResourceExhausted,
        ErrorKind::Invalid => ErrorCode::InvalidArgument,
        ErrorKind::Io => ErrorCode::Internal,
        _ => ErrorCode::Image,
    }
}

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
    /// The registry, a mirror, or what they sent.
    #[error(transparent)]
    Pull(#[from] boxlite_image::PullError),
    /// What was fetched vanished before it was recorded.
    #[error("recording {image}")]
    Record {
        /// The image.
        image: String,
        /// Why not.
        #[source]
        source: boxlite_store::PutImageError,
    },
    /// The root filesystem could not be built.
    #[error(transparent)]
    Rootfs(Box<RootfsError>),
    /// The home's state could not be read or written.
    #[error(transparent)]
    State(#[from] StateError),
}

diagnose!(PullError {
    Self::Reference { .. } => ErrorCode::InvalidArgument, None;
    Self::Platform { .. } => ErrorCode::InvalidArgument, None;
    Self::NotLocal { image } => ErrorCode::NotFound, Some(format!("pull it first: boxlite pull {image}"));
    Self::Record { .. } => ErrorCode::Image, Some("pull it again".to_owned());
} wraps { Pull Rootfs State });

impl Diagnose for boxlite_image::PullError {
    fn code(&self) -> ErrorCode {
        code_of_image(self.kind())
    }
    fn hint(&self) -> Option<String> {
        boxlite_image::PullError::hint(self)
    }
    fn evidence(&self) -> Vec<String> {
        boxlite_image::PullError::evidence(self)
    }
}

impl From<RootfsError> for PullError {
    fn from(error: RootfsError) -> Self {
        match error {
            RootfsError::State(error) => Self::State(error),
            error => Self::Rootfs(Box::new(error)),
        }
    }
}

impl PullError {
    pub(crate) fn from_put(reference: &boxlite_image::Reference, error: PutError) -> Self {
        match error {
            PutError::State(error) => error.into(),
            PutError::Put(source) => Self::Record {
                image: reference.familiar(),
                source,
            },
        }
    }
}

/// A root filesystem could not be built. Nothing half-made is left.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RootfsError {
    /// A layer (or the folder) can't be made into one.
    #[error(transparent)]
    Build(#[from] boxlite_image::rootfs::BuildError),
    /// The caller gave up.
    #[error("building the root filesystem was cancelled")]
    Cancelled,
    /// The home's state could not be read or written.
    #[error(transparent)]
    State(#[from] StateError),
}

diagnose!(RootfsError {
    Self::Build(error) => code_of_image(error.kind()), Some(error.hint().to_owned());
    Self::Cancelled => ErrorCode::Cancelled, None;
} wraps { State });

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
    /// The source can't be loaded.
    #[error(transparent)]
    Load(#[from] boxlite_image::LoadError),
    /// One name for several images.
    #[error("{source_text} holds {count} images, which can't all have one name")]
    SeveralForTag {
        /// What was given.
        source_text: String,
        /// How many there are.
        count: usize,
    },
    /// What was loaded vanished before it was recorded.
    #[error("recording the loaded image")]
    Record(#[source] boxlite_store::PutImageError),
    /// A root filesystem could not be built.
    #[error(transparent)]
    Rootfs(Box<RootfsError>),
    /// The home's state could not be read or written.
    #[error(transparent)]
    State(#[from] StateError),
}

impl From<RootfsError> for ImageLoadError {
    fn from(error: RootfsError) -> Self {
        match error {
            RootfsError::State(error) => Self::State(error),
            error => Self::Rootfs(Box::new(error)),
        }
    }
}

impl ImageLoadError {
    pub(crate) fn from_put(error: PutError) -> Self {
        match error {
            PutError::State(error) => error.into(),
            PutError::Put(source) => Self::Record(source),
        }
    }
}

diagnose!(ImageLoadError {
    Self::Load(error) => code_of_image(error.kind()), error.hint();
    Self::SeveralForTag { .. } => ErrorCode::InvalidArgument, Some("say which image: add its tag to the source".to_owned());
    Self::Record(_) => ErrorCode::Image, Some("load it again".to_owned());
    Self::Source { .. } => ErrorCode::InvalidArgument,
        Some("use docker-archive:PATH, oci:PATH[:TAG], oci-archive:PATH[:TAG] or the path of such a file".to_owned());
} wraps { Rootfs State });

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
