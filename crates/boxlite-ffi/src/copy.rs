//! Copying between host and box.

use std::ffi::{c_char, c_int};
use std::sync::Arc;

use boxlite::CopyOptions;

use crate::boxes::BoxObject;
use crate::code::boxlite_code_t;
use crate::error::{boundary, boxlite_error_t};
use crate::handle::{self, boxlite_box_t, boxlite_op_t};
use crate::json;
use crate::op::{self, Outcome};
use crate::stream::{self, CallersInput, CallersOutput};
use crate::text::{Out, optional, path, required};

/// `boxlite_box_copy_in`
///
/// # Safety
/// The texts are NULL or C strings; `op` and `error` are NULL or valid for writing.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn boxlite_box_copy_in(
    r#box: boxlite_box_t,
    host_path: *const c_char,
    box_path: *const c_char,
    options_json: *const c_char,
    op: *mut boxlite_op_t,
    error: *mut *mut boxlite_error_t,
) -> boxlite_code_t {
    let body = || {
        // SAFETY: this function's own contract.
        let (out, source, destination, text) = unsafe {
            let out = Out::new("op", op)?;
            let source = path("host_path", host_path)?;
            (
                out,
                source,
                required("box_path", box_path)?,
                optional("options_json", options_json)?,
            )
        };
        let found: Arc<BoxObject> = handle::get(r#box)?;
        let options: CopyOptions = json::parse("CopyOptions", text.as_deref())?;
        let open = found.check_open();
        let spec = found.spec("box_copy_in");
        let target = Arc::clone(&found);
        op::start(found.client(), spec, out, async move {
            open?;
            Outcome::json(&target.handle().copy_in(&source, &destination, options).await?)
        })
    };
    // SAFETY: this function's own contract.
    unsafe { boundary("box_copy_in", error, body) }
}

/// `boxlite_box_copy_out`
///
/// # Safety
/// The texts are NULL or C strings; `op` and `error` are NULL or valid for writing.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn boxlite_box_copy_out(
    r#box: boxlite_box_t,
    box_path: *const c_char,
    host_path: *const c_char,
    options_json: *const c_char,
    op: *mut boxlite_op_t,
    error: *mut *mut boxlite_error_t,
) -> boxlite_code_t {
    let body = || {
        // SAFETY: this function's own contract.
        let (out, source, destination, text) = unsafe {
            let out = Out::new("op", op)?;
            let destination = path("host_path", host_path)?;
            (
                out,
                required("box_path", box_path)?,
                destination,
                optional("options_json", options_json)?,
            )
        };
        let found: Arc<BoxObject> = handle::get(r#box)?;
        let options: CopyOptions = json::parse("CopyOptions", text.as_deref())?;
        let open = found.check_open();
        let spec = found.spec("box_copy_out");
        let target = Arc::clone(&found);
        op::start(found.client(), spec, out, async move {
            open?;
            Outcome::json(&target.handle().copy_out(&source, &destination, options).await?)
        })
    };
    // SAFETY: this function's own contract.
    unsafe { boundary("box_copy_out", error, body) }
}

/// `boxlite_box_copy_in_tar`
///
/// # Safety
/// The texts are NULL or C strings; `op` and `error` are NULL or valid for writing.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn boxlite_box_copy_in_tar(
    r#box: boxlite_box_t,
    fd: c_int,
    box_path: *const c_char,
    options_json: *const c_char,
    op: *mut boxlite_op_t,
    error: *mut *mut boxlite_error_t,
) -> boxlite_code_t {
    let body = || {
        // SAFETY: this function's own contract.
        let (out, destination, text) = unsafe {
            let out = Out::new("op", op)?;
            (
                out,
                required("box_path", box_path)?,
                optional("options_json", options_json)?,
            )
        };
        let found: Arc<BoxObject> = handle::get(r#box)?;
        let options: CopyOptions = json::parse("CopyOptions", text.as_deref())?;
        let input = stream::taken("fd", fd)?;
        let open = found.check_open();
        let spec = found.spec("box_copy_in_tar");
        let target = Arc::clone(&found);
        op::start(found.client(), spec, out, async move {
            open?;
            let tar = CallersInput::new(input)?;
            Outcome::json(&target.handle().copy_in_tar(tar, &destination, options).await?)
        })
    };
    // SAFETY: this function's own contract.
    unsafe { boundary("box_copy_in_tar", error, body) }
}

/// `boxlite_box_copy_out_tar`
///
/// # Safety
/// The texts are NULL or C strings; `op` and `error` are NULL or valid for writing.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn boxlite_box_copy_out_tar(
    r#box: boxlite_box_t,
    box_path: *const c_char,
    fd: c_int,
    options_json: *const c_char,
    op: *mut boxlite_op_t,
    error: *mut *mut boxlite_error_t,
) -> boxlite_code_t {
    let body = || {
        // SAFETY: this function's own contract.
        let (out, source, text) = unsafe {
            let out = Out::new("op", op)?;
            (
                out,
                required("box_path", box_path)?,
                optional("options_json", options_json)?,
            )
        };
        let found: Arc<BoxObject> = handle::get(r#box)?;
        let options: CopyOptions = json::parse("CopyOptions", text.as_deref())?;
        let output = stream::taken("fd", fd)?;
        let open = found.check_open();
        let spec = found.spec("box_copy_out_tar");
        let target = Arc::clone(&found);
        op::start(found.client(), spec, out, async move {
            open?;
            let tar = target.handle().copy_out_tar(&source, options).await?;
            CallersOutput::new(output)?.write_all_of(tar).await?;
            Ok(Outcome::Nothing)
        })
    };
    // SAFETY: this function's own contract.
    unsafe { boundary("box_copy_out_tar", error, body) }
}
