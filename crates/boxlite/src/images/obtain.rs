//! Getting an image into the home, with its root filesystem: from a registry, a file or a
//! folder. Several processes may be at it at the same time.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use boxlite_disk::DISK_DEVICE_BYTES;
use boxlite_image::rootfs::{self, BuildOptions};
use boxlite_image::{ImageConfig, ImageManifest, Platform, Reference, Source};
use boxlite_store::{Digest, ImageLease, ImageRecord, LayerRecord, LockError, NewImage, PutImageError};
use serde::Deserialize;
use tokio_util::sync::CancellationToken;

use crate::create::UsableImage;
use crate::error::{CreateError, ImageLoadError, PullError, RootfsError, StateError};
use crate::images::Credentials;
use crate::options::PullPolicy;
use crate::progress::{Progress, ProgressFn, from_image};
use crate::shared::Shared;

/// The image for a box, with its root filesystem built.
pub(crate) async fn for_box(
    shared: &Arc<Shared>,
    source: &Source,
    platform: Option<&Platform>,
    policy: PullPolicy,
    progress: ProgressFn,
) -> Result<UsableImage, CreateError> {
    let record = match source {
        Source::Registry(reference) => for_reference(shared, reference, platform, policy, progress)
            .await
            .map_err(|error| match error {
                PullError::Rootfs(error) => CreateError::Rootfs(error),
                error => CreateError::Image(Box::new(error)),
            })?,
        Source::RootfsDir(folder) => from_folder(shared, folder.clone(), progress)
            .await
            .map_err(|error| CreateError::Rootfs(Box::new(error)))?,
        _ => {
            let mut loaded = load(shared, source.clone(), platform.cloned(), None, progress)
                .await
                .map_err(|error| CreateError::Load(Box::new(error)))?;
            match (loaded.pop(), loaded.len()) {
                (Some(record), 0) => record,
                (_, others) => {
                    return Err(CreateError::SeveralImages {
                        source_text: source.to_string(),
                        count: others + 1,
                    });
                }
            }
        }
    };
    Ok(usable(record)?)
}

fn usable(record: ImageRecord) -> Result<UsableImage, StateError> {
    let manifest = manifest_of(&record)?;
    Ok(UsableImage {
        digest: record.digest,
        platform: manifest.platform,
        config: manifest.config,
    })
}

/// The manifest that a row keeps.
pub(crate) fn manifest_of(record: &ImageRecord) -> Result<ImageManifest, StateError> {
    ImageManifest::deserialize(&record.manifest).map_err(|source| StateError::Row {
        what: "manifest",
        id: record.digest.to_string(),
        source,
    })
}

async fn for_reference(
    shared: &Arc<Shared>,
    reference: &Reference,
    platform: Option<&Platform>,
    policy: PullPolicy,
    progress: ProgressFn,
) -> Result<ImageRecord, PullError> {
    if policy != PullPolicy::Always {
        let wanted = reference.clone();
        let found = shared
            .blocking(move |shared| match super::lookup(shared, &wanted)? {
                None => super::by_id(shared, &wanted),
                found => Ok(found),
            })
            .await?;
        let suits = |record: &ImageRecord| {
            platform
                .is_none_or(|wanted| Platform::parse(&record.platform).is_ok_and(|has| wanted.suits(&has).is_some()))
        };
        match found {
            Some(record) if suits(&record) => {
                return Ok(with_rootfs(shared, record, progress).await?);
            }
            _ if policy == PullPolicy::Never => {
                return Err(PullError::NotLocal {
                    image: reference.familiar(),
                });
            }
            _ => {}
        }
    }
    pull(shared, reference, platform.cloned(), None, progress).await
}

/// Pulls an image and builds its root filesystem.
pub(crate) async fn pull(
    shared: &Arc<Shared>,
    reference: &Reference,
    platform: Option<Platform>,
    credentials: Option<&Credentials>,
    progress: ProgressFn,
) -> Result<ImageRecord, PullError> {
    let lease = Arc::new(lease(shared).await?);
    let options = pull_options(shared, reference, platform, credentials);
    let cancel = shared.closed.child_token();
    let _cancel_on_drop = cancel.clone().drop_guard();
    let translated = translate(reference.familiar(), &progress);
    let manifest = boxlite_image::pull(&shared.content, reference, &options, translated, cancel).await?;
    let record = put(shared, &lease, manifest, Some(reference.to_string()))
        .await
        .map_err(|error| PullError::from_put(reference, error))?;
    let record = build(shared, lease, record, Arc::clone(&progress)).await?;
    progress(Progress::Done {
        reference: Some(reference.to_string()),
        digest: record.digest.to_string(),
    });
    Ok(record)
}

fn pull_options(
    shared: &Shared,
    reference: &Reference,
    platform: Option<Platform>,
    credentials: Option<&Credentials>,
) -> boxlite_image::PullOptions {
    let registries = &shared.registries;
    let explicit = credentials.or_else(|| registries.credentials.get(reference.registry()));
    let mut options = boxlite_image::PullOptions {
        platform,
        plain_http: registries.plain_http.clone(),
        mirrors: registries.mirrors.clone(),
        ca_certificates: registries.ca_certificates.clone(),
        ..boxlite_image::PullOptions::default()
    };
    if let Some(credentials) = explicit {
        options.auth = boxlite_image::AuthSource::Explicit(boxlite_image::Credentials::Password {
            username: credentials.username.clone(),
            password: credentials.password.clone(),
        });
    }
    options
}

/// Loads the images of a file or folder and builds their root filesystems.
pub(crate) async fn load(
    shared: &Arc<Shared>,
    source: Source,
    platform: Option<Platform>,
    tag: Option<Reference>,
    progress: ProgressFn,
) -> Result<Vec<ImageRecord>, ImageLoadError> {
    let lease = Arc::new(lease(shared).await?);
    let cancel = shared.closed.child_token();
    let _cancel_on_drop = cancel.clone().drop_guard();
    let options = boxlite_image::LoadOptions {
        platform,
        ..boxlite_image::LoadOptions::default()
    };
    let loaded = boxlite_image::load(
        &shared.content,
        &source,
        &options,
        translate(source.to_string(), &progress),
        cancel,
    )
    .await?;
    if tag.is_some() && loaded.len() != 1 {
        return Err(ImageLoadError::SeveralForTag {
            source_text: source.to_string(),
            count: loaded.len(),
        });
    }
    let mut records = Vec::with_capacity(loaded.len());
    for image in loaded {
        let reference = tag.clone().or(image.reference).map(|name| name.to_string());
        let record = put(shared, &lease, image.manifest, reference.clone())
            .await
            .map_err(ImageLoadError::from_put)?;
        let record = build(shared, Arc::clone(&lease), record, Arc::clone(&progress)).await?;
        progress(Progress::Done {
            reference,
            digest: record.digest.to_string(),
        });
        records.push(record);
    }
    Ok(records)
}

fn translate(what: String, progress: &ProgressFn) -> boxlite_image::ProgressFn {
    let progress = Arc::clone(progress);
    Arc::new(move |event| {
        if let Some(event) = from_image(&what, event) {
            progress(event);
        }
    })
}

async fn lease(shared: &Arc<Shared>) -> Result<ImageLease, StateError> {
    shared.blocking(|shared| Ok(shared.home.lease_images()?)).await
}

/// Records an image whose blobs are all there.
async fn put(
    shared: &Arc<Shared>,
    lease: &Arc<ImageLease>,
    manifest: ImageManifest,
    reference: Option<String>,
) -> Result<ImageRecord, PutError> {
    let lease = Arc::clone(lease);
    shared
        .blocking(move |shared| {
            let new = new_image(&manifest)?;
            Ok(shared.home.put_image(&lease, &new, reference.as_deref(), true)?)
        })
        .await
}

/// Why an image was not recorded.
#[derive(Debug)]
pub(crate) enum PutError {
    Put(PutImageError),
    State(StateError),
}

impl From<PutImageError> for PutError {
    fn from(error: PutImageError) -> Self {
        match error {
            PutImageError::Database(error) => Self::State(error.into()),
            error => Self::Put(error),
        }
    }
}

impl From<StateError> for PutError {
    fn from(error: StateError) -> Self {
        Self::State(error)
    }
}

impl From<PutError> for StateError {
    fn from(error: PutError) -> Self {
        match error {
            PutError::State(error) => error,
            PutError::Put(PutImageError::MissingFile { path, source }) => Self::File {
                action: "looking at",
                path,
                source,
            },
            PutError::Put(PutImageError::NoSuchImage { digest }) => Self::File {
                action: "recording",
                path: PathBuf::from(digest.to_string()),
                source: std::io::ErrorKind::NotFound.into(),
            },
            PutError::Put(PutImageError::Database(error)) => error.into(),
        }
    }
}

fn new_image(manifest: &ImageManifest) -> Result<NewImage, StateError> {
    let row = |source| StateError::Row {
        what: "manifest",
        id: manifest.digest.to_string(),
        source,
    };
    Ok(NewImage {
        digest: store_digest(&manifest.digest)?,
        config_digest: store_digest(&manifest.config_digest)?,
        manifest: serde_json::to_value(manifest).map_err(row)?,
        platform: manifest.platform.to_string(),
        size_bytes: manifest.size_bytes,
        created_at_ms: manifest
            .config
            .created
            .as_deref()
            .and_then(|text| text.parse::<jiff::Timestamp>().ok())
            .map(jiff::Timestamp::as_millisecond),
        layers: manifest
            .layers
            .iter()
            .map(|layer| {
                Ok(LayerRecord {
                    digest: store_digest(&layer.digest)?,
                    diff_id: Some(store_digest(&layer.diff_id)?),
                    media_type: layer.media_type.clone(),
                    size_bytes: layer.size_bytes,
                })
            })
            .collect::<Result<_, StateError>>()?,
        other_blobs: manifest
            .index_digest
            .iter()
            .map(store_digest)
            .collect::<Result<_, StateError>>()?,
    })
}

/// The same digest in the store's type.
pub(crate) fn store_digest(digest: &boxlite_image::Digest) -> Result<Digest, StateError> {
    digest.to_string().parse().map_err(|_| StateError::File {
        action: "reading",
        path: PathBuf::from(digest.to_string()),
        source: std::io::ErrorKind::InvalidData.into(),
    })
}

/// Builds the root filesystem of an image that is recorded, unless it is there.
async fn with_rootfs(
    shared: &Arc<Shared>,
    record: ImageRecord,
    progress: ProgressFn,
) -> Result<ImageRecord, RootfsError> {
    if record.rootfs_bytes.is_some() && shared.home.rootfs_path(&record.digest).is_file() {
        return Ok(record);
    }
    let lease = Arc::new(lease(shared).await?);
    build(shared, lease, record, progress).await
}

/// Builds the root filesystem under the image's lock: one process builds, the others wait and
/// find it built.
async fn build(
    shared: &Arc<Shared>,
    lease: Arc<ImageLease>,
    record: ImageRecord,
    progress: ProgressFn,
) -> Result<ImageRecord, RootfsError> {
    let cancel = shared.closed.child_token();
    let _cancel_on_drop = cancel.clone().drop_guard();
    shared
        .blocking(move |shared| {
            let digest = record.digest.clone();
            let is_built =
                |record: &ImageRecord| record.rootfs_bytes.is_some() && shared.home.rootfs_path(&digest).is_file();
            if is_built(&record) {
                return Ok(record);
            }
            let _lock = shared
                .home
                .lock_rootfs(&lease, &digest, &|| cancel.is_cancelled())
                .map_err(lock_error)?;
            let record = refreshed(shared, &digest)?;
            if is_built(&record) {
                return Ok(record);
            }
            progress(Progress::BuildingRootfs {
                digest: digest.to_string(),
            });
            let manifest = manifest_of(&record)?;
            let info = rootfs::build(
                &shared.content,
                &manifest,
                &shared.home.rootfs_path(&digest),
                &build_options(),
                &cancel,
            )?;
            shared
                .home
                .put_rootfs(&lease, &digest, info.bytes_written)
                .map_err(|error| StateError::from(PutError::from(error)))?;
            Ok(refreshed(shared, &digest)?)
        })
        .await
}

fn build_options() -> BuildOptions {
    BuildOptions {
        device_bytes: Some(DISK_DEVICE_BYTES),
        mount_points: true,
        ..BuildOptions::default()
    }
}

fn lock_error(error: LockError) -> RootfsError {
    match error {
        LockError::Cancelled { .. } => RootfsError::Cancelled,
        error => StateError::from(error).into(),
    }
}

fn refreshed(shared: &Shared, digest: &Digest) -> Result<ImageRecord, StateError> {
    shared
        .home
        .image(digest)
        .map_err(StateError::from)?
        .ok_or_else(|| StateError::File {
            action: "looking for",
            path: PathBuf::from(digest.to_string()),
            source: std::io::ErrorKind::NotFound.into(),
        })
}

/// Makes the folder of a root filesystem into an image without a name. The same content
/// gives the same image.
async fn from_folder(shared: &Arc<Shared>, folder: PathBuf, progress: ProgressFn) -> Result<ImageRecord, RootfsError> {
    let lease = lease(shared).await?;
    let cancel = shared.closed.child_token();
    let _cancel_on_drop = cancel.clone().drop_guard();
    shared
        .blocking(move |shared| build_folder(shared, &lease, &folder, &progress, &cancel))
        .await
}

fn build_folder(
    shared: &Shared,
    lease: &ImageLease,
    folder: &Path,
    progress: &ProgressFn,
    cancel: &CancellationToken,
) -> Result<ImageRecord, RootfsError> {
    const STAGED_NAME: &str = "rootfs";

    progress(Progress::BuildingRootfs {
        digest: format!("dir:{}", folder.display()),
    });
    let staging = shared.home.stage().map_err(StateError::from)?;
    let staged = staging.path().join(STAGED_NAME);
    let info = rootfs::build_from_dir(folder, &staged, &build_options(), cancel)?;
    let digest = hash(&staged, info.bytes_written, cancel)?;
    let manifest = ImageManifest {
        digest: digest.clone(),
        index_digest: None,
        config_digest: digest.clone(),
        config: ImageConfig::default(),
        layers: Vec::new(),
        platform: Platform::host(),
        size_bytes: 0,
    };
    let new = new_image(&manifest)?;
    let _lock = shared
        .home
        .lock_rootfs(lease, &new.digest, &|| cancel.is_cancelled())
        .map_err(lock_error)?;
    let record = shared
        .home
        .put_image(lease, &new, None, false)
        .map_err(|error| StateError::from(PutError::from(error)))?;
    if record.rootfs_bytes.is_none() || !shared.home.rootfs_path(&new.digest).is_file() {
        staging
            .publish(STAGED_NAME, &shared.home.rootfs_path(&new.digest))
            .map_err(StateError::from)?;
        shared
            .home
            .put_rootfs(lease, &new.digest, info.bytes_written)
            .map_err(|error| StateError::from(PutError::from(error)))?;
    }
    progress(Progress::Done {
        reference: None,
        digest: digest.to_string(),
    });
    Ok(refreshed(shared, &new.digest)?)
}

/// Hashes what a root filesystem has before its padding.
fn hash(path: &Path, bytes: u64, cancel: &CancellationToken) -> Result<boxlite_image::Digest, RootfsError> {
    use std::io::Read;

    const BUFFER_BYTES: usize = 1 << 20;
    let failed = |source| StateError::File {
        action: "reading",
        path: path.to_owned(),
        source,
    };
    let mut file = std::fs::File::open(path).map_err(failed)?.take(bytes);
    let mut hasher = boxlite_image::Hasher::new(boxlite_image::Algorithm::Sha256);
    let mut buffer = vec![0; BUFFER_BYTES];
    loop {
        if cancel.is_cancelled() {
            return Err(RootfsError::Cancelled);
        }
        match file.read(&mut buffer).map_err(failed)? {
            0 => return Ok(hasher.finish()),
            count => hasher.update(&buffer[..count]),
        }
    }
}
