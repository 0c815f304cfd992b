//! Machines that QEMU runs.

mod command_line;
mod engine_stderr;
mod files;
mod machine;
mod probe;
mod qmp;
mod refused_port;
mod start_error;
pub mod template;
mod tsc;
mod usernet;

pub use command_line::{InvalidSpec, MAX_SHARES};
pub use machine::{Boot, EngineExit, GuestStop, Machine, StartOptions, StartTimings};
pub use probe::{OLDEST_VERSION, ProbeError, QemuInfo, Version, probe};
pub use qmp::QmpError;
pub use start_error::{FileRole, StartError};
