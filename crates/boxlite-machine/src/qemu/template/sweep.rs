//! Removing what no start can go on from any more: [`sweep`].

use std::ffi::OsStr;
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use super::lock::{self, KeyLock};
use super::make::STAGING_PREFIX;
use super::{HostCpu, OpenError, Template};

/// Digits of a template's name.
const KEY_DIGITS: usize = 16;

/// What a sweep removed.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Swept {
    /// Names of templates.
    pub keys: Vec<String>,
    /// What they and what was left of others took of the disk.
    pub bytes: u64,
}

/// A folder of templates can't be swept.
#[derive(Debug, thiserror::Error)]
#[error("{} can't be cleaned up", path.display())]
pub struct SweepError {
    /// What could not be read or removed.
    pub path: PathBuf,
    /// What the system said.
    pub source: io::Error,
}

fn failed(path: &Path) -> impl FnOnce(io::Error) -> SweepError {
    move |source| SweepError {
        path: path.to_owned(),
        source,
    }
}

/// Removes from the folder `dir` the templates that were made with another engine, kernel,
/// initramfs or processor than those that are there now, or by another version, and what makers
/// that died left. What is just being made stays, and so does a damaged template: the next start of
/// its shape says what is wrong with it and has it replaced. Machines that run from a template
/// keep its memory, also when it has no name any more. Blocking; looks at a few files of each
/// template.
///
/// # Errors
/// [`SweepError`]; what was removed before stays so.
pub fn sweep(dir: &Path) -> Result<Swept, SweepError> {
    let mut swept = Swept::default();
    let entries = match std::fs::read_dir(dir) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(swept),
        entries => entries.map_err(failed(dir))?,
    };
    let mut host = HostCpu::default();
    let mut orphans = Vec::new();
    for entry in entries {
        let entry = entry.map_err(failed(dir))?;
        let is_folder = entry.file_type().is_ok_and(|kind| kind.is_dir());
        let name = entry.file_name();
        let Some(name) = name.to_str() else { continue };
        if let Some(key) = name.strip_prefix(STAGING_PREFIX) {
            let Some(lock) = KeyLock::try_take(dir, key).map_err(failed(dir))? else {
                continue;
            };
            swept.bytes += remove(&dir.join(name))?;
            lock.remove().map_err(failed(dir))?;
        } else if let Some(key) = name.strip_suffix(lock::SUFFIX) {
            orphans.push(key.to_owned());
        } else if is_folder && is_key(name) && is_obsolete(&dir.join(name), &mut host)? {
            let Some(lock) = KeyLock::try_take(dir, name).map_err(failed(dir))? else {
                continue;
            };
            // Its maker may just have finished with another in its place.
            if is_obsolete(&dir.join(name), &mut host)? {
                swept.bytes += remove(&dir.join(name))?;
                swept.keys.push(name.to_owned());
            }
            lock.remove().map_err(failed(dir))?;
        }
    }
    for key in orphans {
        remove_orphan(dir, &key)?;
    }
    Ok(swept)
}

fn is_key(name: &str) -> bool {
    name.len() == KEY_DIGITS && name.bytes().all(|byte| byte.is_ascii_hexdigit())
}

/// Whether nothing can become of the template in `dir`.
fn is_obsolete(dir: &Path, host: &mut HostCpu) -> Result<bool, SweepError> {
    match Template::open(dir) {
        Ok(template) => {
            let shape = &template.manifest().shape;
            Ok(!shape.is_current_on(host) || dir.file_name() != Some(OsStr::new(&shape.key())))
        }
        // It was being removed when that was broken off; or another version's.
        Err(OpenError::Missing | OpenError::Manifest(_)) => Ok(true),
        Err(OpenError::Read { source, .. }) if source.kind() == io::ErrorKind::NotFound => Ok(true),
        Err(OpenError::Read { path, source }) => Err(SweepError { path, source }),
        Err(OpenError::Changed { .. } | OpenError::Shape) => Ok(false),
    }
}

/// Removes the lock of a name under which there is nothing.
fn remove_orphan(dir: &Path, key: &str) -> Result<(), SweepError> {
    let is_used = || dir.join(key).exists() || dir.join(format!("{STAGING_PREFIX}{key}")).exists();
    let path = dir.join(format!("{key}{}", lock::SUFFIX));
    if is_used() || !path.exists() {
        return Ok(());
    }
    match KeyLock::try_take(dir, key).map_err(failed(&path))? {
        // It may have been made and finished in between.
        Some(lock) if !is_used() => lock.remove().map_err(failed(&path)),
        _ => Ok(()),
    }
}

/// Removes a folder; gives what it took of the disk, in bytes.
fn remove(dir: &Path) -> Result<u64, SweepError> {
    let mut bytes = 0;
    // Another may be removing it too, as a user may.
    let entries = match std::fs::read_dir(dir) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(0),
        entries => entries.map_err(failed(dir))?,
    };
    for entry in entries {
        if let Ok(metadata) = entry.and_then(|entry| entry.metadata()) {
            bytes += metadata.blocks() * 512;
        }
    }
    match std::fs::remove_dir_all(dir) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(failed(dir)(error)),
        _ => Ok(bytes),
    }
}
