//! `pull` from Debian's docker-registry on loopback, with images that skopeo pushed.

use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use crate::harness::{Boxlite, fixtures, fresh, text};

struct Registry {
    process: Child,
    address: String,
    _folder: tempfile::TempDir,
}

impl Registry {
    /// Starts a registry on a free port; with `password`, one that asks for user `tester`.
    fn start(password: Option<&str>) -> Registry {
        let folder = tempfile::tempdir().unwrap();
        let mut config = format!(
            "version: 0.1\nlog: {{level: info}}\nstorage: {{filesystem: {{rootdirectory: {}}}}}\nhttp: {{addr: \"127.0.0.1:0\"}}\n",
            folder.path().join("data").display()
        );
        if let Some(password) = password {
            let line = bcrypt_line("tester", password);
            std::fs::write(folder.path().join("htpasswd"), line).unwrap();
            config += &format!(
                "auth: {{htpasswd: {{realm: test, path: {}}}}}\n",
                folder.path().join("htpasswd").display()
            );
        }
        let file = folder.path().join("config.yml");
        std::fs::write(&file, config).unwrap();
        let mut process = Command::new("docker-registry")
            .arg("serve")
            .arg(&file)
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .expect("docker-registry: apt-get install docker-registry");
        let mut lines = BufReader::new(process.stderr.take().unwrap()).lines();
        let address = loop {
            let line = lines.next().expect("the registry ended").unwrap();
            if let Some((_, rest)) = line.split_once("listening on ") {
                break rest
                    .split(|c: char| c == '"' || c.is_whitespace())
                    .next()
                    .unwrap()
                    .to_owned();
            }
        };
        // Its log must go on being read, or the registry blocks.
        std::thread::spawn(move || lines.for_each(drop));
        Registry {
            process,
            address,
            _folder: folder,
        }
    }

    fn push(&self, image: &str, credentials: Option<&str>) {
        let mut command = Command::new("skopeo");
        command.args(["copy", "--dest-tls-verify=false"]);
        if let Some(credentials) = credentials {
            command.args(["--dest-creds", credentials]);
        }
        let source = format!("oci:{}:latest", fixtures().join(image).display());
        let output = command
            .arg(source)
            .arg(format!("docker://{}/test/{image}:v1", self.address))
            .output()
            .unwrap();
        assert!(output.status.success(), "{}", text(&output.stderr));
    }

    fn reference(&self, image: &str) -> String {
        format!("{}/test/{image}:v1", self.address)
    }
}

impl Drop for Registry {
    fn drop(&mut self) {
        self.process.kill().ok();
        self.process.wait().ok();
    }
}

fn bcrypt_line(user: &str, password: &str) -> String {
    let script =
        "import crypt, sys; print(sys.argv[1] + ':' + crypt.crypt(sys.argv[2], crypt.mksalt(crypt.METHOD_BLOWFISH)))";
    let output = Command::new("/usr/bin/python3")
        .args(["-W", "ignore", "-c", script, user, password])
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", text(&output.stderr));
    text(&output.stdout)
}

fn blobs(boxlite: &Boxlite) -> usize {
    std::fs::read_dir(boxlite.home.join("images/blobs/sha256")).map_or(0, |entries| {
        entries
            .filter(|entry| entry.as_ref().is_ok_and(|e| e.path().is_file()))
            .count()
    })
}

#[test]
#[ignore = "starts a machine"]
fn an_image_is_pulled_and_runs() {
    let registry = Registry::start(None);
    registry.push("layers", None);
    let (_folder, boxlite) = fresh();
    let reference = registry.reference("layers");
    let output = boxlite.output(["pull", &reference]);
    assert!(output.status.success(), "{}", text(&output.stderr));
    assert!(text(&output.stdout).contains(&reference), "{}", text(&output.stdout));
    assert_eq!(
        boxlite.ok([
            "run",
            "--rm",
            "--memory",
            "256m",
            "-u",
            "0",
            &reference,
            "cat",
            "/odd/opaque/above"
        ]),
        "seen"
    );

    // The registry is gone, and the image is still there.
    let address = registry.address.clone();
    drop(registry);
    boxlite.ok(["create", "--name", "cached", &reference]);
    let said = boxlite.fails(125, ["create", "--pull", "always", &reference]);
    assert!(said.contains(&address), "{said}");
    let said = boxlite.fails(125, ["create", "--pull", "never", &format!("{address}/test/other:v1")]);
    assert!(said.contains("pull"), "{said}");
}

#[test]
#[ignore = "needs the fixtures"]
fn credentials_come_from_dockers_file() {
    let registry = Registry::start(Some("s3cret"));
    registry.push("busybox", Some("tester:s3cret"));
    let (folder, boxlite) = fresh();
    let reference = registry.reference("busybox");
    let pull = |config: &Path| {
        boxlite
            .command(["pull", &reference])
            .env("DOCKER_CONFIG", config)
            .env("HOME", config)
            .env_remove("XDG_RUNTIME_DIR")
            .output()
            .unwrap()
    };

    let refused = pull(folder.path());
    assert_eq!(refused.status.code(), Some(1));
    let said = text(&refused.stderr);
    assert!(
        said.contains("401") || said.to_lowercase().contains("unauthorized"),
        "{said}"
    );
    assert!(said.contains("login"), "{said}");
    assert_eq!(blobs(&boxlite), 0);

    // base64 of tester:s3cret
    let config = format!(
        r#"{{"auths": {{"{}": {{"auth": "dGVzdGVyOnMzY3JldA=="}}}}}}"#,
        registry.address
    );
    std::fs::write(folder.path().join("config.json"), config).unwrap();
    let output = pull(folder.path());
    assert!(output.status.success(), "{}", text(&output.stderr));
}

#[test]
#[ignore = "needs the fixtures"]
fn what_is_not_there_is_said_and_leaves_nothing() {
    let registry = Registry::start(None);
    registry.push("busybox", None);
    let (_folder, boxlite) = fresh();
    let said = boxlite.fails(1, ["pull", &format!("{}/test/busybox:no-such-tag", registry.address)]);
    assert!(said.contains("no-such-tag"), "{said}");
    let said = boxlite.fails(1, ["pull", "127.0.0.1:1/nobody/listens:v1"]);
    assert!(said.contains("127.0.0.1:1"), "{said}");
    let said = boxlite.fails(1, ["pull", "Not A Reference"]);
    assert!(said.contains("Not A Reference"), "{said}");
    assert_eq!((blobs(&boxlite), boxlite.ok(["images", "-q"]).as_str()), (0, ""));
}
