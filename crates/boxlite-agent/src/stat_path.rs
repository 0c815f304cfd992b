//! StatPath: what is at a path, seen from inside the box.

use std::{
    fs, io,
    os::unix::{
        ffi::{OsStrExt as _, OsStringExt as _},
        fs::MetadataExt as _,
    },
    path::Path,
};

use boxlite_protocol::guest::{StatPathRequest, StatPathResponse};
use prost::Message as _;
use tonic::Status;

use crate::{agent::BoxState, child};

/// What a helper's answer begins with.
const FOUND: u8 = 0;
const FAILED: u8 = 1;

/// Serves StatPath.
pub(crate) async fn stat(state: &BoxState, request: StatPathRequest) -> Result<StatPathResponse, Status> {
    check_path(&request.path)?;
    let answer = child::ask(&state.spaces, || {
        let path = Path::new(std::ffi::OsStr::from_bytes(&request.path));
        match look_at(path, request.follow_link) {
            Ok(response) => [&[FOUND], &response.encode_to_vec()[..]].concat(),
            Err(error) => [&[FAILED], error.to_string().as_bytes()].concat(),
        }
    })
    .await
    .map_err(|error| Status::internal(error.to_string()))?;
    match answer.split_first() {
        Some((&FOUND, message)) => {
            StatPathResponse::decode(message).map_err(|error| Status::internal(error.to_string()))
        }
        Some((_, message)) => Err(Status::internal(format!(
            "{}: {}",
            String::from_utf8_lossy(&request.path),
            String::from_utf8_lossy(message)
        ))),
        None => Err(Status::internal("a helper in the box said nothing")),
    }
}

/// Refuses paths that mean nothing in a box.
pub(crate) fn check_path(path: &[u8]) -> Result<(), Status> {
    if path.first() == Some(&b'/') && !path.contains(&0) {
        Ok(())
    } else {
        Err(Status::invalid_argument(format!(
            "{:?} is not an absolute path",
            String::from_utf8_lossy(path)
        )))
    }
}

fn look_at(path: &Path, follow: bool) -> io::Result<StatPathResponse> {
    let metadata = if follow {
        fs::metadata(path)
    } else {
        fs::symlink_metadata(path)
    };
    let metadata = match metadata {
        Ok(metadata) => metadata,
        Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {
            return Ok(StatPathResponse::default());
        }
        Err(error) => return Err(error),
    };
    let link_target = if metadata.is_symlink() {
        fs::read_link(path)?.into_os_string().into_vec().into()
    } else {
        bytes::Bytes::new()
    };
    Ok(StatPathResponse {
        exists: true,
        mode: metadata.mode(),
        size: metadata.size(),
        mtime_ns: metadata
            .mtime()
            .saturating_mul(1_000_000_000)
            .saturating_add(metadata.mtime_nsec()),
        link_target,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn links_are_followed_when_asked() {
        let dir = tempfile::tempdir().unwrap();
        let link = dir.path().join("link");
        std::os::unix::fs::symlink("file", &link).unwrap();
        assert!(!look_at(&link, true).unwrap().exists);
        assert_eq!(&look_at(&link, false).unwrap().link_target[..], b"file");
        fs::write(dir.path().join("file"), "12345").unwrap();
        let found = look_at(&link, true).unwrap();
        assert_eq!((found.exists, found.size, found.mode & 0o170_000), (true, 5, 0o100_000));
        assert!(!look_at(&dir.path().join("file/below"), true).unwrap().exists);
    }

    #[test]
    fn only_absolute_paths_are_taken() {
        assert!(check_path(b"/").is_ok());
        for path in [&b""[..], b"a", b"/a\0b"] {
            assert!(check_path(path).is_err());
        }
    }
}
