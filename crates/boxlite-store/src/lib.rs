//! The home of all boxes: its layout on disk, its SQLite database, its locks, and its repair.
//!
//! There is no daemon. Any number of processes open the same [`Home`] at the same time, and any
//! of them may be killed at any instruction. Two rules make that safe:
//!
//! - **Files and rows.** A row is committed after the file that it names exists, and before the
//!   file that it forgets is deleted. So a crash leaves at worst a file that no row names, and
//!   [`Home::recover`] deletes those.
//! - **Locks are open file descriptions.** Who makes or runs something holds an open file
//!   description lock for as long as it does, and the kernel gives the lock back however the
//!   holder ends. A row that says `running` while the box's lock is free is a lie that
//!   [`Home::reconcile`] corrects; a file that no row names while its lock is held is just being
//!   made, and stays.
//!
//! Everything here blocks (on the disk, on SQLite's write lock, on other processes' locks) and
//! belongs on a thread that may block. Nothing here starts a thread or a process.
//!
//! ```
//! use boxlite_store::{Expected, Home, NewBox, RecordedState, RunChange};
//!
//! # let directory = tempfile::tempdir().unwrap();
//! let home = Home::open(&directory.path().join("home"))?;
//! let draft = home.draft_box()?;
//! std::fs::write(draft.dir().join("disk"), b"an ext4 would be here")?;
//! let (record, lock) = draft.commit(NewBox::default())?;
//!
//! let run = RunChange { run_id: Some("run-1".into()), ..RunChange::default() };
//! home.transition(&record.id, Expected::startable(), RecordedState::Starting, run)?;
//! // … the supervisor inherits `lock` and holds it for as long as the box runs.
//! # drop(lock);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

#![deny(unsafe_code)]

mod allocation;
mod box_draft;
mod box_id;
mod box_record;
mod box_row;
mod boxes;
mod column;
mod database;
mod digest;
mod file_system;
mod garbage;
mod home;
mod image_record;
mod images;
mod lock;
mod migration;
mod name;
mod prune;
mod reconcile;
mod staging;
#[allow(unsafe_code)]
mod sys;
mod usage;

pub use box_draft::{BoxDraft, CreateBoxError, DraftBoxError};
pub use box_id::{BoxId, InvalidBoxId};
pub use box_record::{BoxRecord, ExitStatus, Expected, NewBox, RecordedError, RecordedExit, RecordedState, RunChange};
pub use boxes::{AmendError, FindBoxError, ListBoxesError, RemoveBoxError, RenameBoxError, TransitionError};
pub use database::{DatabaseError, DatabaseTrouble};
pub use digest::{Digest, InvalidDigest};
pub use file_system::{FileSystemDefect, FreeSpace, HomeWarning};
pub use garbage::{Collected, GarbageError, GarbageOptions, ImageCollection};
pub use home::{Home, OpenHomeError};
pub use image_record::{ImageRecord, LayerRecord, NewImage};
pub use images::{FindImageError, ImageError, PutImageError, RemoveImageError, TagError};
pub use lock::{BoxLock, ImageLease, LockError, RootfsLock};
pub use migration::SCHEMA_VERSION;
pub use name::{InvalidName, generate_name, validate_name};
pub use prune::{ImagePrune, PruneError, PruneRequest, Pruned};
pub use reconcile::{EndedRun, ReconcileError, Reconciled, RecoverError, Recovered};
pub use staging::{StageError, Staging};
pub use usage::{BoxUsage, DiskUsage, ImageUsage, UsageError};
