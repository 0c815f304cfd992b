use super::*;
use boxlite::{ExitStatus, Protocol};

const NOW: Timestamp = Timestamp::constant(1_700_000_000, 0);

fn info(state: &str) -> BoxInfo {
    serde_json::from_value(serde_json::json!({
        "id": "0123456789abcdef0123456789abcdef",
        "name": "bold_box",
        "image": "alpine:3.20",
        "image_digest": "sha256:00",
        "platform": "linux/amd64",
        "state": state,
        "created_at_ms": 1_699_999_000_000_u64,
        "started_at_ms": 1_699_999_880_000_u64,
        "finished_at_ms": 1_699_999_990_000_u64,
        "exit_status": null,
        "error": null,
        "cpus": 2,
        "memory_mib": 512,
        "disk_mib": 10240,
        "command": ["sh", "-c", "echo \u{1b}[31m a long command"],
        "env": [],
        "working_dir": "/",
        "user": "",
        "hostname": "h",
        "stop_signal": "SIGTERM",
        "stop_timeout_ms": 10000,
        "tty": false,
        "stdin_open": false,
        "detached": true,
        "auto_remove": false,
        "mounts": [],
        "ports": [],
        "network": "user",
        "labels": {},
        "engine": "auto",
        "run": null,
        "jail": null,
        "directory": "/home/me/.boxlite/boxes/0123456789abcdef0123456789abcdef",
    }))
    .unwrap()
}

fn args(wide: bool) -> PsArgs {
    PsArgs {
        all: false,
        quiet: false,
        filter: Vec::new(),
        latest: false,
        no_trunc: false,
        wide,
        format: Format::Table,
    }
}

#[test]
fn a_table_like_dockers() {
    let mut running = info("running");
    running.ports = vec![
        PublishedPort {
            host_ip: "127.0.0.1".parse().unwrap(),
            host: 8080,
            guest: 80,
            protocol: Protocol::Tcp,
        },
        PublishedPort {
            host_ip: "::1".parse().unwrap(),
            host: 53,
            guest: 53,
            protocol: Protocol::Udp,
        },
    ];
    insta::assert_snapshot!(table(&[running.clone()], &args(false), NOW).render());
    insta::assert_snapshot!(table(&[running], &args(true), NOW).render());
}

#[test]
fn what_became_of_a_box() {
    let mut stopped = info("stopped");
    assert_eq!(status(&stopped, NOW), "Stopped 10 seconds ago");
    stopped.exit_status = Some(ExitStatus::from_signal(9));
    assert_eq!(status(&stopped, NOW), "Exited (137) 10 seconds ago");
    assert_eq!(status(&info("running"), NOW), "Up 2 minutes");
    assert_eq!(status(&info("paused"), NOW), "Up 2 minutes (Paused)");
    assert_eq!(status(&info("created"), NOW), "Created");
    assert_eq!(status(&info("failed"), NOW), "Failed 10 seconds ago");
}

#[test]
fn filters() {
    assert_eq!(parse_filter("status=exited"), Ok(Filter::State(BoxState::Stopped)));
    assert_eq!(parse_filter("label=a=b"), Ok(Filter::Label("a=b".to_owned())));
    assert!(parse_filter("status=up").is_err());
    assert!(parse_filter("volume=x").is_err());
    let mut args = args(false);
    args.filter = ["id=01", "name=web", "status=running", "ancestor=alpine"]
        .iter()
        .map(|text| parse_filter(text).unwrap())
        .collect();
    let list = list_filter(&args);
    assert_eq!(list.ids, ["01"]);
    assert_eq!(list.names, ["web"]);
    assert_eq!(list.states, [BoxState::Running]);
    assert_eq!(list.ancestors, ["alpine"]);
    assert!(!list.all);
}
