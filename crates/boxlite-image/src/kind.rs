use std::fmt;
use std::io;

/// The coarse class of a failure, for callers that map errors to codes of their own.
///
/// Every error of this crate that an operation can return has a `kind()` method.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ErrorKind {
    /// The image, tag, platform, file or blob does not exist.
    NotFound,
    /// Credentials are missing, wrong, or do not allow this.
    Unauthorized,
    /// A host could not be reached, broke the connection, or answered nonsense.
    Network,
    /// Something did not answer in the time it was given.
    Timeout,
    /// Content is not what its digest, size or format says.
    Corrupt,
    /// Content is sound but of a kind that this crate does not read.
    Unsupported,
    /// A limit (see [`Limits`](crate::Limits)) was exceeded.
    TooLarge,
    /// The caller cancelled.
    Cancelled,
    /// A local file could not be read or written.
    Io,
    /// The file system or quota is full.
    NoSpace,
    /// What the caller asked for is malformed.
    Invalid,
}

impl ErrorKind {
    /// The kind of a local input/output error.
    pub(crate) fn of_io(error: &io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::NotFound => Self::NotFound,
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => Self::NoSpace,
            _ => Self::Io,
        }
    }
}

impl fmt::Display for ErrorKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NotFound => "not found",
            Self::Unauthorized => "unauthorized",
            Self::Network => "network failure",
            Self::Timeout => "timeout",
            Self::Corrupt => "corrupt content",
            Self::Unsupported => "unsupported",
            Self::TooLarge => "too large",
            Self::Cancelled => "cancelled",
            Self::Io => "input/output error",
            Self::NoSpace => "no space left",
            Self::Invalid => "invalid",
        })
    }
}
