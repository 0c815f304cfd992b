//! Root filesystems: what the layers of an image add up to, as one EROFS file.
//!
//! Nothing of an image becomes a file of its own on the host: layers are decompressed, merged
//! and written in one pass, so no path can lead out, no owner, mode, device or attribute is
//! lost, and no privilege is needed. The same layers give the same bytes.

mod error;
mod folder;
mod mount_points;
mod target;
pub(crate) mod tree;

use std::path::Path;

use boxlite_tar::{Entry, EntryKind, ReadError, Reader};
use tokio_util::sync::CancellationToken;

pub use self::error::BuildError;
pub use self::folder::build_from_dir;
use self::target::Target;
use crate::content::ContentStore;
use crate::digest::Digest;
use crate::erofs::Image;
pub use crate::erofs::XattrError;
pub use crate::erofs::{IMAGE_ROOT_NAME, ImageError};
pub use crate::layer::LayerInput;
use crate::layer::{LayerFailure, LayerStream};
use crate::manifest::ImageManifest;
use crate::merge::{Applied, Merge, MergeLimits};
pub use crate::merge::{EntryError, PathError};

/// What a root filesystem may be made of at most. Whatever exceeds a limit is refused with an
/// error that names it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BuildLimits {
    /// Layers. Default 127.
    pub layers: usize,
    /// Entries of all layers together, counting directories that no entry describes. Default
    /// 2,000,000.
    pub entries: u64,
    /// Bytes of a path or of a link's target. Default 4,096.
    pub path_bytes: usize,
    /// Names in a path, and from the root to a file. Default 1,024.
    pub path_components: usize,
    /// Bytes of all layers together, decompressed. Default 64 GiB.
    pub unpacked_bytes: u64,
    /// Memory for names, links, attributes and the maps of sparse files, in bytes. Default
    /// 1 GiB; a Debian image of 15,000 files needs some 5 MiB.
    pub metadata_bytes: u64,
}

impl Default for BuildLimits {
    fn default() -> Self {
        Self {
            layers: 127,
            entries: 2_000_000,
            path_bytes: 4096,
            path_components: 1024,
            unpacked_bytes: 64 << 30,
            metadata_bytes: 1 << 30,
        }
    }
}

/// How to build a root filesystem.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct BuildOptions {
    /// What it may be made of.
    pub limits: BuildLimits,
    /// The file is padded to this size (as a hole) and may not be larger; `None` leaves it as
    /// large as the file system.
    pub device_bytes: Option<u64>,
    /// What is missing of the places on which every box mounts something is added, as container
    /// engines do: `/dev`, `/proc`, `/sys` and, empty, `/etc/hosts`, `/etc/hostname`,
    /// `/etc/resolv.conf` and `/etc/machine-id`. A box that finds them needs not make them each
    /// time.
    pub mount_points: bool,
}

/// A root filesystem that was built.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct RootfsInfo {
    /// Files, directories and whatever else it has; hard links count once.
    pub inodes: u64,
    /// Bytes of the file system, without padding.
    pub bytes_written: u64,
    /// Bytes of all layers, decompressed; of all files for a folder.
    pub unpacked_bytes: u64,
    /// The digests of the layers' tars, lowest layer first; none for a folder.
    pub diff_ids: Vec<Digest>,
    /// Extended attributes that Linux has no place for and that were left out, like those of
    /// other systems.
    pub left_out_xattrs: u64,
    /// What was in a folder and left out: sockets, and what is mounted there.
    pub left_out_files: u64,
}

/// Builds the root filesystem of an image whose layers are in a content store. Blocking, and
/// busy on two cores; see [`build_from_layers`].
///
/// # Errors
/// [`BuildError`].
pub fn build(
    store: &ContentStore,
    image: &ImageManifest,
    dest: &Path,
    options: &BuildOptions,
    cancel: &CancellationToken,
) -> Result<RootfsInfo, BuildError> {
    // Nobody may delete the blobs meanwhile.
    let _lease = store.lease()?;
    let layers = image
        .layers
        .iter()
        .map(|layer| LayerInput {
            path: store.blob_path(&layer.digest),
            compression: layer.compression,
            diff_id: Some(layer.diff_id.clone()),
        })
        .collect::<Vec<_>>();
    build_from_layers(&layers, dest, options, cancel)
}

/// Builds a root filesystem from layers, the lowest first, as the file `dest`. Blocking.
///
/// `dest` appears only when it is complete and on disk: until then a file with a name of its
/// own is written beside it, and removed on failure.
///
/// # Errors
/// [`BuildError`], which names the layer, and the entry if it is one's fault.
pub fn build_from_layers(
    layers: &[LayerInput],
    dest: &Path,
    options: &BuildOptions,
    cancel: &CancellationToken,
) -> Result<RootfsInfo, BuildError> {
    let limits = &options.limits;
    if layers.len() > limits.layers {
        return Err(BuildError::TooManyLayers {
            count: layers.len(),
            limit: limits.layers,
        });
    }
    let (target, mut image) = Target::create(dest, options)?;
    let mut merge = Merge::new(MergeLimits {
        entries: limits.entries,
        path_components: limits.path_components,
        metadata_bytes: limits.metadata_bytes,
    });
    let mut diff_ids = Vec::new();
    let mut unpacked_bytes = 0;
    let open = |index: usize, limit: u64| {
        layers
            .get(index)
            .map(|layer| {
                LayerStream::open(layer, limit, cancel).map_err(|failure| layer_error(layers, index, limits, failure))
            })
            .transpose()
    };
    let mut next = open(0, limits.unpacked_bytes)?;
    for (index, layer) in layers.iter().enumerate() {
        let Some(mut stream) = next.take() else { break };
        // The layer above is being read while this one is worked on.
        next = open(index + 1, limits.unpacked_bytes)?;
        stream.limit_to(limits.unpacked_bytes - unpacked_bytes);
        merge.begin_layer();
        let mut work = LayerWork {
            index,
            layers,
            options,
            target: &target,
            merge: &mut merge,
            image: &mut image,
        };
        work.apply(&mut stream)?;
        let (actual, bytes) = stream
            .finish()
            .map_err(|failure| layer_error(layers, index, limits, failure))?;
        unpacked_bytes += bytes;
        if let Some(expected) = &layer.diff_id
            && *expected != actual
        {
            return Err(BuildError::DiffId {
                layer: index + 1,
                path: layer.path.clone(),
                expected: expected.clone(),
                actual,
            });
        }
        diff_ids.push(actual);
    }
    if options.mount_points {
        mount_points::add_missing(&mut merge.tree);
    }
    let left_out_xattrs = merge.left_out_xattrs;
    let sealed = target.seal(image, &merge.tree, cancel)?;
    Ok(RootfsInfo {
        inodes: sealed.inodes,
        bytes_written: sealed.bytes,
        unpacked_bytes,
        diff_ids,
        left_out_xattrs,
        left_out_files: 0,
    })
}

fn layer_error(layers: &[LayerInput], index: usize, limits: &BuildLimits, failure: LayerFailure) -> BuildError {
    let (layer, path) = (index + 1, layers[index].path.clone());
    match failure {
        LayerFailure::Open(source) => BuildError::OpenLayer { layer, path, source },
        LayerFailure::Decompress(source) => BuildError::Decompress { layer, path, source },
        LayerFailure::TooLarge => BuildError::UnpackedTooLarge {
            layer,
            limit: limits.unpacked_bytes,
        },
        LayerFailure::Cancelled => BuildError::Cancelled,
    }
}

/// One layer that is being applied.
struct LayerWork<'a> {
    index: usize,
    layers: &'a [LayerInput],
    options: &'a BuildOptions,
    target: &'a Target,
    merge: &'a mut Merge,
    image: &'a mut Image,
}

/// Why a file's content could not be stored.
enum StoreError {
    Read(ReadError),
    Write(ImageError),
}

impl From<ImageError> for StoreError {
    fn from(error: ImageError) -> Self {
        Self::Write(error)
    }
}

impl LayerWork<'_> {
    fn apply(&mut self, stream: &mut LayerStream) -> Result<(), BuildError> {
        let limits = boxlite_tar::Limits {
            path_bytes: self.options.limits.path_bytes,
            ..boxlite_tar::Limits::default()
        };
        let mut reader = Reader::new(&mut *stream, limits);
        let result = loop {
            match reader.next_entry() {
                Ok(Some(entry)) => {
                    if let Err(error) = self.apply_entry(&mut reader, &entry) {
                        break Err(error);
                    }
                }
                Ok(None) => break Ok(()),
                Err(error) => break Err(self.tar_error(error)),
            }
        };
        // What the stream knows about its failure is more than what the reader was told.
        match stream.take_failure() {
            Some(failure) => Err(layer_error(self.layers, self.index, &self.options.limits, failure)),
            None => result,
        }
    }

    fn apply_entry(&mut self, reader: &mut Reader<&mut LayerStream>, entry: &Entry) -> Result<(), BuildError> {
        let applied = self.merge.apply(entry).map_err(|source| BuildError::Entry {
            layer: self.index + 1,
            path: String::from_utf8_lossy(&entry.path).into_owned(),
            source,
        })?;
        for data in self.merge.tree.released.drain(..) {
            self.image.release(&data);
        }
        let Applied::NeedsContent(place) = applied else {
            return Ok(());
        };
        debug_assert_eq!(entry.kind, EntryKind::File);
        let stored = self
            .image
            .store(entry.size, entry.sparse.as_deref(), place.xattrs(), |buffer| {
                loop {
                    match reader.read_extent(buffer).map_err(StoreError::Read)? {
                        0 => {
                            if reader.next_extent().map_err(StoreError::Read)?.is_none() {
                                return Ok(0);
                            }
                        }
                        bytes => return Ok(bytes),
                    }
                }
            });
        match stored {
            Ok(data) => {
                self.merge.add_file(place, data);
                Ok(())
            }
            Err(StoreError::Read(error)) => Err(self.tar_error(error)),
            Err(StoreError::Write(error)) => Err(self.target.write_error(error)),
        }
    }

    fn tar_error(&self, source: ReadError) -> BuildError {
        BuildError::Tar {
            layer: self.index + 1,
            path: self.layers[self.index].path.clone(),
            source,
        }
    }
}
