use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::Read;
use std::path::PathBuf;

use serde::Deserialize;

use super::archive::Archive;
use super::{Job, LoadError, LoadedImage, whole_reference};
use crate::choice::choose;
use crate::config::ImageConfig;
use crate::digest::Digest;
use crate::document::{Descriptor, Document, DocumentError, Index, Manifest};
use crate::manifest::{ImageManifest, Parts};
use crate::platform::Platform;
use crate::progress::Meter;
use crate::reference::Reference;

const MARKER: &str = "oci-layout";
const INDEX: &str = "index.json";
const REF_NAME: &str = "org.opencontainers.image.ref.name";
const CONTAINERD_NAME: &str = "io.containerd.image.name";
const MAX_DEPTH: usize = 4;

/// Where the files of an OCI image layout are.
trait Layout {
    fn has(&self, job: &Job, path: &str) -> bool;
    /// A small file's content.
    fn file(&self, job: &Job, kind: &'static str, path: &str) -> Result<Vec<u8>, LoadError>;
    /// Puts a blob into the content store, if it is what its descriptor says.
    fn store_blob(&mut self, job: &Job, descriptor: &Descriptor) -> Result<(), LoadError>;
}

/// Loads from a layout in a folder: the images of one name, or all.
pub(super) fn load_folder(job: &Job, tag: Option<&str>) -> Result<Vec<LoadedImage>, LoadError> {
    let metadata = fs::metadata(&job.path).map_err(job.unreadable(&job.path))?;
    if !metadata.is_dir() {
        return Err(LoadError::WrongType {
            path: job.path.clone(),
            expected: "folder",
        });
    }
    load(job, &mut Folder { copied_bytes: 0 }, "oci", tag)
}

/// Loads from a tar of a layout: the images of one name, or all.
pub(super) fn load_archive(job: &Job, tag: Option<&str>) -> Result<Vec<LoadedImage>, LoadError> {
    load(job, &mut Archive::read(job)?, "oci-archive", tag)
}

fn load(
    job: &Job,
    layout: &mut impl Layout,
    transport: &'static str,
    tag: Option<&str>,
) -> Result<Vec<LoadedImage>, LoadError> {
    if !layout.has(job, INDEX) && layout.has(job, "manifest.json") {
        let (path, actual) = (job.path.clone(), "docker-archive");
        return Err(LoadError::OtherFormat {
            path,
            expected: transport,
            actual,
        });
    }
    check_version(job, layout)?;
    let json = layout.file(job, "index", INDEX)?;
    let index: Index =
        serde_json::from_slice(&json).map_err(|error| job.unusable(INDEX)(DocumentError::json("index", &error)))?;
    let groups = by_name(index.manifests, tag);
    if groups.iter().all(|group| group.descriptors.is_empty()) {
        return Err(match tag {
            Some(tag) => LoadError::NoSuchImage {
                path: job.path.clone(),
                wanted: tag.to_owned(),
                available: groups.into_iter().filter_map(|group| group.name).collect(),
            },
            None => LoadError::Empty { path: job.path.clone() },
        });
    }
    let limit = job.options.limits.images;
    if groups.len() > limit {
        return Err(LoadError::TooLarge {
            path: job.path.clone(),
            what: "images",
            limit: limit as u64,
        });
    }
    let mut loaded = Vec::new();
    let mut available = BTreeSet::new();
    for group in groups.into_iter().filter(|group| !group.descriptors.is_empty()) {
        if let Some(manifest) = load_group(job, layout, &group.descriptors, &mut available)? {
            let reference = group.name.as_deref().and_then(whole_reference);
            loaded.push(LoadedImage {
                reference,
                name: group.name,
                manifest,
            });
        }
    }
    if loaded.is_empty() {
        return Err(job.no_platform(available));
    }
    Ok(loaded)
}

fn check_version(job: &Job, layout: &impl Layout) -> Result<(), LoadError> {
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Marker {
        image_layout_version: String,
    }
    let json = layout.file(job, "layout marker", MARKER)?;
    let marker: Marker = serde_json::from_slice(&json)
        .map_err(|error| job.unusable(MARKER)(DocumentError::json("layout marker", &error)))?;
    let version = marker.image_layout_version;
    if version != "1" && !version.starts_with("1.") {
        let version = version.chars().take(80).collect();
        return Err(LoadError::LayoutVersion {
            path: job.path.clone(),
            version,
        });
    }
    Ok(())
}

/// What a layout's index has under one name. Empty of descriptors if it is not asked for.
struct Group {
    name: Option<String>,
    descriptors: Vec<Descriptor>,
}

fn by_name(descriptors: Vec<Descriptor>, tag: Option<&str>) -> Vec<Group> {
    let mut groups: Vec<Group> = Vec::new();
    for descriptor in descriptors {
        let whole = descriptor.annotation(CONTAINERD_NAME);
        let short = descriptor.annotation(REF_NAME);
        let name = whole.or(short).map(str::to_owned);
        let is_wanted = tag.is_none_or(|tag| is_called(tag, whole) || is_called(tag, short));
        let group = match groups.iter_mut().find(|group| group.name == name) {
            Some(group) => group,
            None => {
                groups.push(Group {
                    name,
                    descriptors: Vec::new(),
                });
                let Some(last) = groups.last_mut() else { continue };
                last
            }
        };
        if is_wanted {
            group.descriptors.push(descriptor);
        }
    }
    groups
}

fn is_called(tag: &str, name: Option<&str>) -> bool {
    name.is_some_and(|name| {
        name == tag || whole_reference(name).is_some_and(|reference| Reference::parse(tag).ok() == Some(reference))
    })
}

/// Loads the image for the wanted platform; `None`, with the platforms that there are, if
/// there is none.
fn load_group(
    job: &Job,
    layout: &mut impl Layout,
    descriptors: &[Descriptor],
    available: &mut BTreeSet<Platform>,
) -> Result<Option<ImageManifest>, LoadError> {
    /// Descriptors to choose from, the platform said so far, the index they come from.
    type Level = (Vec<Descriptor>, Option<Platform>, Option<Digest>, usize);
    let mut todo: Vec<Level> = vec![(descriptors.to_vec(), None, None, 0)];
    while let Some((descriptors, named, top_index, depth)) = todo.pop() {
        let candidates = match choose(&descriptors, &job.wanted()) {
            Ok(candidates) => candidates,
            Err(there) => {
                available.extend(there);
                continue;
            }
        };
        for candidate in candidates {
            job.check_cancelled()?;
            let platform = candidate.platform().or_else(|| named.clone());
            let (json, document) = document(job, layout, candidate)?;
            let manifest = match document {
                Document::Index(index) if depth < MAX_DEPTH => {
                    let top_index = top_index.clone().or_else(|| Some(candidate.digest.clone()));
                    layout.store_blob(job, candidate)?;
                    todo.push((index.manifests, platform, top_index, depth + 1));
                    continue;
                }
                Document::Index(_) => {
                    return Err(LoadError::TooLarge {
                        path: job.path.clone(),
                        what: "levels of indexes",
                        limit: MAX_DEPTH as u64,
                    });
                }
                Document::Manifest(manifest) => *manifest,
            };
            let unusable = job.unusable(&candidate.digest);
            manifest.check(&job.options.limits).map_err(&unusable)?;
            let config = config(job, layout, &manifest)?;
            let platform = match (platform, config.platform()) {
                (Some(platform), _) => platform,
                (None, Some(platform)) if job.wanted().suits(&platform).is_some() => platform,
                (None, other) => {
                    available.extend(other);
                    continue;
                }
            };
            let digest = candidate.digest.clone();
            let parts = Parts {
                digest,
                json_bytes: json.len() as u64,
                manifest,
                config,
            };
            parts.check().map_err(&unusable)?;
            for layer in &parts.manifest.layers {
                layout.store_blob(job, layer)?;
            }
            layout.store_blob(job, candidate)?;
            return job.assemble(parts, top_index, platform).map(Some);
        }
    }
    Ok(None)
}

/// Reads a manifest or index and verifies it.
fn document(job: &Job, layout: &impl Layout, descriptor: &Descriptor) -> Result<(Vec<u8>, Document), LoadError> {
    let json = verified(job, layout, "manifest", descriptor)?;
    let document = Document::parse(&json, Some(&descriptor.media_type)).map_err(job.unusable(&descriptor.digest))?;
    Ok((json, document))
}

fn config(job: &Job, layout: &mut impl Layout, manifest: &Manifest) -> Result<ImageConfig, LoadError> {
    let json = verified(job, layout, "image config", &manifest.config)?;
    let config = ImageConfig::parse(&json).map_err(job.unusable(&manifest.config.digest))?;
    layout.store_blob(job, &manifest.config)?;
    Ok(config)
}

fn verified(
    job: &Job,
    layout: &impl Layout,
    kind: &'static str,
    descriptor: &Descriptor,
) -> Result<Vec<u8>, LoadError> {
    let path = blob_path(&descriptor.digest);
    let json = layout.file(job, kind, &path)?;
    if !descriptor.digest.matches(&json) {
        let mut hasher = crate::digest::Hasher::new(descriptor.digest.algorithm());
        hasher.update(&json);
        return Err(job.wrong_digest(&path, &descriptor.digest, &hasher.finish()));
    }
    Ok(json)
}

fn wrong_size(job: &Job, descriptor: &Descriptor, actual_bytes: u64) -> LoadError {
    LoadError::Size {
        path: job.path.clone(),
        member: blob_path(&descriptor.digest),
        expected_bytes: descriptor.size,
        actual_bytes,
    }
}

impl Layout for Archive {
    fn has(&self, _job: &Job, path: &str) -> bool {
        Archive::has(self, path)
    }

    fn file(&self, job: &Job, kind: &'static str, path: &str) -> Result<Vec<u8>, LoadError> {
        self.document(job, kind, path)
    }

    fn store_blob(&mut self, job: &Job, descriptor: &Descriptor) -> Result<(), LoadError> {
        let path = blob_path(&descriptor.digest);
        let summary = self.summary(job, &path)?;
        if summary.digest != descriptor.digest {
            return Err(job.wrong_digest(&path, &descriptor.digest, &summary.digest));
        }
        if summary.bytes != descriptor.size {
            return Err(wrong_size(job, descriptor, summary.bytes));
        }
        self.store(job, &path).map(drop)
    }
}

/// A layout in a folder.
struct Folder {
    copied_bytes: u64,
}

impl Folder {
    /// Opens a regular file; symbolic links may lead to it, it is the user's own folder.
    fn open(job: &Job, path: &str) -> Result<(PathBuf, File, u64), LoadError> {
        let full = job.path.join(path);
        let metadata = match fs::metadata(&full) {
            Ok(metadata) => metadata,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Err(job.missing(path)),
            Err(error) => return Err(job.unreadable(&full)(error)),
        };
        // Opening a named pipe would wait for a writer.
        if !metadata.is_file() {
            return Err(job.missing(path));
        }
        let file = File::open(&full).map_err(job.unreadable(&full))?;
        Ok((full, file, metadata.len()))
    }
}

impl Layout for Folder {
    fn has(&self, job: &Job, path: &str) -> bool {
        job.path.join(path).exists()
    }

    fn file(&self, job: &Job, kind: &'static str, path: &str) -> Result<Vec<u8>, LoadError> {
        let limit = job.options.limits.document_bytes;
        let (full, file, bytes) = Self::open(job, path)?;
        let mut content = Vec::new();
        file.take(limit + 1)
            .read_to_end(&mut content)
            .map_err(job.unreadable(&full))?;
        if content.len() as u64 > limit {
            return Err(job.unusable(path)(DocumentError::TooLong {
                document: kind,
                bytes,
                limit,
            }));
        }
        Ok(content)
    }

    fn store_blob(&mut self, job: &Job, descriptor: &Descriptor) -> Result<(), LoadError> {
        let failed = |error| job.content(error);
        if job.store.size(&descriptor.digest).map_err(failed)? == Some(descriptor.size) {
            return Ok(());
        }
        let path = blob_path(&descriptor.digest);
        let (full, mut file, bytes) = Self::open(job, &path)?;
        if bytes != descriptor.size {
            return Err(wrong_size(job, descriptor, bytes));
        }
        let algorithm = descriptor.digest.algorithm();
        let mut writer = job.store.writer_under(&job.lease, algorithm).map_err(failed)?;
        if !writer.share(&file).map_err(failed)? {
            let mut meter = Meter::new(&job.progress);
            let mut buffer = vec![0; 1 << 20];
            loop {
                job.check_cancelled()?;
                match file.read(&mut buffer).map_err(job.unreadable(&full))? {
                    0 => break,
                    n => writer.append(&buffer[..n]).map_err(failed)?,
                }
                if writer.bytes() > descriptor.size {
                    return Err(wrong_size(job, descriptor, writer.bytes()));
                }
                job.tell(&mut meter, self.copied_bytes + writer.bytes(), None);
            }
        }
        let pending = writer.finish().map_err(failed)?;
        if *pending.digest() != descriptor.digest {
            return Err(job.wrong_digest(&path, &descriptor.digest, pending.digest()));
        }
        self.copied_bytes += pending.bytes();
        pending.commit().map_err(failed)?;
        Ok(())
    }
}

/// Where an OCI image layout has a blob.
pub(super) fn blob_path(digest: &Digest) -> String {
    format!("blobs/{}/{}", digest.algorithm().as_str(), digest.hex())
}
