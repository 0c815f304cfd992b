//! boxlite runs any OCI image in a small virtual machine of its own, from inside your program.
//!
//! There is no daemon. A [`Client`] works with a home directory (`~/.boxlite`) and starts
//! machines as children of the program; a box that is [`detached`](BoxOptions::detached)
//! outlives it, and any other process with the same home finds it again.
//!
//! ```no_run
//! use boxlite::{BoxOptions, Client, ExecOptions, RemoveOptions};
//! use tokio::io::AsyncReadExt;
//!
//! # async fn example() -> Result<(), Box<dyn std::error::Error>> {
//! let client = Client::builder().build().await?;
//! let sandbox = client.create(BoxOptions::new("alpine:3.20").memory_mib(256)).await?;
//! sandbox.start().await?;
//!
//! let mut execution = sandbox.exec(ExecOptions::new(["uname", "-a"])).await?;
//! let mut output = String::new();
//! execution.take_stdout().expect("taken once").read_to_string(&mut output).await?;
//! let status = execution.wait().await?;
//! println!("{status}: {output}");
//!
//! sandbox.remove(RemoveOptions::force()).await?;
//! client.close().await;
//! # Ok(())
//! # }
//! ```
//!
//! # Boxes
//!
//! A box is configuration, a disk and, while it runs, a machine. [`Client::create`] makes one
//! from [`BoxOptions`]; [`BoxHandle`] does everything else with it. Its states are those of
//! [`BoxState`]: `created → starting → running → stopping → stopped`, and `failed`, with an
//! error that says why. The disk is kept until the box is removed: stopping and starting
//! again finds every file where it was.
//!
//! A box without a command is *idle*: it runs until it is stopped, and [`BoxHandle::exec`]
//! runs things in it. With a command (or an entrypoint, or
//! [`run_image_command`](BoxOptions::run_image_command)) it has a *main process*, and ends with it:
//!
//! ```no_run
//! # async fn example(client: boxlite::Client) -> Result<(), Box<dyn std::error::Error>> {
//! use boxlite::{BoxOptions, Mount, Port};
//!
//! let options = BoxOptions::new("python:3.12-slim")
//!     .mount(Mount::new("./site", "/srv").read_only())
//!     .port(Port::new(0, 8000))
//!     .command(["python3", "-m", "http.server", "-d", "/srv", "8000"]);
//! let server = client.create(options).await?;
//! server.start().await?;
//! println!("http://127.0.0.1:{}/", server.info().await?.ports[0].host);
//! let status = server.wait().await?;
//! # Ok(())
//! # }
//! ```
//!
//! # Who a box belongs to
//!
//! Boxes that are not detached end when the client that started them is closed or dropped, or
//! when its process ends in whatever way. Handles don't keep a client open. Killing anything,
//! at any moment, with SIGKILL leaves a home that the next client repairs by itself.
//!
//! # Streams
//!
//! An [`Execution`] has byte streams: [`ExecStdin`] writes, [`ExecOutput`] reads. They carry
//! any bytes, of any amount, in bounded memory: a reader that is slow holds up its process and
//! nobody else. As with pipes, take both outputs only if both are read at the same time:
//!
//! ```no_run
//! # async fn example(sandbox: boxlite::BoxHandle) -> Result<(), Box<dyn std::error::Error>> {
//! use boxlite::ExecOptions;
//! use tokio::io::{AsyncReadExt, AsyncWriteExt};
//!
//! let mut sort = sandbox.exec(ExecOptions::new(["sort"]).stdin(true)).await?;
//! let mut stdin = sort.take_stdin().expect("asked for");
//! let mut stdout = sort.take_stdout().expect("taken once");
//! let writing = async {
//!     stdin.write_all(b"pear\napple\n").await?;
//!     stdin.shutdown().await // the end of the input
//! };
//! let mut sorted = String::new();
//! tokio::try_join!(writing, stdout.read_to_string(&mut sorted))?;
//! assert!(sort.wait().await?.success());
//! # Ok(())
//! # }
//! ```
//!
//! Dropping an execution kills its process, unless it is detached; that is how a future that
//! is cancelled, by a timeout for one, cleans up:
//!
//! ```no_run
//! # async fn example(sandbox: boxlite::BoxHandle) -> Result<(), Box<dyn std::error::Error>> {
//! # use boxlite::ExecOptions;
//! let mut job = sandbox.exec(ExecOptions::new(["sh", "-c", "while true; do :; done"])).await?;
//! let waited = tokio::time::timeout(std::time::Duration::from_secs(5), job.wait()).await;
//! assert!(waited.is_err());
//! drop(job); // the loop is over
//! # Ok(())
//! # }
//! ```
//!
//! # Images
//!
//! [`Images`] pulls from registries, loads archives, lists, tags and removes;
//! [`Client::create`] pulls by itself what is missing. Credentials come from docker's and
//! podman's files and helpers, proxies from the environment. `examples/pull.rs` shows progress.
//!
//! # Errors
//!
//! Each operation has its own error type. All of them implement [`Diagnose`]: a stable
//! [`ErrorCode`] for programs; a hint (the next thing to try) and evidence (the last console
//! lines of a machine that did not come up) for people:
//!
//! ```no_run
//! # async fn example(sandbox: boxlite::BoxHandle) {
//! use boxlite::{Diagnose, ErrorCode};
//!
//! if let Err(error) = sandbox.start().await {
//!     eprintln!("{error}");
//!     for line in error.evidence() {
//!         eprintln!("  {line}");
//!     }
//!     if error.code() == ErrorCode::ResourceExhausted {
//!         eprintln!("no room, or a port that is taken");
//!     }
//!     if let Some(hint) = error.hint() {
//!         eprintln!("try: {hint}");
//!     }
//! }
//! # }
//! ```
//!
//! # What the library does not do
//!
//! It has no global state, handles no signals, starts no runtime and installs no subscriber:
//! it speaks [`tracing`](https://docs.rs/tracing). It works on any tokio runtime with time and
//! I/O enabled, and does what blocks in that runtime's blocking pool.
//!
//! # What it needs
//!
//! Linux with QEMU 7.2 or newer (`apt-get install qemu-system-x86`). [`Client::doctor`] says
//! what is missing, and how to mend it. The supervisor, the guest's kernel and its initramfs are
//! embedded in the library where it was built with `BOXLITE_BUNDLE` set to the bundle
//! (`make` does that); otherwise `BOXLITE_BUNDLE_DIR` or [`ClientBuilder::bundle_dir`] name
//! a folder with them.
#![forbid(unsafe_code)]

mod attach;
mod blank;
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
mod pause;
mod progress;
mod record;
mod rpc;
mod shared;
mod signal;
mod survey;
mod system;
mod templates;

pub use attach::AttachOptions;
pub use client::{Accelerator, Client, ClientBuilder, RegistryOptions, RemoveOptions, TemplateUse};
pub use copy::{CopyOptions, CopyReport, SkippedEntry, TarStream};
pub use doctor::{Check, CheckStatus, DoctorReport};
pub use error::*;
pub use execution::{ExecOptions, ExecOutput, ExecStdin, Execution, TerminalSize};
pub use exit_status::ExitStatus;
pub use handle::{BoxHandle, StartOptions, StopOptions};
pub use images::{Credentials, ImageConfigInfo, ImageInfo, ImageRemoval, Images, LayerInfo, LoadOptions, PullOptions};
pub use info::{
    BoxInfo, BoxState, HostMetrics, JailInfo, ListFilter, Metrics, MissingMeasure, ProcessInfo, PublishedPort, RunInfo,
    StageTiming,
};
pub use logs::{LogEntry, LogOptions, LogStream, LogStreamKind};
pub use options::{
    BoxOptions, DEFAULT_CPUS, DEFAULT_DISK_MIB, DEFAULT_LOG_FILES, DEFAULT_LOG_MAX_MIB, DEFAULT_MEMORY_MIB,
    DEFAULT_STOP_TIMEOUT_MS, EngineKind, ExtraHost, LogLimits, MAX_VOLUMES, Mount, NetworkMode, Port, Protocol,
    PullPolicy, Security, StartPreference, UnknownWord,
};
pub use progress::{LayerState, Progress, ProgressFn, no_progress};
pub use signal::{ParseSignalError, Signal};
pub use system::{
    AcceleratorInfo, BoxCounts, BoxUsage, BundleInfo, BundleOrigin, DiskUsage, EngineInfo, ImageUsage, PruneOptions,
    PruneReport, SystemInfo, UsageClass,
};
pub use templates::{TemplateInfo, TemplateOptions, Templates};
