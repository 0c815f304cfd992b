//! How a run of a box ended.

use std::io::Write as _;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::start_event::StartFailure;

/// Name of the record in the box's folder.
pub const EXIT_RECORD_NAME: &str = "exit.json";
/// A record larger than this is not one of ours.
const MAX_RECORD_BYTES: u64 = 1 << 20;

/// How a run of a box ended; `<box dir>/exit.json`. A box whose supervisor is gone without
/// a record of the same run did not end in order.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExitRecord {
    /// The start that it belongs to.
    pub run_id: String,
    /// How the main process ended, if there was one and its end was seen.
    pub main: Option<MainExit>,
    /// Why the run ended.
    pub reason: ExitReason,
    /// The host's wall clock, milliseconds since 1970.
    pub finished_at_ms: i64,
    /// How the engine process ended.
    pub engine: Option<EngineExitRecord>,
}

/// How the main process ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct MainExit {
    /// Exit code or signal.
    #[serde(flatten)]
    pub status: MainStatus,
    /// The guest's out-of-memory killer ended it.
    pub out_of_memory: bool,
}

/// Exit code or signal.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum MainStatus {
    /// It exited with this code, 0 to 255.
    Code(i32),
    /// This signal (Linux number) ended it.
    Signal(i32),
}

/// Why a run ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ExitReason {
    /// The main process ended by itself.
    MainExited,
    /// The box was stopped in order.
    Stopped,
    /// The box was ended at once (`Terminate`, a fatal `Kill` of an idle box, or a stop whose
    /// grace ran out).
    Killed,
    /// The program that started it is gone.
    ParentGone,
    /// The guest powered off or restarted by itself (`poweroff` or `reboot` in the box).
    GuestPoweredOff,
    /// The engine's process ended unasked.
    EngineDied {
        /// Last lines of its stderr.
        stderr: Vec<String>,
        /// Last lines of the guest's console.
        console: Vec<String>,
    },
    /// The guest kernel panicked.
    GuestPanicked {
        /// Last lines of the guest's console.
        console: Vec<String>,
    },
    /// The agent's stream broke while the machine went on.
    AgentLost {
        /// What broke it.
        error: String,
        /// Last lines of the guest's console.
        console: Vec<String>,
    },
    /// It never came up.
    StartFailed(Box<StartFailure>),
}

/// How the engine's process ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum EngineExitRecord {
    /// Exit code.
    Code(i32),
    /// Signal.
    Signal(i32),
}

/// Reading a record failed.
#[derive(Debug, thiserror::Error)]
pub enum ReadExitRecordError {
    /// The file can't be read.
    #[error("can't read {}", path.display())]
    Io {
        /// The record.
        path: PathBuf,
        /// The system's reason.
        source: std::io::Error,
    },
    /// The file is larger than any record.
    #[error("{} has {size_bytes} bytes, more than any exit record", path.display())]
    TooLarge {
        /// The record.
        path: PathBuf,
        /// Its size.
        size_bytes: u64,
    },
    /// The file isn't a record.
    #[error("{} is not an exit record", path.display())]
    Parse {
        /// The record.
        path: PathBuf,
        /// The parser's reason.
        source: serde_json::Error,
    },
}

impl ExitRecord {
    /// Reads the record of the box in `box_dir`; `None` when there is none.
    ///
    /// # Errors
    /// The file can't be read, or isn't a record.
    pub fn read(box_dir: &Path) -> Result<Option<Self>, ReadExitRecordError> {
        let path = box_dir.join(EXIT_RECORD_NAME);
        match std::fs::metadata(&path) {
            Ok(metadata) if metadata.len() > MAX_RECORD_BYTES => {
                return Err(ReadExitRecordError::TooLarge {
                    size_bytes: metadata.len(),
                    path,
                });
            }
            Ok(_) => {}
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(source) => return Err(ReadExitRecordError::Io { path, source }),
        }
        match std::fs::read(&path) {
            Ok(bytes) => serde_json::from_slice(&bytes)
                .map(Some)
                .map_err(|source| ReadExitRecordError::Parse { path, source }),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
            Err(source) => Err(ReadExitRecordError::Io { path, source }),
        }
    }

    /// Writes the record atomically and durably: temporary file, fsync, rename, fsync of
    /// the folder. Blocks on the disk.
    ///
    /// # Errors
    /// Whatever the file system says.
    pub fn write(&self, box_dir: &Path) -> std::io::Result<()> {
        let temporary = box_dir.join(".exit.json.new");
        let mut file = std::fs::File::create(&temporary)?;
        file.write_all(&serde_json::to_vec(self)?)?;
        file.sync_all()?;
        std::fs::rename(&temporary, box_dir.join(EXIT_RECORD_NAME))?;
        std::fs::File::open(box_dir)?.sync_all()
    }

    /// Removes the record of an earlier run, if there is one.
    ///
    /// # Errors
    /// Whatever the file system says, except that there is none.
    pub fn remove(box_dir: &Path) -> std::io::Result<()> {
        match std::fs::remove_file(box_dir.join(EXIT_RECORD_NAME)) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        }
    }
}
