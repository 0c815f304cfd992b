//! What a home needs of the file system that it is on, found out by trying.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::Path;

use crate::sys::{self, LockKind};

/// The virtual size of every disk of a machine: what a sparse file must be able to have. The
/// disk crate has the same figure; see [`Home::open`](crate::Home::open).
pub(crate) const SPARSE_FILE_BYTES: u64 = 1 << 40;

/// More than this for a file of nothing but a hole means that there are no holes.
const LARGEST_EMPTY_ALLOCATION: u64 = 1 << 20;

/// Below this much free space a home warns.
const LOW_SPACE_BYTES: u64 = 512 << 20;

/// What a file system lacks, with the evidence. It can't hold a home.
#[derive(Debug, thiserror::Error)]
pub enum FileSystemDefect {
    /// Locks of open file descriptions fail.
    #[error("it has no open file description locks ({source})")]
    NoLocks {
        /// What fcntl(2) said.
        source: io::Error,
    },
    /// A lock that is held can be taken again.
    #[error("its locks keep nobody out: an exclusive lock could be taken twice")]
    LocksWithoutEffect,
    /// A file of the size of a disk can't be made.
    #[error("it can't hold a sparse file of {bytes} bytes ({source})")]
    NoLargeFiles {
        /// The size that was tried.
        bytes: u64,
        /// What ftruncate(2) said.
        source: io::Error,
    },
    /// Holes take space.
    #[error("it has no sparse files: one hole of {bytes} bytes took {allocated_bytes} bytes")]
    NoSparseFiles {
        /// The size that was tried.
        bytes: u64,
        /// What it took.
        allocated_bytes: u64,
    },
    /// This process may not make large files.
    #[error("this process may not make files larger than {limit_bytes} bytes (ulimit -f), {bytes} are needed")]
    FileSizeLimit {
        /// The soft limit RLIMIT_FSIZE.
        limit_bytes: u64,
        /// What is needed.
        bytes: u64,
    },
    /// Not even a small file can be made.
    #[error("no file can be made in it ({source})")]
    NotWritable {
        /// What the system said.
        source: io::Error,
    },
}

/// What may go wrong later, though the home opens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum HomeWarning {
    /// SQLite's write-ahead log needs memory shared between all users of the home; that does
    /// not work between two computers.
    NetworkFileSystem {
        /// Such as `nfs`.
        kind: &'static str,
    },
    /// Little space is left.
    LowSpace {
        /// How much is left to this user.
        available_bytes: u64,
    },
}

impl std::fmt::Display for HomeWarning {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            HomeWarning::NetworkFileSystem { kind } => write!(
                formatter,
                "the home is on a network or shared file system ({kind}): \
                 it works on one computer at a time only; set BOXLITE_HOME to a local folder"
            ),
            HomeWarning::LowSpace { available_bytes } => {
                write!(
                    formatter,
                    "only {} MiB are free on the home's file system",
                    available_bytes >> 20
                )
            }
        }
    }
}

/// The space of the file system that holds a home.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FreeSpace {
    /// Everything.
    pub total_bytes: u64,
    /// What this user may still fill.
    pub available_bytes: u64,
}

pub(crate) fn free_space(path: &Path) -> io::Result<FreeSpace> {
    let statistics = rustix::fs::statvfs(path)?;
    Ok(FreeSpace {
        total_bytes: statistics.f_blocks.saturating_mul(statistics.f_frsize),
        available_bytes: statistics.f_bavail.saturating_mul(statistics.f_frsize),
    })
}

/// What stays the same for as long as the home is on the same mounted file system.
pub(crate) fn identity(path: &Path) -> io::Result<String> {
    let kind = rustix::fs::statfs(path)?.f_type;
    let device = std::fs::metadata(path)?.dev();
    Ok(format!("1:{kind:x}:{device:x}"))
}

#[cfg(target_os = "linux")]
fn network_kind(path: &Path) -> io::Result<Option<&'static str>> {
    // The magic numbers of statfs(2) and include/uapi/linux/magic.h. The field's type differs
    // between architectures and some magic numbers have the highest bit set.
    let magic = rustix::fs::statfs(path)?.f_type as u32;
    Ok(match magic {
        0x6969 => Some("nfs"),
        0xff53_4d42 => Some("cifs"),
        0xfe53_4d42 => Some("smb2"),
        0x517b => Some("smb"),
        0x0102_1997 => Some("9p"),
        0x5346_414f => Some("afs"),
        0x6b41_4653 => Some("kafs"),
        0x7375_7245 => Some("coda"),
        0x00c3_6400 => Some("ceph"),
        0x786f_4256 => Some("vboxsf"),
        0x6573_5546 => Some("fuse"),
        0x0bd0_0bd0 => Some("lustre"),
        0x4750_4653 => Some("gpfs"),
        0x0116_1970 => Some("gfs2"),
        0x7461_636f => Some("ocfs2"),
        _ => None,
    })
}

#[cfg(not(target_os = "linux"))]
fn network_kind(_path: &Path) -> io::Result<Option<&'static str>> {
    Ok(None)
}

pub(crate) fn warnings(path: &Path) -> io::Result<Vec<HomeWarning>> {
    let mut warnings = Vec::new();
    if let Some(kind) = network_kind(path)? {
        warnings.push(HomeWarning::NetworkFileSystem { kind });
    }
    let FreeSpace { available_bytes, .. } = free_space(path)?;
    if available_bytes < LOW_SPACE_BYTES {
        warnings.push(HomeWarning::LowSpace { available_bytes });
    }
    Ok(warnings)
}

/// Tries locks and holes on a file of its own in `directory`, and deletes it.
pub(crate) fn check(directory: &Path) -> Result<(), FileSystemDefect> {
    let not_writable = |source| FileSystemDefect::NotWritable { source };
    let name = format!("check-{}", crate::box_id::random_hex().map_err(not_writable)?);
    let path = directory.join(name);
    let open = || {
        OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(&path)
    };
    let result = open()
        .and_then(|first| Ok((first, open()?)))
        .map_err(not_writable)
        .and_then(|(first, second)| {
            check_locks(&first, &second)?;
            check_holes(&first)
        });
    match std::fs::remove_file(&path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound && result.is_ok() => Err(not_writable(error)),
        _ => result,
    }
}

fn check_locks(first: &File, second: &File) -> Result<(), FileSystemDefect> {
    let no_locks = |source| FileSystemDefect::NoLocks { source };
    if !sys::try_lock(first, LockKind::Exclusive).map_err(no_locks)? {
        return Err(no_locks(io::Error::from(io::ErrorKind::WouldBlock)));
    }
    if sys::try_lock(second, LockKind::Exclusive).map_err(no_locks)? {
        return Err(FileSystemDefect::LocksWithoutEffect);
    }
    Ok(())
}

fn check_holes(file: &File) -> Result<(), FileSystemDefect> {
    let bytes = SPARSE_FILE_BYTES;
    // Beyond the limit the kernel would end this process with SIGXFSZ.
    if let Some(limit_bytes) = rustix::process::getrlimit(rustix::process::Resource::Fsize).current
        && limit_bytes < bytes
    {
        return Err(FileSystemDefect::FileSizeLimit { limit_bytes, bytes });
    }
    file.set_len(bytes)
        .map_err(|source| FileSystemDefect::NoLargeFiles { bytes, source })?;
    let metadata = file
        .metadata()
        .map_err(|source| FileSystemDefect::NotWritable { source })?;
    let allocated_bytes = metadata.blocks().saturating_mul(512);
    if allocated_bytes > LARGEST_EMPTY_ALLOCATION {
        return Err(FileSystemDefect::NoSparseFiles { bytes, allocated_bytes });
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_ordinary_file_system_passes_and_nothing_stays_behind() {
        let directory = tempfile::tempdir().unwrap();
        check(directory.path()).unwrap();
        assert_eq!(std::fs::read_dir(directory.path()).unwrap().count(), 0);
        let space = free_space(directory.path()).unwrap();
        assert!(space.available_bytes <= space.total_bytes && space.total_bytes > 0);
    }

    #[test]
    fn a_folder_that_is_not_there_is_reported() {
        let directory = tempfile::tempdir().unwrap();
        let defect = check(&directory.path().join("absent")).unwrap_err();
        assert!(matches!(defect, FileSystemDefect::NotWritable { .. }), "{defect}");
    }

    #[test]
    fn one_description_s_lock_keeps_another_out() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let second = file.reopen().unwrap();
        check_locks(file.as_file(), &second).unwrap();
        // A duplicate of one description is the same owner: what a broken file system looks like.
        let same = file.as_file().try_clone().unwrap();
        assert!(matches!(
            check_locks(file.as_file(), &same),
            Err(FileSystemDefect::LocksWithoutEffect)
        ));
    }

    #[test]
    fn no_file_system_without_an_entry_is_called_a_network() {
        assert_eq!(network_kind(Path::new("/proc")).unwrap(), None);
    }
}
