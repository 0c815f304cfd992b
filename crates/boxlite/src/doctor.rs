//! Whether a start can work on this host, check by check.

use serde::{Deserialize, Serialize};

/// The result of [`crate::Client::doctor`].
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct DoctorReport {
    /// One for each thing that a start needs.
    pub checks: Vec<Check>,
}

impl DoctorReport {
    /// Whether a start can work: no check failed.
    #[must_use]
    pub fn can_start(&self) -> bool {
        self.checks
            .iter()
            .all(|check| check.status != CheckStatus::Failure)
    }
}

/// One check.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Check {
    /// What was checked.
    pub name: String,
    /// How it came out.
    pub status: CheckStatus,
    /// What was found, in one line.
    pub message: String,
    /// The command or change that mends it.
    pub fix: Option<String>,
}

/// How a check came out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CheckStatus {
    /// Good.
    Ok,
    /// A start works, but something is slower or weaker than it could be.
    Warning,
    /// A start can't work.
    Failure,
}
