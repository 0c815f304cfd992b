//! Other people's tools, and what they make.

#![allow(dead_code, reason = "each test program uses a part of it")]

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use serde_json::json;

/// Runs a program of a Debian package to its end.
pub(crate) fn run(package: &str, program: &str, arguments: &[&str]) {
    let output = Command::new(program).args(arguments).output();
    let output = output.unwrap_or_else(|error| panic!("{program}: {error}; install the Debian package {package}"));
    let complaint = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{program} {arguments:?}: {complaint}");
}

pub(crate) fn umoci(arguments: &[&str]) {
    run("umoci", "umoci", arguments);
}

pub(crate) fn skopeo(arguments: &[&str]) {
    let arguments: Vec<&str> = ["--insecure-policy"].iter().chain(arguments).copied().collect();
    run("skopeo", "skopeo", &arguments);
}

/// Makes `DIR/layout` with the image `v1`: two layers (the second with a whiteout), for
/// linux/amd64, with a command and an environment.
pub(crate) fn make_layout(dir: &Path) -> String {
    let layout = dir.join("layout").to_str().unwrap().to_owned();
    let image = format!("{layout}:v1");
    umoci(&["init", "--layout", &layout]);
    umoci(&["new", "--image", &image]);
    for (name, files) in [
        ("lower", &["etc/motd", "etc/old", "data"][..]),
        ("upper", &["etc/.wh.old", "etc/new"]),
    ] {
        let root = dir.join(name);
        for file in files {
            let path = root.join(file);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            let length = if *file == "data" { 300_000 } else { 10 };
            let content = if file.contains(".wh.") {
                Vec::new()
            } else {
                super::fake::noise(7, length)
            };
            std::fs::write(&path, content).unwrap();
        }
        let tar = dir.join(format!("{name}.tar"));
        let (tar, root) = (tar.to_str().unwrap(), root.to_str().unwrap());
        run(
            "tar",
            "tar",
            &[
                "-C",
                root,
                "--sort=name",
                "--mtime=@0",
                "--owner=0",
                "--group=0",
                "-cf",
                tar,
                ".",
            ],
        );
        umoci(&["raw", "add-layer", "--image", &image, tar]);
    }
    umoci(&[
        "config",
        "--image",
        &image,
        "--architecture",
        "amd64",
        "--os",
        "linux",
        "--config.cmd",
        "/bin/hello",
        "--config.env",
        "GREETING=hello",
        "--config.user",
        "1000:1000",
        "--config.workingdir",
        "/srv",
    ]);
    layout
}

/// Debian's docker-registry, on a port of its own. Killed when dropped.
pub(crate) struct DockerRegistry {
    child: Child,
    pub(crate) host: String,
}

impl Drop for DockerRegistry {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl DockerRegistry {
    /// `auth` is the `auth` section of its configuration, if it is to have one.
    pub(crate) fn start(dir: &Path, auth: Option<serde_json::Value>) -> Self {
        let root = dir.join("registry");
        std::fs::create_dir_all(&root).unwrap();
        let mut config = json!({
            "version": "0.1",
            "storage": {"filesystem": {"rootdirectory": root}},
            "http": {"addr": "127.0.0.1:0"},
        });
        if let Some(auth) = auth {
            config["auth"] = auth;
        }
        let path = dir.join("registry.yml");
        // JSON is YAML.
        std::fs::write(&path, config.to_string()).unwrap();
        let mut child = Command::new("docker-registry")
            .arg("serve")
            .arg(&path)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap_or_else(|error| panic!("docker-registry: {error}; install the Debian package docker-registry"));
        let mut log = BufReader::new(child.stderr.take().unwrap());
        let mut said = String::new();
        let host = loop {
            let mut line = String::new();
            assert!(log.read_line(&mut line).unwrap() > 0, "docker-registry ended: {said}");
            said.push_str(&line);
            if let Some((_, rest)) = line.split_once("listening on ") {
                break rest.split('"').next().unwrap().to_owned();
            }
        };
        // It must never wait for someone to read its log.
        std::thread::spawn(move || std::io::copy(&mut log, &mut std::io::sink()));
        Self { child, host }
    }
}
