//! The one system call that no safe wrapper offers: locks of open file descriptions,
//! fcntl(2) "Open file description locks (non-POSIX)".

use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;

/// What a lock lets others do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum LockKind {
    /// Others may hold it shared at the same time.
    Shared,
    /// Nobody else may hold it at all.
    Exclusive,
}

impl LockKind {
    fn fcntl_type(self) -> libc::c_int {
        match self {
            LockKind::Shared => libc::F_RDLCK,
            LockKind::Exclusive => libc::F_WRLCK,
        }
    }
}

fn whole_file(kind: libc::c_int) -> libc::flock {
    // SAFETY: `flock` is a plain C structure of integers, for which all zeros is a valid value
    // (and l_pid must be zero for the open-file-description commands).
    let mut lock: libc::flock = unsafe { std::mem::zeroed() };
    // The constants are small; the fields are short integers on every libc.
    lock.l_type = kind as _;
    lock.l_whence = libc::SEEK_SET as _;
    lock
}

fn fcntl(file: &File, command: libc::c_int, lock: &mut libc::flock) -> io::Result<()> {
    loop {
        // SAFETY: the descriptor is open for as long as `file` is borrowed, and `lock` is a
        // valid structure that the kernel reads, and writes only for F_OFD_GETLK.
        let result = unsafe { libc::fcntl(file.as_raw_fd(), command, std::ptr::from_mut(lock)) };
        if result == 0 {
            return Ok(());
        }
        let error = io::Error::last_os_error();
        if error.kind() != io::ErrorKind::Interrupted {
            return Err(error);
        }
    }
}

/// Takes the lock of `file`'s open file description without waiting; `false` if another
/// description holds it. Never blocks.
///
/// # Errors
/// What fcntl(2) says: `EINVAL` or `ENOLCK` where the file system has no such locks.
pub(crate) fn try_lock(file: &File, kind: LockKind) -> io::Result<bool> {
    match fcntl(file, libc::F_OFD_SETLK, &mut whole_file(kind.fcntl_type())) {
        Ok(()) => Ok(true),
        Err(error) if matches!(error.raw_os_error(), Some(libc::EAGAIN | libc::EACCES)) => Ok(false),
        Err(error) => Err(error),
    }
}

/// Whether another open file description holds a lock, of either kind, without taking it.
///
/// # Errors
/// What fcntl(2) says.
pub(crate) fn is_locked(file: &File) -> io::Result<bool> {
    let mut lock = whole_file(libc::F_WRLCK);
    fcntl(file, libc::F_OFD_GETLK, &mut lock)?;
    Ok(libc::c_int::from(lock.l_type) != libc::F_UNLCK)
}
