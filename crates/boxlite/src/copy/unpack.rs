//! Unpacking an archive that came out of a box, as if the box were out to break the host.
//!
//! Every entry is placed by walking from the destination folder down, one name at a time,
//! with `openat(2)` and `O_NOFOLLOW`: no name of the archive is ever resolved by the
//! kernel as a path, so neither `..`, nor an absolute name, nor a symbolic link (of the
//! archive or of the host) leads anywhere. What exists is unlinked before it is written, so
//! nothing is ever written through a link, and hard links only join files of this archive.

use std::collections::HashSet;
use std::ffi::OsStr;
use std::fs::File;
use std::io::{Read, Seek, SeekFrom, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use boxlite_tar::{Entry, EntryKind, Reader, Timestamp};
use rustix::fs::{AtFlags, FileType, Mode, OFlags, Timespec, Timestamps};
use rustix::io::Errno;

use crate::copy::{CopyReport, SkippedEntry};
use crate::error::UnpackError;

/// What of a box's modes is taken over: not set-user-id and set-group-id, which would give
/// whoever runs the file the rights of the user who copied it.
const FILE_MODE_BITS: u32 = 0o777;
/// The sticky bit of a folder only restricts.
const FOLDER_MODE_BITS: u32 = 0o1777;
/// How many left-out entries are told one by one.
const MAX_SKIPPED: usize = 100;
/// Bounds what has to be remembered about an archive.
const MAX_ENTRIES: u64 = 4_000_000;
const BUFFER_BYTES: usize = 256 * 1024;

/// Where the archive's one root goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Target {
    /// Into the folder under this name.
    Named(Vec<u8>),
    /// What is in it goes into the folder.
    Spread,
}

/// Unpacks an archive, whose entries all lie below its first, into `folder`. Blocking.
pub(crate) fn unpack<R: Read>(
    reader: &mut Reader<R>,
    folder: &Path,
    target: &Target,
) -> Result<CopyReport, UnpackError> {
    let root = rustix::fs::open(
        folder,
        OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC,
        Mode::empty(),
    )
    .map_err(|errno| host("opening", folder, errno))?;
    let mut unpacker = Unpacker {
        root,
        folder: folder.to_owned(),
        target,
        archive_root: None,
        parent: None,
        own_files: HashSet::new(),
        folders: Vec::new(),
        report: CopyReport::default(),
        buffer: vec![0; BUFFER_BYTES],
    };
    let mut entries = 0;
    while let Some(entry) = reader.next_entry().map_err(UnpackError::Archive)? {
        entries += 1;
        if entries > MAX_ENTRIES {
            return Err(UnpackError::TooManyEntries { limit: MAX_ENTRIES });
        }
        unpacker.place(&entry, reader)?;
    }
    if unpacker.archive_root.is_none() {
        return Err(UnpackError::Empty);
    }
    unpacker.finish_folders()?;
    Ok(unpacker.report)
}

type Parts = Vec<Vec<u8>>;

struct FolderMark {
    parts: Parts,
    mode: u32,
    mtime: Timestamp,
}

struct Unpacker<'a> {
    root: OwnedFd,
    folder: PathBuf,
    target: &'a Target,
    archive_root: Option<Parts>,
    /// The folder that the last entry went into.
    parent: Option<(Parts, OwnedFd)>,
    /// Device and inode of each file that was made here.
    own_files: HashSet<(u64, u64)>,
    /// Modes and times of folders, set when nothing more goes into them.
    folders: Vec<FolderMark>,
    report: CopyReport,
    buffer: Vec<u8>,
}

impl Unpacker<'_> {
    fn place<R: Read>(&mut self, entry: &Entry, reader: &mut Reader<R>) -> Result<(), UnpackError> {
        let Some(parts) = self.map(&entry.path, entry.kind)? else {
            return Ok(());
        };
        let Some((name, parents)) = parts.split_last() else {
            return Ok(());
        };
        let parent = self.open_parent(parents)?;
        let at = Place {
            parent: parent.as_fd(),
            name: OsStr::from_bytes(name),
            host_path: self.host_path(&parts),
        };
        match entry.kind {
            EntryKind::Directory => {
                at.make_folder()?;
                self.folders.push(FolderMark {
                    parts: parts.clone(),
                    mode: entry.mode,
                    mtime: entry.mtime,
                });
            }
            EntryKind::File => {
                let made = at.make_file(entry, reader, &mut self.buffer)?;
                self.own_files.insert(made);
                self.report.bytes += entry.size;
            }
            EntryKind::SymLink => at.make_link(entry)?,
            EntryKind::HardLink => {
                if !self.make_hard_link(entry, &at)? {
                    let error = UnpackError::HardLink {
                        name: lossy(&entry.path),
                        target: lossy(&entry.link),
                    };
                    return Err(error);
                }
            }
            EntryKind::Fifo => at.make_fifo(entry)?,
            EntryKind::CharDevice | EntryKind::BlockDevice => {
                self.skip(entry, "device nodes of a box are not made on the host");
                self.parent = Some((parents.to_vec(), parent));
                return Ok(());
            }
        }
        self.report.entries += 1;
        self.parent = Some((parents.to_vec(), parent));
        Ok(())
    }

    /// The place of an archive's name below the destination; `None` for the root of an
    /// archive that is spread.
    fn map(&mut self, path: &[u8], kind: EntryKind) -> Result<Option<Parts>, UnpackError> {
        let wrong = || UnpackError::Name { name: lossy(path) };
        let parts = split(path).ok_or_else(wrong)?;
        let Some(root) = &self.archive_root else {
            if *self.target == Target::Spread && kind != EntryKind::Directory {
                return Err(wrong());
            }
            self.archive_root = Some(parts);
            return match self.target {
                Target::Spread => Ok(None),
                Target::Named(name) => Ok(Some(vec![name.clone()])),
            };
        };
        let inner = parts.strip_prefix(root.as_slice()).ok_or_else(wrong)?;
        if inner.is_empty() && *self.target == Target::Spread {
            return Ok(None);
        }
        let mut mapped = match self.target {
            Target::Spread => Parts::new(),
            Target::Named(name) => vec![name.clone()],
        };
        mapped.extend(inner.iter().cloned());
        Ok(Some(mapped))
    }

    fn host_path(&self, parts: &[Vec<u8>]) -> PathBuf {
        let mut path = self.folder.clone();
        path.extend(parts.iter().map(|part| OsStr::from_bytes(part)));
        path
    }

    /// Opens the folder `parts`, making what the archive did not name.
    fn open_parent(&mut self, parts: &[Vec<u8>]) -> Result<OwnedFd, UnpackError> {
        if let Some((known, fd)) = self.parent.take()
            && known == parts
        {
            return Ok(fd);
        }
        let mut current = self.root.try_clone().map_err(|source| UnpackError::Host {
            action: "opening",
            path: self.folder.clone(),
            source,
        })?;
        for depth in 0..parts.len() {
            let place = Place {
                parent: current.as_fd(),
                name: OsStr::from_bytes(&parts[depth]),
                host_path: self.host_path(&parts[..=depth]),
            };
            let opened = match place.open_folder() {
                Err(UnpackError::Host { source, .. }) if source.kind() == std::io::ErrorKind::NotFound => {
                    place.make_folder()?;
                    place.open_folder()?
                }
                other => other?,
            };
            current = opened;
        }
        Ok(current)
    }

    /// Joins an entry to a file of this archive; whether there is one.
    fn make_hard_link(&mut self, entry: &Entry, at: &Place<'_>) -> Result<bool, UnpackError> {
        let Some(parts) = split(&entry.link) else {
            return Ok(false);
        };
        let Some(inner) = self
            .archive_root
            .as_ref()
            .and_then(|root| parts.strip_prefix(root.as_slice()))
        else {
            return Ok(false);
        };
        let mut mapped = match self.target {
            Target::Spread => Parts::new(),
            Target::Named(name) => vec![name.clone()],
        };
        mapped.extend(inner.iter().cloned());
        let Some((name, parents)) = mapped.split_last() else {
            return Ok(false);
        };
        // Opened anew: the cached parent belongs to the entry that is being placed.
        let parent = self.open_parent(parents)?;
        let name = OsStr::from_bytes(name);
        let stat = match rustix::fs::statat(&parent, name, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(stat) => stat,
            Err(Errno::NOENT) => return Ok(false),
            Err(errno) => return Err(host("looking at", &self.host_path(&mapped), errno)),
        };
        let is_own = FileType::from_raw_mode(stat.st_mode) == FileType::RegularFile
            && self.own_files.contains(&(stat.st_dev, stat.st_ino));
        if !is_own {
            return Ok(false);
        }
        if mapped == split_host(&self.folder, &at.host_path) {
            // A file that is linked to itself is there already.
            return Ok(true);
        }
        at.clear()?;
        rustix::fs::linkat(&parent, name, at.parent, at.name, AtFlags::empty())
            .map_err(|errno| host("linking", &at.host_path, errno))?;
        Ok(true)
    }

    fn skip(&mut self, entry: &Entry, reason: &str) {
        self.report.skipped_count += 1;
        if self.report.skipped.len() < MAX_SKIPPED {
            self.report.skipped.push(SkippedEntry {
                path: lossy(&entry.path),
                reason: reason.to_owned(),
            });
        }
    }

    fn finish_folders(&mut self) -> Result<(), UnpackError> {
        self.parent = None;
        // Innermost first: a folder without write permission can't be entered any more.
        while let Some(mark) = self.folders.pop() {
            let fd = match self.open_parent(&mark.parts) {
                Ok(fd) => fd,
                // A later entry took the folder's place.
                Err(UnpackError::Kind { .. }) => continue,
                Err(error) => return Err(error),
            };
            let path = self.host_path(&mark.parts);
            rustix::fs::fchmod(&fd, Mode::from_raw_mode(mark.mode & FOLDER_MODE_BITS))
                .map_err(|errno| host("setting the mode of", &path, errno))?;
            rustix::fs::futimens(&fd, &times(mark.mtime)).map_err(|errno| host("setting the time of", &path, errno))?;
        }
        Ok(())
    }
}

/// One name in one open folder.
struct Place<'a> {
    parent: BorrowedFd<'a>,
    name: &'a OsStr,
    /// For messages only.
    host_path: PathBuf,
}

impl Place<'_> {
    fn kind(&self) -> Result<Option<FileType>, UnpackError> {
        match rustix::fs::statat(self.parent, self.name, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(stat) => Ok(Some(FileType::from_raw_mode(stat.st_mode))),
            Err(Errno::NOENT) => Ok(None),
            Err(errno) => Err(host("looking at", &self.host_path, errno)),
        }
    }

    fn wrong_kind(&self) -> UnpackError {
        UnpackError::Kind {
            path: self.host_path.clone(),
        }
    }

    fn open_folder(&self) -> Result<OwnedFd, UnpackError> {
        rustix::fs::openat(
            self.parent,
            self.name,
            OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC,
            Mode::empty(),
        )
        .map_err(|errno| match errno {
            Errno::NOTDIR | Errno::LOOP | Errno::MLINK => self.wrong_kind(),
            errno => host("opening", &self.host_path, errno),
        })
    }

    fn make_folder(&self) -> Result<(), UnpackError> {
        match rustix::fs::mkdirat(self.parent, self.name, Mode::RWXU) {
            Ok(()) => Ok(()),
            Err(Errno::EXIST) => match self.kind()? {
                Some(FileType::Directory) => Ok(()),
                _ => Err(self.wrong_kind()),
            },
            Err(errno) => Err(host("making", &self.host_path, errno)),
        }
    }

    /// Makes the name free for something that is no folder.
    fn clear(&self) -> Result<(), UnpackError> {
        match self.kind()? {
            None => Ok(()),
            Some(FileType::Directory) => Err(self.wrong_kind()),
            Some(_) => match rustix::fs::unlinkat(self.parent, self.name, AtFlags::empty()) {
                Ok(()) | Err(Errno::NOENT) => Ok(()),
                Err(errno) => Err(host("replacing", &self.host_path, errno)),
            },
        }
    }

    /// Writes a file and gives its device and inode.
    fn make_file<R: Read>(
        &self,
        entry: &Entry,
        reader: &mut Reader<R>,
        buffer: &mut [u8],
    ) -> Result<(u64, u64), UnpackError> {
        self.clear()?;
        let fd = rustix::fs::openat(
            self.parent,
            self.name,
            OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC,
            Mode::RUSR | Mode::WUSR,
        )
        .map_err(|errno| host("making", &self.host_path, errno))?;
        let mut file = File::from(fd);
        let failed = |source| UnpackError::Host {
            action: "writing",
            path: self.host_path.clone(),
            source,
        };
        while let Some(extent) = reader.next_extent().map_err(UnpackError::Archive)? {
            file.seek(SeekFrom::Start(extent.offset)).map_err(failed)?;
            loop {
                let count = reader.read_extent(buffer).map_err(UnpackError::Archive)?;
                if count == 0 {
                    break;
                }
                file.write_all(&buffer[..count]).map_err(failed)?;
            }
        }
        file.set_len(entry.size).map_err(failed)?;
        let stat = rustix::fs::fstat(&file).map_err(|errno| failed(errno.into()))?;
        rustix::fs::fchmod(&file, Mode::from_raw_mode(entry.mode & FILE_MODE_BITS))
            .map_err(|errno| host("setting the mode of", &self.host_path, errno))?;
        rustix::fs::futimens(&file, &times(entry.mtime))
            .map_err(|errno| host("setting the time of", &self.host_path, errno))?;
        Ok((stat.st_dev, stat.st_ino))
    }

    fn make_link(&self, entry: &Entry) -> Result<(), UnpackError> {
        if entry.link.is_empty() || entry.link.contains(&0) {
            return Err(UnpackError::Name {
                name: lossy(&entry.path),
            });
        }
        self.clear()?;
        rustix::fs::symlinkat(OsStr::from_bytes(&entry.link), self.parent, self.name)
            .map_err(|errno| host("making", &self.host_path, errno))?;
        self.set_own_time(entry)
    }

    fn make_fifo(&self, entry: &Entry) -> Result<(), UnpackError> {
        self.clear()?;
        let mode = Mode::from_raw_mode(entry.mode & FILE_MODE_BITS);
        rustix::fs::mknodat(self.parent, self.name, FileType::Fifo, mode, 0)
            .map_err(|errno| host("making", &self.host_path, errno))?;
        self.set_own_time(entry)
    }

    fn set_own_time(&self, entry: &Entry) -> Result<(), UnpackError> {
        rustix::fs::utimensat(self.parent, self.name, &times(entry.mtime), AtFlags::SYMLINK_NOFOLLOW)
            .map_err(|errno| host("setting the time of", &self.host_path, errno))
    }
}

/// The names of a path; `None` if it is absolute, empty, or has `..` or a NUL byte.
fn split(path: &[u8]) -> Option<Parts> {
    if path.is_empty() || path.starts_with(b"/") || path.contains(&0) {
        return None;
    }
    let mut parts = Parts::new();
    for part in path.split(|byte| *byte == b'/') {
        match part {
            b"" | b"." => {}
            b".." => return None,
            name => parts.push(name.to_vec()),
        }
    }
    Some(parts)
}

/// The names of `path` below `folder`.
fn split_host(folder: &Path, path: &Path) -> Parts {
    path.strip_prefix(folder)
        .map(|inner| inner.iter().map(|part| part.as_bytes().to_vec()).collect())
        .unwrap_or_default()
}

fn times(mtime: Timestamp) -> Timestamps {
    let time = Timespec {
        tv_sec: mtime.seconds,
        tv_nsec: mtime.nanoseconds.min(999_999_999).into(),
    };
    Timestamps {
        last_access: time,
        last_modification: time,
    }
}

fn host(action: &'static str, path: &Path, errno: Errno) -> UnpackError {
    UnpackError::Host {
        action,
        path: path.to_owned(),
        source: errno.into(),
    }
}

fn lossy(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

#[cfg(test)]
mod tests;
