//! The home: its layout, and what opening it takes.

use std::fs::{DirBuilder, Permissions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rusqlite::OptionalExtension;

use crate::database::{self, Database, DatabaseError, Durability};
use crate::file_system::{self, FileSystemDefect, FreeSpace, HomeWarning};
use crate::lock::LockError;
use crate::migration::{self, MIGRATIONS, MigrateError, SCHEMA_VERSION};
use crate::sys::LockKind;
use crate::{BoxId, Digest};

/// Where the answer of the file system check is kept.
const CHECKED_FILE_SYSTEM: &str = "checked_file_system";

/// An open home. Clones share it; it may be used from many threads at once.
#[derive(Clone, Debug)]
pub struct Home {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    path: PathBuf,
    database: Database,
    warnings: Vec<HomeWarning>,
}

/// Why a home could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenHomeError {
    /// A folder of the home could not be made or looked at.
    #[error("can't set up {}: {source}", path.display())]
    Folder {
        /// The folder.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// There is something else in the folder's place.
    #[error("{} is not a folder", path.display())]
    NotAFolder {
        /// What is in the way.
        path: PathBuf,
    },
    /// The home is another user's.
    #[error("{} belongs to user {owner}, this process runs as user {user}", path.display())]
    OwnedByOther {
        /// The home.
        path: PathBuf,
        /// Its owner's numeric ID.
        owner: u32,
        /// The process's effective user ID.
        user: u32,
    },
    /// The file system can't hold a home.
    #[error("the file system of {} can't hold a home: {defect}", path.display())]
    FileSystem {
        /// The home.
        path: PathBuf,
        /// What it lacks.
        #[source]
        defect: FileSystemDefect,
    },
    /// A newer boxlite has used this home.
    #[error(
        "{} has schema version {found}, this boxlite knows versions up to {supported}",
        path.display()
    )]
    NewerSchema {
        /// The database.
        path: PathBuf,
        /// Its version.
        found: u32,
        /// The newest that this library knows.
        supported: u32,
    },
    /// SQLite refuses its write-ahead log here.
    #[error("{} can't use a write-ahead log, its journal mode stays {mode:?}", path.display())]
    NoWriteAheadLog {
        /// The database.
        path: PathBuf,
        /// The mode that it has instead.
        mode: String,
    },
    /// The database failed.
    #[error("can't open {}: {source}", path.display())]
    Database {
        /// The database.
        path: PathBuf,
        /// What SQLite said.
        source: DatabaseError,
    },
    /// Another process kept the home for too long.
    #[error(transparent)]
    Lock(#[from] LockError),
}

impl OpenHomeError {
    /// What to try next.
    #[must_use]
    pub fn hint(&self) -> Option<String> {
        Some(match self {
            OpenHomeError::OwnedByOther { .. } | OpenHomeError::NotAFolder { .. } => {
                "set BOXLITE_HOME to a folder of your own".into()
            }
            OpenHomeError::FileSystem {
                defect: FileSystemDefect::FileSizeLimit { .. },
                ..
            } => "raise the limit: ulimit -f unlimited".into(),
            OpenHomeError::FileSystem { .. } | OpenHomeError::NoWriteAheadLog { .. } => {
                "set BOXLITE_HOME to a folder on a local file system such as ext4, xfs or btrfs".into()
            }
            OpenHomeError::NewerSchema { .. } => {
                "upgrade boxlite, or set BOXLITE_HOME to a folder of its own for this version".into()
            }
            OpenHomeError::Folder { source, .. } if source.kind() == io::ErrorKind::StorageFull => {
                "free some space on the home's file system".into()
            }
            OpenHomeError::Folder { .. } => "set BOXLITE_HOME to a folder that you may write".into(),
            OpenHomeError::Database { path, source } => match source.trouble() {
                database::DatabaseTrouble::Full => "free some space on the home's file system".into(),
                database::DatabaseTrouble::Damaged => {
                    format!(
                        "move {} out of the way; boxes that only it knew are then cleared",
                        path.display()
                    )
                }
                _ => return None,
            },
            OpenHomeError::Lock(_) => return None,
        })
    }
}

impl Home {
    /// Opens the home at `path`, and makes it first where it is not there: its folders (0700),
    /// its database, up to [`SCHEMA_VERSION`]. The file system is tried for what boxes need
    /// (locks, sparse files of 1 TiB) the first time that a home is opened on it. Blocks.
    ///
    /// # Errors
    /// [`OpenHomeError`].
    pub fn open(path: &Path) -> Result<Home, OpenHomeError> {
        let absolute = std::path::absolute(path).map_err(|source| OpenHomeError::Folder {
            path: path.to_owned(),
            source,
        })?;
        make_private_folder(&absolute)?;
        // Sub-folders are made one by one so that each is private from its first moment.
        for folder in [
            "bundle",
            "images",
            "images/blobs",
            "images/blobs/sha256",
            "images/rootfs",
            "boxes",
            "locks",
            "tmp",
            "trash",
        ] {
            make_folder(&absolute.join(folder))?;
        }
        let folder_error = |source| OpenHomeError::Folder {
            path: absolute.clone(),
            source,
        };
        let warnings = file_system::warnings(&absolute).map_err(folder_error)?;
        for warning in &warnings {
            tracing::warn!(home = %absolute.display(), "{warning}");
        }
        let identity = file_system::identity(&absolute).map_err(folder_error)?;
        let database = open_database(&absolute, &identity)?;
        Ok(Home {
            inner: Arc::new(Inner {
                path: absolute,
                database,
                warnings,
            }),
        })
    }

    pub(crate) fn database(&self) -> &Database {
        &self.inner.database
    }

    /// The absolute path of the home.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.inner.path
    }

    /// What was noticed when the home was opened.
    #[must_use]
    pub fn warnings(&self) -> &[HomeWarning] {
        &self.inner.warnings
    }

    /// How much space the home's file system has.
    ///
    /// # Errors
    /// What statvfs(3) says.
    pub fn free_space(&self) -> io::Result<FreeSpace> {
        file_system::free_space(self.path())
    }

    /// The folder of all boxes.
    #[must_use]
    pub fn boxes_dir(&self) -> PathBuf {
        self.path().join("boxes")
    }

    /// The folder of one box: disk, logs, socket, lock, exit record.
    #[must_use]
    pub fn box_dir(&self, id: &BoxId) -> PathBuf {
        self.boxes_dir().join(id.as_str())
    }

    pub(crate) fn box_lock_path(&self, id: &BoxId) -> PathBuf {
        self.box_dir(id).join("lock")
    }

    /// The record that a supervisor leaves when its run ends.
    #[must_use]
    pub fn exit_record_path(&self, id: &BoxId) -> PathBuf {
        self.box_dir(id).join("exit.json")
    }

    /// The OCI content store; its blobs are in `blobs/sha256` in there.
    #[must_use]
    pub fn content_dir(&self) -> PathBuf {
        self.path().join("images")
    }

    /// The file of a blob, by digest.
    #[must_use]
    pub fn blob_path(&self, digest: &Digest) -> PathBuf {
        self.content_dir()
            .join("blobs")
            .join(digest.algorithm())
            .join(digest.hex())
    }

    /// The root filesystem of the image with this manifest digest, built or not.
    #[must_use]
    pub fn rootfs_path(&self, image: &Digest) -> PathBuf {
        self.content_dir().join("rootfs").join(format!("{}.erofs", image.hex()))
    }

    /// The folder of all guest bundles.
    #[must_use]
    pub fn bundles_dir(&self) -> PathBuf {
        self.path().join("bundle")
    }

    /// The folder of the guest bundle with this hash.
    #[must_use]
    pub fn bundle_dir(&self, hash: &str) -> PathBuf {
        self.bundles_dir().join(hash)
    }

    pub(crate) fn tmp_dir(&self) -> PathBuf {
        self.path().join("tmp")
    }

    pub(crate) fn trash_dir(&self) -> PathBuf {
        self.path().join("trash")
    }

    pub(crate) fn lock_path(&self, name: &str) -> PathBuf {
        self.path().join("locks").join(name)
    }
}

fn make_folder(path: &Path) -> Result<(), OpenHomeError> {
    match DirBuilder::new().mode(0o700).create(path) {
        Ok(()) => Ok(()),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
            let metadata = std::fs::metadata(path).map_err(|source| OpenHomeError::Folder {
                path: path.to_owned(),
                source,
            })?;
            if metadata.is_dir() {
                Ok(())
            } else {
                Err(OpenHomeError::NotAFolder { path: path.to_owned() })
            }
        }
        Err(source) => Err(OpenHomeError::Folder {
            path: path.to_owned(),
            source,
        }),
    }
}

/// Makes the home's own folder, with its parents, and keeps everybody else out of it.
fn make_private_folder(path: &Path) -> Result<(), OpenHomeError> {
    let folder_error = |source| OpenHomeError::Folder {
        path: path.to_owned(),
        source,
    };
    if let Some(parent) = path.parent() {
        std::fs::create_dir_all(parent).map_err(|source| OpenHomeError::Folder {
            path: parent.to_owned(),
            source,
        })?;
    }
    make_folder(path)?;
    let metadata = std::fs::metadata(path).map_err(folder_error)?;
    let user = rustix::process::geteuid().as_raw();
    if metadata.uid() != user {
        return Err(OpenHomeError::OwnedByOther {
            path: path.to_owned(),
            owner: metadata.uid(),
            user,
        });
    }
    if metadata.mode() & 0o077 != 0 {
        std::fs::set_permissions(path, Permissions::from_mode(0o700)).map_err(folder_error)?;
    }
    Ok(())
}

fn open_database(home: &Path, file_system: &str) -> Result<Database, OpenHomeError> {
    let path = home.join("boxlite.db");
    let failed = |source: rusqlite::Error| OpenHomeError::Database {
        path: path.clone(),
        source: source.into(),
    };
    let mut connection = database::connect(&path).map_err(failed)?;
    let found = migration::version(&connection).map_err(failed)?;
    if found > SCHEMA_VERSION {
        return Err(OpenHomeError::NewerSchema {
            path,
            found,
            supported: SCHEMA_VERSION,
        });
    }
    let journal_mode = |connection: &rusqlite::Connection| {
        connection.query_row("PRAGMA journal_mode", [], |row| row.get::<_, String>(0))
    };
    let is_set_up = found == SCHEMA_VERSION && journal_mode(&connection).map_err(failed)? == "wal";
    if !is_set_up {
        // Changing the journal mode does not wait for other processes; so they wait here.
        let lock_path = home.join("locks").join("set-up");
        let _lock = crate::lock::LockFile::lock(
            &lock_path,
            LockKind::Exclusive,
            true,
            Some(std::time::Duration::from_secs(30)),
            &|| false,
        )?;
        connection
            .query_row("PRAGMA journal_mode = WAL", [], |row| row.get::<_, String>(0))
            .map_err(failed)?;
        let mode = journal_mode(&connection).map_err(failed)?;
        if mode != "wal" {
            return Err(OpenHomeError::NoWriteAheadLog { path, mode });
        }
        migration::migrate(&mut connection, MIGRATIONS).map_err(|error| match error {
            MigrateError::Newer { found } => OpenHomeError::NewerSchema {
                path: path.clone(),
                found,
                supported: SCHEMA_VERSION,
            },
            MigrateError::Sqlite(source) => failed(source),
        })?;
    }
    let database = Database::new(path.clone(), connection);
    let checked: Option<String> = database
        .read(|transaction| {
            transaction
                .query_row("SELECT value FROM home WHERE key = ?1", [CHECKED_FILE_SYSTEM], |row| {
                    row.get(0)
                })
                .optional()
        })
        .map_err(failed)?;
    if checked.as_deref() != Some(file_system) {
        file_system::check(&home.join("tmp")).map_err(|defect| OpenHomeError::FileSystem {
            path: home.to_owned(),
            defect,
        })?;
        database
            .write(Durability::Process, |transaction| {
                transaction.execute(
                    "INSERT INTO home (key, value) VALUES (?1, ?2)
                     ON CONFLICT (key) DO UPDATE SET value = excluded.value",
                    [CHECKED_FILE_SYSTEM, file_system],
                )
            })
            .map_err(failed)?;
    }
    Ok(database)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mode(path: &Path) -> u32 {
        std::fs::metadata(path).unwrap().mode() & 0o777
    }

    #[test]
    fn a_new_home_is_private_and_opens_again() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("a/b/home");
        let home = Home::open(&path).unwrap();
        assert_eq!(home.path(), path);
        for folder in [
            "",
            "boxes",
            "images/blobs/sha256",
            "images/rootfs",
            "bundle",
            "tmp",
            "trash",
            "locks",
        ] {
            assert_eq!(mode(&path.join(folder)), 0o700, "{folder}");
        }
        assert_eq!(std::fs::read_dir(path.join("tmp")).unwrap().count(), 0);
        Home::open(&path).unwrap();
    }

    #[test]
    fn a_home_that_others_could_read_is_closed_to_them() {
        let directory = tempfile::tempdir().unwrap();
        std::fs::set_permissions(directory.path(), Permissions::from_mode(0o755)).unwrap();
        Home::open(directory.path()).unwrap();
        assert_eq!(mode(directory.path()), 0o700);
    }

    #[test]
    fn a_newer_schema_is_refused_with_a_hint() {
        let directory = tempfile::tempdir().unwrap();
        Home::open(directory.path()).unwrap();
        let connection = rusqlite::Connection::open(directory.path().join("boxlite.db")).unwrap();
        connection
            .pragma_update(None, "user_version", SCHEMA_VERSION + 3)
            .unwrap();
        drop(connection);
        let error = Home::open(directory.path()).unwrap_err();
        assert!(matches!(error, OpenHomeError::NewerSchema { found, .. } if found == SCHEMA_VERSION + 3));
        assert!(error.hint().unwrap().contains("upgrade"));
    }

    #[test]
    fn something_else_in_the_home_s_place_is_named() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("file");
        std::fs::write(&file, "").unwrap();
        assert!(matches!(Home::open(&file), Err(OpenHomeError::NotAFolder { .. })));
        std::fs::create_dir(directory.path().join("home")).unwrap();
        std::fs::write(
            directory.path().join("home/boxlite.db"),
            "no database at all, but long enough".repeat(50),
        )
        .unwrap();
        let error = Home::open(&directory.path().join("home")).unwrap_err();
        assert!(
            matches!(&error, OpenHomeError::Database { source, .. }
            if source.trouble() == database::DatabaseTrouble::Damaged),
            "{error}"
        );
        assert!(error.hint().is_some());
    }

    #[test]
    fn the_write_ahead_log_and_foreign_keys_are_on() {
        let directory = tempfile::tempdir().unwrap();
        let home = Home::open(directory.path()).unwrap();
        let (mode, keys): (String, bool) = home
            .database()
            .read(|transaction| {
                Ok::<_, rusqlite::Error>((
                    transaction.query_row("PRAGMA journal_mode", [], |row| row.get(0))?,
                    transaction.query_row("PRAGMA foreign_keys", [], |row| row.get(0))?,
                ))
            })
            .unwrap();
        assert_eq!((mode.as_str(), keys), ("wal", true));
    }
}
