//! Colour on stderr, where it is wanted.

use std::env;
use std::io::IsTerminal;

/// Whether to colour, decided once.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Style {
    colour: bool,
}

impl Style {
    /// For stderr: colour on a terminal, unless `NO_COLOR` is set to something
    /// (<https://no-color.org>) or the terminal is dumb.
    pub(crate) fn for_stderr() -> Self {
        let set = |name| env::var_os(name).is_some_and(|value| !value.is_empty());
        let dumb = env::var_os("TERM").is_some_and(|term| term == "dumb");
        Self {
            colour: std::io::stderr().is_terminal() && !set("NO_COLOR") && !dumb,
        }
    }

    /// No colour.
    #[cfg(test)]
    pub(crate) fn plain() -> Self {
        Self { colour: false }
    }

    /// Whether colours are used at all.
    pub(crate) fn is_coloured(self) -> bool {
        self.colour
    }

    /// What goes before and after the word of an error.
    pub(crate) fn error(self) -> (&'static str, &'static str) {
        self.pair("\u{1b}[1;31m")
    }

    /// What goes before and after the word of a warning.
    pub(crate) fn warning(self) -> (&'static str, &'static str) {
        self.pair("\u{1b}[1;33m")
    }

    fn pair(self, open: &'static str) -> (&'static str, &'static str) {
        if self.colour { (open, "\u{1b}[0m") } else { ("", "") }
    }
}
