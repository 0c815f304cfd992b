//! boxlite: run any OCI image in a small virtual machine of its own.
#![forbid(unsafe_code)]

mod attach;
mod bundle;
mod client;
mod clock;
mod config;
mod connection;
mod copy;
mod create;
mod doctor;
mod engine;
mod error;
mod execution;
mod exit_status;
mod handle;
mod images;
mod info;
mod launch;
mod lifecycle;
mod logs;
mod options;
mod progress;
mod record;
mod rpc;
mod shared;
mod signal;
mod survey;
mod system;

pub use attach::AttachOptions;
pub use client::{Accelerator, Client, ClientBuilder, RegistryOptions, RemoveOptions};
pub use copy::{CopyOptions, CopyReport, SkippedEntry, TarStream};
pub use doctor::{Check, CheckStatus, DoctorReport};
pub use error::*;
pub use execution::{ExecOptions, ExecOutput, ExecStdin, Execution, TerminalSize};
pub use exit_status::ExitStatus;
pub use handle::{BoxHandle, StopOptions};
pub use images::{Credentials, ImageConfigInfo, ImageInfo, ImageRemoval, Images, LayerInfo, LoadOptions, PullOptions};
pub use info::{
    BoxInfo, BoxState, HostMetrics, JailInfo, ListFilter, Metrics, MissingMeasure, ProcessInfo, PublishedPort, RunInfo,
    StageTiming,
};
pub use logs::{LogEntry, LogOptions, LogStream, LogStreamKind};
pub use options::{
    BoxOptions, DEFAULT_CPUS, DEFAULT_DISK_MIB, DEFAULT_LOG_FILES, DEFAULT_LOG_MAX_MIB, DEFAULT_MEMORY_MIB,
    DEFAULT_STOP_TIMEOUT_MS, EngineKind, ExtraHost, LogLimits, Mount, NetworkMode, Port, Protocol, PullPolicy,
    Security, UnknownWord,
};
pub use progress::{LayerState, Progress, ProgressFn, no_progress};
pub use signal::{ParseSignalError, Signal};
pub use system::{
    AcceleratorInfo, BoxCounts, BoxUsage, BundleInfo, BundleOrigin, DiskUsage, EngineInfo, ImageUsage, PruneOptions,
    PruneReport, SystemInfo, UsageClass,
};
