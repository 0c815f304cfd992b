//! Boxes, clients and what is left of them.

use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use boxlite_ffi::boxes::*;
use boxlite_ffi::client::*;
use boxlite_ffi::exec::boxlite_exec_wait;
use boxlite_ffi::image::*;
use boxlite_ffi::template::*;
use serde_json::json;

use crate::harness::op;
use crate::harness::{Client, c, image, shell, start_exec};
use crate::scene::{Scene, info, logs, start, stop, wait};

/// Processes, this one aside, that have a file of this home open: supervisors and engines.
fn processes(home: &Path) -> Vec<String> {
    let own = std::process::id().to_string();
    let all = std::fs::read_dir("/proc")
        .unwrap()
        .filter_map(|entry| entry.ok()?.file_name().into_string().ok());
    all.filter(|name| name.bytes().all(|byte| byte.is_ascii_digit()) && *name != own)
        .filter(|pid| {
            let files = std::fs::read_dir(format!("/proc/{pid}/fd"))
                .into_iter()
                .flatten()
                .filter_map(Result::ok);
            files
                .filter_map(|file| std::fs::read_link(file.path()).ok())
                .any(|target| target.starts_with(home))
        })
        .collect()
}

fn eventually(what: &str, question: impl Fn() -> bool) {
    let begun = Instant::now();
    while !question() {
        assert!(begun.elapsed() < Duration::from_secs(60), "{what} has not come to pass");
        std::thread::sleep(Duration::from_millis(30));
    }
}

#[test]
#[ignore = "starts machines"]
fn a_box_goes_through_its_states() {
    let scene = Scene::new();
    let target = scene
        .create(json!({ "name": "one", "command": ["sh", "-c", "echo hi; read x"], "stdin_open": true }))
        .unwrap();
    let state = |target| info(target)["state"].as_str().unwrap().to_owned();
    assert_eq!(state(target), "created");
    assert_eq!(op!(boxlite_box_wait(target)).unwrap().wait().unwrap_err().code, 3);
    let starting = op!(boxlite_box_start(target)).unwrap();
    while !starting.has_ended() {
        assert!(["created", "starting", "running"].contains(&state(target).as_str()));
    }
    starting.wait().unwrap();
    assert_eq!(state(target), "running");
    assert_eq!(start(target).unwrap_err().code, 3);
    let text = |function: unsafe extern "C" fn(
        u64,
        *mut *mut std::ffi::c_char,
        *mut *mut boxlite_ffi::error::boxlite_error_t,
    ) -> i32| {
        let mut text = std::ptr::null_mut();
        // SAFETY: both are valid for writing; the text is a C string, freed once.
        unsafe {
            assert_eq!(function(target, &raw mut text, std::ptr::null_mut()), 0);
            std::ffi::CString::from_raw(text).into_string().unwrap()
        }
    };
    assert_eq!(text(boxlite_box_name), "one");
    let id = text(boxlite_box_id);
    assert_eq!(json!(id), info(target)["id"]);
    let processes = op!(boxlite_box_processes(target)).unwrap().json().unwrap();
    assert!(
        processes.as_array().unwrap().iter().any(|process| process["pid"] == 1),
        "{processes}"
    );
    let metrics = op!(boxlite_box_metrics(target)).unwrap().json().unwrap();
    assert!(metrics["memory_limit_bytes"].as_u64().unwrap() > 50 << 20);
    let list = |filter: serde_json::Value| {
        op!(boxlite_box_list(scene.client.0, c(&filter.to_string()).as_ptr()))
            .unwrap()
            .json()
            .unwrap()
    };
    assert_eq!(list(json!({}))[0]["id"], json!(id));
    assert_eq!(list(json!({ "states": ["stopped"] })), json!([]));
    op!(boxlite_box_rename(scene.client.0, c"one".as_ptr(), c"two".as_ptr()))
        .unwrap()
        .wait()
        .unwrap();
    let again = op!(boxlite_box_get(scene.client.0, c(&id[..8]).as_ptr()))
        .unwrap()
        .handle()
        .unwrap();
    assert_eq!(info(again)["name"], "two");
    op!(boxlite_box_restart(target, c"{\"timeout_ms\":100}".as_ptr()))
        .unwrap()
        .wait()
        .unwrap();
    eventually("the second output", || logs(target, json!({})).0 == "hi\nhi\n");
    assert_eq!(logs(target, json!({ "tail": 1 })).0, "hi\n");
    op!(boxlite_box_kill(target, 9)).unwrap().wait().unwrap();
    assert_eq!(wait(target)["signal"], 9);
    assert_eq!(state(target), "stopped");
    stop(target, json!({}));
    assert_eq!(op!(boxlite_box_kill(target, 9)).unwrap().wait().unwrap_err().code, 3);
    op!(boxlite_box_remove(scene.client.0, c"two".as_ptr(), std::ptr::null()))
        .unwrap()
        .wait()
        .unwrap();
    let gone = op!(boxlite_box_get(scene.client.0, c"two".as_ptr()))
        .unwrap()
        .wait()
        .unwrap_err();
    assert_eq!(
        (gone.code, gone.operation.as_str(), gone.box_name.as_str()),
        (1, "box_get", "two")
    );
    assert!(!gone.hint.is_empty());
    let report = op!(boxlite_client_info(scene.client.0)).unwrap().json().unwrap();
    assert_eq!(
        (&report["boxes"]["total"], &report["home"]),
        (&json!(0), &json!(scene.home()))
    );
    assert!(
        op!(boxlite_client_disk_usage(scene.client.0)).unwrap().json().unwrap()["images"]["size_bytes"]
            .as_u64()
            .unwrap()
            > 0
    );
}

#[test]
#[ignore = "starts machines"]
fn closing_ends_what_runs_and_says_so() {
    let scene = Scene::new();
    let target = scene.start(json!({ "command": ["sleep", "1000"] }));
    let exec = start_exec(target, &json!({ "command": ["sleep", "1000"] })).unwrap();
    let open = [
        op!(boxlite_box_wait(target)).unwrap(),
        op!(boxlite_exec_wait(exec)).unwrap(),
        op!(boxlite_box_logs(target, c"{\"follow\":true}".as_ptr(), -1, -1)).unwrap(),
    ];
    assert!(open.iter().all(|op| !op.has_ended()));
    let home = scene.home();
    assert!(!processes(&home).is_empty());
    let begun = Instant::now();
    scene.client.close();
    assert!(begun.elapsed() < Duration::from_secs(20));
    for op in &open {
        assert_eq!(op.wait().unwrap_err().code, 6);
    }
    assert_eq!(op!(boxlite_box_info(target)).unwrap().wait().unwrap_err().code, 6);
    eventually("the end of all machines", || processes(&home).is_empty());
    let other = Client::open(&home);
    let boxes = op!(boxlite_box_list(other.0, c"{\"all\":true}".as_ptr()))
        .unwrap()
        .json()
        .unwrap();
    assert_eq!(boxes[0]["state"], "stopped");
}

#[test]
#[ignore = "starts machines"]
fn a_start_that_is_cancelled_leaves_nothing() {
    let scene = Scene::new();
    let target = scene.create(json!({ "start": "cold" })).unwrap();
    let starting = op!(boxlite_box_start(target)).unwrap();
    let home = scene.home();
    eventually("a supervisor", || !processes(&home).is_empty());
    starting.cancel();
    assert_eq!(starting.wait().unwrap_err().code, 11);
    eventually("the end of all machines", || processes(&home).is_empty());
    // The box itself is as good as new.
    start(target).unwrap();
    assert_eq!(shell(target, "echo alive"), "alive\n");
}

#[test]
#[ignore = "starts machines"]
fn a_pull_that_is_cancelled_leaves_nothing() {
    // A registry that answers nothing, ever.
    let deaf = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = deaf.local_addr().unwrap().port();
    let folder = tempfile::tempdir().unwrap();
    let host = format!("127.0.0.1:{port}");
    let client = Client::new(&json!({ "home": folder.path(), "registries": { "plain_http": [host] } })).unwrap();
    op!(boxlite_client_open(client.0)).unwrap().wait().unwrap();
    let options = c(&json!({ "image": format!("{host}/some/image:1"), "name": "never" }).to_string());
    let create = op!(boxlite_box_create(client.0, options.as_ptr())).unwrap();
    let (_connection, _) = deaf.accept().unwrap();
    assert_eq!(create.progress()["phase"], "resolving");
    create.cancel();
    let failed = create.wait().unwrap_err();
    assert_eq!(
        (failed.code, failed.operation.as_str(), failed.box_name.as_str()),
        (11, "box_create", "never")
    );
    let all = op!(boxlite_box_list(client.0, c"{\"all\":true}".as_ptr()))
        .unwrap()
        .json()
        .unwrap();
    assert_eq!(all, json!([]));
    assert_eq!(op!(boxlite_image_list(client.0)).unwrap().json().unwrap(), json!([]));
    assert_eq!(std::fs::read_dir(folder.path().join("boxes")).unwrap().count(), 0);
    client.close();
}

#[test]
#[ignore = "starts machines"]
fn images_are_loaded_named_and_removed() {
    let scene = Scene::new();
    let source = image();
    let load = op!(boxlite_image_load(
        scene.client.0,
        c(&source).as_ptr(),
        c"{\"tag\":\"example.org/bb:1\"}".as_ptr()
    ))
    .unwrap();
    let loaded = load.json().unwrap();
    assert_eq!(load.progress()["phase"], "done");
    assert_eq!(loaded[0]["references"], json!(["example.org/bb:1"]));
    op!(boxlite_image_tag(
        scene.client.0,
        c"example.org/bb:1".as_ptr(),
        c"example.org/bb:2".as_ptr()
    ))
    .unwrap()
    .wait()
    .unwrap();
    let got = op!(boxlite_image_get(scene.client.0, c"example.org/bb:2".as_ptr()))
        .unwrap()
        .json()
        .unwrap();
    assert_eq!(
        (&got["digest"], got["references"].as_array().unwrap().len()),
        (&loaded[0]["digest"], 2)
    );
    scene
        .create(json!({ "image": "example.org/bb:2", "pull_policy": "never" }))
        .unwrap();
    let remove = |name: &str, options: &str| {
        op!(boxlite_image_remove(
            scene.client.0,
            c(name).as_ptr(),
            c(options).as_ptr()
        ))
        .unwrap()
        .json()
    };
    assert_eq!(
        remove("example.org/bb:1", "{}").unwrap()["untagged"],
        json!(["example.org/bb:1"])
    );
    assert_eq!(remove("example.org/bb:2", "{}").unwrap_err().code, 3);
    let pruned = op!(boxlite_client_prune(scene.client.0, c"{\"all_images\":true}".as_ptr()))
        .unwrap()
        .json()
        .unwrap();
    assert_eq!(pruned["boxes"].as_array().unwrap().len(), 1);
    assert_eq!(
        op!(boxlite_image_list(scene.client.0)).unwrap().json().unwrap(),
        json!([])
    );
    for wrong in ["dir:/", "/no/such/file", "oci:/no/such/folder"] {
        let failed = op!(boxlite_image_load(scene.client.0, c(wrong).as_ptr(), std::ptr::null()))
            .unwrap()
            .wait()
            .unwrap_err();
        assert!([1, 4, 8].contains(&failed.code), "{failed:?}");
    }
}

#[test]
#[ignore = "starts machines"]
fn templates_are_made_and_used() {
    let scene = Scene::new();
    let options = c"{\"memory_mib\":128}";
    let made = op!(boxlite_template_create(scene.client.0, options.as_ptr()))
        .unwrap()
        .json()
        .unwrap();
    assert_eq!((&made["memory_mib"], &made["usable"]), (&json!(128), &json!(true)));
    assert_eq!(
        op!(boxlite_template_list(scene.client.0)).unwrap().json().unwrap()[0]["key"],
        made["key"]
    );
    let target = scene.start(json!({}));
    assert_eq!(info(target)["run"]["start_mode"], "warm");
    op!(boxlite_template_remove(
        scene.client.0,
        c(made["key"].as_str().unwrap()).as_ptr()
    ))
    .unwrap()
    .wait()
    .unwrap();
    assert_eq!(shell(target, "echo alive"), "alive\n");
}

/// Runs in a process of its own, which is killed. See below.
#[test]
#[ignore = "is run by another test"]
fn the_process_that_is_killed() {
    let Some(home) = std::env::var_os("BOXLITE_TEST_KILLED_HOME") else {
        return;
    };
    let client = Client::open(std::path::Path::new(&home));
    let options =
        c(&json!({ "image": image(), "memory_mib": 128, "disk_mib": 32, "command": ["sleep", "1000"] }).to_string());
    let target = op!(boxlite_box_create(client.0, options.as_ptr()))
        .unwrap()
        .handle()
        .unwrap();
    start(target).unwrap();
    // SAFETY: a signal to this very process.
    unsafe { libc::kill(libc::getpid(), libc::SIGKILL) };
    unreachable!("killed");
}

#[test]
#[ignore = "starts machines"]
fn a_client_that_is_killed_leaves_no_machine() {
    let folder = tempfile::tempdir().unwrap();
    let home = folder.path().join("home");
    let status = Command::new(std::env::current_exe().unwrap())
        .args(["--ignored", "--exact", "lifecycle::the_process_that_is_killed"])
        .env("BOXLITE_TEST_KILLED_HOME", &home)
        .status()
        .unwrap();
    assert!(!status.success());
    eventually("the end of all machines", || processes(&home).is_empty());
    let client = Client::open(&home);
    let boxes = op!(boxlite_box_list(client.0, c"{\"all\":true}".as_ptr()))
        .unwrap()
        .json()
        .unwrap();
    assert_eq!(boxes[0]["state"], "stopped", "{boxes}");
}

#[test]
#[ignore = "starts machines"]
fn a_supervisor_can_be_told_to_end() {
    let scene = Scene::new();
    let target = scene.start(json!({}));
    // The library's threads block all signals; what they start must not.
    let pid = info(target)["run"]["shim_pid"].as_i64().unwrap();
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    assert!(status.contains("SigBlk:\t0000000000000000"), "{status}");
    // SAFETY: a signal to the supervisor of this test's own box.
    unsafe { libc::kill(i32::try_from(pid).unwrap(), libc::SIGTERM) };
    wait(target);
    assert_eq!(info(target)["state"], "stopped");
    // Threads of the library have all signals blocked, this one has not.
    let mut library_threads = 0;
    for task in std::fs::read_dir("/proc/self/task").unwrap() {
        let status = std::fs::read_to_string(task.unwrap().path().join("status")).unwrap();
        if status.starts_with("Name:\tboxlite\n") {
            library_threads += 1;
            let blocked = status.lines().find_map(|line| line.strip_prefix("SigBlk:\t")).unwrap();
            let blocked = u64::from_str_radix(blocked, 16).unwrap();
            assert_eq!(
                blocked & (1 << 14 | 1 << 12 | 1 << 1),
                1 << 14 | 1 << 12 | 1 << 1,
                "{blocked:x}"
            );
        }
    }
    assert!(library_threads >= 2);
}
