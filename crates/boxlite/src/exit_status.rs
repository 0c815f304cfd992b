//! How a process ended.

use serde::{Deserialize, Serialize};

/// How a process of a box ended.
///
/// ```
/// use boxlite::ExitStatus;
///
/// assert!(ExitStatus::from_code(0).success());
/// assert_eq!(ExitStatus::from_signal(9).shell_code(), 137);
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct ExitStatus {
    code: Option<i32>,
    signal: Option<i32>,
    #[serde(default)]
    out_of_memory: bool,
    #[serde(default)]
    output_cut: bool,
}

impl ExitStatus {
    /// A process that called `exit(code)`; only the low eight bits count, as in `wait(2)`.
    #[must_use]
    pub fn from_code(code: i32) -> Self {
        Self {
            code: Some(code & 0xff),
            signal: None,
            out_of_memory: false,
            output_cut: false,
        }
    }

    /// A process that was ended by a signal (Linux number).
    #[must_use]
    pub fn from_signal(signal: i32) -> Self {
        Self {
            code: None,
            signal: Some(signal),
            out_of_memory: false,
            output_cut: false,
        }
    }

    /// The same status, with the mark that the guest's kernel was out of memory.
    #[must_use]
    pub fn with_out_of_memory(mut self, out_of_memory: bool) -> Self {
        self.out_of_memory = out_of_memory;
        self
    }

    /// The same status, with the mark that its outputs were cut.
    #[must_use]
    pub fn with_output_cut(mut self, output_cut: bool) -> Self {
        self.output_cut = output_cut;
        self
    }

    /// The exit code, if the process exited by itself.
    #[must_use]
    pub fn code(&self) -> Option<i32> {
        self.code
    }

    /// The signal that ended the process, if one did.
    #[must_use]
    pub fn signal(&self) -> Option<i32> {
        self.signal
    }

    /// Whether the guest's kernel killed it for want of memory.
    #[must_use]
    pub fn out_of_memory(&self) -> bool {
        self.out_of_memory
    }

    /// Whether other processes held its outputs when the time for them was over
    /// ([`ExecOptions::output_grace`](crate::ExecOptions)).
    #[must_use]
    pub fn output_cut(&self) -> bool {
        self.output_cut
    }

    /// Whether the process exited with code 0.
    #[must_use]
    pub fn success(&self) -> bool {
        self.code == Some(0)
    }

    /// One number as shells have it: the exit code, or 128 + the signal.
    #[must_use]
    pub fn shell_code(&self) -> i32 {
        match (self.code, self.signal) {
            (Some(code), _) => code,
            (None, Some(signal)) => 128 + signal,
            (None, None) => 0,
        }
    }
}

impl std::fmt::Display for ExitStatus {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match (self.code, self.signal) {
            (Some(code), _) => write!(f, "exit code {code}")?,
            (None, Some(signal)) => write!(f, "signal {signal}")?,
            (None, None) => f.write_str("no status")?,
        }
        if self.out_of_memory {
            f.write_str(" (out of memory)")?;
        }
        Ok(())
    }
}
