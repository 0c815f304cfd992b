//! The rows of boxes: looking up, changing state by compare-and-set, removing.

use std::time::{SystemTime, UNIX_EPOCH};

use rusqlite::types::Type;
use rusqlite::{Connection, OptionalExtension, Row, params};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::database::{DatabaseError, Durability, from_sqlite};
use crate::name::{InvalidName, validate_name};
use crate::{BoxId, BoxLock, BoxRecord, Digest, ExitStatus, Expected, Home, RecordedExit, RecordedState, RunChange};

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

const COLUMNS: &str = "id, name, config, image_reference, image_digest, state, run_id, created_at_ms, \
    started_at_ms, finished_at_ms, exit_code, exit_signal, oom_killed, error, auto_remove, detached, \
    shim_pid, engine, accelerator, start, ports, labels";

fn damaged(column: usize, error: impl std::error::Error + Send + Sync + 'static) -> rusqlite::Error {
    rusqlite::Error::FromSqlConversionFailure(column, Type::Text, Box::new(error))
}

#[derive(Debug, thiserror::Error)]
#[error("{word:?} is no state of a box")]
struct UnknownState {
    word: String,
}

pub(crate) fn parsed<T>(row: &Row<'_>, column: usize) -> rusqlite::Result<T>
where
    T: std::str::FromStr<Err: std::error::Error + Send + Sync + 'static>,
{
    row.get_ref(column)?
        .as_str()?
        .parse()
        .map_err(|error| damaged(column, error))
}

pub(crate) fn parsed_or_none<T>(row: &Row<'_>, column: usize) -> rusqlite::Result<Option<T>>
where
    T: std::str::FromStr<Err: std::error::Error + Send + Sync + 'static>,
{
    match row.get_ref(column)?.as_str_or_null()? {
        Some(text) => text.parse().map(Some).map_err(|error| damaged(column, error)),
        None => Ok(None),
    }
}

pub(crate) fn json<T: DeserializeOwned>(row: &Row<'_>, column: usize) -> rusqlite::Result<T> {
    serde_json::from_str(row.get_ref(column)?.as_str()?).map_err(|error| damaged(column, error))
}

fn json_or_none<T: DeserializeOwned>(row: &Row<'_>, column: usize) -> rusqlite::Result<Option<T>> {
    match row.get_ref(column)?.as_str_or_null()? {
        Some(text) => serde_json::from_str(text)
            .map(Some)
            .map_err(|error| damaged(column, error)),
        None => Ok(None),
    }
}

pub(crate) fn to_json(value: &impl Serialize) -> rusqlite::Result<String> {
    serde_json::to_string(value).map_err(|error| rusqlite::Error::ToSqlConversionFailure(Box::new(error)))
}

fn to_json_or_none(value: Option<&impl Serialize>) -> rusqlite::Result<Option<String>> {
    value.map(to_json).transpose()
}

fn state_column(row: &Row<'_>, column: usize) -> rusqlite::Result<RecordedState> {
    let word = row.get_ref(column)?.as_str()?;
    RecordedState::from_word(word).ok_or_else(|| damaged(column, UnknownState { word: word.to_owned() }))
}

fn record(row: &Row<'_>) -> rusqlite::Result<BoxRecord> {
    let oom_killed = row.get(12)?;
    let status = match (row.get::<_, Option<i32>>(10)?, row.get::<_, Option<i32>>(11)?) {
        (Some(code), _) => Some(ExitStatus::Code(code)),
        (None, Some(signal)) => Some(ExitStatus::Signal(signal)),
        (None, None) => None,
    };
    Ok(BoxRecord {
        id: parsed(row, 0)?,
        name: row.get(1)?,
        config: json(row, 2)?,
        image_reference: row.get(3)?,
        image_digest: parsed_or_none(row, 4)?,
        state: state_column(row, 5)?,
        run_id: row.get(6)?,
        created_at_ms: row.get(7)?,
        started_at_ms: row.get(8)?,
        finished_at_ms: row.get(9)?,
        exit: status.map(|status| RecordedExit { status, oom_killed }),
        error: json_or_none(row, 13)?,
        auto_remove: row.get(14)?,
        detached: row.get(15)?,
        shim_pid: row.get(16)?,
        engine: row.get(17)?,
        accelerator: row.get(18)?,
        start: json_or_none(row, 19)?,
        ports: json_or_none(row, 20)?,
        labels: json(row, 21)?,
    })
}

/// Every row for which `condition` (the text after FROM boxes) holds.
fn select(
    connection: &Connection,
    condition: &str,
    parameters: impl rusqlite::Params,
) -> rusqlite::Result<Vec<BoxRecord>> {
    let mut statement = connection.prepare_cached(&format!("SELECT {COLUMNS} FROM boxes {condition}"))?;
    statement.query_map(parameters, record)?.collect()
}

pub(crate) fn by_id(connection: &Connection, id: &BoxId) -> rusqlite::Result<Option<BoxRecord>> {
    Ok(select(connection, "WHERE id = ?1", [id.as_str()])?.pop())
}

pub(crate) fn by_states(connection: &Connection, states: &[RecordedState]) -> rusqlite::Result<Vec<BoxRecord>> {
    let mut records = Vec::new();
    for state in states {
        records.append(&mut select(connection, "WHERE state = ?1", [state.as_str()])?);
    }
    Ok(records)
}

pub(crate) fn name_owner(connection: &Connection, name: &str) -> rusqlite::Result<Option<BoxId>> {
    connection
        .prepare_cached("SELECT id FROM boxes WHERE name = ?1")?
        .query_row([name], |row| parsed(row, 0))
        .optional()
}

pub(crate) fn all_ids(connection: &Connection) -> rusqlite::Result<std::collections::HashSet<String>> {
    connection
        .prepare_cached("SELECT id FROM boxes")?
        .query_map([], |row| row.get(0))?
        .collect()
}

pub(crate) fn insert(connection: &Connection, record: &BoxRecord) -> rusqlite::Result<()> {
    connection
        .prepare_cached(
            "INSERT INTO boxes (id, name, config, image_reference, image_digest, state, created_at_ms,
                auto_remove, detached, labels) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10)",
        )?
        .execute(params![
            record.id.as_str(),
            record.name,
            to_json(&record.config)?,
            record.image_reference,
            record.image_digest.as_ref().map(Digest::as_str),
            record.state.as_str(),
            record.created_at_ms,
            record.auto_remove,
            record.detached,
            to_json(&record.labels)?,
        ])
        .map(drop)
}

/// Writes what a run changes.
fn update(connection: &Connection, record: &BoxRecord) -> rusqlite::Result<()> {
    let (exit_code, exit_signal) = match record.exit.map(|exit| exit.status) {
        Some(ExitStatus::Code(code)) => (Some(code), None),
        Some(ExitStatus::Signal(signal)) => (None, Some(signal)),
        None => (None, None),
    };
    connection
        .prepare_cached(
            "UPDATE boxes SET state = ?2, run_id = ?3, started_at_ms = ?4, finished_at_ms = ?5, exit_code = ?6,
                exit_signal = ?7, oom_killed = ?8, error = ?9, shim_pid = ?10, engine = ?11, accelerator = ?12,
                start = ?13, ports = ?14 WHERE id = ?1",
        )?
        .execute(params![
            record.id.as_str(),
            record.state.as_str(),
            record.run_id,
            record.started_at_ms,
            record.finished_at_ms,
            exit_code,
            exit_signal,
            record.exit.is_some_and(|exit| exit.oom_killed),
            to_json_or_none(record.error.as_ref())?,
            record.shim_pid,
            record.engine,
            record.accelerator,
            to_json_or_none(record.start.as_ref())?,
            to_json_or_none(record.ports.as_ref())?,
        ])
        .map(drop)
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
