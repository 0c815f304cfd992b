//! What a box costs its host, from proc(5).

use std::io;
use std::time::Instant;

use boxlite_protocol::shim::EngineMetricsResponse;

/// Figures of the engine `pid` and of this process.
pub(crate) fn of(pid: u32, began: Instant) -> io::Result<EngineMetricsResponse> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat"))?;
    let ticks = cpu_ticks(&stat).ok_or_else(|| unusual("stat"))?;
    let ticks_per_second = rustix::param::clock_ticks_per_second().max(1);
    let rollup = std::fs::read_to_string(format!("/proc/{pid}/smaps_rollup"))?;
    let own = std::fs::read_to_string("/proc/self/smaps_rollup")?;
    let shim_pss_bytes = field_bytes(&own, "Pss:").ok_or_else(|| unusual("smaps_rollup"))?;
    let pss_bytes = field_bytes(&rollup, "Pss:").ok_or_else(|| unusual("smaps_rollup"))?;
    Ok(EngineMetricsResponse {
        cpu_us: ticks.saturating_mul(1_000_000) / ticks_per_second,
        rss_bytes: field_bytes(&rollup, "Rss:").ok_or_else(|| unusual("smaps_rollup"))?,
        pss_bytes: pss_bytes.saturating_add(shim_pss_bytes),
        shim_pss_bytes,
        uptime_us: u64::try_from(began.elapsed().as_micros()).unwrap_or(u64::MAX),
    })
}

fn unusual(file: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, format!("/proc/PID/{file} has another form"))
}

/// utime and stime of `stat`. The name, in parentheses, may contain anything.
fn cpu_ticks(stat: &str) -> Option<u64> {
    let (_, fields) = stat.rsplit_once(')')?;
    let mut fields = fields.split_ascii_whitespace().skip(11);
    let user: u64 = fields.next()?.parse().ok()?;
    let system: u64 = fields.next()?.parse().ok()?;
    user.checked_add(system)
}

/// A line `name    123 kB`.
fn field_bytes(text: &str, name: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix(name))?;
    let kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    kib.checked_mul(1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_its_own_figures() {
        let metrics = of(std::process::id(), Instant::now()).unwrap();
        assert!(metrics.rss_bytes > 0);
        assert!(metrics.pss_bytes >= metrics.shim_pss_bytes);
    }

    #[test]
    fn a_name_with_parentheses_is_no_trap() {
        let stat = "7 (a) b) S 1 2 3 4 5 6 7 8 9 10 30 12 0 0 20";
        assert_eq!(cpu_ticks(stat), Some(42));
        assert_eq!(cpu_ticks("7 (x"), None);
    }

    #[test]
    fn reads_kibibytes() {
        assert_eq!(field_bytes("Rss:   8 kB\nPss:  4 kB\n", "Pss:"), Some(4096));
        assert_eq!(field_bytes("Rss: 8", "Rss:"), None);
    }
}
