//! What a command prints: what was asked for on stdout, everything else on stderr.

use std::io::{self, IsTerminal, Write};

use serde::Serialize;
use tokio::io::{AsyncBufReadExt, BufReader};

use crate::failure::{Failure, Report, visible};
use crate::stream;
use crate::style::Style;

/// Prints text on stdout as it is.
pub(crate) fn print(text: &str) -> Result<(), Failure> {
    let mut stdout = io::stdout().lock();
    stdout
        .write_all(text.as_bytes())
        .and_then(|()| stdout.flush())
        .map_err(Failure::output)
}

/// Prints one line on stdout.
pub(crate) fn line(text: &str) -> Result<(), Failure> {
    print(&format!("{text}\n"))
}

/// Prints a document as indented JSON.
pub(crate) fn json(document: &impl Serialize) -> Result<(), Failure> {
    let text = serde_json::to_string_pretty(document)
        .map_err(|error| Failure::new(format_args!("can't write JSON: {error}")))?;
    line(&text)
}

/// Prints a document as JSON on one line, for streams of documents.
pub(crate) fn json_line(document: &impl Serialize) -> Result<(), Failure> {
    let text =
        serde_json::to_string(document).map_err(|error| Failure::new(format_args!("can't write JSON: {error}")))?;
    line(&text)
}

/// Writes to stderr; that nobody may read it is no failure.
pub(crate) fn tell(text: &str) {
    let mut stderr = io::stderr().lock();
    let _ = stderr.write_all(text.as_bytes());
    let _ = stderr.flush();
}

/// Tells of a failure on stderr.
pub(crate) fn failure(failure: &Failure) {
    match failure {
        Failure::Report(report) => tell(&report.render(Style::for_stderr())),
        Failure::Silent { .. } => {}
    }
}

/// Tells of a failure on stderr and goes on.
pub(crate) fn report(report: &Report) {
    tell(&report.render(Style::for_stderr()));
}

/// Warns on stderr.
pub(crate) fn warn(text: &str) {
    let (open, close) = Style::for_stderr().warning();
    tell(&format!("boxlite: {open}warning{close}: {}\n", visible(text)));
}

/// Says something on stderr that only a person wants to know: nothing where
/// stderr is not a terminal.
pub(crate) fn note(text: &str) {
    if io::stderr().is_terminal() {
        tell(&format!("boxlite: {}\n", visible(text)));
    }
}

/// Asks on the terminal; what is not an answer beginning with y is a no.
pub(crate) async fn confirm(question: &str) -> io::Result<bool> {
    tell(&format!("{question} [y/N] "));
    let mut answer = String::new();
    BufReader::new(stream::stdin_reader()).read_line(&mut answer).await?;
    Ok(answer.trim_start().starts_with(['y', 'Y']))
}
