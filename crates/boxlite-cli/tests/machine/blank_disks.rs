//! New boxes whose disk was mounted before it was theirs.

use std::path::PathBuf;
use std::process::Command;

use crate::harness::{Boxlite, eventually, fixtures, send_signal, unique};
use crate::templates::{create, start, with_busybox};

fn disk(boxlite: &Boxlite, name: &str) -> PathBuf {
    let id = boxlite.inspect(name)["id"].as_str().unwrap().to_owned();
    boxlite.home.join("boxes").join(id).join("disk")
}

fn start_mode(boxlite: &Boxlite, name: &str) -> String {
    boxlite.inspect(name)["run"]["start_mode"].as_str().unwrap().to_owned()
}

/// What `e2fsck` says of a disk that nothing uses.
fn assert_clean(disk: &std::path::Path) {
    let output = Command::new("e2fsck").arg("-fn").arg(disk).output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "e2fsck: {}\n{text}", output.status);
}

#[test]
#[ignore = "starts machines"]
fn a_new_boxs_disk_is_its_own_and_lasts() {
    let (_folder, boxlite) = with_busybox();
    create(&boxlite, &[]);
    let names = [unique("killed"), unique("stopped")];
    for name in &names {
        assert_eq!(start(&boxlite, name, &[]), ("warm".to_owned(), None));
        let script = format!("echo {name} >/kept; mv /usr /moved; echo x >>/etc/passwd; rm -r /home; sync");
        boxlite.ok(["exec", name, "sh", "-c", &script]);
    }
    // Nobody tells the guest; what it synced is there all the same.
    let engine = boxlite.inspect(&names[0])["run"]["engine_pid"].as_u64().unwrap();
    send_signal("KILL", u32::try_from(engine).unwrap());
    eventually("the box is seen to have ended", || boxlite.state(&names[0]) == "failed");
    boxlite.ok(["stop", "-t", "0", &names[1]]);
    assert_clean(&disk(&boxlite, &names[1]));
    for name in &names {
        for _ in 0..2 {
            boxlite.ok(["start", name]);
            assert_eq!(start_mode(&boxlite, name), "warm");
            let script = "cat /kept; ls -d /usr /moved /home 2>/dev/null; grep -c '^x$' /etc/passwd";
            let seen = boxlite.ok(["exec", name, "sh", "-c", script]);
            assert_eq!(seen, format!("{name}\n/moved\n1\n"));
            boxlite.ok(["stop", "-t", "0", name]);
            assert_clean(&disk(&boxlite, name));
        }
    }
    boxlite.ok(["rm", "-f", &names[0], &names[1]]);
}

#[test]
#[ignore = "starts machines"]
fn a_disk_of_another_size_starts_warm_too() {
    let (_folder, boxlite) = with_busybox();
    create(&boxlite, &[]);
    let name = unique("small");
    assert_eq!(start(&boxlite, &name, &["--disk", "1g"]), ("warm".to_owned(), None));
    let kib = boxlite.ok([
        "exec",
        &name,
        "sh",
        "-c",
        "echo kept >/kept; df -k / | awk 'END { print $2 }'",
    ]);
    let kib: u64 = kib.trim().parse().unwrap();
    assert!((900 << 10..1 << 20).contains(&kib), "{kib} KiB");
    boxlite.ok(["restart", "-t", "0", &name]);
    assert_eq!(start_mode(&boxlite, &name), "warm");
    assert_eq!(boxlite.ok(["exec", &name, "cat", "/kept"]), "kept\n");
    boxlite.ok(["rm", "-f", &name]);
}

#[test]
#[ignore = "starts machines"]
fn any_image_is_seen_whole_from_one_template() {
    let (_folder, boxlite) = with_busybox();
    let source = format!("oci:{}:latest", fixtures().join("debian").display());
    boxlite.ok(["load", "-q", &source, "--tag", "debian:latest"]);
    create(&boxlite, &[]);
    // The files of /etc that are the box's own aside.
    let script = "find / -xdev ! -path '/etc/host*' ! -path /etc/resolv.conf ! -path /etc/machine-id \
                  \\( -type f -exec md5sum {} + -o -type l -exec readlink {} + -o -print \\) | sort | md5sum";
    for image in ["busybox", "debian"] {
        let seen = |more: &str| {
            let name = unique("tree");
            let args = ["run", "--name", &name, "-m", "128m", more, image, "sh", "-c", script];
            let seen = boxlite.ok(args.into_iter().filter(|argument| !argument.is_empty()));
            let mode = start_mode(&boxlite, &name);
            boxlite.ok(["rm", &name]);
            (mode, seen)
        };
        let (cold, warm) = (seen("--cold"), seen(""));
        assert_eq!((cold.0.as_str(), warm.0.as_str()), ("cold", "warm"));
        assert_eq!(cold.1, warm.1, "{image}");
    }
}
