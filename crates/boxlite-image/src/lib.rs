//! placeholder

#![forbid(unsafe_code)]

mod choice;
mod config;
mod content;
mod digest;
mod document;
mod kind;
mod limits;
mod manifest;
mod media_type;
mod platform;
mod reference;
mod source;

pub use config::ImageConfig;
pub use content::{
    BlobInfo, BlobWriter, ContentError, ContentStore, Exclusive, Freed, Lease, PendingBlob,
};
pub use digest::{Algorithm, Digest, DigestError, Hasher};
pub use document::DocumentError;
pub use kind::ErrorKind;
pub use limits::Limits;
pub use manifest::{ImageManifest, LayerDescriptor, ReadImageError};
pub use media_type::Compression;
pub use platform::{Platform, PlatformError};
pub use reference::{DEFAULT_REGISTRY, Reference, ReferenceError};
pub use source::{Source, SourceError};
