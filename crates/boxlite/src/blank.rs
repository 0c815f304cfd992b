//! What the disks of templates' machines are copies of.

use std::path::{Path, PathBuf};

use boxlite_disk::{DISK_DEVICE_BYTES, FormatOptions};
use boxlite_image::rootfs::{self, BuildOptions};
use boxlite_machine::qemu::template::BlankDisks;
use boxlite_protocol::BLANK_DISK_SERIAL;
use boxlite_store::Home;
use tokio_util::sync::CancellationToken;

use crate::engine;
use crate::error::StateError;
use crate::options::DEFAULT_DISK_MIB;

/// The file system of a blank disk: that of boxes which ask for no size of their own.
pub(crate) const FILESYSTEM_BYTES: u64 = DEFAULT_DISK_MIB << 20;

/// Names in the home's cache. Their number grows by 1 with every change of what is in them.
const ROOTFS_NAME: &str = "blank-1.erofs";
const DISK_NAME: &str = "blank-1.ext4";

/// Finds them, or makes them. Blocking.
pub(crate) fn blank_disks(home: &Home) -> Result<BlankDisks, StateError> {
    let dir = engine::cache_dir(home)?;
    let rootfs = make(&dir, ROOTFS_NAME, |path| {
        let options = BuildOptions {
            device_bytes: Some(DISK_DEVICE_BYTES),
            ..BuildOptions::default()
        };
        rootfs::build_from_layers(&[], path, &options, &CancellationToken::new()).map_err(std::io::Error::other)?;
        Ok(())
    })?;
    let disk = make(&dir, DISK_NAME, |path| {
        let options = FormatOptions {
            filesystem_bytes: FILESYSTEM_BYTES,
            device_bytes: DISK_DEVICE_BYTES,
            label: "boxlite".to_owned(),
            uuid: *b"boxlite\x80\x80blank-1",
            created_at_seconds: crate::clock::now_seconds(),
            journal_bytes: None,
        };
        boxlite_disk::format(path, &options).map_err(std::io::Error::other)
    })?;
    Ok(BlankDisks {
        rootfs,
        disk,
        serial: BLANK_DISK_SERIAL.to_owned(),
    })
}

fn make(dir: &Path, name: &str, write: impl FnOnce(&Path) -> std::io::Result<()>) -> Result<PathBuf, StateError> {
    let path = dir.join(name);
    if path.exists() {
        return Ok(path);
    }
    let failed = |source| StateError::File {
        action: "writing",
        path: path.clone(),
        source,
    };
    // Whoever is second puts the same in its place.
    let folder = tempfile::Builder::new()
        .prefix(".blank-")
        .tempdir_in(dir)
        .map_err(failed)?;
    let new = folder.path().join(name);
    write(&new)
        .and_then(|()| std::fs::rename(&new, &path))
        .map_err(failed)?;
    Ok(path)
}
