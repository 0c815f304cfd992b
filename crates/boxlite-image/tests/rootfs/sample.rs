//! Layers made by hand.

use std::io::Write;
use std::path::PathBuf;

use boxlite_image::Compression;
use boxlite_image::rootfs::{self, BuildError, BuildOptions, LayerInput, RootfsInfo};
use boxlite_tar::{Entry, EntryKind, Extent, Timestamp, Writer};
use tokio_util::sync::CancellationToken;

use crate::reader::{Image, fsck};

/// An entry and its data.
pub(crate) type Member = (Entry, Vec<u8>);

pub(crate) fn entry(path: &str, kind: EntryKind) -> Entry {
    let mut entry = Entry::new(path, kind);
    entry.mtime = Timestamp {
        seconds: 1_600_000_000,
        nanoseconds: 123_456_789,
    };
    entry
}

pub(crate) fn file(path: &str, content: &[u8]) -> Member {
    let mut entry = entry(path, EntryKind::File);
    entry.size = content.len() as u64;
    (entry, content.to_vec())
}

pub(crate) fn dir(path: &str) -> Member {
    (entry(path, EntryKind::Directory), Vec::new())
}

pub(crate) fn dir_mode(path: &str, mode: u32) -> Member {
    let mut member = dir(path);
    member.0.mode = mode;
    member
}

pub(crate) fn symlink(path: &str, target: &str) -> Member {
    let mut entry = entry(path, EntryKind::SymLink);
    entry.link = target.as_bytes().to_vec();
    (entry, Vec::new())
}

pub(crate) fn hard_link(path: &str, target: &str) -> Member {
    let mut entry = entry(path, EntryKind::HardLink);
    entry.link = target.as_bytes().to_vec();
    (entry, Vec::new())
}

pub(crate) fn device(path: &str, kind: EntryKind, major: u32, minor: u32) -> Member {
    let mut entry = entry(path, kind);
    entry.device = (major, minor);
    (entry, Vec::new())
}

/// `pieces` are offset and content.
pub(crate) fn sparse(path: &str, size: u64, pieces: &[(u64, &[u8])]) -> Member {
    let mut entry = entry(path, EntryKind::File);
    entry.size = size;
    entry.sparse = Some(
        pieces
            .iter()
            .map(|(offset, content)| Extent {
                offset: *offset,
                size: content.len() as u64,
            })
            .collect(),
    );
    (entry, pieces.iter().flat_map(|piece| piece.1.to_vec()).collect())
}

pub(crate) fn tar(members: &[Member]) -> Vec<u8> {
    let mut writer = Writer::new(Vec::new());
    for (entry, data) in members {
        writer.append(entry, &data[..]).unwrap();
    }
    writer.finish().unwrap()
}

pub(crate) fn compress(tar: &[u8], compression: Compression) -> Vec<u8> {
    match compression {
        Compression::None => tar.to_vec(),
        Compression::Gzip => {
            let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
            encoder.write_all(tar).unwrap();
            encoder.finish().unwrap()
        }
        Compression::Zstd => zstd::stream::encode_all(tar, 1).unwrap(),
    }
}

/// A folder for the blobs of an image and what is built from them.
pub(crate) struct Workshop {
    folder: tempfile::TempDir,
    pub(crate) options: BuildOptions,
}

impl Workshop {
    pub(crate) fn new() -> Self {
        Self {
            folder: tempfile::tempdir().unwrap(),
            options: BuildOptions::default(),
        }
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub(crate) fn inputs(&self, tars: &[Vec<u8>]) -> Vec<LayerInput> {
        tars.iter()
            .enumerate()
            .map(|(index, tar)| {
                let path = self.path(&format!("layer-{index}"));
                std::fs::write(&path, tar).unwrap();
                LayerInput {
                    path,
                    compression: Compression::None,
                    diff_id: None,
                }
            })
            .collect()
    }

    pub(crate) fn try_build(&self, tars: &[Vec<u8>]) -> Result<(RootfsInfo, Image), BuildError> {
        let dest = self.path("rootfs.erofs");
        let info = rootfs::build_from_layers(&self.inputs(tars), &dest, &self.options, &CancellationToken::new())?;
        let image = Image::open(&dest);
        assert_eq!(image.bytes, info.bytes_written);
        Ok((info, image))
    }

    /// Builds, and lets `fsck.erofs` judge.
    pub(crate) fn build(&self, layers: &[&[Member]]) -> Image {
        let tars: Vec<_> = layers.iter().map(|members| tar(members)).collect();
        let (_, image) = self.try_build(&tars).unwrap();
        fsck(&self.path("rootfs.erofs"));
        image
    }

    /// Builds what must fail, and checks that nothing is left behind.
    pub(crate) fn refusal(&self, tars: &[Vec<u8>]) -> BuildError {
        let error = self.try_build(tars).unwrap_err();
        self.assert_nothing_left();
        error
    }

    pub(crate) fn assert_nothing_left(&self) {
        for entry in std::fs::read_dir(self.folder.path()).unwrap() {
            let name = entry.unwrap().file_name();
            let name = name.to_str().unwrap();
            assert!(name.starts_with("layer-"), "{name} was left behind");
        }
    }
}

pub(crate) fn build(layers: &[&[Member]]) -> (Workshop, Image) {
    let workshop = Workshop::new();
    let image = workshop.build(layers);
    (workshop, image)
}
