//! Processes: streams, terminals, users, refusals, ends.

use std::time::{Duration, Instant};

use boxlite_protocol::guest::{
    ProcessSpec, ResizeTerminalRequest, SignalRequest, TerminalSize, exec_input::Input, exec_output::Output,
    exec_refused::Reason, exit_status::How,
};
use bytes::Bytes;

use crate::harness::{Client, Execution, Machine, Options, exec, print, shell, spec};

#[tokio::test]
#[ignore = "starts a machine"]
async fn processes_do_what_processes_do() {
    let (mut machine, mut client, _) = Machine::with_box(&Options::default(), |_| ()).await;
    let client = &mut client;
    streams(client).await;
    users_and_places(client).await;
    refusals(client).await;
    terminals(client).await;
    ends(client).await;
    backpressure(client).await;
    assert!(!machine.shut_down(client, 15, 5000).await);
}

async fn streams(client: &mut Client) {
    let finished = exec(client, shell("echo out; echo err >&2; exit 3")).await;
    assert_eq!((finished.text(), &finished.stderr[..]), ("out\n", &b"err\n"[..]));
    assert_eq!(finished.status.how, Some(How::Code(3)));
    // Without stdin it is /dev/null, and output that is closed early is no trouble.
    assert_eq!(print(client, "cat; exec >&- 2>&-").await, "");

    // All bytes, both ways at once, more than all buffers.
    let mut process = spec(&["cat"]);
    process.stdin = true;
    let mut cat = Execution::start(client, process, false).await.unwrap();
    let chunk: Bytes = (0..65536_u32).map(|index| (index * 7 + index / 256) as u8).collect();
    let input = cat.input.clone();
    let sent = chunk.clone();
    let sending = tokio::spawn(async move {
        for _ in 0..128 {
            let message = Some(Input::Stdin(sent.clone()));
            input
                .send(boxlite_protocol::guest::ExecInput { input: message })
                .await
                .unwrap();
        }
    });
    let mut received = 0;
    while received < 128 * chunk.len() {
        let Output::Stdout(bytes) = cat.next().await else {
            panic!("only stdout");
        };
        for byte in bytes {
            assert_eq!(byte, chunk[received % chunk.len()], "at {received}");
            received += 1;
        }
    }
    sending.await.unwrap();
    cat.close_stdin().await;
    let finished = cat.finish().await;
    assert!(finished.status.success() && finished.stdout.is_empty());

    // A process that does not read its input is not disturbed by it.
    let mut process = shell("sleep 0.2; echo done");
    process.stdin = true;
    let ignoring = Execution::start(client, process, false).await.unwrap();
    for _ in 0..8 {
        ignoring.send(Input::Stdin(chunk.clone())).await;
    }
    ignoring.close_stdin().await;
    assert_eq!(ignoring.finish().await.text(), "done\n");
    // The end of the call's input is the end of stdin.
    let mut process = spec(&["wc", "-c"]);
    process.stdin = true;
    let mut count = Execution::start(client, process, false).await.unwrap();
    count.send(Input::Stdin(Bytes::from_static(b"12345"))).await;
    count.input = tokio::sync::mpsc::channel(1).0;
    assert_eq!(count.finish().await.text(), "5\n");
    // Everyone may write to what /dev/stdout is.
    let mut process = shell("echo one > /dev/stdout; echo two > /dev/stderr; id -u");
    process.user = "app".into();
    let finished = exec(client, process).await;
    assert_eq!((finished.text(), &finished.stderr[..]), ("one\n1000\n", &b"two\n"[..]));
}

async fn users_and_places(client: &mut Client) {
    let as_user = |user: &str, line: &str| ProcessSpec {
        user: user.into(),
        ..shell(line)
    };
    let id = "id -u; id -g; id -G; echo $HOME; pwd";
    assert_eq!(exec(client, as_user("", id)).await.text(), "0\n0\n0\n/root\n/\n");
    assert_eq!(
        exec(client, as_user("app", id)).await.text(),
        "1000\n1001\n1001 2000\n/home/app\n/\n"
    );
    assert_eq!(exec(client, as_user("77:78", id)).await.text(), "77\n78\n78\n/\n/\n");
    assert_eq!(
        exec(client, as_user("app", "grep CapEff /proc/self/status"))
            .await
            .text(),
        "CapEff:\t0000000000000000\n"
    );

    let mut process = spec(&["env"]);
    process.env = vec![Bytes::from("A=1"), Bytes::from("A=2"), Bytes::from_static(b"RAW=\xff")];
    let finished = exec(client, process).await;
    let mut lines: Vec<_> = finished.stdout.split(|byte| *byte == b'\n').collect();
    lines.sort_unstable();
    let path = b"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
    assert_eq!(
        lines,
        [&b""[..], b"A=2", b"HOME=/root", b"HOSTNAME=box-one", path, b"RAW=\xff"]
    );

    let mut process = spec(&["pwd"]);
    process.working_dir = Bytes::from("/a/new/place");
    let refused = Execution::start(client, process.clone(), false).await.err().unwrap();
    assert_eq!(refused.reason(), Reason::WorkingDir);
    assert!(
        refused.message.ends_with("/a/new/place: No such file or directory"),
        "{refused:?}"
    );
    process.create_working_dir = true;
    assert_eq!(exec(client, process.clone()).await.text(), "/a/new/place\n");
    process.working_dir = Bytes::from("/link-to-nowhere/x");
    assert_eq!(exec(client, process.clone()).await.text(), "/elsewhere/deep/x\n");
    process.working_dir = Bytes::from("/root/private");
    print(client, "chmod 700 /root").await;
    process.user = "app".into();
    let refused = Execution::start(client, process, false).await.err().unwrap();
    assert_eq!((refused.reason(), refused.errno), (Reason::WorkingDir, 13));
}

async fn refusals(client: &mut Client) {
    for (program, reason, words) in [
        ("nothing", Reason::NotFound, "nothing: not found in PATH"),
        ("/nothing", Reason::NotFound, "/nothing: No such file"),
        ("/etc/motd/x", Reason::NotFound, "Not a directory"),
        (
            "no-interpreter",
            Reason::NotFound,
            "its interpreter /no/such/interpreter is missing",
        ),
        ("not-a-program", Reason::NotExecutable, "Exec format error"),
        (
            "not-executable",
            Reason::NotExecutable,
            "/bin/not-executable: Permission denied",
        ),
        ("/etc", Reason::NotExecutable, "/etc is a directory"),
        ("", Reason::Invalid, "no program"),
        ("a\0b", Reason::Invalid, "NUL"),
    ] {
        let refused = Execution::start(client, spec(&[program]), false).await.err();
        let refused = refused.unwrap_or_else(|| panic!("{program:?} starts"));
        assert_eq!(refused.reason(), reason, "{refused:?}");
        assert!(refused.message.contains(words), "{refused:?}");
    }
    for (user, reason) in [
        ("nobody-here", Reason::NoSuchUser),
        ("app:nobodies", Reason::NoSuchGroup),
    ] {
        let mut process = spec(&["true"]);
        process.user = user.into();
        let refused = Execution::start(client, process, false).await.err().unwrap();
        assert_eq!(refused.reason(), reason);
    }
    // Refusals leave nothing behind.
    assert_eq!(print(client, "ls -d /sys/fs/cgroup/exec-* | wc -l").await, "1\n");
}

async fn terminals(client: &mut Client) {
    let mut process =
        shell("tty; stty size; echo $TERM; trap 'stty size; exit 5' WINCH; echo ready; while :; do sleep 0.05; done");
    process.tty = true;
    process.stdin = true;
    process.user = "app".into();
    process.size = Some(TerminalSize { rows: 30, columns: 100 });
    let mut terminal = Execution::start(client, process, false).await.unwrap();
    let seen = terminal.read_until("ready").await;
    assert!(seen.starts_with("/dev/pts/0\r\n30 100\r\nxterm\r\n"), "{seen:?}");
    let request = ResizeTerminalRequest {
        execution: terminal.number,
        size: Some(TerminalSize { rows: 40, columns: 120 }),
    };
    client.resize_terminal(request).await.unwrap();
    let finished = terminal.finish().await;
    assert!(finished.text().contains("40 120"), "{finished:?}");
    assert_eq!(finished.status.shell_code(), 5);

    // Typing: echo, end of file, interrupt.
    let mut process = spec(&["cat"]);
    process.tty = true;
    process.stdin = true;
    let mut cat = Execution::start(client, process.clone(), false).await.unwrap();
    cat.send(Input::Stdin(Bytes::from_static(b"typed\n"))).await;
    cat.read_until("typed\r\ntyped\r\n").await;
    cat.close_stdin().await;
    assert!(cat.finish().await.status.success());
    let mut cat = Execution::start(client, process, false).await.unwrap();
    cat.send(Input::Stdin(Bytes::from_static(b"x\n"))).await;
    cat.read_until("x\r\nx\r\n").await;
    cat.send(Input::Stdin(Bytes::from_static(b"\x03"))).await;
    assert_eq!(cat.finish().await.status.how, Some(How::Signal(2)));

    // A signal goes to what is in the foreground: the shell lives on.
    let mut process = spec(&["sh"]);
    process.tty = true;
    process.stdin = true;
    let mut shell = Execution::start(client, process, false).await.unwrap();
    shell
        .send(Input::Stdin(Bytes::from_static(
            b"stty -echo; set -m; echo on''ce; sleep 1000\n",
        )))
        .await;
    shell.read_until("once").await;
    wait_for(client, "ps | grep -c '[s]leep 1000'", "1\n").await;
    shell.signal(client, 15).await;
    shell
        .send(Input::Stdin(Bytes::from_static(b"echo af''ter; exit 9\n")))
        .await;
    shell.read_until("after").await;
    assert_eq!(shell.finish().await.status.shell_code(), 9);
}

/// Runs a command line until it prints `expected`.
async fn wait_for(client: &mut Client, line: &str, expected: &str) {
    let began = Instant::now();
    loop {
        let finished = exec(client, shell(line)).await;
        if finished.text() == expected {
            return;
        }
        assert!(began.elapsed() < Duration::from_secs(30), "{line}: {finished:?}");
    }
}

async fn ends(client: &mut Client) {
    let killed = Execution::start(client, shell("sleep 1000 & echo ready; wait"), false);
    let mut killed = killed.await.unwrap();
    killed.read_until("ready").await;
    killed.signal(client, 15).await;
    // The shell ends; the sleep that it leaves holds its output open for a while.
    let began = Instant::now();
    assert_eq!(killed.finish().await.status.how, Some(How::Signal(15)));
    assert!(began.elapsed() >= Duration::from_millis(1500));
    wait_for(
        client,
        "kill $(ps | grep '[s]leep 1000' | cut -c1-5); ps | grep -c '[s]leep 1000'",
        "0\n",
    )
    .await;

    // Output of what was left behind still comes as long as it does not pause.
    let line = "(for i in 1 2 3 4; do sleep 0.5; echo $i; done) & echo 0";
    assert_eq!(exec(client, shell(line)).await.text(), "0\n1\n2\n3\n4\n");

    // A client that goes away takes everything with it that its process started.
    let mut lost = Execution::start(
        client,
        shell("setsid sh -c 'sleep 1002 & sleep 1003' & echo ready; sleep 1004"),
        false,
    );
    let mut execution = lost.await.unwrap();
    execution.read_until("ready").await;
    wait_for(client, "ps | grep -c '[s]leep 100[234]'", "3\n").await;
    drop(execution);
    wait_for(client, "ps | grep -c '[s]leep 100[234]'", "0\n").await;
    // Unless it was detached.
    let mut process = shell("echo ready; while :; do echo still here; sleep 0.01; done");
    process.detached = true;
    lost = Execution::start(client, process, false);
    let mut execution = lost.await.unwrap();
    let pid = execution.pid;
    execution.read_until("ready").await;
    drop(execution);
    tokio::time::sleep(Duration::from_millis(300)).await;
    print(client, &format!("kill -0 {pid} && kill -9 {pid}")).await;
    wait_for(client, "ps | grep -c '[s]till here'", "0\n").await;

    // Orphans are reaped by process 1, and groups of executions go.
    print(client, "(true & true &) ; (setsid true &)").await;
    wait_for(client, "ps | grep -c '[t]rue'", "0\n").await;
    wait_for(client, "ls -d /sys/fs/cgroup/exec-* | wc -l", "1\n").await;

    // The kernel's own kill for want of memory is told apart.
    let finished = exec(client, spec(&["eat-memory"])).await;
    assert_eq!(finished.status.how, Some(How::Signal(9)), "{finished:?}");
    assert!(finished.status.out_of_memory);

    // A signal to an idle box reaches every process.
    let waiting = Execution::start(client, shell("echo ready; exec sleep 1005"), false);
    let mut waiting = waiting.await.unwrap();
    waiting.read_until("ready").await;
    client.signal(SignalRequest { signal: 12 }).await.unwrap();
    assert_eq!(waiting.finish().await.status.how, Some(How::Signal(12)));
}

/// Streams that nobody reads neither grow nor stall anything.
async fn backpressure(client: &mut Client) {
    let mut stalled = Vec::new();
    for _ in 0..6 {
        stalled.push(Execution::start(client, shell("exec yes"), false).await.unwrap());
    }
    tokio::time::sleep(Duration::from_millis(500)).await;
    let used = "cut -d' ' -f2 /proc/meminfo > /dev/null; grep MemAvailable /proc/meminfo | tr -dc 0-9";
    let before: u64 = print(client, used).await.parse().unwrap();
    tokio::time::sleep(Duration::from_millis(1500)).await;
    let after: u64 = print(client, used).await.parse().unwrap();
    assert!(before < after + 8 * 1024, "{before} KiB were available, then {after}");
    // And every byte is still there, in order.
    let mut one = stalled.pop().unwrap();
    let mut received = 0;
    while received < 4 << 20 {
        let Output::Stdout(bytes) = one.next().await else {
            panic!("only stdout");
        };
        for byte in bytes {
            assert_eq!(byte, b"y\n"[received % 2]);
            received += 1;
        }
    }
}
