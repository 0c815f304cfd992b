use std::time::Duration;

use boxlite::{BoxHandle, Client, Diagnose, ErrorCode, ExecOptions, RefusalReason, Signal, TerminalSize};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::harness::{Scene, eventually, finish, shell};

async fn started(scene: &Scene) -> (Client, BoxHandle) {
    let client = scene.client().await;
    let handle = client.create(scene.options()).await.unwrap();
    handle.start().await.unwrap();
    (client, handle)
}

async fn has_process(handle: &BoxHandle, command: &str) -> bool {
    let processes = handle.processes().await.unwrap();
    processes.iter().any(|process| process.command.contains(command))
}

#[tokio::test]
#[ignore = "starts real machines; `make test` runs it"]
async fn an_idle_box_reaps_orphans() {
    let scene = Scene::new();
    let (_client, handle) = started(&scene).await;
    // Each shell leaves its child behind, to process 1 of the box.
    let left = "i=0; while [ $i -lt 20 ]; do sh -c 'sleep 0.1 & echo $!'; i=$((i+1)); done";
    let orphans = shell(&handle, left).await;
    assert_eq!(orphans.lines().count(), 20);
    let pids = orphans.split_whitespace().collect::<Vec<_>>().join(" ");
    let script = format!("for pid in {pids}; do [ ! -e /proc/$pid ] || echo $pid; done");
    eventually("the end of all orphans", || async {
        shell(&handle, &script).await.is_empty()
    })
    .await;
}

#[tokio::test]
#[ignore = "starts real machines; `make test` runs it"]
async fn executions_are_what_they_are_asked_to_be() {
    let scene = Scene::new();
    let (_client, handle) = started(&scene).await;

    let execution = handle
        .exec(
            ExecOptions::new(["sh", "-c", "id -u; pwd; echo $A; echo err >&2; exit 3"])
                .user("guest")
                .working_dir("/tmp")
                .env("A", "b c"),
        )
        .await
        .unwrap();
    let output = finish(execution).await;
    assert_eq!(output.stdout, b"1000\n/tmp\nb c\n");
    assert_eq!(output.stderr, b"err\n");
    assert_eq!(output.status.code(), Some(3));

    let execution = handle
        .exec(ExecOptions::new(["sh", "-c", "kill -TERM $$"]))
        .await
        .unwrap();
    assert_eq!(finish(execution).await.status.signal(), Some(15));

    for (command, reason, code) in [
        ("/no/such/program", RefusalReason::NotFound, 127),
        ("/etc/passwd", RefusalReason::NotExecutable, 126),
    ] {
        let error = handle.exec(ExecOptions::new([command])).await.unwrap_err();
        let refusal = error.refusal().unwrap();
        assert_eq!((refusal.reason, refusal.exit_code()), (reason, code), "{error}");
    }
    let error = handle
        .exec(ExecOptions::new(["true"]).user("nobody-such"))
        .await
        .unwrap_err();
    assert_eq!(error.refusal().unwrap().reason, RefusalReason::NoSuchUser);
    let error = handle.exec(ExecOptions::default()).await.unwrap_err();
    assert_eq!(error.code(), ErrorCode::InvalidArgument);

    let metrics = handle.metrics().await.unwrap();
    assert!(
        metrics.memory_limit_bytes > 64 << 20 && metrics.host.pss_bytes > 0,
        "{metrics:?}"
    );
}

#[tokio::test]
#[ignore = "starts real machines; `make test` runs it"]
async fn megabytes_go_through_unchanged_both_ways() {
    const BYTES: usize = 24 << 20;
    let scene = Scene::new();
    let (_client, handle) = started(&scene).await;
    let data: Vec<u8> = (0..BYTES as u32)
        .map(|index| (index.wrapping_mul(2_654_435_761) >> 13) as u8)
        .collect();
    let mut execution = handle.exec(ExecOptions::new(["cat"]).stdin(true)).await.unwrap();
    let mut stdin = execution.take_stdin().unwrap();
    let mut stdout = execution.take_stdout().unwrap();
    let expected = data.clone();
    let writing = tokio::spawn(async move {
        stdin.write_all(&data).await.unwrap();
        stdin.shutdown().await.unwrap();
    });
    let mut echoed = Vec::with_capacity(BYTES);
    stdout.read_to_end(&mut echoed).await.unwrap();
    writing.await.unwrap();
    assert!(execution.wait().await.unwrap().success());
    assert!(echoed == expected, "{} of {BYTES} bytes came back", echoed.len());
}

#[tokio::test]
#[ignore = "starts real machines; `make test` runs it"]
async fn output_that_is_not_read_holds_only_its_own_process_up() {
    let scene = Scene::new();
    let (_client, handle) = started(&scene).await;
    let mut stalled = handle
        .exec(ExecOptions::new([
            "sh",
            "-c",
            "yes | head -c 8000000; echo done > /tmp/done",
        ]))
        .await
        .unwrap();
    assert_eq!(shell(&handle, "echo others go on").await, "others go on\n");
    tokio::time::sleep(Duration::from_millis(500)).await;
    shell(&handle, "test ! -e /tmp/done").await;
    let mut stdout = stalled.take_stdout().unwrap();
    let mut read = Vec::new();
    stdout.read_to_end(&mut read).await.unwrap();
    assert_eq!(read.len(), 8_000_000);
    assert!(stalled.wait().await.unwrap().success());
}

#[tokio::test]
#[ignore = "starts real machines; `make test` runs it"]
async fn a_dropped_execution_dies_and_a_detached_one_does_not() {
    let scene = Scene::new();
    let (_client, handle) = started(&scene).await;

    let dropped = handle.exec(ExecOptions::new(["sleep", "1111"])).await.unwrap();
    assert!(has_process(&handle, "sleep 1111").await);
    drop(dropped);
    eventually("the end of a dropped execution", || async {
        !has_process(&handle, "sleep 1111").await
    })
    .await;

    let detached = handle
        .exec(ExecOptions::new(["sleep", "3333"]).detached(true))
        .await
        .unwrap();
    drop(detached);
    tokio::time::sleep(Duration::from_millis(500)).await;
    assert!(has_process(&handle, "sleep 3333").await);
}

#[tokio::test]
#[ignore = "starts real machines; `make test` runs it"]
async fn a_dropped_execution_dies_even_if_its_input_is_full() {
    let scene = Scene::new();
    let (_client, handle) = started(&scene).await;
    let mut stuffed = handle
        .exec(ExecOptions::new(["sleep", "2222"]).stdin(true))
        .await
        .unwrap();
    let mut stdin = stuffed.take_stdin().unwrap();
    let stuffing = tokio::spawn(async move {
        let chunk = vec![0; 64 * 1024];
        while stdin.write_all(&chunk).await.is_ok() {}
    });
    tokio::time::sleep(Duration::from_millis(500)).await;
    assert!(
        !stuffing.is_finished(),
        "a process that reads nothing takes no end of input"
    );
    drop(stuffed);
    stuffing.await.unwrap();
    eventually("the end of a stuffed execution", || async {
        !has_process(&handle, "sleep 2222").await
    })
    .await;
}

#[tokio::test]
#[ignore = "starts real machines; `make test` runs it"]
async fn signals_and_sizes_overtake_input_that_is_not_read() {
    let scene = Scene::new();
    let (_client, handle) = started(&scene).await;
    // The shell traps the signal and its sleep reads nothing.
    let script = "trap 'echo got it; exit 5' USR1; echo ready; while true; do sleep 0.1; done";
    let mut execution = handle
        .exec(ExecOptions::new(["sh", "-c", script]).stdin(true))
        .await
        .unwrap();
    let mut stdin = execution.take_stdin().unwrap();
    let stuffed = std::sync::Arc::new(std::sync::atomic::AtomicUsize::new(0));
    let counter = std::sync::Arc::clone(&stuffed);
    let stuffing = tokio::spawn(async move {
        let chunk = vec![0; 64 * 1024];
        while let Ok(count) = stdin.write(&chunk).await {
            counter.fetch_add(count, std::sync::atomic::Ordering::Relaxed);
        }
    });
    let mut stdout = execution.take_stdout().unwrap();
    let mut ready = [0; 6];
    stdout.read_exact(&mut ready).await.unwrap();
    // More than the pipe, the agent's queue and the window to the agent hold.
    eventually("input that is held up", || async {
        let before = stuffed.load(std::sync::atomic::Ordering::Relaxed);
        tokio::time::sleep(Duration::from_millis(300)).await;
        before > 512 * 1024 && stuffed.load(std::sync::atomic::Ordering::Relaxed) == before
    })
    .await;
    let size = TerminalSize { rows: 10, columns: 20 };
    execution.resize(size).await.unwrap();
    execution.signal(Signal::USR1).await.unwrap();
    let mut rest = String::new();
    stdout.read_to_string(&mut rest).await.unwrap();
    assert_eq!(rest, "got it\n");
    assert_eq!(execution.wait().await.unwrap().code(), Some(5));
    drop(execution);
    stuffing.await.unwrap();
}

#[tokio::test]
#[ignore = "starts real machines; `make test` runs it"]
async fn signals_and_terminals_reach_the_process() {
    let scene = Scene::new();
    let (_client, handle) = started(&scene).await;
    let script = "trap 'echo got it; exit 5' USR1; echo ready; while true; do sleep 0.1; done";
    let mut execution = handle.exec(ExecOptions::new(["sh", "-c", script])).await.unwrap();
    let mut stdout = execution.take_stdout().unwrap();
    let mut ready = [0; 6];
    stdout.read_exact(&mut ready).await.unwrap();
    execution.signal(Signal::USR1).await.unwrap();
    let mut rest = String::new();
    stdout.read_to_string(&mut rest).await.unwrap();
    assert_eq!(rest, "got it\n");
    assert_eq!(execution.wait().await.unwrap().code(), Some(5));
    assert!(execution.signal(Signal::USR1).await.is_err());

    let size = |rows, columns| TerminalSize { rows, columns };
    let mut terminal = handle
        .exec(
            ExecOptions::new([
                "sh",
                "-c",
                "stty size 2>/dev/null || busybox stty size; read x; busybox stty size",
            ])
            .tty(size(33, 77))
            .stdin(true),
        )
        .await
        .unwrap();
    let mut stdin = terminal.take_stdin().unwrap();
    let mut stdout = terminal.take_stdout().unwrap();
    let mut first = [0; 7];
    stdout.read_exact(&mut first).await.unwrap();
    assert_eq!(&first, b"33 77\r\n");
    terminal.resize(size(44, 88)).await.unwrap();
    stdin.write_all(b"\n").await.unwrap();
    let mut rest = String::new();
    stdout.read_to_string(&mut rest).await.unwrap();
    assert!(rest.contains("44 88"), "{rest:?}");
}
