//! Images, their files, pruning, and what everything takes.
#![allow(clippy::unwrap_used, reason = "a test is to fail there")]

use std::time::Duration;

use boxlite_store::{
    BoxRecord, Digest, FindImageError, GarbageOptions, Home, ImageCollection, ImagePrune, LayerRecord, NewBox,
    NewImage, PruneRequest, PutImageError, TagError,
};
use serde_json::json;

struct Place {
    home: Home,
    _directory: tempfile::TempDir,
}

fn place() -> Place {
    let directory = tempfile::tempdir().unwrap();
    Place {
        home: Home::open(&directory.path().join("home")).unwrap(),
        _directory: directory,
    }
}

fn digest(of: &str) -> Digest {
    format!("sha256:{of:0>64}").parse().unwrap()
}

fn write_blob(home: &Home, digest: &Digest, bytes: usize) {
    std::fs::write(home.blob_path(digest), vec![1; bytes]).unwrap();
    std::fs::File::open(home.blob_path(digest)).unwrap().sync_all().unwrap();
}

/// An image with the layers `layers`, all of whose blobs are there.
fn new_image(home: &Home, of: &str, layers: &[&str]) -> NewImage {
    let image = NewImage {
        digest: digest(of),
        config_digest: digest(&format!("c{of}")),
        manifest: json!({"of": of}),
        platform: "linux/amd64".into(),
        size_bytes: 10,
        created_at_ms: Some(5),
        layers: layers
            .iter()
            .map(|layer| LayerRecord {
                digest: digest(layer),
                diff_id: Some(digest(&format!("d{layer}"))),
                media_type: "application/vnd.oci.image.layer.v1.tar+gzip".into(),
                size_bytes: 1 << 20,
            })
            .collect(),
        other_blobs: vec![digest(&format!("e{of}"))],
    };
    for small in [&image.digest, &image.config_digest, &image.other_blobs[0]] {
        write_blob(home, small, 100);
    }
    for layer in &image.layers {
        write_blob(home, &layer.digest, 1 << 20);
    }
    image
}

fn add(home: &Home, of: &str, layers: &[&str], reference: Option<&str>) -> Digest {
    let lease = home.lease_images().unwrap();
    let image = new_image(home, of, layers);
    home.put_image(&lease, &image, reference, true).unwrap();
    std::fs::write(home.rootfs_path(&image.digest), vec![2; 1 << 20]).unwrap();
    home.put_rootfs(&lease, &image.digest, 1 << 20).unwrap();
    image.digest
}

fn blob_files(home: &Home) -> usize {
    std::fs::read_dir(home.content_dir().join("blobs/sha256"))
        .unwrap()
        .count()
}

#[test]
fn an_image_is_found_by_reference_by_digest_and_by_prefix() {
    let Place { home, .. } = &place();
    let one = add(home, "a1", &["11", "12"], Some("docker.io/library/one:latest"));
    let other = add(home, "a2", &["11"], None);
    let record = home.find_image("docker.io/library/one:latest").unwrap();
    assert_eq!((&record.digest, record.rootfs_bytes), (&one, Some(1 << 20)));
    assert_eq!(record.references, ["docker.io/library/one:latest"]);
    assert_eq!(record.manifest, json!({"of": "a1"}));
    assert_eq!(home.find_image(one.as_str()).unwrap(), record);
    assert_eq!(home.find_image(one.hex()).unwrap(), record);
    assert!(matches!(home.find_image("0000"), Err(FindImageError::Ambiguous { matches, .. }) if matches.len() == 2));
    for absent in ["", "one", "ffff", "sha256:"] {
        assert!(
            matches!(home.find_image(absent), Err(FindImageError::NotFound { .. })),
            "{absent}"
        );
    }
    let layers: Vec<Digest> = home
        .image_layers(&one)
        .unwrap()
        .into_iter()
        .map(|layer| layer.digest)
        .collect();
    assert_eq!(layers, [digest("11"), digest("12")]);

    home.tag_image(&other, "b").unwrap();
    home.tag_image(&other, "a").unwrap();
    assert_eq!(home.image(&other).unwrap().unwrap().references, ["a", "b"]);
    home.tag_image(&one, "a").unwrap();
    assert_eq!(home.image(&other).unwrap().unwrap().references, ["b"]);
    assert_eq!(home.untag_image("b").unwrap(), other);
    assert!(matches!(home.untag_image("b"), Err(TagError::NoSuchReference { .. })));
    assert!(matches!(
        home.tag_image(&digest("ff"), "c"),
        Err(TagError::NoSuchImage { .. })
    ));
    assert_eq!(home.list_images().unwrap().len(), 2);
    home.forget_rootfs(&one).unwrap();
    assert_eq!(home.image(&one).unwrap().unwrap().rootfs_bytes, None);
}

#[test]
fn no_row_names_a_file_that_is_not_there() {
    let Place { home, .. } = &place();
    let lease = home.lease_images().unwrap();
    let image = new_image(home, "a1", &["11"]);
    std::fs::remove_file(home.blob_path(&digest("11"))).unwrap();
    let error = home.put_image(&lease, &image, Some("r"), true).unwrap_err();
    assert!(matches!(error, PutImageError::MissingFile { .. }));
    assert_eq!(home.list_images().unwrap(), []);
    write_blob(home, &digest("11"), 1);
    home.put_image(&lease, &image, Some("r"), true).unwrap();
    assert!(matches!(
        home.put_rootfs(&lease, &image.digest, 1),
        Err(PutImageError::MissingFile { .. })
    ));
    std::fs::write(home.rootfs_path(&digest("a9")), "").unwrap();
    assert!(matches!(
        home.put_rootfs(&lease, &digest("a9"), 1),
        Err(PutImageError::NoSuchImage { .. })
    ));
}

#[test]
fn what_no_image_names_is_collected_and_what_two_share_stays() {
    let Place { home, .. } = &place();
    let one = add(home, "a1", &["11", "12"], Some("one"));
    let other = add(home, "a2", &["11"], None);
    let content = home.content_dir();
    std::fs::create_dir(content.join("partial")).unwrap();
    for garbage in ["blobs/sha256/half", "rootfs/half.tmp", "partial/sha256-x"] {
        std::fs::write(content.join(garbage), "x").unwrap();
    }
    std::fs::write(content.join("lock"), "").unwrap();
    assert_eq!(blob_files(home), 9);
    let patient = GarbageOptions {
        keep_blobs_for: Duration::from_secs(3600),
    };
    assert_eq!(home.collect_garbage(&patient).unwrap().image_files, 1);
    assert!(content.join("partial/sha256-x").exists() && !content.join("rootfs/half.tmp").exists());
    assert_eq!(home.collect_garbage(&GarbageOptions::default()).unwrap().image_files, 2);
    assert_eq!(blob_files(home), 8);
    assert_eq!(home.remove_image(&one).unwrap(), ["one"]);
    let collected = home.collect_garbage(&GarbageOptions::default()).unwrap();
    // Manifest, config, index, layer 12 and the root filesystem.
    assert_eq!(collected.image_files, 5);
    assert!(collected.reclaimed_bytes >= 2 << 20);
    assert!(home.blob_path(&digest("11")).exists() && !home.blob_path(&digest("12")).exists());
    assert!(home.rootfs_path(&other).exists() && !home.rootfs_path(&one).exists());
    assert!(content.join("lock").exists());
}

#[test]
fn what_somebody_is_just_pulling_is_left_alone() {
    let Place { home, .. } = &place();
    let lease = home.lease_images().unwrap();
    let second = home.lease_images().unwrap();
    write_blob(home, &digest("77"), 1);
    drop(second);
    let collected = home.collect_garbage(&GarbageOptions::default()).unwrap();
    assert_eq!(collected.images, ImageCollection::Deferred);
    assert!(home.blob_path(&digest("77")).exists());
    drop(lease);

    // The content store's own lock counts as well.
    let file = std::fs::File::create(home.content_dir().join("lock")).unwrap();
    file.lock_shared().unwrap();
    assert_eq!(
        home.collect_garbage(&GarbageOptions::default()).unwrap().images,
        ImageCollection::Deferred
    );
    drop(file);
    let collected = home.collect_garbage(&GarbageOptions::default()).unwrap();
    assert_eq!((collected.images, collected.image_files), (ImageCollection::Done, 1));
}

#[test]
fn one_builds_a_root_filesystem_and_the_others_wait() {
    let Place { home, .. } = &place();
    let image = add(home, "a1", &[], None);
    home.forget_rootfs(&image).unwrap();
    let builds = std::sync::atomic::AtomicUsize::new(0);
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                let lease = home.lease_images().unwrap();
                let _lock = home.lock_rootfs(&lease, &image, &|| false).unwrap();
                if home.image(&image).unwrap().unwrap().rootfs_bytes.is_none() {
                    builds.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
                    home.put_rootfs(&lease, &image, 7).unwrap();
                }
            });
        }
    });
    assert_eq!(builds.into_inner(), 1);
    home.collect_garbage(&GarbageOptions::default()).unwrap();
    let locks = std::fs::read_dir(home.path().join("locks")).unwrap();
    assert!(
        locks
            .flatten()
            .all(|entry| !entry.file_name().to_string_lossy().starts_with("rootfs-"))
    );
}

#[test]
fn pruning_removes_what_is_asked_for_and_nothing_that_is_used() {
    let Place { home, .. } = &place();
    let used = add(home, "a1", &["11"], None);
    let dangling = add(home, "a2", &["12"], None);
    let named = add(home, "a3", &["13"], Some("three"));
    let new = |name: &str, image: Option<&Digest>| NewBox {
        name: Some(name.into()),
        image_digest: image.cloned(),
        ..NewBox::default()
    };
    let (busy, _lock) = home.draft_box().unwrap().commit(new("busy", Some(&used))).unwrap();
    let (idle, lock) = home.draft_box().unwrap().commit(new("idle", None)).unwrap();
    drop(lock);
    let nothing = home.prune(&PruneRequest::default()).unwrap();
    assert!(nothing.boxes.is_empty() && nothing.images.is_empty());
    let pruned = home
        .prune(&PruneRequest {
            boxes: None,
            images: ImagePrune::Dangling,
        })
        .unwrap();
    assert_eq!(pruned.images, [(dangling, vec![])]);
    assert!(pruned.reclaimed_bytes >= 2 << 20);
    let not_idle = |record: &BoxRecord| record.name != "idle";
    assert_eq!(
        home.prune(&PruneRequest {
            boxes: Some(&not_idle),
            images: ImagePrune::None
        })
        .unwrap()
        .boxes,
        []
    );
    let every = |_: &BoxRecord| true;
    let pruned = home
        .prune(&PruneRequest {
            boxes: Some(&every),
            images: ImagePrune::Unused,
        })
        .unwrap();
    assert_eq!(pruned.boxes, [idle.id]);
    assert_eq!(pruned.images, [(named, vec!["three".to_owned()])]);
    assert_eq!(home.list_boxes().unwrap().len(), 1);
    assert!(home.image(&used).unwrap().is_some() && home.rootfs_path(&used).exists());
    assert!(home.box_dir(&busy.id).exists());
}

#[test]
fn usage_counts_what_is_allocated_once() {
    let Place { home, .. } = &place();
    let one = add(home, "a1", &["11", "12"], Some("one"));
    let other = add(home, "a2", &["11"], None);
    let draft = home.draft_box().unwrap();
    let disk = std::fs::File::create(draft.dir().join("disk")).unwrap();
    disk.set_len(1 << 40).unwrap();
    std::os::unix::fs::FileExt::write_all_at(&disk, &[1; 1 << 20], 1 << 30).unwrap();
    let new = NewBox {
        image_digest: Some(one.clone()),
        ..NewBox::default()
    };
    let (record, _lock) = draft.commit(new).unwrap();
    let usage = home.disk_usage().unwrap();
    let mebibytes = |bytes: u64| bytes >> 20;
    assert_eq!(usage.boxes.len(), 1);
    assert_eq!((&usage.boxes[0].id, mebibytes(usage.boxes_bytes)), (&record.id, 1));
    assert_eq!(usage.reclaimable_boxes_bytes, usage.boxes_bytes);
    // Two root filesystems and two layers.
    assert_eq!(mebibytes(usage.images_bytes), 4);
    let image = |digest: &Digest| usage.images.iter().find(|image| image.digest == *digest).unwrap();
    assert_eq!(
        (
            mebibytes(image(&one).unique_blob_bytes),
            mebibytes(image(&one).shared_blob_bytes)
        ),
        (1, 1)
    );
    assert_eq!(
        (
            mebibytes(image(&other).unique_blob_bytes),
            mebibytes(image(&other).shared_blob_bytes)
        ),
        (0, 1)
    );
    assert_eq!((image(&one).boxes, image(&other).boxes), (1, 0));
    // The other image's root filesystem; its layer is the first one's as well.
    assert_eq!(mebibytes(usage.reclaimable_images_bytes), 1);
    assert!(usage.database_bytes > 0);
}
