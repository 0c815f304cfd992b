//! Images.

use std::ffi::c_char;
use std::sync::Arc;

use boxlite::{LoadOptions, PullOptions};

use crate::client::ClientObject;
use crate::code::boxlite_code_t;
use crate::error::{boundary, boxlite_error_t};
use crate::handle::{self, boxlite_client_t, boxlite_op_t};
use crate::json::{self, ImageRemoveOptions};
use crate::op::{self, Outcome, Spec};
use crate::progress::ProgressState;
use crate::text::{Out, optional, required};

/// `boxlite_image_pull`
///
/// # Safety
/// The texts are NULL or C strings; `op` and `error` are NULL or valid for writing.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn boxlite_image_pull(
    client: boxlite_client_t,
    reference: *const c_char,
    options_json: *const c_char,
    op: *mut boxlite_op_t,
    error: *mut *mut boxlite_error_t,
) -> boxlite_code_t {
    let body = || {
        // SAFETY: this function's own contract.
        let (out, reference, text) = unsafe {
            let out = Out::new("op", op)?;
            (
                out,
                required("reference", reference)?,
                optional("options_json", options_json)?,
            )
        };
        let client: Arc<ClientObject> = handle::get(client)?;
        let options: PullOptions = json::parse("PullOptions", text.as_deref())?;
        let session = client.session();
        let progress = Arc::new(ProgressState::default());
        let spec = Spec::new("image_pull").with_progress(&progress);
        op::start(&client, spec, out, async move {
            let images = session?.images();
            Outcome::json(&images.pull(&reference, options, progress.function()).await?)
        })
    };
    // SAFETY: this function's own contract.
    unsafe { boundary("image_pull", error, body) }
}

/// `boxlite_image_load`
///
/// # Safety
/// As of [`boxlite_image_pull`].
#[unsafe(no_mangle)]
pub unsafe extern "C" fn boxlite_image_load(
    client: boxlite_client_t,
    source: *const c_char,
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
                required("source", source)?,
                optional("options_json", options_json)?,
            )
        };
        let client: Arc<ClientObject> = handle::get(client)?;
        let options: LoadOptions = json::parse("LoadOptions", text.as_deref())?;
        let session = client.session();
        let progress = Arc::new(ProgressState::default());
        let spec = Spec::new("image_load").with_progress(&progress);
        op::start(&client, spec, out, async move {
            let images = session?.images();
            Outcome::json(&images.load(&source, options, progress.function()).await?)
        })
    };
    // SAFETY: this function's own contract.
    unsafe { boundary("image_load", error, body) }
}

/// `boxlite_image_list`
///
/// # Safety
/// `op` and `error` are NULL or valid for writing.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn boxlite_image_list(
    client: boxlite_client_t,
    op: *mut boxlite_op_t,
    error: *mut *mut boxlite_error_t,
) -> boxlite_code_t {
    let body = || {
        // SAFETY: this function's own contract.
        let out = unsafe { Out::new("op", op) }?;
        let client: Arc<ClientObject> = handle::get(client)?;
        let session = client.session();
        op::start(&client, Spec::new("image_list"), out, async move {
            Outcome::json(&session?.images().list().await?)
        })
    };
    // SAFETY: this function's own contract.
    unsafe { boundary("image_list", error, body) }
}

/// `boxlite_image_get`
///
/// # Safety
/// As of [`boxlite_image_pull`].
#[unsafe(no_mangle)]
pub unsafe extern "C" fn boxlite_image_get(
    client: boxlite_client_t,
    reference: *const c_char,
    op: *mut boxlite_op_t,
    error: *mut *mut boxlite_error_t,
) -> boxlite_code_t {
    let body = || {
        // SAFETY: this function's own contract.
        let (out, reference) = unsafe { (Out::new("op", op)?, required("reference", reference)?) };
        let client: Arc<ClientObject> = handle::get(client)?;
        let session = client.session();
        op::start(&client, Spec::new("image_get"), out, async move {
            Outcome::json(&session?.images().get(&reference).await?)
        })
    };
    // SAFETY: this function's own contract.
    unsafe { boundary("image_get", error, body) }
}

/// `boxlite_image_remove`
///
/// # Safety
/// As of [`boxlite_image_pull`].
#[unsafe(no_mangle)]
pub unsafe extern "C" fn boxlite_image_remove(
    client: boxlite_client_t,
    reference: *const c_char,
    options_json: *const c_char,
    op: *mut boxlite_op_t,
    error: *mut *mut boxlite_error_t,
) -> boxlite_code_t {
    let body = || {
        // SAFETY: this function's own contract.
        let (out, reference, text) = unsafe {
            let out = Out::new("op", op)?;
            (
                out,
                required("reference", reference)?,
                optional("options_json", options_json)?,
            )
        };
        let client: Arc<ClientObject> = handle::get(client)?;
        let options: ImageRemoveOptions = json::parse("ImageRemoveOptions", text.as_deref())?;
        let session = client.session();
        op::start(&client, Spec::new("image_remove"), out, async move {
            Outcome::json(&session?.images().remove(&reference, options.force).await?)
        })
    };
    // SAFETY: this function's own contract.
    unsafe { boundary("image_remove", error, body) }
}

/// `boxlite_image_tag`
///
/// # Safety
/// As of [`boxlite_image_pull`].
#[unsafe(no_mangle)]
pub unsafe extern "C" fn boxlite_image_tag(
    client: boxlite_client_t,
    source: *const c_char,
    target: *const c_char,
    op: *mut boxlite_op_t,
    error: *mut *mut boxlite_error_t,
) -> boxlite_code_t {
    let body = || {
        // SAFETY: this function's own contract.
        let (out, source, target) = unsafe {
            (
                Out::new("op", op)?,
                required("source", source)?,
                required("target", target)?,
            )
        };
        let client: Arc<ClientObject> = handle::get(client)?;
        let session = client.session();
        op::start(&client, Spec::new("image_tag"), out, async move {
            session?.images().tag(&source, &target).await?;
            Ok(Outcome::Nothing)
        })
    };
    // SAFETY: this function's own contract.
    unsafe { boundary("image_tag", error, body) }
}
