//! Loading what docker, skopeo and umoci write.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test that cannot go on fails")]

use boxlite_image::{Compression, Digest, ErrorKind, LoadError};
use serde_json::json;

use archives::{Data, HardLink, Layout, Scratch, SymLink, config, fails, gzip, listing, load_from, tar};
use fake::{CONFIG, Home, INDEX, LAYER, MANIFEST, descriptor, image, noise};
use tools::{make_layout, skopeo, umoci};

mod archives;
mod fake;
mod tools;

#[tokio::test]
async fn what_other_tools_write() {
    let scratch = Scratch::new();
    let layout = make_layout(scratch.0.path());
    let home = Home::new();
    let from_layout = load_from(&home, &format!("oci:{layout}:v1")).await.unwrap();
    assert_eq!(from_layout.len(), 1);
    let image = &from_layout[0];
    assert_eq!((image.name.as_deref(), &image.reference), (Some("v1"), &None));
    assert_eq!(image.manifest.layers.len(), 2);
    assert_eq!(image.manifest.layers[0].compression, Compression::Gzip);
    assert_eq!(image.manifest.config.env, ["GREETING=hello"]);
    for blob in image.manifest.blobs() {
        home.store.verify(blob).unwrap();
    }
    assert_eq!(load_from(&home, &format!("oci:{layout}")).await.unwrap(), from_layout);
    assert_eq!(home.store.blobs().unwrap().len(), 4);

    let archive = scratch.path("oci.tar").display().to_string();
    skopeo(&[
        "copy",
        &format!("oci:{layout}:v1"),
        &format!("oci-archive:{archive}:v1"),
    ]);
    let home = Home::new();
    assert_eq!(
        load_from(&home, &format!("oci-archive:{archive}:v1")).await.unwrap(),
        from_layout
    );
    assert_eq!((home.store.blobs().unwrap().len(), home.unfinished()), (4, 0));

    let archive = scratch.path("docker.tar");
    let target = format!("docker-archive:{}:quay.io/team/app:v2", archive.display());
    skopeo(&["copy", &format!("oci:{layout}:v1"), &target]);
    let home = Home::new();
    let from_docker = load_from(&home, &format!("docker-archive:{}", archive.display()))
        .await
        .unwrap();
    assert_eq!(from_docker.len(), 1);
    let docker = &from_docker[0];
    assert_eq!(docker.reference.as_ref().unwrap().to_string(), "quay.io/team/app:v2");
    assert_eq!(docker.manifest.config.diff_ids, image.manifest.config.diff_ids);
    assert_eq!(docker.manifest.config.cmd, ["/bin/hello"]);
    for layer in &docker.manifest.layers {
        assert_eq!((&layer.digest, layer.compression), (&layer.diff_id, Compression::None));
    }
    for blob in docker.manifest.blobs() {
        home.store.verify(blob).unwrap();
    }
    assert_eq!((home.store.blobs().unwrap().len(), home.unfinished()), (4, 0));
    assert_eq!(
        load_from(&Home::new(), &target).await.unwrap(),
        from_docker,
        "the same manifest each time"
    );

    // gzip and zstd around it change nothing.
    let plain = std::fs::read(&archive).unwrap();
    for packed in [gzip(&plain), zstd::encode_all(&plain[..], 1).unwrap()] {
        let source = scratch.source("docker-archive", &packed);
        assert_eq!(load_from(&Home::new(), &source).await.unwrap(), from_docker);
    }
    let truncated = scratch.source("docker-archive", &plain[..plain.len() / 2]);
    assert_eq!(fails(&truncated).await.kind(), ErrorKind::Corrupt);
    let truncated = scratch.source("docker-archive", &gzip(&plain)[..5000]);
    assert!(matches!(fails(&truncated).await, LoadError::Archive { .. }));
}

#[tokio::test]
async fn several_images_and_names_in_a_layout() {
    let scratch = Scratch::new();
    let layout = make_layout(scratch.0.path());
    let image = format!("{layout}:v1");
    umoci(&["config", "--image", &image, "--tag", "arm", "--architecture", "arm64"]);
    umoci(&["tag", "--image", &image, "again"]);
    let home = Home::new();
    let all = load_from(&home, &format!("oci:{layout}")).await.unwrap();
    let mut names: Vec<_> = all.iter().map(|image| image.name.clone().unwrap()).collect();
    names.sort();
    assert_eq!(names, ["again", "v1"], "the image for another platform is left out");
    assert_eq!(all[0].manifest, all[1].manifest);
    let error = fails(&format!("oci:{layout}:arm")).await;
    assert!(matches!(&error, LoadError::Platform { available, .. } if available[0].to_string() == "linux/arm64"));
    assert!(error.hint().unwrap().contains("--platform linux/arm64"));
    let error = fails(&format!("oci:{layout}:nope")).await;
    assert_eq!(error.kind(), ErrorKind::NotFound);
    assert!(
        error.to_string().contains("again") && error.to_string().contains("v1"),
        "{error}"
    );
}

#[tokio::test]
async fn indexes_and_whole_names_in_a_layout() {
    let scratch = Scratch::new();
    let layout = Layout::new(scratch.path("layout"));
    let mut entry = layout.put_image(&[b"layer"]);
    entry["platform"] = json!({"os": "linux", "architecture": "amd64"});
    let inner = json!({"schemaVersion": 2, "mediaType": INDEX, "manifests": [entry]}).to_string();
    layout.put(inner.as_bytes());
    let mut top = descriptor(INDEX, inner.as_bytes());
    top["annotations"] = json!({
        "io.containerd.image.name": "docker.io/library/app:v1", "org.opencontainers.image.ref.name": "v1",
    });
    layout.index(&[top]);
    for tag in ["", ":v1", ":app:v1", ":docker.io/library/app:v1"] {
        let loaded = load_from(&Home::new(), &format!("{}{tag}", layout.source()))
            .await
            .unwrap();
        assert_eq!(loaded[0].reference.as_ref().unwrap().familiar(), "app:v1");
        assert_eq!(loaded[0].manifest.index_digest, Some(Digest::sha256(inner.as_bytes())));
    }
}

#[tokio::test]
async fn docker_archives_with_several_images_and_links() {
    let scratch = Scratch::new();
    let (one, two) = (noise(1, 100_000), noise(2, 700));
    let (both, only, other) = (
        config(&[&one, &two]),
        config(&[&two]),
        image("linux/arm64", &[&two]).1.pop().unwrap(),
    );
    let listed = listing(&[
        (
            "both.json",
            &["app:v1", "docker.io/library/app:latest"],
            &["a/layer.tar", "b/layer.tar"],
        ),
        ("only.json", &["quay.io/x/only:1"], &["./c/layer.tar"]),
        ("other.json", &["app:arm"], &["c/layer.tar"]),
        ("only.json", &[], &["b/layer.tar"]),
    ]);
    let archive = tar(&[
        ("both.json", Data(&both)),
        ("only.json", Data(&only)),
        ("other.json", Data(&other)),
        // Links may come before what they stand for.
        ("c/layer.tar", SymLink("../b/layer.tar")),
        ("./a/layer.tar", Data(&one)),
        ("real", Data(&two)),
        ("b/layer.tar", HardLink("real")),
        ("unneeded", Data(&noise(3, 200_000))),
        ("manifest.json", Data(&listed)),
    ]);
    let source = scratch.source("docker-archive", &archive);
    let home = Home::new();
    let loaded = load_from(&home, &source).await.unwrap();
    let names: Vec<_> = loaded
        .iter()
        .map(|image| image.reference.as_ref().map(|r| r.familiar()))
        .collect();
    assert_eq!(
        names,
        [
            Some("app:v1".into()),
            Some("app:latest".into()),
            Some("quay.io/x/only:1".into()),
            None
        ]
    );
    assert_eq!(loaded[0].manifest, loaded[1].manifest);
    assert_eq!(loaded[2].manifest, loaded[3].manifest);
    assert_eq!(
        home.store.read(&loaded[0].manifest.layers[1].digest, 1000).unwrap(),
        two
    );
    // Two layers, two configs, two manifests; neither the unneeded nor the other platform's.
    assert_eq!((home.store.blobs().unwrap().len(), home.unfinished()), (6, 0));
    let loaded = load_from(&home, &format!("{source}:app")).await.unwrap();
    assert_eq!(loaded.len(), 1);
    assert_eq!(loaded[0].reference.as_ref().unwrap().familiar(), "app:latest");
    let error = fails(&format!("{source}:nope")).await;
    assert!(
        matches!(&error, LoadError::NoSuchImage { available, .. } if available.len() == 4),
        "{error}"
    );
    assert!(matches!(
        fails(&format!("{source}:app:arm")).await,
        LoadError::Platform { .. }
    ));
}

#[tokio::test]
async fn newer_docker_archives_keep_their_manifests() {
    let scratch = Scratch::new();
    let layer = noise(1, 5000);
    let packed = gzip(&layer);
    let config = config(&[&layer]);
    let manifest = json!({
        "schemaVersion": 2, "mediaType": MANIFEST, "config": descriptor(CONFIG, &config),
        "layers": [descriptor(&format!("{LAYER}+gzip"), &packed)], "annotations": {"made": "elsewhere"},
    })
    .to_string();
    let path = |content: &[u8]| format!("blobs/sha256/{}", Digest::sha256(content).hex());
    let index = json!({"schemaVersion": 2, "manifests": [descriptor(MANIFEST, manifest.as_bytes())]}).to_string();
    let (config_path, layer_path) = (path(&config), path(&packed));
    let listed = listing(&[(&config_path, &["app:v1"], &[&layer_path])]);
    let archive = |manifest_path: &str, layer: &[u8]| {
        tar(&[
            (&config_path, Data(&config)),
            (&layer_path, Data(layer)),
            (manifest_path, Data(manifest.as_bytes())),
            ("index.json", Data(index.as_bytes())),
            ("manifest.json", Data(&listed)),
            ("oci-layout", Data(br#"{"imageLayoutVersion":"1.0.0"}"#)),
        ])
    };
    let whole = archive(&path(manifest.as_bytes()), &packed);
    let home = Home::new();
    let loaded = load_from(&home, &scratch.source("docker-archive", &whole))
        .await
        .unwrap();
    assert_eq!(loaded[0].manifest.digest, Digest::sha256(manifest.as_bytes()));
    assert_eq!(loaded[0].manifest.layers[0].compression, Compression::Gzip);
    assert_eq!(
        home.store.read(&loaded[0].manifest.digest, 9999).unwrap(),
        manifest.as_bytes()
    );
    let by_layout = load_from(&Home::new(), &scratch.source("oci-archive", &whole))
        .await
        .unwrap();
    assert_eq!(by_layout[0].manifest, loaded[0].manifest);
    // Without its manifest it gets one of our making.
    let lacking = archive("blobs/sha256/elsewhere", &packed);
    let made_up = load_from(&Home::new(), &scratch.source("docker-archive", &lacking))
        .await
        .unwrap();
    assert_ne!(made_up[0].manifest.digest, loaded[0].manifest.digest);
    assert_eq!(made_up[0].manifest.layers, loaded[0].manifest.layers);
    let damaged = archive(&path(manifest.as_bytes()), &gzip(&noise(2, 5000)));
    for transport in ["docker-archive", "oci-archive"] {
        let error = fails(&scratch.source(transport, &damaged)).await;
        assert!(matches!(error, LoadError::Digest { .. }), "{error}");
    }
}
