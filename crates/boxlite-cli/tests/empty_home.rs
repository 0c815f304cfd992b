//! Commands on a home in which nothing is: no machine is needed for these.
#![allow(clippy::unwrap_used, reason = "a test ends where something is not as expected")]

mod home;

use std::io::Read;
use std::os::unix::fs::PermissionsExt;
use std::process::Stdio;
use std::time::Duration;

use home::{Home, stderr, stdout};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

#[test]
fn lists_are_empty() {
    let home = Home::new();
    let output = home.boxlite(&["ps", "-a"]).output().unwrap();
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    assert_eq!(
        stdout(&output),
        "BOX ID   IMAGE   COMMAND   CREATED   STATUS   PORTS   NAMES\n"
    );
    assert_eq!(stderr(&output), "");
    let output = home.boxlite(&["images"]).output().unwrap();
    assert_eq!(stdout(&output), "REPOSITORY   TAG   IMAGE ID   CREATED   SIZE\n");
    for list in ["ps", "ls", "list", "images"] {
        let output = home.boxlite(&[list, "--format", "json"]).output().unwrap();
        assert_eq!(stdout(&output), "[]\n", "{list}");
        let output = home.boxlite(&[list, "-q"]).output().unwrap();
        assert_eq!(stdout(&output), "", "{list}");
    }
}

#[test]
fn what_is_not_there_is_named_and_the_others_get_their_turn() {
    let home = Home::new();
    for command in ["start", "stop", "restart", "kill", "rm", "wait"] {
        let output = home.boxlite(&[command, "one", "two"]).output().unwrap();
        assert_eq!(output.status.code(), Some(1), "{command}");
        assert!(output.stdout.is_empty(), "{command}");
        let told = stderr(&output);
        assert_eq!(told.matches("boxlite: error: ").count(), 2, "{told}");
        assert!(told.contains("one") && told.contains("two"), "{told}");
        assert!(told.contains("try: "), "{told}");
    }
    for arguments in [
        &["logs", "one"][..],
        &["top", "one"],
        &["port", "one"],
        &["cp", "one:/etc/hosts", "."],
        &["cp", ".", "one:/"],
        &["stats", "--no-stream", "one"],
        &["rmi", "one"],
        &["tag", "one", "two"],
    ] {
        let output = home.boxlite(arguments).output().unwrap();
        assert_eq!(output.status.code(), Some(1), "{arguments:?}");
        assert!(stderr(&output).contains("one"), "{arguments:?}: {}", stderr(&output));
        assert!(output.stdout.is_empty(), "{arguments:?}");
    }
}

#[test]
fn inspect_prints_an_array_in_any_case() {
    let home = Home::new();
    let output = home.boxlite(&["inspect", "one"]).output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert_eq!(stdout(&output), "[]\n");
    assert_eq!(
        stderr(&output),
        "boxlite: error: no box and no image is named \"one\"\ntry: boxlite ps -a, or boxlite images\n"
    );
}

#[test]
fn exec_and_attached_starts_fail_with_125() {
    let home = Home::new();
    for arguments in [
        &["exec", "one", "true"][..],
        &["start", "--attach", "one"],
        &["run", "--pull", "never", "no/such:image"],
        &["create", "--pull", "never", "no/such:image"],
    ] {
        let output = home.boxlite(arguments).output().unwrap();
        assert_eq!(output.status.code(), Some(125), "{arguments:?}: {}", stderr(&output));
        assert!(output.stdout.is_empty(), "{arguments:?}");
        assert!(stderr(&output).starts_with("boxlite: error: "), "{arguments:?}");
    }
    let output = home.boxlite(&["ps", "-aq"]).output().unwrap();
    assert_eq!(stdout(&output), "");
}

#[test]
fn an_id_file_does_not_stay_behind_without_a_box() {
    let home = Home::new();
    let file = home.beside("id");
    let path = file.to_str().unwrap();
    let arguments = ["create", "--cidfile", path, "--pull", "never", "no/such:image"];
    let output = home.boxlite(&arguments).output().unwrap();
    assert_eq!(output.status.code(), Some(125));
    assert!(!file.exists());
    std::fs::write(&file, "taken").unwrap();
    let output = home.boxlite(&arguments).output().unwrap();
    assert_eq!(output.status.code(), Some(125));
    assert!(stderr(&output).contains("--cidfile"), "{}", stderr(&output));
    assert_eq!(std::fs::read_to_string(&file).unwrap(), "taken");
}

#[test]
fn the_home_can_be_given_in_three_ways() {
    let home = Home::new();
    let given = home.beside("given");
    let output = home
        .boxlite(&["ps", "--home", given.to_str().unwrap()])
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    assert!(given.is_dir() && !home.path().exists());
    home.boxlite(&["ps"]).output().unwrap();
    assert!(home.path().is_dir());
    home.boxlite(&["ps"]).env_remove("BOXLITE_HOME").output().unwrap();
    assert!(home.beside(".boxlite").is_dir());
}

#[test]
fn a_home_that_can_not_be_made_is_an_error() {
    let home = Home::new();
    let file = home.beside("file");
    std::fs::write(&file, "").unwrap();
    let inside = file.join("home");
    let output = home
        .boxlite(&["ps", "--home", inside.to_str().unwrap()])
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(stderr(&output).contains(file.to_str().unwrap()), "{}", stderr(&output));
}

#[test]
fn disk_usage_and_prune_of_nothing() {
    let home = Home::new();
    let output = home.boxlite(&["system", "df"]).output().unwrap();
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    assert!(stdout(&output).starts_with("TYPE "), "{}", stdout(&output));
    let output = home.boxlite(&["system", "df", "--format", "json"]).output().unwrap();
    let usage: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(usage["boxes"]["count"], 0);

    let output = home.boxlite(&["system", "prune"]).output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(stderr(&output).contains("--force"), "{}", stderr(&output));
    let output = home.boxlite(&["system", "prune", "--force"]).output().unwrap();
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    assert_eq!(stdout(&output), "Freed: 0B\n");
}

#[test]
fn info_and_doctor_work_without_anything() {
    let home = Home::new();
    let output = home.boxlite(&["info", "--format", "json"]).output().unwrap();
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    let info: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(info["version"], env!("CARGO_PKG_VERSION"));
    assert_eq!(info["home"], home.path().to_str().unwrap());

    // An empty PATH has no engine: a start can't work, and doctor says so.
    let output = home
        .boxlite(&["doctor", "--format", "json"])
        .env("PATH", "/nowhere")
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(1), "{}", stderr(&output));
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    let failures = report["checks"]
        .as_array()
        .unwrap()
        .iter()
        .filter(|check| check["status"] == "failure");
    assert!(failures.count() >= 1, "{report}");
    let output = home.boxlite(&["doctor"]).env("PATH", "/nowhere").output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(stdout(&output).contains("failure"), "{}", stdout(&output));
}

#[test]
fn loading_what_is_no_archive_is_an_error() {
    let home = Home::new();
    let file = home.beside("not-an-archive.tar");
    std::fs::write(&file, "hello").unwrap();
    let path = file.to_str().unwrap();
    for arguments in [&["load", path][..], &["load", "-i", path], &["load", "/nowhere.tar"]] {
        let output = home.boxlite(arguments).output().unwrap();
        assert_eq!(output.status.code(), Some(1), "{arguments:?}");
        assert!(output.stdout.is_empty());
        assert!(stderr(&output).contains(".tar"), "{}", stderr(&output));
    }
    // From stdin, which is empty here.
    let output = home.boxlite(&["load"]).output().unwrap();
    assert_eq!(output.status.code(), Some(1));
}

#[test]
fn the_home_is_private() {
    let home = Home::new();
    home.boxlite(&["ps"]).output().unwrap();
    let mode = home.path().metadata().unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o700);
}

#[test]
fn an_output_that_nobody_reads_ends_a_command_as_a_filter() {
    let home = Home::new();
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    let output = home.boxlite(&["completion", "bash"]).stdout(writer).output().unwrap();
    assert_eq!(output.status.code(), Some(141));
    assert_eq!(stderr(&output), "");
}

#[test]
fn an_output_that_is_full_is_an_error() {
    let home = Home::new();
    let full = std::fs::OpenOptions::new().write(true).open("/dev/full").unwrap();
    let output = home.boxlite(&["version"]).stdout(full).output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(stderr(&output).contains("can't write to standard output"));
}

#[test]
fn a_signal_ends_a_command_that_waits() {
    let home = Home::new();
    let spool = home.beside("spool");
    std::fs::create_dir(&spool).unwrap();
    let spooled = || std::fs::read_dir(&spool).unwrap().count();
    for (signal, status) in [(Signal::INT, 130), (Signal::TERM, 143), (Signal::HUP, 129)] {
        let mut child = home
            .boxlite(&["load"])
            .env("TMPDIR", &spool)
            .stdin(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        // With its file there, it waits for an archive that never comes.
        while spooled() == 0 {
            assert!(child.try_wait().unwrap().is_none(), "it ended by itself");
            std::thread::sleep(Duration::from_millis(5));
        }
        let pid = Pid::from_child(&child);
        kill_process(pid, signal).unwrap();
        assert_eq!(child.wait().unwrap().code(), Some(status), "{signal:?}");
        let mut told = String::new();
        child.stderr.take().unwrap().read_to_string(&mut told).unwrap();
        assert_eq!(told, "", "{signal:?}");
        assert_eq!(spooled(), 0, "{signal:?}");
    }
}
