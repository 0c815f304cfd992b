//! Metrics: what the box uses.

use std::fs;

use boxlite_protocol::guest::MetricsResponse;
use rustix::{
    fs::fstatvfs,
    time::{ClockId, clock_gettime},
};

use crate::{agent::BoxState, cgroup};

/// Bytes of a sector in /sys/block/*/stat, whatever the disk's.
const SECTOR_BYTES: u64 = 512;

/// Reads all figures. What the kernel does not give is 0.
pub(crate) fn read(state: &BoxState) -> MetricsResponse {
    let cpu = cgroup::read_box("cpu.stat").unwrap_or_default();
    let number = |name| cgroup::read_box(name).and_then(|text| text.trim().parse::<u64>().ok());
    let statistics = cgroup::read_box("memory.stat").unwrap_or_default();
    // As other container tools count: without the file cache that could go at once.
    let memory = number("memory.current")
        .unwrap_or(0)
        .saturating_sub(cgroup::field(&statistics, "inactive_file").unwrap_or(0));
    let (net_rx_bytes, net_tx_bytes) = network(&fs::read_to_string("/proc/net/dev").unwrap_or_default());
    let (mut block_read_bytes, mut block_write_bytes) = (0, 0);
    for disk in &state.disks {
        let text = fs::read_to_string(format!("/sys/block/{disk}/stat")).unwrap_or_default();
        let (read, written) = sectors(&text);
        block_read_bytes += read * SECTOR_BYTES;
        block_write_bytes += written * SECTOR_BYTES;
    }
    let uptime = clock_gettime(ClockId::Boottime);
    // Of an overlay these are the figures of its upper file system, the disk.
    let (disk_used_bytes, disk_total_bytes) = fstatvfs(state.spaces.root())
        .map(|disk| {
            let used = disk.f_blocks.saturating_sub(disk.f_bfree);
            (used * disk.f_frsize, disk.f_blocks * disk.f_frsize)
        })
        .unwrap_or_default();
    MetricsResponse {
        cpu_usage_us: cgroup::field(&cpu, "usage_usec").unwrap_or(0),
        memory_usage_bytes: memory,
        memory_limit_bytes: memory_total(&fs::read_to_string("/proc/meminfo").unwrap_or_default()),
        net_rx_bytes,
        net_tx_bytes,
        block_read_bytes,
        block_write_bytes,
        processes: number("pids.current")
            .and_then(|count| count.try_into().ok())
            .unwrap_or(0),
        disk_used_bytes,
        disk_total_bytes,
        uptime_us: uptime.tv_sec.unsigned_abs() * 1_000_000 + uptime.tv_nsec.unsigned_abs() / 1000,
    }
}

/// Received and sent bytes of all interfaces but loopback in /proc/net/dev (proc(5)).
fn network(text: &str) -> (u64, u64) {
    let mut sums = (0, 0);
    for line in text.lines() {
        let Some((name, figures)) = line.split_once(':') else {
            continue;
        };
        if name.trim() == "lo" {
            continue;
        }
        let figures: Vec<u64> = figures.split_whitespace().map_while(|word| word.parse().ok()).collect();
        if let [received, _, _, _, _, _, _, _, sent, ..] = figures[..] {
            sums = (sums.0 + received, sums.1 + sent);
        }
    }
    sums
}

/// Sectors read and written in /sys/block/*/stat (Documentation/block/stat.rst).
fn sectors(text: &str) -> (u64, u64) {
    let mut figures = text.split_whitespace().map(|word| word.parse().unwrap_or(0));
    (figures.nth(2).unwrap_or(0), figures.nth(3).unwrap_or(0))
}

/// MemTotal of /proc/meminfo in bytes.
fn memory_total(text: &str) -> u64 {
    text.lines()
        .find_map(|line| {
            line.strip_prefix("MemTotal:")?
                .trim()
                .strip_suffix(" kB")?
                .parse::<u64>()
                .ok()
        })
        .map_or(0, |kibibytes| kibibytes * 1024)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_kernels_files_are_read() {
        let dev = "Inter-|   Receive                    |  Transmit\n \
            face |bytes    packets errs drop fifo frame compressed multicast|bytes packets\n    \
            lo:     100       1    0    0    0     0          0         0      100       1    0    0    0     0       0          0\n  \
            eth0:    2000      20    0    0    0     0          0         0     3000      30    0    0    0     0       0          0\n";
        assert_eq!(network(dev), (2000, 3000));
        assert_eq!(sectors("  1 2 3 4 5 6 7 8 9 10 11\n"), (3, 7));
        assert_eq!(memory_total("MemTotal:       1024 kB\nMemFree: 3 kB\n"), 1024 * 1024);
    }

    proptest! {
        #[test]
        fn any_text_is_read(text: String) {
            let _ = (network(&text), sectors(&text), memory_total(&text));
        }
    }
}
