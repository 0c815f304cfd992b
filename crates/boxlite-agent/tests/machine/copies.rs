//! Files into the box and out of it.

use std::{io::Read as _, time::Instant};

use boxlite_protocol::{
    TAR_CHUNK_BYTES,
    guest::{CopyInRequest, CopyInResponse, CopyInStart, CopyOutRequest, StatPathRequest, copy_in_request::Input},
};
use boxlite_tar::{Entry, EntryKind, Extent, Limits, Reader, Timestamp, Writer};
use bytes::Bytes;
use tonic::{Code, Status};

use crate::harness::{Client, Machine, Options, Share, print};

pub(crate) async fn copy_in(client: &mut Client, start: CopyInStart, tar: Bytes) -> Result<CopyInResponse, Status> {
    let mut messages = vec![CopyInRequest {
        input: Some(Input::Start(start)),
    }];
    let mut rest = tar;
    while !rest.is_empty() {
        let piece = rest.split_to(rest.len().min(TAR_CHUNK_BYTES));
        messages.push(CopyInRequest {
            input: Some(Input::Data(piece)),
        });
    }
    client
        .copy_in(tokio_stream::iter(messages))
        .await
        .map(tonic::Response::into_inner)
}

pub(crate) async fn copy_out(client: &mut Client, path: &str, follow_link: bool) -> Result<Vec<u8>, Status> {
    let request = CopyOutRequest {
        path: Bytes::copy_from_slice(path.as_bytes()),
        follow_link,
    };
    let mut stream = client.copy_out(request).await?.into_inner();
    let mut tar = Vec::new();
    while let Some(piece) = stream.message().await? {
        assert!(piece.data.len() <= TAR_CHUNK_BYTES);
        tar.extend_from_slice(&piece.data);
    }
    Ok(tar)
}

fn into(path: &str) -> CopyInStart {
    CopyInStart {
        path: Bytes::copy_from_slice(path.as_bytes()),
        keep_owner: true,
        user: String::new(),
    }
}

fn read_all(tar: &[u8]) -> Vec<(Entry, Vec<u8>)> {
    let mut reader = Reader::new(tar, Limits::default());
    let mut entries = Vec::new();
    while let Some(entry) = reader.next_entry().unwrap() {
        let mut data = Vec::new();
        reader.data().read_to_end(&mut data).unwrap();
        entries.push((entry, data));
    }
    entries
}

/// One of everything, with unusual attributes.
fn sample() -> Vec<(Entry, &'static [u8])> {
    let mtime = Timestamp {
        seconds: 1_234_567_890,
        nanoseconds: 123_456_789,
    };
    let mut entries = Vec::new();
    let mut add = |path: &str, kind, change: fn(&mut Entry), data: &'static [u8]| {
        let mut entry = Entry::new(path, kind);
        (entry.mtime, entry.size) = (mtime, data.len() as u64);
        change(&mut entry);
        entries.push((entry, data));
    };
    add("t/", EntryKind::Directory, |entry| entry.mode = 0o1755, b"");
    add("t/block", EntryKind::BlockDevice, |entry| entry.device = (7, 300), b"");
    add(
        "t/char",
        EntryKind::CharDevice,
        |entry| (entry.device, entry.mode) = ((1, 3), 0o666),
        b"",
    );
    add(
        "t/fifo",
        EntryKind::Fifo,
        |entry| (entry.uid, entry.gid) = (70_000, 3_000_000_000),
        b"",
    );
    add(
        "t/file",
        EntryKind::File,
        |entry| {
            (entry.mode, entry.uid, entry.gid) = (0o4000, 1000, 1001);
            entry.xattrs = vec![
                (
                    b"security.capability".to_vec(),
                    b"\x01\0\0\x02\0\x04\0\0\0\0\0\0\0\0\0\0\0\0\0\0".to_vec(),
                ),
                (b"user.any".to_vec(), b"\0\xff\n=".to_vec()),
            ];
        },
        b"content\n",
    );
    add(
        "t/hard",
        EntryKind::HardLink,
        |entry| entry.link = b"t/file".to_vec(),
        b"",
    );
    add(
        "t/soft",
        EntryKind::SymLink,
        |entry| (entry.link, entry.uid) = (b"/no where".to_vec(), 5),
        b"",
    );
    add(
        "t/sparse",
        EntryKind::File,
        |entry| {
            entry.size = 64 << 20;
            entry.sparse = Some(vec![Extent {
                offset: 16 << 20,
                size: 4096,
            }]);
        },
        &[b'x'; 4096],
    );
    entries
}

fn pack(entries: &[(Entry, &[u8])]) -> Bytes {
    let mut writer = Writer::new(Vec::new());
    for (entry, data) in entries {
        writer.append(entry, *data).unwrap();
    }
    writer.finish().unwrap().into()
}

#[tokio::test]
#[ignore = "starts a machine"]
async fn what_goes_in_comes_out() {
    let shared = tempfile::tempdir().unwrap();
    let options = Options {
        shares: vec![Share {
            tag: "shared",
            source: shared.path().into(),
            read_only: false,
        }],
        ..Default::default()
    };
    let (mut machine, mut client, _) = Machine::with_box(&options, |_| ()).await;
    let client = &mut client;
    let entries = sample();
    let response = copy_in(client, into("/tmp"), pack(&entries)).await.unwrap();
    assert_eq!((response.entries, response.bytes), (8, 8 + (64 << 20)));
    let packed = read_all(&copy_out(client, "/tmp/t", false).await.unwrap());
    assert_eq!(packed.len(), entries.len());
    for ((mut found, data), (mut sent, _)) in packed.into_iter().zip(entries) {
        if sent.kind == EntryKind::HardLink {
            // Every name of a file has the file's attributes.
            (found.mode, found.uid, found.gid, found.xattrs) = (sent.mode, sent.uid, sent.gid, Vec::new());
        }
        if sent.path == b"t/sparse" {
            assert!(data[16 << 20..][..4096].iter().all(|byte| *byte == b'x'));
            assert_eq!(data.iter().filter(|byte| **byte != 0).count(), 4096);
            (found.sparse, sent.sparse) = (None, None);
        }
        if sent.path == b"t/file" {
            assert_eq!(data, b"content\n");
        }
        assert_eq!(found, sent);
    }
    print(client, "[ $(stat -c %b /tmp/t/sparse) -lt 100 ] && rm -r /tmp/t").await;

    // Owner of all that is copied, also of what has to be made for it.
    let mut file = Entry::new("deep/down/file", EntryKind::File);
    (file.size, file.uid) = (2, 12345);
    let start = CopyInStart {
        keep_owner: false,
        user: "app".into(),
        ..into("/tmp")
    };
    copy_in(client, start, pack(&[(file.clone(), b"ok")])).await.unwrap();
    assert_eq!(
        print(client, "stat -c '%u:%g' /tmp/deep /tmp/deep/down/file").await,
        "1000:1001\n1000:1001\n"
    );
    // Through the image's own links, and over what is mounted.
    let mut hosts = Entry::new("etc/hosts", EntryKind::File);
    hosts.size = 4;
    let mut run = Entry::new("var/run/file", EntryKind::File);
    run.size = 4;
    copy_in(client, into("/"), pack(&[(hosts, b"new\n"), (run, b"run\n")]))
        .await
        .unwrap();
    assert_eq!(print(client, "cat /etc/hosts /run/file").await, "new\nrun\n");
    // Volumes are part of the box.
    copy_in(client, into("/shared"), pack(&[(file.clone(), b"ok")]))
        .await
        .unwrap();
    assert_eq!(std::fs::read(shared.path().join("deep/down/file")).unwrap(), b"ok");
    let packed = read_all(&copy_out(client, "/shared", false).await.unwrap());
    assert_eq!(packed.last().unwrap().0.path, b"shared/deep/down/file");
    // Links, the root, files that are still there.
    print(client, "ln -s /tmp/deep/down /tmp/link").await;
    let names = |tar: &[u8]| -> Vec<String> {
        read_all(tar)
            .iter()
            .map(|(entry, _)| String::from_utf8_lossy(&entry.path).into_owned())
            .collect()
    };
    assert_eq!(names(&copy_out(client, "/tmp/link", false).await.unwrap()), ["link"]);
    assert_eq!(
        names(&copy_out(client, "/tmp/link", true).await.unwrap()),
        ["link/", "link/file"]
    );
    let root = names(&copy_out(client, "/", false).await.unwrap());
    assert!(root.contains(&"./etc/passwd".to_owned()) && root.contains(&"./proc/".to_owned()));
    assert!(
        !root
            .iter()
            .any(|name| name.starts_with("./proc/1") || name.starts_with("./sys/f"))
    );

    // What can't be done is said.
    for (path, code) in [
        ("/none", Code::NotFound),
        ("/etc/motd", Code::FailedPrecondition),
        ("tmp", Code::InvalidArgument),
    ] {
        let status = copy_in(client, into(path), pack(&[(file.clone(), b"ok")]))
            .await
            .unwrap_err();
        assert_eq!(status.code(), code, "{status}");
    }
    let evil = Entry::new("../evil", EntryKind::File);
    assert_eq!(
        copy_in(client, into("/tmp"), pack(&[(evil, b"")]))
            .await
            .unwrap_err()
            .code(),
        Code::InvalidArgument
    );
    let garbage = Bytes::from(vec![7; 1 << 20]);
    assert_eq!(
        copy_in(client, into("/tmp"), garbage).await.unwrap_err().code(),
        Code::InvalidArgument
    );
    assert_eq!(
        copy_out(client, "/none", false).await.unwrap_err().code(),
        Code::NotFound
    );

    let stat = |path: &str, follow_link| StatPathRequest {
        path: Bytes::copy_from_slice(path.as_bytes()),
        follow_link,
    };
    let found = client.stat_path(stat("/tmp/link", false)).await.unwrap().into_inner();
    assert_eq!(
        (&found.link_target[..], found.mode & 0o170_000),
        (&b"/tmp/deep/down"[..], 0o120_000)
    );
    let found = client
        .stat_path(stat("/tmp/link/file", true))
        .await
        .unwrap()
        .into_inner();
    assert_eq!((found.exists, found.size, found.mode), (true, 2, 0o100_644));
    assert!(
        !client
            .stat_path(stat("/tmp/none", true))
            .await
            .unwrap()
            .into_inner()
            .exists
    );

    // A copy that is given up leaves no helper and no harm.
    let mut stream = client
        .copy_out(CopyOutRequest {
            path: "/bin".into(),
            follow_link: false,
        })
        .await
        .unwrap()
        .into_inner();
    stream.message().await.unwrap();
    drop(stream);
    print(
        client,
        "busybox dd if=/dev/zero of=/tmp/big bs=1M count=100 2>/dev/null",
    )
    .await;
    let began = Instant::now();
    let tar = copy_out(client, "/tmp/big", false).await.unwrap();
    eprintln!(
        "copy out: {:.0} MB/s",
        tar.len() as f64 / 1e6 / began.elapsed().as_secs_f64()
    );
    let began = Instant::now();
    let size = tar.len();
    copy_in(client, into("/root"), tar.into()).await.unwrap();
    eprintln!("copy in: {:.0} MB/s", size as f64 / 1e6 / began.elapsed().as_secs_f64());
    assert_eq!(print(client, "stat -c %s /root/big").await, "104857600\n");
    machine.shut_down(client, 15, 1000).await;
}
