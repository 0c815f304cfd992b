//! Making rows true again after supervisors ended.

use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use crate::database::{DatabaseError, from_sqlite};
use crate::lock::LockError;
use crate::{
    BoxId, BoxLock, BoxRecord, Collected, Expected, GarbageError, GarbageOptions, Home, RecordedError, RecordedExit,
    RecordedState, RemoveBoxError, RunChange, TransitionError,
};
use crate::{box_row, boxes};

/// More than this is no exit record.
const LARGEST_EXIT_RECORD_BYTES: u64 = 1 << 20;

/// What a supervisor's exit record says.
#[derive(Clone, Debug, PartialEq)]
pub struct EndedRun {
    /// The run that ended.
    pub run_id: String,
    /// How the main process ended.
    pub exit: Option<RecordedExit>,
    /// Why the run failed; `None` if it ended as it should, which makes the box `stopped`.
    pub error: Option<RecordedError>,
    /// When it ended, milliseconds since the Unix epoch.
    pub finished_at_ms: i64,
}

/// What was put right.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Reconciled {
    /// The boxes whose run had ended without the row saying so, as they are now.
    pub ended: Vec<BoxRecord>,
}

/// Why rows could not be put right.
#[derive(Debug, thiserror::Error)]
pub enum ReconcileError {
    /// Whether a supervisor lives could not be found out.
    #[error(transparent)]
    Lock(#[from] LockError),
    /// The database failed.
    #[error(transparent)]
    Database(#[from] DatabaseError),
}

from_sqlite!(ReconcileError);

/// What a recovery did.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Recovered {
    /// The boxes that were found dead.
    pub ended: Vec<BoxRecord>,
    /// The boxes that were removed because they had ended and were to be removed then.
    pub removed: Vec<BoxId>,
    /// What was deleted because no row names it.
    pub collected: Collected,
}

/// Why a recovery ended early. What it did until then is right.
#[derive(Debug, thiserror::Error)]
pub enum RecoverError {
    /// Rows could not be put right.
    #[error(transparent)]
    Reconcile(#[from] ReconcileError),
    /// A box could not be removed.
    #[error(transparent)]
    Remove(#[from] RemoveBoxError),
    /// Files could not be deleted.
    #[error(transparent)]
    Garbage(#[from] GarbageError),
}

/// A small file, or `None` if there is none; too much of it, or trouble, is an error text.
fn read_bounded(path: &Path) -> Result<Option<Vec<u8>>, String> {
    let mut bytes = Vec::new();
    match File::open(path) {
        Ok(file) => file
            .take(LARGEST_EXIT_RECORD_BYTES + 1)
            .read_to_end(&mut bytes)
            .map_err(|error| error.to_string())?,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error.to_string()),
    };
    if bytes.len() as u64 > LARGEST_EXIT_RECORD_BYTES {
        return Err(format!("longer than {LARGEST_EXIT_RECORD_BYTES} bytes"));
    }
    Ok(Some(bytes))
}

fn no_record(path: PathBuf, evidence: Option<String>) -> RecordedError {
    RecordedError {
        code: "supervisor_lost".into(),
        message: "the supervisor ended without a record".into(),
        hint: Some("it was killed, or the computer went down; start the box again".into()),
        evidence: evidence
            .map(|evidence| format!("{}: {evidence}", path.display()))
            .into_iter()
            .collect(),
    }
}

impl Home {
    /// Looks at every box that is recorded as live, and corrects those whose supervisor does
    /// not live any more, by the exit record that it left (`exit.json` in the box's folder,
    /// understood by `parse`; an error is a reason to mistrust it) or the lack of one. Only the
    /// record of the very run that the row names counts. Takes no lock, so it disturbs nobody.
    ///
    /// # Errors
    /// [`ReconcileError`].
    pub fn reconcile(&self, parse: &dyn Fn(&[u8]) -> Result<EndedRun, String>) -> Result<Reconciled, ReconcileError> {
        let live = self
            .database()
            .read(|transaction| Ok::<_, ReconcileError>(box_row::by_states(transaction, &RecordedState::LIVE)?))?;
        let mut reconciled = Reconciled::default();
        for record in live {
            if let Some(ended) = self.reconcile_one(record, parse)? {
                reconciled.ended.push(ended);
            }
        }
        Ok(reconciled)
    }

    /// The same for one box: its record, put right if it was wrong.
    ///
    /// # Errors
    /// [`ReconcileError`].
    pub fn reconcile_box(
        &self,
        record: BoxRecord,
        parse: &dyn Fn(&[u8]) -> Result<EndedRun, String>,
    ) -> Result<BoxRecord, ReconcileError> {
        if !record.state.is_live() {
            return Ok(record);
        }
        Ok(self.reconcile_one(record.clone(), parse)?.unwrap_or(record))
    }

    fn reconcile_one(
        &self,
        record: BoxRecord,
        parse: &dyn Fn(&[u8]) -> Result<EndedRun, String>,
    ) -> Result<Option<BoxRecord>, ReconcileError> {
        // The row was read first. The lock is taken before a row becomes live and held until the
        // supervisor's end, so if it is free now then the run that the row names is over.
        if BoxLock::is_locked(self, &record.id)? {
            return Ok(None);
        }
        let path = self.exit_record_path(&record.id);
        let found = read_bounded(&path).and_then(|bytes| bytes.map(|bytes| parse(&bytes)).transpose());
        let (to, change) = match found {
            Ok(Some(ended)) if Some(&ended.run_id) == record.run_id.as_ref() => {
                let to = if ended.error.is_some() {
                    RecordedState::Failed
                } else {
                    RecordedState::Stopped
                };
                let change = RunChange {
                    exit: ended.exit,
                    error: ended.error,
                    finished_at_ms: Some(ended.finished_at_ms),
                    ..RunChange::default()
                };
                (to, change)
            }
            other => {
                let evidence = match other {
                    Err(evidence) => Some(evidence),
                    Ok(Some(ended)) => Some(format!("it is about run {}", ended.run_id)),
                    Ok(None) => None,
                };
                let error = Some(no_record(path, evidence));
                (
                    RecordedState::Failed,
                    RunChange {
                        error,
                        ..RunChange::default()
                    },
                )
            }
        };
        let expected = Expected {
            states: vec![record.state],
            run_id: record.run_id,
        };
        match self.transition(&record.id, expected, to, change) {
            Ok(ended) => {
                tracing::info!(id = %ended.id, state = %ended.state, "found a box whose supervisor had ended");
                Ok(Some(ended))
            }
            // Another process was faster, and what it wrote is newer than what was read here.
            Err(
                TransitionError::NotFound { .. }
                | TransitionError::OtherRun { .. }
                | TransitionError::WrongState { .. },
            ) => Ok(None),
            Err(TransitionError::Database(error)) => Err(error.into()),
            Err(TransitionError::RunId { .. }) => {
                unreachable!("a run ID is needed for starting alone")
            }
        }
    }

    /// Removes the boxes that are to be removed when they end, ended at least `grace_ms` ago
    /// (so that who waits for them can still read how), and are nobody's just now.
    ///
    /// # Errors
    /// [`RemoveBoxError::Database`].
    pub fn remove_ended(&self, grace_ms: i64) -> Result<Vec<BoxId>, RemoveBoxError> {
        let ended = self.database().read(|transaction| {
            Ok::<_, RemoveBoxError>(box_row::by_states(
                transaction,
                &[RecordedState::Stopped, RecordedState::Failed],
            )?)
        })?;
        let deadline_ms = boxes::now_ms().saturating_sub(grace_ms);
        let is_due = |record: &BoxRecord| {
            record.auto_remove
                && record
                    .finished_at_ms
                    .is_none_or(|finished_at_ms| finished_at_ms <= deadline_ms)
        };
        let mut removed = Vec::new();
        for record in ended.into_iter().filter(is_due) {
            // Locked or gone: somebody else sees to it.
            if let Ok(Some(lock)) = BoxLock::try_acquire(self, &record.id) {
                // It may have been started, and have ended again, since the row was read.
                let is_still_ended = self
                    .database()
                    .read(|transaction| Ok::<_, RemoveBoxError>(box_row::by_id(transaction, &record.id)?))?
                    .is_some_and(|now| !now.state.is_live() && is_due(&now));
                if is_still_ended {
                    match self.remove_box(lock) {
                        Ok(()) => removed.push(record.id),
                        Err(RemoveBoxError::NotFound { .. }) => {}
                        Err(error) => return Err(error),
                    }
                }
            }
        }
        Ok(removed)
    }

    /// Puts a home right after whatever happened: [`Home::reconcile`], [`Home::remove_ended`]
    /// and [`Home::collect_garbage`], in this order. Any process may do so at any time.
    ///
    /// # Errors
    /// [`RecoverError`].
    pub fn recover(
        &self,
        parse: &dyn Fn(&[u8]) -> Result<EndedRun, String>,
        grace_ms: i64,
        garbage: &GarbageOptions,
    ) -> Result<Recovered, RecoverError> {
        let Reconciled { ended } = self.reconcile(parse)?;
        let removed = self.remove_ended(grace_ms)?;
        let collected = self.collect_garbage(garbage)?;
        Ok(Recovered {
            ended,
            removed,
            collected,
        })
    }
}
