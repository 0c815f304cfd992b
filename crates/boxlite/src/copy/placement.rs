//! Where a copy goes: `docker cp`'s rules about destinations that exist and that don't.

use std::path::{Component, Path, PathBuf};

use crate::error::CopyError;

/// What is at a path, symbolic links followed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Existing {
    Nothing,
    Folder,
    /// Anything but a folder.
    File,
}

/// What is copied, as far as it matters for where it goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Subject {
    pub(crate) is_folder: bool,
    /// Its own name, which it keeps in a folder that exists; `None` if only what is in it
    /// is copied.
    pub(crate) name: Option<Vec<u8>>,
}

/// How a copy lands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Landing {
    /// In the destination, under its own name.
    Inside,
    /// What is in it goes into the destination.
    Spread,
    /// As the destination itself.
    As,
}

/// Decides how `subject` lands on a destination.
pub(crate) fn landing(subject: &Subject, destination: &str, existing: Existing) -> Result<Landing, CopyError> {
    let path = || destination.to_owned();
    let wants_folder = is_folder_form(destination.as_bytes());
    match (existing, subject.is_folder) {
        (Existing::Folder, true) if subject.name.is_none() => Ok(Landing::Spread),
        (Existing::Folder, _) => Ok(Landing::Inside),
        (Existing::File, true) => Err(CopyError::FolderOverFile { path: path() }),
        (Existing::File, false) if wants_folder => Err(CopyError::NotAFolder { path: path() }),
        (Existing::Nothing, false) if wants_folder => Err(CopyError::DestinationMissing { path: path() }),
        (Existing::Nothing | Existing::File, _) => Ok(Landing::As),
    }
}

/// Whether a path is written as a folder's: with a slash, `.` or `..` at its end.
pub(crate) fn is_folder_form(path: &[u8]) -> bool {
    path.ends_with(b"/") || matches!(last_part(path), b"." | b"..")
}

/// Whether a source is written so that what is in it is meant.
pub(crate) fn means_contents(path: &[u8]) -> bool {
    path == b"." || path.ends_with(b"/.")
}

fn last_part(path: &[u8]) -> &[u8] {
    path.rsplit(|byte| *byte == b'/').next().unwrap_or(path)
}

/// A path in a box as folder and name; `None` where it has no name of its own (the root,
/// or `.` and `..` at its end).
pub(crate) fn split(path: &str) -> Option<(&str, &str)> {
    let trimmed = path.trim_end_matches('/');
    let (folder, name) = trimmed.rsplit_once('/')?;
    if matches!(name, "" | "." | "..") {
        return None;
    }
    Some((if folder.is_empty() { "/" } else { folder }, name))
}

/// The path that a symbolic link at `path` leads to.
pub(crate) fn follow(path: &str, target: &str) -> String {
    if target.starts_with('/') {
        return target.to_owned();
    }
    let folder = path
        .trim_end_matches('/')
        .rsplit_once('/')
        .map_or("", |(folder, _)| folder);
    format!("{folder}/{target}")
}

/// Checks that a text is a path in a box.
pub(crate) fn check_box_path(path: &str) -> Result<(), CopyError> {
    if path.starts_with('/') && !path.contains('\0') {
        Ok(())
    } else {
        Err(CopyError::BoxPath { path: path.to_owned() })
    }
}

/// The name that a source of the host has; `None` where what is in it is meant.
pub(crate) fn host_name(source: &Path) -> std::io::Result<Option<Vec<u8>>> {
    use std::os::unix::ffi::OsStrExt;

    if means_contents(source.as_os_str().as_bytes()) {
        return Ok(None);
    }
    let named: PathBuf = match source.components().next_back() {
        Some(Component::Normal(_)) => source.to_owned(),
        _ => std::fs::canonicalize(source)?,
    };
    Ok(named.file_name().map(|name| name.as_bytes().to_vec()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn landings_are_docker_s() {
        use Existing::{File, Folder, Nothing};
        let file = Subject {
            is_folder: false,
            name: Some(b"f".to_vec()),
        };
        let folder = Subject {
            is_folder: true,
            name: Some(b"d".to_vec()),
        };
        let contents = Subject {
            is_folder: true,
            name: None,
        };
        type Expected = Result<Landing, fn(&CopyError) -> bool>;
        let missing: fn(&CopyError) -> bool = |error| matches!(error, CopyError::DestinationMissing { .. });
        let not_folder: fn(&CopyError) -> bool = |error| matches!(error, CopyError::NotAFolder { .. });
        let over_file: fn(&CopyError) -> bool = |error| matches!(error, CopyError::FolderOverFile { .. });
        let table: [(&Subject, &str, Existing, Expected); 15] = [
            (&file, "/x", Nothing, Ok(Landing::As)),
            (&file, "/x/", Nothing, Err(missing)),
            (&file, "/x", File, Ok(Landing::As)),
            (&file, "/x/", File, Err(not_folder)),
            (&file, "/x", Folder, Ok(Landing::Inside)),
            (&file, "/x/", Folder, Ok(Landing::Inside)),
            (&folder, "/x", Nothing, Ok(Landing::As)),
            (&folder, "/x/", Nothing, Ok(Landing::As)),
            (&folder, "/x", File, Err(over_file)),
            (&folder, "/x", Folder, Ok(Landing::Inside)),
            (&contents, "/x", Nothing, Ok(Landing::As)),
            (&contents, "/x", File, Err(over_file)),
            (&contents, "/x", Folder, Ok(Landing::Spread)),
            (&contents, "/x/.", Folder, Ok(Landing::Spread)),
            (&file, "/x/..", Folder, Ok(Landing::Inside)),
        ];
        for (subject, destination, existing, expected) in table {
            match (landing(subject, destination, existing), expected) {
                (Ok(found), Ok(wanted)) => assert_eq!(found, wanted, "{subject:?} {destination}"),
                (Err(error), Err(is_wanted)) => assert!(is_wanted(&error), "{error:?}"),
                (found, _) => panic!("{subject:?} {destination} {existing:?}: {found:?}"),
            }
        }
    }

    #[test]
    fn box_paths_split_at_their_last_name() {
        for (path, expected) in [
            ("/a", Some(("/", "a"))),
            ("/a/b", Some(("/a", "b"))),
            ("/a/b//", Some(("/a", "b"))),
            ("/", None),
            ("/a/..", None),
            ("/a/.", None),
        ] {
            assert_eq!(split(path), expected, "{path}");
        }
    }

    #[test]
    fn links_lead_from_their_folder() {
        assert_eq!(follow("/a/link", "/b"), "/b");
        assert_eq!(follow("/a/link", "b"), "/a/b");
        assert_eq!(follow("/link", "../b"), "/../b");
    }

    #[test]
    fn host_sources_know_their_names() {
        assert_eq!(host_name(Path::new("/a/b")).unwrap().unwrap(), b"b");
        assert_eq!(host_name(Path::new("/a/b/")).unwrap().unwrap(), b"b");
        assert_eq!(host_name(Path::new("a")).unwrap().unwrap(), b"a");
        assert_eq!(host_name(Path::new("/a/.")).unwrap(), None);
        assert_eq!(host_name(Path::new(".")).unwrap(), None);
        assert_eq!(host_name(Path::new("/")).unwrap(), None);
        let folder = tempfile::tempdir().unwrap();
        let inner = folder.path().join("inner");
        std::fs::create_dir(&inner).unwrap();
        let up = inner.join("..");
        let name = folder.path().canonicalize().unwrap();
        use std::os::unix::ffi::OsStrExt;
        assert_eq!(host_name(&up).unwrap().unwrap(), name.file_name().unwrap().as_bytes());
    }
}
