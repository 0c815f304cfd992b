//! What crosses the boundary by pointer: texts in, results out.

use std::ffi::{CStr, CString, OsStr, c_char};
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;

use crate::error::Failure;

/// A pointer that the caller wants a result in.
pub(crate) struct Out<T>(*mut T);

impl<T> Out<T> {
    /// # Safety
    /// `pointer` is NULL or valid for writing a `T` until [`write`](Self::write).
    pub(crate) unsafe fn new(name: &'static str, pointer: *mut T) -> Result<Self, Failure> {
        if pointer.is_null() {
            return Err(Failure::argument(format!(
                "{name} is NULL: it is where the result goes"
            )));
        }
        Ok(Self(pointer))
    }

    pub(crate) fn write(self, value: T) {
        // SAFETY: `new` was promised a pointer that is valid for this write, and checked it for
        // NULL. Nothing is read or dropped: what was there need not be a value.
        unsafe { self.0.write(value) }
    }
}

/// The bytes of a text that must be there.
///
/// # Safety
/// `pointer` is NULL or a C string that stays as it is during the lifetime that is chosen.
unsafe fn bytes<'a>(name: &'static str, pointer: *const c_char) -> Result<&'a [u8], Failure> {
    if pointer.is_null() {
        return Err(Failure::argument(format!("{name} is NULL")));
    }
    // SAFETY: not NULL, so a C string by this function's own contract.
    Ok(unsafe { CStr::from_ptr(pointer) }.to_bytes())
}

/// A text that must be there, in UTF-8.
///
/// # Safety
/// `pointer` is NULL or a C string.
pub(crate) unsafe fn required(name: &'static str, pointer: *const c_char) -> Result<String, Failure> {
    // SAFETY: this function's own contract; the bytes are copied before it returns.
    let bytes = unsafe { bytes(name, pointer) }?;
    match std::str::from_utf8(bytes) {
        Ok(text) => Ok(text.to_owned()),
        Err(error) => Err(Failure::argument(format!("{name} is not UTF-8: {error}"))),
    }
}

/// A text that may be NULL, in UTF-8.
///
/// # Safety
/// `pointer` is NULL or a C string.
pub(crate) unsafe fn optional(name: &'static str, pointer: *const c_char) -> Result<Option<String>, Failure> {
    if pointer.is_null() {
        return Ok(None);
    }
    // SAFETY: this function's own contract.
    unsafe { required(name, pointer) }.map(Some)
}

/// A path of the host: any bytes.
///
/// # Safety
/// `pointer` is NULL or a C string.
pub(crate) unsafe fn path(name: &'static str, pointer: *const c_char) -> Result<PathBuf, Failure> {
    // SAFETY: this function's own contract; the bytes are copied before it returns.
    let bytes = unsafe { bytes(name, pointer) }?;
    if bytes.is_empty() {
        return Err(Failure::argument(format!("{name} is empty")));
    }
    Ok(PathBuf::from(OsStr::from_bytes(bytes)))
}

/// A text for C, without what comes after a NUL byte.
pub(crate) fn c_string(text: impl Into<Vec<u8>>) -> CString {
    CString::new(text).unwrap_or_else(|error| {
        let end = error.nul_position();
        let mut bytes = error.into_vec();
        bytes.truncate(end);
        CString::new(bytes).unwrap_or_default()
    })
}

/// A text that the caller has to free.
pub(crate) fn give(text: impl Into<Vec<u8>>) -> *mut c_char {
    c_string(text).into_raw()
}

/// `boxlite_string_free`
///
/// # Safety
/// `string` is NULL or was given by a function of this library and not yet freed.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn boxlite_string_free(string: *mut c_char) {
    if !string.is_null() {
        // SAFETY: made by `give`, that is by `CString::into_raw`, and freed once.
        drop(unsafe { CString::from_raw(string) });
    }
}
