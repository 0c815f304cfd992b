use std::io;
use std::path::PathBuf;

use crate::choice::list_platforms;
use crate::content::ContentError;
use crate::digest::Digest;
use crate::document::DocumentError;
use crate::kind::ErrorKind;
use crate::platform::Platform;
use crate::source::Source;

/// Why an image could not be loaded from an archive or layout. Each variant carries the path
/// of the file or folder.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LoadError {
    /// The caller cancelled.
    #[error("loading {path} was cancelled", path = .path.display())]
    Cancelled {
        /// The file or folder.
        path: PathBuf,
    },
    /// The source is none that holds images: a registry's reference or a folder of files.
    #[error("{input} is not an archive or layout of images")]
    NotLoadable {
        /// What was given.
        input: Box<Source>,
    },
    /// The file or folder can't be read.
    #[error("cannot read {path}: {source}", path = .path.display())]
    Read {
        /// The file or folder.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// There is a folder where a file should be, or the other way round.
    #[error("{path} is not a {expected}", path = .path.display())]
    WrongType {
        /// The file or folder.
        path: PathBuf,
        /// What it should be: "file" or "folder".
        expected: &'static str,
    },
    /// The archive is compressed in a way that is not supported.
    #[error("{path} is compressed with {compression}, which is not supported", path = .path.display())]
    Compression {
        /// The file.
        path: PathBuf,
        /// How it is compressed.
        compression: &'static str,
    },
    /// The archive can't be decompressed or is no sound tar.
    #[error("{path} is not a sound archive: {source}", path = .path.display())]
    Archive {
        /// The file.
        path: PathBuf,
        /// Why not.
        source: boxlite_tar::ReadError,
    },
    /// The archive or layout is of another kind than was said.
    #[error("{path} is not of the kind {expected}: it looks like {actual}", path = .path.display())]
    OtherFormat {
        /// The file or folder.
        path: PathBuf,
        /// The transport that was given, e.g. `docker-archive`.
        expected: &'static str,
        /// What it looks like, e.g. `oci-archive`.
        actual: &'static str,
    },
    /// Something that should be there is missing, or is no regular file.
    #[error("{path} has no usable {member}", path = .path.display())]
    Missing {
        /// The archive or layout.
        path: PathBuf,
        /// What is missing, by its path in there, shortened.
        member: String,
    },
    /// The layout is of a version that is not known.
    #[error("{path} is an OCI image layout of version {version:?}; only 1.x is supported", path = .path.display())]
    LayoutVersion {
        /// The archive or layout.
        path: PathBuf,
        /// What it says, shortened.
        version: String,
    },
    /// A manifest, index or config is unusable.
    #[error("cannot load {path}: {member}: {source}", path = .path.display())]
    Document {
        /// The archive or layout.
        path: PathBuf,
        /// Which document, by its path or digest.
        member: String,
        /// What is wrong with it.
        source: DocumentError,
    },
    /// Content is not what its digest says.
    #[error("{path} is damaged: {member} should have digest {expected} but has {actual}", path = .path.display())]
    Digest {
        /// The archive or layout.
        path: PathBuf,
        /// What is damaged, by its path.
        member: String,
        /// The digest it should have.
        expected: Digest,
        /// The digest it has.
        actual: Digest,
    },
    /// Content has another size than its descriptor says.
    #[error("{path} is damaged: {member} should be {expected_bytes} bytes long but is {actual_bytes}", path = .path.display())]
    Size {
        /// The archive or layout.
        path: PathBuf,
        /// What is damaged, by its path.
        member: String,
        /// The size it should have.
        expected_bytes: u64,
        /// The size it has.
        actual_bytes: u64,
    },
    /// There is no image for the platform.
    #[error("{path} has no image for {wanted}; there are: {}", list_platforms(.available), path = .path.display())]
    Platform {
        /// The archive or layout.
        path: PathBuf,
        /// What was looked for.
        wanted: Box<Platform>,
        /// What there is.
        available: Vec<Platform>,
    },
    /// There is no image of that name.
    #[error("{path} has no image {wanted:?}; there are: {}", list_names(.available), path = .path.display())]
    NoSuchImage {
        /// The archive or layout.
        path: PathBuf,
        /// What was looked for.
        wanted: String,
        /// What there is.
        available: Vec<String>,
    },
    /// The archive or layout has no image at all.
    #[error("{path} has no images", path = .path.display())]
    Empty {
        /// The archive or layout.
        path: PathBuf,
    },
    /// A limit was exceeded.
    #[error("{path} has more than {limit} {what}", path = .path.display())]
    TooLarge {
        /// The archive or layout.
        path: PathBuf,
        /// Of what there is too much.
        what: &'static str,
        /// The limit.
        limit: u64,
    },
    /// The content store can't be read or written.
    #[error("cannot load {path}: {source}", path = .path.display())]
    Content {
        /// The archive or layout.
        path: PathBuf,
        /// Why not.
        source: ContentError,
    },
}

impl LoadError {
    /// The coarse class of this failure.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::Cancelled { .. } => ErrorKind::Cancelled,
            Self::NotLoadable { .. } | Self::WrongType { .. } | Self::OtherFormat { .. } => ErrorKind::Invalid,
            Self::Read { source, .. } => ErrorKind::of_io(source),
            Self::Compression { .. } | Self::LayoutVersion { .. } => ErrorKind::Unsupported,
            Self::Archive { source, .. } => match source {
                boxlite_tar::ReadError::TooLong { .. } => ErrorKind::TooLarge,
                _ => ErrorKind::Corrupt,
            },
            Self::Missing { .. } | Self::Digest { .. } | Self::Size { .. } => ErrorKind::Corrupt,
            Self::Document { source, .. } => source.kind(),
            Self::Platform { .. } | Self::NoSuchImage { .. } | Self::Empty { .. } => ErrorKind::NotFound,
            Self::TooLarge { .. } => ErrorKind::TooLarge,
            Self::Content { source, .. } => source.kind(),
        }
    }

    /// The likely cause and what to try next.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Cancelled { .. } => None,
            Self::NotLoadable { input } => Some(match &**input {
                Source::Registry(reference) => format!("`boxlite pull {}` fetches it", reference.familiar()),
                other => format!("`boxlite run {other}` runs a root filesystem's folder without loading it"),
            }),
            Self::Read { path, .. } => Some(format!("check the spelling and the permissions of {}", path.display())),
            Self::WrongType { path, expected } => Some(if *expected == "file" {
                format!(
                    "a folder in OCI layout is oci:{path}, a root filesystem dir:{path}",
                    path = path.display()
                )
            } else {
                format!("a tar of a layout is oci-archive:{path}", path = path.display())
            }),
            Self::Compression { .. } => Some("decompress it first, or compress it with gzip or zstd".to_owned()),
            Self::OtherFormat {
                path,
                actual: actual @ ("docker-archive" | "oci-archive"),
                ..
            } => Some(format!("name it {actual}:{}", path.display())),
            Self::OtherFormat { .. } => Some("save the image again with a current docker, podman or skopeo".to_owned()),
            Self::Archive { .. } | Self::Missing { .. } | Self::Digest { .. } | Self::Size { .. } => Some(
                "the copy is damaged or incomplete: copy it again and compare checksums, or save the image again"
                    .to_owned(),
            ),
            Self::LayoutVersion { .. } => None,
            Self::Document { source, .. } => Some(source.hint().to_owned()),
            Self::Platform { available, .. } => available
                .first()
                .map(|platform| format!("load one of its platforms with `--platform {platform}`")),
            Self::NoSuchImage { .. } => Some("name one of these, or none to load every image".to_owned()),
            Self::Empty { .. } => Some("save the image again, by its name".to_owned()),
            Self::TooLarge { .. } => Some("raise the limit if you trust where the image comes from".to_owned()),
            Self::Content { source, .. } => Some(source.hint().to_owned()),
        }
    }
}

fn list_names(names: &[String]) -> String {
    const SHOWN: usize = 24;
    if names.is_empty() {
        return "none with a name".to_owned();
    }
    let mut text = names
        .iter()
        .take(SHOWN)
        .map(String::as_str)
        .collect::<Vec<_>>()
        .join(", ");
    if names.len() > SHOWN {
        text.push_str(&format!(" and {} more", names.len() - SHOWN));
    }
    text
}
