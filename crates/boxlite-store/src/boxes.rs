//! Looking boxes up, changing their state by compare-and-set, renaming and removing them.

use std::time::{SystemTime, UNIX_EPOCH};

use crate::box_row::{by_id, by_states, name_owner, select, update};
use crate::column::parsed;
use crate::database::{DatabaseError, Durability, from_sqlite};
use crate::name::{InvalidName, validate_name};
use crate::{BoxId, BoxLock, BoxRecord, Expected, Home, RecordedState, RunChange};

/// How many IDs an ambiguity shows.
const SHOWN_MATCHES: usize = 10;

/// Why no single box was found.
#[derive(Debug, thiserror::Error)]
pub enum FindBoxError {
    /// There is none.
    #[error("no such box: {query}")]
    NotFound {
        /// What was asked for.
        query: String,
    },
    /// There are several.
    #[error("{query} could be any of {} boxes: {}", matches.len(), shown(matches))]
    Ambiguous {
        /// What was asked for.
        query: String,
        /// The boxes whose IDs begin with it.
        matches: Vec<BoxId>,
    },
    /// The database failed.
    #[error(transparent)]
    Database(#[from] DatabaseError),
}

fn shown(matches: &[BoxId]) -> String {
    let mut text = matches
        .iter()
        .take(SHOWN_MATCHES)
        .map(BoxId::short)
        .collect::<Vec<_>>()
        .join(", ");
    if matches.len() > SHOWN_MATCHES {
        text.push_str(", …");
    }
    text
}

/// Why the boxes could not be listed.
#[derive(Debug, thiserror::Error)]
pub enum ListBoxesError {
    /// The database failed.
    #[error(transparent)]
    Database(#[from] DatabaseError),
}

/// Why a box did not change its state.
#[derive(Debug, thiserror::Error)]
pub enum TransitionError {
    /// There is no such box.
    #[error("no such box: {id}")]
    NotFound {
        /// What was asked for.
        id: BoxId,
    },
    /// The box is not, or no more, in a state from which this may happen.
    #[error("box {} is {actual}, so it can't become {to}", id.short())]
    WrongState {
        /// The box.
        id: BoxId,
        /// Its state.
        actual: RecordedState,
        /// What was asked for.
        to: RecordedState,
    },
    /// The box is in another run already.
    #[error("box {} is in another run ({})", id.short(), actual.as_deref().unwrap_or("none"))]
    OtherRun {
        /// The box.
        id: BoxId,
        /// Its run.
        actual: Option<String>,
    },
    /// A run was given where there can be none, or none where there must be one.
    #[error("a box becomes {to} {}", if *given { "without a new run" } else { "with a new run" })]
    RunId {
        /// What was asked for.
        to: RecordedState,
        /// Whether a run was given.
        given: bool,
    },
    /// The database failed.
    #[error(transparent)]
    Database(#[from] DatabaseError),
}

/// Why a run's details were not recorded.
#[derive(Debug, thiserror::Error)]
pub enum AmendError {
    /// There is no such box, or it is in another run.
    #[error("box {} has no run {run_id}", id.short())]
    NoSuchRun {
        /// The box.
        id: BoxId,
        /// The run that was asked for.
        run_id: String,
    },
    /// The database failed.
    #[error(transparent)]
    Database(#[from] DatabaseError),
}

/// Why a box was not renamed.
#[derive(Debug, thiserror::Error)]
pub enum RenameBoxError {
    /// There is no such box.
    #[error("no such box: {id}")]
    NotFound {
        /// What was asked for.
        id: BoxId,
    },
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
    /// The database failed.
    #[error(transparent)]
    Database(#[from] DatabaseError),
}

/// Why a box was not removed.
#[derive(Debug, thiserror::Error)]
pub enum RemoveBoxError {
    /// There is no such box any more.
    #[error("no such box: {id}")]
    NotFound {
        /// What was asked for.
        id: BoxId,
    },
    /// The database failed; the box is still there.
    #[error(transparent)]
    Database(#[from] DatabaseError),
}

from_sqlite!(
    FindBoxError,
    ListBoxesError,
    TransitionError,
    AmendError,
    RenameBoxError,
    RemoveBoxError
);

/// Milliseconds since the Unix epoch.
pub(crate) fn now_ms() -> i64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |time| time.as_millis().try_into().unwrap_or(i64::MAX))
}

/// Puts what is given in place of what was there.
fn replace<T>(place: &mut Option<T>, given: Option<T>) {
    if given.is_some() {
        *place = given;
    }
}

impl BoxRecord {
    fn apply(&mut self, change: RunChange) {
        replace(&mut self.started_at_ms, change.started_at_ms);
        replace(&mut self.finished_at_ms, change.finished_at_ms);
        replace(&mut self.exit, change.exit);
        replace(&mut self.error, change.error);
        replace(&mut self.shim_pid, change.shim_pid);
        replace(&mut self.engine, change.engine);
        replace(&mut self.accelerator, change.accelerator);
        replace(&mut self.start, change.start);
        replace(&mut self.ports, change.ports);
        self.detached = change.detached.unwrap_or(self.detached);
    }

    /// The row after a transition that was found to be allowed.
    fn enter(&mut self, to: RecordedState, change: RunChange, now_ms: i64) {
        let from = self.state;
        if to == RecordedState::Starting {
            *self = BoxRecord {
                run_id: change.run_id.clone(),
                started_at_ms: None,
                finished_at_ms: None,
                exit: None,
                error: None,
                shim_pid: None,
                engine: None,
                accelerator: None,
                start: None,
                ports: None,
                ..self.clone()
            };
        }
        self.state = to;
        if (from, to) == (RecordedState::Starting, RecordedState::Running) {
            self.started_at_ms = Some(now_ms);
        }
        if matches!(to, RecordedState::Stopped | RecordedState::Failed) {
            self.finished_at_ms = Some(now_ms);
        }
        self.apply(change);
        if !to.is_live() {
            self.shim_pid = None;
        }
    }
}

impl Home {
    /// The box with exactly this ID.
    ///
    /// # Errors
    /// [`FindBoxError::NotFound`], [`FindBoxError::Database`].
    pub fn get_box(&self, id: &BoxId) -> Result<BoxRecord, FindBoxError> {
        self.database()
            .read(|transaction| by_id(transaction, id)?.ok_or_else(|| FindBoxError::NotFound { query: id.to_string() }))
    }

    /// The box with this ID, else with this name, else the only one whose ID begins so.
    ///
    /// # Errors
    /// [`FindBoxError`].
    pub fn find_box(&self, query: &str) -> Result<BoxRecord, FindBoxError> {
        let not_found = || FindBoxError::NotFound {
            query: query.to_owned(),
        };
        self.database().read(|transaction| {
            if let Ok(id) = query.parse::<BoxId>()
                && let Some(record) = by_id(transaction, &id)?
            {
                return Ok(record);
            }
            if let Some(record) = select(transaction, "WHERE name = ?1", [query])?.pop() {
                return Ok(record);
            }
            if query.is_empty() || query.len() > BoxId::LENGTH || !crate::box_id::is_lower_hex(query) {
                return Err(not_found());
            }
            // Whatever begins with the prefix sorts before the prefix and a letter beyond f.
            let ids: Vec<BoxId> = transaction
                .prepare_cached("SELECT id FROM boxes WHERE id >= ?1 AND id < ?1 || 'g' ORDER BY id")?
                .query_map([query], |row| parsed(row, 0))?
                .collect::<rusqlite::Result<_>>()?;
            match ids.as_slice() {
                [] => Err(not_found()),
                [id] => by_id(transaction, id)?.ok_or_else(not_found),
                _ => Err(FindBoxError::Ambiguous {
                    query: query.to_owned(),
                    matches: ids,
                }),
            }
        })
    }

    /// All boxes, the newest first; one query.
    ///
    /// # Errors
    /// [`ListBoxesError`].
    pub fn list_boxes(&self) -> Result<Vec<BoxRecord>, ListBoxesError> {
        self.database()
            .read(|transaction| Ok(select(transaction, "ORDER BY created_at_ms DESC, id DESC", [])?))
    }

    /// The boxes in these states, in no particular order.
    ///
    /// # Errors
    /// [`ListBoxesError`].
    pub fn list_boxes_in(&self, states: &[RecordedState]) -> Result<Vec<BoxRecord>, ListBoxesError> {
        self.database().read(|transaction| Ok(by_states(transaction, states)?))
    }

    /// The box that has this name.
    ///
    /// # Errors
    /// [`ListBoxesError`].
    pub fn box_named(&self, name: &str) -> Result<Option<BoxId>, ListBoxesError> {
        self.database().read(|transaction| Ok(name_owner(transaction, name)?))
    }

    /// Changes a box's state if the row says what is expected and the design's state machine
    /// allows it, and `change`s with it what belongs to the run. Returns the row as it is then.
    ///
    /// # Errors
    /// [`TransitionError`]; nothing has changed then.
    pub fn transition(
        &self,
        id: &BoxId,
        expected: Expected,
        to: RecordedState,
        change: RunChange,
    ) -> Result<BoxRecord, TransitionError> {
        let given = change.run_id.is_some();
        if given != (to == RecordedState::Starting) {
            return Err(TransitionError::RunId { to, given });
        }
        self.database().write(Durability::Process, |transaction| {
            let mut record = by_id(transaction, id)?.ok_or_else(|| TransitionError::NotFound { id: id.clone() })?;
            if expected.run_id.is_some() && expected.run_id != record.run_id {
                return Err(TransitionError::OtherRun {
                    id: id.clone(),
                    actual: record.run_id,
                });
            }
            if !expected.states.contains(&record.state) || !record.state.may_become(to) {
                return Err(TransitionError::WrongState {
                    id: id.clone(),
                    actual: record.state,
                    to,
                });
            }
            record.enter(to, change, now_ms());
            update(transaction, &record)?;
            Ok(record)
        })
    }

    /// Records more about a run without changing the state. The run ID of `change` is ignored:
    /// a run keeps its own.
    ///
    /// # Errors
    /// [`AmendError`].
    pub fn amend_run(&self, id: &BoxId, run_id: &str, change: RunChange) -> Result<BoxRecord, AmendError> {
        self.database().write(Durability::Process, |transaction| {
            let found = by_id(transaction, id)?.filter(|record| record.run_id.as_deref() == Some(run_id));
            let Some(mut record) = found else {
                return Err(AmendError::NoSuchRun {
                    id: id.clone(),
                    run_id: run_id.to_owned(),
                });
            };
            record.apply(change);
            update(transaction, &record)?;
            Ok(record)
        })
    }

    /// Gives a box another name.
    ///
    /// # Errors
    /// [`RenameBoxError`].
    pub fn rename_box(&self, id: &BoxId, name: &str) -> Result<(), RenameBoxError> {
        validate_name(name)?;
        self.database().write(Durability::Process, |transaction| {
            if let Some(by) = name_owner(transaction, name)?.filter(|owner| owner != id) {
                return Err(RenameBoxError::NameTaken {
                    name: name.to_owned(),
                    by,
                });
            }
            let changed = transaction
                .prepare_cached("UPDATE boxes SET name = ?2 WHERE id = ?1")?
                .execute([id.as_str(), name])?;
            if changed == 0 {
                Err(RenameBoxError::NotFound { id: id.clone() })
            } else {
                Ok(())
            }
        })
    }

    /// Removes a box, in whatever state: first its row, then its folder. Holding the lock is
    /// what proves that nobody runs it; who waits for the lock learns that the box is gone.
    /// What can't be deleted now is deleted by the next recovery.
    ///
    /// # Errors
    /// [`RemoveBoxError`].
    pub fn remove_box(&self, lock: BoxLock) -> Result<(), RemoveBoxError> {
        let id = lock.box_id().clone();
        self.database().write(Durability::PowerCut, |transaction| {
            let deleted = transaction
                .prepare_cached("DELETE FROM boxes WHERE id = ?1")?
                .execute([id.as_str()])?;
            if deleted == 0 {
                Err(RemoveBoxError::NotFound { id: id.clone() })
            } else {
                Ok(())
            }
        })?;
        self.discard(&self.box_dir(&id));
        Ok(())
    }
}
