//! Pulling from a real registry what real tools have pushed.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test that cannot go on fails")]

use std::process::Command;

use base64::Engine as _;
use boxlite_image::{AuthSource, ErrorKind, Platform, PullOptions, Reference, Source, load, resolve};
use serde_json::json;
use tokio_util::sync::CancellationToken;

use fake::{Home, quick, silent};
use tools::{DockerRegistry, make_layout, skopeo, umoci};

mod fake;
mod tools;

#[tokio::test]
async fn what_skopeo_pushed_is_what_arrives() {
    let dir = tempfile::tempdir().unwrap();
    let layout = make_layout(dir.path());
    let registry = DockerRegistry::start(dir.path(), None);
    let host = registry.host.clone();
    let target = |name: &str| format!("docker://{}/{name}", host);
    let reference = |name: &str| Reference::parse(&format!("{}/{name}", host)).unwrap();
    let source = format!("oci:{layout}:v1");
    skopeo(&["copy", "--dest-tls-verify=false", &source, &target("team/app:oci")]);
    skopeo(&[
        "copy",
        "--dest-tls-verify=false",
        "--format",
        "v2s2",
        &source,
        &target("team/app:docker"),
    ]);
    skopeo(&[
        "copy",
        "--dest-tls-verify=false",
        "--dest-compress-format",
        "zstd",
        "--dest-compress",
        &source,
        &target("team/app:zstd"),
    ]);

    let home = Home::new();
    let options = quick();
    let pushed = home.pull(&reference("team/app:oci"), &options).await.unwrap();
    let loaded = load(
        &Home::new().store,
        &Source::parse(&source).unwrap(),
        &boxlite_image::LoadOptions {
            platform: options.platform.clone(),
            ..Default::default()
        },
        silent(),
        CancellationToken::new(),
    )
    .await
    .unwrap();
    assert_eq!(pushed, loaded[0].manifest);
    assert_eq!(pushed.config.cmd, ["/bin/hello"]);
    assert_eq!(pushed.config.user.as_deref(), Some("1000:1000"));
    assert_eq!(pushed.layers.len(), 2);
    for blob in pushed.blobs() {
        home.store.verify(blob).unwrap();
    }
    let token = CancellationToken::new();
    assert_eq!(
        resolve(&reference("team/app:oci"), &options, token).await.unwrap(),
        pushed.digest
    );

    let docker = home.pull(&reference("team/app:docker"), &options).await.unwrap();
    assert_ne!(docker.digest, pushed.digest);
    assert_eq!(docker.config.diff_ids, pushed.config.diff_ids);
    assert_eq!(docker.config.env, pushed.config.env);
    assert!(
        docker.layers[0]
            .media_type
            .starts_with("application/vnd.docker.image.rootfs.diff.tar")
    );
    let zstd = home.pull(&reference("team/app:zstd"), &options).await.unwrap();
    assert_eq!(zstd.config.diff_ids, pushed.config.diff_ids);

    for (name, kind) in [
        ("team/app:nope", ErrorKind::NotFound),
        ("nope:oci", ErrorKind::NotFound),
    ] {
        let error = home.pull(&reference(name), &options).await.unwrap_err();
        assert_eq!(error.kind(), kind, "{error}");
    }
    drop(registry);
    let error = Home::new()
        .pull(&reference("team/app:oci"), &options)
        .await
        .unwrap_err();
    assert!(error.to_string().contains("refuses the connection"), "{error}");
    assert!(error.hint().unwrap().contains(&host));
}

#[tokio::test]
async fn an_index_of_several_platforms() {
    let dir = tempfile::tempdir().unwrap();
    let layout = make_layout(dir.path());
    let image = format!("{layout}:v1");
    umoci(&[
        "config",
        "--image",
        &image,
        "--tag",
        "arm",
        "--architecture",
        "arm64",
        "--config.cmd",
        "/bin/arm",
    ]);
    let registry = DockerRegistry::start(dir.path(), None);
    // The tools of Debian 12 push no indexes of their own making, so it is made here and
    // pushed with all that it names.
    let path = std::path::Path::new(&layout).join("index.json");
    let mut index: serde_json::Value = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
    for entry in index["manifests"].as_array_mut().unwrap() {
        let tag = entry["annotations"]["org.opencontainers.image.ref.name"]
            .as_str()
            .unwrap();
        let architecture = if tag == "arm" { "arm64" } else { "amd64" };
        entry["platform"] = json!({"os": "linux", "architecture": architecture});
        entry.as_object_mut().unwrap().remove("annotations");
    }
    index["mediaType"] = "application/vnd.oci.image.index.v1+json".into();
    let json = index.to_string();
    let digest = boxlite_image::Digest::sha256(json.as_bytes());
    std::fs::write(
        std::path::Path::new(&layout).join("blobs/sha256").join(digest.hex()),
        &json,
    )
    .unwrap();
    let top = json!({"schemaVersion": 2, "manifests": [{
        "mediaType": "application/vnd.oci.image.index.v1+json", "digest": digest, "size": json.len(),
        "annotations": {"org.opencontainers.image.ref.name": "multi"},
    }]});
    std::fs::write(&path, top.to_string()).unwrap();
    let target = format!("docker://{}/app:multi", registry.host);
    skopeo(&[
        "copy",
        "--all",
        "--dest-tls-verify=false",
        &format!("oci:{layout}:multi"),
        &target,
    ]);

    let reference = Reference::parse(&format!("{}/app:multi", registry.host)).unwrap();
    for (platform, cmd) in [("linux/amd64", "/bin/hello"), ("linux/arm64/v8", "/bin/arm")] {
        let options = PullOptions {
            platform: Some(Platform::parse(platform).unwrap()),
            ..quick()
        };
        let image = Home::new().pull(&reference, &options).await.unwrap();
        assert_eq!(image.config.cmd, [cmd]);
        assert_eq!(image.index_digest.as_ref(), Some(&digest));
    }
    let options = PullOptions {
        platform: Some(Platform::parse("linux/s390x").unwrap()),
        ..quick()
    };
    let error = Home::new().pull(&reference, &options).await.unwrap_err();
    assert!(error.to_string().contains("linux/amd64, linux/arm64"), "{error}");
}

#[tokio::test]
async fn a_password_that_skopeo_logged_in_with() {
    let dir = tempfile::tempdir().unwrap();
    let layout = make_layout(dir.path());
    let htpasswd = dir.path().join("htpasswd");
    // bcrypt, cost 5, of "hunter2-and-more".
    std::fs::write(
        &htpasswd,
        "ann:$2y$05$abcdefghijklmnopqrstuuBe0BhjfyKSH5tdk.7.wqOmcUQdxloDK\n",
    )
    .unwrap();
    let auth = json!({"htpasswd": {"realm": "test", "path": htpasswd}});
    let registry = DockerRegistry::start(dir.path(), Some(auth));
    let auth_file = dir.path().join("auth.json");
    let status = Command::new("skopeo")
        .args(["login", "--tls-verify=false", "-u", "ann", "-p", "hunter2-and-more"])
        .arg(&registry.host)
        .env("REGISTRY_AUTH_FILE", &auth_file)
        .output()
        .unwrap();
    assert!(status.status.success(), "{status:?}");
    let target = format!("docker://{}/app:v1", registry.host);
    let auth_file_text = auth_file.to_str().unwrap();
    skopeo(&[
        "copy",
        "--authfile",
        auth_file_text,
        "--dest-tls-verify=false",
        &format!("oci:{layout}:v1"),
        &target,
    ]);

    let reference = Reference::parse(&format!("{}/app:v1", registry.host)).unwrap();
    let options = PullOptions {
        auth: AuthSource::Files(vec![auth_file.clone()]),
        ..quick()
    };
    Home::new().pull(&reference, &options).await.unwrap();
    let error = Home::new().pull(&reference, &quick()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unauthorized, "{error}");
    let wrong = base64::engine::general_purpose::STANDARD.encode("ann:wrong");
    std::fs::write(
        &auth_file,
        json!({"auths": {registry.host.clone(): {"auth": wrong}}}).to_string(),
    )
    .unwrap();
    let error = Home::new().pull(&reference, &options).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unauthorized, "{error}");
    assert!(
        error.to_string().contains("auth.json") && !error.to_string().contains("hunter2"),
        "{error}"
    );
}
