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

/// The commands, in the order of the help; what each is for stands at its arguments.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    Run(commands::run::RunArgs),
    Create(commands::create::CreateArgs),
    Start(commands::start::StartArgs),
    Stop(commands::stop::StopArgs),
    Restart(commands::restart::RestartArgs),
    Kill(commands::kill::KillArgs),
    Pause(commands::pause::PauseArgs),
    Unpause(commands::unpause::UnpauseArgs),
    Rm(commands::rm::RmArgs),
    Wait(commands::wait::WaitArgs),
    Exec(commands::exec::ExecArgs),
    #[command(visible_aliases = ["ls", "list"])]
    Ps(commands::ps::PsArgs),
    Inspect(commands::inspect::InspectArgs),
    Logs(commands::logs::LogsArgs),
    Cp(commands::cp::CpArgs),
    Stats(commands::stats::StatsArgs),
    Top(commands::top::TopArgs),
    Port(commands::port::PortArgs),
    Pull(commands::pull::PullArgs),
    Load(commands::load::LoadArgs),
    Images(commands::images::ImagesArgs),
    Rmi(commands::rmi::RmiArgs),
    Tag(commands::tag::TagArgs),
    Template(commands::template::TemplateArgs),
    System(commands::system::SystemArgs),
    Info(commands::info::InfoArgs),
    Doctor(commands::doctor::DoctorArgs),
    Version(commands::version::VersionArgs),
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
