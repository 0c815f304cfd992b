//! The versions of the library and of its binary interface.

use std::ffi::{CStr, c_char};

use crate::code::{Code, boxlite_code_t};

/// The binary interface of this library.
pub const ABI_VERSION: u32 = 1;

const VERSION: &CStr = match CStr::from_bytes_with_nul(concat!(env!("CARGO_PKG_VERSION"), "\0").as_bytes()) {
    Ok(version) => version,
    Err(_) => panic!("a version without NUL bytes"),
};

/// `boxlite_version`
#[unsafe(no_mangle)]
pub extern "C" fn boxlite_version() -> *const c_char {
    VERSION.as_ptr()
}

/// `boxlite_abi_version`
#[unsafe(no_mangle)]
pub extern "C" fn boxlite_abi_version() -> u32 {
    ABI_VERSION
}

/// `boxlite_code_name`
#[unsafe(no_mangle)]
pub extern "C" fn boxlite_code_name(code: boxlite_code_t) -> *const c_char {
    Code::from_number(code).map_or(c"unknown", Code::c_name).as_ptr()
}
