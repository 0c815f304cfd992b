//! Images: where they come from, how they are named, and how they are kept.
//!
//! An image is a manifest, a config and layers, each of them known by its [`Digest`]. This
//! crate brings them from wherever they are into a [`ContentStore`], verified, and hands out an
//! [`ImageManifest`] that says all about one image for one [`Platform`]:
//!
//! ```text
//! Source ── Registry ──────▶ pull ─┐
//!        ├─ DockerArchive ─┐       ├─▶ ContentStore + ImageManifest ─▶ rootfs::build ─▶ EROFS file
//!        ├─ OciLayout ─────┼▶ load ┘
//!        ├─ OciArchive ────┘
//!        └─ RootfsDir ───────────────────────────────▶ rootfs::build_from_dir ─▶ EROFS file
//! ```
//!
//! * [`Reference`] names an image in a registry, as Docker does; [`Source`] also names archives
//!   and folders.
//! * [`pull`] fetches from a registry or its mirrors: with credentials from the files of docker
//!   and podman, through proxies, several layers at once, resuming what broke and repeating what
//!   failed. [`resolve`] only asks what a tag stands for.
//! * [`load`] reads what `docker save`, `skopeo` and `umoci` write.
//! * [`ContentStore`] keeps blobs by digest, for several processes at a time.
//!
//! Everything that comes from outside is hostile until it is verified: documents are limited
//! in size ([`Limits`]) and parsed strictly, content is compared with its digest before it gets
//! its name, credentials go to nobody but the host that they are for, and no host is contacted
//! that the user neither named nor implied.
//!
//! Every error says what failed with its evidence (which request, which HTTP status, the
//! registry's own words), has a coarse [`ErrorKind`] and a hint with what to try next. No
//! secret is in any of them, nor in the log ([`tracing`]).
//!
//! ```no_run
//! use std::sync::Arc;
//! use boxlite_image::{ContentStore, PullOptions, Reference, pull};
//! use tokio_util::sync::CancellationToken;
//!
//! # async fn example() -> Result<(), Box<dyn std::error::Error>> {
//! let store = ContentStore::open("/var/lib/example/content")?;
//! // Nobody may collect the image's blobs before it is recorded that they are needed.
//! let lease = store.lease()?;
//! let reference = Reference::parse("debian:12")?;
//! let progress = Arc::new(|event| tracing::info!(?event));
//! let image = pull(&store, &reference, &PullOptions::default(), progress, CancellationToken::new()).await?;
//! println!("{reference} is {} with {} layers", image.digest, image.layers.len());
//! drop(lease);
//! # Ok(())
//! # }
//! ```

#![forbid(unsafe_code)]

mod choice;
mod config;
mod content;
mod credentials;
mod digest;
mod document;
mod erofs;
mod kind;
mod layer;
mod limits;
mod load;
mod manifest;
mod media_type;
mod merge;
mod platform;
mod progress;
mod pull;
mod reference;
mod registry;
pub mod rootfs;
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
