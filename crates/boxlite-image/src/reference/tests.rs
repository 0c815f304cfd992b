use proptest::prelude::*;

use super::*;

const DIGEST: &str = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

#[test]
fn names_are_completed_and_shortened() {
    for (text, full, familiar) in [
        ("alpine", "docker.io/library/alpine:latest", "alpine:latest"),
        ("alpine:3.20", "docker.io/library/alpine:3.20", "alpine:3.20"),
        ("user/tool", "docker.io/user/tool:latest", "user/tool:latest"),
        ("docker.io/alpine", "docker.io/library/alpine:latest", "alpine:latest"),
        (
            "index.docker.io/library/alpine:1",
            "docker.io/library/alpine:1",
            "alpine:1",
        ),
        ("localhost/x", "localhost/x:latest", "localhost/x:latest"),
        ("localhost:5000/x:y", "localhost:5000/x:y", "localhost:5000/x:y"),
        ("quay.io/a/b/c", "quay.io/a/b/c:latest", "quay.io/a/b/c:latest"),
        ("127.0.0.1:5000/x", "127.0.0.1:5000/x:latest", "127.0.0.1:5000/x:latest"),
        ("[::1]:5000/x:1", "[::1]:5000/x:1", "[::1]:5000/x:1"),
        ("[2001:db8::1]/x", "[2001:db8::1]/x:latest", "[2001:db8::1]/x:latest"),
        ("Host/x", "Host/x:latest", "Host/x:latest"),
        (
            "a__b/c--d.e_f",
            "docker.io/a__b/c--d.e_f:latest",
            "a__b/c--d.e_f:latest",
        ),
        ("localhost", "docker.io/library/localhost:latest", "localhost:latest"),
        ("docker.io/a.b/c", "docker.io/a.b/c:latest", "docker.io/a.b/c:latest"),
    ] {
        let reference = Reference::parse(text).unwrap_or_else(|e| panic!("{text}: {e}"));
        assert_eq!(reference.to_string(), full, "{text}");
        assert_eq!(reference.familiar(), familiar, "{text}");
    }
}

#[test]
fn digests_replace_the_default_tag() {
    let both = Reference::parse(&format!("alpine:3@{DIGEST}")).unwrap();
    assert_eq!(
        (both.tag(), both.digest().unwrap().to_string()),
        (Some("3"), DIGEST.to_owned())
    );
    let only = Reference::parse(&format!("alpine@{DIGEST}")).unwrap();
    assert_eq!(only.tag(), None);
    assert_eq!(only.to_string(), format!("docker.io/library/alpine@{DIGEST}"));
    assert_eq!(both.with_digest(both.digest().unwrap().clone()), only);
}

#[test]
fn the_default_registry_is_the_callers() {
    let parse = |text| Reference::parse_with(text, "registry.example:5000").map(|r| r.to_string());
    assert_eq!(parse("alpine").unwrap(), "registry.example:5000/alpine:latest");
    assert_eq!(parse("docker.io/alpine").unwrap(), "docker.io/library/alpine:latest");
    assert!(matches!(
        Reference::parse_with("alpine", "not a host"),
        Err(ReferenceError::Registry { .. })
    ));
}

#[test]
fn malformed_references_say_what_is_wrong() {
    let fails = |text: &str| Reference::parse(text).expect_err(text);
    assert!(matches!(fails(""), ReferenceError::Empty));
    assert!(matches!(fails("Alpine"), ReferenceError::Uppercase { .. }));
    assert!(matches!(fails("user/Tool"), ReferenceError::Uppercase { .. }));
    assert!(matches!(fails(&"a".repeat(64)), ReferenceError::Identifier { .. }));
    assert!(matches!(
        fails(&format!("x/{}", "y".repeat(255))),
        ReferenceError::NameTooLong { .. }
    ));
    assert!(matches!(fails("alpine@sha256:abc"), ReferenceError::Digest { .. }));
    assert!(matches!(fails("alpine@md5:abc"), ReferenceError::Digest { .. }));
    for text in [
        "alpine:",
        "alpine:.x",
        "alpine:-x",
        "alpine:a b",
        &format!("a:{}", "t".repeat(129)),
    ] {
        assert!(matches!(fails(text), ReferenceError::Tag { .. }), "{text}");
    }
    for text in [
        "a//b", "/a", "a/", "_a", "a_", "a___b", "a..b", "a/../b", "a b", "é", "a/-b", "@x",
    ] {
        let error = Reference::parse(text).expect_err(text);
        assert!(
            matches!(error, ReferenceError::Component { .. } | ReferenceError::Digest { .. }),
            "{text}: {error}"
        );
    }
    for text in [
        "host.:1/x",
        "-a.b/x",
        "a.b-/x",
        "host:/x",
        "host:99999/x",
        "host:1a/x",
        "[::1/x",
        "[::g]/x",
        "[::1]x/y",
        "[::1]:/y",
        "a.b..c/x",
        "https://host/x",
    ] {
        assert!(matches!(fails(text), ReferenceError::Registry { .. }), "{text}");
    }
    assert!(Reference::parse(&format!("a:{}", "t".repeat(128))).is_ok());
    assert!(fails("user/Tool").hint().contains("user/tool"));
}

fn component() -> impl Strategy<Value = String> {
    "[a-z0-9]{1,5}((\\.|_|__|-{1,3})[a-z0-9]{1,4}){0,2}"
}

fn registry() -> impl Strategy<Value = String> {
    prop_oneof![
        Just("localhost".to_owned()),
        "[a-z0-9]{1,5}(\\.[a-z0-9]{1,4}){1,3}",
        "[a-z]{1,5}:[1-9][0-9]{0,3}",
        Just("[::1]:5000".to_owned()),
        Just("[2001:db8::7]".to_owned()),
    ]
}

#[test]
fn capitals_in_a_host_read_back() {
    for (text, registry, repository) in [
        ("BuildHost/a", "BuildHost", "a"),
        ("Registry.Example/a", "registry.example", "a"),
        ("LocalHost/a", "localhost", "a"),
        ("Index.Docker.io/a", "docker.io", "library/a"),
    ] {
        let reference = Reference::parse(text).unwrap();
        assert_eq!((reference.registry(), reference.repository()), (registry, repository));
        assert_eq!(Reference::parse(&reference.to_string()).unwrap(), reference);
        assert_eq!(Reference::parse(&reference.familiar()).unwrap(), reference);
    }
}

proptest! {
    #[test]
    fn what_is_built_by_the_grammar_parses_to_its_parts(
        registry in registry(),
        path in proptest::collection::vec(component(), 1..4),
        tag in proptest::option::of("[A-Za-z0-9_][A-Za-z0-9_.-]{0,20}"),
        digest in proptest::option::of(any::<[u8; 4]>()),
    ) {
        let digest = digest.map(|bytes| Digest::sha256(&bytes));
        let mut text = format!("{registry}/{}", path.join("/"));
        if let Some(tag) = &tag { text += &format!(":{tag}"); }
        if let Some(digest) = &digest { text += &format!("@{digest}"); }
        let reference = Reference::parse(&text).unwrap();
        prop_assert_eq!(reference.registry(), registry);
        prop_assert_eq!(reference.repository(), path.join("/"));
        let default = (tag.is_none() && digest.is_none()).then_some("latest");
        prop_assert_eq!(reference.tag(), tag.as_deref().or(default));
        prop_assert_eq!(reference.digest(), digest.as_ref());
    }

    #[test]
    fn every_form_of_a_reference_reads_back(text in "[a-zA-Z0-9.:/@_\\[\\]-]{1,40}") {
        if let Ok(reference) = Reference::parse(&text) {
            prop_assert_eq!(&Reference::parse(&reference.to_string()).unwrap(), &reference);
            prop_assert_eq!(&Reference::parse(&reference.familiar()).unwrap(), &reference);
            let json = serde_json::to_string(&reference).unwrap();
            prop_assert_eq!(serde_json::from_str::<Reference>(&json).unwrap(), reference);
        }
    }

    #[test]
    fn any_text_parses_or_fails_cleanly(text in ".{0,400}") {
        if let Err(error) = Reference::parse(&text) {
            prop_assert!(error.to_string().len() < 4000);
        }
    }
}
