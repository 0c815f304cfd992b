//! The connection to the database: how it is set up, and how reads and writes run.

use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use rusqlite::{Connection, ErrorCode, OpenFlags, Transaction, TransactionBehavior};

/// How long one process waits for another one's transaction. Transactions here take moments.
const BUSY_TIMEOUT: Duration = Duration::from_secs(15);

/// How many idle connections a home keeps.
const IDLE_CONNECTIONS: usize = 4;

/// What SQLite said.
#[derive(Debug, thiserror::Error)]
#[error("the database boxlite.db: {source}")]
pub struct DatabaseError {
    #[from]
    source: rusqlite::Error,
}

/// The kinds of database trouble that have an answer of their own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DatabaseTrouble {
    /// Another process kept the database for too long.
    Busy,
    /// The file system is full.
    Full,
    /// The file is damaged or no database.
    Damaged,
    /// The file or its folder can't be written.
    ReadOnly,
    /// The file can't be read or written.
    InputOutput,
    /// Something else; a defect of boxlite, most likely.
    Other,
}

impl DatabaseError {
    /// Which kind of trouble it is.
    #[must_use]
    pub fn trouble(&self) -> DatabaseTrouble {
        match self.source.sqlite_error_code() {
            Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => DatabaseTrouble::Busy,
            Some(ErrorCode::DiskFull) => DatabaseTrouble::Full,
            Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase) => DatabaseTrouble::Damaged,
            Some(ErrorCode::ReadOnly | ErrorCode::PermissionDenied) => DatabaseTrouble::ReadOnly,
            Some(ErrorCode::SystemIoFailure | ErrorCode::CannotOpen) => DatabaseTrouble::InputOutput,
            _ => DatabaseTrouble::Other,
        }
    }
}

/// Lets `?` turn SQLite's errors into an operation's own.
macro_rules! from_sqlite {
    ($($error:ty),+ $(,)?) => {$(
        impl From<rusqlite::Error> for $error {
            fn from(source: rusqlite::Error) -> Self {
                <$error>::Database($crate::DatabaseError::from(source))
            }
        }
    )+};
}
pub(crate) use from_sqlite;

/// What a commit has to survive.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Durability {
    /// The end of any process. Enough for states: after a power cut no box runs anyway.
    Process,
    /// A power cut, because a file is created before or deleted after the commit.
    PowerCut,
}

#[derive(Debug)]
pub(crate) struct Database {
    path: PathBuf,
    idle: Mutex<Vec<Connection>>,
}

/// Opens the file and sets what a connection needs; does not touch the journal mode.
pub(crate) fn connect(path: &Path) -> rusqlite::Result<Connection> {
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_CREATE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = Connection::open_with_flags(path, flags)?;
    connection.busy_timeout(BUSY_TIMEOUT)?;
    connection.pragma_update(None, "foreign_keys", true)?;
    // A hostile or damaged schema must not run code of its own.
    connection.pragma_update(None, "trusted_schema", false)?;
    connection.set_prepared_statement_cache_capacity(64);
    Ok(connection)
}

impl Database {
    pub(crate) fn new(path: PathBuf, first: Connection) -> Database {
        Database {
            path,
            idle: Mutex::new(vec![first]),
        }
    }

    fn idle(&self) -> std::sync::MutexGuard<'_, Vec<Connection>> {
        // A thread that panicked while it pushed or popped has left a valid list.
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn with<T, E: From<rusqlite::Error>>(&self, work: impl FnOnce(&mut Connection) -> Result<T, E>) -> Result<T, E> {
        let idle = self.idle().pop();
        let mut connection = match idle {
            Some(connection) => connection,
            None => connect(&self.path)?,
        };
        let result = work(&mut connection);
        // After an error the connection's own state is in doubt, and errors are rare.
        if result.is_ok() {
            let mut idle = self.idle();
            if idle.len() < IDLE_CONNECTIONS {
                idle.push(connection);
            }
        }
        result
    }

    /// Runs `work` on one snapshot of the database. Never waits for writers.
    pub(crate) fn read<T, E: From<rusqlite::Error>>(
        &self,
        work: impl FnOnce(&Transaction<'_>) -> Result<T, E>,
    ) -> Result<T, E> {
        self.with(|connection| {
            let transaction = connection.transaction_with_behavior(TransactionBehavior::Deferred)?;
            work(&transaction)
        })
    }

    /// Runs `work` as the only writer, and commits unless it fails.
    pub(crate) fn write<T, E: From<rusqlite::Error>>(
        &self,
        durability: Durability,
        work: impl FnOnce(&Transaction<'_>) -> Result<T, E>,
    ) -> Result<T, E> {
        self.with(|connection| {
            let synchronous = match durability {
                Durability::Process => "NORMAL",
                Durability::PowerCut => "FULL",
            };
            connection.pragma_update(None, "synchronous", synchronous)?;
            // Immediate: a transaction that reads first and then writes would fail at once,
            // without waiting, when another process has written in between.
            let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
            let value = work(&transaction)?;
            transaction.commit()?;
            Ok(value)
        })
    }
}
