use std::io;
use std::path::PathBuf;

use boxlite_tar::ReadError;

use crate::content::ContentError;
use crate::digest::Digest;
use crate::erofs::ImageError;
use crate::kind::ErrorKind;
use crate::merge::EntryError;

/// Why a root filesystem could not be built. Layers are counted from 1, the lowest.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BuildError {
    /// There are more layers than allowed.
    #[error("the image has {count} layers, at most {limit} are allowed")]
    TooManyLayers {
        /// How many there are.
        count: usize,
        /// The limit.
        limit: usize,
    },
    /// The content store can't be used.
    #[error(transparent)]
    Content(#[from] ContentError),
    /// A layer's blob can't be opened.
    #[error("opening layer {layer}, {path}: {source}", path = .path.display())]
    OpenLayer {
        /// Which layer.
        layer: usize,
        /// Its blob.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// A layer's blob can't be read or decompressed.
    #[error("layer {layer}, {path}, can't be decompressed: {source}", path = .path.display())]
    Decompress {
        /// Which layer.
        layer: usize,
        /// Its blob.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// A layer is not the one that the image's config names.
    #[error(
        "layer {layer}, {path}, is not what the image says: its content should be {expected} but is {actual}",
        path = .path.display()
    )]
    DiffId {
        /// Which layer.
        layer: usize,
        /// Its blob.
        path: PathBuf,
        /// The digest that the config gives.
        expected: Digest,
        /// The digest that the tar has.
        actual: Digest,
    },
    /// A layer is no sound tar archive.
    #[error("layer {layer}, {path}: {source}", path = .path.display())]
    Tar {
        /// Which layer.
        layer: usize,
        /// Its blob.
        path: PathBuf,
        /// What is wrong with it.
        source: ReadError,
    },
    /// An entry of a layer can't be part of a file system.
    #[error("layer {layer}, entry {path:?}: {source}")]
    Entry {
        /// Which layer.
        layer: usize,
        /// The entry's path.
        path: String,
        /// What is wrong with it.
        source: EntryError,
    },
    /// All layers together are larger, decompressed, than allowed.
    #[error("the image unpacks to more than {limit} bytes, in layer {layer}")]
    UnpackedTooLarge {
        /// The layer in which the limit was exceeded.
        layer: usize,
        /// The limit in bytes.
        limit: u64,
    },
    /// Something in the folder can't be read.
    #[error("reading {path}: {source}", path = .path.display())]
    ReadFolder {
        /// What.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// Something in the folder can't be part of a root filesystem.
    #[error("{path}: {source}", path = .path.display())]
    FolderEntry {
        /// What.
        path: PathBuf,
        /// Why not.
        source: EntryError,
    },
    /// A file in the folder is not what it was when it was found.
    #[error("{path} was changed while it was read", path = .path.display())]
    Changed {
        /// Which file.
        path: PathBuf,
    },
    /// The files of a folder are larger together than allowed.
    #[error("the folder has more than {limit} bytes of files")]
    FolderTooLarge {
        /// The limit in bytes.
        limit: u64,
    },
    /// The root filesystem's file, or one beside it, can't be written.
    #[error("writing the root filesystem {path}: {source}", path = .path.display())]
    Write {
        /// Which file.
        path: PathBuf,
        /// Why not.
        source: ImageError,
    },
    /// The caller cancelled.
    #[error("building the root filesystem was cancelled")]
    Cancelled,
}

impl BuildError {
    /// The coarse class of this failure.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::TooManyLayers { .. } | Self::UnpackedTooLarge { .. } | Self::FolderTooLarge { .. } => {
                ErrorKind::TooLarge
            }
            Self::Content(source) => source.kind(),
            Self::OpenLayer { source, .. } | Self::ReadFolder { source, .. } => ErrorKind::of_io(source),
            Self::Decompress { .. } | Self::DiffId { .. } => ErrorKind::Corrupt,
            Self::Tar { source, .. } => match source {
                ReadError::TooLong { .. } => ErrorKind::TooLarge,
                ReadError::UnsupportedKind { .. } => ErrorKind::Unsupported,
                _ => ErrorKind::Corrupt,
            },
            Self::Entry { source, .. } | Self::FolderEntry { source, .. } => match source {
                EntryError::TooManyEntries { .. } | EntryError::MetadataTooLarge { .. } => ErrorKind::TooLarge,
                EntryError::Xattr(_) => ErrorKind::Unsupported,
                _ => ErrorKind::Corrupt,
            },
            Self::Changed { .. } => ErrorKind::Io,
            Self::Write { source, .. } => match source {
                ImageError::Io(source) => match ErrorKind::of_io(source) {
                    ErrorKind::NoSpace => ErrorKind::NoSpace,
                    _ => ErrorKind::Io,
                },
                ImageError::TooLarge { .. } => ErrorKind::TooLarge,
            },
            Self::Cancelled => ErrorKind::Cancelled,
        }
    }

    /// The likely cause and what to try next.
    pub fn hint(&self) -> &'static str {
        match self {
            Self::Content(source) => source.hint(),
            Self::Decompress { .. } | Self::OpenLayer { .. } => {
                "remove the image and pull or load it again; if it comes back, check the disk"
            }
            Self::DiffId { .. } | Self::Tar { .. } | Self::Entry { .. } => {
                "the image is damaged or was made to deceive: get it from elsewhere, or have its maker build it again"
            }
            Self::Changed { .. } => "stop whatever writes to the folder and try again",
            Self::ReadFolder { .. } => "run as the folder's owner, or make it readable",
            Self::FolderEntry { .. } => "remove it from the folder and try again",
            Self::Write { .. } if self.kind() == ErrorKind::NoSpace => {
                "free some space: `boxlite system df` shows what takes it, `boxlite system prune` frees it"
            }
            Self::Write { .. } if self.kind() == ErrorKind::Io => {
                "check the permissions and the health of the file system that holds boxlite's home"
            }
            Self::Cancelled => "start it again: nothing half-made was left behind",
            Self::TooManyLayers { .. }
            | Self::UnpackedTooLarge { .. }
            | Self::FolderTooLarge { .. }
            | Self::Write { .. } => "use a smaller image, or raise the limit if you trust where this one comes from",
        }
    }
}
