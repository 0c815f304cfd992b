//! Several processes in one home, and processes that are killed at any moment. The test binary
//! runs itself as those processes.
#![allow(clippy::unwrap_used, reason = "a test is to fail there")]

use std::collections::HashSet;
use std::io::{BufRead, BufReader, Read, Write};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use boxlite_store::{
    BoxId, BoxLock, Digest, EndedRun, ExitStatus, Expected, GarbageOptions, Home, ImageCollection, NewBox, NewImage,
    PruneRequest, RecordedExit, RecordedState, RunChange,
};

const ROLE: &str = "BOXLITE_STORE_TEST_ROLE";
const HOME: &str = "BOXLITE_STORE_TEST_HOME";

fn child(role: &str, home: &Path) -> Child {
    Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "this_is_a_child", "--nocapture", "--test-threads=1"])
        .env(ROLE, role)
        .env(HOME, home)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap()
}

/// Reads until the child says `word`, and returns what it says behind it. The test harness talks
/// on the same stream, but without the mark.
fn wait_for(reader: &mut impl BufRead, word: &str) -> String {
    let mut line = String::new();
    loop {
        line.clear();
        assert!(
            reader.read_line(&mut line).unwrap() > 0,
            "the child ended without {word}"
        );
        if let Some(rest) = line.strip_prefix("# ").and_then(|said| said.strip_prefix(word)) {
            return rest.trim().to_owned();
        }
    }
}

fn say(text: &str) {
    let mut output = std::io::stdout();
    writeln!(output, "\n# {text}").unwrap();
    output.flush().unwrap();
}

fn wait_for_end_of_input() {
    std::io::stdin().read_to_end(&mut Vec::new()).unwrap();
}

fn parse(bytes: &[u8]) -> Result<EndedRun, String> {
    let text = std::str::from_utf8(bytes).map_err(|error| error.to_string())?;
    let (run_id, code) = text.split_once(' ').ok_or("no code")?;
    let status = ExitStatus::Code(code.parse().map_err(|_| "no number")?);
    let exit = Some(RecordedExit {
        status,
        oom_killed: false,
    });
    Ok(EndedRun {
        run_id: run_id.into(),
        exit,
        error: None,
        finished_at_ms: 77,
    })
}

fn make(home: &Home) -> (BoxId, BoxLock) {
    let draft = home.draft_box().unwrap();
    std::fs::write(draft.dir().join("disk"), "d").unwrap();
    let (record, lock) = draft.commit(NewBox::default()).unwrap();
    (record.id, lock)
}

/// A child that another test is just starting has every descriptor of this process until it
/// executes its program, so a lock that was dropped here may be held for a moment longer.
fn wait_until_free(home: &Home, id: &BoxId) {
    while BoxLock::is_locked(home, id).unwrap() {
        std::thread::yield_now();
    }
}

fn start(home: &Home, id: &BoxId, run: &str) {
    let change = RunChange {
        run_id: Some(run.into()),
        ..RunChange::default()
    };
    home.transition(id, Expected::startable(), RecordedState::Starting, change)
        .unwrap();
    home.transition(
        id,
        Expected::state(RecordedState::Starting),
        RecordedState::Running,
        RunChange::default(),
    )
    .unwrap();
}

fn image(number: u32) -> NewImage {
    let digest: Digest = format!("sha256:{number:064x}").parse().unwrap();
    NewImage {
        config_digest: digest.clone(),
        digest,
        manifest: serde_json::json!({}),
        platform: "linux/amd64".into(),
        size_bytes: 1,
        created_at_ms: None,
        layers: Vec::new(),
        other_blobs: Vec::new(),
    }
}

/// Does everything that leaves traces, for ever.
fn churn(home: &Home) {
    let mut number = std::process::id();
    loop {
        let (id, lock) = make(home);
        start(home, &id, "run");
        let staging = home.stage().unwrap();
        std::fs::write(staging.path().join("half"), "h").unwrap();
        number = number.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        let image = image(number);
        {
            let lease = home.lease_images().unwrap();
            std::fs::write(home.blob_path(&image.digest), "b").unwrap();
            home.put_image(&lease, &image, Some(&number.to_string()), true).unwrap();
            let _build = home.lock_rootfs(&lease, &image.digest, &|| false).unwrap();
            std::fs::write(staging.path().join("rootfs"), "r").unwrap();
            staging.publish("rootfs", &home.rootfs_path(&image.digest)).unwrap();
            home.put_rootfs(&lease, &image.digest, 1).unwrap();
        }
        let stopped = Expected::live().of_run("run");
        home.transition(&id, stopped, RecordedState::Stopped, RunChange::default())
            .unwrap();
        if number.is_multiple_of(2) {
            home.remove_box(lock).unwrap();
            home.remove_image(&image.digest).unwrap();
            home.collect_garbage(&GarbageOptions::default()).unwrap();
        }
    }
}

/// Not a test by itself: what the children do.
#[test]
fn this_is_a_child() {
    let (Ok(role), Some(path)) = (std::env::var(ROLE), std::env::var_os(HOME)) else {
        return;
    };
    let home = Home::open(Path::new(&path)).unwrap();
    match role.as_str() {
        "create" => {
            for _ in 0..15 {
                make(&home);
            }
            home.recover(&parse, 0, &GarbageOptions::default()).unwrap();
        }
        "open" => say("opened"),
        "run" => {
            let (id, _lock) = make(&home);
            start(&home, &id, "run");
            say(&format!("running {id}"));
            wait_for_end_of_input();
        }
        "draft" => {
            let draft = home.draft_box().unwrap();
            std::fs::write(draft.dir().join("disk"), "d").unwrap();
            let staging = home.stage().unwrap();
            let _lease = home.lease_images().unwrap();
            std::fs::write(home.blob_path(&image(5).digest), "b").unwrap();
            say(&format!("drafting {}", draft.id()));
            wait_for_end_of_input();
            drop(staging);
            let (record, _) = draft.commit(NewBox::default()).unwrap();
            say(&format!("committed {}", record.id));
        }
        "churn" => {
            say("churning");
            churn(&home);
        }
        other => panic!("no such role: {other}"),
    }
}

/// Every row has its files, every file its row, and no lie is left.
fn assert_whole(home: &Home) {
    home.recover(&parse, 0, &GarbageOptions::default()).unwrap();
    let boxes = home.list_boxes().unwrap();
    for record in &boxes {
        assert!(!record.state.is_live(), "{record:?}");
        assert_eq!(std::fs::read(home.box_dir(&record.id).join("disk")).unwrap(), b"d");
    }
    let names: HashSet<&str> = boxes.iter().map(|record| record.name.as_str()).collect();
    assert_eq!(names.len(), boxes.len());
    let count = |path: &Path| std::fs::read_dir(path).unwrap().count();
    assert_eq!(count(&home.boxes_dir()), boxes.len());
    let images = home.list_images().unwrap();
    for image in &images {
        assert!(home.blob_path(&image.digest).exists());
        assert_eq!(home.rootfs_path(&image.digest).exists(), image.rootfs_bytes.is_some());
    }
    assert_eq!(count(&home.content_dir().join("blobs/sha256")), images.len());
    assert_eq!(count(&home.path().join("tmp")), 0);
    assert_eq!(count(&home.path().join("trash")), 0);
    let database = rusqlite::Connection::open(home.path().join("boxlite.db")).unwrap();
    let check: String = database
        .query_row("PRAGMA integrity_check", [], |row| row.get(0))
        .unwrap();
    assert_eq!(check, "ok");
    assert!(
        !database
            .prepare("PRAGMA foreign_key_check")
            .unwrap()
            .exists([])
            .unwrap()
    );
}

#[test]
fn many_processes_make_one_new_home_at_once() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("home");
    let children: Vec<Child> = (0..6).map(|_| child("open", &path)).collect();
    for child in children {
        assert!(child.wait_with_output().unwrap().status.success());
    }
    assert_whole(&Home::open(&path).unwrap());
}

#[test]
fn many_processes_create_and_recover_at_once() {
    let directory = tempfile::tempdir().unwrap();
    let children: Vec<Child> = (0..4).map(|_| child("create", directory.path())).collect();
    for child in children {
        assert!(child.wait_with_output().unwrap().status.success());
    }
    let home = Home::open(directory.path()).unwrap();
    assert_eq!(home.list_boxes().unwrap().len(), 60);
    assert_whole(&home);
}

#[test]
fn a_killed_supervisor_is_noticed_and_its_record_believed() {
    let directory = tempfile::tempdir().unwrap();
    let home = Home::open(directory.path()).unwrap();
    let runs: [(Option<&str>, RecordedState); 5] = [
        (None, RecordedState::Failed),
        (Some("run 3"), RecordedState::Stopped),
        (Some("earlier-run 0"), RecordedState::Failed),
        (Some("damaged"), RecordedState::Failed),
        (Some(""), RecordedState::Failed),
    ];
    for (exit_record, state) in runs {
        let mut child = child("run", directory.path());
        let mut output = BufReader::new(child.stdout.take().unwrap());
        let id: BoxId = wait_for(&mut output, "running ").parse().unwrap();
        assert!(BoxLock::is_locked(&home, &id).unwrap());
        assert!(BoxLock::try_acquire(&home, &id).unwrap().is_none());
        assert_eq!(home.reconcile(&parse).unwrap().ended, []);
        let every = |_: &boxlite_store::BoxRecord| true;
        let request = PruneRequest {
            boxes: Some(&every),
            ..PruneRequest::default()
        };
        assert!(!home.prune(&request).unwrap().boxes.contains(&id));
        assert_eq!(home.get_box(&id).unwrap().state, RecordedState::Running);

        if let Some(text) = exit_record {
            std::fs::write(home.exit_record_path(&id), text).unwrap();
        }
        child.kill().unwrap();
        child.wait().unwrap();
        let before = home.get_box(&id).unwrap();
        let after = home.reconcile_box(before, &parse).unwrap();
        assert_eq!(after.state, state, "{exit_record:?}");
        if state == RecordedState::Stopped {
            assert_eq!(
                (after.exit.unwrap().status, after.finished_at_ms),
                (ExitStatus::Code(3), Some(77))
            );
        } else {
            let error = after.error.clone().unwrap();
            assert_eq!(error.code, "supervisor_lost");
            assert_eq!(error.evidence.is_empty(), exit_record.is_none());
        }
        assert_eq!(home.get_box(&id).unwrap(), after);
    }
}

#[test]
fn the_lock_lives_on_in_a_child_that_inherits_it() {
    let directory = tempfile::tempdir().unwrap();
    let home = Home::open(directory.path()).unwrap();
    let (id, lock) = make(&home);
    // As the shim's standard input, because only the standard ones are inherited by themselves.
    let mut heir = Command::new("sleep").arg("1000").stdin(lock.into_fd()).spawn().unwrap();
    assert!(BoxLock::is_locked(&home, &id).unwrap());
    assert!(BoxLock::try_acquire(&home, &id).unwrap().is_none());
    heir.kill().unwrap();
    heir.wait().unwrap();
    wait_until_free(&home, &id);
}

#[test]
fn nothing_is_taken_from_who_is_just_making_it() {
    let directory = tempfile::tempdir().unwrap();
    let home = Home::open(directory.path()).unwrap();
    let collect = || home.collect_garbage(&GarbageOptions::default()).unwrap();
    for is_killed in [false, true] {
        let mut child = child("draft", directory.path());
        let mut output = BufReader::new(child.stdout.take().unwrap());
        let id: BoxId = wait_for(&mut output, "drafting ").parse().unwrap();
        let collected = collect();
        assert_eq!((collected.box_folders, collected.stagings), (0, 0));
        assert_eq!(collected.images, ImageCollection::Deferred);
        assert!(home.box_dir(&id).join("disk").exists());
        if is_killed {
            child.kill().unwrap();
            child.wait().unwrap();
            let collected = collect();
            assert_eq!(
                (collected.box_folders, collected.stagings, collected.image_files),
                (1, 1, 1)
            );
            assert!(!home.box_dir(&id).exists());
        } else {
            drop(child.stdin.take());
            assert_eq!(wait_for(&mut output, "committed "), id.as_str());
            assert!(child.wait().unwrap().success());
            assert_eq!(collect().box_folders, 0);
            assert_eq!(home.get_box(&id).unwrap().state, RecordedState::Created);
        }
    }
}

#[test]
fn killed_at_any_moment_a_home_is_whole_after_recovery() {
    let directory = tempfile::tempdir().unwrap();
    let home = Home::open(directory.path()).unwrap();
    for round in 0..12_u64 {
        let mut children: Vec<Child> = (0..2).map(|_| child("churn", directory.path())).collect();
        for child in &mut children {
            wait_for(&mut BufReader::new(child.stdout.as_mut().unwrap()), "churning");
        }
        // Any moment will do, and another one in each round; nothing depends on which.
        std::thread::sleep(std::time::Duration::from_millis(7 + round * 11 % 60));
        for mut child in children {
            // A child that ended by itself has found something wrong.
            assert!(child.try_wait().unwrap().is_none());
            child.kill().unwrap();
            child.wait().unwrap();
        }
        assert_whole(&home);
    }
}

#[test]
fn boxes_that_are_to_go_when_they_end_go_with_recovery() {
    let directory = tempfile::tempdir().unwrap();
    let home = Home::open(directory.path()).unwrap();
    let new = NewBox {
        auto_remove: true,
        ..NewBox::default()
    };
    let (record, lock) = home.draft_box().unwrap().commit(new).unwrap();
    start(&home, &record.id, "run");
    drop(lock);
    wait_until_free(&home, &record.id);
    let recovered = home.recover(&parse, 3_600_000, &GarbageOptions::default()).unwrap();
    assert_eq!((recovered.ended.len(), recovered.removed), (1, vec![]));
    let recovered = home.recover(&parse, 0, &GarbageOptions::default()).unwrap();
    assert_eq!((recovered.ended.len(), recovered.removed), (0, vec![record.id.clone()]));
    assert!(!home.box_dir(&record.id).exists());
}
