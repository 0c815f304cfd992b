//! What the database knows of an image.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::Digest;

/// One layer of an image, a blob in the content store that images share.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LayerRecord {
    /// The blob as it came.
    pub digest: Digest,
    /// The digest of the uncompressed layer.
    pub diff_id: Option<Digest>,
    /// The media type that the manifest gives.
    pub media_type: String,
    /// The blob's size.
    pub size_bytes: u64,
}

/// An image that is to be recorded. Its blobs are in the content store already.
#[derive(Clone, Debug, PartialEq)]
pub struct NewImage {
    /// The digest of the manifest, the image's identity.
    pub digest: Digest,
    /// The digest of the config blob.
    pub config_digest: Digest,
    /// The manifest, as the library wrote it.
    pub manifest: Value,
    /// Such as `linux/amd64`.
    pub platform: String,
    /// What the manifest, the config and all layers have as blobs.
    pub size_bytes: u64,
    /// When the image says that it was made, milliseconds since the Unix epoch.
    pub created_at_ms: Option<i64>,
    /// The layers, lowest first.
    pub layers: Vec<LayerRecord>,
    /// Blobs to keep beside these, such as the index that led to the manifest.
    pub other_blobs: Vec<Digest>,
}

/// One image. Times are milliseconds since the Unix epoch.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ImageRecord {
    /// The digest of the manifest.
    pub digest: Digest,
    /// The digest of the config blob.
    pub config_digest: Digest,
    /// The manifest, as the library wrote it.
    pub manifest: Value,
    /// Such as `linux/amd64`.
    pub platform: String,
    /// The size of its blobs, shared or not.
    pub size_bytes: u64,
    /// When the image says that it was made.
    pub created_at_ms: Option<i64>,
    /// When it was first recorded here.
    pub added_at_ms: i64,
    /// When a box was last made from it or it was last asked for.
    pub last_used_at_ms: i64,
    /// The length of the root filesystem's content; `None` while it isn't built.
    pub rootfs_bytes: Option<u64>,
    /// The references that name it, sorted.
    pub references: Vec<String>,
    /// How many boxes have it.
    pub boxes: u64,
}
