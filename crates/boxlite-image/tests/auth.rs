//! Proving who asks, to registries that demand it.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test that cannot go on fails")]

use base64::Engine as _;
use boxlite_image::{
    AuthSource, ChallengeProblem, CredentialError, Credentials, ErrorKind, PullError, PullOptions, RegistryError, Tried,
};
use serde_json::json;

use fake::{Asked, FakeRegistry, Home, Misdeed, quick, registry_error};

mod fake;

const SECRET: &str = "hunter2-and-more";

fn password() -> AuthSource {
    AuthSource::Explicit(Credentials::Password {
        username: "ann".into(),
        password: SECRET.into(),
    })
}

fn basic() -> String {
    format!(
        "Basic {}",
        base64::engine::general_purpose::STANDARD.encode(format!("ann:{SECRET}"))
    )
}

fn with(auth: AuthSource) -> PullOptions {
    PullOptions { auth, ..quick() }
}

fn shows_no_secret(error: &PullError) {
    let evidence = error.evidence().join("\n");
    let text = format!("{error}\n{error:?}\n{evidence}\n{:?}", error.hint());
    for secret in [SECRET, &basic()[6..], "t0ken"] {
        assert!(!text.contains(secret), "{text}");
    }
}

fn token(body: serde_json::Value) -> Misdeed {
    Misdeed::Answer {
        status: 200,
        headers: vec![],
        body: body.to_string().into_bytes(),
    }
}

/// Makes a registry demand bearer tokens, which it gives out to whom `admits` lets.
fn demand_tokens(registry: &FakeRegistry, admits: impl Fn(&Asked) -> bool + Send + 'static) {
    let host = registry.host();
    registry.misbehave(move |asked| {
        if asked.target.starts_with("/token") {
            return Some(if admits(asked) {
                token(json!({"token": "t0ken", "expires_in": 60}))
            } else {
                Misdeed::error(401, "UNAUTHORIZED", "incorrect username or password")
            });
        }
        let challenge =
            format!(r#"Bearer realm="http://{host}/token?x=y",service="fake registry",scope="repository:*:*""#);
        (asked.header("authorization") != Some("Bearer t0ken")).then(|| Misdeed::challenge(&challenge))
    });
}

fn tokens_asked(registry: &FakeRegistry) -> Vec<Asked> {
    registry
        .asked()
        .into_iter()
        .filter(|asked| asked.target.starts_with("/token"))
        .collect()
}

#[tokio::test]
async fn an_anonymous_token_serves_the_whole_pull() {
    let registry = FakeRegistry::start().await;
    registry.put_image("v1", "linux/amd64", &[b"one", b"two", b"three"]);
    demand_tokens(&registry, |_| true);
    Home::new()
        .pull(&registry.reference("team/app:v1"), &quick())
        .await
        .unwrap();
    let asked = tokens_asked(&registry);
    assert_eq!(asked.len(), 1);
    assert_eq!(
        asked[0].target,
        "/token?x=y&service=fake+registry&scope=repository%3Ateam%2Fapp%3Apull"
    );
    assert_eq!(asked[0].header("authorization"), None);
}

#[tokio::test]
async fn a_token_is_had_for_a_password() {
    let registry = FakeRegistry::start().await;
    registry.put_image("v1", "linux/amd64", &[b"layer"]);
    demand_tokens(&registry, |asked| asked.header("authorization") == Some(&basic()));
    let reference = registry.reference("app:v1");
    Home::new().pull(&reference, &with(password())).await.unwrap();
    assert!(tokens_asked(&registry)[0].target.contains("account=ann"));

    let error = Home::new().pull(&reference, &quick()).await.unwrap_err();
    let RegistryError::Unauthorized { tried, status: 401, .. } = registry_error(&error) else {
        panic!("{error:?}")
    };
    assert_eq!((tried, error.kind()), (&Tried::Anonymous, ErrorKind::Unauthorized));
    let login = format!("docker login {}", registry.host());
    assert!(error.hint().unwrap().contains(&login), "{:?}", error.hint());

    let wrong = AuthSource::Explicit(Credentials::Password {
        username: "bob".into(),
        password: SECRET.into(),
    });
    let error = Home::new().pull(&reference, &with(wrong)).await.unwrap_err();
    assert!(matches!(
        registry_error(&error),
        RegistryError::Unauthorized {
            tried: Tried::Credentials { .. },
            ..
        }
    ));
    assert!(error.to_string().contains("incorrect username or password"), "{error}");
    shows_no_secret(&error);
}

#[tokio::test]
async fn an_expired_token_is_renewed_once() {
    let registry = FakeRegistry::start().await;
    registry.put_image("v1", "linux/amd64", &[b"one", b"two", b"three", b"four"]);
    let host = registry.host();
    let (mut issued, mut served) = (0, 0);
    registry.misbehave(move |asked| {
        if asked.target.starts_with("/token") {
            issued += 1;
            return Some(token(json!({"access_token": format!("t0ken-{issued}")})));
        }
        // The first token is good for the manifest and the config; then all layers need
        // another at the same time.
        let good = match asked.header("authorization") {
            Some("Bearer t0ken-1") => served < 2,
            Some("Bearer t0ken-2") => true,
            _ => false,
        };
        served += usize::from(good);
        (!good).then(|| Misdeed::challenge(&format!("Bearer realm=\"http://{host}/token\"")))
    });
    Home::new().pull(&registry.reference("app:v1"), &quick()).await.unwrap();
    assert_eq!(tokens_asked(&registry).len(), 2);
}

#[tokio::test]
async fn an_identity_token_is_exchanged() {
    let registry = FakeRegistry::start().await;
    registry.put_image("v1", "linux/amd64", &[b"layer"]);
    demand_tokens(&registry, |asked| {
        asked.method == "POST"
            && asked.header("content-type") == Some("application/x-www-form-urlencoded")
            && asked.body.contains("grant_type=refresh_token")
            && asked.body.contains(&format!("refresh_token={SECRET}"))
            && asked.body.contains("scope=repository%3Aapp%3Apull")
    });
    let auth = AuthSource::Explicit(Credentials::IdentityToken(SECRET.into()));
    Home::new()
        .pull(&registry.reference("app:v1"), &with(auth))
        .await
        .unwrap();
    let auth = AuthSource::Explicit(Credentials::RegistryToken("t0ken".into()));
    registry.forget();
    Home::new()
        .pull(&registry.reference("app:v1"), &with(auth))
        .await
        .unwrap();
    assert!(tokens_asked(&registry).is_empty());
}

#[tokio::test]
async fn basic_authentication() {
    let registry = FakeRegistry::start().await;
    registry.put_image("v1", "linux/amd64", &[b"layer"]);
    registry.misbehave(|asked| {
        (asked.header("authorization") != Some(&basic())).then(|| Misdeed::challenge("Basic realm=\"fake\""))
    });
    let reference = registry.reference("app:v1");
    Home::new().pull(&reference, &with(password())).await.unwrap();
    let error = Home::new().pull(&reference, &quick()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unauthorized);
    let wrong = AuthSource::Explicit(Credentials::Password {
        username: "ann".into(),
        password: "wrong".into(),
    });
    let error = Home::new().pull(&reference, &with(wrong)).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unauthorized);
    assert!(
        registry.asked().len() < 12,
        "wrong credentials are not tried again and again"
    );
}

#[tokio::test]
async fn credentials_come_from_the_files_of_docker_and_podman() {
    let registry = FakeRegistry::start().await;
    registry.put_image("v1", "linux/amd64", &[b"layer"]);
    demand_tokens(&registry, |asked| asked.header("authorization") == Some(&basic()));
    let dir = tempfile::tempdir().unwrap();
    let good = dir.path().join("config.json");
    let auths = json!({"auths": {format!("http://{}/v2/", registry.host()): {"auth": &basic()[6..]}}});
    std::fs::write(&good, auths.to_string()).unwrap();
    let other = dir.path().join("auth.json");
    std::fs::write(&other, r#"{"auths":{"other.example":{"auth":"eDp5"}}}"#).unwrap();
    let reference = registry.reference("app:v1");
    let options = with(AuthSource::Files(vec![other.clone(), good]));
    Home::new().pull(&reference, &options).await.unwrap();

    std::fs::write(
        &other,
        format!(r#"{{"auths":{{"{}":{{"auth":"{SECRET}"}}}}}}"#, registry.host()),
    )
    .unwrap();
    let error = Home::new()
        .pull(&reference, &with(AuthSource::Files(vec![other])))
        .await
        .unwrap_err();
    let RegistryError::Unauthorized {
        credential_error: Some(cause),
        ..
    } = registry_error(&error)
    else {
        panic!("{error:?}")
    };
    assert!(matches!(**cause, CredentialError::Entry { .. }));
    assert!(error.evidence()[0].contains("auth.json"));
    shows_no_secret(&error);
}

#[tokio::test]
async fn hostile_challenges_get_no_credentials() {
    let (registry, thief) = (FakeRegistry::start().await, FakeRegistry::start().await);
    registry.put_image("v1", "linux/amd64", &[b"layer"]);
    let reference = registry.reference("app:v1");
    let thief_port = thief.address.port();
    // Another host (as far as names go) without TLS: what would be sent could be read.
    let realms = [
        (format!("http://localhost:{thief_port}/token"), "insecure"),
        ("http://169.254.169.254/latest".to_owned(), "insecure"),
        ("ftp://127.0.0.1/token".to_owned(), "insecure"),
        (format!("https://a:b@127.0.0.1:{thief_port}/"), "malformed"),
        ("/token".to_owned(), "malformed"),
    ];
    for (realm, problem) in realms {
        let challenge = format!("Bearer realm=\"{realm}\"");
        registry.misbehave(move |_| Some(Misdeed::challenge(&challenge)));
        let error = Home::new().pull(&reference, &with(password())).await.unwrap_err();
        let RegistryError::Challenge { problem: found, .. } = registry_error(&error) else {
            panic!("{error:?}")
        };
        match problem {
            "insecure" => assert!(
                matches!(found, ChallengeProblem::RealmInsecure { .. }),
                "{realm}: {found}"
            ),
            _ => assert_eq!(*found, ChallengeProblem::RealmMalformed, "{realm}"),
        }
        shows_no_secret(&error);
    }
    assert!(thief.asked().is_empty());
    for (challenge, expected) in [("Negotiate", ErrorKind::Unauthorized), ("", ErrorKind::Unauthorized)] {
        registry.misbehave(move |_| Some(Misdeed::challenge(challenge)));
        let error = Home::new().pull(&reference, &with(password())).await.unwrap_err();
        assert_eq!(error.kind(), expected, "{error:?}");
    }
    // A token that can't be put into a header, and none at all.
    for body in [
        json!({"token": "a\r\nX-Evil: 1"}),
        json!({"token": ""}),
        json!({}),
        json!([]),
    ] {
        let host = registry.host();
        registry.misbehave(move |asked| {
            Some(match asked.target.starts_with("/token") {
                true => token(body.clone()),
                false => Misdeed::challenge(&format!("Bearer realm=\"http://{host}/token\"")),
            })
        });
        let error = Home::new().pull(&reference, &quick()).await.unwrap_err();
        assert!(
            matches!(
                registry_error(&error),
                RegistryError::Challenge {
                    problem: ChallengeProblem::NoToken { .. },
                    ..
                }
            ),
            "{error:?}"
        );
    }
}

#[tokio::test]
async fn credentials_go_to_no_other_host() {
    let (registry, storage) = (FakeRegistry::start().await, FakeRegistry::start().await);
    registry.put_image("v1", "linux/amd64", &[b"layer"]);
    storage.put_image("v1", "linux/amd64", &[b"layer"]);
    let target = storage.host();
    registry.misbehave(move |asked| {
        if asked.header("authorization") != Some(&basic()) {
            return Some(Misdeed::challenge("Basic realm=x"));
        }
        asked
            .is_blob()
            .then(|| Misdeed::redirect(&format!("http://ann:{SECRET}@{target}{}", asked.target)))
    });
    Home::new()
        .pull(&registry.reference("app:v1"), &with(password()))
        .await
        .unwrap();
    assert!(!storage.asked().is_empty());
    assert!(
        storage
            .asked()
            .iter()
            .all(|asked| asked.header("authorization").is_none())
    );
    // A storage that wants credentials as well gets none and is not asked again.
    storage.forget();
    storage.misbehave(|_| Some(Misdeed::challenge("Basic realm=x")));
    let error = Home::new()
        .pull(&registry.reference("app:v1"), &with(password()))
        .await
        .unwrap_err();
    assert!(
        storage
            .asked()
            .iter()
            .all(|asked| asked.header("authorization").is_none())
    );
    shows_no_secret(&error);
    // A mirror is another host too: explicit credentials are for the registry.
    let mirror = FakeRegistry::start().await;
    mirror.misbehave(|_| Some(Misdeed::challenge("Basic realm=x")));
    let mut options = with(password());
    options
        .mirrors
        .insert(registry.host(), vec![format!("http://{}", mirror.host())]);
    storage.misbehave(|_| None);
    Home::new().pull(&registry.reference("app:v1"), &options).await.unwrap();
    assert!(!mirror.asked().is_empty());
    assert!(
        mirror
            .asked()
            .iter()
            .all(|asked| asked.header("authorization").is_none())
    );
}
