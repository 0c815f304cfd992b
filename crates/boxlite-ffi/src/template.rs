//! Templates: machines that have booted, saved for boxes to start from.

use std::ffi::c_char;
use std::sync::Arc;

use boxlite::TemplateOptions;

use crate::client::ClientObject;
use crate::code::boxlite_code_t;
use crate::error::{boundary, boxlite_error_t};
use crate::handle::{self, boxlite_client_t, boxlite_op_t};
use crate::json;
use crate::op::{self, Outcome, Spec};
use crate::text::{Out, optional, required};

/// `boxlite_template_create`
///
/// # Safety
/// The texts are NULL or C strings; `op` and `error` are NULL or valid for writing.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn boxlite_template_create(
    client: boxlite_client_t,
    options_json: *const c_char,
    op: *mut boxlite_op_t,
    error: *mut *mut boxlite_error_t,
) -> boxlite_code_t {
    let body = || {
        // SAFETY: this function's own contract.
        let (out, text) = unsafe { (Out::new("op", op)?, optional("options_json", options_json)?) };
        let client: Arc<ClientObject> = handle::get(client)?;
        let options: TemplateOptions = json::parse("TemplateOptions", text.as_deref())?;
        let session = client.session();
        op::start(&client, Spec::new("template_create"), out, async move {
            Outcome::json(&session?.templates().create(options).await?)
        })
    };
    // SAFETY: this function's own contract.
    unsafe { boundary("template_create", error, body) }
}

/// `boxlite_template_list`
///
/// # Safety
/// The texts are NULL or C strings; `op` and `error` are NULL or valid for writing.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn boxlite_template_list(
    client: boxlite_client_t,
    op: *mut boxlite_op_t,
    error: *mut *mut boxlite_error_t,
) -> boxlite_code_t {
    let body = || {
        // SAFETY: this function's own contract.
        let out = unsafe { Out::new("op", op) }?;
        let client: Arc<ClientObject> = handle::get(client)?;
        let session = client.session();
        op::start(&client, Spec::new("template_list"), out, async move {
            Outcome::json(&session?.templates().list().await?)
        })
    };
    // SAFETY: this function's own contract.
    unsafe { boundary("template_list", error, body) }
}

/// `boxlite_template_remove`
///
/// # Safety
/// The texts are NULL or C strings; `op` and `error` are NULL or valid for writing.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn boxlite_template_remove(
    client: boxlite_client_t,
    key: *const c_char,
    op: *mut boxlite_op_t,
    error: *mut *mut boxlite_error_t,
) -> boxlite_code_t {
    let body = || {
        // SAFETY: this function's own contract.
        let (out, key) = unsafe { (Out::new("op", op)?, required("key", key)?) };
        let client: Arc<ClientObject> = handle::get(client)?;
        let session = client.session();
        op::start(&client, Spec::new("template_remove"), out, async move {
            Outcome::json(&session?.templates().remove(&key).await?)
        })
    };
    // SAFETY: this function's own contract.
    unsafe { boundary("template_remove", error, body) }
}
