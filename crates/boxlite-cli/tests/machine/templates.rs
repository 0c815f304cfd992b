//! Starts from templates: machines that have booted, saved for others to go on from.

use std::collections::BTreeSet;
use std::io::Write as _;
use std::path::PathBuf;

use crate::harness::{Boxlite, fixtures, fresh, unique};

/// A home of its own with `busybox`, in which templates are made when they are asked for.
pub(crate) fn with_busybox() -> (tempfile::TempDir, Boxlite) {
    let (folder, mut boxlite) = fresh();
    boxlite.templates = "existing";
    let source = format!("oci:{}:latest", fixtures().join("busybox").display());
    boxlite.ok(["load", "-q", &source, "--tag", "busybox:latest"]);
    (folder, boxlite)
}

/// Starts an idle box and gives what is known of its start: its mode, and why it was cold.
pub(crate) fn start(boxlite: &Boxlite, name: &str, options: &[&str]) -> (String, Option<String>) {
    let mut args = vec!["run", "-d", "--name", name, "-m", "128m"];
    args.extend(options);
    args.extend(["busybox", "sleep", "1000"]);
    boxlite.ok(args);
    let run = boxlite.inspect(name)["run"].clone();
    (
        run["start_mode"].as_str().unwrap().to_owned(),
        run["cold_reason"].as_str().map(str::to_owned),
    )
}

pub(crate) fn create(boxlite: &Boxlite, options: &[&str]) -> String {
    let mut args = vec!["template", "create", "-m", "128m"];
    args.extend(options);
    boxlite.ok(args).trim().to_owned()
}

fn ram(boxlite: &Boxlite, key: &str) -> PathBuf {
    boxlite.home.join("templates").join(key).join("ram")
}

#[test]
#[ignore = "starts machines"]
fn disks_volumes_and_ports_are_the_boxs_own() {
    let (folder, boxlite) = with_busybox();
    let files = folder.path().join("files");
    std::fs::create_dir(&files).unwrap();
    std::fs::write(files.join("f"), "from the host\n").unwrap();
    create(&boxlite, &["--volumes", "2"]);
    let name = unique("own");
    let volume = format!("{}:/files", files.display());
    let read_only = format!("{}:/again:ro", files.display());
    let options = ["-v", &volume, "-v", &read_only, "-p", "0:80"];
    assert_eq!(start(&boxlite, &name, &options), ("warm".to_owned(), None));
    let script = "cat /files/f /again/f; echo kept >/kept; echo b >/files/b; ! touch /again/no 2>/dev/null";
    assert_eq!(
        boxlite.ok(["exec", &name, "sh", "-c", script]),
        "from the host\nfrom the host\n"
    );
    assert_eq!(std::fs::read_to_string(files.join("b")).unwrap(), "b\n");
    boxlite.ok(["restart", "-t", "0", &name]);
    assert_eq!(boxlite.ok(["exec", &name, "cat", "/kept"]), "kept\n");
    assert_eq!(boxlite.inspect(&name)["run"]["start_mode"], "warm");
    boxlite.ok(["rm", "-f", &name]);
}

#[test]
#[ignore = "starts machines"]
fn a_cold_start_says_why() {
    let (_folder, boxlite) = with_busybox();
    let name = unique("cold");
    let (mode, reason) = start(&boxlite, &name, &[]);
    assert_eq!((mode.as_str(), reason.is_some()), ("cold", true), "no template yet");
    boxlite.ok(["rm", "-f", &name]);
    let key = create(&boxlite, &[]);
    let (mode, reason) = start(&boxlite, &name, &["--cold"]);
    assert_eq!(
        (mode.as_str(), reason.unwrap().as_str()),
        ("cold", "a cold start was asked for")
    );
    boxlite.ok(["rm", "-f", &name]);

    let mut file = std::fs::File::options().append(true).open(ram(&boxlite, &key)).unwrap();
    file.write_all(b"x").unwrap();
    drop(file);
    let (mode, reason) = start(&boxlite, &name, &[]);
    let reason = reason.unwrap();
    assert_eq!(mode, "cold");
    assert!(reason.contains("changed after it was made"), "{reason}");
    boxlite.ok(["rm", "-f", &name]);
    assert_eq!(create(&boxlite, &[]), key, "the damaged one is replaced");
    assert_eq!(start(&boxlite, &name, &[]).0, "warm");
    boxlite.ok(["rm", "-f", &name]);
}

#[test]
#[ignore = "starts machines"]
fn a_template_that_does_not_work_costs_time_and_nothing_else() {
    let (_folder, boxlite) = with_busybox();
    let key = create(&boxlite, &[]);
    let dir = boxlite.home.join("templates").join(&key);
    // A state that the engine refuses, and a manifest that believes in it.
    std::fs::write(dir.join("state"), "no state of a machine").unwrap();
    let manifest = dir.join("manifest.json");
    let mut json: serde_json::Value = serde_json::from_slice(&std::fs::read(&manifest).unwrap()).unwrap();
    let metadata = std::fs::metadata(dir.join("state")).unwrap();
    use std::os::unix::fs::MetadataExt as _;
    let ns = |seconds: i64, nanoseconds: i64| seconds * 1_000_000_000 + nanoseconds;
    json["state"]["bytes"] = metadata.len().into();
    json["state"]["mtime_ns"] = ns(metadata.mtime(), metadata.mtime_nsec()).into();
    json["state"]["ctime_ns"] = ns(metadata.ctime(), metadata.ctime_nsec()).into();
    std::fs::write(&manifest, json.to_string()).unwrap();

    let name = unique("broken");
    let (mode, reason) = start(&boxlite, &name, &[]);
    let reason = reason.unwrap();
    assert_eq!(mode, "cold");
    assert!(reason.contains("the start from a template failed"), "{reason}");
    assert_eq!(boxlite.inspect(&name)["run"]["warnings"], serde_json::json!([reason]));
    assert_eq!(boxlite.ok(["exec", &name, "echo", "hi"]), "hi\n");
    assert!(!dir.exists(), "the next start makes another");
    boxlite.ok(["rm", "-f", &name]);
}

#[test]
#[ignore = "starts machines"]
fn templates_are_made_listed_counted_and_removed() {
    let (_folder, mut boxlite) = with_busybox();
    boxlite.templates = "auto";
    let name = unique("first");
    start(&boxlite, &name, &[]);
    boxlite.ok(["rm", "-f", &name]);
    let listed = || boxlite.ok(["template", "ls", "-q"]).trim().to_owned();
    crate::harness::eventually("the first cold start makes a template", || !listed().is_empty());
    let json: serde_json::Value = serde_json::from_str(&boxlite.ok(["template", "ls", "--format", "json"])).unwrap();
    let found = &json[0];
    assert_eq!((&found["memory_mib"], &found["cpus"]), (&128.into(), &2.into()));
    assert_eq!(found["usable"], true);
    assert!(found["size_bytes"].as_u64().unwrap() > 1 << 20);
    let usage: serde_json::Value = serde_json::from_str(&boxlite.ok(["system", "df", "--format", "json"])).unwrap();
    assert_eq!(usage["templates"]["count"], 1);
    assert!(usage["templates"]["reclaimable_bytes"].as_u64().unwrap() > 1 << 20);
    let key = listed();
    assert_eq!(boxlite.ok(["template", "rm", &key[..6]]).trim(), key);
    assert!(!ram(&boxlite, &key).exists());
    let message = boxlite.fails(1, ["template", "rm", &key]);
    assert!(
        message.contains("no template") && message.contains("template ls"),
        "{message}"
    );
    let key = create(&boxlite, &[]);
    assert!(boxlite.ok(["system", "prune", "--force"]).contains(&key));
    assert_eq!(listed(), "");
}

#[test]
#[ignore = "starts machines"]
fn however_many_ask_for_a_template_it_is_made_once() {
    let (_folder, boxlite) = with_busybox();
    let asking: Vec<_> = (0..4)
        .map(|_| {
            boxlite
                .command(["template", "create", "-m", "128m"])
                .stdout(std::process::Stdio::piped())
                .spawn()
                .unwrap()
        })
        .collect();
    let keys: BTreeSet<String> = asking
        .into_iter()
        .map(|child| {
            let output = child.wait_with_output().unwrap();
            assert!(output.status.success());
            String::from_utf8(output.stdout).unwrap()
        })
        .collect();
    assert_eq!(keys.len(), 1, "{keys:?}");
    let names: Vec<_> = std::fs::read_dir(boxlite.home.join("templates"))
        .unwrap()
        .map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned())
        .collect();
    assert!(!names.iter().any(|name| name.starts_with(".making")), "{names:?}");
}
