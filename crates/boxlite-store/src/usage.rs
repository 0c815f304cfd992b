//! What a home takes, counted in allocated bytes: holes are free.

use std::collections::{HashMap, HashSet};
use std::io;
use std::path::{Path, PathBuf};

use crate::allocation::allocated_bytes;
use crate::database::{DatabaseError, from_sqlite};
use crate::{BoxId, Digest, Home, RecordedState, box_row, images};

/// What one box takes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BoxUsage {
    /// The box.
    pub id: BoxId,
    /// Its name.
    pub name: String,
    /// Its state as recorded.
    pub state: RecordedState,
    /// Its disk and logs.
    pub bytes: u64,
}

/// What one image takes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ImageUsage {
    /// The image.
    pub digest: Digest,
    /// The references that name it.
    pub references: Vec<String>,
    /// Its root filesystem.
    pub rootfs_bytes: u64,
    /// Its blobs that no other image has.
    pub unique_blob_bytes: u64,
    /// Its blobs that other images have as well.
    pub shared_blob_bytes: u64,
    /// How many boxes have it.
    pub boxes: u64,
}

/// What a home takes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DiskUsage {
    /// Every box.
    pub boxes: Vec<BoxUsage>,
    /// Every image.
    pub images: Vec<ImageUsage>,
    /// All boxes together.
    pub boxes_bytes: u64,
    /// All blobs and root filesystems together, each once, garbage included.
    pub images_bytes: u64,
    /// The guest bundles.
    pub bundles_bytes: u64,
    /// The database.
    pub database_bytes: u64,
    /// Everything that is just being made or waits for its deletion.
    pub temporary_bytes: u64,
    /// What removing all boxes at rest would free.
    pub reclaimable_boxes_bytes: u64,
    /// What removing all images that no box has would free.
    pub reclaimable_images_bytes: u64,
}

/// Why the space could not be counted.
#[derive(Debug, thiserror::Error)]
pub enum UsageError {
    /// A file or folder could not be looked at.
    #[error("can't count the space of {}: {source}", path.display())]
    Io {
        /// Which one.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The database failed.
    #[error(transparent)]
    Database(#[from] DatabaseError),
}

from_sqlite!(UsageError);

fn bytes_of(path: &Path) -> Result<u64, UsageError> {
    allocated_bytes(path).map_err(|source| UsageError::Io {
        path: path.to_owned(),
        source,
    })
}

impl Home {
    /// What a box's folder takes.
    ///
    /// # Errors
    /// [`UsageError::Io`].
    pub fn box_bytes(&self, id: &BoxId) -> Result<u64, UsageError> {
        bytes_of(&self.box_dir(id))
    }

    /// What everything in the home takes. Looks at every file once.
    ///
    /// # Errors
    /// [`UsageError`].
    pub fn disk_usage(&self) -> Result<DiskUsage, UsageError> {
        let mut usage = DiskUsage {
            images_bytes: bytes_of(&self.content_dir())?,
            bundles_bytes: bytes_of(&self.bundles_dir())?,
            temporary_bytes: bytes_of(&self.tmp_dir())? + bytes_of(&self.trash_dir())?,
            ..DiskUsage::default()
        };
        for name in ["boxlite.db", "boxlite.db-wal", "boxlite.db-shm"] {
            usage.database_bytes += bytes_of(&self.path().join(name))?;
        }
        let (records, image_records, named_blobs) = self.database().read(|transaction| {
            Ok::<_, UsageError>((
                box_row::by_states(transaction, &RecordedState::ALL)?,
                images::all(transaction)?,
                images::named_blobs(transaction)?,
            ))
        })?;
        for record in records {
            let bytes = self.box_bytes(&record.id)?;
            usage.boxes_bytes += bytes;
            if !record.state.is_live() {
                usage.reclaimable_boxes_bytes += bytes;
            }
            usage.boxes.push(BoxUsage {
                id: record.id,
                name: record.name,
                state: record.state,
                bytes,
            });
        }
        let mut owners: HashMap<Digest, HashSet<Digest>> = HashMap::new();
        for (image, blob) in named_blobs {
            owners.entry(blob).or_default().insert(image);
        }
        let used: HashSet<Digest> = image_records
            .iter()
            .filter(|image| image.boxes > 0)
            .map(|image| image.digest.clone())
            .collect();
        let mut by_image: HashMap<Digest, (u64, u64)> = HashMap::new();
        for (blob, owners) in owners {
            let bytes = bytes_of(&self.blob_path(&blob))?;
            if owners.is_disjoint(&used) {
                usage.reclaimable_images_bytes += bytes;
            }
            let is_shared = owners.len() > 1;
            for owner in owners {
                let (unique, shared) = by_image.entry(owner).or_default();
                *(if is_shared { shared } else { unique }) += bytes;
            }
        }
        for image in image_records {
            let rootfs_bytes = bytes_of(&self.rootfs_path(&image.digest))?;
            if image.boxes == 0 {
                usage.reclaimable_images_bytes += rootfs_bytes;
            }
            let (unique_blob_bytes, shared_blob_bytes) = by_image.remove(&image.digest).unwrap_or_default();
            usage.images.push(ImageUsage {
                digest: image.digest,
                references: image.references,
                rootfs_bytes,
                unique_blob_bytes,
                shared_blob_bytes,
                boxes: image.boxes,
            });
        }
        Ok(usage)
    }
}
