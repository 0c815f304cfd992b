//! Operations: work that goes on, whose end is announced.

use std::ffi::c_char;
use std::panic::AssertUnwindSafe;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use futures_util::FutureExt;
use tokio_util::sync::CancellationToken;

use crate::client::ClientObject;
use crate::code::{Code, boxlite_code_t};
use crate::error::{Failure, boundary, boxlite_error_t, guarded, report};
use crate::handle::{self, Object, boxlite_op_t};
use crate::progress::ProgressState;
use crate::runtime;
use crate::text::{Out, give};

/// What an operation gives when it succeeds.
#[derive(Debug)]
pub(crate) enum Outcome {
    Nothing,
    Json(String),
    /// What gets a handle when it is asked for, once.
    Object(Option<Object>),
}

impl Outcome {
    /// A result as JSON.
    pub(crate) fn json<T: serde::Serialize>(value: &T) -> Result<Self, Failure> {
        match serde_json::to_string(value) {
            Ok(text) => Ok(Self::Json(text)),
            Err(error) => Err(Failure::new(Code::Internal, format!("the result is no JSON: {error}"))),
        }
    }
}

#[derive(Debug)]
enum Phase {
    Running,
    Ended(Result<Outcome, Failure>),
    Freed,
}

#[derive(Debug)]
struct State {
    phase: Phase,
    /// Its place among the completions that nobody took yet.
    place: Option<u64>,
}

/// What an operation is, beside its work.
#[derive(Debug)]
pub(crate) struct Spec {
    pub(crate) operation: &'static str,
    pub(crate) box_name: Option<String>,
    pub(crate) progress: Option<Arc<ProgressState>>,
    /// Whether cancelling it, or closing its client, stops its work.
    pub(crate) stops: bool,
}

impl Spec {
    pub(crate) fn new(operation: &'static str) -> Self {
        Self {
            operation,
            box_name: None,
            progress: None,
            stops: true,
        }
    }

    pub(crate) fn about(mut self, box_name: &str) -> Self {
        self.box_name = Some(box_name.to_owned());
        self
    }

    pub(crate) fn with_progress(mut self, progress: &Arc<ProgressState>) -> Self {
        self.progress = Some(Arc::clone(progress));
        self
    }
}

/// An operation.
#[derive(Debug)]
pub(crate) struct Op {
    client: Arc<ClientObject>,
    handle: OnceLock<boxlite_op_t>,
    spec: Spec,
    cancel: CancellationToken,
    state: Mutex<State>,
    ended: Condvar,
}

/// Starts `work` as an operation of `client`, and gives its handle.
pub(crate) fn start(
    client: &Arc<ClientObject>,
    spec: Spec,
    out: Out<boxlite_op_t>,
    work: impl Future<Output = Result<Outcome, Failure>> + Send + 'static,
) -> Result<(), Failure> {
    let runtime = runtime::get().map_err(|error| Failure::system("starting threads", error))?;
    let stops = spec.stops;
    let op = Arc::new(Op {
        client: Arc::clone(client),
        handle: OnceLock::new(),
        spec,
        cancel: CancellationToken::new(),
        state: Mutex::new(State {
            phase: Phase::Running,
            place: None,
        }),
        ended: Condvar::new(),
    });
    let handle = client.adopt(Object::Op(Arc::clone(&op)))?;
    let handle = *op.handle.get_or_init(|| handle);
    // Before the work begins: it may be announced at once.
    out.write(handle);
    let task = run(Arc::clone(&op), Box::pin(work));
    if stops {
        runtime.spawn(client.tasks().track_future(task));
    } else {
        runtime.spawn(task);
    }
    Ok(())
}

/// Drives the work to its end, which may be that it is dropped.
async fn run(op: Arc<Op>, work: impl Future<Output = Result<Outcome, Failure>> + Send + Unpin) {
    let closing = op.client.closing();
    let stops = op.spec.stops;
    let stoppable = async {
        // The work belongs to this block: it is gone, or has ended, when the block gives its value.
        let mut work = work;
        tokio::select! {
            biased;
            result = &mut work => result,
            () = op.cancel.cancelled(), if stops => Err(Failure::new(Code::Cancelled, "the operation was cancelled")),
            () = closing.cancelled(), if stops => Err(Failure::closed()),
        }
    };
    let result = AssertUnwindSafe(stoppable)
        .catch_unwind()
        .await
        .unwrap_or_else(|payload| Err(Failure::panic(payload.as_ref())));
    // What fails while all is taken down fails for that reason, whatever it says.
    op.end(match result {
        Err(_) if stops && closing.is_cancelled() => Err(Failure::closed()),
        other => other,
    });
}

/// What waiting for an operation gave.
enum Waited {
    Pending,
    Ended(Result<(), Failure>),
}

impl Op {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn freed() -> Failure {
        Failure::state("this operation handle was freed")
    }

    fn end(&self, result: Result<Outcome, Failure>) {
        let result = result.map_err(|failure| failure.of_box(self.spec.box_name.as_deref()));
        let unwanted = {
            let mut state = self.lock();
            match state.phase {
                Phase::Running => {
                    state.phase = Phase::Ended(result);
                    if let Some(handle) = self.handle.get() {
                        state.place = self.client.completions().announce(*handle);
                    }
                    None
                }
                _ => Some(result),
            }
        };
        self.ended.notify_all();
        // Ending what it was, an execution for one, needs no lock.
        drop(unwanted);
    }

    /// What freeing its handle does.
    pub(crate) fn discard(&self) {
        self.cancel.cancel();
        let phase = {
            let mut state = self.lock();
            if let Some(place) = state.place.take() {
                self.client.completions().withdraw(place);
            }
            std::mem::replace(&mut state.phase, Phase::Freed)
        };
        self.ended.notify_all();
        drop(phase);
    }

    fn wait(&self, timeout: Option<Duration>) -> Result<Waited, Failure> {
        let deadline = timeout.and_then(|timeout| Instant::now().checked_add(timeout));
        let mut state = self.lock();
        loop {
            match &state.phase {
                Phase::Ended(Ok(_)) => return Ok(Waited::Ended(Ok(()))),
                Phase::Ended(Err(failure)) => return Ok(Waited::Ended(Err(failure.clone()))),
                Phase::Freed => return Err(Self::freed()),
                Phase::Running => {}
            }
            state = match deadline {
                None => self.ended.wait(state).unwrap_or_else(PoisonError::into_inner),
                Some(deadline) => {
                    let left = deadline.saturating_duration_since(Instant::now());
                    if left.is_zero() {
                        return Ok(Waited::Pending);
                    }
                    let waited = self.ended.wait_timeout(state, left);
                    waited.unwrap_or_else(PoisonError::into_inner).0
                }
            };
        }
    }

    /// Works with the result of an operation that has succeeded.
    fn with_outcome<T>(&self, then: impl FnOnce(&mut Outcome) -> Result<T, Failure>) -> Result<T, Failure> {
        match &mut self.lock().phase {
            Phase::Ended(Ok(outcome)) => then(outcome),
            Phase::Ended(Err(_)) => Err(Failure::state("the operation failed: it has no result")),
            Phase::Running => Err(Failure::state("the operation has not ended yet")),
            Phase::Freed => Err(Self::freed()),
        }
    }
}

/// `boxlite_op_wait`
///
/// # Safety
/// `error` is NULL or valid for writing a pointer.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn boxlite_op_wait(
    op: boxlite_op_t,
    timeout_ms: i64,
    error: *mut *mut boxlite_error_t,
) -> boxlite_code_t {
    let mut operation = "op_wait";
    let waited = guarded(|| {
        let op: Arc<Op> = handle::get(op)?;
        let waited = op.wait(u64::try_from(timeout_ms).ok().map(Duration::from_millis))?;
        operation = op.spec.operation;
        Ok(waited)
    });
    let result = match waited {
        Ok(Waited::Pending) => return Code::Pending.number(),
        Ok(Waited::Ended(result)) => result,
        Err(failure) => Err(failure),
    };
    // SAFETY: this function's own contract.
    unsafe { report(operation, error, result) }
}

/// `boxlite_op_cancel`
///
/// # Safety
/// `error` is NULL or valid for writing a pointer.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn boxlite_op_cancel(op: boxlite_op_t, error: *mut *mut boxlite_error_t) -> boxlite_code_t {
    let body = || {
        handle::get::<Arc<Op>>(op)?.cancel.cancel();
        Ok(())
    };
    // SAFETY: this function's own contract.
    unsafe { boundary("op_cancel", error, body) }
}

/// `boxlite_op_result_handle`
///
/// # Safety
/// `handle` and `error` are NULL or valid for writing.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn boxlite_op_result_handle(
    op: boxlite_op_t,
    handle: *mut u64,
    error: *mut *mut boxlite_error_t,
) -> boxlite_code_t {
    let body = || {
        // SAFETY: this function's own contract.
        let out = unsafe { Out::new("handle", handle) }?;
        let op: Arc<Op> = handle::get(op)?;
        let object = op.with_outcome(|outcome| match outcome {
            Outcome::Object(object) => object
                .take()
                .ok_or_else(|| Failure::state("the operation's handle was taken already")),
            _ => Err(Failure::state(format!("{} gives no handle", op.spec.operation))),
        })?;
        out.write(op.client.adopt(object)?);
        Ok(())
    };
    // SAFETY: this function's own contract.
    unsafe { boundary("op_result_handle", error, body) }
}

/// `boxlite_op_result_json`
///
/// # Safety
/// `json` and `error` are NULL or valid for writing.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn boxlite_op_result_json(
    op: boxlite_op_t,
    json: *mut *mut c_char,
    error: *mut *mut boxlite_error_t,
) -> boxlite_code_t {
    let body = || {
        // SAFETY: this function's own contract.
        let out = unsafe { Out::new("json", json) }?;
        let op: Arc<Op> = handle::get(op)?;
        let text = op.with_outcome(|outcome| {
            Ok(match outcome {
                Outcome::Json(text) => give(text.as_str()),
                _ => give("null"),
            })
        })?;
        out.write(text);
        Ok(())
    };
    // SAFETY: this function's own contract.
    unsafe { boundary("op_result_json", error, body) }
}

/// `boxlite_op_progress_json`
///
/// # Safety
/// `json` and `error` are NULL or valid for writing.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn boxlite_op_progress_json(
    op: boxlite_op_t,
    json: *mut *mut c_char,
    error: *mut *mut boxlite_error_t,
) -> boxlite_code_t {
    let body = || {
        // SAFETY: this function's own contract.
        let out = unsafe { Out::new("json", json) }?;
        let op: Arc<Op> = handle::get(op)?;
        out.write(give(match &op.spec.progress {
            Some(progress) => progress.json()?,
            None => "null".to_owned(),
        }));
        Ok(())
    };
    // SAFETY: this function's own contract.
    unsafe { boundary("op_progress_json", error, body) }
}

/// `boxlite_op_free`
#[unsafe(no_mangle)]
pub extern "C" fn boxlite_op_free(op: boxlite_op_t) -> boxlite_code_t {
    let body = || {
        let removed: Arc<Op> = handle::remove(op)?;
        removed.client.forget(op);
        removed.discard();
        Ok(())
    };
    // SAFETY: NULL as the error is always allowed.
    unsafe { boundary("op_free", std::ptr::null_mut(), body) }
}
