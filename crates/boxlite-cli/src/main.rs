//! The `boxlite` command: docker's verbs for boxes that are virtual machines.
//!
//! It is the `boxlite` library with a command line around it; what it knows that
//! the library does not is terminals, signals and how things read.
#![forbid(unsafe_code)]

mod box_args;
mod cli;
mod commands;
mod engine_warning;
mod failure;
mod format;
mod home;
mod image_args;
mod output;
mod progress;
mod session;
mod signals;
mod stream;
mod style;
mod table;
mod targets;
mod terminal;
mod usage;
mod value;

use std::ffi::OsString;
use std::process::ExitCode;
use std::time::Duration;

use clap::Parser;
use tracing_subscriber::EnvFilter;

use crate::cli::{Cli, GlobalArgs};
use crate::failure::Failure;

/// What a command that was stopped gets to clean up in.
const CLEAN_UP: Duration = Duration::from_secs(5);

fn main() -> ExitCode {
    terminal::restore_on_panic();
    let arguments: Vec<OsString> = std::env::args_os().collect();
    let cli = match Cli::try_parse_from(&arguments) {
        Ok(cli) => cli,
        Err(error) => return usage::exit(&error, &arguments),
    };
    let usual = cli.command.failure_status();
    let status = run(cli).unwrap_or_else(|failure| {
        output::failure(&failure);
        failure.exit_status(usual)
    });
    ExitCode::from(status)
}

fn run(cli: Cli) -> Result<u8, Failure> {
    start_logging(&cli.global)?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(|error| Failure::new(format_args!("can't start: {error}")))?;
    let result = runtime.block_on(commands::run(cli));
    if result.is_ok() {
        runtime.shutdown_background();
    } else {
        // What was dropped half-way removes what it had begun.
        runtime.shutdown_timeout(CLEAN_UP);
    }
    result
}

/// Logs to stderr, if asked.
fn start_logging(global: &GlobalArgs) -> Result<(), Failure> {
    let from_environment = || std::env::var("BOXLITE_LOG").ok();
    let filter = global.log_level.clone().or_else(from_environment);
    let Some(filter) = filter.filter(|filter| !filter.is_empty()) else {
        return Ok(());
    };
    let filter: EnvFilter = filter
        .parse()
        .map_err(|error| Failure::new(format_args!("--log-level (BOXLITE_LOG) {filter:?}: {error}")))?;
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(style::Style::for_stderr().is_coloured())
        .init();
    Ok(())
}
