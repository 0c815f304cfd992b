//! Pulling from registries that have what is asked for, even if they break off in between.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test that cannot go on fails")]

use std::sync::{Arc, Mutex};

use boxlite_image::{
    ContentStore, Digest, ErrorKind, ImageManifest, LayerState, Limits, Platform, Progress, PullError, PullOptions,
    RegistryError, pull, resolve,
};
use serde_json::json;
use tokio_util::sync::CancellationToken;

use fake::{FakeRegistry, Home, INDEX, MANIFEST, Misdeed, descriptor, image, noise, quick, registry_error, silent};

mod fake;

#[tokio::test]
async fn an_image_arrives_whole_and_only_once() {
    let registry = FakeRegistry::start().await;
    let (one, two) = (noise(1, 300_000), noise(2, 10));
    let digest = registry.put_image("v1", "linux/amd64", &[&one, &two, &one]);
    let home = Home::new();
    let seen = Arc::new(Mutex::new(Vec::new()));
    let log = Arc::clone(&seen);
    let reference = registry.reference("team/app:v1");
    let progress = Arc::new(move |event| log.lock().unwrap().push(event));
    let image = pull(&home.store, &reference, &quick(), progress, CancellationToken::new())
        .await
        .unwrap();

    assert_eq!((&image.digest, &image.index_digest), (&digest, &None));
    assert_eq!(image.platform.to_string(), "linux/amd64");
    assert_eq!(image.config.cmd, ["/bin/true"]);
    assert_eq!(image.layers.len(), 3);
    assert_eq!(home.store.read(&image.layers[0].digest, 1 << 20).unwrap(), one);
    assert_eq!(image.layers[0].diff_id, image.layers[0].digest);
    for blob in image.blobs() {
        home.store.verify(blob).unwrap();
    }
    assert_eq!(home.unfinished(), 0);
    assert_eq!(
        ImageManifest::read(&home.store, &digest, &Limits::default()).unwrap(),
        image
    );
    let seen = seen.lock().unwrap().clone();
    assert!(matches!(seen[0], Progress::Resolving { .. }));
    assert!(seen.iter().any(|event| matches!(
        event,
        Progress::Resolved {
            layers: 2,
            total_bytes: 300_010,
            ..
        }
    )));
    assert!(seen.iter().any(|event| matches!(
        event,
        Progress::Layer {
            state: LayerState::Done,
            current_bytes: 300_000,
            total_bytes: 300_000,
            ..
        }
    )));

    registry.forget();
    assert_eq!(home.pull(&reference, &quick()).await.unwrap(), image);
    assert!(registry.blobs_asked().is_empty());
    registry.forget();
    let by_digest = reference.with_digest(digest);
    assert_eq!(home.pull(&by_digest, &quick()).await.unwrap(), image);
    assert!(registry.asked().is_empty(), "what is all there needs no network");
}

#[tokio::test]
async fn the_right_image_of_an_index_is_taken() {
    let registry = FakeRegistry::start().await;
    let mut manifests = Vec::new();
    for (platform, variant) in [
        ("linux/arm64", Some("v8")),
        ("linux/arm", Some("v6")),
        ("linux/amd64", None),
    ] {
        let (json, blobs) = image(platform, &[&noise(platform.len() as u64, 50)]);
        for blob in blobs {
            registry.put_blob(&blob);
        }
        registry.put_manifest("unused", MANIFEST, &json);
        let (os, architecture) = platform.split_once('/').unwrap();
        let mut entry = descriptor(MANIFEST, &json);
        entry["platform"] = json!({"os": os, "architecture": architecture});
        if let Some(variant) = variant {
            entry["platform"]["variant"] = variant.into();
        }
        manifests.push(entry);
    }
    let mut attestation = descriptor(MANIFEST, b"not there");
    attestation["platform"] = json!({"os": "unknown", "architecture": "unknown"});
    manifests.insert(0, attestation);
    let index = json!({"schemaVersion": 2, "mediaType": INDEX, "manifests": manifests}).to_string();
    let index_digest = registry.put_manifest("multi", INDEX, index.as_bytes());
    let reference = registry.reference("app:multi");
    let with = |platform: &str| PullOptions {
        platform: Some(platform.parse().unwrap()),
        ..quick()
    };
    for (wanted, got) in [
        ("linux/amd64", "linux/amd64"),
        ("linux/arm64", "linux/arm64"),
        ("linux/arm/v7", "linux/arm/v6"),
    ] {
        let home = Home::new();
        let image = home.pull(&reference, &with(wanted)).await.unwrap();
        assert_eq!(image.platform.to_string(), got);
        assert_eq!(image.index_digest.as_ref(), Some(&index_digest));
        assert_eq!(image.resolved_digest(), &index_digest);
    }
    let error = Home::new().pull(&reference, &with("linux/s390x")).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotFound);
    let text = error.to_string();
    assert!(
        text.contains("linux/s390x") && text.contains("linux/amd64, linux/arm/v6, linux/arm64"),
        "{text}"
    );
    assert!(!text.contains("unknown"));
    assert!(error.hint().unwrap().contains("--platform linux/amd64"));
}

#[tokio::test]
async fn a_lone_image_for_another_platform_is_refused() {
    let registry = FakeRegistry::start().await;
    registry.put_image("arm", "linux/arm64", &[b"layer"]);
    let home = Home::new();
    let error = home.pull(&registry.reference("app:arm"), &quick()).await.unwrap_err();
    let PullError::Platform { wanted, available, .. } = &error else {
        panic!("{error:?}")
    };
    assert_eq!(**wanted, "linux/amd64".parse::<Platform>().unwrap());
    assert_eq!(available, &["linux/arm64".parse::<Platform>().unwrap()]);
    assert!(registry.blobs_asked().len() == 1, "only the config was fetched");
    let options = PullOptions {
        platform: Some("linux/arm64".parse().unwrap()),
        ..quick()
    };
    home.pull(&registry.reference("app:arm"), &options).await.unwrap();
}

#[tokio::test]
async fn a_broken_download_is_resumed_where_it_broke() {
    let registry = FakeRegistry::start().await;
    let layer = noise(6, 100_000);
    registry.put_image("v1", "linux/amd64", &[&layer]);
    let wanted = Digest::sha256(&layer).to_string();
    let mut cuts = 2;
    let target = wanted.clone();
    registry.misbehave(move |asked| {
        let cut = asked.target.contains(&target) && cuts > 0;
        cuts -= usize::from(cut);
        cut.then_some(Misdeed::Cut(40_000))
    });
    let home = Home::new();
    home.pull(&registry.reference("app:v1"), &quick()).await.unwrap();
    let ranges: Vec<_> = registry
        .blobs_asked()
        .iter()
        .filter(|asked| asked.target.contains(&wanted))
        .map(|asked| asked.header("range").map(str::to_owned))
        .collect();
    assert_eq!(ranges, [None, Some("bytes=40000-".into()), Some("bytes=80000-".into())]);
}

#[tokio::test]
async fn a_registry_without_ranges_is_asked_for_everything_again() {
    let registry = FakeRegistry::start().await;
    let layer = noise(7, 100_000);
    registry.put_image("v1", "linux/amd64", &[&layer]);
    let wanted = Digest::sha256(&layer).to_string();
    let mut first = true;
    registry.misbehave(move |asked| {
        asked
            .target
            .contains(&wanted)
            .then(|| match std::mem::take(&mut first) {
                true => Misdeed::Cut(40_000),
                false => Misdeed::NoRanges,
            })
    });
    let home = Home::new();
    let image = home.pull(&registry.reference("app:v1"), &quick()).await.unwrap();
    assert_eq!(home.store.read(&image.layers[0].digest, 100_000).unwrap(), layer);
}

#[tokio::test]
async fn the_next_pull_resumes_what_the_last_left() {
    let registry = FakeRegistry::start().await;
    let layer = noise(8, 100_000);
    registry.put_image("v1", "linux/amd64", &[&layer]);
    let wanted = Digest::sha256(&layer).to_string();
    let target = wanted.clone();
    registry.misbehave(move |asked| asked.target.contains(&target).then_some(Misdeed::Cut(30_000)));
    let home = Home::new();
    let mut once = quick();
    once.retry.attempts = 1;
    let error = home.pull(&registry.reference("app:v1"), &once).await.unwrap_err();
    assert!(
        matches!(registry_error(&error), RegistryError::Interrupted { .. }),
        "{error:?}"
    );
    assert_eq!(error.kind(), ErrorKind::Network);
    assert_eq!(home.unfinished(), 1);
    registry.misbehave(|_| None);
    registry.forget();
    home.pull(&registry.reference("app:v1"), &once).await.unwrap();
    let asked = registry.blobs_asked();
    assert_eq!(asked.len(), 1);
    assert_eq!(asked[0].header("range"), Some("bytes=30000-"));
    assert_eq!(home.unfinished(), 0);
}

#[tokio::test]
async fn a_damaged_partial_is_thrown_away() {
    let registry = FakeRegistry::start().await;
    let layer = noise(9, 5000);
    registry.put_image("v1", "linux/amd64", &[&layer]);
    let home = Home::new();
    let digest = Digest::sha256(&layer);
    let path = home.store.root().join(format!("partial/sha256-{}", digest.hex()));
    std::fs::write(&path, noise(10, 3000)).unwrap();
    home.pull(&registry.reference("app:v1"), &quick()).await.unwrap();
    home.store.verify(&digest).unwrap();
    assert_eq!(home.unfinished(), 0);
}

#[tokio::test]
async fn cancelling_stops_at_once_and_leaves_only_what_can_be_resumed() {
    let registry = FakeRegistry::start().await;
    let layer = noise(12, 500_000);
    registry.put_image("v1", "linux/amd64", &[&layer, b"another"]);
    let wanted = Digest::sha256(&layer).to_string();
    registry.misbehave(move |asked| asked.target.contains(&wanted).then_some(Misdeed::HangAfter(400_000)));
    let home = Home::new();
    let cancel = CancellationToken::new();
    let stop = cancel.clone();
    let progress = Arc::new(move |event| {
        if matches!(
            event,
            Progress::Layer {
                current_bytes: 200_000..,
                state: LayerState::Downloading,
                ..
            }
        ) {
            stop.cancel();
        }
    });
    let reference = registry.reference("app:v1");
    let error = pull(&home.store, &reference, &quick(), progress, cancel)
        .await
        .unwrap_err();
    assert!(matches!(error, PullError::Cancelled { .. }), "{error:?}");
    // Nothing is locked any more: all of it can be collected.
    let exclusive = home.store.try_exclusive().unwrap().unwrap();
    exclusive.remove_unfinished().unwrap();
    exclusive.retain(|_| false).unwrap();
    drop(exclusive);
    assert_eq!(home.unfinished() + home.store.blobs().unwrap().len(), 0);
    let early = CancellationToken::new();
    early.cancel();
    registry.forget();
    let error = pull(&home.store, &reference, &quick(), silent(), early)
        .await
        .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Cancelled);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_pulls_of_one_layer_download_it_once() {
    let registry = FakeRegistry::start().await;
    let layer = noise(13, 200_000);
    registry.put_image("v1", "linux/amd64", &[&layer]);
    let home = Home::new();
    // Another store value on the same folder, as another process has.
    let again = ContentStore::open(home.store.root()).unwrap();
    let reference = registry.reference("app:v1");
    let options = quick();
    let (one, two) = tokio::join!(
        home.pull(&reference, &options),
        pull(&again, &reference, &options, silent(), CancellationToken::new())
    );
    assert_eq!(one.unwrap(), two.unwrap());
    let wanted = Digest::sha256(&layer).to_string();
    let times = registry
        .blobs_asked()
        .iter()
        .filter(|asked| asked.target.contains(&wanted))
        .count();
    assert_eq!(times, 1);
}

#[tokio::test]
async fn mirrors_come_first_and_failures_fall_through() {
    let (origin, mirror, dead) = (
        FakeRegistry::start().await,
        FakeRegistry::start().await,
        FakeRegistry::start().await,
    );
    let layer = noise(14, 1000);
    let digest = origin.put_image("v1", "linux/amd64", &[&layer]);
    mirror.put_image("v1", "linux/amd64", &[&layer]);
    let gone = dead.host();
    drop(dead);
    let mut options = quick();
    let mirrors = vec![format!("http://{gone}"), format!("http://{}/cache/hub", mirror.host())];
    options.mirrors.insert(origin.host(), mirrors);
    let reference = origin.reference("app:v1");
    Home::new().pull(&reference, &options).await.unwrap();
    assert!(origin.asked().is_empty());
    assert!(
        mirror
            .asked()
            .iter()
            .all(|asked| asked.target.starts_with("/v2/cache/hub/app/"))
    );
    // A mirror that lies is as good as none.
    let wanted = Digest::sha256(&layer).to_string();
    mirror.misbehave(move |asked| asked.target.contains(&wanted).then(|| Misdeed::Body(noise(15, 1000))));
    let image = Home::new().pull(&reference, &options).await.unwrap();
    assert_eq!(image.digest, digest);
    assert_eq!(origin.asked().len(), 1, "{:?}", origin.asked());
    // Nobody has it: the registry's own answer counts, the mirrors' are evidence.
    let error = Home::new()
        .pull(&origin.reference("app:nope"), &options)
        .await
        .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotFound);
    assert!(registry_error(&error).request().unwrap().host == origin.host());
    assert_eq!(error.evidence().len(), 2, "{:?}", error.evidence());
    options.mirrors.insert(origin.host(), vec!["ftp://x".to_owned()]);
    let error = Home::new().pull(&reference, &options).await.unwrap_err();
    assert!(matches!(error, PullError::Address { .. }));
}

#[tokio::test]
async fn a_tag_is_resolved_without_fetching() {
    let registry = FakeRegistry::start().await;
    let digest = registry.put_image("v1", "linux/amd64", &[b"layer"]);
    let reference = registry.reference("app:v1");
    assert_eq!(
        resolve(&reference, &quick(), CancellationToken::new()).await.unwrap(),
        digest
    );
    assert!(registry.asked().iter().all(|asked| asked.method == "HEAD"));
    registry.misbehave(|asked| (asked.method == "HEAD").then(|| Misdeed::status(405)));
    assert_eq!(
        resolve(&reference, &quick(), CancellationToken::new()).await.unwrap(),
        digest
    );
    let fixed = reference.with_digest(digest.clone());
    registry.forget();
    assert_eq!(
        resolve(&fixed, &quick(), CancellationToken::new()).await.unwrap(),
        digest
    );
    assert!(registry.asked().is_empty());
    let error = resolve(&registry.reference("app:nope"), &quick(), CancellationToken::new())
        .await
        .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotFound);
}

#[tokio::test]
async fn damaged_documents_in_the_store_are_fetched_again() {
    let registry = FakeRegistry::start().await;
    let digest = registry.put_image("v1", "linux/amd64", &[b"layer"]);
    let home = Home::new();
    let reference = registry.reference("app:v1").with_digest(digest.clone());
    let image = home.pull(&reference, &quick()).await.unwrap();
    for damaged in [&digest, &image.config_digest] {
        let path = home.store.blob_path(damaged);
        let mut content = std::fs::read(&path).unwrap();
        content[5] ^= 1;
        std::fs::write(&path, content).unwrap();
        assert_eq!(home.pull(&reference, &quick()).await.unwrap(), image);
        home.store.verify(damaged).unwrap();
    }
    std::fs::write(home.store.blob_path(&image.layers[0].digest), b"lay").unwrap();
    assert_eq!(home.pull(&reference, &quick()).await.unwrap(), image);
    home.store.verify(&image.layers[0].digest).unwrap();
}
