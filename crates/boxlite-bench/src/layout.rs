//! OCI image layouts of one layer, made from a tar file.
//!
//! <https://github.com/opencontainers/image-spec/blob/main/image-layout.md>

use std::fs::{self, File};
use std::io::{Read as _, copy, sink};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

use crate::error::BenchError;

const MANIFEST_TYPE: &str = "application/vnd.oci.image.manifest.v1+json";
const CONFIG_TYPE: &str = "application/vnd.oci.image.config.v1+json";
const BLOCK_BYTES: usize = 1 << 20;

/// How a layer is packed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Packing {
    /// Not at all.
    Plain,
    /// As most registries have layers.
    Gzip,
    /// As newer builders can make them.
    Zstd,
}

impl Packing {
    /// Its name, which is that of the program that undoes it.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Plain => "plain",
            Self::Gzip => "gzip",
            Self::Zstd => "zstd",
        }
    }

    fn media_type(self) -> &'static str {
        match self {
            Self::Plain => "application/vnd.oci.image.layer.v1.tar",
            Self::Gzip => "application/vnd.oci.image.layer.v1.tar+gzip",
            Self::Zstd => "application/vnd.oci.image.layer.v1.tar+zstd",
        }
    }

    /// What packs, as builders do it: with the program's usual effort.
    fn program(self) -> Option<&'static str> {
        match self {
            Self::Plain => None,
            Self::Gzip | Self::Zstd => Some(self.as_str()),
        }
    }
}

/// A layout with one image, `latest`.
#[derive(Debug, Clone)]
pub(crate) struct Layout {
    /// The folder.
    pub(crate) folder: PathBuf,
    /// The image's layer, in it.
    pub(crate) layer: PathBuf,
    /// Bytes of the layer, unpacked.
    pub(crate) tar_bytes: u64,
}

/// Makes a layout below `folder` from a tar file. Blocking.
///
/// # Errors
/// When a file can't be read or written, or the packing's program is not there.
pub(crate) fn make(folder: &Path, tar: &Path, packing: Packing) -> Result<Layout, BenchError> {
    let blobs = folder.join("blobs/sha256");
    fs::create_dir_all(&blobs).map_err(BenchError::file(&blobs))?;
    let (diff_id, tar_bytes) = digest(tar)?;
    let packed = folder.join("layer");
    pack(tar, &packed, packing)?;
    let (layer_digest, layer_bytes) = digest(&packed)?;
    let layer = blobs.join(&layer_digest);
    fs::rename(&packed, &layer).map_err(BenchError::file(&layer))?;
    let architecture = match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    };
    let config = json!({
        "architecture": architecture,
        "os": "linux",
        "config": { "Env": ["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"] },
        "rootfs": { "type": "layers", "diff_ids": [format!("sha256:{diff_id}")] },
    });
    let manifest = json!({
        "schemaVersion": 2,
        "mediaType": MANIFEST_TYPE,
        "config": descriptor(&blobs, CONFIG_TYPE, &config)?,
        "layers": [{
            "mediaType": packing.media_type(),
            "digest": format!("sha256:{layer_digest}"),
            "size": layer_bytes,
        }],
    });
    let mut entry = descriptor(&blobs, MANIFEST_TYPE, &manifest)?;
    entry["annotations"] = json!({ "org.opencontainers.image.ref.name": "latest" });
    let index = json!({ "schemaVersion": 2, "manifests": [entry] });
    write(folder, "index.json", &index.to_string())?;
    write(folder, "oci-layout", r#"{"imageLayoutVersion":"1.0.0"}"#)?;
    Ok(Layout {
        folder: folder.to_owned(),
        layer,
        tar_bytes,
    })
}

fn pack(tar: &Path, packed: &Path, packing: Packing) -> Result<(), BenchError> {
    let mut source = File::open(tar).map_err(BenchError::file(tar))?;
    let mut target = File::create(packed).map_err(BenchError::file(packed))?;
    let Some(program) = packing.program() else {
        return copy(&mut source, &mut target)
            .map(drop)
            .map_err(BenchError::file(packed));
    };
    let ended = Command::new(program)
        .arg("-c")
        .stdin(source)
        .stdout(target)
        .stderr(Stdio::null())
        .status();
    match ended {
        Ok(status) if status.success() => Ok(()),
        Ok(status) => Err(BenchError::Program {
            program: program.to_owned(),
            status,
            stderr: String::new(),
        }),
        Err(source) => Err(BenchError::Spawn {
            program: program.to_owned(),
            source,
        }),
    }
}

/// SHA-256 and size of a file.
fn digest(path: &Path) -> Result<(String, u64), BenchError> {
    let mut file = File::open(path).map_err(BenchError::file(path))?;
    let (mut hasher, mut size) = (Sha256::new(), 0);
    let mut block = vec![0; BLOCK_BYTES];
    loop {
        let part = file.read(&mut block).map_err(BenchError::file(path))?;
        if part == 0 {
            return Ok((hex(&hasher.finalize()), size));
        }
        hasher.update(&block[..part]);
        size += part as u64;
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Puts a document among the blobs; gives what refers to it.
fn descriptor(blobs: &Path, media_type: &str, document: &Value) -> Result<Value, BenchError> {
    let text = document.to_string();
    let digest = hex(&Sha256::digest(&text));
    write(blobs, &digest, &text)?;
    Ok(json!({ "mediaType": media_type, "digest": format!("sha256:{digest}"), "size": text.len() }))
}

fn write(folder: &Path, name: &str, text: &str) -> Result<(), BenchError> {
    let path = folder.join(name);
    fs::write(&path, text).map_err(BenchError::file(path))
}

/// Reads a file to its end, so that what is measured next finds it in memory. Blocking.
pub(crate) fn warm(path: &Path) -> Result<(), BenchError> {
    let mut file = File::open(path).map_err(BenchError::file(path))?;
    copy(&mut file, &mut sink()).map(drop).map_err(BenchError::file(path))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_layout_refers_to_what_is_in_it() {
        let folder = tempfile::tempdir().unwrap();
        let tar = folder.path().join("tar");
        fs::write(&tar, [0; 10_240]).unwrap();
        let layout = make(&folder.path().join("layout"), &tar, Packing::Gzip).unwrap();
        assert_eq!(layout.tar_bytes, 10_240);
        let read = |path: &Path| serde_json::from_slice::<Value>(&fs::read(path).unwrap()).unwrap();
        let blob = |descriptor: &Value| {
            let digest = descriptor["digest"].as_str().unwrap().trim_start_matches("sha256:");
            let path = layout.folder.join("blobs/sha256").join(digest);
            let (actual, size) = super::digest(&path).unwrap();
            assert_eq!((actual.as_str(), json!(size)), (digest, descriptor["size"].clone()));
            path
        };
        let manifest = read(&blob(&read(&layout.folder.join("index.json"))["manifests"][0]));
        assert_eq!(blob(&manifest["layers"][0]), layout.layer);
        let config = read(&blob(&manifest["config"]));
        let (diff_id, _) = super::digest(&tar).unwrap();
        assert_eq!(config["rootfs"]["diff_ids"][0], format!("sha256:{diff_id}"));
    }
}
