//! What a wrong command line gets, and the help.

use std::ffi::OsString;
use std::process::ExitCode;

use clap::error::ErrorKind;

use crate::cli::BOXLITE_FAILED;
use crate::failure::Failure;
use crate::output;

/// The exit status of a wrong command line where no command of a box has a say.
const USAGE: u8 = 2;

/// Prints what clap has to say and gives the exit status for it.
pub(crate) fn exit(error: &clap::Error, arguments: &[OsString]) -> ExitCode {
    match error.kind() {
        ErrorKind::DisplayHelp | ErrorKind::DisplayVersion => {
            // Through clap, which knows about colour and terminals.
            let printed = error.print().map_err(Failure::output);
            match printed {
                Ok(()) => ExitCode::SUCCESS,
                Err(failure) => ExitCode::from(failure.exit_status(1)),
            }
        }
        ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand => {
            let _ = error.print();
            ExitCode::from(USAGE)
        }
        _ => {
            output::tell(&rendered(&error.render().to_string(), command_of(arguments)));
            ExitCode::from(status(command_of(arguments)))
        }
    }
}

fn status(command: Option<&str>) -> u8 {
    match command {
        Some("run" | "create" | "exec") => BOXLITE_FAILED,
        _ => USAGE,
    }
}

/// The command that a command line names, before it is known to be right.
fn command_of(arguments: &[OsString]) -> Option<&str> {
    let mut words = arguments.iter().skip(1).map(|word| word.to_str());
    while let Some(word) = words.next() {
        match word? {
            "--home" | "--engine" | "--log-level" => {
                words.next();
            }
            option if option.starts_with('-') => {}
            command => return Some(command),
        }
    }
    None
}

/// Turns clap's text into the form that all of boxlite's errors have.
fn rendered(text: &str, command: Option<&str>) -> String {
    let text = text.strip_prefix("error: ").unwrap_or(text);
    let mut shown = format!("boxlite: error: {}", text.trim_end());
    if let Some(start) = shown.find("\n\nFor more information, try") {
        shown.truncate(start);
    }
    let help = match command {
        Some(command) if !shown.contains("unrecognized subcommand") => {
            format!("boxlite {command} --help")
        }
        _ => "boxlite --help".to_owned(),
    };
    format!("{shown}\n\ntry: {help}\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(line: &str) -> Vec<OsString> {
        line.split(' ').map(OsString::from).collect()
    }

    #[test]
    fn the_command_is_found_behind_global_options() {
        for (line, command) in [
            ("boxlite run -x", Some("run")),
            ("boxlite --home /tmp exec", Some("exec")),
            ("boxlite --home=/tmp ps", Some("ps")),
            ("boxlite --home", None),
            ("boxlite", None),
        ] {
            assert_eq!(command_of(&words(line)), command, "{line}");
        }
    }

    #[test]
    fn clap_speaks_as_boxlite() {
        assert_eq!(
            rendered(
                "error: unexpected argument '--x' found\n\nUsage: boxlite ps\n\nFor more information, try '--help'.\n",
                Some("ps")
            ),
            "boxlite: error: unexpected argument '--x' found\n\nUsage: boxlite ps\n\ntry: boxlite ps --help\n"
        );
    }
}
