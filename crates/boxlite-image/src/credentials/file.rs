use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use serde::Deserialize;
use tokio::io::AsyncReadExt;

use super::{CredentialError, Credentials};
use crate::reference::DEFAULT_REGISTRY;

const MAX_BYTES: u64 = 1 << 20;

/// A docker `config.json` or podman `auth.json`: see containers-auth.json(5).
pub(super) struct File {
    path: PathBuf,
    document: Document,
}

/// What a file says about a registry.
#[derive(Debug)]
pub(super) enum Entry {
    Credentials(Credentials),
    /// The name of a helper, to be asked.
    Helper(String),
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Document {
    auths: Option<BTreeMap<String, Option<Auth>>>,
    cred_helpers: Option<BTreeMap<String, String>>,
    creds_store: Option<String>,
}

#[derive(Deserialize, Default)]
struct Auth {
    auth: Option<String>,
    username: Option<String>,
    password: Option<String>,
    identitytoken: Option<String>,
    registrytoken: Option<String>,
}

impl File {
    /// Reads a file; `None` if it does not exist and need not.
    pub(super) async fn read(path: &Path, must_exist: bool) -> Result<Option<Self>, CredentialError> {
        let unreadable = |source| CredentialError::Read {
            path: path.to_owned(),
            source,
        };
        let file = match tokio::fs::File::open(path).await {
            Ok(file) => file,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound && !must_exist => {
                return Ok(None);
            }
            Err(error) => return Err(unreadable(error)),
        };
        let mut json = Vec::new();
        file.take(MAX_BYTES).read_to_end(&mut json).await.map_err(unreadable)?;
        Self::parse(path, &json).map(Some)
    }

    pub(super) fn parse(path: &Path, json: &[u8]) -> Result<Self, CredentialError> {
        // podman creates its file empty.
        let json = if json.trim_ascii().is_empty() { b"{}" } else { json };
        // serde_json's own message may quote a secret.
        let document = serde_json::from_slice(json).map_err(|error| CredentialError::Malformed {
            path: path.to_owned(),
            line: error.line(),
            column: error.column(),
        })?;
        Ok(Self {
            path: path.to_owned(),
            document,
        })
    }

    /// What the file has for a repository of a registry: a helper of that registry's own, the
    /// most specific entry with credentials, or the helper for everything.
    pub(super) fn entry(&self, registry: &str, repository: &str) -> Result<Option<Entry>, CredentialError> {
        let helpers = self.document.cred_helpers.iter().flatten();
        if let Some((_, name)) = helpers.into_iter().find(|(key, _)| normalise(key) == registry) {
            return self.helper(name).map(Some);
        }
        let mut best: Option<(usize, &Auth)> = None;
        for (key, auth) in self.document.auths.iter().flatten() {
            let Some(auth) = auth.as_ref().filter(|auth| auth.is_filled()) else {
                continue;
            };
            let key = normalise(key);
            let covers = |name: &str| {
                name.strip_prefix(key.as_str())
                    .is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
            };
            if covers(&format!("{registry}/{repository}")) && best.is_none_or(|(length, _)| key.len() > length) {
                best = Some((key.len(), auth));
            }
        }
        if let Some((_, auth)) = best {
            let credentials = auth.credentials().ok_or_else(|| CredentialError::Entry {
                path: self.path.clone(),
                host: registry.to_owned(),
            })?;
            return Ok(Some(Entry::Credentials(credentials)));
        }
        self.document
            .creds_store
            .as_deref()
            .filter(|name| !name.is_empty())
            .map(|name| self.helper(name))
            .transpose()
    }

    fn helper(&self, name: &str) -> Result<Entry, CredentialError> {
        // The name becomes part of a program's; a slash would make it a path.
        if name.is_empty() || name.contains(['/', '\0']) {
            return Err(CredentialError::HelperName {
                path: self.path.clone(),
                name: name.chars().take(80).collect(),
            });
        }
        Ok(Entry::Helper(name.to_owned()))
    }
}

impl Auth {
    fn is_filled(&self) -> bool {
        [&self.auth, &self.username, &self.identitytoken, &self.registrytoken]
            .into_iter()
            .any(|field| field.as_deref().is_some_and(|text| !text.is_empty()))
    }

    fn credentials(&self) -> Option<Credentials> {
        let filled = |field: &Option<String>| field.clone().filter(|text| !text.is_empty());
        if let Some(token) = filled(&self.registrytoken) {
            return Some(Credentials::RegistryToken(token));
        }
        if let Some(token) = filled(&self.identitytoken) {
            return Some(Credentials::IdentityToken(token));
        }
        if let Some(auth) = filled(&self.auth) {
            let decoder = GeneralPurpose::new(
                &base64::alphabet::STANDARD,
                GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
            );
            let text = String::from_utf8(decoder.decode(auth.trim()).ok()?).ok()?;
            let (username, password) = text.split_once(':')?;
            return Some(Credentials::Password {
                username: username.to_owned(),
                // docker pads it with zero bytes
                password: password.trim_end_matches('\0').to_owned(),
            });
        }
        let username = filled(&self.username)?;
        Some(Credentials::Password {
            username,
            password: self.password.clone().unwrap_or_default(),
        })
    }
}

/// Keys are hosts, URLs, or (podman) a host and the beginning of a path.
fn normalise(key: &str) -> String {
    let key = key
        .strip_prefix("https://")
        .or_else(|| key.strip_prefix("http://"))
        .unwrap_or(key);
    let key = key.trim_end_matches('/');
    let key = key
        .strip_suffix("/v1")
        .or_else(|| key.strip_suffix("/v2"))
        .unwrap_or(key);
    let (host, path) = match key.split_once('/') {
        Some((host, path)) => (host, Some(path)),
        None => (key, None),
    };
    let host = match host {
        "index.docker.io" | "registry-1.docker.io" => DEFAULT_REGISTRY,
        other => other,
    };
    match path {
        Some(path) => format!("{}/{path}", host.to_ascii_lowercase()),
        None => host.to_ascii_lowercase(),
    }
}
