//! Making, finding, changing and removing boxes, in one process.
#![allow(clippy::unwrap_used, reason = "a test is to fail there")]

use std::collections::BTreeMap;

use boxlite_store::{
    AmendError, BoxId, BoxLock, CreateBoxError, Digest, ExitStatus, Expected, FindBoxError, Home, LockError, NewBox,
    NewImage, RecordedError, RecordedExit, RecordedState, RemoveBoxError, RenameBoxError, RunChange, TransitionError,
};
use serde_json::json;

struct Place {
    home: Home,
    _directory: tempfile::TempDir,
}

fn place() -> Place {
    let directory = tempfile::tempdir().unwrap();
    Place {
        home: Home::open(&directory.path().join("home")).unwrap(),
        _directory: directory,
    }
}

fn make(home: &Home, name: Option<&str>) -> BoxId {
    let draft = home.draft_box().unwrap();
    std::fs::write(draft.dir().join("disk"), "d").unwrap();
    let (record, _lock) = draft
        .commit(NewBox {
            name: name.map(Into::into),
            ..NewBox::default()
        })
        .unwrap();
    record.id
}

fn run(id: &str) -> RunChange {
    RunChange {
        run_id: Some(id.into()),
        ..RunChange::default()
    }
}

#[test]
fn a_box_has_everything_it_was_made_with() {
    let Place { home, .. } = &place();
    let draft = home.draft_box().unwrap();
    std::fs::write(draft.dir().join("disk"), "d").unwrap();
    assert!(matches!(home.get_box(draft.id()), Err(FindBoxError::NotFound { .. })));
    let new = NewBox {
        name: Some("web-1".into()),
        config: json!({"cpus": 2, "env": ["A=ü\u{0}"]}),
        image_reference: Some("alpine".into()),
        image_digest: None,
        auto_remove: true,
        detached: true,
        labels: BTreeMap::from([("a".into(), "b".into())]),
    };
    let (record, lock) = draft.commit(new.clone()).unwrap();
    assert_eq!(record.name, "web-1");
    assert_eq!((&record.config, &record.labels), (&new.config, &new.labels));
    assert!(record.auto_remove && record.detached);
    assert_eq!(record.state, RecordedState::Created);
    assert_eq!(home.get_box(&record.id).unwrap(), record);
    assert!(BoxLock::is_locked(home, &record.id).unwrap());
    assert!(BoxLock::try_acquire(home, &record.id).unwrap().is_none());
    drop(lock);
    assert!(!BoxLock::is_locked(home, &record.id).unwrap());
    assert!(home.box_dir(&record.id).join("disk").exists());
}

#[test]
fn a_draft_that_is_dropped_or_refused_leaves_nothing() {
    let Place { home, .. } = &place();
    drop(home.draft_box().unwrap());
    make(home, Some("taken"));
    let refused = |new: NewBox| home.draft_box().unwrap().commit(new).unwrap_err();
    let name = |name: &str| NewBox {
        name: Some(name.into()),
        ..NewBox::default()
    };
    assert!(matches!(refused(name("taken")), CreateBoxError::NameTaken { .. }));
    assert!(matches!(refused(name("not a name")), CreateBoxError::Name(_)));
    let digest: Digest = format!("sha256:{}", "1".repeat(64)).parse().unwrap();
    let without_image = NewBox {
        image_digest: Some(digest),
        ..NewBox::default()
    };
    assert!(matches!(refused(without_image), CreateBoxError::NoSuchImage { .. }));
    assert_eq!(std::fs::read_dir(home.boxes_dir()).unwrap().count(), 1);
    assert_eq!(home.list_boxes().unwrap().len(), 1);
}

#[test]
fn a_box_is_found_by_id_by_name_and_by_prefix_in_this_order() {
    let Place { home, .. } = &place();
    let ids: Vec<BoxId> = (0..40).map(|_| make(home, None)).collect();
    for id in &ids {
        assert_eq!(home.find_box(id.as_str()).unwrap().id, *id);
        let record = home.get_box(id).unwrap();
        assert_eq!(home.find_box(&record.name).unwrap().id, *id);
        assert_eq!(home.find_box(id.short()).unwrap().id, *id);
    }
    // Forty IDs can't begin with sixteen different digits.
    let digit = "0123456789abcdef"
        .chars()
        .map(|digit| digit.to_string())
        .find(|digit| ids.iter().filter(|id| id.as_str().starts_with(digit)).count() > 1)
        .unwrap();
    match home.find_box(&digit) {
        Err(FindBoxError::Ambiguous { matches, .. }) => {
            assert!(matches.len() > 1 && matches.iter().all(|id| id.as_str().starts_with(&digit)));
        }
        other => panic!("{other:?}"),
    }
    // A name goes before a prefix.
    home.rename_box(&ids[3], &digit).unwrap();
    assert_eq!(home.find_box(&digit).unwrap().id, ids[3]);
    for absent in [
        "",
        "%",
        "_",
        "nobody",
        "0000000000000000000000000000000000",
        "g",
        "' OR 1=1 --",
    ] {
        assert!(
            matches!(home.find_box(absent), Err(FindBoxError::NotFound { .. })),
            "{absent}"
        );
    }
}

#[test]
fn one_run_leaves_its_traces_and_the_next_forgets_them() {
    use RecordedState::{Running, Starting, Stopped, Stopping};
    let Place { home, .. } = &place();
    let id = make(home, None);
    let go = |expected, to, change| home.transition(&id, expected, to, change);
    go(Expected::startable(), Starting, run("one")).unwrap();
    let change = RunChange {
        shim_pid: Some(42),
        engine: Some("qemu".into()),
        accelerator: Some("tcg".into()),
        start: Some(json!({"mode": "cold"})),
        ports: Some(json!([8080])),
        ..RunChange::default()
    };
    home.amend_run(&id, "one", change).unwrap();
    assert!(matches!(
        home.amend_run(&id, "two", RunChange::default()),
        Err(AmendError::NoSuchRun { .. })
    ));
    let running = go(Expected::state(Starting).of_run("one"), Running, RunChange::default()).unwrap();
    assert!(running.started_at_ms.unwrap() >= running.created_at_ms);
    assert_eq!((running.shim_pid, running.engine.as_deref()), (Some(42), Some("qemu")));
    go(Expected::state(Running).of_run("one"), Stopping, RunChange::default()).unwrap();
    let exit = RecordedExit {
        status: ExitStatus::Signal(9),
        oom_killed: true,
    };
    let stopped = go(
        Expected::live().of_run("one"),
        Stopped,
        RunChange {
            exit: Some(exit),
            ..RunChange::default()
        },
    )
    .unwrap();
    assert_eq!((stopped.exit, stopped.shim_pid), (Some(exit), None));
    assert!(stopped.finished_at_ms.is_some());
    assert_eq!(home.get_box(&id).unwrap(), stopped);
    let again = go(Expected::startable(), Starting, run("two")).unwrap();
    assert_eq!(again.run_id.as_deref(), Some("two"));
    assert_eq!(
        (again.exit, again.started_at_ms, again.finished_at_ms),
        (None, None, None)
    );
    assert_eq!((again.engine, again.start, again.ports), (None, None, None));
    let error = RecordedError {
        code: "engine".into(),
        message: "m".into(),
        ..RecordedError::default()
    };
    let failed = go(
        Expected::live().of_run("two"),
        RecordedState::Failed,
        RunChange {
            error: Some(error.clone()),
            ..RunChange::default()
        },
    )
    .unwrap();
    assert_eq!(home.get_box(&id).unwrap(), failed);
    assert_eq!(failed.error, Some(error));
}

#[test]
fn a_transition_that_is_not_expected_changes_nothing() {
    use RecordedState::{Created, Running, Starting, Stopped};
    let Place { home, .. } = &place();
    let id = make(home, None);
    let before = home.get_box(&id).unwrap();
    let go = |expected, to, change| home.transition(&id, expected, to, change).unwrap_err();
    let none = RunChange::default;
    assert!(matches!(
        go(Expected::state(Running), Stopped, none()),
        TransitionError::WrongState { actual: Created, .. }
    ));
    // Expected by the caller, and not allowed all the same.
    assert!(matches!(
        go(Expected::state(Created), Running, none()),
        TransitionError::WrongState { .. }
    ));
    assert!(matches!(
        go(Expected::startable(), Starting, none()),
        TransitionError::RunId { given: false, .. }
    ));
    assert!(matches!(
        go(Expected::state(Created), Running, run("x")),
        TransitionError::RunId { given: true, .. }
    ));
    let of_run = go(Expected::startable().of_run("other"), Starting, run("x"));
    assert!(matches!(of_run, TransitionError::OtherRun { actual: None, .. }));
    assert_eq!(home.get_box(&id).unwrap(), before);
    let absent = BoxId::random().unwrap();
    let error = home
        .transition(&absent, Expected::startable(), Starting, run("x"))
        .unwrap_err();
    assert!(matches!(error, TransitionError::NotFound { .. }));
}

#[test]
fn only_one_of_many_starts_wins() {
    let Place { home, .. } = &place();
    let id = make(home, None);
    let winners: usize = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..8)
            .map(|number| {
                let id = &id;
                scope.spawn(move || {
                    let change = run(&number.to_string());
                    home.transition(id, Expected::startable(), RecordedState::Starting, change)
                        .is_ok()
                })
            })
            .collect();
        threads
            .into_iter()
            .map(|thread| usize::from(thread.join().unwrap()))
            .sum()
    });
    assert_eq!(winners, 1);
}

#[test]
fn names_are_unique_through_renaming_too() {
    let Place { home, .. } = &place();
    let (one, other) = (make(home, Some("one")), make(home, Some("other")));
    assert!(matches!(home.rename_box(&one, "other"), Err(RenameBoxError::NameTaken { by, .. }) if by == other));
    assert!(matches!(home.rename_box(&one, "-"), Err(RenameBoxError::Name(_))));
    assert!(matches!(
        home.rename_box(&BoxId::random().unwrap(), "x"),
        Err(RenameBoxError::NotFound { .. })
    ));
    home.rename_box(&one, "one").unwrap();
    home.rename_box(&one, "third").unwrap();
    assert_eq!(home.box_named("third").unwrap(), Some(one));
    assert_eq!(home.box_named("one").unwrap(), None);
    make(home, Some("one"));
}

#[test]
fn what_is_removed_is_gone_for_those_who_wait_for_it_too() {
    let Place { home, .. } = &place();
    let id = make(home, None);
    let lock = BoxLock::try_acquire(home, &id).unwrap().unwrap();
    let waiting = std::thread::scope(|scope| {
        let waiter = scope.spawn(|| BoxLock::acquire(home, &id, std::time::Duration::from_secs(60), &|| false));
        home.remove_box(lock).unwrap();
        waiter.join().unwrap()
    });
    assert!(matches!(waiting, Err(LockError::Gone { .. })), "{waiting:?}");
    assert!(!home.box_dir(&id).exists());
    assert_eq!(home.list_boxes().unwrap(), []);
    assert!(matches!(BoxLock::try_acquire(home, &id), Err(LockError::Gone { .. })));
}

#[test]
fn a_box_can_be_removed_once() {
    let Place { home, .. } = &place();
    let draft = home.draft_box().unwrap();
    let id = draft.id().clone();
    let (_, lock) = draft.commit(NewBox::default()).unwrap();
    // What a second holder could only be after a crash between the row and the folder.
    let database = rusqlite::Connection::open(home.path().join("boxlite.db")).unwrap();
    database.execute("DELETE FROM boxes", []).unwrap();
    assert!(matches!(home.remove_box(lock), Err(RemoveBoxError::NotFound { id: gone }) if gone == id));
}

#[test]
fn an_image_that_a_box_has_stays() {
    let Place { home, .. } = &place();
    let digest: Digest = format!("sha256:{}", "2".repeat(64)).parse().unwrap();
    let image = NewImage {
        digest: digest.clone(),
        config_digest: digest.clone(),
        manifest: json!({}),
        platform: "linux/amd64".into(),
        size_bytes: 1,
        created_at_ms: None,
        layers: Vec::new(),
        other_blobs: Vec::new(),
    };
    home.put_image(&home.lease_images().unwrap(), &image, None, false)
        .unwrap();
    let new = NewBox {
        image_digest: Some(digest.clone()),
        ..NewBox::default()
    };
    let (record, lock) = home.draft_box().unwrap().commit(new).unwrap();
    assert_eq!(home.image(&digest).unwrap().unwrap().boxes, 1);
    let error = home.remove_image(&digest).unwrap_err();
    assert!(error.to_string().contains(&record.name), "{error}");
    home.remove_box(lock).unwrap();
    home.remove_image(&digest).unwrap();
}

#[test]
fn ten_thousand_boxes_are_listed_found_and_recovered() {
    let Place { home, .. } = &place();
    let mut database = rusqlite::Connection::open(home.path().join("boxlite.db")).unwrap();
    let transaction = database.transaction().unwrap();
    for number in 0..10_000_u128 {
        let id = format!(
            "{:032x}",
            number.wrapping_mul(0x9e37_79b9_7f4a_7c15_f39c_c060_5ced_c835)
        );
        transaction
            .prepare_cached(
                "INSERT INTO boxes (id, name, config, state, created_at_ms, auto_remove, detached, labels)
                 VALUES (?1, ?2, '{\"cpus\":1}', 'stopped', ?3, 0, 0, '{}')",
            )
            .unwrap()
            .execute(rusqlite::params![id, format!("box_{number}"), number as i64])
            .unwrap();
    }
    transaction.commit().unwrap();
    let boxes = home.list_boxes().unwrap();
    assert_eq!(boxes.len(), 10_000);
    assert!(boxes.is_sorted_by(|newer, older| newer.created_at_ms > older.created_at_ms));
    assert_eq!(home.find_box("box_1234").unwrap().created_at_ms, 1234);
    assert_eq!(home.find_box(&boxes[17].id.as_str()[..20]).unwrap().id, boxes[17].id);

    // How long that takes depends on the computer; that no table is searched through does not.
    let plan = |query: &str| {
        let mut statement = database.prepare(&format!("EXPLAIN QUERY PLAN {query}")).unwrap();
        let rows: Vec<String> = statement
            .query_map([], |row| row.get(3))
            .unwrap()
            .map(Result::unwrap)
            .collect();
        rows.join("; ")
    };
    for query in [
        "SELECT * FROM boxes WHERE id = 'a'",
        "SELECT * FROM boxes WHERE name = 'a'",
        "SELECT id FROM boxes WHERE id >= 'a' AND id < 'a' || 'g' ORDER BY id",
        "SELECT * FROM boxes WHERE state = 'running'",
        "SELECT * FROM boxes ORDER BY created_at_ms DESC, id DESC",
        "SELECT count(*) FROM boxes WHERE image_digest = 'a'",
    ] {
        let plan = plan(query);
        assert!(
            plan.contains("INDEX") && !plan.contains("TEMP B-TREE"),
            "{query}: {plan}"
        );
    }
}
