//! Folders and files of the host in the box.

use std::{fs, io::Write as _};

use boxlite_protocol::guest::Volume;

use crate::harness::{Machine, Options, Share, exec, print, shell, spec};

#[tokio::test]
#[ignore = "starts a machine"]
async fn volumes_are_the_hosts_files() {
    let host = tempfile::tempdir().unwrap();
    let at = |path: &str| host.path().join(path);
    for dir in ["rw", "ro", "inner", "single"] {
        fs::create_dir(at(dir)).unwrap();
    }
    fs::write(at("rw/from-host"), "one\n").unwrap();
    fs::write(at("ro/fixed"), "fixed\n").unwrap();
    fs::write(at("inner/deep"), "deep\n").unwrap();
    fs::write(at("single/config"), "setting\n").unwrap();
    fs::write(at("single/secret"), "secret\n").unwrap();
    fs::create_dir(at("single/folder")).unwrap();
    fs::write(at("single/folder/f"), "beside it\n").unwrap();
    let options = Options {
        shares: ["rw", "ro", "inner", "single"]
            .map(|tag| Share {
                tag,
                source: at(tag),
                read_only: tag == "ro",
            })
            .into(),
        ..Default::default()
    };
    let volume = |tag: &str, target: &str, file_name: &str| Volume {
        tag: tag.into(),
        target: target.into(),
        read_only: tag == "ro",
        file_name: file_name.into(),
    };
    let (mut machine, mut client, _) = Machine::with_box(&options, |request| {
        request.volumes = vec![
            volume("inner", "/mnt/rw/inner", ""),
            volume("rw", "/mnt/rw", ""),
            volume("ro", "/link-to-nowhere/ro", ""),
            volume("single", "/etc/app/config", "config"),
            // Of the same share, and in the volume of another.
            Volume {
                read_only: true,
                ..volume("single", "/mnt/rw/inner/folder", "folder")
            },
        ];
    })
    .await;
    let client = &mut client;
    assert_eq!(
        print(
            client,
            "cat /mnt/rw/from-host /mnt/rw/inner/deep /elsewhere/deep/ro/fixed /etc/app/config /mnt/rw/inner/folder/f"
        )
        .await,
        "one\ndeep\nfixed\nsetting\nbeside it\n"
    );
    let refused = exec(client, shell("touch /mnt/rw/inner/folder/new")).await;
    assert!(!refused.status.success(), "one of two in a writable share is read-only");
    // A single file shows nothing of its folder, and is the host's file.
    assert_eq!(
        print(client, "ls -A /etc/app /dev/.boxlite-share 2>/dev/null || true").await,
        "/etc/app:\nconfig\n"
    );
    print(client, "echo changed >> /etc/app/config").await;
    assert_eq!(fs::read(at("single/config")).unwrap(), b"setting\nchanged\n");
    let refused = exec(
        client,
        shell("echo x > /elsewhere/deep/ro/fixed || touch /elsewhere/deep/ro/new"),
    )
    .await;
    assert!(!refused.status.success());
    assert!(
        String::from_utf8_lossy(&refused.stderr).contains("Read-only file system"),
        "{refused:?}"
    );

    // Both ways, at once.
    print(
        client,
        "echo two > /mnt/rw/from-box; mkdir /mnt/rw/d; chmod 640 /mnt/rw/from-box; ln -s from-box /mnt/rw/l",
    )
    .await;
    assert_eq!(fs::read(at("rw/from-box")).unwrap(), b"two\n");
    fs::write(at("rw/from-host"), "changed by the host\n").unwrap();
    fs::write(at("rw/from-box"), "three").unwrap();
    fs::write(at("rw/new"), "new\n").unwrap();
    assert_eq!(
        print(client, "cat /mnt/rw/from-host /mnt/rw/from-box /mnt/rw/new").await,
        "changed by the host\nthreenew\n"
    );
    fs::remove_file(at("rw/new")).unwrap();
    assert_eq!(print(client, "ls /mnt/rw").await, "d\nfrom-box\nfrom-host\ninner\nl\n");

    // A file that the box has open grows on the host, within a page: as `tail -f` sees it.
    let mut grown = fs::File::options()
        .append(true)
        .create(true)
        .open(at("rw/log"))
        .unwrap();
    grown.write_all(b"first\n").unwrap();
    let mut tail = crate::harness::Execution::start(client, shell("exec tail -f -n +1 /mnt/rw/log"), false)
        .await
        .unwrap();
    tail.read_until("first\n").await;
    for line in ["second\n", "third\n"] {
        grown.write_all(line.as_bytes()).unwrap();
        let seen = tail.read_until("\n").await;
        assert_eq!(seen, line);
    }
    drop(tail);

    // Shared writable mappings, which databases need, agree with reads and with the host.
    let mapped = exec(client, spec(&["map-file", "/mnt/rw/map"])).await;
    assert_eq!(mapped.text(), "read: mapped\n", "{mapped:?}");
    assert!(fs::read(at("rw/map")).unwrap().starts_with(b"mapped"));
    machine.shut_down(client, 15, 1000).await;
}
