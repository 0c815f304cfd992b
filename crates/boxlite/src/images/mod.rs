//! Images of a home: pull, load, list, tag, remove.

pub(crate) mod obtain;

use std::collections::BTreeMap;
use std::sync::Arc;

use boxlite_image::{Platform, Reference, Source};
use boxlite_store::{Digest, FindImageError, GarbageOptions, ImageRecord, RemoveImageError, TagError};
use serde::{Deserialize, Serialize};

use crate::error::{
    ImageGetError, ImageListError, ImageLoadError, ImageRemoveError, ImageTagError, PullError, StateError,
};
use crate::progress::ProgressFn;
use crate::shared::Shared;

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
        let parsed = parse_reference(reference).map_err(|reason| PullError::Reference {
            image: reference.to_owned(),
            reason,
        })?;
        let platform = match &options.platform {
            Some(text) => Some(Platform::parse(text).map_err(|_| PullError::Platform { platform: text.clone() })?),
            None => None,
        };
        let record = obtain::pull(&self.shared, &parsed, platform, options.credentials.as_ref(), progress).await?;
        Ok(info(record)?)
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
        let source = load_source(source)?;
        let wrong = |text: &str, reason: String| ImageLoadError::Source {
            text: text.to_owned(),
            reason,
        };
        let platform = match &options.platform {
            Some(text) => Some(Platform::parse(text).map_err(|error| wrong(text, error.to_string()))?),
            None => None,
        };
        let tag = match &options.tag {
            Some(text) => Some(parse_name(text).map_err(|reason| wrong(text, reason))?),
            None => None,
        };
        let records = obtain::load(&self.shared, source, platform, tag, progress).await?;
        records.into_iter().map(|record| Ok(info(record)?)).collect()
    }

    /// All images, the newest first.
    ///
    /// # Errors
    /// When the home's state can't be read.
    pub async fn list(&self) -> Result<Vec<ImageInfo>, ImageListError> {
        self.shared
            .blocking(|shared| {
                let records = shared.home.list_images().map_err(StateError::from)?;
                records.into_iter().map(|record| Ok(info(record)?)).collect()
            })
            .await
    }

    /// One image, by name, digest or the beginning of a digest.
    ///
    /// # Errors
    /// When there is none, or the beginning is not unique.
    pub async fn get(&self, reference: &str) -> Result<ImageInfo, ImageGetError> {
        let reference = reference.to_owned();
        self.shared
            .blocking(move |shared| Ok(info(find(shared, &reference)?.record)?))
            .await
    }

    /// Removes a name of an image, and with its last name the image: its root filesystem
    /// and the layers that no other image has. Without `force` an image that boxes were
    /// made from, or a digest that has several names, is refused; with `force` all names
    /// go. What a box still needs stays on the disk until the box is removed.
    ///
    /// # Errors
    /// When there is none, or it is in use and `force` is not given.
    pub async fn remove(&self, reference: &str, force: bool) -> Result<ImageRemoval, ImageRemoveError> {
        let reference = reference.to_owned();
        self.shared
            .blocking(move |shared| remove(shared, &reference, force))
            .await
    }

    /// Gives the image `source` the further name `target`.
    ///
    /// # Errors
    /// When there is no such image, or `target` is no name with a tag.
    pub async fn tag(&self, source: &str, target: &str) -> Result<(), ImageTagError> {
        let source = source.to_owned();
        let target = parse_name(target).map_err(|reason| ImageTagError::Name {
            name: target.to_owned(),
            reason,
        })?;
        self.shared
            .blocking(move |shared| {
                let found = find(shared, &source)?;
                let digest = found.record.digest;
                match shared.home.tag_image(&digest, &target.to_string()) {
                    Ok(()) => Ok(()),
                    Err(TagError::Database(error)) => Err(StateError::from(error).into()),
                    Err(_) => Err(ImageGetError::NotFound { image: source }.into()),
                }
            })
            .await
    }
}

/// A reference of a registry, without the forms that name local files.
fn parse_reference(text: &str) -> Result<Reference, String> {
    match Source::parse(text) {
        Ok(Source::Registry(reference)) => Ok(reference),
        Ok(_) => Err("only images of registries can be pulled; load this one".to_owned()),
        Err(error) => Err(format!("{error}; {}", error.hint())),
    }
}

/// A name that an image can be given.
fn parse_name(text: &str) -> Result<Reference, String> {
    let reference = Reference::parse(text).map_err(|error| error.to_string())?;
    if reference.digest().is_some() {
        return Err("a name with a digest can't be given".to_owned());
    }
    Ok(reference)
}

/// A source for a load: one of the local forms, or the path of a file or folder, whose kind
/// is found out.
fn load_source(text: &str) -> Result<Source, ImageLoadError> {
    let wrong = |reason: String| ImageLoadError::Source {
        text: text.to_owned(),
        reason,
    };
    match Source::parse(text) {
        Ok(Source::RootfsDir(_)) => {
            return Err(wrong(
                "the folder of a root filesystem is no image; create a box of it directly".to_owned(),
            ));
        }
        Ok(source) if source.is_local() => return Ok(source),
        _ => {}
    }
    let path = std::path::PathBuf::from(text);
    let metadata = std::fs::metadata(&path).map_err(|error| wrong(error.to_string()))?;
    if metadata.is_dir() {
        return Ok(Source::OciLayout { path, tag: None });
    }
    Ok(Source::DockerArchive { path, reference: None })
}

/// Fewer digits of an id than this are a name: `cafe` is one.
const SHORTEST_ID: usize = 6;

/// An image that was asked for, and by what.
struct Found {
    record: ImageRecord,
    /// The name, in full, if it was asked for by one.
    name: Option<String>,
}

/// The image with this name, digest, or beginning of the digest of its manifest or
/// configuration. Blocking.
fn find(shared: &Shared, text: &str) -> Result<Found, ImageGetError> {
    if let Ok(reference) = Reference::parse(text)
        && let Some(record) = lookup(shared, &reference)?
    {
        let name = reference.digest().is_none().then(|| reference.to_string());
        return Ok(Found { record, name });
    }
    match shared.home.find_image(text) {
        Ok(record) => return Ok(Found { record, name: None }),
        Err(FindImageError::NotFound { .. }) => {}
        Err(FindImageError::Ambiguous { .. }) => {
            return Err(ImageGetError::Ambiguous { image: text.to_owned() });
        }
        Err(FindImageError::Database(error)) => return Err(StateError::from(error).into()),
    }
    let hex = text.strip_prefix("sha256:").unwrap_or(text);
    let is_hex = !hex.is_empty() && hex.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
    let mut matching: Vec<ImageRecord> = if is_hex {
        let all = shared.home.list_images().map_err(StateError::from)?;
        all.into_iter()
            .filter(|record| record.config_digest.hex().starts_with(hex))
            .collect()
    } else {
        Vec::new()
    };
    match (matching.pop(), matching.is_empty()) {
        (Some(record), true) => Ok(Found { record, name: None }),
        (Some(_), false) => Err(ImageGetError::Ambiguous { image: text.to_owned() }),
        (None, _) => Err(ImageGetError::NotFound { image: text.to_owned() }),
    }
}

/// The only image whose id begins as this reference is written, if it can be one's beginning: a
/// repository of that name is meant only where no image is. Blocking.
fn by_id(shared: &Shared, reference: &Reference) -> Result<Option<ImageRecord>, StateError> {
    let familiar = reference.familiar();
    let text = familiar.strip_suffix(":latest").unwrap_or(&familiar);
    let is_hex = |byte: u8| matches!(byte, b'0'..=b'9' | b'a'..=b'f');
    if text.len() < SHORTEST_ID || !text.bytes().all(is_hex) {
        return Ok(None);
    }
    match find(shared, text) {
        Ok(found) => Ok(Some(found.record)),
        Err(ImageGetError::State(error)) => Err(error),
        Err(_) => Ok(None),
    }
}

/// The image that a reference names: by its digest if it has one. Blocking.
fn lookup(shared: &Shared, reference: &Reference) -> Result<Option<ImageRecord>, StateError> {
    if let Some(record) = shared.home.image_named(&reference.to_string())? {
        return Ok(Some(record));
    }
    let Some(digest) = reference.digest() else {
        return Ok(None);
    };
    let digest = obtain::store_digest(digest)?;
    if let Some(record) = shared.home.image(&digest)? {
        return Ok(Some(record));
    }
    // The digest of an index stands for the image that was chosen from it.
    let text = digest.to_string();
    let all = shared.home.list_images()?;
    Ok(all
        .into_iter()
        .find(|record| record.manifest.get("index_digest").and_then(|value| value.as_str()) == Some(&text)))
}

fn remove(shared: &Shared, text: &str, force: bool) -> Result<ImageRemoval, ImageRemoveError> {
    let Found { record, name } = find(shared, text)?;
    let others: Vec<String> = record
        .references
        .iter()
        .filter(|reference| Some(*reference) != name.as_ref())
        .cloned()
        .collect();
    let mut removal = ImageRemoval::default();
    if let Some(name) = name
        && !others.is_empty()
        && !force
    {
        untag(shared, &name)?;
        removal.untagged.push(name);
        return Ok(removal);
    }
    if !force && others.len() > 1 {
        return Err(ImageRemoveError::SeveralNames {
            image: text.to_owned(),
            names: others,
        });
    }
    match shared.home.remove_image(&record.digest) {
        Ok(references) => {
            removal.untagged = references;
            removal.deleted.push(record.digest.to_string());
        }
        Err(RemoveImageError::InUse { .. }) if force => {
            for reference in &record.references {
                untag(shared, reference)?;
            }
            removal.untagged = record.references;
            return Ok(removal);
        }
        Err(RemoveImageError::InUse { boxes }) => {
            return Err(ImageRemoveError::InUse {
                image: text.to_owned(),
                boxes: boxes.into_iter().map(|(_, name)| name).collect(),
            });
        }
        Err(RemoveImageError::NoSuchImage { .. }) => {
            return Err(ImageGetError::NotFound { image: text.to_owned() }.into());
        }
        Err(RemoveImageError::Database(error)) => return Err(StateError::from(error).into()),
    }
    // The row is gone; what can't be deleted now goes with the next recovery.
    match shared.home.collect_garbage(&GarbageOptions {
        keep_blobs_for: std::time::Duration::ZERO,
    }) {
        Ok(collected) => removal.freed_bytes = collected.reclaimed_bytes,
        Err(error) => tracing::warn!(%error, "the files of a removed image are left for later"),
    }
    Ok(removal)
}

fn untag(shared: &Shared, name: &str) -> Result<(), ImageRemoveError> {
    match shared.home.untag_image(name) {
        // Somebody else was faster.
        Ok(_) | Err(TagError::NoSuchReference { .. } | TagError::NoSuchImage { .. }) => Ok(()),
        Err(TagError::Database(error)) => Err(StateError::from(error).into()),
    }
}

fn info(record: ImageRecord) -> Result<ImageInfo, StateError> {
    let manifest = obtain::manifest_of(&record)?;
    let config = manifest.config;
    Ok(ImageInfo {
        digest: record.digest.to_string(),
        config_digest: record.config_digest.to_string(),
        references: record.references,
        platform: record.platform,
        created: config.created,
        pulled_at_ms: u64::try_from(record.added_at_ms).unwrap_or(0),
        size_bytes: record.size_bytes,
        rootfs_bytes: record.rootfs_bytes,
        layers: manifest
            .layers
            .into_iter()
            .map(|layer| LayerInfo {
                digest: layer.digest.to_string(),
                diff_id: layer.diff_id.to_string(),
                size_bytes: layer.size_bytes,
            })
            .collect(),
        config: ImageConfigInfo {
            entrypoint: config.entrypoint,
            command: config.cmd,
            env: config.env,
            working_dir: config.working_dir.unwrap_or_default(),
            user: config.user.unwrap_or_default(),
            stop_signal: config.stop_signal,
            volumes: config.volumes.into_iter().collect(),
            exposed_ports: config.exposed_ports.into_iter().collect(),
            labels: config.labels,
        },
        boxes: record.boxes,
    })
}

/// Whether a box that was made of `image` (as it was asked for) with the manifest `digest`
/// descends from `ancestor`: a name, a digest, or the beginning of one.
pub(crate) fn descends(image: &str, digest: Option<&Digest>, ancestor: &str) -> bool {
    if image == ancestor {
        return true;
    }
    if let (Ok(Source::Registry(own)), Ok(Source::Registry(wanted))) = (Source::parse(image), Source::parse(ancestor))
        && own == wanted
    {
        return true;
    }
    let hex = ancestor.strip_prefix("sha256:").unwrap_or(ancestor);
    digest.is_some_and(|digest| hex.len() >= 6 && digest.hex().starts_with(hex))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn boxes_descend_from_names_and_digests() {
        let digest: Digest = format!("sha256:{}", "0a".repeat(32)).parse().unwrap();
        for (ancestor, expected) in [
            ("alpine", true),
            ("alpine:latest", true),
            ("docker.io/library/alpine", true),
            ("alpine:3", false),
            ("0a0a0a0a", true),
            ("sha256:0a0a0a0a", true),
            ("0a", false),
            ("0b0b0b0b", false),
        ] {
            assert_eq!(descends("alpine", Some(&digest), ancestor), expected, "{ancestor}");
        }
        assert!(descends("dir:/srv/root", None, "dir:/srv/root"));
    }

    #[test]
    fn only_registries_are_pulled_from() {
        assert!(parse_reference("alpine").is_ok());
        assert!(parse_reference("oci:/x").is_err());
        assert!(parse_name("alpine:1").is_ok());
        assert!(parse_name(&format!("alpine@sha256:{}", "0a".repeat(32))).is_err());
    }

    #[test]
    fn plain_paths_are_loaded_by_what_they_are() {
        let folder = tempfile::tempdir().unwrap();
        let text = folder.path().to_str().unwrap();
        assert!(matches!(load_source(text), Ok(Source::OciLayout { .. })));
        let file = folder.path().join("image.tar");
        std::fs::write(&file, "").unwrap();
        assert!(matches!(
            load_source(file.to_str().unwrap()),
            Ok(Source::DockerArchive { .. })
        ));
        assert!(matches!(load_source("oci-archive:/x:y"), Ok(Source::OciArchive { .. })));
        for wrong in ["dir:/x", "/nowhere/at/all"] {
            assert!(matches!(load_source(wrong), Err(ImageLoadError::Source { .. })));
        }
    }
}
