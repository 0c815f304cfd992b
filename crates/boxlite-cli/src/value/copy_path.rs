//! The two sides of `cp`: a path of the host, a path of a box, or `-`.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;

use thiserror::Error;

/// One side of `cp`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum CopyPath {
    /// `-`: a tar stream on stdin or stdout.
    Stream,
    Host(PathBuf),
    Box {
        box_name: String,
        /// As written; docker reads a relative one from the box's root.
        path: String,
    },
}

/// Why a text is no side of `cp`.
#[derive(Debug, Error, PartialEq, Eq)]
pub(crate) enum CopyPathError {
    #[error("an empty path")]
    Empty,
    #[error("{0:?}: a path of a box is written BOX:PATH")]
    NoPath(String),
    #[error("the path of the box is not UTF-8")]
    NotUtf8,
}

/// Parses one side, with docker's rule: an absolute path, and one that begins with
/// a dot, is the host's whatever colons it has; otherwise `BOX:PATH` is the box's.
pub(crate) fn parse(text: &OsStr) -> Result<CopyPath, CopyPathError> {
    let bytes = text.as_bytes();
    match bytes {
        b"" => return Err(CopyPathError::Empty),
        b"-" => return Ok(CopyPath::Stream),
        [b'/' | b'.', ..] => return Ok(CopyPath::Host(PathBuf::from(text))),
        _ => {}
    }
    let Some(colon) = bytes.iter().position(|byte| *byte == b':') else {
        return Ok(CopyPath::Host(PathBuf::from(text)));
    };
    if bytes[..colon].contains(&b'/') {
        return Ok(CopyPath::Host(PathBuf::from(text)));
    }
    let text = text.to_str().ok_or(CopyPathError::NotUtf8)?;
    let (box_name, path) = text.split_at(colon);
    let path = &path[1..];
    if box_name.is_empty() || path.is_empty() {
        return Err(CopyPathError::NoPath(text.to_owned()));
    }
    let path = if path.starts_with('/') {
        path.to_owned()
    } else {
        format!("/{path}")
    };
    Ok(CopyPath::Box {
        box_name: box_name.to_owned(),
        path,
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn side(text: &str) -> Result<CopyPath, CopyPathError> {
        parse(OsStr::new(text))
    }

    fn in_box(name: &str, path: &str) -> Result<CopyPath, CopyPathError> {
        Ok(CopyPath::Box {
            box_name: name.into(),
            path: path.into(),
        })
    }

    #[test]
    fn sides() {
        assert_eq!(side("-"), Ok(CopyPath::Stream));
        assert_eq!(side("web:/etc/hosts"), in_box("web", "/etc/hosts"));
        assert_eq!(side("web:srv"), in_box("web", "/srv"));
        assert_eq!(side("web:/a:b"), in_box("web", "/a:b"));
        for host in ["file", "./web:x", "../a", "/tmp/a:b", "dir/a:b", "."] {
            assert_eq!(side(host), Ok(CopyPath::Host(host.into())), "{host}");
        }
        assert_eq!(side(""), Err(CopyPathError::Empty));
        assert_eq!(side("web:"), Err(CopyPathError::NoPath("web:".into())));
        assert_eq!(side(":/x"), Err(CopyPathError::NoPath(":/x".into())));
    }

    proptest! {
        #[test]
        fn any_bytes_are_a_side_or_an_error(bytes in proptest::collection::vec(any::<u8>(), 0..24)) {
            if let Ok(CopyPath::Box { box_name, path }) = parse(OsStr::from_bytes(&bytes)) {
                prop_assert!(!box_name.is_empty() && !box_name.contains('/'));
                prop_assert!(path.starts_with('/'));
            }
        }
    }
}
