use serde::{Deserialize, Serialize};

use crate::config::ImageConfig;
use crate::content::{ContentError, ContentStore};
use crate::digest::Digest;
use crate::document::{Document, DocumentError, Manifest};
use crate::kind::ErrorKind;
use crate::limits::Limits;
use crate::media_type::Compression;
use crate::platform::Platform;

/// One image for one platform, all of whose content is in a [`ContentStore`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ImageManifest {
    /// The digest of the manifest: the image's identity.
    pub digest: Digest,
    /// The digest of the index that the manifest was chosen from, if it was.
    pub index_digest: Option<Digest>,
    /// The digest of the image config.
    pub config_digest: Digest,
    /// The image config.
    pub config: ImageConfig,
    /// The layers, lowest first.
    pub layers: Vec<LayerDescriptor>,
    /// What the image runs on.
    pub platform: Platform,
    /// Bytes that manifest, config and layers take in the content store.
    pub size_bytes: u64,
}

/// One layer of an image.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LayerDescriptor {
    /// The digest of the blob, as it is stored.
    pub digest: Digest,
    /// The digest of the tar after decompression. Whoever decompresses must check it.
    pub diff_id: Digest,
    /// The media type that the manifest gives.
    pub media_type: String,
    /// How the blob is compressed: what its first bytes say, whatever its media type.
    pub compression: Compression,
    /// Bytes of the blob, as it is stored.
    pub size_bytes: u64,
}

/// Why an image could not be read back from a content store.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ReadImageError {
    /// A blob is missing or damaged.
    #[error(transparent)]
    Content(#[from] ContentError),
    /// A document is unusable.
    #[error("image {digest} is unusable: {source}")]
    Document {
        /// The manifest's digest.
        digest: Digest,
        /// Why.
        source: DocumentError,
    },
    /// The digest is that of an index, which stands for several images.
    #[error("{digest} is an index of several images, not an image")]
    IsIndex {
        /// The index's digest.
        digest: Digest,
    },
}

impl ReadImageError {
    /// The coarse class of this failure.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::Content(error) => error.kind(),
            Self::Document { source, .. } => source.kind(),
            Self::IsIndex { .. } => ErrorKind::Invalid,
        }
    }
}

impl ImageManifest {
    /// Reads an image back from the content store, by its manifest's digest. Blocking.
    ///
    /// # Errors
    /// When its manifest, its config or one of its layers is missing or unusable.
    pub fn read(store: &ContentStore, digest: &Digest, limits: &Limits) -> Result<Self, ReadImageError> {
        let unusable = |source: DocumentError| ReadImageError::Document {
            digest: digest.clone(),
            source,
        };
        let json = store.read(digest, limits.document_bytes)?;
        let manifest = match Document::parse(&json, None).map_err(unusable)? {
            Document::Manifest(manifest) => *manifest,
            Document::Index(_) => {
                return Err(ReadImageError::IsIndex { digest: digest.clone() });
            }
        };
        manifest.check(limits).map_err(unusable)?;
        let config = store.read(&manifest.config.digest, limits.document_bytes)?;
        let config = ImageConfig::parse(&config).map_err(unusable)?;
        let parts = Parts {
            digest: digest.clone(),
            json_bytes: json.len() as u64,
            manifest,
            config,
        };
        let platform = parts.config.platform().unwrap_or_else(Platform::host);
        parts.assemble(store, None, platform).map_err(|error| match error {
            AssembleError::Content(error) => error.into(),
            AssembleError::Document(source) => unusable(source),
        })
    }

    /// The digest that a registry gives for the reference that led here: the index's, if
    /// there is one. Equal to what [`resolve`](crate::resolve) returns for as long as the tag
    /// has not moved.
    pub fn resolved_digest(&self) -> &Digest {
        self.index_digest.as_ref().unwrap_or(&self.digest)
    }

    /// The digests of every blob that this image needs in the content store.
    pub fn blobs(&self) -> impl Iterator<Item = &Digest> {
        [&self.digest, &self.config_digest]
            .into_iter()
            .chain(self.index_digest.as_ref())
            .chain(self.layers.iter().map(|layer| &layer.digest))
    }
}

/// A manifest and its config, parsed and checked one by one.
pub(crate) struct Parts {
    pub(crate) digest: Digest,
    pub(crate) json_bytes: u64,
    pub(crate) manifest: Manifest,
    pub(crate) config: ImageConfig,
}

pub(crate) enum AssembleError {
    Content(ContentError),
    Document(DocumentError),
}

impl Parts {
    /// Checks that manifest and config agree, before any layer is fetched.
    pub(crate) fn check(&self) -> Result<(), DocumentError> {
        let (layers, diff_ids) = (self.manifest.layers.len(), self.config.diff_ids.len());
        if layers != diff_ids {
            return Err(DocumentError::LayerCount { layers, diff_ids });
        }
        Ok(())
    }

    /// Puts the image together; its layers must be in the content store. Blocking.
    pub(crate) fn assemble(
        self,
        store: &ContentStore,
        index_digest: Option<Digest>,
        platform: Platform,
    ) -> Result<ImageManifest, AssembleError> {
        self.check().map_err(AssembleError::Document)?;
        let Self {
            digest,
            json_bytes,
            manifest,
            config,
        } = self;
        let mut size_bytes = json_bytes.saturating_add(manifest.config.size);
        let mut layers = Vec::with_capacity(manifest.layers.len());
        for (layer, diff_id) in manifest.layers.into_iter().zip(&config.diff_ids) {
            let compression = store.compression(&layer.digest).map_err(AssembleError::Content)?;
            size_bytes = size_bytes.saturating_add(layer.size);
            layers.push(LayerDescriptor {
                digest: layer.digest,
                diff_id: diff_id.clone(),
                media_type: layer.media_type,
                compression,
                size_bytes: layer.size,
            });
        }
        let config_digest = manifest.config.digest;
        Ok(ImageManifest {
            digest,
            index_digest,
            config_digest,
            config,
            layers,
            platform,
            size_bytes,
        })
    }
}
