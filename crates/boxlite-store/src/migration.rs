//! The schema, and how an older database gets there.

use rusqlite::{Connection, TransactionBehavior};

/// The version of the schema that this library reads and writes.
pub const SCHEMA_VERSION: u32 = MIGRATIONS.len() as u32;

/// Step `n` leads from version `n` to `n + 1`. A step that was released never changes.
pub(crate) const MIGRATIONS: &[&str] = &[
    "CREATE TABLE home (
        key TEXT PRIMARY KEY,
        value TEXT NOT NULL
     ) STRICT, WITHOUT ROWID;

     CREATE TABLE images (
        digest TEXT PRIMARY KEY,
        config_digest TEXT NOT NULL,
        manifest TEXT NOT NULL,
        platform TEXT NOT NULL,
        size_bytes INTEGER NOT NULL,
        created_at_ms INTEGER,
        added_at_ms INTEGER NOT NULL,
        last_used_at_ms INTEGER NOT NULL,
        rootfs_bytes INTEGER
     ) STRICT;

     CREATE TABLE image_references (
        reference TEXT PRIMARY KEY,
        image_digest TEXT NOT NULL REFERENCES images (digest)
     ) STRICT, WITHOUT ROWID;
     CREATE INDEX image_references_by_image ON image_references (image_digest);

     CREATE TABLE layers (
        digest TEXT PRIMARY KEY,
        diff_id TEXT,
        media_type TEXT NOT NULL,
        size_bytes INTEGER NOT NULL
     ) STRICT, WITHOUT ROWID;

     CREATE TABLE image_layers (
        image_digest TEXT NOT NULL REFERENCES images (digest) ON DELETE CASCADE,
        position INTEGER NOT NULL,
        layer_digest TEXT NOT NULL REFERENCES layers (digest),
        PRIMARY KEY (image_digest, position)
     ) STRICT, WITHOUT ROWID;
     CREATE INDEX image_layers_by_layer ON image_layers (layer_digest);

     CREATE TABLE image_blobs (
        image_digest TEXT NOT NULL REFERENCES images (digest) ON DELETE CASCADE,
        blob_digest TEXT NOT NULL,
        PRIMARY KEY (image_digest, blob_digest)
     ) STRICT, WITHOUT ROWID;

     CREATE TABLE boxes (
        id TEXT PRIMARY KEY,
        name TEXT NOT NULL UNIQUE,
        config TEXT NOT NULL,
        image_reference TEXT,
        image_digest TEXT REFERENCES images (digest),
        state TEXT NOT NULL CHECK (state IN
            ('created', 'starting', 'running', 'paused', 'stopping', 'stopped', 'failed')),
        run_id TEXT,
        created_at_ms INTEGER NOT NULL,
        started_at_ms INTEGER,
        finished_at_ms INTEGER,
        exit_code INTEGER,
        exit_signal INTEGER,
        oom_killed INTEGER NOT NULL DEFAULT 0,
        error TEXT,
        auto_remove INTEGER NOT NULL,
        detached INTEGER NOT NULL,
        shim_pid INTEGER,
        engine TEXT,
        accelerator TEXT,
        start TEXT,
        ports TEXT,
        labels TEXT NOT NULL,
        CHECK (exit_code IS NULL OR exit_signal IS NULL)
     ) STRICT;
     CREATE INDEX boxes_by_image ON boxes (image_digest);
     CREATE INDEX boxes_by_state ON boxes (state);
     CREATE INDEX boxes_by_age ON boxes (created_at_ms, id);",
    // The root filesystems of then have another form, and are built again when they are needed.
    "UPDATE images SET rootfs_bytes = NULL;",
];

/// Why the schema could not be brought up to date.
#[derive(Debug, thiserror::Error)]
pub(crate) enum MigrateError {
    #[error("schema version {found} is newer than {SCHEMA_VERSION}")]
    Newer { found: u32 },
    #[error(transparent)]
    Sqlite(#[from] rusqlite::Error),
}

pub(crate) fn version(connection: &Connection) -> rusqlite::Result<u32> {
    connection.query_row("PRAGMA user_version", [], |row| row.get(0))
}

/// Applies the steps that are missing, each in a transaction of its own together with its
/// version number, so that a crash leaves a version and never something between two. Safe to
/// run in many processes at once.
pub(crate) fn migrate(connection: &mut Connection, steps: &[&str]) -> Result<(), MigrateError> {
    loop {
        if version(connection)? as usize == steps.len() {
            return Ok(());
        }
        let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
        // Another process may have been faster.
        let found = version(&transaction)?;
        match steps.get(found as usize) {
            Some(step) => {
                transaction.execute_batch(step)?;
                transaction.pragma_update(None, "user_version", found + 1)?;
                transaction.commit()?;
            }
            None if found as usize == steps.len() => return Ok(()),
            None => return Err(MigrateError::Newer { found }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn schema(connection: &Connection) -> Vec<(String, String)> {
        let mut statement = connection
            .prepare("SELECT name, coalesce(sql, '') FROM sqlite_schema ORDER BY name")
            .unwrap();
        let rows = statement.query_map([], |row| Ok((row.get(0)?, row.get(1)?))).unwrap();
        rows.map(Result::unwrap).collect()
    }

    /// Rows as the release with this schema version would have written them.
    fn rows_of_version(version: usize) -> &'static str {
        match version {
            0 => "",
            1 | 2 => {
                "INSERT INTO images VALUES ('sha256:aa', 'sha256:bb', '{}', 'linux/amd64', 5, NULL, 1, 2, NULL);
                 INSERT INTO image_references VALUES ('docker.io/library/x:latest', 'sha256:aa');
                 INSERT INTO layers VALUES ('sha256:cc', NULL, 'tar', 7);
                 INSERT INTO image_layers VALUES ('sha256:aa', 0, 'sha256:cc');
                 INSERT INTO boxes (id, name, config, image_digest, state, created_at_ms, auto_remove, detached, labels)
                    VALUES ('0123', 'old_box', '{}', 'sha256:aa', 'stopped', 3, 0, 1, '{}');"
            }
            _ => panic!("write here what version {version} had"),
        }
    }

    #[test]
    fn every_earlier_version_ends_where_an_empty_file_does_and_keeps_its_rows() {
        let mut fresh = Connection::open_in_memory().unwrap();
        migrate(&mut fresh, MIGRATIONS).unwrap();
        assert_eq!(version(&fresh).unwrap(), SCHEMA_VERSION);
        for earlier in 0..=MIGRATIONS.len() {
            let mut connection = Connection::open_in_memory().unwrap();
            connection.pragma_update(None, "foreign_keys", true).unwrap();
            migrate(&mut connection, &MIGRATIONS[..earlier]).unwrap();
            connection.execute_batch(rows_of_version(earlier)).unwrap();
            migrate(&mut connection, MIGRATIONS).unwrap();
            assert_eq!(schema(&connection), schema(&fresh), "from version {earlier}");
            let boxes: u32 = connection
                .query_row("SELECT count(*) FROM boxes", [], |row| row.get(0))
                .unwrap();
            assert_eq!(boxes, u32::from(earlier > 0), "from version {earlier}");
            let violations = connection
                .prepare("PRAGMA foreign_key_check")
                .unwrap()
                .exists([])
                .unwrap();
            assert!(!violations, "from version {earlier}");
        }
    }

    #[test]
    fn a_step_that_fails_leaves_the_version_before_it_whole() {
        let good = "CREATE TABLE first (a)";
        let bad = "CREATE TABLE second (b); SELECT nonsense FROM nowhere";
        let mut connection = Connection::open_in_memory().unwrap();
        assert!(migrate(&mut connection, &[good, bad]).is_err());
        assert_eq!(version(&connection).unwrap(), 1);
        assert_eq!(schema(&connection).len(), 1);
        migrate(&mut connection, &[good, "CREATE TABLE second (b)"]).unwrap();
        assert_eq!((version(&connection).unwrap(), schema(&connection).len()), (2, 2));
    }

    #[test]
    fn a_newer_schema_is_refused_untouched() {
        let mut connection = Connection::open_in_memory().unwrap();
        connection
            .pragma_update(None, "user_version", SCHEMA_VERSION + 1)
            .unwrap();
        let error = migrate(&mut connection, MIGRATIONS).unwrap_err();
        assert!(matches!(error, MigrateError::Newer { found } if found == SCHEMA_VERSION + 1));
        assert!(schema(&connection).is_empty());
    }
}
