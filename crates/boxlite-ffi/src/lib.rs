//! The C interface of boxlite. Its contract is `sdks/c/include/boxlite.h`; what is said there
//! is not said here again.
//!
//! Every function that is exported has the same shape: it turns its arguments into safe values
//! (`text`, `out`), does its work inside `error::boundary`, which stops panics and
//! fills in `error`, and returns a [`code`](code::Code). What takes time becomes an [`op`].
//! No callback crosses the boundary, and nothing is kept for a thread.

// The exported names are those of C.
#![allow(non_camel_case_types)]

pub mod boxes;
pub mod client;
pub mod code;
pub mod copy;
pub mod error;
pub mod exec;
mod execution;
pub mod handle;
pub mod image;
pub mod json;
pub mod log;
pub mod op;
mod pipe;
pub mod progress;
mod pump;
mod runtime;
mod stream;
pub mod template;
pub mod text;
pub mod version;
