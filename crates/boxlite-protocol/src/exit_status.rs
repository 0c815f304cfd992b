//! How a process ended, in the protocol's form and in others.

use crate::guest::{ExitStatus, exit_status::How};

impl ExitStatus {
    /// A process that called `exit` with `code` (0…255).
    pub fn from_code(code: i32) -> Self {
        ExitStatus {
            how: Some(How::Code(code)),
            out_of_memory: false,
            output_cut: false,
        }
    }

    /// A process that the signal with this Linux number ended.
    pub fn from_signal(signal: i32) -> Self {
        ExitStatus {
            how: Some(How::Signal(signal)),
            out_of_memory: false,
            output_cut: false,
        }
    }

    /// Reads a status as wait(2) on Linux gives it. `None` for one that is not an
    /// end (a stop or a continuation).
    pub fn from_wait_status(status: i32) -> Option<Self> {
        match status & 0x7f {
            0 => Some(Self::from_code((status >> 8) & 0xff)),
            0x7f => None,
            signal => Some(Self::from_signal(signal)),
        }
    }

    /// What a shell shows for it in `$?`: the code, or 128 + the signal's number.
    /// 255 for a status that says neither, which only a broken peer sends.
    pub fn shell_code(&self) -> u8 {
        let number = match self.how {
            Some(How::Code(code)) => Some(code),
            Some(How::Signal(signal)) => signal.checked_add(128),
            None => None,
        };
        number.and_then(|number| u8::try_from(number).ok()).unwrap_or(u8::MAX)
    }

    /// True for exit code 0.
    pub fn success(&self) -> bool {
        self.how == Some(How::Code(0))
    }
}

#[cfg(unix)]
impl From<std::process::ExitStatus> for ExitStatus {
    fn from(status: std::process::ExitStatus) -> Self {
        use std::os::unix::process::ExitStatusExt as _;
        match (status.code(), status.signal()) {
            (Some(code), _) => Self::from_code(code),
            (None, Some(signal)) => Self::from_signal(signal),
            (None, None) => ExitStatus::default(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn wait_statuses_are_read_as_the_kernel_writes_them() {
        assert_eq!(ExitStatus::from_wait_status(3 << 8), Some(ExitStatus::from_code(3)));
        assert_eq!(ExitStatus::from_wait_status(9), Some(ExitStatus::from_signal(9)));
        // 0x80: a core was dumped.
        assert_eq!(
            ExitStatus::from_wait_status(11 | 0x80),
            Some(ExitStatus::from_signal(11))
        );
        assert_eq!(ExitStatus::from_wait_status(0x137f), None);
    }

    #[test]
    fn shells_see_the_code_or_128_and_the_signal() {
        assert_eq!(ExitStatus::from_code(7).shell_code(), 7);
        assert_eq!(ExitStatus::from_signal(15).shell_code(), 143);
        assert_eq!(ExitStatus::default().shell_code(), 255);
        assert_eq!(ExitStatus::from_signal(i32::MAX).shell_code(), 255);
        assert!(ExitStatus::from_code(0).success());
        assert!(!ExitStatus::from_signal(0).success());
    }

    proptest! {
        #[test]
        fn agrees_with_the_standard_library(status in 0..=0xffff_i32) {
            use std::os::unix::process::ExitStatusExt as _;
            let std = std::process::ExitStatus::from_raw(status);
            if let Some(ours) = ExitStatus::from_wait_status(status) {
                prop_assert_eq!(ours, std.into());
            } else {
                prop_assert!(std.code().is_none() && std.signal().is_none());
            }
        }
    }
}
