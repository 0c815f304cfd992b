//! Images of a home: pull, load, list, tag, remove.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::client::Shared;
use crate::error::{
    ImageGetError, ImageListError, ImageLoadError, ImageRemoveError, ImageTagError, PullError,
    StateError,
};
use crate::progress::ProgressFn;

/// The images of a home; from [`crate::Client::images`].
#[derive(Debug, Clone)]
pub struct Images {
    shared: Arc<Shared>,
}

/// How [`Images::pull`] pulls.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
#[non_exhaustive]
pub struct PullOptions {
    /// `os/architecture[/variant]`. Absent: the host's.
    pub platform: Option<String>,
    /// Credentials for this pull. Absent: the client's, else docker's and podman's files
    /// and helpers.
    pub credentials: Option<Credentials>,
}

/// How [`Images::load`] loads.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
#[non_exhaustive]
pub struct LoadOptions {
    /// `os/architecture[/variant]`. Absent: the host's.
    pub platform: Option<String>,
    /// A name for what is loaded, over the names that the archive has. The archive must
    /// then hold one image.
    pub tag: Option<String>,
}

/// User name and password (or token) for a registry.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Credentials {
    /// User name.
    pub username: String,
    /// Password or access token.
    pub password: String,
}

impl std::fmt::Debug for Credentials {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Credentials")
            .field("username", &self.username)
            .finish_non_exhaustive()
    }
}

/// An image of a home.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct ImageInfo {
    /// Digest of the manifest (`sha256:…`).
    pub digest: String,
    /// Digest of the configuration: what docker calls the image's id.
    pub config_digest: String,
    /// Names, in full (`docker.io/library/alpine:3.20`). Empty: nobody names it any more.
    pub references: Vec<String>,
    /// Platform (`linux/amd64`).
    pub platform: String,
    /// When its maker says that it was made (RFC 3339).
    pub created: Option<String>,
    /// When it came into the home, in milliseconds since 1970.
    pub pulled_at_ms: u64,
    /// Sum of the compressed sizes of its layers.
    pub size_bytes: u64,
    /// What its root filesystem takes on the host's disk, once it is built.
    pub rootfs_bytes: Option<u64>,
    /// Its layers, lowest first.
    pub layers: Vec<LayerInfo>,
    /// Its configuration.
    pub config: ImageConfigInfo,
    /// Number of boxes that were made from it.
    pub boxes: u64,
}

/// A layer of an image.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LayerInfo {
    /// Digest of the compressed layer.
    pub digest: String,
    /// Digest of what is in it.
    pub diff_id: String,
    /// Compressed size.
    pub size_bytes: u64,
}

/// What an image says about how it is to be run.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct ImageConfigInfo {
    /// Entrypoint.
    pub entrypoint: Vec<String>,
    /// Command.
    pub command: Vec<String>,
    /// Environment, as `KEY=value`.
    pub env: Vec<String>,
    /// Working directory.
    pub working_dir: String,
    /// User.
    pub user: String,
    /// Stop signal.
    pub stop_signal: Option<String>,
    /// Volumes.
    pub volumes: Vec<String>,
    /// Ports, as `80/tcp`.
    pub exposed_ports: Vec<String>,
    /// Labels.
    pub labels: BTreeMap<String, String>,
}

/// What removing an image did.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct ImageRemoval {
    /// Names that are gone.
    pub untagged: Vec<String>,
    /// Digests of images that are gone.
    pub deleted: Vec<String>,
    /// Bytes of the host's disk that are free again.
    pub freed_bytes: u64,
}

impl Images {
    pub(crate) fn new(shared: Arc<Shared>) -> Self {
        Self { shared }
    }

    /// Fetches an image from a registry and builds its root filesystem.
    ///
    /// Layers that the home has are not fetched again; a broken transfer is resumed. Two
    /// processes may pull the same image at the same time. Dropping the future stops the
    /// pull; layers that are complete stay for the next one.
    ///
    /// # Errors
    /// [`PullError`] says which name, registry, layer or digest failed, and how.
    pub async fn pull(
        &self,
        reference: &str,
        options: PullOptions,
        progress: ProgressFn,
    ) -> Result<ImageInfo, PullError> {
        let _ = (reference, options, progress, &self.shared);
        Err(StateError::Closed.into())
    }

    /// Loads every image of a file or folder: `docker-archive:PATH[:REFERENCE]`,
    /// `oci:PATH[:TAG]`, `oci-archive:PATH[:TAG]`, or the plain path of such a file.
    ///
    /// # Errors
    /// [`ImageLoadError`] says what in the source is wrong.
    pub async fn load(
        &self,
        source: &str,
        options: LoadOptions,
        progress: ProgressFn,
    ) -> Result<Vec<ImageInfo>, ImageLoadError> {
        let _ = (source, options, progress);
        Err(StateError::Closed.into())
    }

    /// All images, the newest first.
    ///
    /// # Errors
    /// When the home's state can't be read.
    pub async fn list(&self) -> Result<Vec<ImageInfo>, ImageListError> {
        Err(StateError::Closed.into())
    }

    /// One image, by name, digest or the beginning of a digest.
    ///
    /// # Errors
    /// When there is none, or the beginning is not unique.
    pub async fn get(&self, reference: &str) -> Result<ImageInfo, ImageGetError> {
        let _ = reference;
        Err(StateError::Closed.into())
    }

    /// Removes a name of an image, and with its last name the image: its root filesystem
    /// and the layers that no other image has. Without `force` an image that boxes were
    /// made from, or a digest that has several names, is refused; with `force` all names
    /// go. What a box still needs stays on the disk until the box is removed.
    ///
    /// # Errors
    /// When there is none, or it is in use and `force` is not given.
    pub async fn remove(
        &self,
        reference: &str,
        force: bool,
    ) -> Result<ImageRemoval, ImageRemoveError> {
        let _ = (reference, force);
        Err(StateError::Closed.into())
    }

    /// Gives the image `source` the further name `target`.
    ///
    /// # Errors
    /// When there is no such image, or `target` is no name with a tag.
    pub async fn tag(&self, source: &str, target: &str) -> Result<(), ImageTagError> {
        let _ = (source, target);
        Err(StateError::Closed.into())
    }
}
