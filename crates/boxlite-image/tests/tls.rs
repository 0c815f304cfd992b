//! Registries behind TLS, trusted and not.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test that cannot go on fails")]

use std::sync::Arc;

use boxlite_image::{ErrorKind, PullError, PullOptions, RedirectProblem, Reference, RegistryError, TlsProblem};
use rcgen::{CertifiedKey, generate_simple_self_signed};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::PrivateKeyDer;

use fake::{FakeRegistry, Home, Misdeed, quick, registry_error};

mod fake;

struct Authority {
    _dir: tempfile::TempDir,
    acceptor: TlsAcceptor,
    options: PullOptions,
}

/// A certificate of its own, and options that trust it.
fn authority() -> Authority {
    let CertifiedKey { cert, signing_key } = generate_simple_self_signed(vec!["localhost".to_owned()]).unwrap();
    let dir = tempfile::tempdir().unwrap();
    let pem = dir.path().join("ca.pem");
    std::fs::write(&pem, cert.pem()).unwrap();
    let key = PrivateKeyDer::try_from(signing_key.serialize_der()).unwrap();
    let config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![cert.der().clone()], key)
        .unwrap();
    let options = PullOptions {
        ca_certificates: vec![pem],
        ..quick()
    };
    Authority {
        _dir: dir,
        acceptor: TlsAcceptor::from(Arc::new(config)),
        options,
    }
}

fn reference(registry: &FakeRegistry) -> Reference {
    Reference::parse(&format!("localhost:{}/app:v1", registry.address.port())).unwrap()
}

#[tokio::test]
async fn a_trusted_certificate_is_enough_and_an_unknown_one_is_not() {
    let authority = authority();
    let registry = FakeRegistry::start_with(Some(authority.acceptor.clone())).await;
    registry.put_image("v1", "linux/amd64", &[b"layer"]);
    Home::new()
        .pull(&reference(&registry), &authority.options)
        .await
        .unwrap();
    registry.forget();
    let error = Home::new().pull(&reference(&registry), &quick()).await.unwrap_err();
    let RegistryError::Tls { problem, .. } = registry_error(&error) else {
        panic!("{error:?}")
    };
    assert_eq!((*problem, error.kind()), (TlsProblem::Certificate, ErrorKind::Network));
    assert!(error.hint().unwrap().contains("CA certificate"));
    assert!(
        registry.asked().is_empty(),
        "loopback does not fall back from TLS that is there"
    );
    let by_address = Reference::parse(&format!("{}/app:v1", registry.host())).unwrap();
    let error = Home::new().pull(&by_address, &authority.options).await.unwrap_err();
    assert!(matches!(
        registry_error(&error),
        RegistryError::Tls {
            problem: TlsProblem::Certificate,
            ..
        }
    ));
}

#[tokio::test]
async fn a_plain_registry_that_was_not_named_gets_a_hint() {
    let registry = FakeRegistry::start().await;
    // Not a loopback name, but it leads here by way of the mirror's address.
    let mut options = quick();
    options
        .mirrors
        .insert("localhost".to_owned(), vec![format!("https://{}", registry.host())]);
    options.plain_http = vec!["localhost".to_owned()];
    let error = Home::new()
        .pull(&Reference::parse("localhost/app:v1").unwrap(), &options)
        .await
        .unwrap_err();
    let PullError::Registry { mirrors, .. } = &error else {
        panic!("{error:?}")
    };
    let RegistryError::Tls { problem, .. } = &mirrors[0] else {
        panic!("{error:?}")
    };
    assert_eq!(*problem, TlsProblem::NotTls);
    assert!(mirrors[0].hint("r.example").contains("--plain-http r.example"));
    assert!(registry.asked().is_empty());
}

#[tokio::test]
async fn tls_is_not_left_behind() {
    let authority = authority();
    let registry = FakeRegistry::start_with(Some(authority.acceptor.clone())).await;
    registry.put_image("v1", "linux/amd64", &[b"layer"]);
    let plain = FakeRegistry::start().await;
    plain.put_image("v1", "linux/amd64", &[b"layer"]);
    let target = plain.host();
    registry.misbehave(move |asked| {
        asked
            .is_blob()
            .then(|| Misdeed::redirect(&format!("http://{target}{}", asked.target)))
    });
    let error = Home::new()
        .pull(&reference(&registry), &authority.options)
        .await
        .unwrap_err();
    let RegistryError::Redirect { problem, .. } = registry_error(&error) else {
        panic!("{error:?}")
    };
    assert!(matches!(problem, RedirectProblem::Downgrade { .. }));
    let target = plain.host();
    registry.misbehave(move |_| Some(Misdeed::challenge(&format!("Bearer realm=\"http://{target}/token\""))));
    let error = Home::new()
        .pull(&reference(&registry), &authority.options)
        .await
        .unwrap_err();
    assert!(
        matches!(registry_error(&error), RegistryError::Challenge { .. }),
        "{error:?}"
    );
    assert!(plain.asked().is_empty());
}

#[tokio::test]
async fn a_certificate_file_that_holds_none_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let empty = dir.path().join("empty.pem");
    std::fs::write(&empty, "").unwrap();
    for path in [empty, dir.path().join("missing.pem")] {
        let options = PullOptions {
            ca_certificates: vec![path.clone()],
            ..quick()
        };
        let error = Home::new()
            .pull(&Reference::parse("localhost/app:v1").unwrap(), &options)
            .await
            .unwrap_err();
        assert!(
            matches!(registry_error(&error), RegistryError::Client { .. }),
            "{error:?}"
        );
        assert!(error.to_string().contains(&path.display().to_string()), "{error}");
    }
}
