use std::time::Duration;

use boxlite::{BoxState, Diagnose, ErrorCode, ExecOptions, Mount, RemoveOptions, Signal, StopOptions};
use boxlite_store::{BoxLock, Home};

use crate::harness::{Scene, all_names, shell};

#[tokio::test]
#[ignore = "starts real machines; `make test` runs it"]
async fn a_box_lives_dies_and_lives_again_with_its_disk() {
    let scene = Scene::new();
    let client = scene.client().await;
    let options = scene
        .options()
        .name("life")
        .cpus(2)
        .hostname("inside")
        .env("COLOUR", "blue")
        .working_dir("/work")
        .label("kind", "test");
    let handle = client.create(options).await.unwrap();
    assert_eq!(handle.info().await.unwrap().state, BoxState::Created);
    let error = handle.wait().await.unwrap_err();
    assert_eq!(error.code(), ErrorCode::InvalidState);

    handle.start().await.unwrap();
    let info = handle.info().await.unwrap();
    assert_eq!(info.state, BoxState::Running);
    assert_eq!(info.labels["kind"], "test");
    let run = info.run.unwrap();
    assert!(["tcg", "kvm"].contains(&run.accelerator.as_deref().unwrap()));
    assert_eq!(run.start_mode.as_deref(), Some("cold"));
    assert!(run.engine.unwrap().starts_with("qemu "));
    assert!(
        run.stages
            .iter()
            .any(|stage| stage.stage == "kernel" && stage.duration_us > 0)
    );
    assert!(info.jail.is_some());

    let seen = shell(&handle, "hostname; echo $COLOUR; pwd; grep -c ^processor /proc/cpuinfo 2>/dev/null || ls -d /sys/devices/system/cpu/cpu[0-9] | wc -l").await;
    assert_eq!(seen.lines().take(3).collect::<Vec<_>>(), ["inside", "blue", "/work"]);
    assert_eq!(seen.lines().last(), Some("2"));
    shell(&handle, "echo kept > /root/file").await;

    let error = handle.start().await.unwrap_err();
    assert_eq!(error.code(), ErrorCode::InvalidState);
    let error = client.remove("life", RemoveOptions::default()).await.unwrap_err();
    assert_eq!(error.code(), ErrorCode::InvalidState);

    handle.stop(StopOptions::default()).await.unwrap();
    let info = handle.info().await.unwrap();
    assert_eq!((info.state, info.exit_status), (BoxState::Stopped, None));
    assert_eq!(info.run.unwrap().shim_pid, None);
    assert!(handle.wait().await.unwrap().success());

    handle.start().await.unwrap();
    assert_eq!(shell(&handle, "cat /root/file").await, "kept\n");
    handle.restart(StopOptions::default()).await.unwrap();
    assert_eq!(shell(&handle, "cat /root/file").await, "kept\n");

    handle.kill(Signal::KILL).await.unwrap();
    let status = handle.wait().await.unwrap();
    assert_eq!(status.signal(), Some(9));
    client.remove("life", RemoveOptions::default()).await.unwrap();
    assert!(all_names(&client).await.is_empty());
    assert_eq!(scene.box_folders(), 0);
    client.close().await;
}

#[tokio::test]
#[ignore = "starts real machines; `make test` runs it"]
async fn a_box_whose_supervisor_is_killed_says_so_and_starts_again() {
    let scene = Scene::new();
    let client = scene.client().await;
    let handle = client.create(scene.options()).await.unwrap();
    handle.start().await.unwrap();
    let pid = handle.info().await.unwrap().run.unwrap().shim_pid.unwrap();
    let waiting = {
        let handle = handle.clone();
        tokio::spawn(async move { handle.wait().await })
    };
    let pid = rustix::process::Pid::from_raw(i32::try_from(pid).unwrap()).unwrap();
    rustix::process::kill_process(pid, rustix::process::Signal::KILL).unwrap();
    let error = waiting.await.unwrap().unwrap_err();
    assert_eq!(error.code(), ErrorCode::Engine, "{error}");
    let info = handle.info().await.unwrap();
    assert_eq!(info.state, BoxState::Failed);
    assert!(info.error.unwrap().hint.is_some());
    handle.start().await.unwrap();
    assert_eq!(shell(&handle, "echo again").await, "again\n");
    handle.remove(RemoveOptions::force()).await.unwrap();
    assert_eq!(scene.box_folders(), 0);
}

#[tokio::test]
#[ignore = "starts real machines; `make test` runs it"]
async fn mounts_are_seen_and_read_only_is_enforced() {
    let scene = Scene::new();
    let shared = scene.path().join("shared");
    std::fs::create_dir(&shared).unwrap();
    std::fs::write(shared.join("given"), "from the host").unwrap();
    std::fs::write(shared.join("other"), "not to be seen").unwrap();
    let client = scene.client().await;
    let options = scene
        .options()
        .mount(Mount::new(&shared, "/rw"))
        .mount(Mount::new(&shared, "/ro").read_only())
        .mount(Mount::new(shared.join("given"), "/etc/given").read_only());
    let handle = client.create(options).await.unwrap();
    handle.start().await.unwrap();
    assert_eq!(
        shell(&handle, "cat /rw/given /etc/given").await,
        "from the hostfrom the host"
    );
    shell(&handle, "echo back > /rw/written; ! echo x > /ro/refused").await;
    assert_eq!(std::fs::read(shared.join("written")).unwrap(), b"back\n");
    assert!(!shared.join("refused").exists());
    handle.stop(StopOptions::default()).await.unwrap();
    std::fs::remove_dir_all(&shared).unwrap();
    let error = handle.start().await.unwrap_err();
    assert_eq!(error.code(), ErrorCode::InvalidArgument);
    assert_eq!(handle.info().await.unwrap().state, BoxState::Stopped);
}

#[tokio::test]
#[ignore = "starts real machines; `make test` runs it"]
async fn a_paused_box_stands_still_and_goes_on() {
    const PAUSE: Duration = Duration::from_secs(3);
    let scene = Scene::new();
    let client = scene.client().await;
    let handle = client.create(scene.options()).await.unwrap();
    let error = handle.pause().await.unwrap_err();
    assert_eq!(error.code(), ErrorCode::InvalidState);
    handle.start().await.unwrap();
    let uptime = async || -> f64 {
        let text = shell(&handle, "cut -d' ' -f1 /proc/uptime").await;
        text.trim().parse().unwrap()
    };
    let wall = async || -> i64 { shell(&handle, "date +%s").await.trim().parse().unwrap() };
    let before = uptime().await;
    let begun = std::time::Instant::now();

    handle.pause().await.unwrap();
    handle.pause().await.unwrap();
    assert_eq!(handle.info().await.unwrap().state, BoxState::Paused);
    let error = handle.exec(ExecOptions::new(["true"])).await.unwrap_err();
    assert_eq!(error.code(), ErrorCode::InvalidState);
    assert!(error.hint().unwrap().contains("boxlite unpause"), "{:?}", error.hint());
    // Another client sees it too.
    let other = scene.client().await;
    assert_eq!(
        other.get(handle.name()).await.unwrap().info().await.unwrap().state,
        BoxState::Paused
    );
    tokio::time::sleep(PAUSE).await;
    handle.unpause().await.unwrap();
    handle.unpause().await.unwrap();

    assert_eq!(handle.info().await.unwrap().state, BoxState::Running);
    let after = uptime().await;
    let elapsed = begun.elapsed();
    assert!(
        after - before < (elapsed - PAUSE).as_secs_f64() + 0.5,
        "it went on while it was paused: {before} to {after} in {elapsed:?}"
    );
    let host = || {
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
        i64::try_from(now.unwrap().as_secs()).unwrap()
    };
    let (earliest, guest, latest) = (host(), wall().await, host());
    assert!(
        (earliest..=latest).contains(&guest),
        "{guest} is not in {earliest}..={latest}"
    );

    // What ends a box ends a paused one.
    handle.pause().await.unwrap();
    handle.stop(StopOptions::default()).await.unwrap();
    assert_eq!(handle.info().await.unwrap().state, BoxState::Stopped);
    handle.start().await.unwrap();
    handle.pause().await.unwrap();
    handle.remove(RemoveOptions::force()).await.unwrap();
}

/// A process that another thread is just starting shares the lock that a create has dropped.
#[tokio::test]
#[ignore = "starts real machines; `make test` runs it"]
async fn a_box_that_looks_locked_for_a_moment_starts() {
    let scene = Scene::new();
    let client = scene.client().await;
    let handle = client.create(scene.options()).await.unwrap();
    let home = Home::open(&scene.home()).unwrap();
    // The lock that was dropped may look held for as long as another test starts a process.
    let lock = BoxLock::acquire(&home, &handle.id().parse().unwrap(), Duration::from_secs(60), &|| false);
    let holder = std::thread::spawn(move || {
        std::thread::sleep(Duration::from_millis(300));
        drop(lock.unwrap());
    });
    handle.start().await.unwrap();
    holder.join().unwrap();
    let error = handle.start().await.unwrap_err();
    assert_eq!(error.code(), ErrorCode::InvalidState);
}
