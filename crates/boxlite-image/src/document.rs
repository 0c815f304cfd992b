use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::digest::Digest;
use crate::kind::ErrorKind;
use crate::media_type::{
    Compression, DOCKER_CONFIG, DOCKER_INDEX, DOCKER_MANIFEST, OCI_CONFIG, OCI_INDEX, OCI_MANIFEST,
};
use crate::platform::Platform;

/// Why a manifest, index or image config could not be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum DocumentError {
    /// The document is no JSON or not of the shape that its kind has. The text is left out
    /// on purpose: it comes from outside.
    #[error("the {document} is malformed: {problem} (line {line}, column {column})")]
    Json {
        /// Which kind of document.
        document: &'static str,
        /// What is wrong with it.
        problem: &'static str,
        /// Where, counted from 1.
        line: usize,
        /// Where, counted from 1.
        column: usize,
    },
    /// A manifest of Docker's first schema, which registries gave up years ago.
    #[error("the manifest is of Docker's schema 1, which is obsolete and not supported")]
    Schema1,
    /// The manifest's own media type is none that describes an image.
    #[error("the manifest has media type {media_type:?}, which is not that of an image")]
    MediaType {
        /// What it says, shortened.
        media_type: String,
    },
    /// Something that lives in registries like an image but is none: a chart, a signature, …
    #[error("this is not an image but an artifact of type {artifact_type:?}")]
    Artifact {
        /// What it says, shortened.
        artifact_type: String,
    },
    /// The media type that was announced is another than the one in the document.
    #[error("the manifest is announced as {announced:?} but says it is {actual:?}")]
    Mismatch {
        /// What the registry or the parent document said, shortened.
        announced: String,
        /// What the document says, shortened.
        actual: String,
    },
    /// A layer is of a kind that holds no files.
    #[error("layer {digest} has media type {media_type:?}, which is not a file system layer")]
    LayerMediaType {
        /// Which layer.
        digest: Digest,
        /// What it says, shortened.
        media_type: String,
    },
    /// The config's `rootfs.type` is not `layers`.
    #[error("the image config has a root filesystem of kind {kind:?}; only \"layers\" is known")]
    RootfsKind {
        /// What it says, shortened.
        kind: String,
    },
    /// Manifest and config disagree.
    #[error("the manifest has {layers} layers but the image config names {diff_ids}")]
    LayerCount {
        /// Layers of the manifest.
        layers: usize,
        /// Layers of the config.
        diff_ids: usize,
    },
    /// There are more layers than allowed.
    #[error("the image has {layers} layers; at most {limit} are allowed")]
    TooManyLayers {
        /// How many.
        layers: usize,
        /// The limit.
        limit: usize,
    },
    /// A document is larger than allowed.
    #[error("the {document} is {bytes} bytes long; at most {limit} are allowed")]
    TooLong {
        /// Which kind of document.
        document: &'static str,
        /// How long it is, or how much had come when reading stopped.
        bytes: u64,
        /// The limit.
        limit: u64,
    },
    /// All layers together are larger than allowed.
    #[error("the image's layers take {bytes} bytes; at most {limit} are allowed")]
    ImageTooLarge {
        /// What they take, saturating.
        bytes: u64,
        /// The limit.
        limit: u64,
    },
}

impl DocumentError {
    pub(crate) fn json(document: &'static str, error: &serde_json::Error) -> Self {
        let problem = match error.classify() {
            serde_json::error::Category::Eof => "it ends too early",
            serde_json::error::Category::Syntax => "it is not JSON",
            serde_json::error::Category::Data => "a field has an impossible value or is missing",
            serde_json::error::Category::Io => "it could not be read",
        };
        Self::Json {
            document,
            problem,
            line: error.line(),
            column: error.column(),
        }
    }

    /// The coarse class of this failure.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::Json { .. } | Self::Mismatch { .. } | Self::LayerCount { .. } => ErrorKind::Corrupt,
            Self::TooManyLayers { .. } | Self::TooLong { .. } | Self::ImageTooLarge { .. } => ErrorKind::TooLarge,
            _ => ErrorKind::Unsupported,
        }
    }

    /// The likely cause and what to try next.
    pub fn hint(&self) -> &'static str {
        match self {
            Self::Schema1 => "push the image again with a current tool, which writes schema 2 or OCI manifests",
            Self::Artifact { .. } | Self::MediaType { .. } | Self::LayerMediaType { .. } => {
                "name a container image; charts, signatures and other artifacts can't be run"
            }
            Self::TooManyLayers { .. } | Self::TooLong { .. } | Self::ImageTooLarge { .. } => {
                "raise the limit if you trust where the image comes from"
            }
            _ => "the image was damaged or written by a broken tool; build and push it again",
        }
    }
}

/// Points to a document or a layer: what it is, its digest and its size.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Descriptor {
    #[serde(default)]
    pub(crate) media_type: String,
    pub(crate) digest: Digest,
    pub(crate) size: u64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) platform: Option<DescriptorPlatform>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) annotations: Option<BTreeMap<String, String>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) artifact_type: Option<String>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct DescriptorPlatform {
    #[serde(default)]
    os: String,
    #[serde(default)]
    architecture: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    variant: Option<String>,
}

impl Descriptor {
    pub(crate) fn new(media_type: &str, digest: Digest, size: u64) -> Self {
        Self {
            media_type: media_type.to_owned(),
            digest,
            size,
            platform: None,
            annotations: None,
            artifact_type: None,
        }
    }

    /// The platform, if the descriptor names one.
    pub(crate) fn platform(&self) -> Option<Platform> {
        let platform = self.platform.as_ref()?;
        if platform.os.is_empty() || platform.architecture.is_empty() {
            return None;
        }
        Some(Platform::new(
            &platform.os,
            &platform.architecture,
            platform.variant.as_deref(),
        ))
    }

    pub(crate) fn annotation(&self, name: &str) -> Option<&str> {
        self.annotations
            .as_ref()?
            .get(name)
            .map(String::as_str)
            .filter(|text| !text.is_empty())
    }

    /// Whether this points to something about an image (a provenance, a bill of materials)
    /// rather than to an image.
    pub(crate) fn is_attestation(&self) -> bool {
        self.annotation("vnd.docker.reference.type") == Some("attestation-manifest")
            || self.platform().is_some_and(|platform| platform.is_unknown())
    }

    pub(crate) fn is_index(&self) -> bool {
        matches!(self.media_type.as_str(), OCI_INDEX | DOCKER_INDEX)
    }

    pub(crate) fn is_manifest(&self) -> bool {
        matches!(self.media_type.as_str(), OCI_MANIFEST | DOCKER_MANIFEST)
    }
}

/// An image manifest as it is written.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Manifest {
    pub(crate) schema_version: u32,
    #[serde(default)]
    pub(crate) media_type: String,
    pub(crate) config: Descriptor,
    pub(crate) layers: Vec<Descriptor>,
}

/// An image index (a manifest list, in Docker's words) as it is written.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Index {
    pub(crate) manifests: Vec<Descriptor>,
}

/// What a reference can lead to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Document {
    Manifest(Box<Manifest>),
    Index(Index),
}

/// The fields that tell the kinds of documents apart.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Probe {
    schema_version: Option<u32>,
    media_type: Option<String>,
    artifact_type: Option<String>,
    config: Option<ProbeDescriptor>,
    manifests: Option<serde::de::IgnoredAny>,
    layers: Option<serde::de::IgnoredAny>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct ProbeDescriptor {
    media_type: Option<String>,
}

impl Document {
    /// Reads a manifest or an index. `announced` is the media type that the registry or the
    /// parent document gave, if any.
    pub(crate) fn parse(json: &[u8], announced: Option<&str>) -> Result<Self, DocumentError> {
        let probe: Probe = serde_json::from_slice(json).map_err(|e| DocumentError::json("manifest", &e))?;
        let announced = announced.map(|text| text.split(';').next().unwrap_or(text).trim());
        let is_schema1 = |media_type: &str| media_type.starts_with("application/vnd.docker.distribution.manifest.v1+");
        if probe.schema_version == Some(1) || announced.is_some_and(is_schema1) {
            return Err(DocumentError::Schema1);
        }
        let known =
            |media_type: &&str| matches!(*media_type, OCI_INDEX | DOCKER_INDEX | OCI_MANIFEST | DOCKER_MANIFEST);
        let own = probe.media_type.as_deref().filter(|text| !text.is_empty());
        if let (Some(own), Some(announced)) = (own, announced.filter(known))
            && own != announced
        {
            return Err(DocumentError::Mismatch {
                announced: shorten(announced),
                actual: shorten(own),
            });
        }
        // A document that could be read as either would mean different things to different
        // readers, so only a media type or an unambiguous shape decides.
        let media_type = match (own.or(announced.filter(known)), probe.manifests, probe.layers) {
            (Some(media_type), ..) => media_type,
            (None, Some(_), None) => OCI_INDEX,
            (None, None, Some(_)) => OCI_MANIFEST,
            (None, ..) => {
                return Err(DocumentError::MediaType {
                    media_type: String::new(),
                });
            }
        };
        match media_type {
            OCI_INDEX | DOCKER_INDEX => {
                let index = serde_json::from_slice(json).map_err(|e| DocumentError::json("index", &e))?;
                Ok(Self::Index(index))
            }
            OCI_MANIFEST | DOCKER_MANIFEST => {
                let config = probe.config.and_then(|config| config.media_type).unwrap_or_default();
                if !matches!(config.as_str(), OCI_CONFIG | DOCKER_CONFIG) {
                    let artifact_type = probe.artifact_type.unwrap_or(config);
                    return Err(DocumentError::Artifact {
                        artifact_type: shorten(&artifact_type),
                    });
                }
                let manifest = serde_json::from_slice(json).map_err(|e| DocumentError::json("manifest", &e))?;
                Ok(Self::Manifest(Box::new(manifest)))
            }
            other => Err(DocumentError::MediaType {
                media_type: shorten(other),
            }),
        }
    }
}

impl Manifest {
    /// Checks the manifest against the limits, before anything that it names is fetched.
    pub(crate) fn check(&self, limits: &crate::Limits) -> Result<(), DocumentError> {
        if self.layers.len() > limits.layers {
            let layers = self.layers.len();
            return Err(DocumentError::TooManyLayers {
                layers,
                limit: limits.layers,
            });
        }
        if self.config.size > limits.document_bytes {
            return Err(DocumentError::TooLong {
                document: "image config",
                bytes: self.config.size,
                limit: limits.document_bytes,
            });
        }
        let bytes = self
            .layers
            .iter()
            .fold(0u64, |sum, layer| sum.saturating_add(layer.size));
        if bytes > limits.image_bytes {
            return Err(DocumentError::ImageTooLarge {
                bytes,
                limit: limits.image_bytes,
            });
        }
        for layer in &self.layers {
            if Compression::of_layer(&layer.media_type).is_none() {
                return Err(DocumentError::LayerMediaType {
                    digest: layer.digest.clone(),
                    media_type: shorten(&layer.media_type),
                });
            }
        }
        Ok(())
    }
}

fn shorten(text: &str) -> String {
    text.chars().take(160).collect()
}

#[cfg(test)]
mod tests;
