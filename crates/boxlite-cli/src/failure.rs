//! How a command fails, and how that reads on stderr.

use std::fmt;
use std::io;

use boxlite::Diagnose;

use crate::style::Style;

/// A process ended by signal n is reported by shells as 128 + n.
const SIGNAL_STATUS: i32 = 128;
const SIGPIPE: i32 = 13;

/// Why a command ended without doing all that was asked.
#[derive(Debug)]
pub(crate) enum Failure {
    /// Something to tell.
    Report(Box<Report>),
    /// Everything was told already, or there is nobody to tell it to.
    Silent {
        /// The exit status.
        status: u8,
    },
}

/// What a person reads about a failure.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub(crate) struct Report {
    /// What failed.
    pub(crate) what: String,
    /// What was seen: console lines, what a server said.
    pub(crate) evidence: Vec<String>,
    /// From the nearest cause to the farthest.
    pub(crate) causes: Vec<String>,
    /// The next command.
    pub(crate) hint: Option<String>,
    /// The exit status, where it is not the command's usual one.
    pub(crate) status: Option<u8>,
}

impl Report {
    /// A failure that is told in one sentence.
    pub(crate) fn new(what: impl fmt::Display) -> Self {
        Self {
            what: what.to_string(),
            ..Self::default()
        }
    }

    /// Tells an error and the errors below it.
    pub(crate) fn of(error: &dyn std::error::Error) -> Self {
        let what = error.to_string();
        let mut told = what.clone();
        let mut causes = Vec::new();
        let mut source = error.source();
        while let Some(cause) = source {
            let text = cause.to_string();
            // Errors that show their source in their own text are not told twice.
            if !told.contains(&text) {
                causes.push(text.clone());
                told = text;
            }
            source = cause.source();
        }
        Self {
            what,
            causes,
            ..Self::default()
        }
    }

    pub(crate) fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    pub(crate) fn status(mut self, status: u8) -> Self {
        self.status = Some(status);
        self
    }

    /// The text for stderr, with a line feed at its end.
    pub(crate) fn render(&self, style: Style) -> String {
        let mut text = String::new();
        let (open, close) = style.error();
        push_lines(&mut text, &format!("boxlite: {open}error{close}: "), &self.what);
        for line in &self.evidence {
            push_lines(&mut text, "  ", line);
        }
        for cause in &self.causes {
            push_lines(&mut text, "cause: ", cause);
        }
        if let Some(hint) = &self.hint {
            push_lines(&mut text, "try: ", hint);
        }
        text
    }
}

/// Appends `body`, its further lines indented, with what could steer a terminal
/// made visible: evidence comes from guests and registries.
fn push_lines(text: &mut String, lead: &str, body: &str) {
    for (index, line) in body.trim_end().lines().enumerate() {
        text.push_str(if index == 0 { lead } else { "  " });
        text.push_str(&visible(line));
        text.push('\n');
    }
    if body.trim_end().is_empty() {
        text.push_str(lead.trim_end());
        text.push('\n');
    }
}

/// Replaces control characters by their escaped form; a tab stays.
pub(crate) fn visible(text: &str) -> String {
    let mut shown = String::with_capacity(text.len());
    for c in text.chars() {
        if c.is_control() && c != '\t' {
            shown.extend(c.escape_default());
        } else {
            shown.push(c);
        }
    }
    shown
}

impl Failure {
    /// A failure that is told in one sentence.
    pub(crate) fn new(what: impl fmt::Display) -> Self {
        Report::new(what).into()
    }

    /// The user stopped the command with a signal.
    pub(crate) fn interrupted(signal: i32) -> Self {
        Self::Silent {
            status: signal_status(signal),
        }
    }

    /// Writing what was asked for failed. Nobody reading any more is how pipelines
    /// end, and is told by the exit status alone, as of a filter that SIGPIPE ends.
    pub(crate) fn output(error: io::Error) -> Self {
        if error.kind() == io::ErrorKind::BrokenPipe {
            return Self::interrupted(SIGPIPE);
        }
        Report::new(format_args!("can't write to standard output: {error}")).into()
    }

    /// The exit status, where the command's usual one for failures is `usual`.
    pub(crate) fn exit_status(&self, usual: u8) -> u8 {
        match self {
            Self::Report(report) => report.status.unwrap_or(usual),
            Self::Silent { status } => *status,
        }
    }
}

impl<E: Diagnose> From<E> for Report {
    fn from(error: E) -> Self {
        Self {
            evidence: error.evidence(),
            hint: error.hint(),
            ..Self::of(&error)
        }
    }
}

impl<E: Diagnose> From<E> for Failure {
    fn from(error: E) -> Self {
        Report::from(error).into()
    }
}

impl From<Report> for Failure {
    fn from(report: Report) -> Self {
        Self::Report(Box::new(report))
    }
}

/// The exit status that tells of a signal.
pub(crate) fn signal_status(signal: i32) -> u8 {
    u8::try_from(SIGNAL_STATUS + signal).unwrap_or(u8::MAX)
}

#[cfg(test)]
mod tests {
    use std::error::Error;

    use super::*;

    #[derive(Debug, thiserror::Error)]
    #[error("outer")]
    struct Outer(#[source] Middle);
    #[derive(Debug, thiserror::Error)]
    #[error("middle: {0}")]
    struct Middle(#[source] io::Error);

    #[test]
    fn a_report_reads_from_what_to_what_next() {
        let mut report = Report::of(&Outer(Middle(io::Error::other("inner"))) as &dyn Error).hint("boxlite doctor");
        report.evidence = vec!["[    0.1] panic\u{1b}[31m".into(), "two\nlines".into()];
        assert_eq!(
            report.render(Style::plain()),
            "boxlite: error: outer\n  [    0.1] panic\\u{1b}[31m\n  two\n  lines\n\
             cause: middle: inner\ntry: boxlite doctor\n"
        );
    }

    #[test]
    fn nothing_to_say_is_still_a_line() {
        assert_eq!(Report::default().render(Style::plain()), "boxlite: error:\n");
    }

    #[test]
    fn a_broken_pipe_is_silent() {
        let failure = Failure::output(io::ErrorKind::BrokenPipe.into());
        assert!(matches!(failure, Failure::Silent { status: 141 }));
        let failure = Failure::output(io::ErrorKind::StorageFull.into());
        assert_eq!(failure.exit_status(1), 1);
    }
}
