use std::env;
use std::ffi::OsString;
use std::fmt;
use std::path::PathBuf;

use crate::reference::DEFAULT_REGISTRY;

mod file;
mod helper;

use file::Entry;

/// What proves to a registry who asks. Its `Debug` form shows no secret.
#[derive(Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Credentials {
    /// A user's name and password (or personal access token).
    Password {
        /// The user's name.
        username: String,
        /// The password.
        password: String,
    },
    /// An OAuth 2 refresh token that the registry's authorisation server exchanges.
    IdentityToken(String),
    /// A bearer token that the registry takes as it is.
    RegistryToken(String),
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Password { username, .. } => f
                .debug_struct("Password")
                .field("username", username)
                .finish_non_exhaustive(),
            Self::IdentityToken(_) => f.write_str("IdentityToken(..)"),
            Self::RegistryToken(_) => f.write_str("RegistryToken(..)"),
        }
    }
}

/// Where credentials come from. They are looked up only when a registry demands some.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum AuthSource {
    /// The files of docker and podman, and the credential helpers that they name. In order:
    /// `$REGISTRY_AUTH_FILE`, `$XDG_RUNTIME_DIR/containers/auth.json`,
    /// `$XDG_CONFIG_HOME/containers/auth.json` (or `~/.config/…`),
    /// `$DOCKER_CONFIG/config.json` (or `~/.docker/…`).
    #[default]
    Environment,
    /// These files, in either tool's format, and the credential helpers that they name.
    Files(Vec<PathBuf>),
    /// These credentials, for the registry that the reference names and no other host.
    Explicit(Credentials),
    /// None.
    Anonymous,
}

/// Why credentials could not be looked up. Never contains any.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CredentialError {
    /// A credential file can't be read.
    #[error("cannot read the credential file {path}: {source}", path = .path.display())]
    Read {
        /// Which file.
        path: PathBuf,
        /// Why not.
        source: std::io::Error,
    },
    /// A credential file is malformed.
    #[error("the credential file {path} is malformed at line {line}, column {column}", path = .path.display())]
    Malformed {
        /// Which file.
        path: PathBuf,
        /// Where, counted from 1.
        line: usize,
        /// Where, counted from 1.
        column: usize,
    },
    /// An `auth` field of a credential file is not the base64 form of `user:password`.
    #[error("the credential file {path} has an unreadable entry for {host}", path = .path.display())]
    Entry {
        /// Which file.
        path: PathBuf,
        /// For which registry.
        host: String,
    },
    /// A credential file names a helper whose name can't be one.
    #[error("the credential file {path} names a credential helper {name:?}, which is no plain name", path = .path.display())]
    HelperName {
        /// Which file.
        path: PathBuf,
        /// The name.
        name: String,
    },
    /// A credential helper can't be started.
    #[error("cannot run the credential helper {program}: {source}")]
    HelperStart {
        /// The program.
        program: String,
        /// Why not.
        source: std::io::Error,
    },
    /// A credential helper failed.
    #[error("the credential helper {program} failed ({status}): {message}")]
    HelperFailed {
        /// The program.
        program: String,
        /// How it ended.
        status: String,
        /// What it said, shortened.
        message: String,
    },
    /// A credential helper answered something else than credentials.
    #[error("the credential helper {program} gave an answer that can't be understood")]
    HelperAnswer {
        /// The program.
        program: String,
    },
    /// A credential helper did not answer in time.
    #[error("the credential helper {program} did not answer within {seconds} seconds")]
    HelperTimeout {
        /// The program.
        program: String,
        /// How long it had.
        seconds: u64,
    },
}

impl CredentialError {
    /// What to try next.
    pub fn hint(&self) -> String {
        match self {
            Self::Read { path, .. } | Self::Malformed { path, .. } | Self::Entry { path, .. } => {
                format!("mend or remove {}, then log in again", path.display())
            }
            Self::HelperName { path, .. } => {
                format!("mend `credHelpers` and `credsStore` in {}", path.display())
            }
            Self::HelperStart { program, .. } => {
                format!("install {program}, or take it out of `credHelpers` and `credsStore` in docker's config.json")
            }
            Self::HelperFailed { program, .. }
            | Self::HelperAnswer { program }
            | Self::HelperTimeout { program, .. } => {
                format!("try it by hand: `echo HOST | {program} get`")
            }
        }
    }
}

/// Credentials and what to call the place that they come from.
#[derive(Debug, Clone)]
pub(crate) struct Found {
    pub(crate) credentials: Credentials,
    pub(crate) origin: String,
}

/// Finds the credentials for a repository of a registry. `is_origin` tells a mirror, which
/// explicit credentials are not for.
pub(crate) async fn look_up(
    source: &AuthSource,
    registry: &str,
    repository: &str,
    is_origin: bool,
) -> Result<Option<Found>, CredentialError> {
    let files = match source {
        AuthSource::Anonymous => return Ok(None),
        AuthSource::Explicit(credentials) => {
            let found = Found {
                credentials: credentials.clone(),
                origin: "the caller".to_owned(),
            };
            return Ok(is_origin.then_some(found));
        }
        AuthSource::Files(files) => files.clone(),
        AuthSource::Environment => default_files(|name| env::var_os(name)),
    };
    let must_exist = env::var_os("REGISTRY_AUTH_FILE").map(PathBuf::from);
    for path in files {
        let is_named = matches!(source, AuthSource::Files(_)) || must_exist.as_ref() == Some(&path);
        let Some(file) = file::File::read(&path, is_named).await? else {
            continue;
        };
        match file.entry(registry, repository)? {
            None => {}
            Some(Entry::Credentials(credentials)) => {
                let origin = path.display().to_string();
                return Ok(Some(Found { credentials, origin }));
            }
            Some(Entry::Helper(name)) => {
                for server in helper_servers(registry) {
                    if let Some(found) = helper::get(&name, &server).await? {
                        return Ok(Some(found));
                    }
                }
            }
        }
    }
    Ok(None)
}

/// What a helper may know a registry as. Docker calls its own by a URL of its past.
fn helper_servers(registry: &str) -> Vec<String> {
    if registry == DEFAULT_REGISTRY {
        vec!["https://index.docker.io/v1/".to_owned(), DEFAULT_REGISTRY.to_owned()]
    } else {
        vec![registry.to_owned()]
    }
}

/// The files that docker and podman would read, by the environment, most specific first.
fn default_files(variable: impl Fn(&str) -> Option<OsString>) -> Vec<PathBuf> {
    let variable = |name| variable(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    let home = variable("HOME");
    let in_home = |path: &str| home.as_ref().map(|home| home.join(path));
    let candidates = [
        variable("REGISTRY_AUTH_FILE"),
        variable("XDG_RUNTIME_DIR").map(|dir| dir.join("containers/auth.json")),
        variable("XDG_CONFIG_HOME")
            .or_else(|| in_home(".config"))
            .map(|dir| dir.join("containers/auth.json")),
        variable("DOCKER_CONFIG")
            .or_else(|| in_home(".docker"))
            .map(|dir| dir.join("config.json")),
    ];
    candidates.into_iter().flatten().collect()
}

#[cfg(test)]
mod tests;
