//! Boxes as rows: reading, inserting and updating them.

use std::collections::HashSet;

use rusqlite::{Connection, OptionalExtension, Row, params};

use crate::column::{damaged, json, json_or_none, parsed, parsed_or_none, to_json, to_json_or_none};
use crate::{BoxId, BoxRecord, Digest, ExitStatus, RecordedExit, RecordedState};

const COLUMNS: &str = "id, name, config, image_reference, image_digest, state, run_id, created_at_ms, \
    started_at_ms, finished_at_ms, exit_code, exit_signal, oom_killed, error, auto_remove, detached, \
    shim_pid, engine, accelerator, start, ports, labels";

#[derive(Debug, thiserror::Error)]
#[error("{word:?} is no state of a box")]
struct UnknownState {
    word: String,
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
pub(crate) fn select(
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

pub(crate) fn all_ids(connection: &Connection) -> rusqlite::Result<HashSet<String>> {
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
pub(crate) fn update(connection: &Connection, record: &BoxRecord) -> rusqlite::Result<()> {
    let (exit_code, exit_signal) = match record.exit.map(|exit| exit.status) {
        Some(ExitStatus::Code(code)) => (Some(code), None),
        Some(ExitStatus::Signal(signal)) => (None, Some(signal)),
        None => (None, None),
    };
    connection
        .prepare_cached(
            "UPDATE boxes SET state = ?2, run_id = ?3, started_at_ms = ?4, finished_at_ms = ?5, exit_code = ?6,
                exit_signal = ?7, oom_killed = ?8, error = ?9, shim_pid = ?10, engine = ?11, accelerator = ?12,
                start = ?13, ports = ?14, detached = ?15 WHERE id = ?1",
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
            record.detached,
        ])
        .map(drop)
}
