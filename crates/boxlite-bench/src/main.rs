//! `boxlite-bench`: measures boxlite, each figure beside its floor, and renders what was measured.
//!
//! `make bench` builds and runs it.
#![forbid(unsafe_code)]
#![expect(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a command that reports to its terminal"
)]

mod bench;
mod error;
mod floor;
mod go;
mod host;
mod layout;
mod measure;
mod render;
mod report;
mod run;
mod sample;
mod statistics;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand};

use crate::error::BenchError;

/// Measures boxlite, each figure beside its floor taken in the same run
#[derive(Debug, Parser)]
#[command(version, about)]
struct Cli {
    #[command(subcommand)]
    command: CliCommand,
}

#[derive(Debug, Subcommand)]
enum CliCommand {
    /// Measure, and write the samples to a file
    Run(run::RunArgs),
    /// Make a page and a plot of results
    Render(render::RenderArgs),
}

fn main() -> ExitCode {
    match execute(Cli::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("boxlite-bench: {error}");
            ExitCode::FAILURE
        }
    }
}

fn execute(cli: Cli) -> Result<(), BenchError> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(BenchError::stream("the runtime"))?;
    match cli.command {
        CliCommand::Run(arguments) => {
            let file: PathBuf = runtime.block_on(run::run(arguments))?;
            println!("{}", file.display());
            Ok(())
        }
        CliCommand::Render(arguments) => render::render(&arguments),
    }
}
