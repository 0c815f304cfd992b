//! What a helper that packs or unpacks says when it can't go on.

use std::{fmt::Display, io};

use boxlite_tar::{ReadError, WriteError};
use tonic::{Code, Status};

/// Why a copy failed, in a form that goes through a pipe.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("{message}")]
pub(crate) struct CopyError {
    code: Code,
    message: String,
}

impl CopyError {
    /// The archive is at fault.
    pub(crate) fn archive(error: impl Display) -> Self {
        CopyError {
            code: Code::InvalidArgument,
            message: error.to_string(),
        }
    }

    /// A system call for `path` failed.
    pub(crate) fn system(what: &str, path: &[u8], error: impl Into<io::Error>) -> Self {
        let error = error.into();
        let code = match error.kind() {
            io::ErrorKind::NotFound => Code::NotFound,
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => Code::ResourceExhausted,
            io::ErrorKind::NotADirectory | io::ErrorKind::IsADirectory | io::ErrorKind::ReadOnlyFilesystem => {
                Code::FailedPrecondition
            }
            io::ErrorKind::PermissionDenied => Code::PermissionDenied,
            // What RESOLVE_BENEATH says of a path that leads out.
            io::ErrorKind::CrossesDevices => Code::InvalidArgument,
            _ => Code::Internal,
        };
        CopyError {
            code,
            message: format!("{what} {}: {error}", String::from_utf8_lossy(path)),
        }
    }

    /// Bytes for [`CopyError::decode`].
    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut bytes = vec![self.code as i32 as u8];
        bytes.extend_from_slice(self.message.as_bytes());
        bytes
    }

    /// Reads what [`CopyError::encode`] wrote.
    pub(crate) fn decode(bytes: &[u8]) -> Option<Self> {
        let (code, message) = bytes.split_first()?;
        Some(CopyError {
            code: Code::from_i32(i32::from(*code)),
            message: String::from_utf8_lossy(message).into_owned(),
        })
    }
}

impl From<CopyError> for Status {
    fn from(error: CopyError) -> Self {
        Status::new(error.code, error.message)
    }
}

impl From<ReadError> for CopyError {
    fn from(error: ReadError) -> Self {
        Self::archive(format_args!("the archive: {}", chain(&error)))
    }
}

impl From<WriteError> for CopyError {
    fn from(error: WriteError) -> Self {
        CopyError {
            code: Code::Internal,
            message: chain(&error),
        }
    }
}

fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(error) = source {
        text.push_str(&format!(": {error}"));
        source = error.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_go_through_a_pipe() {
        let error = CopyError::system("open", b"/a", io::Error::from_raw_os_error(libc::ENOSPC));
        assert_eq!(error.code, Code::ResourceExhausted);
        assert_eq!(CopyError::decode(&error.encode()), Some(error));
        assert_eq!(CopyError::decode(b""), None);
    }
}
