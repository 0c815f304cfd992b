//! The supervisor of one running box: the contract between it and the library that
//! spawns it. The supervisor itself is the binary of this crate.
#![forbid(unsafe_code)]

mod byte_string;
mod exit_record;
mod launch;
mod launch_config;
pub mod log;
mod start_event;
mod template_config;

pub use byte_string::ByteString;
pub use exit_record::{
    EXIT_RECORD_NAME, EngineExitRecord, ExitReason, ExitRecord, MainExit, MainStatus, ReadExitRecordError,
};
pub use launch::{Launch, LaunchError, Launched, spawn_template};
pub use launch_config::{
    CONFIG_FD, Configure, HostEntry, LOCK_FD, LaunchConfig, Network, PARENT_FD, Process, STATUS_FD, StartFrom,
    TerminalSize, Volume, default_start_timeout_ms,
};
pub use start_event::{Ready, Stage, StageTimings, StartEvent, StartFailure, StartFailureCode, StartMode};
pub use template_config::{MAKE_TEMPLATE, TemplateConfig, TemplateResult, Templates};

/// Name of the supervisor's socket in the box's folder.
pub const SOCKET_NAME: &str = "shim.sock";
/// Name of the supervisor's own log in the box's folder.
pub const SHIM_LOG_NAME: &str = "shim.log";
