//! Streams of processes are descriptors, byte for byte, in bounded memory.

use std::fs::File;
use std::io::{ErrorKind, Read, Write};
use std::time::Duration;

use boxlite_ffi::copy::*;
use boxlite_ffi::exec::*;
use serde_json::json;

use crate::harness::op;
use crate::harness::{Op, c, run, shell, start_exec, stream};
use crate::scene::{Scene, stop};

fn exec_wait(exec: u64) -> Op {
    op!(boxlite_exec_wait(exec)).unwrap()
}

#[test]
#[ignore = "starts machines"]
fn options_of_a_process_reach_it() {
    let scene = Scene::new();
    let target = scene.start(json!({ "env": { "BOTH": "box" } }));
    let output = run(
        target,
        &json!({
            "command": ["sh", "-c", "echo $BOTH $OWN; pwd; id -u; cat; echo err >&2; exit 9"],
            "env": { "BOTH": "exec", "OWN": "é" }, "working_dir": "/tmp", "user": "guest", "stdin": true,
        }),
        Some(b"input\n"),
    )
    .unwrap();
    assert_eq!(String::from_utf8(output.stdout).unwrap(), "exec é\n/tmp\n1000\ninput\n");
    assert_eq!(output.stderr, b"err\n");
    assert_eq!(
        output.status,
        json!({ "code": 9, "signal": null, "out_of_memory": false, "output_cut": false })
    );
    let both = json!(["sh", "-c", "echo out; echo err >&2"]);
    let output = run(target, &json!({ "command": both, "stderr": "stdout" }), None).unwrap();
    assert_eq!(output.stdout.len(), 8);
    let output = run(target, &json!({ "command": both, "stdout": "null" }), None).unwrap();
    assert_eq!(
        (output.stdout.as_slice(), output.stderr.as_slice()),
        (b"".as_slice(), b"err\n".as_slice())
    );
    let output = run(target, &json!({ "command": both, "stderr": "null" }), None).unwrap();
    assert_eq!(
        (output.stdout.as_slice(), output.stderr.as_slice()),
        (b"out\n".as_slice(), b"".as_slice())
    );
    let tty = json!({ "command": ["sh", "-c", "tty; stty size; echo err >&2"], "tty": true, "rows": 7, "columns": 9 });
    let text = String::from_utf8(run(target, &tty, None).unwrap().stdout).unwrap();
    assert!(
        text.contains("/dev/pts/") && text.contains("7 9") && text.contains("err"),
        "{text}"
    );
    for (wrong, code) in [
        (json!({ "command": ["true"], "tty": true, "stderr": "null" }), 4),
        (json!({ "command": ["true"], "rows": 1 }), 4),
        (json!({ "command": ["true"], "rows": 1, "columns": 1 }), 4),
        (json!({ "command": [] }), 4),
        (json!({ "command": ["no-such-command"] }), 1),
        (json!({ "command": ["true"], "user": "no-such-user" }), 4),
    ] {
        assert_eq!(start_exec(target, &wrong).unwrap_err().code, code, "{wrong}");
    }
    // Detached: it lives on when its handle is gone. Otherwise it does not.
    for (detached, count) in [(true, "1\n"), (false, "0\n")] {
        let exec = start_exec(target, &json!({ "command": ["sleep", "4242"], "detached": detached })).unwrap();
        boxlite_exec_free(exec);
        let look = "for i in $(seq 100); do n=$(ps | grep -c '[s]leep 4242'); [ $n = WANT ] && break; sleep 0.05; done; echo $n";
        assert_eq!(
            shell(target, &look.replace("WANT", count.trim())),
            count,
            "detached: {detached}"
        );
        shell(target, "killall sleep; true");
    }
}

#[test]
#[ignore = "starts machines"]
fn a_thousand_short_outputs_are_whole() {
    let scene = Scene::new();
    let target = scene.start(json!({}));
    let workers: Vec<_> = (0..4)
        .map(|worker| {
            std::thread::spawn(move || {
                for number in 0..250 {
                    let text = format!("{worker} {number}");
                    let options = json!({ "command": ["sh", "-c", format!("printf '{text}'; printf 'e{text}' >&2; exit {}", number % 100)] });
                    let output = run(target, &options, None).unwrap();
                    assert_eq!(String::from_utf8(output.stdout).unwrap(), text);
                    assert_eq!(String::from_utf8(output.stderr).unwrap(), format!("e{text}"));
                    assert_eq!(output.status["code"], number % 100);
                }
            })
        })
        .collect();
    for worker in workers {
        worker.join().unwrap();
    }
}

/// A number that tells two files apart, of what was read.
fn sum(mut file: impl Read) -> (u64, u64) {
    let (mut count, mut hash) = (0, 0xcbf2_9ce4_8422_2325_u64);
    let mut buffer = vec![0; 1 << 16];
    loop {
        let read = file.read(&mut buffer).unwrap();
        if read == 0 {
            return (count, hash);
        }
        count += read as u64;
        for byte in &buffer[..read] {
            hash = (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
        }
    }
}

#[test]
#[ignore = "starts machines"]
fn bytes_come_back_as_they_went() {
    let scene = Scene::new();
    let target = scene.start(json!({}));
    let exec = start_exec(target, &json!({ "command": ["cat"], "stdin": true })).unwrap();
    let mut stdin = stream(exec, boxlite_exec_stdin_fd).unwrap();
    let stdout = stream(exec, boxlite_exec_stdout_fd).unwrap();
    let writer = std::thread::spawn(move || {
        let mut state = 1_u64;
        let data: Vec<u8> = std::iter::repeat_with(|| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            (state >> 56) as u8
        })
        .take(20_000_000)
        .collect();
        stdin.write_all(&data).unwrap();
        sum(data.as_slice())
    });
    let back = sum(stdout);
    assert_eq!(writer.join().unwrap(), back);
    assert_eq!(exec_wait(exec).json().unwrap()["code"], 0);
    // Written, then the end asked for while the descriptor is still open.
    let exec = start_exec(target, &json!({ "command": ["cat"], "stdin": true })).unwrap();
    let mut stdin = stream(exec, boxlite_exec_stdin_fd).unwrap();
    stdin.write_all(&[b'x'; 50_000]).unwrap();
    crate::harness::call(|error| {
        // SAFETY: the error is valid for writing.
        unsafe { boxlite_exec_stdin_close(exec, error) }
    })
    .unwrap();
    assert_eq!(sum(stream(exec, boxlite_exec_stdout_fd).unwrap()).0, 50_000);
    exec_wait(exec).wait().unwrap();
    // Nobody reads any more: the pipe is broken. (Rust ignores SIGPIPE.)
    let broken = loop {
        match stdin.write_all(&[0; 100_000]) {
            Ok(()) => {}
            Err(error) => break error,
        }
    };
    assert_eq!(broken.kind(), ErrorKind::BrokenPipe);
}

fn resident_kib() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with("VmRSS")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}

#[test]
#[ignore = "starts machines"]
fn a_slow_reader_costs_no_memory_and_holds_nobody_else_up() {
    let scene = Scene::new();
    let target = scene.start(json!({}));
    let before = resident_kib();
    let exec = start_exec(target, &json!({ "command": ["head", "-c", "60000000", "/dev/zero"] })).unwrap();
    let mut stdout = stream(exec, boxlite_exec_stdout_fd).unwrap();
    let waiting = exec_wait(exec);
    let mut left = 60_000_000_usize;
    let mut buffer = vec![0; 1 << 20];
    for round in 0..20 {
        std::thread::sleep(Duration::from_millis(20));
        assert!(!waiting.has_ended());
        left -= stdout.read(&mut buffer).unwrap();
        assert_eq!(shell(target, &format!("echo {round}")), format!("{round}\n"));
    }
    let grown = resident_kib().saturating_sub(before);
    assert!(grown < 48 * 1024, "{grown} KiB");
    assert_eq!(sum(stdout).0, left as u64);
    assert_eq!(waiting.json().unwrap()["code"], 0);
    // An output that is closed early lets the process write into the void, and end.
    let exec = start_exec(
        target,
        &json!({ "command": ["sh", "-c", "head -c 9000000 /dev/zero; exit 3"] }),
    )
    .unwrap();
    drop(stream(exec, boxlite_exec_stdout_fd).unwrap());
    assert_eq!(exec_wait(exec).json().unwrap()["code"], 3);
}

#[test]
#[ignore = "starts machines"]
fn a_process_is_signalled_resized_and_killed() {
    let scene = Scene::new();
    let target = scene.start(json!({}));
    let exec = start_exec(
        target,
        &json!({ "command": ["sh", "-c", "trap 'echo got; exit 5' INT; echo ready; while :; do sleep 0.05; done"] }),
    )
    .unwrap();
    let mut stdout = stream(exec, boxlite_exec_stdout_fd).unwrap();
    let mut ready = [0; 6];
    stdout.read_exact(&mut ready).unwrap();
    let mut pid = 0;
    // SAFETY: both are valid for writing.
    crate::harness::call(|error| unsafe { boxlite_exec_pid(exec, &raw mut pid, error) }).unwrap();
    assert!(shell(target, &format!("cat /proc/{pid}/cmdline")).contains("trap"));
    let (first, second) = (exec_wait(exec), exec_wait(exec));
    op!(boxlite_exec_signal(exec, 2)).unwrap().wait().unwrap();
    assert_eq!(
        (first.json().unwrap(), second.json().unwrap()["code"].clone()),
        (
            json!({ "code": 5, "signal": null, "out_of_memory": false, "output_cut": false }),
            json!(5)
        )
    );
    assert_eq!(op!(boxlite_exec_signal(exec, 2)).unwrap().wait().unwrap_err().code, 3);
    assert_eq!(op!(boxlite_exec_signal(exec, 99)).err().unwrap().code, 4);

    let exec = start_exec(
        target,
        &json!({ "command": ["sh"], "tty": true, "stdin": true, "rows": 5, "columns": 50 }),
    )
    .unwrap();
    let mut stdin = stream(exec, boxlite_exec_stdin_fd).unwrap();
    let mut stdout = stream(exec, boxlite_exec_stdout_fd).unwrap();
    op!(boxlite_exec_resize(exec, 12, 34)).unwrap().wait().unwrap();
    stdin.write_all(b"stty size; exit 4\n").unwrap();
    let mut text = String::new();
    stdout.read_to_string(&mut text).unwrap();
    assert!(text.contains("12 34"), "{text}");
    assert_eq!(exec_wait(exec).json().unwrap()["code"], 4);

    // Cancelling the wait is not the end of the process; freeing the handle is.
    let exec = start_exec(target, &json!({ "command": ["sleep", "777"] })).unwrap();
    let waiting = exec_wait(exec);
    waiting.cancel();
    assert_eq!(waiting.wait().unwrap_err().code, 11);
    let waiting = exec_wait(exec);
    assert_eq!(shell(target, "ps | grep -c '[s]leep 777'"), "1\n");
    boxlite_exec_free(exec);
    assert_eq!(waiting.wait().unwrap_err().code, 3);
    shell(
        target,
        "for i in $(seq 200); do ps | grep -q '[s]leep 777' || exit 0; sleep 0.05; done; exit 1",
    );
}

#[test]
#[ignore = "starts machines"]
fn files_and_tar_streams_are_copied() {
    let scene = Scene::new();
    let target = scene.start(json!({}));
    let folder = scene.folder.path().join("tree");
    std::fs::create_dir_all(folder.join("below")).unwrap();
    std::fs::write(folder.join("below/file"), vec![7; 3_000_000]).unwrap();
    let path = |path: &std::path::Path| c(path.to_str().unwrap());
    let report = op!(boxlite_box_copy_in(
        target,
        path(&folder).as_ptr(),
        c"/srv".as_ptr(),
        std::ptr::null()
    ))
    .unwrap()
    .json()
    .unwrap();
    assert_eq!(report["bytes"], 3_000_000, "{report}");
    let packed = File::create_new(scene.folder.path().join("tar")).unwrap();
    let fd = std::os::fd::AsRawFd::as_raw_fd(&packed);
    let source = if shell(target, "ls /srv").contains("tree") {
        c"/srv/tree"
    } else {
        c"/srv"
    };
    op!(boxlite_box_copy_out_tar(target, source.as_ptr(), fd, std::ptr::null()))
        .unwrap()
        .wait()
        .unwrap();
    // The same through a pipe, whose reader is another process's: a copy into another folder.
    let (reader, writer) = std::io::pipe().unwrap();
    let fds = (
        std::os::fd::AsRawFd::as_raw_fd(&reader),
        std::os::fd::AsRawFd::as_raw_fd(&writer),
    );
    shell(target, "mkdir /second");
    let out = op!(boxlite_box_copy_out_tar(
        target,
        source.as_ptr(),
        fds.1,
        std::ptr::null()
    ))
    .unwrap();
    let into = op!(boxlite_box_copy_in_tar(
        target,
        fds.0,
        c"/second".as_ptr(),
        std::ptr::null()
    ))
    .unwrap();
    drop((reader, writer));
    out.wait().unwrap();
    into.wait().unwrap();
    assert_eq!(shell(target, "find /second -name file | xargs stat -c %s"), "3000000\n");
    let back = scene.folder.path().join("back");
    let report = op!(boxlite_box_copy_out(
        target,
        source.as_ptr(),
        path(&back).as_ptr(),
        std::ptr::null()
    ))
    .unwrap()
    .json()
    .unwrap();
    assert_eq!(report["bytes"], 3_000_000);
    assert_eq!(std::fs::metadata(back.join("below/file")).unwrap().len(), 3_000_000);
    assert_eq!(
        op!(boxlite_box_copy_out(
            target,
            c"/none".as_ptr(),
            path(&back).as_ptr(),
            std::ptr::null()
        ))
        .unwrap()
        .wait()
        .unwrap_err()
        .code,
        1
    );
    stop(target, json!({ "timeout_ms": 0 }));
}
