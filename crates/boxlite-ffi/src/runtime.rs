//! The one runtime of the process, on which all work is done.

use std::io;
use std::mem::MaybeUninit;
use std::sync::{Mutex, OnceLock, PoisonError};

use tokio::runtime::{Builder, Runtime};

/// Threads that drive operations. What blocks has threads of its own.
const MIN_WORKERS: usize = 2;
const MAX_WORKERS: usize = 8;

/// The runtime; started at the first call, never stopped.
pub(crate) fn get() -> io::Result<&'static Runtime> {
    static RUNTIME: OnceLock<Runtime> = OnceLock::new();
    static STARTING: Mutex<()> = Mutex::new(());
    if let Some(runtime) = RUNTIME.get() {
        return Ok(runtime);
    }
    let _starting = STARTING.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(runtime) = RUNTIME.get() {
        return Ok(runtime);
    }
    let runtime = start()?;
    Ok(RUNTIME.get_or_init(|| runtime))
}

fn start() -> io::Result<Runtime> {
    let workers = std::thread::available_parallelism().map_or(MIN_WORKERS, |count| count.get());
    // A thread begins with its creator's mask, so that no signal finds it before it has set its own.
    let _mask = BlockedSignals::enter();
    Builder::new_multi_thread()
        .enable_all()
        .worker_threads(workers.clamp(MIN_WORKERS, MAX_WORKERS))
        .thread_name("boxlite")
        .on_thread_start(block_signals)
        .build()
}

fn all_signals() -> libc::sigset_t {
    let mut set = MaybeUninit::uninit();
    // SAFETY: sigfillset(3) initializes the whole set that it is given and can't fail for a
    // valid pointer.
    unsafe {
        libc::sigfillset(set.as_mut_ptr());
        set.assume_init()
    }
}

/// Signals of the process are for the program's own threads; also SIGPIPE, whose write then
/// fails with EPIPE.
fn block_signals() {
    let all = all_signals();
    // SAFETY: both are valid for the call: a set that is initialized, and NULL where the old
    // mask is not wanted. It changes the calling thread only.
    unsafe {
        libc::pthread_sigmask(libc::SIG_BLOCK, &raw const all, std::ptr::null_mut());
    }
}

/// Blocks all signals for the calling thread until it is dropped.
pub(crate) struct BlockedSignals {
    before: libc::sigset_t,
}

impl BlockedSignals {
    pub(crate) fn enter() -> Self {
        let all = all_signals();
        // A set with anything in it, for the case that the call below could fail.
        let mut before = all;
        // SAFETY: both point to sets that are initialized; it changes the calling thread only.
        unsafe {
            libc::pthread_sigmask(libc::SIG_BLOCK, &raw const all, &raw mut before);
        }
        Self { before }
    }
}

impl Drop for BlockedSignals {
    fn drop(&mut self) {
        // SAFETY: the mask that `enter` saved; the guard does not leave its thread, since the
        // function that makes it drops it.
        unsafe {
            libc::pthread_sigmask(libc::SIG_SETMASK, &raw const self.before, std::ptr::null_mut());
        }
    }
}
