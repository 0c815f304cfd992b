use std::fmt;
use std::net::Ipv6Addr;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

use crate::digest::{Digest, DigestError};

/// The registry that short names belong to, unless the caller configures another.
pub const DEFAULT_REGISTRY: &str = "docker.io";

const DEFAULT_TAG: &str = "latest";
const MAX_NAME: usize = 255;
const MAX_TAG: usize = 128;

/// The name of an image in a registry, in full: `docker.io/library/alpine:3.20`.
///
/// Parsed and normalised as Docker does (the reference grammar of the distribution
/// project): a short name gets the default registry (and `library/` on Docker Hub), a name
/// without tag and digest gets the tag `latest`.
///
/// ```
/// use boxlite_image::Reference;
///
/// let reference = Reference::parse("alpine")?;
/// assert_eq!(reference.to_string(), "docker.io/library/alpine:latest");
/// assert_eq!(reference.familiar(), "alpine:latest");
/// # Ok::<(), boxlite_image::ReferenceError>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Reference {
    registry: String,
    repository: String,
    tag: Option<String>,
    digest: Option<Digest>,
}

/// A text that is not an image reference. Each variant carries the text that was given.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ReferenceError {
    /// Nothing was given.
    #[error("the image reference is empty")]
    Empty,
    /// The name is longer than 255 characters.
    #[error("the image name is {length} characters long; at most {MAX_NAME} are allowed")]
    NameTooLong {
        /// Its length in bytes.
        length: usize,
    },
    /// The registry's host or port is malformed.
    #[error("{text:?} is no image reference: {registry:?} is not a host name or address with an optional port")]
    Registry {
        /// What was given.
        text: String,
        /// The part that is wrong.
        registry: String,
    },
    /// The repository has uppercase letters.
    #[error("{text:?} is no image reference: repository names are lowercase")]
    Uppercase {
        /// What was given.
        text: String,
    },
    /// A component of the repository's path is malformed.
    #[error(
        "{text:?} is no image reference: {component:?} must be lowercase letters and digits, joined by '.', '_', '__' or dashes"
    )]
    Component {
        /// What was given.
        text: String,
        /// The part that is wrong.
        component: String,
    },
    /// The tag is malformed.
    #[error(
        "{text:?} is no image reference: the tag {tag:?} must be 1 to {MAX_TAG} letters, digits, '_', '.' or '-', not beginning with '.' or '-'"
    )]
    Tag {
        /// What was given.
        text: String,
        /// The part that is wrong.
        tag: String,
    },
    /// What follows the `@` is no digest.
    #[error("{text:?} is no image reference")]
    Digest {
        /// What was given.
        text: String,
        /// Why.
        source: DigestError,
    },
    /// 64 hexadecimal digits: an image's ID, which names nothing in a registry.
    #[error("{text:?} looks like an image ID, not like a name in a registry")]
    Identifier {
        /// What was given.
        text: String,
    },
}

impl ReferenceError {
    /// What to try next.
    pub fn hint(&self) -> String {
        match self {
            Self::Uppercase { text } => format!("try {:?}", text.to_lowercase()),
            Self::Digest { .. } => "write NAME@sha256: and 64 hexadecimal digits, or NAME:TAG".to_owned(),
            Self::Identifier { .. } => "use the image's name, or NAME@sha256:DIGEST".to_owned(),
            _ => "write [REGISTRY[:PORT]/]NAME[:TAG][@DIGEST], e.g. debian:12".to_owned(),
        }
    }

    /// The coarse class of this failure: always [`ErrorKind::Invalid`](crate::ErrorKind).
    pub fn kind(&self) -> crate::ErrorKind {
        crate::ErrorKind::Invalid
    }
}

impl Reference {
    /// Reads a reference; short names belong to [`DEFAULT_REGISTRY`].
    ///
    /// # Errors
    /// When the text is malformed.
    pub fn parse(text: &str) -> Result<Self, ReferenceError> {
        Self::parse_with(text, DEFAULT_REGISTRY)
    }

    /// Reads a reference; short names belong to `default_registry` (a host with an optional
    /// port).
    ///
    /// # Errors
    /// When the text or the default registry is malformed.
    pub fn parse_with(text: &str, default_registry: &str) -> Result<Self, ReferenceError> {
        if text.is_empty() {
            return Err(ReferenceError::Empty);
        }
        let shown = || text.chars().take(300).collect::<String>();
        let (rest, digest) = match text.split_once('@') {
            Some((rest, digest)) => {
                let digest =
                    Digest::parse(digest).map_err(|source| ReferenceError::Digest { text: shown(), source })?;
                (rest, Some(digest))
            }
            None => (text, None),
        };
        // A colon after the last slash begins a tag; before it, a port.
        let name_end = rest.rfind('/').map_or(0, |slash| slash + 1);
        let (name, tag) = match rest[name_end..].find(':') {
            Some(colon) => (&rest[..name_end + colon], Some(&rest[name_end + colon + 1..])),
            None => (rest, None),
        };
        if let Some(tag) = tag
            && !is_tag(tag)
        {
            return Err(ReferenceError::Tag {
                text: shown(),
                tag: tag.chars().take(160).collect(),
            });
        }
        if is_identifier(name) {
            return Err(ReferenceError::Identifier { text: shown() });
        }
        let (registry, repository) = match name.split_once('/') {
            Some((first, rest)) if names_registry(first) => (first, rest),
            _ => (default_registry, name),
        };
        if !is_registry(registry) {
            return Err(ReferenceError::Registry {
                text: shown(),
                registry: registry.chars().take(300).collect(),
            });
        }
        for component in repository.split('/') {
            if !is_component(component) {
                return Err(if is_component(&component.to_lowercase()) {
                    ReferenceError::Uppercase { text: shown() }
                } else {
                    let component = component.chars().take(160).collect();
                    ReferenceError::Component {
                        text: shown(),
                        component,
                    }
                });
            }
        }
        let lowercase = registry.to_ascii_lowercase();
        let registry = match lowercase.as_str() {
            "index.docker.io" | "registry-1.docker.io" => DEFAULT_REGISTRY.to_owned(),
            host if names_registry(host) => lowercase,
            // Its capitals alone tell such a host from a part of the path.
            _ => registry.to_owned(),
        };
        let repository = if registry == DEFAULT_REGISTRY && !repository.contains('/') {
            format!("library/{repository}")
        } else {
            repository.to_owned()
        };
        let length = registry.len() + 1 + repository.len();
        if length > MAX_NAME {
            return Err(ReferenceError::NameTooLong { length });
        }
        let tag = match (tag, &digest) {
            (None, None) => Some(DEFAULT_TAG.to_owned()),
            (tag, _) => tag.map(str::to_owned),
        };
        Ok(Self {
            registry,
            repository,
            tag,
            digest,
        })
    }

    /// The registry's host and port, e.g. `docker.io` or `localhost:5000`.
    pub fn registry(&self) -> &str {
        &self.registry
    }

    /// The path of the repository in the registry, e.g. `library/alpine`.
    pub fn repository(&self) -> &str {
        &self.repository
    }

    /// The tag. At least one of tag and digest is there; the digest decides if both are.
    pub fn tag(&self) -> Option<&str> {
        self.tag.as_deref()
    }

    /// The digest of the manifest or index.
    pub fn digest(&self) -> Option<&Digest> {
        self.digest.as_ref()
    }

    /// The same repository, by digest.
    pub fn with_digest(&self, digest: Digest) -> Self {
        Self {
            tag: None,
            digest: Some(digest),
            ..self.clone()
        }
    }

    /// `REGISTRY/REPOSITORY` without tag and digest.
    pub fn name(&self) -> String {
        format!("{}/{}", self.registry, self.repository)
    }

    /// The short form that people use: without `docker.io/` and `library/`.
    pub fn familiar(&self) -> String {
        let full = self.to_string();
        let (first, rest) = self.repository.split_once('/').unwrap_or((&self.repository, ""));
        // What would be read as something else if it stood alone stays in full.
        if self.registry != DEFAULT_REGISTRY || names_registry(first) || is_identifier(rest) {
            return full;
        }
        let short = &full[DEFAULT_REGISTRY.len() + 1..];
        if first == "library" && !rest.is_empty() && !rest.contains('/') {
            short["library/".len()..].to_owned()
        } else {
            short.to_owned()
        }
    }
}

fn is_identifier(name: &str) -> bool {
    name.len() == 64 && name.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'))
}

/// Whether the first component of a name is a registry rather than a part of the path.
fn names_registry(component: &str) -> bool {
    component == "localhost" || component.contains(['.', ':', '[']) || component.bytes().any(|b| b.is_ascii_uppercase())
}

fn is_component(component: &str) -> bool {
    let bytes = component.as_bytes();
    let alphanumeric = |b: &u8| b.is_ascii_lowercase() || b.is_ascii_digit();
    let (Some(first), Some(last)) = (bytes.first(), bytes.last()) else {
        return false;
    };
    if !alphanumeric(first) || !alphanumeric(last) {
        return false;
    }
    bytes
        .split(alphanumeric)
        .all(|separator| matches!(separator, b"" | b"." | b"_" | b"__") || separator.iter().all(|b| *b == b'-'))
}

fn is_tag(tag: &str) -> bool {
    tag.len() <= MAX_TAG
        && !tag.is_empty()
        && !tag.starts_with(['.', '-'])
        && tag
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'.' | b'-'))
}

/// Whether this is a host name, IPv4 address or bracketed IPv6 address with an optional port.
pub(crate) fn is_registry(registry: &str) -> bool {
    let (host, port) = split_port(registry);
    if let Some(port) = port
        && (port.is_empty() || !port.bytes().all(|b| b.is_ascii_digit()) || port.parse::<u16>().is_err())
    {
        return false;
    }
    if let Some(address) = host.strip_prefix('[') {
        return address.strip_suffix(']').is_some_and(|a| a.parse::<Ipv6Addr>().is_ok());
    }
    host.split('.').all(|label| {
        !label.is_empty()
            && label.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
            && !label.starts_with('-')
            && !label.ends_with('-')
    })
}

/// Splits `host[:port]`; the colons of a bracketed IPv6 address are not a port's.
pub(crate) fn split_port(registry: &str) -> (&str, Option<&str>) {
    let start = registry.rfind(']').map_or(0, |bracket| bracket + 1);
    match registry[start..].find(':') {
        Some(colon) => (&registry[..start + colon], Some(&registry[start + colon + 1..])),
        None => (registry, None),
    }
}

impl fmt::Display for Reference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.registry, self.repository)?;
        if let Some(tag) = &self.tag {
            write!(f, ":{tag}")?;
        }
        if let Some(digest) = &self.digest {
            write!(f, "@{digest}")?;
        }
        Ok(())
    }
}

impl FromStr for Reference {
    type Err = ReferenceError;

    fn from_str(text: &str) -> Result<Self, ReferenceError> {
        Self::parse(text)
    }
}

impl Serialize for Reference {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Reference {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        Self::parse(&text).map_err(de::Error::custom)
    }
}

#[cfg(test)]
mod tests;
