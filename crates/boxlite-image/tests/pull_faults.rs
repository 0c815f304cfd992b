//! Pulling from registries that refuse, hang, lie and send nonsense.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test that cannot go on fails")]

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use boxlite_image::{
    Digest, DocumentError, ErrorKind, Progress, PullError, Reference, RegistryError, Unreachable, Waiting, pull,
};
use serde_json::json;
use tokio_util::sync::CancellationToken;

use fake::{FakeRegistry, Home, INDEX, MANIFEST, Misdeed, descriptor, image, noise, quick, registry_error};

mod fake;

#[tokio::test]
async fn a_layer_with_a_wrong_digest_is_refused() {
    let registry = FakeRegistry::start().await;
    let layer = noise(3, 1000);
    registry.put_image("v1", "linux/amd64", &[&layer]);
    let lie = noise(4, 1000);
    let layer_digest = Digest::sha256(&layer);
    let wanted = format!("blobs/{layer_digest}");
    registry.misbehave(move |asked| asked.target.contains(&wanted).then(|| Misdeed::Body(lie.clone())));
    let home = Home::new();
    let error = home.pull(&registry.reference("app:v1"), &quick()).await.unwrap_err();
    let RegistryError::Digest { expected, actual, .. } = registry_error(&error) else {
        panic!("{error:?}")
    };
    assert_eq!((expected, actual), (&layer_digest, &Digest::sha256(&noise(4, 1000))));
    assert_eq!(error.kind(), ErrorKind::Corrupt);
    assert!(error.to_string().contains(&layer_digest.to_string()));
    assert!(!home.store.contains(&layer_digest).unwrap());
    assert_eq!(home.unfinished(), 0, "wrong content is not kept");
}

#[tokio::test]
async fn a_manifest_with_a_wrong_digest_is_refused() {
    let registry = FakeRegistry::start().await;
    let digest = registry.put_image("v1", "linux/amd64", &[b"layer"]);
    let other = Digest::sha256(b"other").to_string();
    registry.misbehave(move |asked| {
        asked
            .is_manifest()
            .then(|| Misdeed::Header("Docker-Content-Digest", other.clone()))
    });
    let error = Home::new()
        .pull(&registry.reference("app:v1"), &quick())
        .await
        .unwrap_err();
    assert!(
        matches!(registry_error(&error), RegistryError::Digest { .. }),
        "{error}"
    );
    registry.misbehave(|asked| asked.is_manifest().then(|| Misdeed::Body(b"{}".to_vec())));
    let by_digest = registry.reference("app:v1").with_digest(digest);
    let error = Home::new().pull(&by_digest, &quick()).await.unwrap_err();
    assert!(
        matches!(registry_error(&error), RegistryError::Digest { .. }),
        "{error}"
    );
    registry.misbehave(|asked| {
        asked
            .is_manifest()
            .then(|| Misdeed::Header("Docker-Content-Digest", "sha256:../../x".to_owned()))
    });
    let error = Home::new()
        .pull(&registry.reference("app:v1"), &quick())
        .await
        .unwrap_err();
    assert!(
        matches!(registry_error(&error), RegistryError::Protocol { .. }),
        "{error}"
    );
}

#[tokio::test]
async fn a_truncated_layer_is_refused() {
    let registry = FakeRegistry::start().await;
    let layer = noise(5, 2000);
    registry.put_image("v1", "linux/amd64", &[&layer]);
    let wanted = Digest::sha256(&layer).to_string();
    let short = layer[..1999].to_vec();
    let target = wanted.clone();
    registry.misbehave(move |asked| asked.target.contains(&target).then(|| Misdeed::Body(short.clone())));
    let home = Home::new();
    let error = home.pull(&registry.reference("app:v1"), &quick()).await.unwrap_err();
    assert!(matches!(
        registry_error(&error),
        RegistryError::Size {
            expected_bytes: 2000,
            actual_bytes: 1999,
            ..
        }
    ));
    // Chunked, the length is only known at the end, and every answer to a range is empty.
    let target = wanted.clone();
    registry.misbehave(move |asked| {
        let bytes = if asked.header("range").is_some() { 0 } else { 1500 };
        asked.target.contains(&target).then_some(Misdeed::EndAfter(bytes))
    });
    let error = home.pull(&registry.reference("app:v1"), &quick()).await.unwrap_err();
    let RegistryError::Truncated {
        received_bytes,
        expected_bytes,
        ..
    } = registry_error(&error)
    else {
        panic!("{error:?}")
    };
    assert_eq!((*received_bytes, *expected_bytes), (1500, 2000));
    assert_eq!(error.kind(), ErrorKind::Corrupt);
    // Longer than it should be, announced or not.
    let long = noise(5, 3000);
    for (misdeed, bytes) in [(Misdeed::Body(long.clone()), 3000), (Misdeed::Chunks(long), 3000)] {
        let target = wanted.clone();
        registry.misbehave(move |asked| asked.target.contains(&target).then(|| misdeed.clone()));
        let home = Home::new();
        let error = home.pull(&registry.reference("app:v1"), &quick()).await.unwrap_err();
        let RegistryError::Size {
            actual_bytes,
            expected_bytes: 2000,
            ..
        } = registry_error(&error)
        else {
            panic!("{error:?}")
        };
        assert!(*actual_bytes > 2000 && *actual_bytes <= bytes, "{error}");
        assert_eq!(home.unfinished(), 0, "{error}");
    }
    // The wrong part of it.
    let mut first = true;
    registry.misbehave(move |asked| {
        asked
            .target
            .contains(&wanted)
            .then(|| match std::mem::take(&mut first) {
                true => Misdeed::Cut(500),
                false => Misdeed::Header("Content-Range", "bytes 400-1999/2000".to_owned()),
            })
    });
    let error = Home::new()
        .pull(&registry.reference("app:v1"), &quick())
        .await
        .unwrap_err();
    assert!(
        matches!(registry_error(&error), RegistryError::Protocol { .. }),
        "{error}"
    );
}

#[tokio::test]
async fn trouble_that_passes_is_waited_for() {
    let registry = FakeRegistry::start().await;
    registry.put_image("v1", "linux/amd64", &[b"layer"]);
    let mut trouble = vec![
        Misdeed::status(503),
        Misdeed::Close,
        Misdeed::error(429, "TOOMANYREQUESTS", "slow down").with("Retry-After", "0"),
    ];
    registry.misbehave(move |_| trouble.pop());
    let retries = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&retries);
    let progress = Arc::new(move |event| {
        if matches!(event, Progress::Retrying { .. }) {
            count.fetch_add(1, Ordering::Relaxed);
        }
    });
    let home = Home::new();
    let reference = registry.reference("app:v1");
    pull(&home.store, &reference, &quick(), progress, CancellationToken::new())
        .await
        .unwrap();
    assert_eq!(retries.load(Ordering::Relaxed), 3);
}

#[tokio::test]
async fn trouble_that_stays_ends_in_an_error() {
    let registry = FakeRegistry::start().await;
    registry.misbehave(|_| Some(Misdeed::error(500, "UNKNOWN", "disk on\nfire \u{1b}[31m")));
    let error = Home::new()
        .pull(&registry.reference("app:v1"), &quick())
        .await
        .unwrap_err();
    let text = error.to_string();
    assert!(text.contains("HTTP status 500: UNKNOWN: disk on fire [31m"), "{text}");
    assert!(
        text.contains(&format!("http://{}/v2/app/manifests/v1", registry.host())),
        "{text}"
    );
    assert_eq!(registry.asked().len(), 4, "as many attempts as the policy says");
    registry.forget();
    registry.misbehave(|_| Some(Misdeed::status(429).with("Retry-After", "3600")));
    let error = Home::new()
        .pull(&registry.reference("app:v1"), &quick())
        .await
        .unwrap_err();
    assert_eq!(registry.asked().len(), 1);
    assert!(
        error.evidence().iter().any(|line| line.contains("3600 s")),
        "{:?}",
        error.evidence()
    );
    assert!(error.hint().unwrap().contains("docker login"));
}

#[tokio::test]
async fn what_does_not_exist_is_not_found() {
    let registry = FakeRegistry::start().await;
    let error = Home::new()
        .pull(&registry.reference("app:nope"), &quick())
        .await
        .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotFound);
    assert!(
        error.to_string().contains("MANIFEST_UNKNOWN: manifest unknown"),
        "{error}"
    );
    assert_eq!(registry.asked().len(), 1, "what does not exist is not asked for again");
}

#[tokio::test]
async fn a_host_that_refuses_or_has_no_address_is_named() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    drop(listener);
    let reference = Reference::parse(&format!("{address}/app")).unwrap();
    let error = Home::new().pull(&reference, &quick()).await.unwrap_err();
    let RegistryError::Unreachable { problem, .. } = registry_error(&error) else {
        panic!("{error:?}")
    };
    assert_eq!(*problem, Unreachable::Refused);
    assert!(error.to_string().contains(&address.to_string()), "{error}");
    let reference = Reference::parse("registry.invalid/app").unwrap();
    let error = Home::new().pull(&reference, &quick()).await.unwrap_err();
    let RegistryError::Unreachable { problem, .. } = registry_error(&error) else {
        panic!("{error:?}")
    };
    assert_eq!(*problem, Unreachable::Resolve);
    assert_eq!(error.kind(), ErrorKind::Network);
}

#[tokio::test]
async fn a_registry_that_hangs_is_given_up() {
    let registry = FakeRegistry::start().await;
    let layer = noise(11, 100_000);
    registry.put_image("v1", "linux/amd64", &[&layer]);
    let mut options = quick();
    options.retry.attempts = 2;
    options.timeouts.answer = Duration::from_millis(300);
    options.plain_http = vec![registry.host()];
    registry.misbehave(|asked| asked.is_manifest().then_some(Misdeed::Hang));
    let home = Home::new();
    let error = home.pull(&registry.reference("app:v1"), &options).await.unwrap_err();
    let RegistryError::Timeout { waiting_for, .. } = registry_error(&error) else {
        panic!("{error:?}")
    };
    assert_eq!((*waiting_for, error.kind()), (Waiting::Answer, ErrorKind::Timeout));
    assert_eq!(registry.asked().len(), 2);
    let wanted = Digest::sha256(&layer).to_string();
    options.timeouts.answer = Duration::from_secs(5);
    options.timeouts.idle = Duration::from_millis(300);
    registry.misbehave(move |asked| asked.target.contains(&wanted).then_some(Misdeed::HangAfter(1000)));
    let error = home.pull(&registry.reference("app:v1"), &options).await.unwrap_err();
    let RegistryError::Timeout { waiting_for, .. } = registry_error(&error) else {
        panic!("{error:?}")
    };
    assert_eq!(*waiting_for, Waiting::Body);
}

#[tokio::test]
async fn what_is_no_image_is_refused_before_layers_are_fetched() {
    let registry = FakeRegistry::start().await;
    let pull = async |tag: &str| {
        Home::new()
            .pull(&registry.reference(&format!("app:{tag}")), &quick())
            .await
            .unwrap_err()
    };
    let schema1 = json!({"schemaVersion": 1, "name": "app", "fsLayers": []}).to_string();
    let media_type = "application/vnd.docker.distribution.manifest.v1+prettyjws";
    registry.put_manifest("old", media_type, schema1.as_bytes());
    let error = pull("old").await;
    assert!(
        matches!(
            error,
            PullError::Document {
                source: DocumentError::Schema1,
                ..
            }
        ),
        "{error:?}"
    );
    assert_eq!(error.kind(), ErrorKind::Unsupported);

    let (json, _) = image("linux/amd64", &[]);
    let mut chart: serde_json::Value = serde_json::from_slice(&json).unwrap();
    chart["config"]["mediaType"] = "application/vnd.cncf.helm.config.v1+json".into();
    registry.put_manifest("chart", MANIFEST, chart.to_string().as_bytes());
    assert!(pull("chart").await.to_string().contains("helm"));

    registry.put_manifest("huge", MANIFEST, &vec![b' '; (4 << 20) + 1]);
    let error = pull("huge").await;
    assert_eq!(error.kind(), ErrorKind::TooLarge);
    assert!(matches!(registry_error(&error), RegistryError::TooLarge { .. }));

    let layers = vec![&b"x"[..]; 128];
    registry.put_image("layers", "linux/amd64", &layers);
    let error = pull("layers").await;
    assert!(matches!(
        error,
        PullError::Document {
            source: DocumentError::TooManyLayers { layers: 128, .. },
            ..
        }
    ));

    let (json, blobs) = image("linux/amd64", &[b"one", b"two"]);
    let mut fewer: serde_json::Value = serde_json::from_slice(&json).unwrap();
    fewer["layers"].as_array_mut().unwrap().pop();
    registry.put_blob(blobs.last().unwrap());
    registry.put_manifest("fewer", MANIFEST, fewer.to_string().as_bytes());
    let error = pull("fewer").await;
    let expected = DocumentError::LayerCount { layers: 1, diff_ids: 2 };
    assert!(
        matches!(&error, PullError::Document { source, .. } if *source == expected),
        "{error:?}"
    );

    // An index in itself would go on for ever if digests allowed it; deep ones end.
    let mut inner = json!({"schemaVersion": 2, "mediaType": INDEX, "manifests": []}).to_string();
    for _ in 0..6 {
        registry.put_manifest("deep", INDEX, inner.as_bytes());
        let entry = descriptor(INDEX, inner.as_bytes());
        inner = json!({"schemaVersion": 2, "mediaType": INDEX, "manifests": [entry]}).to_string();
    }
    assert!(matches!(pull("deep").await, PullError::NestedIndexes { .. }));
    assert!(registry.blobs_asked().len() <= 1, "only a config was fetched");
}

#[tokio::test]
async fn an_image_larger_than_the_disk_is_refused_early() {
    let registry = FakeRegistry::start().await;
    let (json, blobs) = image("linux/amd64", &[b"layer"]);
    for blob in &blobs {
        registry.put_blob(blob);
    }
    let mut huge: serde_json::Value = serde_json::from_slice(&json).unwrap();
    huge["layers"][0]["size"] = (1u64 << 60).into();
    registry.put_manifest("huge", MANIFEST, huge.to_string().as_bytes());
    let mut options = quick();
    let home = Home::new();
    let error = home.pull(&registry.reference("app:huge"), &options).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::TooLarge, "{error}");
    options.limits.image_bytes = u64::MAX;
    let error = home.pull(&registry.reference("app:huge"), &options).await.unwrap_err();
    assert!(
        matches!(error, PullError::NoSpace { needed_bytes, .. } if needed_bytes == 1 << 60),
        "{error:?}"
    );
}

#[tokio::test]
async fn redirects_are_followed_with_care() {
    let (registry, storage) = (FakeRegistry::start().await, FakeRegistry::start().await);
    registry.put_image("v1", "linux/amd64", &[b"layer"]);
    storage.put_image("v1", "linux/amd64", &[b"layer"]);
    let target = format!("http://{}", storage.host());
    registry.misbehave(move |asked| {
        asked
            .is_blob()
            .then(|| Misdeed::redirect(&format!("{target}{}?signature=s3cret", asked.target)))
    });
    Home::new().pull(&registry.reference("app:v1"), &quick()).await.unwrap();
    assert_eq!(storage.blobs_asked().len(), 2);
    // The signature is as good as a password.
    storage.misbehave(|_| Some(Misdeed::status(403)));
    let error = Home::new()
        .pull(&registry.reference("app:v1"), &quick())
        .await
        .unwrap_err();
    assert!(!format!("{error} {error:?}").contains("s3cret"), "{error:?}");
    assert!(error.to_string().contains(&storage.host()));
    registry.misbehave(|asked| Some(Misdeed::redirect(&asked.target)));
    let error = Home::new()
        .pull(&registry.reference("app:v1"), &quick())
        .await
        .unwrap_err();
    assert!(
        matches!(registry_error(&error), RegistryError::Redirect { .. }),
        "{error:?}"
    );
    assert!(registry.asked().len() < 30);
    registry.misbehave(|asked| asked.is_blob().then(|| Misdeed::status(307)));
    let error = Home::new()
        .pull(&registry.reference("app:v1"), &quick())
        .await
        .unwrap_err();
    assert!(error.to_string().contains("redirects to nowhere"), "{error}");
}
