//! Errors as values, and the boundary that makes them.

use std::ffi::{CStr, CString, c_char};
use std::panic::{AssertUnwindSafe, catch_unwind};

use boxlite::Diagnose;

use crate::code::{Code, boxlite_code_t};
use crate::text::c_string;

/// Everything about a failure, as Rust has it.
#[derive(Debug, Clone)]
pub(crate) struct Failure {
    pub(crate) code: Code,
    pub(crate) message: String,
    pub(crate) hint: Option<String>,
    pub(crate) evidence: Vec<String>,
    pub(crate) box_name: Option<String>,
}

impl Failure {
    pub(crate) fn new(code: Code, message: impl Into<String>) -> Self {
        Self {
            code,
            message: message.into(),
            hint: None,
            evidence: Vec::new(),
            box_name: None,
        }
    }

    /// An argument is wrong.
    pub(crate) fn argument(message: impl Into<String>) -> Self {
        Self::new(Code::InvalidArgument, message)
    }

    /// A call comes at the wrong time.
    pub(crate) fn state(message: impl Into<String>) -> Self {
        Self::new(Code::InvalidState, message)
    }

    /// The client is closed.
    pub(crate) fn closed() -> Self {
        Self::new(Code::Closed, "the client was closed")
    }

    /// A system call failed.
    pub(crate) fn system(what: &str, error: impl Into<std::io::Error>) -> Self {
        let error = error.into();
        let code = match error.raw_os_error() {
            Some(libc::EMFILE | libc::ENFILE | libc::ENOMEM | libc::ENOSPC | libc::EDQUOT | libc::EAGAIN) => {
                Code::ResourceExhausted
            }
            Some(libc::EBADF) => Code::InvalidArgument,
            _ => Code::Internal,
        };
        Self::new(code, format!("{what}: {error}"))
    }

    /// What a caught panic says.
    pub(crate) fn panic(payload: &(dyn std::any::Any + Send)) -> Self {
        let text = payload
            .downcast_ref::<&str>()
            .copied()
            .or_else(|| payload.downcast_ref::<String>().map(String::as_str))
            .unwrap_or("no message");
        let mut failure = Self::new(Code::Internal, format!("a defect in boxlite: {text}"));
        failure.hint = Some("please report it, with what led to it".to_owned());
        failure
    }

    pub(crate) fn of_box(mut self, name: Option<&str>) -> Self {
        if self.box_name.is_none() {
            self.box_name = name.map(str::to_owned);
        }
        self
    }

    fn into_error(self, operation: &str) -> boxlite_error_t {
        boxlite_error_t {
            code: self.code,
            message: c_string(self.message),
            hint: c_string(self.hint.unwrap_or_default()),
            evidence: c_string(self.evidence.join("\n")),
            operation: c_string(operation),
            box_name: c_string(self.box_name.unwrap_or_default()),
        }
    }
}

impl<E: Diagnose> From<E> for Failure {
    fn from(error: E) -> Self {
        let diagnosis = error.diagnosis();
        Self {
            code: diagnosis.code.into(),
            message: diagnosis.message,
            hint: diagnosis.hint,
            evidence: diagnosis.evidence,
            box_name: None,
        }
    }
}

/// A failure, for C. Immutable.
#[derive(Debug)]
pub struct boxlite_error_t {
    code: Code,
    message: CString,
    hint: CString,
    evidence: CString,
    operation: CString,
    box_name: CString,
}

/// Runs the body of an exported function: stops panics, and fills in `error` on failure.
///
/// # Safety
/// `error` is NULL or valid for writing a pointer.
pub(crate) unsafe fn boundary(
    operation: &str,
    error: *mut *mut boxlite_error_t,
    body: impl FnOnce() -> Result<(), Failure>,
) -> boxlite_code_t {
    // SAFETY: this function's own contract.
    unsafe { report(operation, error, guarded(body)) }
}

/// Runs `body`; a panic becomes a failure.
pub(crate) fn guarded<T>(body: impl FnOnce() -> Result<T, Failure>) -> Result<T, Failure> {
    // What a panic leaves half done is behind locks that are taken over as they are; no state is
    // changed in more than one step.
    catch_unwind(AssertUnwindSafe(body)).unwrap_or_else(|payload| Err(Failure::panic(payload.as_ref())))
}

/// Turns a result into a code, and a failure into an error where one is wanted.
///
/// # Safety
/// `error` is NULL or valid for writing a pointer.
pub(crate) unsafe fn report(
    operation: &str,
    error: *mut *mut boxlite_error_t,
    result: Result<(), Failure>,
) -> boxlite_code_t {
    let failure = match result {
        Ok(()) => return Code::Ok.number(),
        Err(failure) => failure,
    };
    let code = failure.code;
    if !error.is_null() {
        let value = Box::into_raw(Box::new(failure.into_error(operation)));
        // SAFETY: not NULL, so valid for writing by this function's own contract.
        unsafe { error.write(value) };
    }
    code.number()
}

/// # Safety
/// `error` is NULL or an error that was given and not yet freed.
unsafe fn field<'a>(error: *const boxlite_error_t, get: fn(&boxlite_error_t) -> &CStr) -> *const c_char
where
    boxlite_error_t: 'a,
{
    // SAFETY: NULL, or made by `report` and not yet freed; it is never changed.
    unsafe { error.as_ref() }.map_or(c"", get).as_ptr()
}

/// `boxlite_error_code`
///
/// # Safety
/// `error` is NULL or an error that was given and not yet freed.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn boxlite_error_code(error: *const boxlite_error_t) -> boxlite_code_t {
    // SAFETY: this function's own contract.
    unsafe { error.as_ref() }.map_or(Code::Ok, |error| error.code).number()
}

/// `boxlite_error_message`
///
/// # Safety
/// As of [`boxlite_error_code`].
#[unsafe(no_mangle)]
pub unsafe extern "C" fn boxlite_error_message(error: *const boxlite_error_t) -> *const c_char {
    // SAFETY: this function's own contract.
    unsafe { field(error, |error| &error.message) }
}

/// `boxlite_error_hint`
///
/// # Safety
/// As of [`boxlite_error_code`].
#[unsafe(no_mangle)]
pub unsafe extern "C" fn boxlite_error_hint(error: *const boxlite_error_t) -> *const c_char {
    // SAFETY: this function's own contract.
    unsafe { field(error, |error| &error.hint) }
}

/// `boxlite_error_evidence`
///
/// # Safety
/// As of [`boxlite_error_code`].
#[unsafe(no_mangle)]
pub unsafe extern "C" fn boxlite_error_evidence(error: *const boxlite_error_t) -> *const c_char {
    // SAFETY: this function's own contract.
    unsafe { field(error, |error| &error.evidence) }
}

/// `boxlite_error_operation`
///
/// # Safety
/// As of [`boxlite_error_code`].
#[unsafe(no_mangle)]
pub unsafe extern "C" fn boxlite_error_operation(error: *const boxlite_error_t) -> *const c_char {
    // SAFETY: this function's own contract.
    unsafe { field(error, |error| &error.operation) }
}

/// `boxlite_error_box`
///
/// # Safety
/// As of [`boxlite_error_code`].
#[unsafe(no_mangle)]
pub unsafe extern "C" fn boxlite_error_box(error: *const boxlite_error_t) -> *const c_char {
    // SAFETY: this function's own contract.
    unsafe { field(error, |error| &error.box_name) }
}

/// `boxlite_error_free`
///
/// # Safety
/// As of [`boxlite_error_code`].
#[unsafe(no_mangle)]
pub unsafe extern "C" fn boxlite_error_free(error: *mut boxlite_error_t) {
    if !error.is_null() {
        // SAFETY: made by `Box::into_raw` in `report`, and freed once.
        drop(unsafe { Box::from_raw(error) });
    }
}
