//! How fast the host's time stamp counter runs, for guests that read it under emulation.

use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};

use crate::sys;

/// Between the two readings. Each is bracketed to some 100 ns, so the frequency is right to
/// about 20 in a million; the guest's clock is set from the host's at the start anyway.
const BETWEEN: Duration = Duration::from_millis(10);
/// The narrowest of these brackets counts: the process may be held up within others.
const ATTEMPTS: usize = 8;
const CLOCK_SOURCE: &str = "/sys/devices/system/clocksource/clocksource0/current_clocksource";

/// The counter's frequency in kHz, if the host's kernel itself keeps time with it: then it
/// never stops and is the same on every processor. Blocking (10 ms).
///
/// Emulated guests read the host's counter. Left alone, Linux measures it against an emulated
/// timer, fails on a busy host, and goes on with a clock that ticks every 4 ms.
pub(super) fn frequency_khz() -> Option<u32> {
    let source = std::fs::read_to_string(CLOCK_SOURCE).ok()?;
    if source.trim() != "tsc" {
        return None;
    }
    let (first_ns, first) = reading()?;
    std::thread::sleep(BETWEEN);
    let (last_ns, last) = reading()?;
    frequency(last.checked_sub(first)?, last_ns.checked_sub(first_ns)?)
}

/// Cycles in as many nanoseconds, in kHz.
fn frequency(cycles: u64, elapsed_ns: u64) -> Option<u32> {
    let khz = u128::from(cycles) * 1_000_000 / u128::from(elapsed_ns.max(1));
    // Anything else is no counter of a processor that Linux runs on.
    u32::try_from(khz)
        .ok()
        .filter(|khz| (100_000..=10_000_000).contains(khz))
}

/// The time in nanoseconds and the counter at that time.
fn reading() -> Option<(u64, u64)> {
    (0..ATTEMPTS)
        .filter_map(|_| {
            let before = now_ns()?;
            let cycles = sys::time_stamp_counter()?;
            let width = now_ns()?.checked_sub(before)?;
            Some((width, before + width / 2, cycles))
        })
        .min()
        .map(|(_, at_ns, cycles)| (at_ns, cycles))
}

fn now_ns() -> Option<u64> {
    let now = clock_gettime(ClockId::Monotonic);
    let nanoseconds = u64::try_from(now.tv_nsec).ok()?;
    Some(u64::try_from(now.tv_sec).ok()? * 1_000_000_000 + nanoseconds)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cycles_over_time_are_a_frequency() {
        assert_eq!(frequency(25_961_440, 10_000_000), Some(2_596_144));
        assert_eq!(frequency(0, 10_000_000), None);
        assert_eq!(frequency(1, 0), Some(1_000_000));
        assert_eq!(frequency(u64::MAX, 1), None);
    }

    #[test]
    fn it_is_known_where_the_kernel_trusts_the_counter() {
        let trusted = std::fs::read_to_string(CLOCK_SOURCE).is_ok_and(|source| source.trim() == "tsc");
        assert_eq!(frequency_khz().is_some(), trusted && cfg!(target_arch = "x86_64"));
    }
}
