//! `boxlite exec`: many processes in one box.

use std::process::Stdio;

use crate::harness::{eventually, shared, text};

#[test]
#[ignore = "starts a machine"]
fn processes_in_a_running_box() {
    let boxlite = shared();
    let running = boxlite.sleeper("busybox", &["-e", "BASE=box", "-w", "/tmp"]);
    let name = running.name.as_str();

    // Environment, folder and user are the box's, and yield to the call's.
    let script = "echo $BASE $MORE; pwd; id -u";
    assert_eq!(boxlite.ok(["exec", name, "sh", "-c", script]), "box\n/tmp\n0\n");
    assert_eq!(
        boxlite.ok([
            "exec", "-e", "MORE=m", "-w", "/etc", "-u", "guest", name, "sh", "-c", script
        ]),
        "box m\n/etc\n1000\n"
    );

    // Exit statuses.
    boxlite.fails(42, ["exec", name, "sh", "-c", "exit 42"]);
    boxlite.fails(143, ["exec", name, "sh", "-c", "kill -TERM $$"]);
    assert!(
        boxlite
            .fails(127, ["exec", name, "nothing-like-it"])
            .contains("nothing-like-it")
    );
    boxlite.fails(126, ["exec", name, "/etc/passwd"]);
    boxlite.fails(126, ["exec", name, "/tmp"]);

    // Input, both streams.
    let output = boxlite.with_input(
        ["exec", "-i", name, "sh", "-c", "wc -c; echo aside >&2"],
        &vec![b'z'; 1_000_003],
    );
    assert_eq!(
        (text(&output.stdout).trim(), text(&output.stderr).as_str()),
        ("1000003", "aside\n")
    );

    // Without -i there is no input.
    assert_eq!(boxlite.ok(["exec", name, "wc", "-c"]).trim(), "0");

    // The main process is process 1, and a process sees the others of its box.
    assert!(
        boxlite
            .ok(["exec", name, "ps", "-o", "pid,args"])
            .contains("sleep 100000")
    );
    assert!(boxlite.ok(["top", name]).contains("sleep 100000"));
}

#[test]
#[ignore = "starts a machine"]
fn many_at_once_keep_their_outputs_apart() {
    let boxlite = shared();
    let running = boxlite.sleeper("busybox", &["--cpus", "2"]);
    let children: Vec<_> = (0..16)
        .map(|n: u32| {
            let script = format!("i=0; while [ $i -lt 200 ]; do echo {n}-$i; i=$((i+1)); done; exit {n}");
            (n, boxlite.spawn(["exec", &running.name, "sh", "-c", &script]))
        })
        .collect();
    for (n, child) in children {
        let output = child.wait_with_output().unwrap();
        let expected: String = (0..200).map(|i| format!("{n}-{i}\n")).collect();
        assert_eq!(text(&output.stdout), expected, "{}", text(&output.stderr));
        assert_eq!(output.status.code(), Some(i32::try_from(n).unwrap()));
    }
}

#[test]
#[ignore = "starts a machine"]
fn short_outputs_are_never_lost() {
    let boxlite = shared();
    let running = boxlite.sleeper("busybox", &[]);
    for n in 0..40 {
        assert_eq!(
            boxlite.ok(["exec", &running.name, "echo", &n.to_string()]),
            format!("{n}\n")
        );
    }
}

#[test]
#[ignore = "starts a machine"]
fn a_grandchild_that_keeps_stdout_does_not_hang_the_call() {
    let boxlite = shared();
    let running = boxlite.sleeper("busybox", &[]);
    assert_eq!(
        boxlite.ok(["exec", &running.name, "sh", "-c", "sleep 5000 & echo parent is done"]),
        "parent is done\n"
    );
}

#[test]
#[ignore = "starts a machine"]
fn a_call_that_is_killed_takes_its_processes_with_it() {
    let boxlite = shared();
    let running = boxlite.sleeper("busybox", &[]);
    let mut child = boxlite
        .command(["exec", &running.name, "sh", "-c", "sleep 7777 & sleep 7777"])
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    let count = || {
        running
            .sh("ps -o args | grep -c '^sleep 7777' || true")
            .trim()
            .to_owned()
    };
    eventually("both run", || count() == "2");
    child.kill().unwrap();
    child.wait().unwrap();
    eventually("both are gone", || count() == "0");
}

#[test]
#[ignore = "starts a machine"]
fn a_detached_process_goes_on() {
    let boxlite = shared();
    let running = boxlite.sleeper("busybox", &[]);
    boxlite.ok([
        "exec",
        "-d",
        &running.name,
        "sh",
        "-c",
        "sleep 1; echo later > /tmp/later",
    ]);
    eventually("it wrote its file", || {
        running.sh("cat /tmp/later 2>/dev/null || true") == "later\n"
    });
}

#[test]
#[ignore = "starts a machine"]
fn a_terminal_for_exec() {
    let boxlite = shared();
    let running = boxlite.sleeper("busybox", &[]);
    let inner = format!(
        "stty rows 20 cols 70; exec {} exec -it {} sh -c 'stty size; exit 6'",
        std::env::var("BOXLITE_TEST_BIN").unwrap(),
        running.name
    );
    let output = std::process::Command::new("script")
        .args(["--quiet", "--return", "--command", &inner, "/dev/null"])
        .env("BOXLITE_HOME", &boxlite.home)
        .output()
        .unwrap();
    assert!(text(&output.stdout).contains("20 70\r\n"), "{}", text(&output.stdout));
    assert_eq!(output.status.code(), Some(6));
}
