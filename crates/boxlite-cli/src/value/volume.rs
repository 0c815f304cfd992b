//! Volumes: `SRC:DST[:ro|rw]`.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use boxlite::Mount;
use thiserror::Error;

/// Why a text is no volume.
#[derive(Debug, Error, PartialEq, Eq)]
pub(crate) enum VolumeError {
    #[error("the form is SRC:DST[:ro], a path of the host and a path of the box")]
    Form,
    #[error("boxlite has no anonymous volumes: name the folder of the host, as in ./data:{0}")]
    Anonymous(String),
    #[error("{0:?} is no absolute path of the box")]
    TargetNotAbsolute(String),
    #[error("the path of the box is not UTF-8")]
    TargetNotUtf8,
    #[error("unknown volume option {0:?}: boxlite has ro and rw")]
    Option(String),
}

/// Parses one `-v`; a relative source is below `working_dir`.
///
/// Unlike docker, a source without a slash is a path too: there are no named volumes.
pub(crate) fn parse(text: &OsStr, working_dir: &Path) -> Result<Mount, VolumeError> {
    let fields: Vec<&[u8]> = text.as_bytes().split(|byte| *byte == b':').collect();
    let (source, target, options) = match fields.as_slice() {
        [only] if only.starts_with(b"/") => {
            return Err(VolumeError::Anonymous(String::from_utf8_lossy(only).into_owned()));
        }
        [source, target] => (source, target, None),
        [source, target, options] => (source, target, Some(options)),
        _ => return Err(VolumeError::Form),
    };
    if source.is_empty() || target.is_empty() {
        return Err(VolumeError::Form);
    }
    let target = std::str::from_utf8(target).map_err(|_| VolumeError::TargetNotUtf8)?;
    if !target.starts_with('/') {
        return Err(VolumeError::TargetNotAbsolute(target.to_owned()));
    }
    let mut read_only = false;
    if let Some(options) = options {
        for option in options.split(|byte| *byte == b',') {
            match option {
                b"ro" | b"readonly" => read_only = true,
                b"rw" => read_only = false,
                other => {
                    return Err(VolumeError::Option(String::from_utf8_lossy(other).into_owned()));
                }
            }
        }
    }
    Ok(Mount {
        source: working_dir.join(OsStr::from_bytes(source)),
        target: target.to_owned(),
        read_only,
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn volume(text: &str) -> Result<Mount, VolumeError> {
        parse(OsStr::new(text), Path::new("/here"))
    }

    #[test]
    fn sources_become_absolute() {
        for (text, source, read_only) in [
            ("/data:/mnt", "/data", false),
            ("/data:/mnt:ro", "/data", true),
            ("/data:/mnt:rw", "/data", false),
            ("data:/mnt", "/here/data", false),
            ("../x/y.txt:/mnt:ro", "/here/../x/y.txt", true),
        ] {
            let expected = Mount {
                source: source.into(),
                target: "/mnt".into(),
                read_only,
            };
            assert_eq!(volume(text), Ok(expected), "{text}");
        }
    }

    #[test]
    fn what_is_wrong_is_named() {
        assert_eq!(volume("/data"), Err(VolumeError::Anonymous("/data".into())));
        assert_eq!(volume("data"), Err(VolumeError::Form));
        assert_eq!(volume(":/mnt"), Err(VolumeError::Form));
        assert_eq!(volume("/a:/b:ro:x"), Err(VolumeError::Form));
        assert_eq!(volume("/a:b"), Err(VolumeError::TargetNotAbsolute("b".into())));
        assert_eq!(volume("/a:/b:z"), Err(VolumeError::Option("z".into())));
        assert_eq!(volume("/a:/b:"), Err(VolumeError::Option(String::new())));
        assert_eq!(
            parse(OsStr::from_bytes(b"/a:/\xff"), Path::new("/")),
            Err(VolumeError::TargetNotUtf8)
        );
    }

    proptest! {
        #[test]
        fn any_bytes_are_a_volume_or_an_error(bytes in proptest::collection::vec(any::<u8>(), 0..40)) {
            if let Ok(volume) = parse(OsStr::from_bytes(&bytes), Path::new("/here")) {
                prop_assert!(volume.source.is_absolute());
                prop_assert!(volume.target.starts_with('/'));
            }
        }
    }
}
