use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use crate::digest::Digest;
use crate::document::DocumentError;
use crate::platform::Platform;

/// What an image says about how it wants to be run.
///
/// Read from the OCI image configuration (or Docker's, which is a superset) with
/// [`ImageConfig::parse`]; the serde form is this crate's own and is what other crates store.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct ImageConfig {
    /// What to execute; [`cmd`](Self::cmd) follows as arguments.
    pub entrypoint: Vec<String>,
    /// The default command, or the default arguments of the entrypoint.
    pub cmd: Vec<String>,
    /// `NAME=VALUE` pairs, in the image's order.
    pub env: Vec<String>,
    /// The working directory.
    pub working_dir: Option<String>,
    /// `USER`, `UID`, `USER:GROUP`, …, to be looked up in the image.
    pub user: Option<String>,
    /// The signal that asks the main process to end: `SIGTERM`, `15`, …
    pub stop_signal: Option<String>,
    /// Paths that the image wants kept outside its root filesystem.
    pub volumes: BTreeSet<String>,
    /// Ports that the image listens on: `80`, `80/tcp`, `53/udp`, `8000-8010/tcp`.
    pub exposed_ports: BTreeSet<String>,
    /// Arbitrary metadata.
    pub labels: BTreeMap<String, String>,
    /// When the image was made, as it says (RFC 3339).
    pub created: Option<String>,
    /// The architecture, e.g. `amd64`.
    pub architecture: String,
    /// The operating system, e.g. `linux`.
    pub os: String,
    /// The variant of the architecture, e.g. `v7`.
    pub variant: Option<String>,
    /// The digest of each layer's uncompressed tar, lowest layer first.
    pub diff_ids: Vec<Digest>,
}

impl ImageConfig {
    /// Reads the JSON of an image configuration.
    ///
    /// # Errors
    /// When it is no JSON, or lacks what an image needs.
    pub fn parse(json: &[u8]) -> Result<Self, DocumentError> {
        let document: Document = serde_json::from_slice(json).map_err(|e| DocumentError::json("image config", &e))?;
        let rootfs = document.rootfs.unwrap_or_default();
        if let Some(kind) = rootfs.kind.filter(|kind| kind != "layers") {
            return Err(DocumentError::RootfsKind {
                kind: kind.chars().take(80).collect(),
            });
        }
        let run = document.config.unwrap_or_default();
        let filled = |text: Option<String>| text.filter(|text| !text.is_empty());
        Ok(Self {
            entrypoint: run.entrypoint.map(Words::into_vec).unwrap_or_default(),
            cmd: run.cmd.map(Words::into_vec).unwrap_or_default(),
            env: run.env.unwrap_or_default(),
            working_dir: filled(run.working_dir),
            user: filled(run.user),
            stop_signal: filled(run.stop_signal),
            volumes: run.volumes.unwrap_or_default().into_keys().collect(),
            exposed_ports: run.exposed_ports.unwrap_or_default().into_keys().collect(),
            labels: run
                .labels
                .unwrap_or_default()
                .into_iter()
                .map(|(name, value)| (name, value.unwrap_or_default()))
                .collect(),
            created: filled(document.created),
            architecture: document.architecture.unwrap_or_default(),
            os: document.os.unwrap_or_default(),
            variant: filled(document.variant),
            diff_ids: rootfs.diff_ids.unwrap_or_default(),
        })
    }

    /// What the image runs on; `None` if it does not say.
    pub fn platform(&self) -> Option<Platform> {
        if self.os.is_empty() || self.architecture.is_empty() {
            return None;
        }
        Some(Platform::new(&self.os, &self.architecture, self.variant.as_deref()))
    }
}

/// The parts of the image configuration that are read. Docker writes `null` for what is
/// empty, so everything is optional.
#[derive(Deserialize)]
struct Document {
    created: Option<String>,
    architecture: Option<String>,
    os: Option<String>,
    variant: Option<String>,
    config: Option<Run>,
    rootfs: Option<Rootfs>,
}

#[derive(Deserialize, Default)]
struct Rootfs {
    #[serde(rename = "type")]
    kind: Option<String>,
    diff_ids: Option<Vec<Digest>>,
}

#[derive(Deserialize, Default)]
struct Run {
    #[serde(rename = "User")]
    user: Option<String>,
    #[serde(rename = "ExposedPorts")]
    exposed_ports: Option<BTreeMap<String, serde::de::IgnoredAny>>,
    #[serde(rename = "Env")]
    env: Option<Vec<String>>,
    #[serde(rename = "Entrypoint")]
    entrypoint: Option<Words>,
    #[serde(rename = "Cmd")]
    cmd: Option<Words>,
    #[serde(rename = "Volumes")]
    volumes: Option<BTreeMap<String, serde::de::IgnoredAny>>,
    #[serde(rename = "WorkingDir")]
    working_dir: Option<String>,
    #[serde(rename = "Labels")]
    labels: Option<BTreeMap<String, Option<String>>>,
    #[serde(rename = "StopSignal")]
    stop_signal: Option<String>,
}

/// A command; old images have a lone string where the specification wants a list.
#[derive(Deserialize)]
#[serde(untagged)]
enum Words {
    Many(Vec<String>),
    One(String),
}

impl Words {
    fn into_vec(self) -> Vec<String> {
        match self {
            Self::Many(words) => words,
            Self::One(word) => vec![word],
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_full_config() {
        let digest = Digest::sha256(b"x");
        let json = serde_json::json!({
            "created": "2024-01-01T00:00:00Z", "architecture": "arm", "os": "linux", "variant": "v6",
            "config": {
                "User": "65534:65534", "ExposedPorts": {"80/tcp": {}, "53/udp": {}},
                "Env": ["PATH=/bin", "A=b=c"], "Entrypoint": ["/init"], "Cmd": "lone",
                "Volumes": {"/data": {}}, "WorkingDir": "/srv", "Labels": {"a": "b", "n": null},
                "StopSignal": "SIGINT", "Healthcheck": {"Test": ["NONE"]}
            },
            "rootfs": {"type": "layers", "diff_ids": [digest]},
            "history": [{"created_by": "x"}]
        });
        let config = ImageConfig::parse(json.to_string().as_bytes()).unwrap();
        assert_eq!(config.entrypoint, ["/init"]);
        assert_eq!(config.cmd, ["lone"]);
        assert_eq!(config.env, ["PATH=/bin", "A=b=c"]);
        assert_eq!(config.user.as_deref(), Some("65534:65534"));
        assert_eq!(config.working_dir.as_deref(), Some("/srv"));
        assert_eq!(config.stop_signal.as_deref(), Some("SIGINT"));
        assert!(config.volumes.contains("/data"));
        assert_eq!(config.exposed_ports.len(), 2);
        assert_eq!(config.labels["a"], "b");
        assert_eq!(config.labels["n"], "");
        assert_eq!(config.diff_ids, [digest]);
        assert_eq!(config.platform().unwrap().to_string(), "linux/arm/v6");
        let stored = serde_json::to_string(&config).unwrap();
        assert_eq!(serde_json::from_str::<ImageConfig>(&stored).unwrap(), config);
    }

    #[test]
    fn nulls_are_absent() {
        let json = br#"{"architecture":"amd64","os":"linux","config":{"Cmd":null,"Env":null,
            "Volumes":null,"Entrypoint":null,"Labels":null,"WorkingDir":"","User":""},
            "rootfs":{"type":"layers","diff_ids":null}}"#;
        let config = ImageConfig::parse(json).unwrap();
        assert!(config.cmd.is_empty() && config.working_dir.is_none() && config.user.is_none());
        let config = ImageConfig::parse(br#"{"config":null}"#).unwrap();
        assert_eq!(config.platform(), None);
    }

    #[test]
    fn what_is_no_config_is_refused() {
        assert!(matches!(ImageConfig::parse(b"{"), Err(DocumentError::Json { .. })));
        assert!(matches!(ImageConfig::parse(b"[]"), Err(DocumentError::Json { .. })));
        assert!(matches!(
            ImageConfig::parse(br#"{"rootfs":{"type":"base"}}"#),
            Err(DocumentError::RootfsKind { .. })
        ));
        let bad = br#"{"rootfs":{"type":"layers","diff_ids":["sha256:../../etc/passwd"]}}"#;
        assert!(matches!(ImageConfig::parse(bad), Err(DocumentError::Json { .. })));
    }

    proptest! {
        #[test]
        fn any_bytes_parse_or_fail_cleanly(bytes: Vec<u8>) {
            let _ = ImageConfig::parse(&bytes);
        }
    }
}
