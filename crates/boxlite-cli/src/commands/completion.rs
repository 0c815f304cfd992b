//! `boxlite completion`

use clap::{Args, CommandFactory, ValueEnum};
use clap_complete::Shell;

use crate::cli::Cli;
use crate::failure::Failure;
use crate::output;

/// Print a completion script for a shell
#[derive(Debug, Args)]
#[command(after_help = "\
    For bash, as an example: source <(boxlite completion bash)")]
pub(crate) struct CompletionArgs {
    /// The shell
    shell: KnownShell,
}

/// Shells whose scripts are known to work.
#[derive(Debug, Clone, Copy, ValueEnum)]
enum KnownShell {
    Bash,
    Zsh,
    Fish,
}

pub(crate) fn run(args: CompletionArgs) -> Result<u8, Failure> {
    let shell = match args.shell {
        KnownShell::Bash => Shell::Bash,
        KnownShell::Zsh => Shell::Zsh,
        KnownShell::Fish => Shell::Fish,
    };
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Cli::command(), "boxlite", &mut script);
    output::print(&String::from_utf8_lossy(&script))?;
    Ok(0)
}
