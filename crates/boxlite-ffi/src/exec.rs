//! Executions: processes in a box.

use std::ffi::{c_char, c_int};
use std::sync::Arc;

use boxlite::TerminalSize;

use crate::boxes::{self, BoxObject};
use crate::code::boxlite_code_t;
use crate::error::{boundary, boxlite_error_t};
use crate::execution::{ExecObject, StreamKind};
use crate::handle::{self, boxlite_box_t, boxlite_exec_t, boxlite_op_t};
use crate::json::{self, ExecOptions};
use crate::op::{self, Outcome};
use crate::pump::Streams;
use crate::text::{Out, optional};

/// `boxlite_exec_start`
///
/// # Safety
/// `options_json` is NULL or a C string; `op` and `error` are NULL or valid for writing.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn boxlite_exec_start(
    r#box: boxlite_box_t,
    options_json: *const c_char,
    op: *mut boxlite_op_t,
    error: *mut *mut boxlite_error_t,
) -> boxlite_code_t {
    let body = || {
        // SAFETY: this function's own contract.
        let (out, text) = unsafe { (Out::new("op", op)?, optional("options_json", options_json)?) };
        let found: Arc<BoxObject> = handle::get(r#box)?;
        let options: ExecOptions = json::parse("ExecOptions", text.as_deref())?;
        Streams::check_exec(&options)?;
        let open = found.check_open();
        let spec = found.spec("exec_start");
        let target = Arc::clone(&found);
        op::start(found.client(), spec, out, async move {
            open?;
            let streams = Streams::for_exec(&options)?;
            let execution = target.handle().exec(options.into_library()?).await?;
            ExecObject::outcome(&target, execution, streams)
        })
    };
    // SAFETY: this function's own contract.
    unsafe { boundary("exec_start", error, body) }
}

/// `boxlite_exec_pid`
///
/// # Safety
/// `pid` and `error` are NULL or valid for writing.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn boxlite_exec_pid(
    exec: boxlite_exec_t,
    pid: *mut i32,
    error: *mut *mut boxlite_error_t,
) -> boxlite_code_t {
    let body = || {
        // SAFETY: this function's own contract.
        let out = unsafe { Out::new("pid", pid) }?;
        out.write(handle::get::<Arc<ExecObject>>(exec)?.pid());
        Ok(())
    };
    // SAFETY: this function's own contract.
    unsafe { boundary("exec_pid", error, body) }
}

/// Gives one of the streams away.
///
/// # Safety
/// `fd` is NULL or valid for writing.
unsafe fn give_stream(exec: boxlite_exec_t, kind: StreamKind, fd: *mut c_int) -> Result<(), crate::error::Failure> {
    // SAFETY: this function's own contract.
    let out = unsafe { Out::new("fd", fd) }?;
    out.write(handle::get::<Arc<ExecObject>>(exec)?.take(kind)?);
    Ok(())
}

/// `boxlite_exec_stdin_fd`
///
/// # Safety
/// `fd` and `error` are NULL or valid for writing.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn boxlite_exec_stdin_fd(
    exec: boxlite_exec_t,
    fd: *mut c_int,
    error: *mut *mut boxlite_error_t,
) -> boxlite_code_t {
    // SAFETY: this function's own contract.
    unsafe { boundary("exec_stdin_fd", error, || give_stream(exec, StreamKind::Stdin, fd)) }
}

/// `boxlite_exec_stdout_fd`
///
/// # Safety
/// `fd` and `error` are NULL or valid for writing.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn boxlite_exec_stdout_fd(
    exec: boxlite_exec_t,
    fd: *mut c_int,
    error: *mut *mut boxlite_error_t,
) -> boxlite_code_t {
    // SAFETY: this function's own contract.
    unsafe { boundary("exec_stdout_fd", error, || give_stream(exec, StreamKind::Stdout, fd)) }
}

/// `boxlite_exec_stderr_fd`
///
/// # Safety
/// `fd` and `error` are NULL or valid for writing.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn boxlite_exec_stderr_fd(
    exec: boxlite_exec_t,
    fd: *mut c_int,
    error: *mut *mut boxlite_error_t,
) -> boxlite_code_t {
    // SAFETY: this function's own contract.
    unsafe { boundary("exec_stderr_fd", error, || give_stream(exec, StreamKind::Stderr, fd)) }
}

/// `boxlite_exec_stdin_close`
///
/// # Safety
/// `error` is NULL or valid for writing.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn boxlite_exec_stdin_close(
    exec: boxlite_exec_t,
    error: *mut *mut boxlite_error_t,
) -> boxlite_code_t {
    let body = || handle::get::<Arc<ExecObject>>(exec)?.close_stdin();
    // SAFETY: this function's own contract.
    unsafe { boundary("exec_stdin_close", error, body) }
}

/// `boxlite_exec_wait`
///
/// # Safety
/// `op` and `error` are NULL or valid for writing.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn boxlite_exec_wait(
    exec: boxlite_exec_t,
    op: *mut boxlite_op_t,
    error: *mut *mut boxlite_error_t,
) -> boxlite_code_t {
    let body = || {
        // SAFETY: this function's own contract.
        let out = unsafe { Out::new("op", op) }?;
        let found: Arc<ExecObject> = handle::get(exec)?;
        let open = found.client().session().map(drop);
        let waiting = found.wait();
        op::start(found.client(), found.spec("exec_wait"), out, async move {
            open?;
            Outcome::json(&waiting.await?)
        })
    };
    // SAFETY: this function's own contract.
    unsafe { boundary("exec_wait", error, body) }
}

/// `boxlite_exec_signal`
///
/// # Safety
/// `op` and `error` are NULL or valid for writing.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn boxlite_exec_signal(
    exec: boxlite_exec_t,
    signal: i32,
    op: *mut boxlite_op_t,
    error: *mut *mut boxlite_error_t,
) -> boxlite_code_t {
    let body = || {
        // SAFETY: this function's own contract.
        let out = unsafe { Out::new("op", op) }?;
        let found: Arc<ExecObject> = handle::get(exec)?;
        let telling = found.signal(boxes::signal(signal)?);
        let open = found.client().session().map(drop);
        op::start(found.client(), found.spec("exec_signal"), out, async move {
            open?;
            telling.await?;
            Ok(Outcome::Nothing)
        })
    };
    // SAFETY: this function's own contract.
    unsafe { boundary("exec_signal", error, body) }
}

/// `boxlite_exec_resize`
///
/// # Safety
/// `op` and `error` are NULL or valid for writing.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn boxlite_exec_resize(
    exec: boxlite_exec_t,
    rows: u16,
    columns: u16,
    op: *mut boxlite_op_t,
    error: *mut *mut boxlite_error_t,
) -> boxlite_code_t {
    let body = || {
        // SAFETY: this function's own contract.
        let out = unsafe { Out::new("op", op) }?;
        let found: Arc<ExecObject> = handle::get(exec)?;
        let telling = found.resize(TerminalSize { rows, columns });
        let open = found.client().session().map(drop);
        op::start(found.client(), found.spec("exec_resize"), out, async move {
            open?;
            telling.await?;
            Ok(Outcome::Nothing)
        })
    };
    // SAFETY: this function's own contract.
    unsafe { boundary("exec_resize", error, body) }
}

/// `boxlite_exec_free`
#[unsafe(no_mangle)]
pub extern "C" fn boxlite_exec_free(exec: boxlite_exec_t) -> boxlite_code_t {
    let body = || {
        let removed: Arc<ExecObject> = handle::remove(exec)?;
        removed.client().forget(exec);
        removed.release();
        Ok(())
    };
    // SAFETY: NULL as the error is always allowed.
    unsafe { boundary("exec_free", std::ptr::null_mut(), body) }
}
