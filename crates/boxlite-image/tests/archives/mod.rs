//! Archives and layouts made by hand, sound and otherwise, and loading them.

#![allow(dead_code, reason = "each test program uses a part of it")]

use std::io::Write;
use std::path::PathBuf;

use boxlite_image::{Digest, LoadError, LoadOptions, LoadedImage, Source, load};
use boxlite_tar::{Entry, EntryKind, Writer};
use flate2::write::GzEncoder;
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

use super::fake::{Home, MANIFEST, descriptor, image, silent};

pub(crate) fn options() -> LoadOptions {
    LoadOptions {
        platform: Some("linux/amd64".parse().unwrap()),
        ..LoadOptions::default()
    }
}

pub(crate) async fn load_from(home: &Home, source: &str) -> Result<Vec<LoadedImage>, LoadError> {
    let source = Source::parse(source).unwrap();
    load(&home.store, &source, &options(), silent(), CancellationToken::new()).await
}

pub(crate) async fn fails(source: &str) -> LoadError {
    let home = Home::new();
    let error = load_from(&home, source).await.expect_err(source);
    assert_eq!(home.unfinished(), 0, "{error}");
    assert!(!error.to_string().is_empty());
    error
}

pub(crate) enum Member<'a> {
    Data(&'a [u8]),
    SymLink(&'a str),
    HardLink(&'a str),
}
pub(crate) use Member::{Data, HardLink, SymLink};

/// A tar of these files.
pub(crate) fn tar(files: &[(&str, Member<'_>)]) -> Vec<u8> {
    let mut writer = Writer::new(Vec::new());
    for (path, file) in files {
        let (kind, link, data) = match file {
            Data(data) => (EntryKind::File, "", *data),
            SymLink(link) => (EntryKind::SymLink, *link, &b""[..]),
            HardLink(link) => (EntryKind::HardLink, *link, &b""[..]),
        };
        let mut entry = Entry::new(*path, kind);
        entry.link = link.as_bytes().to_vec();
        entry.size = data.len() as u64;
        writer.append(&entry, data).unwrap();
    }
    writer.finish().unwrap()
}

pub(crate) fn gzip(data: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(data).unwrap();
    encoder.finish().unwrap()
}

pub(crate) struct Scratch(pub(crate) tempfile::TempDir);

impl Scratch {
    pub(crate) fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    /// A file of this content, as a source.
    pub(crate) fn source(&self, transport: &str, content: &[u8]) -> String {
        let path = self.path("archive");
        std::fs::write(&path, content).unwrap();
        format!("{transport}:{}", path.display())
    }
}

pub(crate) fn config(layers: &[&[u8]]) -> Vec<u8> {
    image("linux/amd64", layers).1.pop().unwrap()
}

pub(crate) fn listing(images: &[(&str, &[&str], &[&str])]) -> Vec<u8> {
    let images: Vec<Value> = images
        .iter()
        .map(|(config, tags, layers)| json!({"Config": config, "RepoTags": tags, "Layers": layers}))
        .collect();
    json!(images).to_string().into_bytes()
}

/// A folder in OCI layout with whatever is put into it.
pub(crate) struct Layout(pub(crate) PathBuf);

impl Layout {
    pub(crate) fn new(path: PathBuf) -> Self {
        std::fs::create_dir_all(path.join("blobs/sha256")).unwrap();
        std::fs::write(path.join("oci-layout"), r#"{"imageLayoutVersion":"1.0.0"}"#).unwrap();
        Self(path)
    }

    pub(crate) fn put(&self, content: &[u8]) -> PathBuf {
        let path = self.0.join("blobs/sha256").join(Digest::sha256(content).hex());
        std::fs::write(&path, content).unwrap();
        path
    }

    pub(crate) fn index(&self, entries: &[Value]) {
        let index = json!({"schemaVersion": 2, "manifests": entries});
        std::fs::write(self.0.join("index.json"), index.to_string()).unwrap();
    }

    pub(crate) fn put_image(&self, layers: &[&[u8]]) -> Value {
        let (manifest, blobs) = image("linux/amd64", layers);
        for blob in blobs {
            self.put(&blob);
        }
        self.put(&manifest);
        descriptor(MANIFEST, &manifest)
    }

    pub(crate) fn source(&self) -> String {
        format!("oci:{}", self.0.display())
    }
}
