//! Root filesystems of images in a content store.

use boxlite_image::rootfs::{self, BuildError};
use boxlite_image::{Compression, ContentStore, Digest, ErrorKind, ImageManifest, Limits};
use serde_json::json;
use tokio_util::sync::CancellationToken;

use crate::reader::{Image, fsck};
use crate::sample::{Workshop, compress, dir, file, tar};

fn store_image(store: &ContentStore, layers: &[(Vec<u8>, Compression)], diff_ids: &[Digest]) -> ImageManifest {
    let config = json!({
        "architecture": "amd64",
        "os": "linux",
        "config": {},
        "rootfs": { "type": "layers", "diff_ids": diff_ids },
    });
    let config = config.to_string();
    let layers: Vec<_> = layers
        .iter()
        .map(|(tar, compression)| {
            let blob = compress(tar, *compression);
            json!({
                "mediaType": compression.layer_media_type(),
                "digest": store.write(&blob).unwrap(),
                "size": blob.len(),
            })
        })
        .collect();
    let manifest = json!({
        "schemaVersion": 2,
        "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "config": {
            "mediaType": "application/vnd.oci.image.config.v1+json",
            "digest": store.write(config.as_bytes()).unwrap(),
            "size": config.len(),
        },
        "layers": layers,
    });
    let digest = store.write(manifest.to_string().as_bytes()).unwrap();
    ImageManifest::read(store, &digest, &Limits::default()).unwrap()
}

#[test]
fn an_image_from_the_store() {
    let workshop = Workshop::new();
    let store = ContentStore::open(workshop.path("store")).unwrap();
    let layers = [
        (tar(&[dir("etc"), file("etc/old", b"old")]), Compression::Zstd),
        (
            tar(&[file("etc/new", b"new"), file("etc/.wh.old", b"")]),
            Compression::Gzip,
        ),
    ];
    let diff_ids: Vec<_> = layers.iter().map(|(tar, _)| Digest::sha256(tar)).collect();
    let dest = workshop.path("rootfs.erofs");
    let cancel = CancellationToken::new();

    let image = store_image(&store, &layers, &diff_ids);
    let info = rootfs::build(&store, &image, &dest, &workshop.options, &cancel).unwrap();
    assert_eq!(info.diff_ids, diff_ids);
    fsck(&dest);
    let built = Image::open(&dest);
    assert!(built.has("etc/new") && !built.has("etc/old"));

    let swapped: Vec<_> = diff_ids.iter().rev().cloned().collect();
    let lying = store_image(&store, &layers, &swapped);
    let error = rootfs::build(&store, &lying, &dest, &workshop.options, &cancel).unwrap_err();
    assert!(matches!(error, BuildError::DiffId { layer: 1, .. }), "{error}");

    std::fs::remove_file(store.blob_path(&image.layers[1].digest)).unwrap();
    let error = rootfs::build(&store, &image, &dest, &workshop.options, &cancel).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotFound, "{error}");
}
