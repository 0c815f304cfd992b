//! The C interface as a test calls it: from outside, through the exported functions only.

#![allow(dead_code, reason = "each test uses its part")]

use std::ffi::{CStr, CString, c_char, c_int};
use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::{FromRawFd, OwnedFd};
use std::path::PathBuf;
use std::ptr::{null, null_mut};

use boxlite_ffi::client::*;
use boxlite_ffi::error::*;
use boxlite_ffi::exec::*;
use boxlite_ffi::op::*;
use boxlite_ffi::text::boxlite_string_free;
use serde_json::{Value, json};

/// An error as data.
pub(crate) type Failed = Box<Failure>;

/// What is in it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Failure {
    pub(crate) code: i32,
    pub(crate) message: String,
    pub(crate) hint: String,
    pub(crate) evidence: String,
    pub(crate) operation: String,
    pub(crate) box_name: String,
}

fn text(pointer: *const c_char) -> String {
    // SAFETY: texts of an error live as long as the error, and are C strings.
    unsafe { CStr::from_ptr(pointer) }.to_str().unwrap().to_owned()
}

fn take_error(code: i32, error: *mut boxlite_error_t) -> Failed {
    assert!(!error.is_null(), "code {code} without an error");
    // SAFETY: an error that was just given, freed once.
    unsafe {
        let failed = Failure {
            code,
            message: text(boxlite_error_message(error)),
            hint: text(boxlite_error_hint(error)),
            evidence: text(boxlite_error_evidence(error)),
            operation: text(boxlite_error_operation(error)),
            box_name: text(boxlite_error_box(error)),
        };
        assert_eq!(boxlite_error_code(error), code);
        boxlite_error_free(error);
        Box::new(failed)
    }
}

/// Calls a function whose last parameter is the error.
pub(crate) fn call(function: impl FnOnce(*mut *mut boxlite_error_t) -> i32) -> Result<(), Failed> {
    let mut error = null_mut();
    match function(&raw mut error) {
        0 => {
            assert!(error.is_null());
            Ok(())
        }
        code => Err(take_error(code, error)),
    }
}

pub(crate) fn c(text: &str) -> CString {
    CString::new(text).unwrap()
}

/// An operation; freed with this value.
#[derive(Debug)]
pub(crate) struct Op(pub(crate) u64);

impl Drop for Op {
    fn drop(&mut self) {
        boxlite_op_free(self.0);
    }
}

impl Op {
    /// Starts one.
    pub(crate) fn start(function: impl FnOnce(*mut u64, *mut *mut boxlite_error_t) -> i32) -> Result<Self, Failed> {
        let mut op = 0;
        call(|error| function(&raw mut op, error))?;
        assert_ne!(op, 0);
        Ok(Self(op))
    }

    /// Waits for its end.
    pub(crate) fn wait(&self) -> Result<(), Failed> {
        // SAFETY: the error is valid for writing.
        call(|error| unsafe { boxlite_op_wait(self.0, 120_000, error) })
    }

    /// Whether it has ended.
    pub(crate) fn has_ended(&self) -> bool {
        // SAFETY: NULL is allowed.
        unsafe { boxlite_op_wait(self.0, 0, null_mut()) != 100 }
    }

    pub(crate) fn cancel(&self) {
        // SAFETY: the error is valid for writing.
        call(|error| unsafe { boxlite_op_cancel(self.0, error) }).unwrap();
    }

    pub(crate) fn json(&self) -> Result<Value, Failed> {
        self.wait()?;
        let mut json = null_mut();
        // SAFETY: both are valid for writing.
        call(|error| unsafe { boxlite_op_result_json(self.0, &raw mut json, error) })?;
        Ok(take_json(json))
    }

    pub(crate) fn progress(&self) -> Value {
        let mut json = null_mut();
        // SAFETY: both are valid for writing.
        call(|error| unsafe { boxlite_op_progress_json(self.0, &raw mut json, error) }).unwrap();
        take_json(json)
    }

    pub(crate) fn handle(&self) -> Result<u64, Failed> {
        self.wait()?;
        let mut handle = 0;
        // SAFETY: both are valid for writing.
        call(|error| unsafe { boxlite_op_result_handle(self.0, &raw mut handle, error) })?;
        Ok(handle)
    }
}

fn take_json(json: *mut c_char) -> Value {
    let value = serde_json::from_str(&text(json)).unwrap();
    // SAFETY: it was given, and is freed once.
    unsafe { boxlite_string_free(json) };
    value
}

/// Calls an exported function that starts an operation: `op!(boxlite_box_start(handle))`.
macro_rules! op {
    ($function:ident($($argument:expr),* $(,)?)) => {
        $crate::harness::Op::start(|op, error| {
            // SAFETY: texts are C strings that outlive the call; `op` and `error` are valid for writing.
            unsafe { $function($($argument,)* op, error) }
        })
    };
}
pub(crate) use op;

pub(crate) fn optional(json: &Option<CString>) -> *const c_char {
    json.as_ref().map_or(null(), |json| json.as_ptr())
}

/// A client; freed with this value.
pub(crate) struct Client(pub(crate) u64);

impl Drop for Client {
    fn drop(&mut self) {
        boxlite_client_free(self.0);
    }
}

impl Client {
    pub(crate) fn new(options: &Value) -> Result<Self, Failed> {
        let options = c(&options.to_string());
        let mut client = 0;
        // SAFETY: a C string, and places to write to.
        call(|error| unsafe { boxlite_client_new(options.as_ptr(), &raw mut client, error) })?;
        Ok(Self(client))
    }

    pub(crate) fn open(home: &std::path::Path) -> Self {
        let client = Self::new(&json!({ "home": home })).unwrap();
        op!(boxlite_client_open(client.0)).unwrap().wait().unwrap();
        client
    }

    pub(crate) fn close(&self) {
        op!(boxlite_client_close(self.0)).unwrap().wait().unwrap();
    }

    pub(crate) fn next_completion(&self) -> u64 {
        let mut op = 0;
        // SAFETY: both are valid for writing.
        call(|error| unsafe { boxlite_client_next_completion(self.0, &raw mut op, error) }).unwrap();
        op
    }

    pub(crate) fn completion_fd(&self) -> c_int {
        let mut fd = -1;
        // SAFETY: both are valid for writing.
        call(|error| unsafe { boxlite_client_completion_fd(self.0, &raw mut fd, error) }).unwrap();
        fd
    }

    /// Whether the completion descriptor is readable.
    pub(crate) fn is_readable(&self) -> bool {
        let mut poll = libc::pollfd {
            fd: self.completion_fd(),
            events: libc::POLLIN,
            revents: 0,
        };
        // SAFETY: one entry that is valid for the call.
        unsafe { libc::poll(&raw mut poll, 1, 0) == 1 }
    }
}

/// One of the streams of an execution, once.
pub(crate) fn stream(
    exec: u64,
    function: unsafe extern "C" fn(u64, *mut c_int, *mut *mut boxlite_error_t) -> i32,
) -> Result<File, Failed> {
    let mut fd = -1;
    // SAFETY: both are valid for writing.
    call(|error| unsafe { function(exec, &raw mut fd, error) })?;
    // SAFETY: the function gave it to its caller.
    Ok(File::from(unsafe { OwnedFd::from_raw_fd(fd) }))
}

/// What a process wrote, and how it ended.
#[derive(Debug)]
pub(crate) struct Output {
    pub(crate) stdout: Vec<u8>,
    pub(crate) stderr: Vec<u8>,
    pub(crate) status: Value,
}

pub(crate) fn start_exec(target: u64, options: &Value) -> Result<u64, Failed> {
    let options = c(&options.to_string());
    op!(boxlite_exec_start(target, options.as_ptr()))?.handle()
}

/// Runs a process to its end.
pub(crate) fn run(target: u64, options: &Value, input: Option<&[u8]>) -> Result<Output, Failed> {
    let exec = start_exec(target, options)?;
    let read = |mut file: File| {
        std::thread::spawn(move || {
            let mut bytes = Vec::new();
            file.read_to_end(&mut bytes).unwrap();
            bytes
        })
    };
    let stdout = stream(exec, boxlite_exec_stdout_fd).ok().map(read);
    let stderr = stream(exec, boxlite_exec_stderr_fd).ok().map(read);
    if let Some(input) = input {
        stream(exec, boxlite_exec_stdin_fd).unwrap().write_all(input).unwrap();
    }
    let bytes =
        |reader: Option<std::thread::JoinHandle<Vec<u8>>>| reader.map(|r| r.join().unwrap()).unwrap_or_default();
    let (stdout, stderr) = (bytes(stdout), bytes(stderr));
    let status = op!(boxlite_exec_wait(exec)).unwrap().json()?;
    boxlite_exec_free(exec);
    Ok(Output { stdout, stderr, status })
}

/// What a shell command in the box prints; it must succeed.
pub(crate) fn shell(target: u64, command: &str) -> String {
    let output = run(target, &json!({ "command": ["sh", "-c", command] }), None).unwrap();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status["code"], 0, "{command}: {errors}");
    String::from_utf8(output.stdout).unwrap()
}

/// How many random cases are tried: `BOXLITE_FUZZ_CASES` if it is set, for those who have time.
pub(crate) fn cases(few: u32) -> proptest::test_runner::Config {
    let wanted = std::env::var("BOXLITE_FUZZ_CASES").ok();
    let cases = wanted.map_or(few, |text| text.parse().expect("BOXLITE_FUZZ_CASES is a number"));
    proptest::test_runner::Config {
        failure_persistence: None,
        ..proptest::test_runner::Config::with_cases(cases)
    }
}

/// Options of a box that needs no fixture and can't be started: a folder with one file.
pub(crate) fn still_life(folder: &std::path::Path) -> Value {
    let root = folder.join("root");
    std::fs::create_dir_all(&root).unwrap();
    std::fs::write(root.join("file"), "contents").unwrap();
    json!({ "image": format!("dir:{}", root.display()), "disk_mib": 16 })
}

/// The busybox image of the fixtures.
pub(crate) fn image() -> String {
    let fixtures = std::env::var_os("BOXLITE_TEST_FIXTURES")
        .expect("BOXLITE_TEST_FIXTURES is not set: it is what scripts/fixtures.sh prints");
    format!("oci:{}", PathBuf::from(fixtures).join("busybox").display())
}
