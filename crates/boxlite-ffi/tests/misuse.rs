//! Any function on any handle at any time gives a code.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests")]

mod harness;

use std::ffi::c_int;
use std::os::fd::{FromRawFd, OwnedFd};
use std::ptr::{null, null_mut};

use boxlite_ffi::boxes::*;
use boxlite_ffi::client::*;
use boxlite_ffi::code::Code;
use boxlite_ffi::copy::*;
use boxlite_ffi::error::boxlite_error_t;
use boxlite_ffi::exec::*;
use boxlite_ffi::image::*;
use boxlite_ffi::op::*;
use boxlite_ffi::template::*;
use harness::{Client, c, call, op, still_life};
use proptest::prelude::*;

const OK: i32 = 0;
const INVALID_STATE: i32 = 3;
const INVALID_ARGUMENT: i32 = 4;

/// What a call gave: its code, and a handle if there is one.
type Given = (i32, u64);

fn handle_of(call: impl FnOnce(*mut u64, *mut *mut boxlite_error_t) -> i32) -> Given {
    let mut handle = 0;
    let code = call(&raw mut handle, null_mut());
    (code, handle)
}

fn descriptor_of(call: impl FnOnce(*mut c_int, *mut *mut boxlite_error_t) -> i32) -> Given {
    let mut fd = -1;
    let code = call(&raw mut fd, null_mut());
    if code == OK {
        // SAFETY: a stream of an execution is its caller's.
        drop(unsafe { OwnedFd::from_raw_fd(fd) });
    }
    (code, 0)
}

fn text_of(call: impl FnOnce(*mut *mut std::ffi::c_char, *mut *mut boxlite_error_t) -> i32) -> Given {
    let mut text = null_mut();
    let code = call(&raw mut text, null_mut());
    // SAFETY: NULL, or given just now.
    unsafe { boxlite_ffi::text::boxlite_string_free(text) };
    (code, 0)
}

/// Every function that takes a handle. Those that start machines are given none that can start.
/// A name, and what calls the function of that name on a handle.
type Entry = (&'static str, fn(u64) -> Given);

const FUNCTIONS: &[Entry] = {
    macro_rules! entry {
        ($name:ident as op($($argument:expr),*)) => {
            // SAFETY: texts are NULL or C strings, the places are valid for writing.
            (stringify!($name), |handle| handle_of(|op, error| unsafe { $name(handle, $($argument,)* op, error) }))
        };
        ($name:ident as free) => {
            (stringify!($name), |handle| ($name(handle), 0))
        };
        ($name:ident as $how:ident) => {
            // SAFETY: the places are valid for writing.
            (stringify!($name), |handle| $how(|place, error| unsafe { $name(handle, place, error) }))
        };
    }
    &[
        entry!(boxlite_client_open as handle_of),
        entry!(boxlite_client_close as handle_of),
        entry!(boxlite_client_free as free),
        entry!(boxlite_client_next_completion as handle_of),
        entry!(boxlite_client_disk_usage as handle_of),
        entry!(boxlite_client_prune as op(null())),
        entry!(boxlite_box_create as op(c"{\"image\":\"dir:/nonexistent\"}".as_ptr())),
        entry!(boxlite_box_get as op(c"still".as_ptr())),
        entry!(boxlite_box_list as op(null())),
        entry!(boxlite_box_remove as op(c"nothing".as_ptr(), null())),
        entry!(boxlite_box_rename as op(c"nothing".as_ptr(), c"other".as_ptr())),
        entry!(boxlite_box_id as text_of),
        entry!(boxlite_box_name as text_of),
        entry!(boxlite_box_attach as op(null())),
        entry!(boxlite_box_stop as op(null())),
        entry!(boxlite_box_kill as op(9)),
        entry!(boxlite_box_pause as op()),
        entry!(boxlite_box_unpause as op()),
        entry!(boxlite_box_wait as handle_of),
        entry!(boxlite_box_info as handle_of),
        entry!(boxlite_box_metrics as handle_of),
        entry!(boxlite_box_processes as handle_of),
        entry!(boxlite_box_logs as op(null(), -1, -1)),
        entry!(boxlite_box_free as free),
        entry!(boxlite_box_copy_in as op(c"/nonexistent".as_ptr(), c"/x".as_ptr(), null())),
        entry!(boxlite_box_copy_out as op(c"/x".as_ptr(), c"/nonexistent".as_ptr(), null())),
        entry!(boxlite_box_copy_in_tar as op(-7, c"/x".as_ptr(), null())),
        entry!(boxlite_box_copy_out_tar as op(c"/x".as_ptr(), -7, null())),
        entry!(boxlite_exec_start as op(c"{\"command\":[\"true\"]}".as_ptr())),
        entry!(boxlite_exec_stdin_fd as descriptor_of),
        entry!(boxlite_exec_stdout_fd as descriptor_of),
        entry!(boxlite_exec_stderr_fd as descriptor_of),
        entry!(boxlite_exec_wait as handle_of),
        entry!(boxlite_exec_signal as op(15)),
        entry!(boxlite_exec_resize as op(1, 1)),
        entry!(boxlite_exec_free as free),
        entry!(boxlite_image_list as handle_of),
        entry!(boxlite_image_get as op(c"nothing".as_ptr())),
        entry!(boxlite_image_remove as op(c"nothing".as_ptr(), null())),
        entry!(boxlite_image_load as op(c"oci:/nonexistent".as_ptr(), null())),
        entry!(boxlite_template_list as handle_of),
        entry!(boxlite_template_remove as op(c"ffff".as_ptr())),
        entry!(boxlite_op_result_handle as handle_of),
        entry!(boxlite_op_result_json as text_of),
        entry!(boxlite_op_progress_json as text_of),
        entry!(boxlite_op_free as free),
        ("boxlite_op_cancel", |op| {
            // SAFETY: NULL is allowed.
            (unsafe { boxlite_op_cancel(op, null_mut()) }, 0)
        }),
        ("boxlite_op_wait", |op| {
            // SAFETY: NULL is allowed.
            (unsafe { boxlite_op_wait(op, 1, null_mut()) }, 0)
        }),
        ("boxlite_exec_stdin_close", |exec| {
            // SAFETY: NULL is allowed.
            (unsafe { boxlite_exec_stdin_close(exec, null_mut()) }, 0)
        }),
        ("boxlite_exec_pid", |exec| {
            let mut pid = 0;
            // SAFETY: valid for writing; NULL is allowed.
            (unsafe { boxlite_exec_pid(exec, &raw mut pid, null_mut()) }, 0)
        }),
    ]
};

/// Which handle a step takes: one that was given, whatever became of it, or an invented one.
#[derive(Debug, Clone)]
enum Which {
    Given(prop::sample::Index),
    Near(prop::sample::Index, u64),
    Invented(u64),
}

fn which() -> impl Strategy<Value = Which> {
    prop_oneof![
        12 => any::<prop::sample::Index>().prop_map(Which::Given),
        1 => (any::<prop::sample::Index>(), any::<u64>()).prop_map(|(index, bits)| Which::Near(index, bits)),
        1 => any::<u64>().prop_map(Which::Invented),
    ]
}

#[test]
fn random_calls_give_codes() {
    let folder = tempfile::tempdir().unwrap();
    let home = folder.path().join("home");
    let options = c(&still_life(folder.path()).to_string());
    let steps = proptest::collection::vec((0..FUNCTIONS.len(), which()), 1..120);
    proptest!(harness::cases(60), |(steps in steps)| {
        let client = Client::open(&home);
        let mut handles = vec![client.0];
        handles.push(op!(boxlite_box_create(client.0, options.as_ptr())).unwrap().handle().unwrap());
        for (function, which) in steps {
            let handle = match which {
                Which::Given(index) => *index.get(&handles),
                Which::Near(index, bits) => index.get(&handles) ^ (1 << (bits % 64)),
                Which::Invented(number) => number,
            };
            let (name, function) = FUNCTIONS[function];
            let (code, given) = function(handle);
            prop_assert!(Code::from_number(code).is_some(), "{} gave {}", name, code);
            if given != 0 {
                handles.push(given);
            }
        }
    });
}

#[test]
fn each_misuse_has_its_code() {
    let folder = tempfile::tempdir().unwrap();
    let client = Client::open(&folder.path().join("home"));
    let options = c(&still_life(folder.path()).to_string());
    let create = op!(boxlite_box_create(client.0, options.as_ptr())).unwrap();
    let target = create.handle().unwrap();
    assert_eq!(create.handle().unwrap_err().code, INVALID_STATE, "taken twice");
    let kinds = [("client", client.0), ("box", target), ("op", create.0)];
    for (name, function) in FUNCTIONS {
        let takes = name.trim_start_matches("boxlite_").split('_').next().unwrap();
        let takes = match (takes, *name) {
            ("image" | "template", _) | (_, "boxlite_box_create" | "boxlite_box_get" | "boxlite_box_list") => "client",
            (_, "boxlite_box_remove" | "boxlite_box_rename") => "client",
            (_, "boxlite_exec_start") => "box",
            (takes, _) => takes,
        };
        for (kind, handle) in kinds {
            if kind != takes {
                assert_eq!(function(handle).0, INVALID_ARGUMENT, "{name} on a {kind}");
            }
        }
        for invented in [0, 1, u64::MAX, target + 1_000_000] {
            assert_eq!(function(invented).0, INVALID_ARGUMENT, "{name} on {invented}");
        }
    }
    assert_eq!(boxlite_box_free(target), OK);
    assert_eq!(boxlite_box_free(target), INVALID_STATE);
    assert_eq!(handle_of(|op, error| unsafe_info(target, op, error)).0, INVALID_STATE);
    let waiting = create.0;
    drop(create);
    assert_eq!(boxlite_op_free(waiting), INVALID_STATE);
    let number = client.0;
    drop(client);
    assert_eq!(boxlite_client_free(number), INVALID_STATE);
}

fn unsafe_info(target: u64, op: *mut u64, error: *mut *mut boxlite_error_t) -> i32 {
    // SAFETY: both are valid for writing, or NULL.
    unsafe { boxlite_box_info(target, op, error) }
}

#[test]
fn null_places_are_refused_before_anything_happens() {
    // SAFETY: NULL is what is tried.
    unsafe {
        assert_eq!(boxlite_client_new(null(), null_mut(), null_mut()), INVALID_ARGUMENT);
        assert_eq!(boxlite_box_info(0, null_mut(), null_mut()), INVALID_ARGUMENT);
        boxlite_ffi::text::boxlite_string_free(null_mut());
        boxlite_ffi::error::boxlite_error_free(null_mut());
        assert_eq!(boxlite_ffi::error::boxlite_error_code(null()), OK);
        assert_eq!(*boxlite_ffi::error::boxlite_error_message(null()), 0);
    }
}

#[test]
fn completions_are_announced_once_and_their_descriptor_follows() {
    let folder = tempfile::tempdir().unwrap();
    let client = Client::open(&folder.path().join("home"));
    // The opening was announced too, and freed since.
    assert!(!client.is_readable());
    assert_eq!(client.next_completion(), 0);
    let ops: Vec<_> = (0..20).map(|_| op!(boxlite_image_list(client.0)).unwrap()).collect();
    for op in &ops {
        op.wait().unwrap();
        op.wait().unwrap();
    }
    assert!(client.is_readable());
    // One that was freed is not announced any more.
    let mut expected: std::collections::BTreeSet<u64> = ops.iter().skip(1).map(|op| op.0).collect();
    let ops: Vec<_> = ops.into_iter().skip(1).collect();
    while !expected.is_empty() {
        assert!(client.is_readable());
        assert!(expected.remove(&client.next_completion()));
    }
    assert!(!client.is_readable());
    assert_eq!(client.next_completion(), 0);
    drop(ops);
}

#[test]
fn states_of_a_client_have_their_codes() {
    let folder = tempfile::tempdir().unwrap();
    let client = Client::new(&serde_json::json!({ "home": folder.path().join("home") })).unwrap();
    let list = || op!(boxlite_box_list(client.0, null())).unwrap().json();
    assert_eq!(list().unwrap_err().code, INVALID_STATE);
    assert!(op!(boxlite_client_doctor(client.0)).unwrap().json().unwrap()["checks"].is_array());
    let open = || op!(boxlite_client_open(client.0)).unwrap().wait();
    open().unwrap();
    assert_eq!(open().unwrap_err().code, INVALID_STATE);
    assert_eq!(list().unwrap(), serde_json::json!([]));
    let late = op!(boxlite_box_list(client.0, null())).unwrap();
    client.close();
    // It was faster, or was closed.
    assert!(late.wait().is_ok_and(|()| true) || late.wait().unwrap_err().code == 6);
    for failed in [
        list().unwrap_err(),
        open().unwrap_err(),
        op!(boxlite_client_close(client.0)).unwrap().wait().unwrap_err(),
    ] {
        assert_eq!(failed.code, 6, "{failed:?}");
    }
    let failed = call(|error| handle_of(|op, _| unsafe_info(77, op, error)).0).unwrap_err();
    assert_eq!((failed.code, failed.operation.as_str()), (INVALID_ARGUMENT, "box_info"));
}

#[test]
fn a_waiter_is_told_when_its_operation_is_freed() {
    let folder = tempfile::tempdir().unwrap();
    let client = Client::open(&folder.path().join("home"));
    // Its reader never comes, so that it does not end by itself.
    let mut fd = -1;
    // SAFETY: a C string, and places that are valid for writing.
    call(|error| unsafe { boxlite_ffi::log::boxlite_log_fd(c"error".as_ptr(), &raw mut fd, error) }).unwrap();
    let options = c(&still_life(folder.path()).to_string());
    let create = op!(boxlite_box_create(client.0, options.as_ptr())).unwrap();
    let number = create.0;
    let waiter = std::thread::spawn(move || {
        // SAFETY: NULL is allowed.
        unsafe { boxlite_op_wait(number, -1, null_mut()) }
    });
    drop(create);
    let code = waiter.join().unwrap();
    assert!(code == OK || code == INVALID_STATE, "{code}");
    // SAFETY: the log's descriptor is its caller's.
    drop(unsafe { OwnedFd::from_raw_fd(fd) });
}
