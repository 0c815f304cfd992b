//! Removing, on request, what nobody uses.

use crate::box_row;
use crate::database::{DatabaseError, Durability, from_sqlite};
use crate::{
    BoxId, BoxLock, BoxRecord, Digest, GarbageError, GarbageOptions, Home, ImageCollection, LockError, RecordedState,
    RemoveBoxError, RemoveImageError, images,
};

/// The states in which a box has nothing to lose but its disk.
const AT_REST: [RecordedState; 3] = [RecordedState::Created, RecordedState::Stopped, RecordedState::Failed];

/// Which images to remove. Those that a box has stay.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ImagePrune {
    /// None.
    #[default]
    None,
    /// Those that no reference names.
    Dangling,
    /// All.
    Unused,
}

/// What to remove. Garbage is collected in any case.
#[derive(Default)]
pub struct PruneRequest<'a> {
    /// The boxes at rest for which this answers yes; `None` removes no box.
    pub boxes: Option<&'a dyn Fn(&BoxRecord) -> bool>,
    /// Which images.
    pub images: ImagePrune,
}

impl std::fmt::Debug for PruneRequest<'_> {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter
            .debug_struct("PruneRequest")
            .field("boxes", &self.boxes.is_some())
            .field("images", &self.images)
            .finish()
    }
}

/// What was removed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Pruned {
    /// Boxes.
    pub boxes: Vec<BoxId>,
    /// Images, with the references that named them.
    pub images: Vec<(Digest, Vec<String>)>,
    /// What all that took.
    pub reclaimed_bytes: u64,
    /// Whether the files of images could be deleted.
    pub image_files: ImageCollection,
}

/// Why pruning ended early. What was removed until then is removed.
#[derive(Debug, thiserror::Error)]
pub enum PruneError {
    /// A box's lock could not be looked at.
    #[error(transparent)]
    Lock(#[from] LockError),
    /// A box could not be removed.
    #[error(transparent)]
    Remove(#[from] RemoveBoxError),
    /// An image could not be removed.
    #[error(transparent)]
    RemoveImage(#[from] RemoveImageError),
    /// Files could not be deleted.
    #[error(transparent)]
    Garbage(#[from] GarbageError),
    /// The space could not be counted.
    #[error(transparent)]
    Usage(#[from] crate::UsageError),
    /// The database failed.
    #[error(transparent)]
    Database(#[from] DatabaseError),
}

from_sqlite!(PruneError);

impl Home {
    /// Removes what is asked for, and all garbage. Reconcile first: what is recorded as live is
    /// never removed.
    ///
    /// # Errors
    /// [`PruneError`].
    pub fn prune(&self, request: &PruneRequest<'_>) -> Result<Pruned, PruneError> {
        let mut pruned = Pruned::default();
        if let Some(wants) = request.boxes {
            let at_rest = self
                .database()
                .read(|transaction| Ok::<_, PruneError>(box_row::by_states(transaction, &AT_REST)?))?;
            for record in at_rest.iter().filter(|record| wants(record)) {
                if let Some(bytes) = self.prune_box(&record.id)? {
                    pruned.reclaimed_bytes += bytes;
                    pruned.boxes.push(record.id.clone());
                }
            }
        }
        if request.images != ImagePrune::None {
            let dangling_only = request.images == ImagePrune::Dangling;
            pruned.images = self.database().write(Durability::PowerCut, |transaction| {
                let mut removed = Vec::new();
                for digest in images::unused(transaction, dangling_only)? {
                    let references = images::delete(transaction, &digest)?;
                    removed.push((digest, references));
                }
                Ok::<_, PruneError>(removed)
            })?;
        }
        let collected = self.collect_garbage(&GarbageOptions::default())?;
        pruned.reclaimed_bytes += collected.reclaimed_bytes;
        pruned.image_files = collected.images;
        Ok(pruned)
    }

    /// What the box took, or `None` if it is somebody's, or gone.
    fn prune_box(&self, id: &BoxId) -> Result<Option<u64>, PruneError> {
        let lock = match BoxLock::try_acquire(self, id) {
            Ok(Some(lock)) => lock,
            Ok(None) | Err(LockError::Gone { .. }) => return Ok(None),
            Err(error) => return Err(error.into()),
        };
        let now = self
            .database()
            .read(|transaction| Ok::<_, PruneError>(box_row::by_id(transaction, id)?))?;
        if !now.is_some_and(|now| AT_REST.contains(&now.state)) {
            return Ok(None);
        }
        let bytes = self.box_bytes(id)?;
        match self.remove_box(lock) {
            Ok(()) => Ok(Some(bytes)),
            Err(RemoveBoxError::NotFound { .. }) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }
}
