//! Signals by name and number.

use serde::{Deserialize, Serialize};

/// A Linux signal, by its number on x86-64 and arm64 (they agree).
///
/// Parses `"TERM"`, `"SIGTERM"`, `"sigterm"`, `"15"` and `"RTMIN+3"`.
///
/// ```
/// use boxlite::Signal;
///
/// assert_eq!("SIGHUP".parse::<Signal>().unwrap(), Signal::HUP);
/// assert_eq!(Signal::KILL.number(), 9);
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "SignalText", into = "String")]
pub struct Signal(i32);

const NAMES: [&str; 31] = [
    "HUP", "INT", "QUIT", "ILL", "TRAP", "ABRT", "BUS", "FPE", "KILL", "USR1", "SEGV", "USR2", "PIPE", "ALRM", "TERM",
    "STKFLT", "CHLD", "CONT", "STOP", "TSTP", "TTIN", "TTOU", "URG", "XCPU", "XFSZ", "VTALRM", "PROF", "WINCH", "IO",
    "PWR", "SYS",
];

/// The first real-time signal as the C library counts.
const RTMIN: i32 = 34;
/// The last real-time signal.
const RTMAX: i32 = 64;

impl Signal {
    /// Hangup.
    pub const HUP: Self = Self(1);
    /// Interrupt from the keyboard.
    pub const INT: Self = Self(2);
    /// Quit from the keyboard.
    pub const QUIT: Self = Self(3);
    /// Kill; can't be caught.
    pub const KILL: Self = Self(9);
    /// User-defined signal 1.
    pub const USR1: Self = Self(10);
    /// User-defined signal 2.
    pub const USR2: Self = Self(12);
    /// Terminate.
    pub const TERM: Self = Self(15);

    /// A signal by number, 1…64.
    ///
    /// # Errors
    /// [`ParseSignalError`] for any other number.
    pub fn new(number: i32) -> Result<Self, ParseSignalError> {
        if (1..=RTMAX).contains(&number) {
            Ok(Self(number))
        } else {
            Err(ParseSignalError {
                text: number.to_string(),
            })
        }
    }

    /// The Linux number.
    #[must_use]
    pub fn number(self) -> i32 {
        self.0
    }
}

impl std::fmt::Display for Signal {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let index = usize::try_from(self.0 - 1).unwrap_or(usize::MAX);
        match NAMES.get(index) {
            Some(name) => write!(f, "SIG{name}"),
            None if self.0 > RTMIN => write!(f, "SIGRTMIN+{}", self.0 - RTMIN),
            None if self.0 == RTMIN => f.write_str("SIGRTMIN"),
            None => write!(f, "{}", self.0),
        }
    }
}

impl std::str::FromStr for Signal {
    type Err = ParseSignalError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let wrong = || ParseSignalError { text: text.to_owned() };
        if let Ok(number) = text.parse::<i32>() {
            return Self::new(number).map_err(|_| wrong());
        }
        let upper = text.to_ascii_uppercase();
        let name = upper.strip_prefix("SIG").unwrap_or(&upper);
        if let Some(index) = NAMES.iter().position(|known| *known == name) {
            return i32::try_from(index + 1).map(Self).map_err(|_| wrong());
        }
        let number = match name {
            "POLL" => 29,
            "IOT" => 6,
            "CLD" => 17,
            "RTMIN" => RTMIN,
            "RTMAX" => RTMAX,
            _ => {
                let offset = |prefix| {
                    name.strip_prefix(prefix)
                        .and_then(|rest| rest.parse::<u8>().ok())
                        .map(i32::from)
                };
                if let Some(above) = offset("RTMIN+") {
                    RTMIN + above
                } else if let Some(below) = offset("RTMAX-") {
                    RTMAX - below
                } else {
                    return Err(wrong());
                }
            }
        };
        if number > RTMAX || number < RTMIN && !matches!(name, "POLL" | "IOT" | "CLD") {
            return Err(wrong());
        }
        Self::new(number).map_err(|_| wrong())
    }
}

/// A text that names no signal.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is no signal: use a name such as TERM or a number from 1 to 64")]
pub struct ParseSignalError {
    /// What was given.
    pub text: String,
}

impl From<Signal> for String {
    fn from(signal: Signal) -> Self {
        signal.to_string()
    }
}

#[derive(Deserialize)]
#[serde(untagged)]
enum SignalText {
    Number(i32),
    Name(String),
}

impl TryFrom<SignalText> for Signal {
    type Error = ParseSignalError;

    fn try_from(text: SignalText) -> Result<Self, Self::Error> {
        match text {
            SignalText::Number(number) => Self::new(number),
            SignalText::Name(name) => name.parse(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_numbers_agree() {
        for number in 1..=64 {
            let signal = Signal::new(number).unwrap();
            assert_eq!(signal.to_string().parse::<Signal>().unwrap(), signal);
        }
        for (text, number) in [("term", 15), ("SIGRTMIN+3", 37), ("RTMAX-1", 63), ("IOT", 6)] {
            assert_eq!(text.parse::<Signal>().unwrap().number(), number);
        }
        for wrong in ["", "SIG", "0", "65", "-1", "RTMIN+31", "RTMAX-31", "NOPE"] {
            assert!(wrong.parse::<Signal>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn json_takes_both_forms() {
        assert_eq!(serde_json::from_str::<Signal>("9").unwrap(), Signal::KILL);
        assert_eq!(serde_json::from_str::<Signal>("\"kill\"").unwrap(), Signal::KILL);
        assert_eq!(serde_json::to_string(&Signal::KILL).unwrap(), "\"SIGKILL\"");
    }
}
