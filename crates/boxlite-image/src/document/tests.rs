use proptest::prelude::*;
use serde_json::json;

use super::*;
use crate::Limits;

fn descriptor(media_type: &str, content: &[u8]) -> serde_json::Value {
    json!({"mediaType": media_type, "digest": Digest::sha256(content), "size": content.len()})
}

fn manifest(layers: usize) -> serde_json::Value {
    let layer = descriptor(Compression::Gzip.layer_media_type(), b"layer");
    json!({
        "schemaVersion": 2, "mediaType": OCI_MANIFEST,
        "config": descriptor(OCI_CONFIG, b"config"), "layers": vec![layer; layers],
    })
}

fn parse(document: &serde_json::Value, announced: Option<&str>) -> Result<Document, DocumentError> {
    Document::parse(document.to_string().as_bytes(), announced)
}

#[test]
fn manifests_and_indexes_are_told_apart() {
    assert!(matches!(parse(&manifest(2), None), Ok(Document::Manifest(m)) if m.layers.len() == 2));
    assert!(matches!(
        parse(&manifest(0), Some("application/json; charset=utf-8")),
        Ok(Document::Manifest(_))
    ));
    let mut untyped = manifest(1);
    untyped.as_object_mut().unwrap().remove("mediaType");
    assert!(matches!(parse(&untyped, None), Ok(Document::Manifest(_))));
    let index = json!({"schemaVersion": 2, "manifests": [descriptor(OCI_MANIFEST, b"m")]});
    assert!(matches!(parse(&index, None), Ok(Document::Index(_))));
    assert!(matches!(parse(&index, Some(DOCKER_INDEX)), Ok(Document::Index(_))));
    let both = json!({"schemaVersion": 2, "manifests": [], "layers": []});
    assert!(matches!(parse(&both, None), Err(DocumentError::MediaType { .. })));
}

#[test]
fn what_is_no_image_says_what_it_is() {
    assert_eq!(
        parse(&json!({"schemaVersion": 1, "fsLayers": []}), None),
        Err(DocumentError::Schema1)
    );
    let announced = "application/vnd.docker.distribution.manifest.v1+prettyjws";
    assert_eq!(parse(&manifest(1), Some(announced)), Err(DocumentError::Schema1));
    let mut chart = manifest(1);
    chart["config"]["mediaType"] = "application/vnd.cncf.helm.config.v1+json".into();
    assert!(matches!(
        parse(&chart, None),
        Err(DocumentError::Artifact { artifact_type }) if artifact_type.contains("helm")
    ));
    let other = json!({"schemaVersion": 2, "mediaType": "text/plain"});
    assert!(matches!(parse(&other, None), Err(DocumentError::MediaType { .. })));
    assert!(matches!(
        parse(&manifest(1), Some(OCI_INDEX)),
        Err(DocumentError::Mismatch { .. })
    ));
    assert!(matches!(parse(&json!([]), None), Err(DocumentError::Json { .. })));
    let mut negative = manifest(1);
    negative["layers"][0]["size"] = (-1).into();
    assert!(matches!(parse(&negative, None), Err(DocumentError::Json { .. })));
    let mut deep = "[".repeat(100_000);
    deep.push('1');
    assert!(matches!(
        Document::parse(deep.as_bytes(), None),
        Err(DocumentError::Json { .. })
    ));
}

#[test]
fn limits_are_checked_before_anything_is_fetched() {
    let check = |document: &serde_json::Value| match parse(document, None) {
        Ok(Document::Manifest(manifest)) => manifest.check(&Limits::default()),
        other => panic!("{other:?}"),
    };
    assert_eq!(check(&manifest(127)), Ok(()));
    assert_eq!(
        check(&manifest(128)),
        Err(DocumentError::TooManyLayers {
            layers: 128,
            limit: 127
        })
    );
    let mut huge = manifest(3);
    for layer in huge["layers"].as_array_mut().unwrap() {
        layer["size"] = u64::MAX.into();
    }
    assert!(matches!(
        check(&huge),
        Err(DocumentError::ImageTooLarge { bytes: u64::MAX, .. })
    ));
    let mut config = manifest(1);
    config["config"]["size"] = (5u64 << 20).into();
    assert!(matches!(check(&config), Err(DocumentError::TooLong { .. })));
    let mut layer = manifest(1);
    layer["layers"][0]["mediaType"] = "application/vnd.in-toto+json".into();
    assert!(matches!(check(&layer), Err(DocumentError::LayerMediaType { .. })));
}

#[test]
fn attestations_are_recognised() {
    let mut value = descriptor(OCI_MANIFEST, b"x");
    value["platform"] = json!({"os": "unknown", "architecture": "unknown"});
    let unknown: Descriptor = serde_json::from_value(value.clone()).unwrap();
    assert!(unknown.is_attestation());
    value["platform"] = json!({"os": "linux", "architecture": "amd64"});
    let image: Descriptor = serde_json::from_value(value.clone()).unwrap();
    assert!(!image.is_attestation());
    value["annotations"] = json!({"vnd.docker.reference.type": "attestation-manifest"});
    let annotated: Descriptor = serde_json::from_value(value).unwrap();
    assert!(annotated.is_attestation());
}

/// A manifest with one value replaced by any other JSON.
fn mutated() -> impl Strategy<Value = Vec<u8>> {
    let leaf = prop_oneof![
        Just(json!(null)),
        any::<i64>().prop_map(|n| json!(n)),
        any::<f64>().prop_map(|n| json!(n)),
        ".{0,20}".prop_map(|s| json!(s)),
        Just(json!([])),
        Just(json!({})),
    ];
    let place = prop_oneof![
        Just("/schemaVersion"),
        Just("/mediaType"),
        Just("/config"),
        Just("/config/digest"),
        Just("/config/size"),
        Just("/layers"),
        Just("/layers/0"),
        Just("/layers/0/digest"),
        Just("/layers/0/mediaType"),
    ];
    (leaf, place).prop_map(|(leaf, place)| {
        let mut document = manifest(1);
        *document.pointer_mut(place).unwrap() = leaf;
        document.to_string().into_bytes()
    })
}

proptest! {
    #[test]
    fn any_bytes_parse_or_fail_cleanly(bytes: Vec<u8>, announced in proptest::option::of(".{0,30}")) {
        let _ = Document::parse(&bytes, announced.as_deref());
    }

    #[test]
    fn damaged_manifests_never_panic(bytes in mutated()) {
        if let Ok(Document::Manifest(manifest)) = Document::parse(&bytes, None) {
            let _ = manifest.check(&Limits::default());
        }
    }
}
