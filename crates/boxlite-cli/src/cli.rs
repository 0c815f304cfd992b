//! The command line: global options and the commands.

use std::path::PathBuf;

use boxlite::EngineKind;
use clap::builder::{PossibleValuesParser, TypedValueParser};
use clap::{Args, Parser, Subcommand};

use crate::commands;

/// Run programs from OCI images in virtual machines of their own.
#[derive(Debug, Parser)]
#[command(
    name = "boxlite",
    version,
    disable_version_flag = true,
    disable_help_subcommand = false,
    subcommand_value_name = "COMMAND",
    subcommand_help_heading = "Commands",
    max_term_width = 100,
    after_help = "\
Commands and flags are docker's; the help of each command says where boxlite differs.
There is no daemon: boxes are processes of yours, and everything is below the home.

Exit status: of run, exec and start --attach the command's own, 125 when boxlite failed,
126 and 127 when the command could not be run or found, 128+n when signal n ended it.
Of the other commands 0, or 1 when something failed, or 2 when the command line was wrong."
)]
pub(crate) struct Cli {
    #[command(flatten)]
    pub(crate) global: GlobalArgs,

    /// Print the version
    #[arg(short = 'V', short_alias = 'v', long, action = clap::ArgAction::Version)]
    version: Option<bool>,

    #[command(subcommand)]
    pub(crate) command: Command,
}

/// Options of every command.
#[derive(Debug, Clone, Args)]
pub(crate) struct GlobalArgs {
    /// Folder with all state [default: $BOXLITE_HOME, or ~/.boxlite]
    #[arg(long, global = true, value_name = "DIR", help_heading = "Global options")]
    pub(crate) home: Option<PathBuf>,

    /// What runs the machines [default: $BOXLITE_ENGINE, or auto]
    #[arg(long, global = true, help_heading = "Global options", value_name = "ENGINE",
          value_parser = PossibleValuesParser::new(["auto", "qemu", "krun"]).try_map(|word| word.parse::<EngineKind>()))]
    pub(crate) engine: Option<EngineKind>,

    /// Log to stderr: error, warn, info, debug, trace, or a filter such as boxlite=debug
    /// [default: $BOXLITE_LOG, or nothing]
    #[arg(long, global = true, value_name = "FILTER", help_heading = "Global options")]
    pub(crate) log_level: Option<String>,
}

/// The commands, in the order of the help.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Create a box from an image, start it and wait for its command
    Run(commands::run::RunArgs),
    /// Create a box without starting it
    Create(commands::create::CreateArgs),
    /// Start boxes that are not running
    Start(commands::start::StartArgs),
    /// Stop boxes: first politely, after a while by force
    Stop(commands::stop::StopArgs),
    /// Stop boxes and start them again
    Restart(commands::restart::RestartArgs),
    /// Send a signal to the main process of boxes
    Kill(commands::kill::KillArgs),
    /// Remove boxes and their disks
    Rm(commands::rm::RmArgs),
    /// Wait for boxes to end and print their exit codes
    Wait(commands::wait::WaitArgs),
    /// Run another command in a running box
    Exec(commands::exec::ExecArgs),
    /// List boxes
    #[command(visible_aliases = ["ls", "list"])]
    Ps(commands::ps::PsArgs),
    /// Show everything about boxes or images, as JSON
    Inspect(commands::inspect::InspectArgs),
    /// Print what the main process of a box has written
    Logs(commands::logs::LogsArgs),
    /// Copy files and folders between the host and a box
    Cp(commands::cp::CpArgs),
    /// Show what running boxes use
    Stats(commands::stats::StatsArgs),
    /// List the processes of a box
    Top(commands::top::TopArgs),
    /// List the published ports of a box
    Port(commands::port::PortArgs),
    /// Fetch images from registries
    Pull(commands::pull::PullArgs),
    /// Load images from archives and layouts
    Load(commands::load::LoadArgs),
    /// List images
    Images(commands::images::ImagesArgs),
    /// Remove images
    Rmi(commands::rmi::RmiArgs),
    /// Give an image another name
    Tag(commands::tag::TagArgs),
    /// Disk usage and cleaning up
    System(commands::system::SystemArgs),
    /// Show what this boxlite is and where it keeps things
    Info(commands::info::InfoArgs),
    /// Check everything that a start needs
    Doctor(commands::doctor::DoctorArgs),
    /// Show versions
    Version(commands::version::VersionArgs),
    /// Print a completion script for a shell
    Completion(commands::completion::CompletionArgs),
}

impl Command {
    /// The exit status when boxlite itself fails: 125 where the status is otherwise
    /// that of a command in a box.
    pub(crate) fn failure_status(&self) -> u8 {
        match self {
            Self::Run(_) | Self::Exec(_) | Self::Create(_) => BOXLITE_FAILED,
            Self::Start(start) if start.attaches() => BOXLITE_FAILED,
            _ => 1,
        }
    }
}

/// The exit status of a failure of boxlite's own.
pub(crate) const BOXLITE_FAILED: u8 = 125;
