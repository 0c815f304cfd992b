//! Packing files of the host as the tar stream that goes into a box.

use std::collections::HashMap;
use std::ffi::{OsStr, OsString};
use std::fs::{Metadata, OpenOptions};
use std::io::Write;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::{FileTypeExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use boxlite_tar::{Entry, EntryKind, Timestamp, WriteError, Writer, Xattr};
use rustix::fs::OFlags;
use rustix::io::Errno;

use crate::copy::{CopyReport, SkippedEntry};
use crate::error::CopyError;

const MAX_SKIPPED: usize = 100;
/// An extended attribute's value is at most this long (`XATTR_SIZE_MAX` of Linux).
const MAX_XATTR_BYTES: usize = 64 * 1024;

/// Packs `source_path` into `writer`, with `name` as the archive's root; without a name, only
/// what is in the folder `source_path`. Blocking.
pub(crate) fn pack<W: Write>(
    source_path: &Path,
    name: Option<&[u8]>,
    follow_link: bool,
    writer: Writer<W>,
) -> Result<(CopyReport, W), CopyError> {
    let mut packer = Packer {
        writer,
        links: HashMap::new(),
        report: CopyReport::default(),
    };
    // An explicit stack, so that no depth of folders overflows the thread's.
    let mut pending: Vec<(PathBuf, Vec<u8>)> = Vec::new();
    match name {
        Some(name) => {
            let is_folder = packer.add(source_path, name.to_vec(), follow_link)?;
            if is_folder {
                pending.push((source_path.to_owned(), name.to_vec()));
            }
        }
        None => pending.push((source_path.to_owned(), Vec::new())),
    }
    while let Some((folder, inner)) = pending.pop() {
        for child in sorted_names(&folder)? {
            let path = folder.join(&child);
            let mut name = inner.clone();
            if !name.is_empty() {
                name.push(b'/');
            }
            name.extend_from_slice(child.as_bytes());
            if packer.add(&path, name.clone(), false)? {
                pending.push((path, name));
            }
        }
    }
    let Packer { writer, report, .. } = packer;
    let sink = writer.finish().map_err(|source| host("sending", source_path, source))?;
    Ok((report, sink))
}

struct Packer<W: Write> {
    writer: Writer<W>,
    /// Where a file with several names went first, by device and inode.
    links: HashMap<(u64, u64), Vec<u8>>,
    report: CopyReport,
}

impl<W: Write> Packer<W> {
    /// Adds one file; whether it is a folder to go into.
    fn add(&mut self, path: &Path, name: Vec<u8>, follow_link: bool) -> Result<bool, CopyError> {
        let metadata = if follow_link {
            std::fs::metadata(path)
        } else {
            std::fs::symlink_metadata(path)
        };
        let metadata = metadata.map_err(|source| host("looking at", path, source))?;
        let file_type = metadata.file_type();
        let mut entry = entry_of(&metadata, name);
        if file_type.is_dir() {
            entry.kind = EntryKind::Directory;
            entry.xattrs = xattrs(path)?;
            self.append(&entry, path)?;
            return Ok(true);
        }
        if file_type.is_symlink() {
            entry.kind = EntryKind::SymLink;
            entry.link = std::fs::read_link(path)
                .map_err(|source| host("reading", path, source))?
                .into_os_string()
                .into_vec();
        } else if file_type.is_file() {
            if metadata.nlink() > 1 {
                let key = (metadata.dev(), metadata.ino());
                if let Some(first) = self.links.get(&key) {
                    entry.kind = EntryKind::HardLink;
                    entry.link.clone_from(first);
                    self.append(&entry, path)?;
                    return Ok(false);
                }
                self.links.insert(key, entry.path.clone());
            }
            return self.add_file(entry, path, follow_link).map(|()| false);
        } else if file_type.is_fifo() {
            entry.kind = EntryKind::Fifo;
        } else if file_type.is_char_device() || file_type.is_block_device() {
            entry.kind = if file_type.is_char_device() {
                EntryKind::CharDevice
            } else {
                EntryKind::BlockDevice
            };
            let device = metadata.rdev();
            entry.device = (rustix::fs::major(device), rustix::fs::minor(device));
        } else {
            self.skip(path, "sockets can't be copied");
            return Ok(false);
        }
        self.append(&entry, path)?;
        Ok(false)
    }

    fn add_file(&mut self, mut entry: Entry, path: &Path, follow_link: bool) -> Result<(), CopyError> {
        let mut flags = OFlags::NONBLOCK;
        if !follow_link {
            flags |= OFlags::NOFOLLOW;
        }
        let file = OpenOptions::new()
            .read(true)
            .custom_flags(flags.bits().cast_signed())
            .open(path)
            .map_err(|source| host("opening", path, source))?;
        // What is open counts, in case the name means something else by now.
        let metadata = file.metadata().map_err(|source| host("looking at", path, source))?;
        if !metadata.is_file() {
            self.skip(path, "it was replaced while it was copied");
            return Ok(());
        }
        entry.kind = EntryKind::File;
        entry.size = metadata.len();
        entry.xattrs = xattrs(path)?;
        let size = entry.size;
        match self.writer.append(&entry, file) {
            Ok(()) => {}
            // The archive is whole all the same: the rest of the file is zeros in it.
            Err(WriteError::DataTooShort { missing, .. }) => {
                self.skip(path, &format!("it became {missing} bytes shorter while it was copied"));
            }
            Err(source) => return Err(packing(path, source)),
        }
        self.report.entries += 1;
        self.report.bytes += size;
        Ok(())
    }

    fn append(&mut self, entry: &Entry, path: &Path) -> Result<(), CopyError> {
        self.writer
            .append(entry, std::io::empty())
            .map_err(|source| packing(path, source))?;
        self.report.entries += 1;
        Ok(())
    }

    fn skip(&mut self, path: &Path, reason: &str) {
        self.report.skipped_count += 1;
        if self.report.skipped.len() < MAX_SKIPPED {
            self.report.skipped.push(SkippedEntry {
                path: path.display().to_string(),
                reason: reason.to_owned(),
            });
        }
    }
}

fn entry_of(metadata: &Metadata, path: Vec<u8>) -> Entry {
    let mut entry = Entry::new(path, EntryKind::File);
    entry.mode = metadata.mode() & 0o7777;
    entry.uid = metadata.uid().into();
    entry.gid = metadata.gid().into();
    entry.mtime = Timestamp {
        seconds: metadata.mtime(),
        nanoseconds: u32::try_from(metadata.mtime_nsec()).unwrap_or(0),
    };
    entry
}

fn sorted_names(folder: &Path) -> Result<Vec<OsString>, CopyError> {
    let failed = |source| host("reading", folder, source);
    let mut names = std::fs::read_dir(folder)
        .map_err(failed)?
        .map(|entry| entry.map(|entry| entry.file_name()))
        .collect::<Result<Vec<_>, _>>()
        .map_err(failed)?;
    names.sort();
    Ok(names)
}

/// The attributes that mean the same in a box: the user's own, and file capabilities.
fn xattrs(path: &Path) -> Result<Vec<Xattr>, CopyError> {
    let failed = |errno: Errno| host("reading the attributes of", path, errno.into());
    let mut names = vec![0; MAX_XATTR_BYTES];
    let length = match rustix::fs::llistxattr(path, &mut names) {
        Ok(length) => length,
        Err(Errno::OPNOTSUPP | Errno::ACCESS | Errno::PERM) => return Ok(Vec::new()),
        Err(errno) => return Err(failed(errno)),
    };
    names.truncate(length);
    let mut found = Vec::new();
    for name in names.split(|byte| *byte == 0) {
        if !(name.starts_with(b"user.") || name == b"security.capability") {
            continue;
        }
        let mut value = vec![0; MAX_XATTR_BYTES];
        match rustix::fs::lgetxattr(path, OsStr::from_bytes(name), &mut value) {
            Ok(length) => {
                value.truncate(length);
                found.push((name.to_vec(), value));
            }
            Err(Errno::NODATA | Errno::ACCESS | Errno::PERM) => {}
            Err(errno) => return Err(failed(errno)),
        }
    }
    found.sort();
    Ok(found)
}

fn packing(path: &Path, source: WriteError) -> CopyError {
    CopyError::Pack {
        path: path.to_owned(),
        source,
    }
}

fn host(action: &'static str, path: &Path, source: std::io::Error) -> CopyError {
    CopyError::Host {
        action,
        path: path.to_owned(),
        source,
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{PermissionsExt, symlink};

    use boxlite_tar::{Limits, Reader};

    use super::*;

    fn packed(source: &Path, name: Option<&[u8]>) -> (CopyReport, Vec<(Entry, Vec<u8>)>) {
        let (report, archive) = pack(source, name, false, Writer::new(Vec::new())).unwrap();
        let mut reader = Reader::new(&archive[..], Limits::default());
        let mut members = Vec::new();
        while let Some(entry) = reader.next_entry().unwrap() {
            let mut data = Vec::new();
            std::io::Read::read_to_end(&mut reader.data(), &mut data).unwrap();
            members.push((entry, data));
        }
        (report, members)
    }

    fn tree() -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path().join("tree");
        std::fs::create_dir_all(root.join("b/c")).unwrap();
        std::fs::write(root.join("a"), "one").unwrap();
        std::fs::hard_link(root.join("a"), root.join("b/again")).unwrap();
        std::fs::write(root.join("b/c/d"), "four").unwrap();
        std::fs::set_permissions(root.join("b/c/d"), std::fs::Permissions::from_mode(0o640)).unwrap();
        symlink("a", root.join("link")).unwrap();
        drop(std::os::unix::net::UnixListener::bind(root.join("socket")).unwrap());
        folder
    }

    #[test]
    fn trees_are_packed_whole_under_the_new_name() {
        let folder = tree();
        let (report, members) = packed(&folder.path().join("tree"), Some(b"renamed"));
        let names: Vec<String> = members
            .iter()
            .map(|(entry, _)| String::from_utf8_lossy(&entry.path).into_owned())
            .collect();
        assert_eq!(
            names,
            [
                "renamed/",
                "renamed/a",
                "renamed/b/",
                "renamed/link",
                "renamed/b/again",
                "renamed/b/c/",
                "renamed/b/c/d"
            ]
        );
        let by_name = |name: &str| members.iter().find(|(entry, _)| entry.path == name.as_bytes()).unwrap();
        assert_eq!(by_name("renamed/a").1, b"one");
        let again = &by_name("renamed/b/again").0;
        assert_eq!((again.kind, &again.link[..]), (EntryKind::HardLink, &b"renamed/a"[..]));
        assert_eq!(by_name("renamed/b/c/d").0.mode, 0o640);
        assert_eq!(by_name("renamed/link").0.link, b"a");
        assert_eq!((report.entries, report.bytes), (7, 7));
        assert_eq!(report.skipped_count, 1);
        assert!(report.skipped[0].path.ends_with("socket"));
    }

    #[test]
    fn contents_are_packed_without_their_folder() {
        let folder = tree();
        let (_, members) = packed(&folder.path().join("tree"), None);
        assert_eq!(members[0].0.path, b"a");
        assert!(members.iter().all(|(entry, _)| !entry.path.starts_with(b"tree")));
    }

    #[test]
    fn a_link_is_followed_only_when_it_is_the_source_and_that_is_wanted() {
        let folder = tree();
        let link = folder.path().join("tree/link");
        let (_, members) = packed(&link, Some(b"x"));
        assert_eq!(members[0].0.kind, EntryKind::SymLink);
        let (_, archive) = pack(&link, Some(b"x"), true, Writer::new(Vec::new())).unwrap();
        let mut reader = Reader::new(&archive[..], Limits::default());
        assert_eq!(reader.next_entry().unwrap().unwrap().kind, EntryKind::File);
    }

    #[test]
    fn what_is_not_there_is_an_error_with_its_path() {
        let error = pack(Path::new("/nowhere/at/all"), Some(b"x"), false, Writer::new(Vec::new())).unwrap_err();
        assert!(matches!(error, CopyError::Host { .. }), "{error:?}");
        assert!(error.to_string().contains("/nowhere/at/all"));
    }
}
