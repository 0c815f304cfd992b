use std::collections::BTreeSet;

use futures_util::StreamExt as _;
use futures_util::stream::FuturesUnordered;
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;

use super::ask::Asker;
use super::blob::Download;
use super::{Failure, PullOptions, blocking};
use crate::choice::choose;
use crate::config::ImageConfig;
use crate::content::{ContentError, ContentStore};
use crate::digest::Digest;
use crate::document::{Descriptor, Document, Manifest};
use crate::manifest::{AssembleError, ImageManifest, Parts};
use crate::platform::Platform;
use crate::progress::{Progress, ProgressFn};
use crate::reference::Reference;

/// How many indexes may stand between a reference and its image.
pub(super) const MAX_DEPTH: usize = 4;
/// How many documents are looked at in search of an image whose index names no platforms.
const MAX_DOCUMENTS: usize = 32;

/// Everything that one pull needs.
pub(super) struct Puller<'a> {
    store: &'a ContentStore,
    reference: &'a Reference,
    wanted: Platform,
    asker: Asker<'a>,
}

/// What a reference or descriptor led to.
struct Arrived {
    digest: Digest,
    json_bytes: u64,
    document: Document,
}

/// The manifest that a reference led to in the end.
struct Chosen {
    digest: Digest,
    json_bytes: u64,
    manifest: Manifest,
    /// As an index says.
    platform: Option<Platform>,
}

impl<'a> Puller<'a> {
    pub(super) async fn new(
        store: &'a ContentStore,
        reference: &'a Reference,
        options: &'a PullOptions,
        progress: ProgressFn,
        cancel: CancellationToken,
    ) -> Result<Self, Failure> {
        let wanted = options.platform.clone().unwrap_or_else(Platform::host);
        let asker = Asker::new(reference, options, progress, cancel).await?;
        Ok(Self {
            store,
            reference,
            wanted,
            asker,
        })
    }

    pub(super) async fn run(&self) -> Result<ImageManifest, Failure> {
        let asker = &self.asker;
        (asker.progress)(Progress::Resolving {
            reference: self.reference.clone(),
        });
        let _lease = self.in_store(|store| store.lease()).await?;
        let top = self.arrive_at_top().await?;
        let top_digest = top.digest.clone();
        let chosen = match top.document {
            Document::Manifest(manifest) => Chosen {
                digest: top.digest,
                json_bytes: top.json_bytes,
                manifest: *manifest,
                platform: None,
            },
            Document::Index(index) => self.descend(index.manifests).await?,
        };
        let Chosen {
            digest,
            json_bytes,
            manifest,
            platform,
        } = chosen;
        let unusable = |error| Failure::Document {
            digest: digest.clone(),
            error,
        };
        manifest.check(&asker.options.limits).map_err(unusable)?;
        let config = self.config(&manifest).await?;
        // If no index has named the platform, the config must, and it must be the wanted one.
        let platform = match (platform, config.platform()) {
            (Some(platform), _) => platform,
            (None, Some(platform)) if self.wanted.suits(&platform).is_some() => platform,
            (None, other) => {
                return Err(Failure::Platform {
                    available: other.into_iter().collect(),
                });
            }
        };
        let parts = Parts {
            digest: digest.clone(),
            json_bytes,
            manifest,
            config,
        };
        parts.check().map_err(unusable)?;
        self.fetch_layers(&parts).await?;
        let index_digest = (top_digest != digest).then_some(top_digest);
        let store = self.store.clone();
        blocking(move || parts.assemble(&store, index_digest, platform))
            .await?
            .map_err(|error| match error {
                AssembleError::Content(error) => Failure::Content(error),
                AssembleError::Document(error) => unusable(error),
            })
    }

    /// The manifest or index that the reference names.
    async fn arrive_at_top(&self) -> Result<Arrived, Failure> {
        match self.reference.digest() {
            Some(digest) => self.arrive(digest, None).await,
            None => {
                let tag = self.reference.tag().unwrap_or_default();
                let (json, media_type) = self.asker.manifest(tag, None).await?;
                self.keep(Digest::sha256(&json), json, media_type.as_deref()).await
            }
        }
    }

    /// The manifest or index of a digest, from the store if it is there.
    async fn arrive(&self, digest: &Digest, announced: Option<&str>) -> Result<Arrived, Failure> {
        let limit = self.asker.options.limits.document_bytes;
        let wanted = digest.clone();
        match self.in_store(move |store| store.read(&wanted, limit)).await {
            Ok(json) => return parse(digest.clone(), &json, announced),
            Err(Failure::Content(ContentError::Missing { .. })) => {}
            Err(Failure::Content(ContentError::Digest { .. })) => self.discard_damaged(digest).await?,
            Err(other) => return Err(other),
        }
        let (json, media_type) = self.asker.manifest(&digest.to_string(), Some(digest)).await?;
        self.keep(digest.clone(), json, announced.or(media_type.as_deref()))
            .await
    }

    async fn keep(&self, digest: Digest, json: Vec<u8>, announced: Option<&str>) -> Result<Arrived, Failure> {
        let arrived = parse(digest.clone(), &json, announced)?;
        self.in_store(move |store| store.write_as(&digest, &json)).await?;
        Ok(arrived)
    }

    async fn discard_damaged(&self, digest: &Digest) -> Result<(), Failure> {
        let damaged = digest.clone();
        self.in_store(move |store| store.discard_damaged(&damaged)).await
    }

    /// Goes through an index, and the indexes in it, to the image for the wanted platform.
    async fn descend(&self, descriptors: Vec<Descriptor>) -> Result<Chosen, Failure> {
        let mut available = BTreeSet::new();
        let mut todo = vec![(descriptors, None::<Platform>, 1)];
        let mut documents = 0;
        while let Some((descriptors, named, depth)) = todo.pop() {
            if depth > MAX_DEPTH {
                return Err(Failure::NestedIndexes);
            }
            let candidates = match choose(&descriptors, &self.wanted) {
                Ok(candidates) => candidates,
                Err(there) => {
                    available.extend(there);
                    continue;
                }
            };
            for candidate in candidates {
                documents += 1;
                if documents > MAX_DOCUMENTS {
                    return Err(Failure::NestedIndexes);
                }
                let platform = candidate.platform().or_else(|| named.clone());
                let arrived = self.arrive(&candidate.digest, Some(&candidate.media_type)).await?;
                let Arrived {
                    digest,
                    json_bytes,
                    document,
                } = arrived;
                let manifest = match document {
                    Document::Index(index) => {
                        todo.push((index.manifests, platform, depth + 1));
                        continue;
                    }
                    Document::Manifest(manifest) => *manifest,
                };
                if platform.is_some() {
                    return Ok(Chosen {
                        digest,
                        json_bytes,
                        manifest,
                        platform,
                    });
                }
                // Nobody has said what it is for, so its config has to.
                let unusable = |error| Failure::Document {
                    digest: digest.clone(),
                    error,
                };
                manifest.check(&self.asker.options.limits).map_err(unusable)?;
                match self.config(&manifest).await?.platform() {
                    Some(platform) if self.wanted.suits(&platform).is_some() => {
                        return Ok(Chosen {
                            digest,
                            json_bytes,
                            manifest,
                            platform: Some(platform),
                        });
                    }
                    other => available.extend(other),
                }
            }
        }
        Err(Failure::Platform {
            available: available.into_iter().collect(),
        })
    }

    async fn config(&self, manifest: &Manifest) -> Result<ImageConfig, Failure> {
        let descriptor = &manifest.config;
        let limit = self.asker.options.limits.document_bytes;
        let mut may_discard = true;
        let json = loop {
            self.fetch(descriptor, false, &self.asker.cancel).await?;
            let digest = descriptor.digest.clone();
            match self.in_store(move |store| store.read(&digest, limit)).await {
                Ok(json) => break json,
                Err(Failure::Content(ContentError::Digest { .. })) if may_discard => {
                    may_discard = false;
                    self.discard_damaged(&descriptor.digest).await?;
                }
                Err(other) => return Err(other),
            }
        };
        ImageConfig::parse(&json).map_err(|error| Failure::Document {
            digest: descriptor.digest.clone(),
            error,
        })
    }

    async fn fetch_layers(&self, parts: &Parts) -> Result<(), Failure> {
        let mut seen = BTreeSet::new();
        let layers: Vec<&Descriptor> = parts
            .manifest
            .layers
            .iter()
            .filter(|layer| seen.insert(&layer.digest))
            .collect();
        (self.asker.progress)(Progress::Resolved {
            digest: parts.digest.clone(),
            layers: layers.len(),
            total_bytes: layers.iter().map(|layer| layer.size).sum(),
        });
        self.check_space(&layers).await?;
        // The first failure stops the others, and then they are waited for: when this
        // returns, no file is open any more.
        let cancel = &self.asker.cancel.child_token();
        let permits = &Semaphore::new(self.asker.options.max_concurrent_layers.max(1));
        let mut downloads: FuturesUnordered<_> = layers
            .into_iter()
            .map(|layer| async move {
                let waited = cancel.run_until_cancelled(permits.acquire()).await;
                let _permit = waited.ok_or(Failure::Cancelled)?;
                self.fetch(layer, true, cancel).await
            })
            .collect();
        let mut outcome = Ok(());
        while let Some(result) = downloads.next().await {
            if result.is_err() && outcome.is_ok() {
                outcome = result;
                cancel.cancel();
            }
        }
        outcome
    }

    /// Fails early rather than in the middle, if it is known that there is not enough space.
    async fn check_space(&self, layers: &[&Descriptor]) -> Result<(), Failure> {
        let wanted: Vec<(Digest, u64)> = layers.iter().map(|layer| (layer.digest.clone(), layer.size)).collect();
        let sum = move |store: &ContentStore| {
            let mut needed = 0u64;
            for (digest, size) in wanted {
                if !store.contains(&digest)? {
                    needed = needed.saturating_add(size.saturating_sub(store.partial_bytes(&digest)));
                }
            }
            Ok((needed, store.free_bytes()?))
        };
        let (needed_bytes, free_bytes) = self.in_store(sum).await?;
        if needed_bytes > free_bytes {
            return Err(Failure::NoSpace {
                needed_bytes,
                free_bytes,
                path: self.store.root().to_owned(),
            });
        }
        Ok(())
    }

    async fn fetch(&self, descriptor: &Descriptor, is_layer: bool, cancel: &CancellationToken) -> Result<(), Failure> {
        Download {
            asker: &self.asker,
            store: self.store,
            descriptor,
            cancel,
            is_layer,
        }
        .run()
        .await
    }

    async fn in_store<T: Send + 'static>(
        &self,
        work: impl FnOnce(&ContentStore) -> Result<T, ContentError> + Send + 'static,
    ) -> Result<T, Failure> {
        let store = self.store.clone();
        Ok(blocking(move || work(&store)).await??)
    }
}

fn parse(digest: Digest, json: &[u8], announced: Option<&str>) -> Result<Arrived, Failure> {
    match Document::parse(json, announced) {
        Ok(document) => Ok(Arrived {
            digest,
            json_bytes: json.len() as u64,
            document,
        }),
        Err(error) => Err(Failure::Document { digest, error }),
    }
}
