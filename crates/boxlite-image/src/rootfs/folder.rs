//! The root filesystem of a folder.

use std::collections::HashMap;
use std::ffi::{CStr, CString, OsStr};
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};

use boxlite_tar::{Entry, EntryKind, Extent, Timestamp, Xattr};
use rustix::fs::{AtFlags, Dir, FileType, Mode, OFlags, SeekFrom, Stat};
use tokio_util::sync::CancellationToken;

use super::target::Target;
use super::tree::InodeId;
use super::{BuildError, BuildOptions, RootfsInfo, mount_points};
use crate::erofs::{Image, ImageError};
use crate::merge::{Applied, EntryError, Merge, MergeLimits};

/// The label that the host's SELinux policy gives a file says nothing in another kernel.
const HOST_LABEL: &[u8] = b"security.selinux";

/// Pieces of data that a sparse file may have before its holes are not worth keeping.
const EXTENTS: usize = 1 << 20;

/// Builds a root filesystem from a folder, as the file `dest`. Blocking.
///
/// Nothing is followed: symbolic links stay what they are. Owners, modes, times, extended
/// attributes, hard links, devices and holes are kept as far as the caller may read them.
/// Sockets are left out, and so is whatever is mounted in the folder, whose mount points stay
/// as empty directories; both are counted.
///
/// # Errors
/// [`BuildError`], which names the file if it is one's fault.
pub fn build_from_dir(
    dir: &Path,
    dest: &Path,
    options: &BuildOptions,
    cancel: &CancellationToken,
) -> Result<RootfsInfo, BuildError> {
    let limits = &options.limits;
    let (target, mut image) = Target::create(dest, options)?;
    let mut merge = Merge::new(MergeLimits {
        entries: limits.entries,
        path_components: limits.path_components,
        metadata_bytes: limits.metadata_bytes,
    });
    merge.begin_layer();
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let root = rustix::fs::open(dir, flags, Mode::empty()).map_err(read_error(dir))?;
    let device = rustix::fs::fstat(&root).map_err(read_error(dir))?.st_dev;
    let mut walk = Walk {
        dir,
        root,
        device,
        options,
        cancel,
        target: &target,
        merge: &mut merge,
        image: &mut image,
        linked: HashMap::new(),
        pending: Vec::new(),
        unpacked_bytes: 0,
        left_out_files: 0,
    };
    walk.run()?;
    let (unpacked_bytes, left_out_files) = (walk.unpacked_bytes, walk.left_out_files);
    if options.mount_points {
        mount_points::add_missing(&mut merge.tree);
    }
    let left_out_xattrs = merge.left_out_xattrs;
    let sealed = target.seal(image, &merge.tree, cancel)?;
    Ok(RootfsInfo {
        inodes: sealed.inodes,
        bytes_written: sealed.bytes,
        unpacked_bytes,
        diff_ids: Vec::new(),
        left_out_xattrs,
        left_out_files,
    })
}

fn read_error<E: Into<io::Error>>(path: &Path) -> impl FnOnce(E) -> BuildError {
    let path = path.to_owned();
    move |source| BuildError::ReadFolder {
        path,
        source: source.into(),
    }
}

struct Walk<'a> {
    dir: &'a Path,
    root: OwnedFd,
    device: u64,
    options: &'a BuildOptions,
    cancel: &'a CancellationToken,
    target: &'a Target,
    merge: &'a mut Merge,
    image: &'a mut Image,
    /// Files with several names that were found, by device and inode number.
    linked: HashMap<(u64, u64), InodeId>,
    /// Directories to do, relative to the folder.
    pending: Vec<(PathBuf, InodeId)>,
    unpacked_bytes: u64,
    left_out_files: u64,
}

/// Why a file's content could not be stored.
enum StoreError {
    Read(BuildError),
    Write(ImageError),
}

impl From<ImageError> for StoreError {
    fn from(error: ImageError) -> Self {
        Self::Write(error)
    }
}

impl Walk<'_> {
    fn run(&mut self) -> Result<(), BuildError> {
        let stat = rustix::fs::fstat(&self.root).map_err(read_error(self.dir))?;
        let mut entry = describe(&stat, EntryKind::Directory);
        entry.xattrs = xattrs_of_fd(&self.root).map_err(read_error(self.dir))?;
        self.merge
            .apply_root(&entry)
            .map_err(|source| self.entry_error(Path::new(""), source))?;
        self.pending.push((PathBuf::new(), InodeId::ROOT));
        while let Some((path, inode)) = self.pending.pop() {
            self.add_children(&path, inode)?;
        }
        Ok(())
    }

    fn path(&self, relative: &Path) -> PathBuf {
        self.dir.join(relative)
    }

    fn entry_error(&self, path: &Path, source: EntryError) -> BuildError {
        BuildError::FolderEntry {
            path: self.path(path),
            source,
        }
    }

    /// Opens a directory name by name, so that no link is followed on the way.
    fn open(&self, relative: &Path) -> Result<OwnedFd, BuildError> {
        let failed = |error: rustix::io::Errno| read_error(&self.path(relative))(error);
        let mut current = self.root.try_clone().map_err(read_error(self.dir))?;
        for name in relative {
            let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            current = rustix::fs::openat(&current, name, flags, Mode::empty()).map_err(failed)?;
        }
        Ok(current)
    }

    fn add_children(&mut self, path: &Path, inode: InodeId) -> Result<(), BuildError> {
        let directory = self.open(path)?;
        let mut names = Vec::new();
        for entry in Dir::read_from(&directory).map_err(read_error(&self.path(path)))? {
            let entry = entry.map_err(read_error(&self.path(path)))?;
            if !matches!(entry.file_name().to_bytes(), b"." | b"..") {
                names.push(entry.file_name().to_owned());
            }
        }
        names.sort_unstable();
        let subdirectories = self.pending.len();
        for name in names {
            if self.cancel.is_cancelled() {
                return Err(BuildError::Cancelled);
            }
            self.add(&directory, path, inode, &name)?;
        }
        // The first one first: what is read together should lie together.
        self.pending[subdirectories..].reverse();
        Ok(())
    }

    fn add(&mut self, directory: &OwnedFd, path: &Path, parent: InodeId, name: &CStr) -> Result<(), BuildError> {
        let relative = path.join(OsStr::from_bytes(name.to_bytes()));
        let full = self.path(&relative);
        let stat = rustix::fs::statat(directory, name, AtFlags::SYMLINK_NOFOLLOW).map_err(read_error(&full))?;
        let kind = match FileType::from_raw_mode(stat.st_mode) {
            FileType::RegularFile => EntryKind::File,
            FileType::Directory => EntryKind::Directory,
            FileType::Symlink => EntryKind::SymLink,
            FileType::CharacterDevice => EntryKind::CharDevice,
            FileType::BlockDevice => EntryKind::BlockDevice,
            FileType::Fifo => EntryKind::Fifo,
            _ => {
                self.left_out_files += 1;
                return Ok(());
            }
        };
        let identity = (stat.st_dev, stat.st_ino);
        let has_more_names = kind != EntryKind::Directory && stat.st_nlink > 1;
        if has_more_names && let Some(known) = self.linked.get(&identity) {
            return self
                .merge
                .link_in(parent, name.to_bytes(), *known)
                .map_err(|source| self.entry_error(&relative, source));
        }
        let mut entry = describe(&stat, kind);
        entry.path = relative.as_os_str().as_bytes().to_vec();
        if relative.as_os_str().len() > self.options.limits.path_bytes {
            return Err(read_error(&full)(rustix::io::Errno::NAMETOOLONG));
        }
        let mut file = None;
        match kind {
            EntryKind::File => {
                let opened = open_file(directory, name, &stat).map_err(read_error(&full))?;
                let Some(opened) = opened else {
                    return Err(BuildError::Changed { path: full });
                };
                entry.xattrs = xattrs_of_fd(&opened).map_err(read_error(&full))?;
                if stat.st_blocks.cast_unsigned().saturating_mul(512) < entry.size {
                    entry.sparse = extents_of(&opened, entry.size).map_err(read_error(&full))?;
                }
                file = Some(opened);
            }
            EntryKind::SymLink => {
                entry.link = rustix::fs::readlinkat(directory, name, Vec::new())
                    .map_err(read_error(&full))?
                    .into_bytes();
                entry.xattrs = xattrs_of_path(&full).map_err(read_error(&full))?;
            }
            _ => entry.xattrs = xattrs_of_path(&full).map_err(read_error(&full))?,
        }
        let applied = self
            .merge
            .apply_in(parent, name.to_bytes(), &entry)
            .map_err(|source| self.entry_error(&relative, source))?;
        let inode = match (applied, file) {
            (Applied::NeedsContent(place), Some(file)) => {
                let data = self.store(&entry, place.xattrs(), &file, &full)?;
                Some(self.merge.add_file(place, data))
            }
            _ => self.merge.tree.child(parent, name.to_bytes()).map(|child| child.inode),
        };
        match inode {
            Some(inode) if kind == EntryKind::Directory => {
                if stat.st_dev == self.device {
                    self.pending.push((relative, inode));
                } else {
                    tracing::warn!(path = %full.display(), "leaving out what is mounted in the folder");
                    self.left_out_files += 1;
                }
            }
            Some(inode) if has_more_names => {
                self.linked.insert(identity, inode);
            }
            _ => {}
        }
        Ok(())
    }

    fn store(
        &mut self,
        entry: &Entry,
        xattrs: &crate::erofs::XattrBody,
        file: &File,
        full: &Path,
    ) -> Result<crate::erofs::FileData, BuildError> {
        let limit = self.options.limits.unpacked_bytes;
        self.unpacked_bytes = self.unpacked_bytes.saturating_add(entry.stored_size());
        if self.unpacked_bytes > limit {
            return Err(BuildError::FolderTooLarge { limit });
        }
        let whole = [Extent {
            offset: 0,
            size: entry.size,
        }];
        let mut extents = entry.sparse.as_deref().unwrap_or(&whole).iter();
        let mut rest = Extent { offset: 0, size: 0 };
        let changed = || BuildError::Changed { path: full.to_owned() };
        let before = file.metadata().map_err(read_error(full))?;
        let cancel = self.cancel;
        let stored = self.image.store(entry.size, entry.sparse.as_deref(), xattrs, |buffer| {
            if cancel.is_cancelled() {
                return Err(StoreError::Read(BuildError::Cancelled));
            }
            while rest.size == 0 {
                match extents.next() {
                    Some(extent) => rest = *extent,
                    None => return Ok(0),
                }
            }
            let piece = usize::try_from(rest.size).unwrap_or(usize::MAX).min(buffer.len());
            let bytes = loop {
                match file.read_at(&mut buffer[..piece], rest.offset) {
                    Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                    other => break other,
                }
            };
            match bytes.map_err(|error| StoreError::Read(read_error(full)(error)))? {
                0 => Err(StoreError::Read(changed())),
                bytes => {
                    rest.offset += bytes as u64;
                    rest.size -= bytes as u64;
                    Ok(bytes)
                }
            }
        });
        let data = stored.map_err(|error| match error {
            StoreError::Read(error) => error,
            StoreError::Write(error) => self.target.write_error(error),
        })?;
        let after = file.metadata().map_err(read_error(full))?;
        let state = |metadata: &std::fs::Metadata| (metadata.len(), metadata.mtime(), metadata.mtime_nsec());
        if state(&before) != state(&after) || before.len() != entry.size {
            return Err(changed());
        }
        Ok(data)
    }
}

fn describe(stat: &Stat, kind: EntryKind) -> Entry {
    let mut entry = Entry::new("", kind);
    entry.mode = stat.st_mode & 0o7777;
    entry.uid = stat.st_uid.into();
    entry.gid = stat.st_gid.into();
    entry.mtime = Timestamp {
        seconds: stat.st_mtime,
        // Below 10^9 always.
        nanoseconds: stat.st_mtime_nsec as u32,
    };
    match kind {
        EntryKind::File => entry.size = stat.st_size.cast_unsigned(),
        EntryKind::CharDevice | EntryKind::BlockDevice => {
            entry.device = (rustix::fs::major(stat.st_rdev), rustix::fs::minor(stat.st_rdev));
        }
        _ => {}
    }
    entry
}

/// Opens the very file that `stat` describes; `None` if there is another by now.
fn open_file(directory: &OwnedFd, name: &CStr, stat: &Stat) -> io::Result<Option<File>> {
    // What has become a pipe meanwhile must not block.
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let file = File::from(rustix::fs::openat(directory, name, flags, Mode::empty())?);
    let opened = file.metadata()?;
    let is_same = opened.is_file() && opened.dev() == stat.st_dev && opened.ino() == stat.st_ino;
    Ok(is_same.then_some(file))
}

/// Where a file has data; `None` if its file system can't tell, or it is not worth it.
fn extents_of(file: &File, size: u64) -> io::Result<Option<Vec<Extent>>> {
    let mut extents = Vec::new();
    let mut position = 0;
    while position < size {
        let start = match rustix::fs::seek(file, SeekFrom::Data(position)) {
            Ok(start) => start,
            // No data any more.
            Err(rustix::io::Errno::NXIO) => break,
            Err(rustix::io::Errno::INVAL | rustix::io::Errno::OPNOTSUPP) => return Ok(None),
            Err(error) => return Err(error.into()),
        };
        let end = rustix::fs::seek(file, SeekFrom::Hole(start))?.min(size);
        if start >= end || extents.len() >= EXTENTS {
            return Ok(None);
        }
        extents.push(Extent {
            offset: start,
            size: end - start,
        });
        position = end;
    }
    Ok(Some(extents))
}

fn xattrs_of_fd(fd: &impl AsFd) -> io::Result<Vec<Xattr>> {
    collect_xattrs(
        |buffer| rustix::fs::flistxattr(fd, buffer),
        |name, buffer| rustix::fs::fgetxattr(fd, name, buffer),
    )
}

fn xattrs_of_path(path: &Path) -> io::Result<Vec<Xattr>> {
    collect_xattrs(
        |buffer| rustix::fs::llistxattr(path, buffer),
        |name, buffer| rustix::fs::lgetxattr(path, name, buffer),
    )
}

fn collect_xattrs(
    mut list: impl FnMut(&mut [u8]) -> rustix::io::Result<usize>,
    mut get: impl FnMut(&CStr, &mut [u8]) -> rustix::io::Result<usize>,
) -> io::Result<Vec<Xattr>> {
    let names = match whole(&mut list) {
        Ok(names) => names,
        Err(rustix::io::Errno::OPNOTSUPP) => return Ok(Vec::new()),
        Err(error) => return Err(error.into()),
    };
    let mut xattrs = Vec::new();
    for name in names.split(|byte| *byte == 0) {
        if name.is_empty() || name == HOST_LABEL {
            continue;
        }
        let Ok(c_name) = CString::new(name) else {
            continue;
        };
        match whole(&mut |buffer: &mut [u8]| get(&c_name, buffer)) {
            Ok(value) => xattrs.push((name.to_vec(), value)),
            // Removed meanwhile, or listed but not for us to see.
            Err(rustix::io::Errno::NODATA | rustix::io::Errno::PERM | rustix::io::Errno::ACCESS) => {}
            Err(error) => return Err(error.into()),
        }
    }
    xattrs.sort_unstable();
    Ok(xattrs)
}

/// Reads something whose size is not known, with a buffer that grows until it is large enough.
fn whole(read: &mut impl FnMut(&mut [u8]) -> rustix::io::Result<usize>) -> rustix::io::Result<Vec<u8>> {
    // Twice what Linux allows for a value or a list of names.
    const LIMIT: usize = 128 << 10;
    let mut buffer = vec![0; 256];
    loop {
        match read(&mut buffer) {
            Ok(bytes) => {
                buffer.truncate(bytes);
                return Ok(buffer);
            }
            Err(rustix::io::Errno::RANGE) if buffer.len() < LIMIT => buffer.resize(buffer.len() * 8, 0),
            Err(error) => return Err(error),
        }
    }
}
