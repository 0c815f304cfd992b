//! What pulls take from the environment: proxies, credential files and helpers. Each pull
//! runs in a process of its own, whose environment is made for it.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test that cannot go on fails")]

use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use base64::Engine as _;
use boxlite_image::{AuthSource, ProxySource, PullOptions, Reference};
use serde_json::json;
use tokio::process::Command;

use fake::{FakeRegistry, Home, Misdeed, quick};

mod fake;

const REFERENCE: &str = "TEST_CHILD_REFERENCE";
const SECRET: &str = "hunter2-and-more";

/// Not a test of its own: what the child processes of the others run.
#[tokio::test]
#[ignore = "run by the other tests, in a process of its own"]
async fn child_pull() {
    let Ok(reference) = std::env::var(REFERENCE) else {
        return;
    };
    let reference = Reference::parse(&reference).unwrap();
    let options = PullOptions {
        auth: AuthSource::Environment,
        proxy: ProxySource::Environment,
        plain_http: vec!["registry.invalid".to_owned()],
        ..quick()
    };
    match Home::new().pull(&reference, &options).await {
        Ok(image) => println!("pulled {}", image.digest),
        Err(error) => println!("failed {error} | {:?} | {:?}", error.hint(), error.evidence()),
    }
}

/// Pulls with nothing but these variables in the environment.
async fn pull_with(reference: &str, variables: &[(&str, &str)]) -> String {
    let output = Command::new(std::env::current_exe().unwrap())
        .args(["--ignored", "--exact", "--nocapture", "child_pull"])
        .env_clear()
        .env(REFERENCE, reference)
        .envs(variables.iter().copied())
        .output()
        .await
        .unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success(), "{text}");
    let line = text
        .lines()
        .find(|line| line.contains("pulled ") || line.contains("failed "));
    line.unwrap_or_else(|| panic!("{text}")).to_owned()
}

#[tokio::test]
async fn proxies() {
    let proxy = FakeRegistry::start().await;
    proxy.put_image("v1", "linux/amd64", &[b"layer"]);
    let address = format!("http://{}", proxy.host());
    // The name resolves nowhere, so only the proxy can have answered.
    for variable in ["HTTP_PROXY", "http_proxy", "ALL_PROXY"] {
        proxy.forget();
        let result = pull_with("registry.invalid/app:v1", &[(variable, &address)]).await;
        assert!(result.contains("pulled sha256:"), "{variable}: {result}");
        assert!(proxy.asked()[0].target.starts_with("http://registry.invalid/v2/app/"));
    }
    proxy.forget();
    let with_password = format!("http://ann:{SECRET}@{}", proxy.host());
    let result = pull_with("registry.invalid/app:v1", &[("HTTP_PROXY", &with_password)]).await;
    assert!(result.contains("pulled "), "{result}");
    assert!(proxy.asked()[0].header("proxy-authorization").is_some());
    let except = [("HTTP_PROXY", address.as_str()), ("NO_PROXY", "other.example,.invalid")];
    proxy.forget();
    let result = pull_with("registry.invalid/app:v1", &except).await;
    assert!(
        result.contains("can't be resolved") && proxy.asked().is_empty(),
        "{result}"
    );
    // Loopback needs no exception.
    let registry = FakeRegistry::start().await;
    registry.put_image("v1", "linux/amd64", &[b"layer"]);
    let both = [("HTTP_PROXY", address.as_str()), ("HTTPS_PROXY", address.as_str())];
    let result = pull_with(&format!("{}/app:v1", registry.host()), &both).await;
    assert!(result.contains("pulled ") && proxy.asked().is_empty(), "{result}");
    // For https the proxy is asked for a tunnel, which this one refuses.
    proxy.misbehave(|asked| (asked.method == "CONNECT").then(|| Misdeed::status(403)));
    let result = pull_with("secure.invalid/app:v1", &[("HTTPS_PROXY", &with_password)]).await;
    assert!(
        result.contains("failed ") && proxy.asked()[0].target == "secure.invalid:443",
        "{result}"
    );
    assert!(!result.contains(SECRET), "{result}");
}

fn demand_password(registry: &FakeRegistry) -> String {
    let auth = base64::engine::general_purpose::STANDARD.encode(format!("ann:{SECRET}"));
    let expected = format!("Basic {auth}");
    registry.misbehave(move |asked| {
        (asked.header("authorization") != Some(&expected)).then(|| Misdeed::challenge("Basic realm=x"))
    });
    auth
}

fn write(path: &Path, content: &str) {
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    std::fs::write(path, content).unwrap();
}

#[tokio::test]
async fn credential_files() {
    let registry = FakeRegistry::start().await;
    registry.put_image("v1", "linux/amd64", &[b"layer"]);
    let auth = demand_password(&registry);
    let auths = json!({"auths": {registry.host(): {"auth": auth}}}).to_string();
    let dir = tempfile::tempdir().unwrap();
    let home = dir.path().to_str().unwrap();
    let reference = format!("{}/app:v1", registry.host());
    let places = [
        ("HOME", ".docker/config.json", ""),
        ("HOME", ".config/containers/auth.json", ""),
        ("DOCKER_CONFIG", "config.json", ""),
        ("XDG_RUNTIME_DIR", "containers/auth.json", ""),
        ("XDG_CONFIG_HOME", "containers/auth.json", ""),
        ("REGISTRY_AUTH_FILE", "any.json", "any.json"),
    ];
    for (variable, path, suffix) in places {
        let root = dir.path().join(format!("{variable}{}", path.len()));
        write(&root.join(path), &auths);
        let value = root.join(suffix);
        let result = pull_with(&reference, &[(variable, value.to_str().unwrap())]).await;
        assert!(result.contains("pulled "), "{variable} {path}: {result}");
    }
    let result = pull_with(&reference, &[("HOME", home)]).await;
    assert!(
        result.contains("asked without credentials") && result.contains("docker login"),
        "{result}"
    );
    let missing = format!("{home}/missing.json");
    let result = pull_with(&reference, &[("REGISTRY_AUTH_FILE", &missing)]).await;
    assert!(result.contains("missing.json"), "{result}");
}

#[tokio::test]
async fn credential_helpers() {
    let registry = FakeRegistry::start().await;
    registry.put_image("v1", "linux/amd64", &[b"layer"]);
    demand_password(&registry);
    let dir = tempfile::tempdir().unwrap();
    let script = |name: &str, text: &str| {
        let path = dir.path().join(format!("bin/docker-credential-{name}"));
        write(&path, text);
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
    };
    let host = registry.host();
    script(
        "good",
        &format!(
            "#!/bin/sh\nread server\n[ \"$1 $server\" = 'get {host}' ] || exit 9\n\
             echo '{{\"ServerURL\":\"{host}\",\"Username\":\"ann\",\"Secret\":\"{SECRET}\"}}'\n"
        ),
    );
    script(
        "none",
        "#!/bin/sh\necho 'credentials not found in native keychain'\nexit 1\n",
    );
    script("broken", "#!/bin/sh\necho 'the key ring is locked' >&2\nexit 3\n");
    script("odd", "#!/bin/sh\necho 'hello'\n");
    let path = format!("{}:/usr/bin:/bin", dir.path().join("bin").display());
    let reference = format!("{host}/app:v1");
    let pull = async |config: serde_json::Value| {
        let folder = dir.path().join("config");
        write(&folder.join("config.json"), &config.to_string());
        pull_with(
            &reference,
            &[("DOCKER_CONFIG", folder.to_str().unwrap()), ("PATH", &path)],
        )
        .await
    };
    let own = |name: &str| json!({"credHelpers": {host.clone(): name}, "credsStore": "broken"});
    assert!(pull(own("good")).await.contains("pulled "));
    let result = pull(json!({"auths": {host.clone(): {}}, "credsStore": "good"})).await;
    assert!(result.contains("pulled "), "{result}");
    let result = pull(own("none")).await;
    assert!(result.contains("asked without credentials"), "{result}");
    let result = pull(own("broken")).await;
    assert!(
        result.contains("docker-credential-broken failed") && result.contains("the key ring is locked"),
        "{result}"
    );
    let result = pull(own("odd")).await;
    assert!(result.contains("docker-credential-odd gave an answer"), "{result}");
    let result = pull(own("absent")).await;
    assert!(result.contains("install docker-credential-absent"), "{result}");
}
