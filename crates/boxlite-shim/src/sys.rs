//! What the supervisor was started with: descriptors and a signal mask.

use std::os::fd::{FromRawFd as _, OwnedFd, RawFd};
use std::sync::atomic::{AtomicBool, Ordering};

use boxlite_shim::{CONFIG_FD, LOCK_FD, PARENT_FD, STATUS_FD};

static TAKEN: AtomicBool = AtomicBool::new(false);

/// What [`boxlite_shim::Launch`] hands over. A field is `None` when nothing is open there.
#[derive(Debug)]
pub(crate) struct Inherited {
    pub(crate) config: Option<OwnedFd>,
    pub(crate) status: Option<OwnedFd>,
    pub(crate) lock: Option<OwnedFd>,
    pub(crate) parent: Option<OwnedFd>,
}

impl Inherited {
    /// Takes them over and keeps them from programs that are run later. `None` the second
    /// time. Must come before anything that opens a descriptor, which could get one of
    /// their numbers.
    pub(crate) fn take() -> Option<Self> {
        if TAKEN.swap(true, Ordering::SeqCst) {
            return None;
        }
        Some(Self {
            config: owned(CONFIG_FD),
            status: owned(STATUS_FD),
            lock: owned(LOCK_FD),
            parent: owned(PARENT_FD),
        })
    }
}

/// Lets all signals through. A program inherits the mask of the thread that started it, and
/// those of a library that leaves signals to its program block them all.
pub(crate) fn accept_signals() {
    let mut none = std::mem::MaybeUninit::uninit();
    // SAFETY: sigemptyset(3) initializes the set that it is given and can't fail for a valid
    // pointer; the old mask is not wanted.
    unsafe {
        libc::sigemptyset(none.as_mut_ptr());
        libc::pthread_sigmask(libc::SIG_SETMASK, none.as_ptr(), std::ptr::null_mut());
    }
}

fn owned(number: RawFd) -> Option<OwnedFd> {
    // SAFETY: fcntl with F_SETFD touches no memory, and fails for a number that isn't open.
    let open = unsafe { libc::fcntl(number, libc::F_SETFD, libc::FD_CLOEXEC) } != -1;
    // SAFETY: it is open, and `TAKEN` sees to it that it is taken once.
    open.then(|| unsafe { OwnedFd::from_raw_fd(number) })
}
