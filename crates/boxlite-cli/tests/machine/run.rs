//! `boxlite run`: what a program gets, and what its caller gets back.

use std::io::Read as _;
use std::time::Duration;

use crate::harness::{eventually, fresh, process_exists, send_signal, shared, text, unique};

const RUN: [&str; 4] = ["run", "--rm", "--memory", "256m"];

fn run(more: &[&'static str]) -> Vec<&'static str> {
    RUN.iter().chain(more).copied().collect()
}

#[test]
#[ignore = "starts a machine"]
fn an_image_is_also_named_by_its_id() {
    let boxlite = shared();
    let id = boxlite.ok(["images", "-q", "busybox:latest"]);
    assert_eq!(
        boxlite.ok(["run", "--rm", "--pull", "never", id.trim(), "echo", "hi"]),
        "hi\n"
    );
}

#[test]
#[ignore = "starts a machine"]
fn a_box_has_its_own_kernel_and_the_images_files() {
    let out = shared().ok(run(&[
        "busybox",
        "sh",
        "-c",
        "uname -sr; cat /etc/motd; echo $$ $GREETING",
    ]));
    let lines: Vec<_> = out.lines().collect();
    assert!(
        lines[0].starts_with("Linux 6.") && lines[0].ends_with("-boxlite"),
        "{out}"
    );
    assert_eq!(&lines[1..], ["hello from an OCI image", "1 from the image"]);
    let host = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap();
    assert!(!lines[0].contains(host.trim()));
}

#[test]
#[ignore = "starts machines"]
fn the_exit_status_is_the_programs_own() {
    let boxlite = shared();
    boxlite.fails(7, run(&["busybox", "sh", "-c", "exit 7"]));
    boxlite.fails(137, run(&["busybox", "sh", "-c", "sh -c 'kill -9 $$'; exit $?"]));
    let missing = boxlite.fails(127, run(&["busybox", "no-such-program"]));
    assert!(missing.contains("no-such-program"), "{missing}");
    let not_executable = boxlite.fails(126, run(&["busybox", "/etc/motd"]));
    assert!(not_executable.contains("/etc/motd"), "{not_executable}");
}

#[test]
#[ignore = "starts a machine"]
fn options_reach_the_program() {
    let script = "id -u; id -g; pwd; echo $A; echo $GREETING; hostname; cat /proc/cpuinfo | grep -c ^processor; \
                  awk '/MemTotal/ {print ($2 > 300000 && $2 < 400000)}' /proc/meminfo; df -m / | awk 'NR==2 {print ($2 > 1500 && $2 <= 2048)}'";
    let out = shared().ok([
        "run",
        "--rm",
        "--memory",
        "384m",
        "--cpus",
        "2",
        "--disk",
        "2g",
        "-u",
        "guest",
        "-w",
        "/srv/made",
        "-e",
        "A=b c",
        "-e",
        "GREETING=replaced",
        "--hostname",
        "given",
        "busybox",
        "sh",
        "-c",
        script,
    ]);
    assert_eq!(
        out.lines().collect::<Vec<_>>(),
        ["1000", "1000", "/srv/made", "b c", "replaced", "given", "2", "1", "1"]
    );
}

#[test]
#[ignore = "starts machines"]
fn users_are_looked_up_in_the_image() {
    let boxlite = shared();
    assert_eq!(
        boxlite.ok(run(&["-u", "1234:4321", "busybox", "sh", "-c", "id -u; id -g"])),
        "1234\n4321\n"
    );
    let unknown = boxlite.fails(125, run(&["-u", "nobody-here", "busybox", "true"]));
    assert!(unknown.contains("nobody-here"), "{unknown}");
}

#[test]
#[ignore = "starts machines"]
fn the_images_config_applies_and_yields_to_options() {
    let boxlite = shared();
    let out = boxlite.ok(run(&[
        "layers",
        "sh",
        "-c",
        "whoami; pwd; test -d /var/data && echo data; echo $LANG",
    ]));
    assert_eq!(out, "daemon\n/srv/work\ndata\nC.UTF-8\n");
    assert_eq!(boxlite.ok(run(&["--entrypoint", "/bin/echo", "layers", "hi"])), "hi\n");
    let name = unique("config");
    boxlite.ok(["create", "--name", &name, "layers"]);
    let info = boxlite.inspect(&name);
    boxlite.ok(["rm", &name]);
    let process = info.to_string();
    assert!(
        process.contains("/usr/bin/env") && process.contains("SIGINT"),
        "{info:#}"
    );
}

#[test]
#[ignore = "starts a machine"]
fn input_and_output_are_byte_exact() {
    let mut input: Vec<u8> = (0..=255_u8).cycle().take(3 << 20).collect();
    input.extend(b"\0\r\n\xff without a newline at the end");
    let output = shared().with_input(run(&["-i", "busybox", "cat"]), &input);
    assert!(output.status.success(), "{}", text(&output.stderr));
    assert!(
        output.stdout == input,
        "{} bytes came back of {}",
        output.stdout.len(),
        input.len()
    );
}

#[test]
#[ignore = "starts a machine"]
fn stdout_and_stderr_stay_apart() {
    let output = shared().output(run(&["busybox", "sh", "-c", "echo out; echo err >&2; exit 3"]));
    assert_eq!(
        (text(&output.stdout).as_str(), output.status.code()),
        ("out\n", Some(3))
    );
    assert!(text(&output.stderr).ends_with("err\n"), "{}", text(&output.stderr));
}

#[test]
#[ignore = "starts a machine"]
fn a_slow_reader_loses_nothing_and_costs_no_memory() {
    const BYTES: usize = 96 << 20;
    let mut child = shared().spawn(run(&[
        "busybox",
        "sh",
        "-c",
        "head -c 100663296 /dev/zero | tr '\\0' x; echo end >&2",
    ]));
    let mut stdout = child.stdout.take().unwrap();
    let mut received = 0;
    let mut peak_kib = 0;
    let mut buffer = vec![0; 1 << 20];
    loop {
        let count = stdout.read(&mut buffer).unwrap();
        if count == 0 {
            break;
        }
        assert!(buffer[..count].iter().all(|byte| *byte == b'x'));
        received += count;
        if received % (8 << 20) < count {
            std::thread::sleep(Duration::from_millis(30));
            let status = std::fs::read_to_string(format!("/proc/{}/status", child.id())).unwrap_or_default();
            let rss = status
                .lines()
                .find_map(|line| line.strip_prefix("VmRSS:"))
                .and_then(|rest| rest.split_whitespace().next()?.parse().ok());
            peak_kib = peak_kib.max(rss.unwrap_or(0));
        }
    }
    assert!(child.wait().unwrap().success());
    assert_eq!(received, BYTES);
    assert!(peak_kib < 64 << 10, "the command held {peak_kib} KiB");
}

#[test]
#[ignore = "starts a machine"]
fn signals_reach_the_program() {
    let child = shared().spawn(run(&[
        "busybox",
        "sh",
        "-c",
        "trap 'echo got it; exit 9' TERM; echo ready; while :; do sleep 1; done",
    ]));
    let mut child = child;
    let mut stdout = child.stdout.take().unwrap();
    let mut ready = [0; 6];
    stdout.read_exact(&mut ready).unwrap();
    send_signal("TERM", child.id());
    let mut rest = String::new();
    stdout.read_to_string(&mut rest).unwrap();
    assert_eq!((rest.as_str(), child.wait().unwrap().code()), ("got it\n", Some(9)));
}

#[test]
#[ignore = "starts a machine"]
fn a_reader_that_goes_away_ends_the_program() {
    let name = unique("epipe");
    let mut child = shared().spawn(["run", "--rm", "--name", &name, "--memory", "256m", "busybox", "yes"]);
    let mut some = [0; 4096];
    child.stdout.as_mut().unwrap().read_exact(&mut some).unwrap();
    drop(child.stdout.take());
    child.wait().unwrap();
    eventually("the box is gone", || {
        !shared().output(["inspect", &name]).status.success()
    });
}

#[test]
#[ignore = "starts a machine"]
fn a_terminal_is_a_terminal() {
    let boxlite = shared();
    let inner = format!(
        "stty rows 33 cols 101; exec {} run --rm -it --memory 256m busybox sh -c 'test -t 0 && test -t 1 && stty size; tty; exit 4'",
        std::env::var("BOXLITE_TEST_BIN").unwrap()
    );
    let output = std::process::Command::new("script")
        .args(["--quiet", "--return", "--command", &inner, "/dev/null"])
        .env("BOXLITE_HOME", &boxlite.home)
        .output()
        .unwrap();
    let shown = text(&output.stdout);
    assert!(shown.contains("33 101\r\n") && shown.contains("/dev/pts/"), "{shown}");
    assert_eq!(output.status.code(), Some(4));
}

#[test]
#[ignore = "starts a machine"]
fn a_terminal_that_is_not_there_is_said() {
    let said = shared().fails(125, ["run", "--rm", "-it", "busybox", "true"]);
    assert!(said.contains("terminal"), "{said}");
}

#[test]
#[ignore = "starts a machine"]
fn rm_leaves_nothing() {
    let (_folder, boxlite) = fresh();
    let source = format!("oci:{}:latest", crate::harness::fixtures().join("busybox").display());
    boxlite.ok(["run", "--rm", "--memory", "256m", &source, "true"]);
    assert_eq!(boxlite.ok(["ps", "-aq"]), "");
    let left: Vec<_> = std::fs::read_dir(boxlite.home.join("boxes")).unwrap().collect();
    assert!(left.is_empty(), "{left:?}");
}

#[test]
#[ignore = "starts a machine"]
fn a_box_of_a_run_is_started_again_in_the_background() {
    let boxlite = shared();
    let name = unique("again");
    boxlite.ok([
        "run",
        "--memory",
        "256m",
        "--name",
        &name,
        "busybox",
        "sh",
        "-c",
        "[ -e /again ] && exec sleep 1000; touch /again",
    ]);
    assert_eq!(boxlite.state(&name), "stopped");
    boxlite.ok(["start", &name]);
    assert_eq!(boxlite.state(&name), "running");
    assert_eq!(boxlite.inspect(&name)["detached"], true);
    boxlite.ok(["restart", "-t", "0", &name]);
    assert_eq!(boxlite.ok(["exec", &name, "cat", "/again"]), "");
    boxlite.ok(["rm", "-f", &name]);
}

#[test]
#[ignore = "starts a machine"]
fn a_detached_box_is_found_by_other_processes() {
    let boxlite = shared();
    let name = unique("detached");
    let id = boxlite.ok([
        "run",
        "-d",
        "--name",
        &name,
        "--memory",
        "256m",
        "busybox",
        "sh",
        "-c",
        "echo begun; echo aside >&2; sleep 1; echo done; exit 5",
    ]);
    assert!(id.trim().len() >= 12, "{id}");
    assert!(boxlite.ok(["ps"]).contains(&name));
    assert_eq!(boxlite.ok(["wait", &name]).trim(), "5");
    let output = boxlite.output(["logs", &name]);
    assert_eq!(
        (text(&output.stdout).as_str(), text(&output.stderr).as_str()),
        ("begun\ndone\n", "aside\n")
    );
    assert_eq!(boxlite.ok(["logs", "-n", "1", &name]), "done\n");
    assert_eq!(boxlite.state(&name), "stopped");
    assert_eq!(boxlite.inspect(&name)["exit_status"]["code"], 5);
    boxlite.ok(["rm", &name]);
}

#[test]
#[ignore = "starts a machine"]
fn a_box_ends_with_the_command_that_runs_it() {
    let boxlite = shared();
    let name = unique("orphan");
    let mut child = boxlite.spawn([
        "run",
        "--name",
        &name,
        "--memory",
        "256m",
        "busybox",
        "sh",
        "-c",
        "echo up; sleep 1000",
    ]);
    let mut up = [0; 3];
    child.stdout.as_mut().unwrap().read_exact(&mut up).unwrap();
    let info = boxlite.inspect(&name);
    let pids: Vec<u32> = ["shim_pid", "engine_pid"]
        .iter()
        .map(|field| u32::try_from(info["run"][*field].as_u64().unwrap()).unwrap())
        .collect();
    child.kill().unwrap();
    child.wait().unwrap();
    for pid in pids {
        eventually("shim and engine are gone", || !process_exists(pid));
    }
    assert!(["stopped", "failed"].contains(&boxlite.state(&name).as_str()));
    boxlite.ok(["rm", &name]);
}
