//! A box that is being made: a locked folder that no row names yet.

use std::fs::{DirBuilder, File};
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use crate::box_row;
use crate::boxes::now_ms;
use crate::database::{DatabaseError, Durability, from_sqlite};
use crate::lock::LockError;
use crate::name::{InvalidName, generate_name, validate_name};
use crate::sys::LockKind;
use crate::{BoxId, BoxLock, BoxRecord, Digest, Home, NewBox, RecordedState};

/// How many generated names are tried before a number is put behind one.
const PLAIN_NAME_ATTEMPTS: u32 = 16;

/// A box that is being made. Put into [`BoxDraft::dir`] what the box needs, then
/// [`BoxDraft::commit`] it. Dropped without that, or left behind by a crash, it disappears.
#[derive(Debug)]
pub struct BoxDraft {
    home: Home,
    id: BoxId,
    /// `None` once committed.
    lock: Option<BoxLock>,
}

/// Why the making of a box could not begin.
#[derive(Debug, thiserror::Error)]
pub enum DraftBoxError {
    /// The folder could not be made.
    #[error("can't make {}: {source}", path.display())]
    Folder {
        /// The folder.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The system has no random numbers.
    #[error("no random numbers for the ID of a box: {source}")]
    Random {
        /// What the system said.
        source: io::Error,
    },
    /// The lock could not be had.
    #[error(transparent)]
    Lock(#[from] LockError),
}

/// Why a box was not recorded.
#[derive(Debug, thiserror::Error)]
pub enum CreateBoxError {
    /// No box may be named so.
    #[error(transparent)]
    Name(#[from] InvalidName),
    /// Another box has the name.
    #[error("the name {name} is taken by box {}", by.short())]
    NameTaken {
        /// The name.
        name: String,
        /// Who has it.
        by: BoxId,
    },
    /// The image isn't recorded, or not any more.
    #[error("no such image: {digest}")]
    NoSuchImage {
        /// The image.
        digest: Digest,
    },
    /// The box's files could not be written out.
    #[error("can't write out {}: {source}", path.display())]
    Sync {
        /// The file or folder.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The system has no random numbers.
    #[error("no random numbers for a name: {source}")]
    Random {
        /// What the system said.
        source: io::Error,
    },
    /// The database failed.
    #[error(transparent)]
    Database(#[from] DatabaseError),
}

from_sqlite!(CreateBoxError);

impl Home {
    /// Begins to make a box: an ID, an empty folder, and the box's lock.
    ///
    /// # Errors
    /// [`DraftBoxError`].
    pub fn draft_box(&self) -> Result<BoxDraft, DraftBoxError> {
        let id = BoxId::random().map_err(|source| DraftBoxError::Random { source })?;
        let path = self.box_dir(&id);
        // Who looks for folders without owners must not see this one before it is locked.
        let _arriving = self.lock_arrivals(LockKind::Shared)?;
        DirBuilder::new()
            .mode(0o700)
            .create(&path)
            .map_err(|source| DraftBoxError::Folder {
                path: path.clone(),
                source,
            })?;
        match BoxLock::create(self, &id) {
            Ok(lock) => Ok(BoxDraft {
                home: self.clone(),
                id,
                lock: Some(lock),
            }),
            Err(error) => {
                self.discard(&path);
                Err(error.into())
            }
        }
    }
}

impl BoxDraft {
    /// The ID that the box will have.
    #[must_use]
    pub fn id(&self) -> &BoxId {
        &self.id
    }

    /// The folder that the box will have.
    #[must_use]
    pub fn dir(&self) -> PathBuf {
        self.home.box_dir(&self.id)
    }

    /// Writes the folder out to the disk and records the box as `created`. The lock comes back
    /// held, for a start that follows; dropping it makes the box free for everybody.
    ///
    /// # Errors
    /// [`CreateBoxError`]; the folder is deleted then, or, after trouble with the database, by
    /// the next recovery.
    pub fn commit(mut self, new: NewBox) -> Result<(BoxRecord, BoxLock), CreateBoxError> {
        if let Some(name) = &new.name {
            validate_name(name)?;
        }
        self.sync()?;
        let result = self
            .home
            .database()
            .write(Durability::PowerCut, |transaction| self.insert(transaction, new));
        let lock = self.lock.take();
        match (result, lock) {
            (Ok(record), Some(lock)) => Ok((record, lock)),
            // Whether such a commit took place is known to the database alone, so the folder
            // stays until a recovery has asked it.
            (Err(error @ CreateBoxError::Database(_)), _) => Err(error),
            (Err(error), lock) => {
                self.lock = lock;
                Err(error)
            }
            (Ok(_), None) => {
                unreachable!("a draft holds its lock until it is committed, which consumes it")
            }
        }
    }

    fn sync(&self) -> Result<(), CreateBoxError> {
        let sync = |path: &Path| {
            File::open(path)
                .and_then(|file| file.sync_all())
                .map_err(|source| CreateBoxError::Sync {
                    path: path.to_owned(),
                    source,
                })
        };
        let folder = self.dir();
        let failed = |source| CreateBoxError::Sync {
            path: folder.clone(),
            source,
        };
        for entry in std::fs::read_dir(&folder).map_err(failed)? {
            let entry = entry.map_err(failed)?;
            if entry.file_type().map_err(failed)?.is_file() && entry.file_name() != "lock" {
                sync(&entry.path())?;
            }
        }
        sync(&folder)?;
        sync(&self.home.boxes_dir())
    }

    fn insert(&self, transaction: &rusqlite::Transaction<'_>, new: NewBox) -> Result<BoxRecord, CreateBoxError> {
        let name = match new.name {
            Some(name) => match box_row::name_owner(transaction, &name)? {
                Some(by) => return Err(CreateBoxError::NameTaken { name, by }),
                None => name,
            },
            None => free_name(transaction)?,
        };
        if let Some(digest) = &new.image_digest
            && !crate::images::touch(transaction, digest)?
        {
            return Err(CreateBoxError::NoSuchImage { digest: digest.clone() });
        }
        let record = BoxRecord {
            id: self.id.clone(),
            name,
            config: new.config,
            image_reference: new.image_reference,
            image_digest: new.image_digest,
            state: RecordedState::Created,
            run_id: None,
            created_at_ms: now_ms(),
            started_at_ms: None,
            finished_at_ms: None,
            exit: None,
            error: None,
            auto_remove: new.auto_remove,
            detached: new.detached,
            shim_pid: None,
            engine: None,
            accelerator: None,
            start: None,
            ports: None,
            labels: new.labels,
        };
        box_row::insert(transaction, &record)?;
        Ok(record)
    }
}

fn free_name(transaction: &rusqlite::Transaction<'_>) -> Result<String, CreateBoxError> {
    let mut attempt = 0;
    loop {
        let mut name = generate_name().map_err(|source| CreateBoxError::Random { source })?;
        if attempt >= PLAIN_NAME_ATTEMPTS {
            name = format!("{name}_{attempt}");
        }
        if box_row::name_owner(transaction, &name)?.is_none() {
            return Ok(name);
        }
        attempt += 1;
    }
}

impl Drop for BoxDraft {
    fn drop(&mut self) {
        if self.lock.is_some() {
            self.home.discard(&self.dir());
        }
    }
}
