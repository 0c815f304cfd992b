use std::collections::BTreeSet;

use serde::Deserialize;

use super::archive::{Archive, Summary};
use super::layout::blob_path;
use super::{Job, LoadError, LoadedImage, whole_reference};
use crate::config::ImageConfig;
use crate::digest::Digest;
use crate::document::{Descriptor, Document, DocumentError, Index, Manifest};
use crate::manifest::{ImageManifest, Parts};
use crate::media_type::{Compression, OCI_CONFIG, OCI_MANIFEST};
use crate::platform::Platform;
use crate::reference::Reference;

const MANIFEST: &str = "manifest.json";
const INDEX: &str = "index.json";
/// Manifests that an index may name before nobody looks for the right one any more.
const MAX_MANIFESTS: usize = 200;

/// One image of an archive's `manifest.json`.
#[derive(Deserialize)]
struct Listed {
    #[serde(rename = "Config")]
    config: String,
    #[serde(rename = "RepoTags")]
    repo_tags: Option<Vec<String>>,
    #[serde(rename = "Layers")]
    layers: Option<Vec<String>>,
}

/// An image's manifest.
#[derive(Clone)]
struct Original {
    digest: Digest,
    json: Vec<u8>,
    manifest: Manifest,
}

/// Loads what `docker save` writes: the one image that is named, or all.
pub(super) fn load(job: &Job, reference: Option<&Reference>) -> Result<Vec<LoadedImage>, LoadError> {
    let mut archive = Archive::read(job)?;
    if !archive.has(MANIFEST) {
        let actual = if archive.has(INDEX) {
            "oci-archive"
        } else if archive.has("repositories") {
            "what docker wrote before version 1.10"
        } else {
            return Err(job.missing(MANIFEST));
        };
        return Err(LoadError::OtherFormat {
            path: job.path.clone(),
            expected: "docker-archive",
            actual,
        });
    }
    let json = archive.document(job, "archive's manifest", MANIFEST)?;
    let mut listed: Vec<Listed> = serde_json::from_slice(&json)
        .map_err(|error| job.unusable(MANIFEST)(DocumentError::json("archive's manifest", &error)))?;
    if listed.is_empty() {
        return Err(LoadError::Empty { path: job.path.clone() });
    }
    let limit = job.options.limits.images;
    if listed.len() > limit {
        return Err(LoadError::TooLarge {
            path: job.path.clone(),
            what: "images",
            limit: limit as u64,
        });
    }
    if let Some(wanted) = reference {
        let names = || listed.iter().flat_map(|image| image.repo_tags.iter().flatten());
        let available: Vec<String> = names().cloned().collect();
        let is_wanted = |name: &String| whole_reference(name).as_ref() == Some(wanted);
        for image in &mut listed {
            image.repo_tags.get_or_insert_default().retain(is_wanted);
        }
        listed.retain(|image| image.repo_tags.as_ref().is_some_and(|names| !names.is_empty()));
        if listed.is_empty() {
            return Err(LoadError::NoSuchImage {
                path: job.path.clone(),
                wanted: wanted.familiar(),
                available,
            });
        }
    }
    let manifests = original_manifests(job, &archive);
    let mut loaded = Vec::new();
    let mut available = BTreeSet::new();
    for image in &listed {
        match load_one(job, &mut archive, image, &manifests)? {
            Ok(manifest) => {
                let names = image.repo_tags.iter().flatten();
                let named = names.map(|name| LoadedImage {
                    reference: whole_reference(name),
                    name: Some(name.clone()),
                    manifest: manifest.clone(),
                });
                let before = loaded.len();
                loaded.extend(named);
                if loaded.len() == before {
                    loaded.push(LoadedImage {
                        reference: None,
                        name: None,
                        manifest,
                    });
                }
            }
            Err(platform) => available.extend(platform),
        }
    }
    if loaded.is_empty() {
        return Err(job.no_platform(available));
    }
    Ok(loaded)
}

/// Loads an image, or tells which platform it is for if that is not the wanted one.
fn load_one(
    job: &Job,
    archive: &mut Archive,
    image: &Listed,
    originals: &[Original],
) -> Result<Result<ImageManifest, Option<Platform>>, LoadError> {
    let json = archive.document(job, "image config", &image.config)?;
    let config = ImageConfig::parse(&json).map_err(job.unusable(&image.config))?;
    let platform = match config.platform() {
        Some(platform) if job.wanted().suits(&platform).is_some() => platform,
        other => return Ok(Err(other)),
    };
    let paths = image.layers.as_deref().unwrap_or_default();
    let limit = job.options.limits.layers;
    if paths.len() > limit {
        return Err(job.unusable(MANIFEST)(DocumentError::TooManyLayers {
            layers: paths.len(),
            limit,
        }));
    }
    let mut descriptors = Vec::with_capacity(paths.len());
    for (position, path) in paths.iter().enumerate() {
        let Summary {
            digest,
            bytes,
            compression,
        } = archive.summary(job, path)?;
        // The names of blobs are digests and bind; those of other members are only names.
        if let Some(expected) = blob_name(path)
            && expected != digest
        {
            return Err(job.wrong_digest(path, &expected, &digest));
        }
        if let (Compression::None, Some(expected)) = (compression, config.diff_ids.get(position))
            && expected.algorithm() == digest.algorithm()
            && *expected != digest
        {
            return Err(job.wrong_digest(path, expected, &digest));
        }
        descriptors.push(Descriptor::new(compression.layer_media_type(), digest, bytes));
    }
    let config_summary = archive.summary(job, &image.config)?;
    if let Some(expected) = blob_name(&image.config)
        && expected != config_summary.digest
    {
        return Err(job.wrong_digest(&image.config, &expected, &config_summary.digest));
    }
    let original = match original(originals, &config_summary.digest, &descriptors) {
        Some(original) => original.clone(),
        None => made_up(job, &config_summary, descriptors)?,
    };
    let Original { digest, json, manifest } = original;
    let parts = Parts {
        digest: digest.clone(),
        json_bytes: json.len() as u64,
        manifest,
        config,
    };
    parts.check().map_err(job.unusable(MANIFEST))?;
    archive.store(job, &image.config)?;
    for path in paths {
        archive.store(job, path)?;
    }
    job.store.write_as(&digest, &json).map_err(|error| job.content(error))?;
    job.assemble(parts, None, platform).map(Ok)
}

/// Newer archives are OCI layouts as well, whose manifests keep the identity that the images
/// have in their registry. What is wrong with them is nobody's business here.
fn original_manifests(job: &Job, archive: &Archive) -> Vec<Original> {
    let document = |path: &str| {
        if !archive.has(path) {
            return None;
        }
        let json = archive.document(job, "index", path).ok()?;
        Some((archive.summary(job, path).ok()?.digest, json))
    };
    let index = |path: &str| {
        let (digest, json) = document(path)?;
        Some((digest, serde_json::from_slice::<Index>(&json).ok()?))
    };
    let mut found = Vec::new();
    let Some((_, top)) = index(INDEX) else {
        return found;
    };
    let mut todo = top.manifests;
    todo.truncate(MAX_MANIFESTS);
    let mut seen = BTreeSet::new();
    while let Some(descriptor) = todo.pop() {
        if seen.len() >= MAX_MANIFESTS || !seen.insert(descriptor.digest.clone()) {
            continue;
        }
        let path = blob_path(&descriptor.digest);
        let Some((digest, json)) = document(&path).filter(|(digest, _)| *digest == descriptor.digest) else {
            continue;
        };
        match Document::parse(&json, Some(&descriptor.media_type)) {
            Ok(Document::Manifest(manifest)) if manifest.check(&job.options.limits).is_ok() => {
                found.push(Original {
                    digest,
                    json,
                    manifest: *manifest,
                });
            }
            Ok(Document::Index(index)) => todo.extend(index.manifests.into_iter().take(MAX_MANIFESTS)),
            _ => {}
        }
    }
    found
}

/// The manifest of exactly this config and these layers.
fn original<'a>(originals: &'a [Original], config: &Digest, layers: &[Descriptor]) -> Option<&'a Original> {
    originals.iter().find(|original| {
        let theirs = original.manifest.layers.iter().map(|layer| (&layer.digest, layer.size));
        original.manifest.config.digest == *config && theirs.eq(layers.iter().map(|layer| (&layer.digest, layer.size)))
    })
}

/// The digest that a member's path is, if it is a blob's.
fn blob_name(path: &str) -> Option<Digest> {
    let (algorithm, hex) = path.strip_prefix("blobs/")?.split_once('/')?;
    Digest::parse(&format!("{algorithm}:{hex}")).ok()
}

/// A manifest for an image that has none, the same each time.
fn made_up(job: &Job, config: &Summary, layers: Vec<Descriptor>) -> Result<Original, LoadError> {
    let manifest = Manifest {
        schema_version: 2,
        media_type: OCI_MANIFEST.to_owned(),
        config: Descriptor::new(OCI_CONFIG, config.digest.clone(), config.bytes),
        layers,
    };
    manifest.check(&job.options.limits).map_err(job.unusable(MANIFEST))?;
    let json = serde_json::to_vec(&manifest)
        .map_err(|error| job.unusable(MANIFEST)(DocumentError::json("manifest", &error)))?;
    let digest = Digest::sha256(&json);
    Ok(Original { digest, json, manifest })
}
