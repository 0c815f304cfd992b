use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

use crate::kind::ErrorKind;
use crate::reference::{DEFAULT_REGISTRY, Reference, ReferenceError};

/// Where an image comes from: a registry, or one of containers-transports(5)' local forms.
///
/// | text | meaning |
/// |---|---|
/// | `debian:12`, `docker://debian:12` | a registry's |
/// | `docker-archive:PATH[:REFERENCE]` | a tar of `docker save` |
/// | `oci:PATH[:TAG]` | a folder in OCI image layout |
/// | `oci-archive:PATH[:TAG]` | a tar of such a folder |
/// | `dir:PATH` | a root filesystem's folder, no image |
///
/// A local path ends at the first colon. To pull an image whose name is a transport's, as in
/// `oci:latest`, write it in full: `docker.io/library/oci:latest`.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Source {
    /// An image in a registry.
    Registry(Reference),
    /// A tar of `docker save`, maybe compressed.
    DockerArchive {
        /// The file.
        path: PathBuf,
        /// Which of the archive's images; all if `None`.
        reference: Option<Reference>,
    },
    /// A folder in OCI image layout.
    OciLayout {
        /// The folder with `index.json` in it.
        path: PathBuf,
        /// Which of the layout's images, by its `org.opencontainers.image.ref.name`; all if `None`.
        tag: Option<String>,
    },
    /// A tar of an OCI image layout, maybe compressed.
    OciArchive {
        /// The file.
        path: PathBuf,
        /// As for [`Source::OciLayout`].
        tag: Option<String>,
    },
    /// A root filesystem's folder.
    RootfsDir(PathBuf),
}

/// A text that names no source of images.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SourceError {
    /// A local form without a path.
    #[error("{transport}: needs a path, as in {transport}:/some/path")]
    NoPath {
        /// The word before the colon.
        transport: &'static str,
    },
    /// A local form whose tag is empty.
    #[error("the tag after {path:?} is empty; leave the colon out to take every image")]
    EmptyTag {
        /// The path before the colon.
        path: String,
    },
    /// The reference, or the part of a `docker-archive:` after the path, is malformed.
    #[error(transparent)]
    Reference(#[from] ReferenceError),
}

impl SourceError {
    /// What to try next.
    pub fn hint(&self) -> String {
        match self {
            Self::NoPath { transport } => format!("write {transport}:PATH"),
            Self::EmptyTag { path } => {
                format!("write {path:?} without the colon, or a tag after it")
            }
            Self::Reference(error) => error.hint(),
        }
    }

    /// The coarse class of this failure: always [`ErrorKind::Invalid`].
    pub fn kind(&self) -> ErrorKind {
        ErrorKind::Invalid
    }
}

impl Source {
    /// Reads a source; short names belong to [`DEFAULT_REGISTRY`]. Looks at no file.
    ///
    /// # Errors
    /// When the text is malformed.
    pub fn parse(text: &str) -> Result<Self, SourceError> {
        Self::parse_with(text, DEFAULT_REGISTRY)
    }

    /// Reads a source; short names belong to `default_registry`. Looks at no file.
    ///
    /// # Errors
    /// When the text is malformed.
    pub fn parse_with(text: &str, default_registry: &str) -> Result<Self, SourceError> {
        let reference = |text: &str| Reference::parse_with(text, default_registry);
        if let Some(rest) = text.strip_prefix("docker://") {
            return Ok(Self::Registry(reference(rest)?));
        }
        if let Some(rest) = text.strip_prefix("docker-archive:") {
            let (path, name) = split_path("docker-archive", rest)?;
            let reference = name.map(|name| reference(&name)).transpose()?;
            return Ok(Self::DockerArchive { path, reference });
        }
        if let Some(rest) = text.strip_prefix("oci-archive:") {
            let (path, tag) = split_path("oci-archive", rest)?;
            return Ok(Self::OciArchive { path, tag });
        }
        if let Some(rest) = text.strip_prefix("oci:") {
            let (path, tag) = split_path("oci", rest)?;
            return Ok(Self::OciLayout { path, tag });
        }
        if let Some(rest) = text.strip_prefix("dir:") {
            if rest.is_empty() {
                return Err(SourceError::NoPath { transport: "dir" });
            }
            return Ok(Self::RootfsDir(rest.into()));
        }
        Ok(Self::Registry(reference(text)?))
    }

    /// Whether this source is a local file or folder, so that no network is needed.
    pub fn is_local(&self) -> bool {
        !matches!(self, Self::Registry(_))
    }
}

fn split_path(transport: &'static str, rest: &str) -> Result<(PathBuf, Option<String>), SourceError> {
    let (path, name) = match rest.split_once(':') {
        Some((path, name)) => (path, Some(name)),
        None => (rest, None),
    };
    if path.is_empty() {
        return Err(SourceError::NoPath { transport });
    }
    if name == Some("") {
        return Err(SourceError::EmptyTag { path: path.to_owned() });
    }
    Ok((path.into(), name.map(str::to_owned)))
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (transport, path, name) = match self {
            Self::Registry(reference) => return fmt::Display::fmt(reference, f),
            Self::DockerArchive { path, reference } => {
                ("docker-archive", path, reference.as_ref().map(Reference::to_string))
            }
            Self::OciLayout { path, tag } => ("oci", path, tag.clone()),
            Self::OciArchive { path, tag } => ("oci-archive", path, tag.clone()),
            Self::RootfsDir(path) => ("dir", path, None),
        };
        write!(f, "{transport}:{}", path.display())?;
        if let Some(name) = name {
            write!(f, ":{name}")?;
        }
        Ok(())
    }
}

impl FromStr for Source {
    type Err = SourceError;

    fn from_str(text: &str) -> Result<Self, SourceError> {
        Self::parse(text)
    }
}

impl Serialize for Source {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Source {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        Self::parse(&text).map_err(de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn parse(text: &str) -> Source {
        Source::parse(text).unwrap_or_else(|e| panic!("{text}: {e}"))
    }

    #[test]
    fn every_transport() {
        let alpine = Reference::parse("alpine:3").unwrap();
        assert_eq!(parse("alpine:3"), Source::Registry(alpine.clone()));
        assert_eq!(parse("docker://alpine:3"), Source::Registry(alpine.clone()));
        assert_eq!(
            parse("docker-archive:/a/b.tar"),
            Source::DockerArchive {
                path: "/a/b.tar".into(),
                reference: None
            }
        );
        assert_eq!(
            parse("docker-archive:b.tar:alpine:3"),
            Source::DockerArchive {
                path: "b.tar".into(),
                reference: Some(alpine)
            }
        );
        assert_eq!(
            parse("oci:/a/layout:v1"),
            Source::OciLayout {
                path: "/a/layout".into(),
                tag: Some("v1".into())
            }
        );
        assert_eq!(
            parse("oci-archive:x.tar:quay.io/a/b:1"),
            Source::OciArchive {
                path: "x.tar".into(),
                tag: Some("quay.io/a/b:1".into())
            }
        );
        assert_eq!(parse("dir:/srv/a:b"), Source::RootfsDir("/srv/a:b".into()));
        assert!(parse("dir:/srv").is_local() && !parse("alpine").is_local());
    }

    #[test]
    fn malformed_sources_say_what_is_wrong() {
        for text in ["oci:", "oci::x", "docker-archive:", "oci-archive:", "dir:"] {
            assert!(matches!(Source::parse(text), Err(SourceError::NoPath { .. })), "{text}");
        }
        assert!(matches!(Source::parse("oci:/a:"), Err(SourceError::EmptyTag { .. })));
        assert!(matches!(
            Source::parse("docker-archive:/a:B"),
            Err(SourceError::Reference(_))
        ));
        assert!(matches!(Source::parse("docker://"), Err(SourceError::Reference(_))));
        assert!(matches!(Source::parse(""), Err(SourceError::Reference(_))));
    }

    proptest! {
        #[test]
        fn display_and_parse_are_inverse(text in "(oci|oci-archive|docker-archive|dir):[a-z./]{1,9}(:[a-z0-9]{1,5})?") {
            let source = parse(&text);
            prop_assert_eq!(parse(&source.to_string()), source);
        }

        #[test]
        fn any_text_parses_or_fails_cleanly(text in ".{0,100}") {
            let _ = Source::parse(&text);
        }
    }
}
