use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use tokio_util::sync::CancellationToken;

use crate::content::{ContentError, ContentStore};
use crate::credentials::AuthSource;
use crate::digest::Digest;
use crate::document::DocumentError;
use crate::limits::Limits;
use crate::manifest::ImageManifest;
use crate::platform::Platform;
use crate::progress::ProgressFn;
use crate::reference::Reference;
use crate::registry::{AddressError, ProxySource, RegistryError, RetryPolicy, Timeouts};

mod ask;
mod blob;
mod error;
mod image;

use ask::Asker;
pub use error::PullError;
use image::{MAX_DEPTH, Puller};

/// How an image is pulled.
///
/// Hosts that the user neither named nor implied are never contacted: there is the registry
/// of the reference, its mirrors given here, and where these redirect to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PullOptions {
    /// Which image of a multi-platform index; the host's if `None`.
    pub platform: Option<Platform>,
    /// Registries, as `HOST` or `HOST:PORT`, that are talked to without TLS. Loopback
    /// addresses need not be named: they are tried with TLS first, then without.
    pub plain_http: Vec<String>,
    /// For a registry's host, the addresses (`[http[s]://]HOST[:PORT][/PREFIX]`) that are
    /// asked before it, in order. A tag is resolved by the first that knows it.
    pub mirrors: BTreeMap<String, Vec<String>>,
    /// Where credentials come from. Default: the files of docker and podman.
    pub auth: AuthSource,
    /// Where proxies come from. Default: the environment.
    pub proxy: ProxySource,
    /// PEM files with certificates of authorities to trust beside the system's.
    pub ca_certificates: Vec<PathBuf>,
    /// How many layers are downloaded at once, at least 1. Default 4.
    pub max_concurrent_layers: usize,
    /// When failed requests are repeated.
    pub retry: RetryPolicy,
    /// How long a registry may take.
    pub timeouts: Timeouts,
    /// What an image may be at most.
    pub limits: Limits,
}

impl Default for PullOptions {
    fn default() -> Self {
        Self {
            platform: None,
            plain_http: Vec::new(),
            mirrors: BTreeMap::new(),
            auth: AuthSource::default(),
            proxy: ProxySource::default(),
            ca_certificates: Vec::new(),
            max_concurrent_layers: 4,
            retry: RetryPolicy::default(),
            timeouts: Timeouts::default(),
            limits: Limits::default(),
        }
    }
}

/// Pulls an image from its registry into a content store.
///
/// What the store has already is not fetched again; a reference by digest whose content is
/// all there needs no network. Layers are downloaded in parallel, verified on the way, and
/// resumed if an earlier attempt, or another process, got part of the way. Two pulls of one
/// layer, also in different processes, download it once.
///
/// Needs a tokio runtime with time and I/O enabled; blocking work runs in its blocking pool.
/// Cancelling `cancel` stops at once and returns [`PullError::Cancelled`]; so does dropping
/// the future, only that it does not wait for files to be closed.
///
/// # Errors
/// See [`PullError`]. Blobs that arrived stay and serve the next attempt.
pub async fn pull(
    store: &ContentStore,
    reference: &Reference,
    options: &PullOptions,
    progress: ProgressFn,
    cancel: CancellationToken,
) -> Result<ImageManifest, PullError> {
    let failed = |failure| explain(reference, options, failure);
    let puller = Puller::new(store, reference, options, progress, cancel)
        .await
        .map_err(failed)?;
    puller.run().await.map_err(failed)
}

/// Asks the registry what a reference stands for at the moment: the digest of its manifest or
/// index. Fetches as little as the registry lets it.
///
/// Compare it with [`ImageManifest::resolved_digest`] to learn whether a tag has moved.
///
/// # Errors
/// See [`PullError`].
pub async fn resolve(
    reference: &Reference,
    options: &PullOptions,
    cancel: CancellationToken,
) -> Result<Digest, PullError> {
    if let Some(digest) = reference.digest() {
        return Ok(digest.clone());
    }
    let failed = |failure| explain(reference, options, failure);
    let silent: ProgressFn = Arc::new(|_| {});
    let asker = Asker::new(reference, options, silent, cancel).await.map_err(failed)?;
    asker
        .digest_of_tag(reference.tag().unwrap_or_default())
        .await
        .map_err(failed)
}

/// Internally, a failure does not yet know what was being pulled.
#[derive(Debug)]
enum Failure {
    Cancelled,
    Address(AddressError),
    Registry {
        error: Box<RegistryError>,
        earlier: Vec<RegistryError>,
    },
    Document {
        digest: Digest,
        error: DocumentError,
    },
    Platform {
        available: Vec<Platform>,
    },
    NestedIndexes,
    NoSpace {
        needed_bytes: u64,
        free_bytes: u64,
        path: PathBuf,
    },
    Content(ContentError),
}

impl From<RegistryError> for Failure {
    fn from(error: RegistryError) -> Self {
        Self::Registry {
            error: Box::new(error),
            earlier: Vec::new(),
        }
    }
}

impl From<ContentError> for Failure {
    fn from(error: ContentError) -> Self {
        Self::Content(error)
    }
}

fn explain(reference: &Reference, options: &PullOptions, failure: Failure) -> PullError {
    let reference = Box::new(reference.clone());
    match failure {
        Failure::Cancelled => PullError::Cancelled { reference },
        Failure::Address(source) => PullError::Address { reference, source },
        Failure::Registry { error, earlier } => PullError::Registry {
            reference,
            source: error,
            mirrors: earlier,
        },
        Failure::Document { digest, error } => PullError::Document {
            reference,
            digest,
            source: error,
        },
        Failure::Platform { available } => {
            let wanted = options.platform.clone().unwrap_or_else(Platform::host);
            PullError::Platform {
                reference,
                wanted: Box::new(wanted),
                available,
            }
        }
        Failure::NestedIndexes => PullError::NestedIndexes {
            reference,
            depth: MAX_DEPTH,
        },
        Failure::NoSpace {
            needed_bytes,
            free_bytes,
            path,
        } => PullError::NoSpace {
            reference,
            needed_bytes,
            free_bytes,
            path,
        },
        Failure::Content(source) => PullError::Content { reference, source },
    }
}

/// Runs blocking work in the runtime's pool. The work must not panic; if the runtime is shut
/// down under it, that is a cancellation.
async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Result<T, Failure> {
    match tokio::task::spawn_blocking(work).await {
        Ok(done) => Ok(done),
        Err(error) => match error.try_into_panic() {
            Ok(panic) => std::panic::resume_unwind(panic),
            Err(_) => Err(Failure::Cancelled),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pulls_can_be_spawned() {
        fn is_send<T: Send>(_: T) {}
        let dir = tempfile::tempdir().unwrap();
        let store = ContentStore::open(dir.path()).unwrap();
        let reference = Reference::parse("localhost:1/a").unwrap();
        let options = PullOptions::default();
        let silent: ProgressFn = Arc::new(|_| {});
        is_send(pull(&store, &reference, &options, silent, CancellationToken::new()));
        is_send(resolve(&reference, &options, CancellationToken::new()));
    }
}
