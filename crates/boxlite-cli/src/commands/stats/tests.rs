use super::*;

fn metrics(uptime_us: u64, cpu_usage_us: u64) -> Metrics {
    serde_json::from_value(serde_json::json!({
        "sampled_at_ms": 0,
        "cpu_usage_us": cpu_usage_us,
        "memory_usage_bytes": 64 << 20,
        "memory_limit_bytes": 512 << 20,
        "net_rx_bytes": 1000,
        "net_tx_bytes": 2000,
        "block_read_bytes": 0,
        "block_write_bytes": 4096,
        "processes": 3,
        "disk_used_bytes": 0,
        "disk_total_bytes": 0,
        "uptime_us": uptime_us,
        "host": {"cpu_us": 0, "rss_bytes": 0, "pss_bytes": 80 << 20},
    }))
    .unwrap()
}

#[test]
fn shares_of_a_vcpu() {
    let before = metrics(1_000_000, 100_000);
    assert_eq!(cpu_percent(&before, &metrics(2_000_000, 600_000)), Some(50.0));
    assert_eq!(cpu_percent(&before, &metrics(3_000_000, 4_100_000)), Some(200.0));
    // The same moment, and a box that was started again.
    assert_eq!(cpu_percent(&before, &before), None);
    assert_eq!(cpu_percent(&before, &metrics(500_000, 1)), None);
}

#[test]
fn a_row_for_each_box() {
    let sample = |name: &str, metrics| Sample {
        id: "0123456789abcdef".into(),
        name: name.into(),
        state: BoxState::Running,
        cpu_percent: Some(12.5),
        metrics,
    };
    let text = table(&[sample("up", Some(metrics(1, 1))), sample("over", None)], false).render();
    assert_eq!(
        text,
        "BOX ID         NAME   CPU %    MEM USAGE / LIMIT   MEM %    NET I/O           BLOCK I/O     PIDS   HOST MEM\n\
         0123456789ab   up     12.50%   64.0MiB / 512MiB    12.50%   1.00kB / 2.00kB   0B / 4.10kB   3      80.0MiB\n\
         0123456789ab   over   --       --                  --       --                --            --     --\n"
    );
}
