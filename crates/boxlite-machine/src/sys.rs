//! The calls that the language can't check, for the process that becomes the engine.

use std::os::fd::{FromRawFd as _, OwnedFd, RawFd};

use rustix::io::Errno;
use rustix::thread::UnshareFlags;

/// Takes over an inherited descriptor; `None` when nothing is open there. Each number may
/// be taken once in a process, before anything else opens descriptors.
pub(crate) fn inherited(number: RawFd) -> Option<OwnedFd> {
    // SAFETY: F_GETFD touches no memory and fails for a number that isn't open.
    let open = unsafe { libc::fcntl(number, libc::F_GETFD) } != -1;
    // SAFETY: the descriptor is open, and the one caller takes each number once.
    open.then(|| unsafe { OwnedFd::from_raw_fd(number) })
}

/// Sees to it that descriptors from `first` on don't survive an exec.
pub(crate) fn close_on_exec_from(first: RawFd) -> Result<(), Errno> {
    let first = libc::c_uint::try_from(first).map_err(|_| Errno::BADF)?;
    // SAFETY: the call touches no memory; it changes flags of descriptors only.
    let done = unsafe {
        libc::syscall(
            libc::SYS_close_range,
            first,
            libc::c_uint::MAX,
            libc::CLOSE_RANGE_CLOEXEC,
        )
    };
    if done == 0 {
        return Ok(());
    }
    // Kernels before 5.11 don't know the flag.
    let limit = rustix::process::getrlimit(rustix::process::Resource::Nofile)
        .current
        .unwrap_or(1 << 20);
    for number in first..libc::c_uint::try_from(limit).unwrap_or(libc::c_uint::MAX) {
        // SAFETY: F_SETFD touches no memory and fails for a number that isn't open.
        unsafe { libc::fcntl(number as RawFd, libc::F_SETFD, libc::FD_CLOEXEC) };
    }
    Ok(())
}

/// Moves this thread, which must be the process's only one, into new name spaces.
pub(crate) fn unshare(flags: UnshareFlags) -> Result<(), Errno> {
    debug_assert!(!flags.intersects(UnshareFlags::FILES | UnshareFlags::FS));
    // SAFETY: only the descriptor table must not be taken away from other owners of its
    // descriptors, and FILES is not among the flags.
    unsafe { rustix::thread::unshare_unsafe(flags) }
}

/// Makes the mount at `path` read-only, with all mounts below it.
pub(crate) fn make_mounts_read_only(path: &std::path::Path) -> Result<(), Errno> {
    use std::os::unix::ffi::OsStrExt as _;

    let path = std::ffi::CString::new(path.as_os_str().as_bytes()).map_err(|_| Errno::INVAL)?;
    let attributes = libc::mount_attr {
        attr_set: libc::MOUNT_ATTR_RDONLY,
        attr_clr: 0,
        propagation: 0,
        userns_fd: 0,
    };
    // SAFETY: the kernel reads a string that ends with NUL, and a structure of the size that it
    // is told; both live until the call returns.
    let done = unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            libc::AT_FDCWD,
            path.as_ptr(),
            libc::AT_RECURSIVE | libc::AT_SYMLINK_NOFOLLOW,
            &raw const attributes,
            size_of::<libc::mount_attr>(),
        )
    };
    if done == 0 {
        return Ok(());
    }
    let error = std::io::Error::last_os_error();
    Err(Errno::from_io_error(&error).unwrap_or(Errno::IO))
}

/// The processor's time stamp counter (RDTSC); `None` where there is none.
pub(crate) fn time_stamp_counter() -> Option<u64> {
    #[cfg(target_arch = "x86_64")]
    {
        // SAFETY: every x86-64 processor has the instruction; it reads a register. Only a process
        // that forbade it to itself (PR_SET_TSC of prctl(2)) may not; this one never does.
        Some(unsafe { core::arch::x86_64::_rdtsc() })
    }
    #[cfg(not(target_arch = "x86_64"))]
    None
}
