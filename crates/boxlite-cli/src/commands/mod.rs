//! The commands, one a file.

pub(crate) mod completion;
pub(crate) mod cp;
pub(crate) mod create;
pub(crate) mod doctor;
pub(crate) mod exec;
pub(crate) mod images;
pub(crate) mod info;
pub(crate) mod inspect;
pub(crate) mod kill;
pub(crate) mod load;
pub(crate) mod logs;
pub(crate) mod pause;
pub(crate) mod port;
pub(crate) mod ps;
pub(crate) mod pull;
pub(crate) mod restart;
pub(crate) mod rm;
pub(crate) mod rmi;
pub(crate) mod run;
pub(crate) mod start;
pub(crate) mod stats;
pub(crate) mod stop;
pub(crate) mod system;
pub(crate) mod tag;
pub(crate) mod template;
pub(crate) mod top;
pub(crate) mod unpause;
pub(crate) mod version;
pub(crate) mod wait;

use crate::cli::{Cli, Command, GlobalArgs};
use crate::failure::Failure;
use crate::signals::Signals;

/// Runs a command; the answer is the exit status.
pub(crate) async fn run(cli: Cli) -> Result<u8, Failure> {
    let Cli { global, command, .. } = cli;
    let mut signals = Signals::listen().map_err(|error| Failure::new(format_args!("can't take signals: {error}")))?;
    match command {
        // These hand signals on to the box.
        Command::Run(args) => run::run(&global, args, &mut signals).await,
        Command::Exec(args) => exec::run(&global, args, &mut signals).await,
        Command::Start(args) => start::run(&global, args, &mut signals).await,
        // All others end at a signal.
        command => signals.unless_stopped(other(&global, command)).await,
    }
}

async fn other(global: &GlobalArgs, command: Command) -> Result<u8, Failure> {
    match command {
        // Taken by `run`.
        Command::Run(_) | Command::Exec(_) | Command::Start(_) => Ok(0),
        Command::Create(args) => create::run(global, args).await,
        Command::Stop(args) => stop::run(global, args).await,
        Command::Restart(args) => restart::run(global, args).await,
        Command::Kill(args) => kill::run(global, args).await,
        Command::Pause(args) => pause::run(global, args).await,
        Command::Unpause(args) => unpause::run(global, args).await,
        Command::Rm(args) => rm::run(global, args).await,
        Command::Wait(args) => wait::run(global, args).await,
        Command::Ps(args) => ps::run(global, args).await,
        Command::Inspect(args) => inspect::run(global, args).await,
        Command::Logs(args) => logs::run(global, args).await,
        Command::Cp(args) => cp::run(global, args).await,
        Command::Stats(args) => stats::run(global, args).await,
        Command::Top(args) => top::run(global, args).await,
        Command::Port(args) => port::run(global, args).await,
        Command::Pull(args) => pull::run(global, args).await,
        Command::Load(args) => load::run(global, args).await,
        Command::Images(args) => images::run(global, args).await,
        Command::Rmi(args) => rmi::run(global, args).await,
        Command::Tag(args) => tag::run(global, args).await,
        Command::Template(args) => template::run(global, args).await,
        Command::System(args) => system::run(global, args).await,
        Command::Info(args) => info::run(global, args).await,
        Command::Doctor(args) => doctor::run(global, args).await,
        Command::Version(args) => version::run(args),
        Command::Completion(args) => completion::run(args),
    }
}
