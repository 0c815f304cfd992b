use std::time::Duration;

use boxlite::{AttachOptions, BoxState, Diagnose, ErrorCode, LogOptions, LogStreamKind, RefusalReason, StopOptions};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::harness::{Scene, all_names, finish};

#[tokio::test]
#[ignore = "starts real machines; `make test` runs it"]
async fn the_main_process_is_seen_from_its_first_byte_to_its_status() {
    let scene = Scene::new();
    let client = scene.client().await;
    let options = scene
        .options()
        .command(["sh", "-c", "echo out; echo err >&2; cat; exit 7"])
        .stdin_open(true);
    let handle = client.create(options).await.unwrap();
    let mut attach = AttachOptions::default();
    attach.stdin = true;
    let mut execution = handle.start_attached(attach).await.unwrap();
    let mut stdin = execution.take_stdin().unwrap();
    stdin.write_all(b"typed").await.unwrap();
    stdin.shutdown().await.unwrap();
    let output = finish(execution).await;
    assert_eq!(
        (&output.stdout[..], &output.stderr[..]),
        (&b"out\ntyped"[..], &b"err\n"[..])
    );
    assert_eq!(output.status.code(), Some(7));
    assert_eq!(handle.wait().await.unwrap().code(), Some(7));
    let info = handle.info().await.unwrap();
    assert_eq!(info.state, BoxState::Stopped);
    assert_eq!(info.exit_status.unwrap().code(), Some(7));

    let mut log = handle.logs(LogOptions::default()).await.unwrap();
    let (mut out, mut err) = (Vec::new(), Vec::new());
    while let Some(entry) = log.next().await {
        let entry = entry.unwrap();
        match entry.stream {
            LogStreamKind::Stdout => out.extend_from_slice(&entry.bytes),
            LogStreamKind::Stderr => err.extend_from_slice(&entry.bytes),
        }
    }
    assert_eq!((&out[..], &err[..]), (&b"out\ntyped"[..], &b"err\n"[..]));
}

#[tokio::test]
#[ignore = "starts real machines; `make test` runs it"]
async fn a_main_process_that_can_t_be_is_refused_and_recorded() {
    let scene = Scene::new();
    let client = scene.client().await;
    let handle = client
        .create(scene.options().command(["/no/such/program"]))
        .await
        .unwrap();
    let error = handle.start().await.unwrap_err();
    assert_eq!(error.refusal().unwrap().reason, RefusalReason::NotFound, "{error}");
    assert_eq!(error.refusal().unwrap().exit_code(), 127);
    let error = handle.start_attached(AttachOptions::default()).await.unwrap_err();
    assert_eq!(error.refusal().unwrap().exit_code(), 127, "{error}");
    assert!(!handle.info().await.unwrap().state.is_alive());

    let idle = client.create(scene.options()).await.unwrap();
    let error = idle.start_attached(AttachOptions::default()).await.unwrap_err();
    assert_eq!(error.code(), ErrorCode::InvalidState);
}

#[tokio::test]
#[ignore = "starts real machines; `make test` runs it"]
async fn attaching_later_sees_what_comes_and_detaching_leaves_it_running() {
    let scene = Scene::new();
    let client = scene.client().await;
    let options = scene
        .options()
        .command(["sh", "-c", "while true; do echo tick; sleep 0.2; done"]);
    let handle = client.create(options).await.unwrap();
    handle.start().await.unwrap();
    let mut follow = LogOptions::default();
    follow.follow = true;
    let mut log = handle.logs(follow).await.unwrap();
    for _ in 0..2 {
        let mut execution = handle.attach(AttachOptions::default()).await.unwrap();
        let mut stdout = execution.take_stdout().unwrap();
        let mut tick = [0; 5];
        stdout.read_exact(&mut tick).await.unwrap();
        assert_eq!(&tick, b"tick\n");
    }
    assert_eq!(&log.next().await.unwrap().unwrap().bytes[..], b"tick\n");
    assert_eq!(handle.info().await.unwrap().state, BoxState::Running);
    let mut stop = StopOptions::default();
    stop.timeout = Some(Duration::from_secs(1));
    handle.stop(stop).await.unwrap();
    let ending = async { while log.next().await.is_some_and(|entry| entry.is_ok()) {} };
    tokio::time::timeout(crate::harness::PATIENCE, ending).await.unwrap();
}

#[tokio::test]
#[ignore = "starts real machines; `make test` runs it"]
async fn a_box_that_removes_itself_is_gone_after_its_end() {
    let scene = Scene::new();
    let client = scene.client().await;
    let handle = client
        .create(scene.options().command(["sh", "-c", "exit 4"]).auto_remove(true))
        .await
        .unwrap();
    let execution = handle.start_attached(AttachOptions::default()).await.unwrap();
    assert_eq!(finish(execution).await.status.code(), Some(4));
    assert_eq!(handle.wait().await.unwrap().code(), Some(4));
    assert!(all_names(&client).await.is_empty());
    assert_eq!(scene.box_folders(), 0);
}
