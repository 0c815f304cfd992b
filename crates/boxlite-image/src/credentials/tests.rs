use std::path::Path;

use base64::Engine as _;
use proptest::prelude::*;

use super::*;

fn parse(json: &str) -> file::File {
    file::File::parse(Path::new("/x/config.json"), json.as_bytes()).unwrap()
}

fn credentials(file: &file::File, registry: &str, repository: &str) -> Option<Credentials> {
    match file.entry(registry, repository).unwrap() {
        Some(Entry::Credentials(credentials)) => Some(credentials),
        None => None,
        Some(Entry::Helper(name)) => panic!("helper {name}"),
    }
}

fn password(username: &str, password: &str) -> Option<Credentials> {
    Some(Credentials::Password {
        username: username.into(),
        password: password.into(),
    })
}

fn basic(text: &str) -> String {
    base64::engine::general_purpose::STANDARD.encode(text)
}

#[test]
fn entries_are_found_under_every_spelling() {
    let file = parse(&format!(
        r#"{{"auths":{{"https://index.docker.io/v1/":{{"auth":"{hub}"}},
            "quay.io":{{"auth":"{quay}"}}, "quay.io/team":{{"auth":"{team}"}},
            "http://localhost:5000":{{"username":"u","password":"p"}},
            "https://Registry.example/v2/":{{"identitytoken":"idt","auth":"{id}"}},
            "token.example":{{"registrytoken":"bearer"}},
            "empty.example":{{}}}}}}"#,
        hub = basic("hub:a:b"),
        quay = basic("q:1"),
        team = basic("t:2"),
        id = basic("<token>:"),
    ));
    assert_eq!(credentials(&file, "docker.io", "library/x"), password("hub", "a:b"));
    assert_eq!(credentials(&file, "quay.io", "other/x"), password("q", "1"));
    assert_eq!(credentials(&file, "quay.io", "team/x"), password("t", "2"));
    assert_eq!(credentials(&file, "quay.io", "teams/x"), password("q", "1"));
    assert_eq!(credentials(&file, "localhost:5000", "x"), password("u", "p"));
    assert_eq!(
        credentials(&file, "registry.example", "x"),
        Some(Credentials::IdentityToken("idt".into()))
    );
    assert_eq!(
        credentials(&file, "token.example", "x"),
        Some(Credentials::RegistryToken("bearer".into()))
    );
    assert_eq!(credentials(&file, "empty.example", "x"), None);
    assert_eq!(credentials(&file, "localhost:5001", "x"), None);
    assert_eq!(credentials(&file, "evil-quay.io", "x"), None);
}

#[test]
fn helpers_come_first_or_last() {
    let file = parse(&format!(
        r#"{{"auths":{{"a.example":{{"auth":"{}"}},"b.example":{{}}}},
            "credHelpers":{{"own.example":"own"}},"credsStore":"all"}}"#,
        basic("u:p")
    ));
    let helper = |registry: &str| match file.entry(registry, "x").unwrap() {
        Some(Entry::Helper(name)) => Some(name),
        _ => None,
    };
    assert_eq!(helper("own.example").as_deref(), Some("own"));
    assert_eq!(helper("b.example").as_deref(), Some("all"));
    assert_eq!(helper("a.example"), None);
    let evil = parse(r#"{"credsStore":"../../bin/sh"}"#);
    assert!(matches!(evil.entry("x", "y"), Err(CredentialError::HelperName { .. })));
}

#[test]
fn damaged_files_do_not_show_their_secrets() {
    let json = br#"{"auths":{"a":{"auth":["hunter2"]}}}"#;
    let Err(error) = file::File::parse(Path::new("/x/config.json"), json) else {
        panic!("parsed");
    };
    assert!(!format!("{error} {error:?}").contains("hunter2"));
    assert!(error.to_string().contains("/x/config.json"));
    let file = parse(r#"{"auths":{"a":{"auth":"aHVudGVyMg=="}}}"#);
    let error = file.entry("a", "x").unwrap_err();
    assert!(!format!("{error} {error:?}").contains("hunter2"));
    assert!(matches!(error, CredentialError::Entry { .. }));
    assert!(parse("").entry("a", "x").unwrap().is_none());
    assert!(parse(r#"{"auths":null}"#).entry("a", "x").unwrap().is_none());
}

#[test]
fn credentials_show_no_secret() {
    for credentials in [
        Credentials::Password {
            username: "u".into(),
            password: "hunter2".into(),
        },
        Credentials::IdentityToken("hunter2".into()),
        Credentials::RegistryToken("hunter2".into()),
    ] {
        assert!(!format!("{credentials:?}").contains("hunter2"));
    }
}

#[test]
fn files_are_searched_as_podman_and_docker_do() {
    let files = |pairs: &[(&str, &str)]| {
        default_files(|name| {
            pairs
                .iter()
                .find(|(key, _)| *key == name)
                .map(|(_, value)| value.into())
        })
        .into_iter()
        .map(|path| path.display().to_string())
        .collect::<Vec<_>>()
    };
    assert_eq!(files(&[]), Vec::<String>::new());
    assert_eq!(
        files(&[("HOME", "/h")]),
        ["/h/.config/containers/auth.json", "/h/.docker/config.json"]
    );
    assert_eq!(
        files(&[
            ("HOME", "/h"),
            ("REGISTRY_AUTH_FILE", "/a.json"),
            ("XDG_RUNTIME_DIR", "/run/user/1"),
            ("XDG_CONFIG_HOME", "/c"),
            ("DOCKER_CONFIG", "/d"),
        ]),
        [
            "/a.json",
            "/run/user/1/containers/auth.json",
            "/c/containers/auth.json",
            "/d/config.json"
        ]
    );
}

#[tokio::test]
async fn explicit_credentials_are_for_the_origin_only() {
    let source = AuthSource::Explicit(Credentials::RegistryToken("x".into()));
    assert!(look_up(&source, "a", "b", true).await.unwrap().is_some());
    assert!(look_up(&source, "a", "b", false).await.unwrap().is_none());
    assert!(look_up(&AuthSource::Anonymous, "a", "b", true).await.unwrap().is_none());
    let missing = AuthSource::Files(vec!["/nonexistent/auth.json".into()]);
    assert!(matches!(
        look_up(&missing, "a", "b", true).await,
        Err(CredentialError::Read { .. })
    ));
}

proptest! {
    #[test]
    fn any_bytes_parse_or_fail_cleanly(bytes: Vec<u8>, host in ".{0,20}") {
        if let Ok(file) = file::File::parse(Path::new("/x"), &bytes) {
            let _ = file.entry(&host, "x");
        }
    }

    #[test]
    fn any_auth_field_parses_or_fails_cleanly(auth in ".{0,40}") {
        let json = serde_json::json!({"auths": {"a": {"auth": auth}}}).to_string();
        let _ = parse(&json).entry("a", "x");
    }
}
