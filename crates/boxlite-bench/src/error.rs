//! Why something could not be measured.

use std::io;
use std::path::PathBuf;
use std::process::ExitStatus;

/// Why a sample, or the whole of a measurement, failed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum BenchError {
    /// A file or folder.
    #[error("{}: {source}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// A program could not be run.
    #[error("{program} can't be run: {source}")]
    Spawn {
        /// The program.
        program: String,
        /// What the system said.
        source: io::Error,
    },
    /// A program failed.
    #[error("{program}: {status}: {stderr}")]
    Program {
        /// The program.
        program: String,
        /// How it ended.
        status: ExitStatus,
        /// The end of what it wrote to its standard error.
        stderr: String,
    },
    /// A call of the library failed.
    #[error("{call}: {source}")]
    Boxlite {
        /// The call.
        call: &'static str,
        /// The library's error.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// A stream broke, of a box or of a bare machine.
    #[error("{stream}: {source}")]
    Stream {
        /// The stream.
        stream: &'static str,
        /// What the system said.
        source: io::Error,
    },
    /// Something answered, with something else than what was asked for.
    #[error("{what}: expected {expected}, got {got}")]
    Answer {
        /// What was asked.
        what: &'static str,
        /// The right answer.
        expected: String,
        /// The answer.
        got: String,
    },
    /// JSON that is not what it should be.
    #[error("{what}: {source}")]
    Json {
        /// Where it is from.
        what: String,
        /// What is wrong.
        source: serde_json::Error,
    },
    /// This machine does not have what it takes.
    #[error("{missing}: {remedy}")]
    Missing {
        /// What is not there.
        missing: String,
        /// What to do about it.
        remedy: &'static str,
    },
}

impl BenchError {
    /// For `map_err` on a call of the library.
    pub(crate) fn boxlite<E: std::error::Error + Send + Sync + 'static>(call: &'static str) -> impl FnOnce(E) -> Self {
        move |source| Self::Boxlite {
            call,
            source: Box::new(source),
        }
    }

    /// For `map_err` on what concerns one file.
    pub(crate) fn file(path: impl Into<PathBuf>) -> impl FnOnce(io::Error) -> Self {
        let path = path.into();
        move |source| Self::File { path, source }
    }

    /// For `map_err` on what concerns one stream.
    pub(crate) fn stream(stream: &'static str) -> impl FnOnce(io::Error) -> Self {
        move |source| Self::Stream { stream, source }
    }
}
