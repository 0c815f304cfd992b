//! States, and what is left when something is killed.

use crate::harness::{eventually, fixtures, fresh, process_exists, send_signal, shared, text, unique};

#[test]
#[ignore = "starts machines"]
fn a_restart_keeps_the_disk() {
    let boxlite = shared();
    let running = boxlite.sleeper("busybox", &[]);
    running.sh("echo kept > /root/kept; mkdir -p /var/x; rm /etc/motd; echo more >> /etc/passwd");
    boxlite.ok(["stop", "-t", "2", &running.name]);
    assert_eq!(boxlite.state(&running.name), "stopped");
    assert!(!boxlite.ok(["ps"]).contains(&running.name));
    boxlite.ok(["start", &running.name]);
    assert_eq!(
        running
            .sh("cat /root/kept; test -d /var/x && echo dir; test -e /etc/motd || echo removed; tail -n 1 /etc/passwd"),
        "kept\ndir\nremoved\nmore\n"
    );
    boxlite.ok(["restart", "-t", "2", &running.name]);
    assert_eq!(running.sh("cat /root/kept"), "kept\n");
}

#[test]
#[ignore = "starts a machine"]
fn stop_asks_before_it_kills() {
    let boxlite = shared();
    let name = unique("asked");
    boxlite.ok([
        "run",
        "-d",
        "--name",
        &name,
        "--memory",
        "256m",
        "busybox",
        "sh",
        "-c",
        "trap 'echo asked; exit 3' TERM; echo up; while :; do sleep 0.2; done",
    ]);
    eventually("it is up", || boxlite.ok(["logs", &name]) == "up\n");
    boxlite.ok(["stop", "-t", "60", &name]);
    assert_eq!(boxlite.ok(["logs", &name]), "up\nasked\n");
    assert_eq!(boxlite.inspect(&name)["exit_status"]["code"], 3);
    boxlite.ok(["rm", &name]);
}

#[test]
#[ignore = "starts a machine"]
fn kill_sends_what_it_is_told() {
    let boxlite = shared();
    let name = unique("signalled");
    boxlite.ok([
        "run",
        "-d",
        "--name",
        &name,
        "--memory",
        "256m",
        "busybox",
        "sh",
        "-c",
        "trap 'echo usr1' USR1; echo up; while :; do sleep 0.2; done",
    ]);
    eventually("it is up", || boxlite.ok(["logs", &name]) == "up\n");
    boxlite.ok(["kill", "-s", "USR1", &name]);
    eventually("the signal arrived", || boxlite.ok(["logs", &name]) == "up\nusr1\n");
    boxlite.ok(["kill", &name]);
    assert_eq!(boxlite.ok(["wait", &name]).trim(), "137");
    boxlite.ok(["rm", &name]);
}

#[test]
#[ignore = "starts a machine"]
fn a_killed_engine_is_told() {
    let boxlite = shared();
    let running = boxlite.sleeper("busybox", &[]);
    let (shim, engine) = (running.shim_pid(), running.engine_pid());
    send_signal("KILL", engine);
    eventually("the box is failed", || boxlite.state(&running.name) == "failed");
    eventually("the shim is gone", || !process_exists(shim));
    let info = boxlite.inspect(&running.name);
    assert!(!info["error"].is_null(), "{info:#}");
    let said = boxlite.fails(125, ["exec", &running.name, "true"]);
    assert!(said.contains(&running.name) || said.contains("not running"), "{said}");
    boxlite.ok(["start", &running.name]);
    assert_eq!(running.sh("echo again"), "again\n");
}

#[test]
#[ignore = "starts a machine"]
fn a_killed_shim_takes_its_engine_with_it() {
    let boxlite = shared();
    let running = boxlite.sleeper("busybox", &[]);
    running.sh("echo safe > /root/safe; sync");
    let (shim, engine) = (running.shim_pid(), running.engine_pid());
    send_signal("KILL", shim);
    eventually("the engine is gone", || !process_exists(engine));
    assert_eq!(boxlite.state(&running.name), "failed");
    assert!(!boxlite.ok(["ps"]).contains(&running.name));
    boxlite.ok(["start", &running.name]);
    assert_eq!(running.sh("cat /root/safe"), "safe\n");
}

#[test]
#[ignore = "starts a machine"]
fn removing_leaves_nothing() {
    let (_folder, boxlite) = fresh();
    boxlite.ok([
        "load",
        &format!("oci:{}:latest", fixtures().join("busybox").display()),
        "--tag",
        "b",
    ]);
    boxlite.ok(["run", "-d", "--name", "one", "--memory", "256m", "b", "sleep", "1000"]);
    let said = boxlite.fails(1, ["rm", "one"]);
    assert!(said.contains("running") && said.contains("-f"), "{said}");
    let info = boxlite.inspect("one");
    let engine = u32::try_from(info["run"]["engine_pid"].as_u64().unwrap()).unwrap();
    boxlite.ok(["rm", "-f", "one"]);
    eventually("the engine is gone", || !process_exists(engine));
    assert_eq!(std::fs::read_dir(boxlite.home.join("boxes")).unwrap().count(), 0);
    boxlite.ok(["rmi", "b"]);
    boxlite.ok(["system", "prune", "-a", "-f"]);
    let rootfs = std::fs::read_dir(boxlite.home.join("images/rootfs")).unwrap().count();
    let blobs = std::fs::read_dir(boxlite.home.join("images/blobs/sha256"))
        .unwrap()
        .count();
    assert_eq!((rootfs, blobs), (0, 0));
}

#[test]
#[ignore = "starts no machine, but needs the prepared home"]
fn names_and_states_are_kept_apart() {
    let boxlite = shared();
    let name = unique("named");
    let id = boxlite.ok(["create", "--name", &name, "busybox"]);
    assert!(
        boxlite
            .fails(125, ["create", "--name", &name, "busybox"])
            .contains(&name)
    );
    assert_eq!(boxlite.state(&id.trim()[..12]), "created");
    assert!(boxlite.fails(125, ["exec", &name, "true"]).contains("boxlite start"));
    boxlite.fails(1, ["inspect", "no-such-box"]);
    boxlite.ok(["rm", &name]);
    boxlite.fails(1, ["rm", &name]);
}

#[test]
#[ignore = "starts machines"]
fn several_processes_use_one_home_at_once() {
    let boxlite = shared();
    let children: Vec<_> = (0..4)
        .map(|n| {
            boxlite.spawn([
                "run",
                "--rm",
                "--memory",
                "192m",
                "busybox",
                "sh",
                "-c",
                &format!("echo {n}"),
            ])
        })
        .collect();
    for (n, child) in children.into_iter().enumerate() {
        let output = child.wait_with_output().unwrap();
        assert_eq!(text(&output.stdout), format!("{n}\n"), "{}", text(&output.stderr));
    }
}
