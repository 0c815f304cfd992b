//! For every field of `BoxOptions`, something that is only so if the field arrived.

use std::collections::BTreeSet;
use std::io::{Read, Write};
use std::time::{Duration, Instant};

use boxlite_ffi::boxes::*;
use boxlite_ffi::exec::*;
use serde_json::json;

use crate::harness::op;
use crate::harness::{Client, c, image, shell, start_exec, stream};
use crate::scene::{Scene, info, logs, start, stop, wait};

type Case = (&'static [&'static str], fn(&Scene));

/// Fields, and the test that proves them.
const CASES: &[Case] = &[
    (
        &[
            "image",
            "name",
            "cpus",
            "memory_mib",
            "disk_mib",
            "env",
            "working_dir",
            "user",
            "hostname",
            "labels",
            "mounts",
            "extra_hosts",
            "dns",
            "dns_search",
            "engine",
            "platform",
            "start",
        ],
        what_a_box_is_made_of,
    ),
    (&["command", "entrypoint", "run_image_command"], main_processes),
    (&["tty", "stdin_open"], terminals),
    (&["ports", "network"], networks),
    (&["detached", "auto_remove"], owners),
    (&["stop_signal", "stop_timeout_ms", "start_timeout_ms"], stops),
    (&["pull_policy", "security", "log_limits"], limits),
];

#[test]
fn every_field_has_a_case() {
    let all = serde_json::to_value(boxlite::BoxOptions::new("image")).unwrap();
    let all: BTreeSet<&str> = all.as_object().unwrap().keys().map(String::as_str).collect();
    let known: BTreeSet<&str> = CASES.iter().flat_map(|(fields, _)| fields.iter().copied()).collect();
    assert_eq!(all, known);
}

#[test]
#[ignore = "starts machines"]
fn every_field_arrives() {
    for (fields, case) in CASES {
        let begun = Instant::now();
        case(&Scene::new());
        println!("{fields:?}: {:?}", begun.elapsed());
    }
}

fn what_a_box_is_made_of(scene: &Scene) {
    let folder = scene.folder.path().join("shared");
    std::fs::create_dir(&folder).unwrap();
    std::fs::write(folder.join("file"), "from the host").unwrap();
    let target = scene.start(json!({
        "name": "made", "cpus": 2, "memory_mib": 160, "disk_mib": 48,
        "env": { "GREETING": "over the image's", "EXTRA": "a \"b\"\nc" },
        "working_dir": "/srv/work", "user": "guest", "hostname": "named",
        "labels": { "key": "value" },
        "mounts": [{ "source": folder, "target": "/rw" }, { "source": folder, "target": "/ro", "read_only": true }],
        "extra_hosts": [{ "name": "db", "address": "10.9.8.7" }], "dns": ["10.1.1.1"], "dns_search": ["example.org"],
        "engine": "qemu", "platform": "linux/amd64", "start": "cold",
    }));
    let info = info(target);
    for (field, value) in [
        ("name", json!("made")),
        ("cpus", json!(2)),
        ("memory_mib", json!(160)),
        ("disk_mib", json!(48)),
        ("image", json!(image())),
        ("working_dir", json!("/srv/work")),
        ("user", json!("guest")),
        ("hostname", json!("named")),
        ("engine", json!("qemu")),
        ("platform", json!("linux/amd64")),
        ("network", json!("user")),
        ("state", json!("running")),
        ("detached", json!(false)),
    ] {
        assert_eq!(info[field], value, "{field}");
    }
    assert_eq!(info["run"]["start_mode"], "cold");
    assert_eq!(
        (&info["labels"]["key"], &info["labels"]["org.example.kind"]),
        (&json!("value"), &json!("demo"))
    );
    assert_eq!(shell(target, "cat /etc/motd"), "hello from an OCI image\n");
    assert_eq!(shell(target, "grep -c ^processor /proc/cpuinfo"), "2\n");
    let memory_kib: u64 = shell(target, "awk '/MemTotal/ { print $2 }' /proc/meminfo")
        .trim()
        .parse()
        .unwrap();
    assert!((100..=160).contains(&(memory_kib / 1024)), "{memory_kib} KiB");
    let disk_bytes = op!(boxlite_box_metrics(target)).unwrap().json().unwrap()["disk_total_bytes"]
        .as_u64()
        .unwrap();
    assert!((24..=48).contains(&(disk_bytes >> 20)), "{disk_bytes} bytes");
    assert_eq!(
        shell(target, "printf %s \"$GREETING|$EXTRA\""),
        "over the image's|a \"b\"\nc"
    );
    assert_eq!(shell(target, "pwd; id -un; hostname"), "/srv/work\nguest\nnamed\n");
    assert_eq!(shell(target, "cat /rw/file /ro/file"), "from the hostfrom the host");
    let root = |script: &str| json!({ "command": ["sh", "-c", script], "user": "root" });
    let run = |script| crate::harness::run(target, &root(script), None).unwrap().status["code"].clone();
    assert_eq!(run("echo from the box > /rw/back"), 0);
    assert_eq!(std::fs::read_to_string(folder.join("back")).unwrap(), "from the box\n");
    assert_eq!(run("echo no > /ro/back"), 1);
    assert!(shell(target, "cat /etc/hosts").contains("10.9.8.7"));
    let resolver = shell(target, "cat /etc/resolv.conf");
    assert!(
        resolver.contains("nameserver 10.1.1.1") && resolver.contains("example.org"),
        "{resolver}"
    );
    for (wrong, code) in [
        (json!({ "engine": "krun" }), 5),
        (json!({ "platform": "linux/s390x" }), 1),
        (json!({ "name": "made" }), 2),
    ] {
        assert_eq!(scene.create(wrong.clone()).unwrap_err().code, code, "{wrong}");
    }
}

fn main_processes(scene: &Scene) {
    let printed = |options| {
        let target = scene.start(options);
        assert_eq!(
            wait(target),
            json!({ "code": 0, "signal": null, "out_of_memory": false, "output_cut": false })
        );
        logs(target, json!({}))
    };
    let command = printed(json!({ "command": ["sh", "-c", "echo out; echo err >&2"] }));
    assert_eq!(command, ("out\n".to_owned(), "err\n".to_owned()));
    assert_eq!(
        printed(json!({ "entrypoint": ["echo", "entry"], "command": ["word"] })).0,
        "entry word\n"
    );
    // The image's command is a shell, whose input is at its end.
    assert_eq!(printed(json!({ "run_image_command": true })).0, "");
    let idle = scene.create(json!({})).unwrap();
    assert_eq!(info(idle)["command"], json!([]));
}

fn terminals(scene: &Scene) {
    let target = scene.create(json!({ "command": ["sh", "-c", "tty; stty size; read line; echo \"<$line>\""], "tty": true, "stdin_open": true })).unwrap();
    let options = c(&json!({ "stdin": true, "rows": 31, "columns": 97 }).to_string());
    let exec = op!(boxlite_box_start_attached(target, options.as_ptr()))
        .unwrap()
        .handle()
        .unwrap();
    assert_eq!(
        (&info(target)["tty"], &info(target)["stdin_open"]),
        (&json!(true), &json!(true))
    );
    let mut output = stream(exec, boxlite_exec_stdout_fd).unwrap();
    assert_eq!(stream(exec, boxlite_exec_stderr_fd).unwrap_err().code, 3);
    stream(exec, boxlite_exec_stdin_fd)
        .unwrap()
        .write_all(b"typed\n")
        .unwrap();
    let mut text = String::new();
    output.read_to_string(&mut text).unwrap();
    assert!(
        text.contains("/dev/pts/") && text.contains("31 97") && text.contains("<typed>"),
        "{text:?}"
    );
    assert_eq!(op!(boxlite_exec_wait(exec)).unwrap().json().unwrap()["code"], 0);

    // Nobody is attached, and yet its input does not end.
    let target = scene.start(json!({ "command": ["cat"], "stdin_open": true }));
    let both = c("{\"stdin\":true,\"stderr\":\"null\"}");
    let exec = op!(boxlite_box_attach(target, both.as_ptr()))
        .unwrap()
        .handle()
        .unwrap();
    let mut output = stream(exec, boxlite_exec_stdout_fd).unwrap();
    stream(exec, boxlite_exec_stdin_fd)
        .unwrap()
        .write_all(b"later")
        .unwrap();
    let mut word = [0; 5];
    output.read_exact(&mut word).unwrap();
    assert_eq!(&word, b"later");
    let sized = c("{\"rows\":1,\"columns\":1}");
    assert_eq!(
        op!(boxlite_box_attach(target, sized.as_ptr()))
            .unwrap()
            .wait()
            .unwrap_err()
            .code,
        4
    );
    stop(target, json!({ "timeout_ms": 0 }));
}

fn networks(scene: &Scene) {
    let target = scene.start(json!({ "ports": [{ "host": 0, "guest": 8080 }], "command": ["sh", "-c", "while :; do nc -l -p 8080 -e echo served; done"] }));
    let port = info(target)["ports"][0].clone();
    assert_eq!(
        (&port["guest"], &port["protocol"], &port["host_ip"]),
        (&json!(8080), &json!("tcp"), &json!("127.0.0.1"))
    );
    let host = u16::try_from(port["host"].as_u64().unwrap()).unwrap();
    let begun = Instant::now();
    loop {
        let mut text = String::new();
        let asked =
            std::net::TcpStream::connect(("127.0.0.1", host)).and_then(|mut stream| stream.read_to_string(&mut text));
        if asked.is_ok() && text == "served\n" {
            break;
        }
        assert!(begun.elapsed() < Duration::from_secs(60), "{text:?}");
    }
    assert!(shell(target, "ls /sys/class/net").contains("eth0"));
    let alone = scene.start(json!({ "network": "none" }));
    assert_eq!(shell(alone, "ls /sys/class/net"), "lo\n");
    assert_eq!(info(alone)["network"], "none");
}

fn owners(scene: &Scene) {
    let home = tempfile::tempdir().unwrap();
    let first = Client::open(home.path());
    let made = |options: serde_json::Value| {
        let mut all = json!({ "image": image(), "memory_mib": 128, "disk_mib": 32 });
        all.as_object_mut()
            .unwrap()
            .extend(options.as_object().unwrap().clone());
        let options = c(&all.to_string());
        let target = op!(boxlite_box_create(first.0, options.as_ptr()))
            .unwrap()
            .handle()
            .unwrap();
        start(target).unwrap();
    };
    made(json!({ "name": "stays", "detached": true }));
    made(json!({ "name": "ends" }));
    first.close();
    let second = Client::open(home.path());
    let get = |name: &str| op!(boxlite_box_get(second.0, c(name).as_ptr())).unwrap().handle();
    let stays = get("stays").unwrap();
    assert_eq!(
        (&info(stays)["state"], &info(stays)["detached"]),
        (&json!("running"), &json!(true))
    );
    assert_eq!(info(get("ends").unwrap())["state"], "stopped");
    op!(boxlite_box_kill(stays, 9)).unwrap().wait().unwrap();
    wait(stays);
    let brief = scene.start(json!({ "auto_remove": true, "command": ["true"] }));
    wait(brief);
    let begun = Instant::now();
    while op!(boxlite_box_info(brief)).unwrap().wait().is_ok() {
        assert!(begun.elapsed() < Duration::from_secs(60));
    }
    assert_eq!(op!(boxlite_box_info(brief)).unwrap().wait().unwrap_err().code, 1);
    second.close();
}

fn stops(scene: &Scene) {
    let trap = json!([
        "sh",
        "-c",
        "trap 'exit 21' USR1; echo ready; while :; do sleep 0.05; done"
    ]);
    let ready = |target| {
        while !logs(target, json!({})).0.contains("ready") {
            std::thread::sleep(Duration::from_millis(20));
        }
    };
    let target = scene.start(json!({ "command": trap, "stop_signal": "USR1" }));
    ready(target);
    assert_eq!(info(target)["stop_signal"], "SIGUSR1");
    stop(target, json!({}));
    assert_eq!(info(target)["exit_status"]["code"], 21);
    // A stop of another kind, and a box that has no patience.
    start(target).unwrap();
    stop(target, json!({ "signal": "KILL" }));
    assert_eq!(info(target)["exit_status"]["signal"], 9);
    let deaf = json!(["sh", "-c", "trap '' TERM; echo ready; while :; do sleep 0.05; done"]);
    let target = scene.start(json!({ "command": deaf, "stop_timeout_ms": 50 }));
    ready(target);
    assert_eq!(info(target)["stop_timeout_ms"], 50);
    let begun = Instant::now();
    stop(target, json!({}));
    assert!(begun.elapsed() < Duration::from_secs(8), "{:?}", begun.elapsed());
    assert_eq!(info(target)["exit_status"]["signal"], 9);
    let hurried = scene.create(json!({ "start_timeout_ms": 1, "start": "cold" })).unwrap();
    let failed = start(hurried).unwrap_err();
    // An engine that is too slow is the engine's, a guest that is too slow is a deadline's.
    assert!(
        matches!(failed.code, 9 | 10) && failed.message.contains("1 ms"),
        "{failed:?}"
    );
    assert_eq!(info(hurried)["state"], "failed");
    assert!(info(hurried)["error"]["message"].as_str().unwrap().contains("1 ms"));
    assert_eq!(failed.operation, "box_start");
    assert_eq!(info(hurried)["name"], failed.box_name);
}

fn limits(scene: &Scene) {
    let absent = json!({ "image": "localhost:1/nobody/has-this:1", "pull_policy": "never" });
    assert_eq!(scene.create(absent).unwrap_err().code, 1);
    let strict = scene.create(json!({ "security": "strict" })).unwrap();
    match start(strict) {
        Ok(()) => assert_eq!(info(strict)["jail"]["missing"], json!([])),
        Err(failed) => assert_eq!(failed.code, 5, "{failed:?}"),
    }
    let script = "head -c 4000000 /dev/zero | tr '\\0' 'x'";
    let target = scene.start(json!({ "log_limits": { "max_mib": 1, "files": 1 }, "command": ["sh", "-c", script] }));
    wait(target);
    let kept = logs(target, json!({})).0.len();
    assert!((500_000..=2_200_000).contains(&kept), "{kept} bytes");
    let exec = start_exec(target, &json!({ "command": ["true"] })).unwrap_err();
    assert_eq!((exec.code, exec.operation.as_str()), (3, "exec_start"));
}
