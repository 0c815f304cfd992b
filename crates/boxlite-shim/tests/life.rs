//! Boxes that come up: their main process, their clients, and all the ways in which they end.
#![expect(clippy::unwrap_used, clippy::expect_used, reason = "tests")]

mod harness;

use std::io::{Read as _, Write as _};
use std::net::{IpAddr, Ipv4Addr, TcpStream};
use std::os::unix::fs::PermissionsExt as _;
use std::time::{Duration, Instant};

use boxlite_machine::jail::{MissingMeasure, report};
use boxlite_machine::{NetworkSpec, PortForward, Protocol, Share, ShareContent, ShareMember};
use boxlite_protocol::guest::exec_output::Output;
use boxlite_protocol::guest::exit_status::How;
use boxlite_protocol::guest::{
    CloseStdin, CopyOutRequest, ExecInput, ExecOutput, ExecStart, ExitStatus, ProcessSpec, TerminalSize, exec_input,
};
use boxlite_protocol::shim::{
    AttachInput, AttachStart, EngineMetricsRequest, KillRequest, ResizeRequest, StatusRequest, StopRequest,
    TerminateRequest, WaitRequest, attach_input, status_response,
};
use boxlite_shim::log::{ReadOptions, Reader, Stream};
use boxlite_shim::{ExitReason, MainExit, MainStatus, Network, StartFailureCode, Volume};
use harness::{PATIENCE, Scene};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Code, Streaming};

type Outputs = Streaming<ExecOutput>;

fn code(code: i32) -> Option<MainExit> {
    Some(MainExit {
        status: MainStatus::Code(code),
        out_of_memory: false,
    })
}

/// Attaches; the sender says more.
async fn attach(scene: &Scene, start: AttachStart) -> Result<(mpsc::Sender<AttachInput>, Outputs), tonic::Status> {
    let (sender, receiver) = mpsc::channel(4);
    sender
        .send(attach_input(attach_input::Input::Start(start)))
        .await
        .unwrap();
    let output = scene
        .shims()
        .await
        .attach(ReceiverStream::new(receiver))
        .await?
        .into_inner();
    Ok((sender, output))
}

fn attach_input(input: attach_input::Input) -> AttachInput {
    AttachInput { input: Some(input) }
}

/// Runs a command in the box; its output can be read.
async fn exec(scene: &Scene, command: &[&str]) -> Outputs {
    let start = ExecInput {
        input: Some(exec_input::Input::Start(ExecStart {
            process: Some(ProcessSpec {
                args: command.iter().map(|word| (*word).to_owned().into()).collect(),
                env: vec!["PATH=/bin".into()],
                ..ProcessSpec::default()
            }),
            main: false,
        })),
    };
    let (sender, receiver) = mpsc::channel(1);
    sender.send(start).await.unwrap();
    // The sender is kept: a client that says no more may still be there.
    let output = scene
        .guests()
        .await
        .exec(ReceiverStream::new(receiver))
        .await
        .unwrap()
        .into_inner();
    tokio::spawn(async move {
        tokio::time::sleep(PATIENCE).await;
        drop(sender);
    });
    output
}

/// All of stdout and stderr, and how it ended.
async fn collect(outputs: &mut Outputs) -> (Vec<u8>, Vec<u8>, ExitStatus) {
    let (mut stdout, mut stderr) = (Vec::new(), Vec::new());
    loop {
        match outputs.message().await.unwrap().expect("no end").output {
            Some(Output::Stdout(bytes)) => stdout.extend(bytes),
            Some(Output::Stderr(bytes)) => stderr.extend(bytes),
            Some(Output::Exited(status)) => return (stdout, stderr, status),
            Some(Output::Started(_)) => {}
            other => panic!("{other:?}"),
        }
    }
}

/// The box has no volumes, and a home of which only its owner may enter: nothing but a
/// kernel that can't do it excuses a measure that is missing.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs a guest bundle"]
async fn the_jail_is_complete_whoever_starts_the_box() {
    let scene = Scene::idle();
    std::fs::set_permissions(scene.dir.path(), std::fs::Permissions::from_mode(0o700)).unwrap();
    let (shim, ready) = scene.start();
    let jail = &ready.jail;
    let excused = |missing: &MissingMeasure| match missing.what.as_str() {
        report::FILE_ACCESS => missing.why.contains("kernel has no Landlock"),
        // Debian and Ubuntu switch user name spaces off for others than root.
        report::USER_NAMESPACE | report::MOUNT_NAMESPACE | report::IPC_NAMESPACE | report::NETWORK_NAMESPACE => {
            !rustix::process::geteuid().is_root()
        }
        _ => false,
    };
    assert!(jail.missing.iter().all(excused), "{jail:?}");
    assert!(jail.has(report::UNPRIVILEGED_USER), "{jail:?}");
    if rustix::process::geteuid().is_root() {
        let status = std::fs::read_to_string(format!("/proc/{}/status", ready.engine_pid)).unwrap();
        let uid = status.lines().find(|line| line.starts_with("Uid:")).unwrap();
        assert!(!uid.split_whitespace().any(|id| id == "0"), "{uid}");
    }
    shim.signal(rustix::process::Signal::TERM);
    let mut shim = shim;
    shim.ended();
}

async fn patient<T>(what: impl Future<Output = T>) -> T {
    tokio::time::timeout(PATIENCE, what).await.expect("took too long")
}

fn log_of(scene: &Scene, stream: Stream) -> Vec<u8> {
    let mut reader = Reader::open(scene.dir.path(), ReadOptions::default()).unwrap();
    let mut bytes = Vec::new();
    while let Some(entry) = reader.next_entry().unwrap() {
        if entry.stream == stream {
            bytes.extend(entry.bytes);
        }
    }
    bytes
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs a guest bundle"]
async fn the_main_process_ends_and_everybody_knows() {
    let scene = Scene::with_main(&["sh", "-c", "echo out; echo err >&2; hostname; sleep 1; exit 7"]);
    let (mut shim, ready) = scene.start();
    assert!(ready.main_pid.is_some());
    assert_eq!(scene.engines(), [ready.engine_pid]);
    let t = ready.timings;
    assert!(
        t.total_us >= t.prepare_us + t.jail_us + t.engine_us + t.boot_us + t.configure_us,
        "{t:?}"
    );
    assert!(t.kernel_us > 0 && t.boot_us > 0, "{t:?}");
    println!("{t:#?}\n{:?}", ready.jail);
    let mut shims = scene.shims().await;
    let status = shims.status(StatusRequest {}).await.unwrap().into_inner();
    assert_eq!(status.stage(), status_response::Stage::Running);
    assert_eq!(
        (status.run_id, status.engine_pid),
        (scene.config.run_id.clone(), ready.engine_pid)
    );
    let metrics = shims
        .engine_metrics(EngineMetricsRequest {})
        .await
        .unwrap()
        .into_inner();
    assert!(
        metrics.cpu_us > 0 && metrics.pss_bytes > metrics.shim_pss_bytes,
        "{metrics:?}"
    );
    println!("{metrics:?}");
    let answer = patient(shims.wait(WaitRequest {})).await.unwrap().into_inner();
    assert_eq!(answer.exit.unwrap().how, Some(How::Code(7)));
    let record = shim.ended();
    assert_eq!((record.reason, record.main), (ExitReason::MainExited, code(7)));
    assert_eq!(log_of(&scene, Stream::Stdout), b"out\ntested\n");
    assert_eq!(log_of(&scene, Stream::Stderr), b"err\n");
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs a guest bundle"]
async fn who_releases_the_main_process_misses_nothing_however_slow() {
    const BYTES: usize = 6 << 20;
    let mut scene = Scene::with_main(&[
        "sh",
        "-c",
        &format!("yes 0123456789abcde | head -c {BYTES}; echo done >&2"),
    ]);
    scene.config.wait_for_attach = true;
    let (mut shim, ready) = scene.start();
    assert_eq!(ready.main_pid, None);
    let start = AttachStart {
        release_main: true,
        ..AttachStart::default()
    };
    let (_input, mut outputs) = attach(&scene, start).await.unwrap();
    let first = patient(outputs.message()).await.unwrap().unwrap();
    assert!(matches!(first.output, Some(Output::Started(_))), "{first:?}");
    // Long enough for the process to write all of it, if nothing held it back.
    tokio::time::sleep(Duration::from_secs(2)).await;
    let written = log_of(&scene, Stream::Stdout).len();
    assert!(
        written < BYTES / 2,
        "{written} bytes were taken from a process whose client does not read"
    );
    let (stdout, stderr, status) = patient(collect(&mut outputs)).await;
    assert_eq!(status.how, Some(How::Code(0)));
    assert_eq!(stderr, b"done\n");
    assert_eq!(stdout.len(), BYTES);
    assert!(stdout.chunks(16).all(|line| line == b"0123456789abcde\n"));
    assert_eq!(shim.ended().main, code(0));
    assert!(log_of(&scene, Stream::Stdout) == stdout);
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs a guest bundle"]
async fn stdin_arrives_whole_and_ends() {
    let mut scene = Scene::with_main(&["cat"]);
    scene.main().stdin = true;
    scene.config.wait_for_attach = true;
    let (mut shim, _) = scene.start();
    let start = AttachStart {
        release_main: true,
        stdin: true,
        size: None,
    };
    let (input, mut outputs) = attach(&scene, start).await.unwrap();
    // One feeder at a time.
    let second = attach(
        &scene,
        AttachStart {
            stdin: true,
            ..AttachStart::default()
        },
    );
    assert_eq!(second.await.unwrap_err().code(), Code::FailedPrecondition);
    let bytes: Vec<u8> = (0..1_000_000_u32).map(|n| (n % 251) as u8).collect();
    let sent = bytes.clone();
    tokio::spawn(async move {
        for chunk in sent.chunks(60_000) {
            let chunk = bytes::Bytes::copy_from_slice(chunk);
            input
                .send(attach_input(attach_input::Input::Stdin(chunk)))
                .await
                .unwrap();
        }
        input
            .send(attach_input(attach_input::Input::CloseStdin(CloseStdin {})))
            .await
            .unwrap();
        tokio::time::sleep(PATIENCE).await;
    });
    let (stdout, _, status) = patient(collect(&mut outputs)).await;
    assert_eq!(status.how, Some(How::Code(0)));
    assert!(stdout == bytes);
    assert_eq!(shim.ended().reason, ExitReason::MainExited);
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs a guest bundle"]
async fn a_feeder_that_goes_closes_stdin_unless_it_is_kept() {
    let mut scene = Scene::with_main(&["sh", "-c", "cat; echo over"]);
    scene.main().stdin = true;
    scene.config.keep_stdin_open = true;
    let (mut shim, _) = scene.start();
    let feed = AttachStart {
        stdin: true,
        ..AttachStart::default()
    };
    for word in ["one\n", "two\n"] {
        let (input, mut outputs) = patient(async {
            // The first feeder's leaving takes a moment to be seen.
            loop {
                match attach(&scene, feed).await {
                    Ok(attached) => return attached,
                    Err(status) => assert_eq!(status.code(), Code::FailedPrecondition, "{status}"),
                }
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        })
        .await;
        input
            .send(attach_input(attach_input::Input::Stdin(word.into())))
            .await
            .unwrap();
        let mut seen = Vec::new();
        while seen != word.as_bytes() {
            if let Some(Output::Stdout(bytes)) = patient(outputs.message()).await.unwrap().unwrap().output {
                seen.extend(bytes);
            }
        }
    }
    let stop = StopRequest { signal: 9, grace_ms: 0 };
    patient(scene.shims().await.stop(stop)).await.unwrap();
    shim.ended();
    assert_eq!(log_of(&scene, Stream::Stdout), b"one\ntwo\n");
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs a guest bundle"]
async fn a_terminal_has_a_size_and_takes_signals() {
    let mut scene = Scene::with_main(&[
        "sh",
        "-c",
        "stty size; trap 'stty size; exit 4' WINCH; while :; do sleep 0.1; done",
    ]);
    scene.main().tty = true;
    scene.main().stdin = true;
    scene.config.wait_for_attach = true;
    let (mut shim, _) = scene.start();
    let start = AttachStart {
        release_main: true,
        stdin: true,
        size: Some(TerminalSize { rows: 33, columns: 77 }),
    };
    let (_input, mut outputs) = attach(&scene, start).await.unwrap();
    let mut seen = String::new();
    while !seen.contains("33 77") {
        if let Some(Output::Stdout(bytes)) = patient(outputs.message()).await.unwrap().unwrap().output {
            seen.push_str(std::str::from_utf8(&bytes).unwrap());
        }
    }
    // The shell sets its trap after it has said the size.
    tokio::time::sleep(Duration::from_secs(1)).await;
    let size = TerminalSize { rows: 44, columns: 88 };
    let request = ResizeRequest { size: Some(size) };
    scene.shims().await.resize(request).await.unwrap();
    let (stdout, _, status) = patient(collect(&mut outputs)).await;
    assert!(String::from_utf8_lossy(&stdout).contains("44 88"), "{stdout:?}");
    assert_eq!(status.how, Some(How::Code(4)));
    shim.ended();
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs a guest bundle"]
async fn a_stalled_stream_stalls_no_other() {
    let scene = Scene::idle();
    let (mut shim, ready) = scene.start();
    assert_eq!(ready.main_pid, None);
    let mut stalled = exec(&scene, &["yes"]).await;
    let first = patient(stalled.message()).await.unwrap().unwrap();
    assert!(matches!(first.output, Some(Output::Started(_))));
    // Not read again, until its windows are full.
    tokio::time::sleep(Duration::from_secs(1)).await;
    let began = Instant::now();
    for number in 0..10 {
        let number = number.to_string();
        let (stdout, _, status) = patient(collect(&mut exec(&scene, &["echo", &number]).await)).await;
        assert_eq!(
            (stdout, status.how),
            (format!("{number}\n").into_bytes(), Some(How::Code(0)))
        );
    }
    println!("10 execs beside a stalled one: {:?}", began.elapsed());
    let copy = CopyOutRequest {
        path: "/bin/busybox".into(),
        follow_link: false,
    };
    let mut copy = scene.guests().await.copy_out(copy).await.unwrap().into_inner();
    let mut bytes = 0;
    while let Some(piece) = patient(copy.message()).await.unwrap() {
        bytes += piece.data.len() as u64;
    }
    assert!(bytes > std::fs::metadata("/bin/busybox").unwrap().len());
    let (_, stderr, status) = patient(collect(&mut exec(&scene, &["sh", "-c", "nonsense"]).await)).await;
    assert_eq!(status.how, Some(How::Code(127)), "{}", String::from_utf8_lossy(&stderr));
    let stop = StopRequest {
        signal: 0,
        grace_ms: 500,
    };
    let stopped = patient(scene.shims().await.stop(stop)).await.unwrap().into_inner();
    assert_eq!(stopped.exit, None);
    let record = shim.ended();
    assert!(
        matches!(record.reason, ExitReason::Stopped | ExitReason::Killed),
        "{record:?}"
    );
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs a guest bundle"]
async fn stopping_asks_first() {
    let scene = Scene::with_main(&[
        "sh",
        "-c",
        "trap 'echo asked; exit 5' TERM; echo up; while :; do sleep 0.1; done",
    ]);
    let (mut shim, _) = scene.start();
    let began = Instant::now();
    while log_of(&scene, Stream::Stdout) != b"up\n" {
        assert!(began.elapsed() < PATIENCE);
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let stop = StopRequest {
        signal: 0,
        grace_ms: 30_000,
    };
    let stopped = patient(scene.shims().await.stop(stop)).await.unwrap().into_inner();
    assert!(!stopped.killed);
    assert_eq!(stopped.exit.unwrap().how, Some(How::Code(5)));
    let record = shim.ended();
    assert_eq!((record.reason, record.main), (ExitReason::Stopped, code(5)));
    assert_eq!(log_of(&scene, Stream::Stdout), b"up\nasked\n");
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs a guest bundle"]
async fn stopping_kills_what_does_not_listen() {
    // Process 1 of a PID name space ignores what it does not handle.
    let scene = Scene::with_main(&["sleep", "100000"]);
    let (mut shim, _) = scene.start();
    let stop = StopRequest {
        signal: 0,
        grace_ms: 100,
    };
    let stopped = patient(scene.shims().await.stop(stop)).await.unwrap().into_inner();
    let record = shim.ended();
    assert!(stopped.killed);
    assert_eq!(record.reason, ExitReason::Killed);
    assert_eq!(record.main.unwrap().status, MainStatus::Signal(9));
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs a guest bundle"]
async fn killing_the_main_process_ends_the_box() {
    let scene = Scene::with_main(&["sleep", "100000"]);
    let (mut shim, _) = scene.start();
    let mut shims = scene.shims().await;
    let bad = shims.kill(KillRequest { signal: 77 }).await.unwrap_err();
    assert_eq!(bad.code(), Code::InvalidArgument);
    patient(shims.kill(KillRequest { signal: 9 })).await.unwrap();
    let record = shim.ended();
    assert_eq!(record.reason, ExitReason::MainExited);
    assert_eq!(record.main.unwrap().status, MainStatus::Signal(9));
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs a guest bundle"]
async fn terminating_asks_nobody() {
    let scene = Scene::idle();
    let (mut shim, _) = scene.start();
    patient(scene.shims().await.terminate(TerminateRequest {}))
        .await
        .unwrap();
    assert_eq!(shim.ended().reason, ExitReason::Killed);
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs a guest bundle"]
async fn the_parents_end_is_the_boxs_end() {
    let mut scene = Scene::with_main(&["sleep", "100000"]);
    scene.config.parent_watch = true;
    scene.config.stop_grace_ms = 100;
    let (mut shim, _) = scene.start();
    shim.parent = None;
    let record = shim.ended();
    assert_eq!(record.reason, ExitReason::ParentGone);
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs a guest bundle"]
async fn a_signal_stops_the_box() {
    let mut scene = Scene::with_main(&["sleep", "100000"]);
    scene.config.stop_grace_ms = 100;
    let (mut shim, _) = scene.start();
    shim.signal(rustix::process::Signal::TERM);
    assert!(matches!(shim.ended().reason, ExitReason::Stopped | ExitReason::Killed));
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs a guest bundle"]
async fn an_engine_that_dies_is_told() {
    let scene = Scene::with_main(&["sleep", "100000"]);
    let (mut shim, ready) = scene.start();
    let mut shims = scene.shims().await;
    let waiting = tokio::spawn(async move { shims.wait(WaitRequest {}).await });
    let (_input, mut outputs) = attach(&scene, AttachStart::default()).await.unwrap();
    let engine = rustix::process::Pid::from_raw(ready.engine_pid as i32).unwrap();
    rustix::process::kill_process(engine, rustix::process::Signal::KILL).unwrap();
    let record = shim.ended();
    assert!(matches!(record.reason, ExitReason::EngineDied { .. }), "{record:?}");
    assert_eq!(record.engine, Some(boxlite_shim::EngineExitRecord::Signal(9)));
    assert_eq!(record.main, None);
    // Nobody is left hanging.
    let waited = patient(waiting).await.unwrap();
    assert!(waited.is_err() || waited.unwrap().into_inner().exit.is_none());
    let end = patient(async {
        loop {
            match outputs.message().await {
                Ok(Some(_)) => {}
                other => return other,
            }
        }
    });
    assert!(!matches!(end.await, Ok(Some(_))));
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs a guest bundle"]
async fn a_command_that_is_not_there_is_a_failed_start() {
    let failure = Scene::with_main(&["no-such-command"]).fail();
    assert_eq!(failure.code, StartFailureCode::CommandNotFound, "{failure:?}");
    assert!(failure.message.contains("no-such-command"), "{failure:?}");
    let failure = Scene::with_main(&["/etc"]).fail();
    assert_eq!(failure.code, StartFailureCode::CommandNotExecutable, "{failure:?}");
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs a guest bundle"]
async fn a_port_is_published_where_it_says() {
    let mut scene = Scene::with_main(&["httpd", "-f", "-p", "8080", "-h", "/etc"]);
    scene.config.machine.network = NetworkSpec::User {
        mac: "52:54:00:00:00:01".to_owned(),
        ports: vec![PortForward {
            host_ip: IpAddr::V4(Ipv4Addr::LOCALHOST),
            host_port: 0,
            guest_port: 8080,
            protocol: Protocol::Tcp,
        }],
    };
    scene.config.configure.network = Some(Network {
        mac: "52:54:00:00:00:01".to_owned(),
        address_cidr: "10.0.2.15/24".to_owned(),
        gateway: "10.0.2.2".to_owned(),
        nameservers: vec!["10.0.2.3".to_owned()],
        search: Vec::new(),
    });
    let (mut shim, ready) = scene.start();
    let [port] = &ready.ports[..] else {
        panic!("{:?}", ready.ports)
    };
    assert_ne!(port.host_port, 0);
    let began = Instant::now();
    // The engine accepts before the server in the guest does.
    let answer = loop {
        let mut stream = TcpStream::connect((port.host_ip, port.host_port)).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
        stream.write_all(b"GET /passwd HTTP/1.0\r\n\r\n").unwrap();
        let mut answer = String::new();
        if stream.read_to_string(&mut answer).is_ok() && !answer.is_empty() {
            break answer;
        }
        assert!(began.elapsed() < PATIENCE, "no answer");
        std::thread::sleep(Duration::from_millis(100));
    };
    assert!(answer.contains("root:x:0:0"), "{answer}");
    shim.signal(rustix::process::Signal::INT);
    shim.ended();
    assert!(TcpStream::connect((port.host_ip, port.host_port)).is_err());
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs a guest bundle"]
async fn volumes_are_the_hosts_files() {
    let mut scene = Scene::with_main(&[
        "sh",
        "-c",
        "cat /rw/f /one; echo written > /rw/new; echo changed > /one; (echo x > /ro/new) 2>/dev/null || echo shut; cat /ro/f",
    ]);
    for dir in ["rw", "ro"] {
        std::fs::create_dir(scene.path(dir)).unwrap();
        std::fs::write(scene.path(dir).join("f"), format!("{dir} ")).unwrap();
    }
    std::fs::write(scene.path("one"), "single\n").unwrap();
    for (tag, source, read_only, name) in [
        ("volume0", "rw", false, None),
        ("volume1", "ro", true, None),
        ("volume2", "one", false, Some("one")),
    ] {
        let shared = scene.path(source);
        scene.config.machine.shares.push(match name {
            None => Share::folder(tag, shared, read_only),
            Some(name) => Share {
                tag: tag.to_owned(),
                content: ShareContent::Members(vec![ShareMember {
                    name: name.to_owned(),
                    source: shared,
                    read_only,
                }]),
            },
        });
        scene.config.configure.volumes.push(Volume {
            tag: tag.to_owned(),
            target: format!("/{source}"),
            read_only,
            file_name: name.map(str::to_owned),
        });
    }
    let (mut shim, _) = scene.start();
    assert_eq!(shim.ended().main, code(0), "{}", scene.logs());
    assert_eq!(
        String::from_utf8_lossy(&log_of(&scene, Stream::Stdout)),
        "rw single\nshut\nro "
    );
    assert_eq!(std::fs::read_to_string(scene.path("rw/new")).unwrap(), "written\n");
    assert_eq!(std::fs::read_to_string(scene.path("one")).unwrap(), "changed\n");
    assert!(!scene.path("ro/new").exists());
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs a guest bundle"]
async fn the_disk_stays_unless_the_box_goes() {
    let mut scene = Scene::with_main(&["sh", "-c", "cat /root/kept 2>/dev/null; echo kept > /root/kept"]);
    let (mut shim, _) = scene.start();
    assert_eq!(shim.ended().main, code(0));
    drop(shim);
    scene.config.run_id = "second".to_owned();
    scene.config.remove_disk_on_exit = true;
    let (mut shim, _) = scene.start();
    assert_eq!(shim.ended().run_id, "second");
    drop(shim);
    assert_eq!(log_of(&scene, Stream::Stdout), b"kept\n");
    assert!(!scene.path("disk").exists());
}
