use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::Path;

use boxlite::{CopyError, CopyOptions};
use tokio::io::AsyncReadExt;

use crate::harness::{Scene, shell};

fn make_tree(root: &Path) {
    std::fs::create_dir_all(root.join("sub")).unwrap();
    std::fs::write(root.join("file"), "content").unwrap();
    std::fs::write(root.join("sub/script"), "#!/bin/sh\necho ran\n").unwrap();
    std::fs::set_permissions(root.join("sub/script"), std::fs::Permissions::from_mode(0o751)).unwrap();
    symlink("file", root.join("link")).unwrap();
    let old = std::fs::File::open(root.join("file")).unwrap();
    old.set_modified(std::time::UNIX_EPOCH + std::time::Duration::from_secs(1_000_000_000))
        .unwrap();
}

#[tokio::test]
#[ignore = "starts real machines; `make test` runs it"]
async fn trees_go_in_and_come_out_as_they_were() {
    let scene = Scene::new();
    let client = scene.client().await;
    let handle = client.create(scene.options()).await.unwrap();
    handle.start().await.unwrap();
    let tree = scene.path().join("tree");
    make_tree(&tree);
    let options = CopyOptions::default();

    // Into a folder that exists: under its own name. To one that does not: as that.
    let report = handle.copy_in(&tree, "/tmp", options).await.unwrap();
    assert_eq!(report.entries, 5);
    assert_eq!(shell(&handle, "/tmp/tree/sub/script").await, "ran\n");
    assert_eq!(shell(&handle, "stat -c '%a %u' /tmp/tree/sub/script").await, "751 0\n");
    assert_eq!(shell(&handle, "stat -c %Y /tmp/tree/file").await, "1000000000\n");
    handle.copy_in(&tree, "/tmp/renamed", options).await.unwrap();
    assert_eq!(shell(&handle, "cat /tmp/renamed/link").await, "content");
    handle.copy_in(&tree.join("."), "/tmp/renamed", options).await.unwrap();
    shell(&handle, "test ! -e /tmp/renamed/tree").await;
    handle
        .copy_in(&tree.join("file"), "/tmp/renamed/other", options)
        .await
        .unwrap();
    assert_eq!(shell(&handle, "cat /tmp/renamed/other").await, "content");

    let back = scene.path().join("back");
    handle.copy_out("/tmp/tree", &back, options).await.unwrap();
    assert_eq!(std::fs::read(back.join("file")).unwrap(), b"content");
    assert_eq!(std::fs::metadata(back.join("file")).unwrap().mtime(), 1_000_000_000);
    let script = std::fs::metadata(back.join("sub/script")).unwrap();
    assert_eq!(script.permissions().mode() & 0o7777, 0o751);
    assert_eq!(std::fs::read_link(back.join("link")).unwrap(), Path::new("file"));
    handle.copy_out("/tmp/tree/file", &back, options).await.unwrap();
    handle.copy_out("/tmp/tree/.", &back, options).await.unwrap();
    assert!(!back.join("tree").exists());

    for (source, destination) in [("/tmp/absent", "x"), ("/tmp/tree/file/", "x")] {
        assert!(
            handle
                .copy_out(source, &scene.path().join(destination), options)
                .await
                .is_err()
        );
    }
    let error = handle.copy_in(&tree, "/no/such/folder", options).await.unwrap_err();
    assert!(matches!(error, CopyError::ParentMissing { .. }), "{error:?}");
    let error = handle.copy_in(&tree, "/tmp/tree/file", options).await.unwrap_err();
    assert!(matches!(error, CopyError::FolderOverFile { .. }), "{error:?}");
}

#[tokio::test]
#[ignore = "starts real machines; `make test` runs it"]
async fn tar_streams_go_through_and_large_files_are_whole() {
    let scene = Scene::new();
    let client = scene.client().await;
    let handle = client.create(scene.options()).await.unwrap();
    handle.start().await.unwrap();
    let large = scene.path().join("large");
    let data: Vec<u8> = (0..16_u32 << 20)
        .map(|index| (index.wrapping_mul(2_654_435_761) >> 11) as u8)
        .collect();
    std::fs::write(&large, &data).unwrap();
    let options = CopyOptions::default();
    let report = handle.copy_in(&large, "/root/large", options).await.unwrap();
    assert_eq!(report.bytes, data.len() as u64);
    let mut stream = handle.copy_out_tar("/root/large", options).await.unwrap();
    let mut tar = Vec::new();
    stream.read_to_end(&mut tar).await.unwrap();
    shell(&handle, "mkdir /root/copy").await;
    handle
        .copy_in_tar(std::io::Cursor::new(tar), "/root/copy", options)
        .await
        .unwrap();
    let back = scene.path().join("back");
    handle.copy_out("/root/copy/large", &back, options).await.unwrap();
    assert!(std::fs::read(&back).unwrap() == data);
    let error = handle
        .copy_in_tar(&b"this is no archive at all"[..], "/root/copy", options)
        .await
        .unwrap_err();
    assert!(matches!(error, CopyError::Agent(_)), "{error:?}");
}
