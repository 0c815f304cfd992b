//! The command line itself: help texts, usage errors and their exit statuses.
#![allow(clippy::unwrap_used, reason = "a test ends where something is not as expected")]

mod home;

use home::{Home, stderr, stdout};

/// Help in the width that does not depend on who runs the test.
fn help(arguments: &[&str]) -> String {
    let home = Home::new();
    let output = home
        .boxlite(arguments)
        .arg("--help")
        .env("COLUMNS", "100")
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(0));
    stdout(&output)
}

#[test]
fn help_texts() {
    insta::assert_snapshot!("boxlite", help(&[]));
    for command in [
        "run",
        "create",
        "start",
        "stop",
        "restart",
        "kill",
        "rm",
        "wait",
        "exec",
        "ps",
        "inspect",
        "logs",
        "cp",
        "stats",
        "top",
        "port",
        "pull",
        "load",
        "images",
        "rmi",
        "tag",
        "system",
        "info",
        "doctor",
        "version",
        "completion",
    ] {
        insta::assert_snapshot!(command, help(&[command]));
    }
    insta::assert_snapshot!("system_df", help(&["system", "df"]));
    insta::assert_snapshot!("system_prune", help(&["system", "prune"]));
}

#[test]
fn usage_errors_of_commands_that_run_something_are_125() {
    let home = Home::new();
    for arguments in [
        &["run", "--no-such-flag", "alpine"][..],
        &["run"],
        &["run", "-p", "0", "alpine"],
        &["run", "-m", "512", "alpine"],
        &["run", "--cpus", "1.5", "alpine"],
        &["run", "-v", "/data", "alpine"],
        &["run", "-v", "/data:/data:z", "alpine"],
        &["run", "-e", "=x", "alpine"],
        &["run", "--env-file", "/nowhere/x.env", "alpine"],
        &["create", "--no-such-flag", "alpine"],
        &["exec", "box"],
        &["exec", "--no-such-flag", "box", "ls"],
    ] {
        let output = home.boxlite(arguments).output().unwrap();
        assert_eq!(output.status.code(), Some(125), "{arguments:?}");
        assert!(stderr(&output).starts_with("boxlite: error: "), "{arguments:?}");
        assert!(output.stdout.is_empty(), "{arguments:?}");
    }
}

#[test]
fn usage_errors_of_other_commands_are_2() {
    let home = Home::new();
    for arguments in [
        &["no-such-command"][..],
        &["ps", "--no-such-flag"],
        &["ps", "--format", "{{.ID}}"],
        &["ps", "--filter", "volume=x"],
        &["inspect", "--format", "{{.State}}", "x"],
        &["kill", "--signal", "NOPE", "x"],
        &["logs", "--since", "yesterday", "x"],
        &["port", "x", "http"],
        &["completion", "csh"],
        &["--engine", "xen", "ps"],
    ] {
        let output = home.boxlite(arguments).output().unwrap();
        assert_eq!(output.status.code(), Some(2), "{arguments:?}");
        assert!(stderr(&output).starts_with("boxlite: error: "), "{arguments:?}");
        assert!(output.stdout.is_empty(), "{arguments:?}");
    }
}

#[test]
fn a_wrong_command_line_says_what_to_try() {
    let home = Home::new();
    let output = home.boxlite(&["run", "--nme", "web", "alpine"]).output().unwrap();
    insta::assert_snapshot!(stderr(&output));
}

#[test]
fn templates_are_refused_by_name() {
    let home = Home::new();
    let output = home.boxlite(&["ps", "--format", "{{.ID}}"]).output().unwrap();
    assert!(stderr(&output).contains("no Go templates"), "{}", stderr(&output));
    assert!(stderr(&output).contains("--format json"), "{}", stderr(&output));
}

#[test]
fn a_terminal_for_the_box_needs_a_terminal() {
    let home = Home::new();
    for arguments in [&["run", "-it", "alpine"][..], &["exec", "-it", "box", "sh"]] {
        let output = home.boxlite(arguments).output().unwrap();
        assert_eq!(output.status.code(), Some(125), "{arguments:?}");
        assert!(stderr(&output).contains("-t needs a terminal"), "{}", stderr(&output));
    }
}

#[test]
fn no_command_shows_the_help_on_stderr() {
    let home = Home::new();
    let output = home.boxlite(&[]).output().unwrap();
    assert_eq!(output.status.code(), Some(2));
    assert!(stderr(&output).contains("Commands:"));
    assert!(output.stdout.is_empty());
}

#[test]
fn versions() {
    let home = Home::new();
    for flag in ["-V", "-v", "--version"] {
        let output = home.boxlite(&[flag]).output().unwrap();
        assert_eq!(stdout(&output), format!("boxlite {}\n", env!("CARGO_PKG_VERSION")));
    }
    let output = home.boxlite(&["version", "--format", "json"]).output().unwrap();
    let version: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(version["version"], env!("CARGO_PKG_VERSION"));
    assert_eq!(version["os"], std::env::consts::OS);
}

#[test]
fn completions_are_scripts_of_their_shells() {
    let home = Home::new();
    for (shell, expected) in [
        ("bash", "complete -F _boxlite"),
        ("zsh", "#compdef boxlite"),
        ("fish", "complete -c boxlite"),
    ] {
        let output = home.boxlite(&["completion", shell]).output().unwrap();
        assert_eq!(output.status.code(), Some(0));
        assert!(stdout(&output).contains(expected), "{shell}");
    }
    let script = home.boxlite(&["completion", "bash"]).output().unwrap().stdout;
    let status = std::process::Command::new("bash")
        .args(["-n", "-c"])
        .arg(String::from_utf8(script).unwrap())
        .status()
        .unwrap();
    assert!(status.success());
}

#[test]
fn a_log_filter_that_makes_no_sense_is_an_error() {
    let home = Home::new();
    let output = home
        .boxlite(&["--log-level", "boxlite=loud", "version"])
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(stderr(&output).contains("boxlite=loud"));
}

#[test]
fn nothing_is_written_for_a_wrong_command_line() {
    let home = Home::new();
    home.boxlite(&["run", "-v", "x", "alpine"]).output().unwrap();
    assert!(!home.path().exists());
}
