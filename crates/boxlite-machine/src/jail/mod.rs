//! The jail around an engine.
//!
//! The supervisor runs itself once more, as `boxlite-shim jail`: a process with one thread,
//! which [`process::main`] confines and which then becomes the engine. So nothing has to be
//! done between fork and exec, where next to nothing is allowed.

mod confinement;
mod file_access;
mod identity;
mod members;
mod namespaces;
pub mod process;
pub mod report;

pub use confinement::{ConfinedShare, Confinement, Identity};
pub use process::main;
pub use report::{JailReport, MissingMeasure};
