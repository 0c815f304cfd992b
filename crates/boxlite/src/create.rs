//! Making a box: its image, its configuration, its disk, its row.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use boxlite_disk::{DISK_DEVICE_BYTES, FormatOptions};
use boxlite_image::{ImageConfig, Platform, Source};
use boxlite_store::{BoxLock, BoxRecord, CreateBoxError, Digest, DraftBoxError, NewBox};

use crate::clock;
use crate::config::BoxConfig;
use crate::error::{CreateError, OptionsError, PullError, StateError};
use crate::images::obtain;
use crate::launch::{DISK_NAME, volumes};
use crate::options::BoxOptions;
use crate::progress::ProgressFn;
use crate::shared::Shared;

/// How often an image is looked for again that somebody removes at the same time.
const IMAGE_ATTEMPTS: u32 = 3;

/// Makes a box and gives its row. Dropping the future leaves nothing of it.
pub(crate) async fn create(
    shared: &Arc<Shared>,
    mut options: BoxOptions,
    progress: ProgressFn,
) -> Result<BoxRecord, CreateError> {
    shared.check_open()?;
    options.validate()?;
    let source = Source::parse(&options.image).map_err(|error| OptionsError::Image {
        image: options.image.clone(),
        reason: error.to_string(),
    })?;
    let platform = match &options.platform {
        Some(text) => Some(parse_platform(text)?),
        None => None,
    };
    let mut options = {
        let name = options.name.clone();
        shared
            .blocking(move |shared| {
                make_absolute(&mut options)?;
                if let Some(name) = name
                    && let Some(id) = shared.home.box_named(&name).map_err(StateError::from)?
                {
                    return Err(CreateError::NameTaken {
                        name,
                        id: id.short().to_owned(),
                    });
                }
                Ok(options)
            })
            .await?
    };
    let mut attempt = 1;
    loop {
        let image = obtain::for_box(
            shared,
            &source,
            platform.as_ref(),
            options.pull_policy,
            Arc::clone(&progress),
        )
        .await?;
        check_runs_here(&image.platform)?;
        let config = BoxConfig::merge(options, &image.config, image.platform.to_string())?;
        match commit(shared, config, image.digest.clone()).await {
            Ok(record) => return Ok(record),
            // Somebody removed it just now; it is had again.
            Err(Commit::NoSuchImage(config)) if attempt < IMAGE_ATTEMPTS => {
                options = config.options;
                attempt += 1;
            }
            Err(Commit::NoSuchImage(config)) => {
                return Err(CreateError::Image(Box::new(PullError::NotLocal {
                    image: config.options.image,
                })));
            }
            Err(Commit::Failed(error)) => return Err(error),
        }
    }
}

/// An image that a box can be made of.
#[derive(Debug, Clone)]
pub(crate) struct UsableImage {
    pub(crate) digest: Digest,
    pub(crate) config: ImageConfig,
    pub(crate) platform: Platform,
}

pub(crate) fn parse_platform(text: &str) -> Result<Platform, OptionsError> {
    Platform::parse(text).map_err(|_| OptionsError::Platform {
        platform: text.to_owned(),
    })
}

fn check_runs_here(platform: &Platform) -> Result<(), OptionsError> {
    let host = Platform::host();
    if host.suits(platform).is_some() {
        return Ok(());
    }
    Err(OptionsError::ForeignPlatform {
        platform: platform.to_string(),
        host: host.to_string(),
    })
}

/// Mounts are of the folder in which the caller is now. Blocking.
fn make_absolute(options: &mut BoxOptions) -> Result<(), OptionsError> {
    for mount in &mut options.mounts {
        mount.source = std::path::absolute(&mount.source).map_err(|error| OptionsError::MountSource {
            source_path: mount.source.clone(),
            reason: error.to_string(),
        })?;
    }
    volumes::check(&options.mounts)
}

enum Commit {
    NoSuchImage(Box<BoxConfig>),
    Failed(CreateError),
}

impl<E: Into<CreateError>> From<E> for Commit {
    fn from(error: E) -> Self {
        Self::Failed(error.into())
    }
}

async fn commit(shared: &Arc<Shared>, config: BoxConfig, image: Digest) -> Result<BoxRecord, Commit> {
    let cancelled = CancelFlag::default();
    let flag = Arc::clone(&cancelled.0);
    let owner = Arc::clone(shared);
    let made = shared.blocking(move |_| write(&owner, config, image, &flag)).await?;
    Ok(made.keep())
}

/// A box that is removed again when nobody takes it.
struct Made {
    shared: Arc<Shared>,
    record: Option<BoxRecord>,
    lock: Option<BoxLock>,
}

impl Made {
    fn keep(mut self) -> BoxRecord {
        self.lock = None;
        // Taken here and nowhere else, except by the end of this value.
        match self.record.take() {
            Some(record) => record,
            None => unreachable!("a made box is kept once"),
        }
    }
}

impl Drop for Made {
    fn drop(&mut self) {
        if self.record.is_some()
            && let Some(lock) = self.lock.take()
            && let Err(error) = self.shared.home.remove_box(lock)
        {
            tracing::warn!(%error, "a box that nobody waited for stays");
        }
    }
}

/// Set when the future that waits for the box is dropped.
#[derive(Default)]
struct CancelFlag(Arc<AtomicBool>);

impl Drop for CancelFlag {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// Makes the box's folder, disk and, last, row. Blocking.
fn write(shared: &Arc<Shared>, config: BoxConfig, image: Digest, cancelled: &AtomicBool) -> Result<Made, Commit> {
    let draft = shared.home.draft_box().map_err(|error| match error {
        DraftBoxError::Folder { path, source } => StateError::File {
            action: "making",
            path,
            source,
        },
        DraftBoxError::Random { source } => StateError::File {
            action: "reading",
            path: "the system's random numbers".into(),
            source,
        },
        DraftBoxError::Lock(error) => error.into(),
    })?;
    let format = FormatOptions {
        filesystem_bytes: config.options.disk_mib.saturating_mul(1 << 20),
        device_bytes: DISK_DEVICE_BYTES,
        label: "boxlite".to_owned(),
        uuid: uuid_of(draft.id().as_str()),
        created_at_seconds: clock::now_seconds(),
        journal_bytes: None,
    };
    boxlite_disk::format(&draft.dir().join(DISK_NAME), &format).map_err(CreateError::Disk)?;
    let row = serde_json::to_value(&config).map_err(|source| StateError::Row {
        what: "configuration",
        id: draft.id().to_string(),
        source,
    })?;
    if cancelled.load(Ordering::Relaxed) {
        return Err(StateError::Closed.into());
    }
    let new = NewBox {
        name: config.options.name.clone(),
        config: row,
        image_reference: Some(config.options.image.clone()),
        image_digest: Some(image),
        auto_remove: config.options.auto_remove,
        detached: config.options.detached,
        labels: config.labels.clone(),
    };
    match draft.commit(new) {
        Ok((record, lock)) => Ok(Made {
            shared: Arc::clone(shared),
            record: Some(record),
            lock: Some(lock),
        }),
        Err(CreateBoxError::NoSuchImage { .. }) => Err(Commit::NoSuchImage(Box::new(config))),
        Err(error) => Err(Commit::Failed(commit_error(error))),
    }
}

fn commit_error(error: CreateBoxError) -> CreateError {
    match error {
        CreateBoxError::NameTaken { name, by } => CreateError::NameTaken {
            name,
            id: by.short().to_owned(),
        },
        CreateBoxError::Name(error) => OptionsError::TakenForm {
            reason: error.to_string(),
        }
        .into(),
        CreateBoxError::NoSuchImage { digest } => CreateError::Image(Box::new(PullError::NotLocal {
            image: digest.to_string(),
        })),
        CreateBoxError::Sync { path, source } => StateError::File {
            action: "writing out",
            path,
            source,
        }
        .into(),
        CreateBoxError::Random { source } => StateError::File {
            action: "reading",
            path: "the system's random numbers".into(),
            source,
        }
        .into(),
        CreateBoxError::Database(error) => StateError::from(error).into(),
    }
}

/// A box's id is 128 random bits, which is what a volume's identity wants too.
fn uuid_of(id: &str) -> [u8; 16] {
    u128::from_str_radix(id, 16).unwrap_or_default().to_be_bytes()
}
