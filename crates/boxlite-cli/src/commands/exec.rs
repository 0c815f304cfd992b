//! `boxlite exec`

use std::ffi::OsString;
use std::path::PathBuf;

use boxlite::{ExecError, ExecOptions};
use clap::Args;

use crate::cli::GlobalArgs;
use crate::failure::{Failure, Report};
use crate::session::{self, Attached, Streams};
use crate::signals::Signals;
use crate::value::environment;

/// Run another command in a running box
#[derive(Debug, Args)]
#[command(after_help = "\
    The command's output comes byte for byte, and its exit status is boxlite's. When boxlite \
    ends the command is killed, unless it was detached.")]
#[command(override_usage = "boxlite exec [OPTIONS] BOX COMMAND [ARGUMENT]...")]
pub(crate) struct ExecArgs {
    /// Run in the background; its output is lost
    #[arg(short, long, conflicts_with_all = ["interactive"])]
    detach: bool,

    /// Keep stdin open and connect it
    #[arg(short, long)]
    interactive: bool,

    /// Give the command a terminal
    #[arg(short, long)]
    tty: bool,

    /// Set an environment variable; KEY alone takes the caller's value
    #[arg(short, long, value_name = "KEY[=VALUE]")]
    env: Vec<String>,

    /// Read environment variables from a file of KEY=VALUE lines
    #[arg(long, value_name = "FILE")]
    env_file: Vec<PathBuf>,

    /// Folder in which the command starts
    #[arg(short, long, value_name = "DIR")]
    workdir: Option<OsString>,

    /// User, and group, that the command runs as
    #[arg(short, long, value_name = "USER[:GROUP]")]
    user: Option<String>,

    /// Name or id of the box, and after it the command
    #[arg(value_names = ["BOX", "COMMAND"], required = true, num_args = 2.., trailing_var_arg = true, hide = true)]
    box_and_command: Vec<OsString>,
}

impl ExecArgs {
    fn split(&self) -> Result<(&str, &[OsString]), Failure> {
        match self.box_and_command.split_first() {
            Some((name, command)) => match name.to_str() {
                Some(name) => Ok((name, command)),
                None => Err(Failure::new(format_args!("no box is named {name:?}"))),
            },
            None => Err(Failure::new("no box is named")),
        }
    }

    fn options(&self, command: &[OsString], streams: Streams) -> Result<ExecOptions, Failure> {
        let mut options = ExecOptions::new(command);
        let lookup = |name: &str| std::env::var_os(name);
        options.env = environment::collect(&self.env_file, &self.env, &lookup)
            .map_err(|error| Failure::from(Report::of(&error)))?
            .into_iter()
            .map(|(name, value)| (name.into(), value.into()))
            .collect();
        options.working_dir.clone_from(&self.workdir);
        options.user.clone_from(&self.user);
        options.tty = streams.tty;
        options.size = streams.size();
        options.stdin = streams.stdin;
        options.detached = self.detach;
        Ok(options)
    }
}

pub(crate) async fn run(global: &GlobalArgs, args: ExecArgs, signals: &mut Signals) -> Result<u8, Failure> {
    let streams = Streams {
        stdin: args.interactive,
        tty: args.tty,
    };
    streams.check()?;
    let (name, command) = args.split()?;
    let options = args.options(command, streams)?;
    let execution = signals
        .unless_stopped(async {
            let client = global.client().await?;
            let handle = client.get(name).await?;
            let execution = handle.exec(options).await.map_err(exec_failure)?;
            // The client must outlive the session.
            Ok((client, execution))
        })
        .await;
    let (_client, execution) = execution?;
    if args.detach {
        execution.close();
        return Ok(0);
    }
    session::attend(execution, streams, Attached::Process, signals).await
}

/// A command that did not start: 126 or 127 where it is to blame itself.
fn exec_failure(error: ExecError) -> Failure {
    let status = error.refusal().map(boxlite::Refusal::exit_code);
    let report = Report::from(error);
    match status {
        Some(status) => report.status(status).into(),
        None => report.into(),
    }
}

#[cfg(test)]
mod tests {
    use boxlite::{Refusal, RefusalReason};
    use clap::Parser;

    use super::*;

    #[derive(Debug, Parser)]
    struct Line {
        #[command(flatten)]
        args: ExecArgs,
    }

    fn parsed(line: &str) -> Result<ExecArgs, clap::Error> {
        Line::try_parse_from(std::iter::once("exec").chain(line.split(' '))).map(|line| line.args)
    }

    #[test]
    fn what_follows_the_box_is_the_command() {
        let args = parsed("-it -e A=1 -w /srv -u app web ls -la -e B=2 --detach").unwrap();
        let (name, command) = args.split().unwrap();
        assert_eq!(name, "web");
        assert_eq!(command, ["ls", "-la", "-e", "B=2", "--detach"]);
        let streams = Streams {
            stdin: false,
            tty: false,
        };
        let options = args.options(command, streams).unwrap();
        assert_eq!(options.env, [("A".into(), "1".into())]);
        assert_eq!(options.working_dir, Some("/srv".into()));
        assert_eq!(options.user.as_deref(), Some("app"));
        assert!(args.interactive && args.tty && !args.detach);
    }

    #[test]
    fn a_box_and_a_command_are_needed() {
        assert!(parsed("web").is_err());
        assert!(parsed("-x web ls").is_err());
        assert!(parsed("-d -i web ls").is_err());
    }

    #[test]
    fn refusals_have_the_statuses_of_a_shell() {
        for (reason, status) in [
            (RefusalReason::NotFound, 127),
            (RefusalReason::NotExecutable, 126),
            (RefusalReason::NoSuchUser, 125),
        ] {
            let failure = exec_failure(ExecError::Refused {
                refusal: Refusal {
                    reason,
                    message: "no".into(),
                    errno: 2,
                },
            });
            assert_eq!(failure.exit_status(125), status);
        }
        assert_eq!(exec_failure(ExecError::Command).exit_status(125), 125);
    }
}
