//! What a client works with, and what its home takes.

use std::collections::BTreeSet;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::Arc;

use boxlite_image::Platform;
use boxlite_store::{ImagePrune, PruneRequest, RecordedState};

use crate::bundle;
use crate::engine;
use crate::error::{Diagnose, DiskUsageError, InfoError, PruneError, StateError};
use crate::images::obtain::{manifest_of, store_digest};
use crate::record;
use crate::shared::Shared;
use crate::system::{BoxCounts, BoxUsage, DiskUsage, ImageUsage, PruneOptions, PruneReport, SystemInfo, UsageClass};
use crate::templates;

/// What a client works with.
pub(crate) async fn info(shared: &Arc<Shared>) -> Result<SystemInfo, InfoError> {
    let bundle = shared.bundle().await;
    let engine = shared
        .blocking(|shared| Ok::<_, StateError>(engine::find(&shared.home, shared.engine)))
        .await?;
    let accelerator = match (&engine, &bundle) {
        (Ok(engine), Ok(bundle)) => Some(engine::choose(&shared.home, engine, shared.accelerator, bundle).await),
        _ => None,
    };
    let (accelerator, unusable) = match accelerator {
        Some(Ok(accelerator)) => (Some(accelerator), None),
        Some(Err(error)) => (None, Some(error.diagnosis())),
        None => (None, None),
    };
    let (boxes, images) = shared
        .blocking(|shared| {
            shared.settle()?;
            let mut counts = BoxCounts::default();
            for record in shared.home.list_boxes()? {
                counts.total += 1;
                match record.state {
                    RecordedState::Paused => counts.paused += 1,
                    state if state.is_live() => counts.running += 1,
                    _ => counts.stopped += 1,
                }
            }
            let images = shared.home.list_images()?.len() as u64;
            Ok::<_, StateError>((counts, images))
        })
        .await?;
    let system = rustix::system::sysinfo();
    Ok(SystemInfo {
        version: env!("CARGO_PKG_VERSION").to_owned(),
        home: shared.home.path().to_owned(),
        platform: Platform::host().to_string(),
        engine: engine.as_ref().ok().map(|engine| engine.info.clone()),
        engine_error: engine.as_ref().err().map(Diagnose::diagnosis).or(unusable),
        accelerator,
        bundle_error: bundle.as_ref().err().map(Diagnose::diagnosis),
        bundle: bundle.ok().map(|bundle| bundle.info()),
        boxes,
        images,
        host_cpus: std::thread::available_parallelism()
            .map_or(1, |count| u32::try_from(count.get()).unwrap_or(u32::MAX)),
        host_memory_bytes: system.totalram.saturating_mul(u64::from(system.mem_unit)),
        host_kernel: rustix::system::uname().release().to_string_lossy().into_owned(),
    })
}

/// What the home takes. Blocking.
pub(crate) fn disk_usage(shared: &Shared) -> Result<DiskUsage, DiskUsageError> {
    shared.settle()?;
    let usage = shared.home.disk_usage().map_err(StateError::from)?;
    let garbage_bytes = usage.images_bytes.saturating_sub(named_bytes(shared)?);
    let in_use = usage.images.iter().filter(|image| image.boxes > 0).count();
    let alive = usage.boxes.iter().filter(|found| found.state.is_live()).count();
    let (bundles, own_bundle) = bundle::unpacked(&shared.home)?;
    let own_bundle_bytes = match &own_bundle {
        Some(directory) => allocated(directory)?,
        None => 0,
    };
    Ok(DiskUsage {
        images: UsageClass {
            count: usage.images.len() as u64,
            active: in_use as u64,
            size_bytes: usage.images_bytes.saturating_sub(garbage_bytes),
            reclaimable_bytes: usage.reclaimable_images_bytes,
        },
        boxes: UsageClass {
            count: usage.boxes.len() as u64,
            active: alive as u64,
            size_bytes: usage.boxes_bytes,
            reclaimable_bytes: usage.reclaimable_boxes_bytes,
        },
        bundles: UsageClass {
            count: bundles.len() as u64,
            active: u64::from(own_bundle.is_some()),
            size_bytes: usage.bundles_bytes,
            reclaimable_bytes: usage.bundles_bytes.saturating_sub(own_bundle_bytes),
        },
        templates: {
            let templates = templates::list(&shared.home)?;
            let size_bytes = allocated(&templates::dir(&shared.home))?;
            UsageClass {
                count: templates.len() as u64,
                active: templates.iter().filter(|template| template.usable).count() as u64,
                size_bytes,
                reclaimable_bytes: size_bytes,
            }
        },
        build_cache: UsageClass {
            count: 0,
            active: 0,
            size_bytes: garbage_bytes + usage.temporary_bytes,
            reclaimable_bytes: garbage_bytes + usage.temporary_bytes,
        },
        image_list: usage
            .images
            .into_iter()
            .map(|image| ImageUsage {
                references: image.references,
                digest: image.digest.to_string(),
                layers_bytes: image.unique_blob_bytes + image.shared_blob_bytes,
                rootfs_bytes: image.rootfs_bytes,
                boxes: image.boxes,
            })
            .collect(),
        box_list: usage
            .boxes
            .into_iter()
            .map(|found| BoxUsage {
                id: found.id.to_string(),
                name: found.name,
                state: record::state(found.state),
                size_bytes: found.bytes,
            })
            .collect(),
    })
}

/// What the blobs and root filesystems of all images take, each once. Blocking.
fn named_bytes(shared: &Shared) -> Result<u64, StateError> {
    let mut files = BTreeSet::new();
    for record in shared.home.list_images()? {
        let manifest = manifest_of(&record)?;
        for digest in manifest.blobs() {
            files.insert(shared.home.blob_path(&store_digest(digest)?));
        }
        files.insert(shared.home.rootfs_path(&record.digest));
    }
    files.iter().map(|file| allocated(file)).sum()
}

/// What a file, or a folder of files, takes on the disk; nothing if it is not there.
pub(crate) fn allocated(path: &Path) -> Result<u64, StateError> {
    let failed = |source| StateError::File {
        action: "looking at",
        path: path.to_owned(),
        source,
    };
    let metadata = match std::fs::symlink_metadata(path) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(0),
        other => other.map_err(failed)?,
    };
    if !metadata.is_dir() {
        return Ok(metadata.blocks() * 512);
    }
    let mut bytes = metadata.blocks() * 512;
    for entry in std::fs::read_dir(path).map_err(failed)? {
        bytes += allocated(&entry.map_err(failed)?.path())?;
    }
    Ok(bytes)
}

/// Removes what is not used. Blocking.
pub(crate) fn prune(shared: &Shared, options: PruneOptions) -> Result<PruneReport, PruneError> {
    shared.settle()?;
    let names: std::collections::BTreeMap<String, String> = shared
        .home
        .list_boxes()
        .map_err(StateError::from)?
        .into_iter()
        .map(|record| (record.id.to_string(), record.name))
        .collect();
    let every_box = |_: &boxlite_store::BoxRecord| true;
    let request = PruneRequest {
        boxes: if options.boxes { Some(&every_box) } else { None },
        images: if options.all_images {
            ImagePrune::Unused
        } else if options.images {
            ImagePrune::Dangling
        } else {
            ImagePrune::None
        },
    };
    let pruned = shared.home.prune(&request)?;
    let obsolete_bytes = templates::sweep(&shared.home);
    let bundle_bytes = if options.bundles { prune_bundles(shared)? } else { 0 };
    let (templates, template_bytes) = if options.templates {
        prune_templates(shared)?
    } else {
        (Vec::new(), 0)
    };
    Ok(PruneReport {
        templates,
        boxes: pruned
            .boxes
            .iter()
            .map(|id| names.get(id.as_str()).cloned().unwrap_or_else(|| id.to_string()))
            .collect(),
        images: pruned
            .images
            .into_iter()
            .flat_map(|(digest, references)| {
                if references.is_empty() {
                    vec![digest.to_string()]
                } else {
                    references
                }
            })
            .collect(),
        freed_bytes: pruned.reclaimed_bytes + obsolete_bytes + bundle_bytes + template_bytes,
    })
}

/// Removes the folders of templates, damaged ones too, but for what is being made; gives their
/// keys and what they took.
fn prune_templates(shared: &Shared) -> Result<(Vec<String>, u64), StateError> {
    let dir = templates::dir(&shared.home);
    let failed = |source| StateError::File {
        action: "reading",
        path: dir.clone(),
        source,
    };
    let entries = match std::fs::read_dir(&dir) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok((Vec::new(), 0)),
        entries => entries.map_err(failed)?,
    };
    let (mut keys, mut bytes) = (Vec::new(), 0);
    for entry in entries {
        let entry = entry.map_err(failed)?;
        let name = entry.file_name().to_string_lossy().into_owned();
        if name.starts_with('.') || !entry.path().is_dir() {
            continue;
        }
        bytes += allocated(&entry.path())?;
        templates::remove_dir(&entry.path())?;
        keys.push(name);
    }
    Ok((keys, bytes))
}

/// Removes the bundles of other versions; gives what they took. A machine that runs has no
/// need of its bundle any more, and a client that starts one unpacks what is missing.
fn prune_bundles(shared: &Shared) -> Result<u64, StateError> {
    let (all, own) = bundle::unpacked(&shared.home)?;
    let mut bytes = 0;
    for directory in all.into_iter().filter(|found| Some(found) != own.as_ref()) {
        bytes += allocated(&directory)?;
        match std::fs::remove_dir_all(&directory) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                return Err(StateError::File {
                    action: "removing",
                    path: directory,
                    source: error,
                });
            }
            _ => {}
        }
    }
    Ok(bytes)
}
