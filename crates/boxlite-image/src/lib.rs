//! placeholder

#![forbid(unsafe_code)]

mod choice;
mod config;
mod content;
mod credentials;
mod digest;
mod document;
mod kind;
mod limits;
mod load;
mod manifest;
mod media_type;
mod platform;
mod progress;
mod pull;
mod reference;
mod registry;
mod source;

pub use config::ImageConfig;
pub use content::{BlobInfo, BlobWriter, ContentError, ContentStore, Exclusive, Freed, Lease, PendingBlob};
pub use credentials::{AuthSource, CredentialError, Credentials};
pub use digest::{Algorithm, Digest, DigestError, Hasher};
pub use document::DocumentError;
pub use kind::ErrorKind;
pub use limits::Limits;
pub use load::{LoadError, LoadOptions, LoadedImage, load};
pub use manifest::{ImageManifest, LayerDescriptor, ReadImageError};
pub use media_type::Compression;
pub use platform::{Platform, PlatformError};
pub use progress::{LayerState, Progress, ProgressFn};
pub use pull::{PullError, PullOptions, pull, resolve};
pub use reference::{DEFAULT_REGISTRY, Reference, ReferenceError};
pub use registry::{
    AddressError, ChallengeProblem, ProxySource, RedirectProblem, RegistryError, Request, RetryPolicy, Timeouts,
    TlsProblem, Tried, Unreachable, Waiting,
};
pub use source::{Source, SourceError};
