//! The host's files that a machine is made of.

use std::fs::File;
use std::io::{self, Seek as _};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use super::start_error::{FileRole, StartError};
use crate::spec::{Disk, MachineSpec};

pub(super) fn check_shares(spec: &MachineSpec) -> Result<(), StartError> {
    for share in &spec.shares {
        let refused = |why: String| StartError::Share {
            path: share.source.clone(),
            why,
        };
        let metadata = std::fs::metadata(&share.source).map_err(|error| refused(error.to_string()))?;
        match &share.file_name {
            None if !metadata.is_dir() => return Err(refused("it is not a folder".to_owned())),
            Some(_) if !metadata.is_file() => return Err(refused("it is not a regular file".to_owned())),
            Some(name) if name.is_empty() || name == "." || name == ".." || name.contains(['/', '\0']) => {
                return Err(refused(format!("{name:?} is not a file's name")));
            }
            _ => {}
        }
    }
    Ok(())
}

pub(super) fn open_disk(role: FileRole, disk: &Disk) -> Result<File, StartError> {
    let failed = |source| StartError::File {
        role,
        path: disk.file.clone(),
        source,
    };
    let file = File::options()
        .read(true)
        .write(!disk.read_only)
        .open(&disk.file)
        .map_err(failed)?;
    if file.metadata().map_err(failed)?.is_file() {
        Ok(file)
    } else {
        Err(failed(io::Error::new(
            io::ErrorKind::InvalidInput,
            "not a regular file",
        )))
    }
}

/// Opens a file that the engine opens again through its descriptor: as somebody who may not
/// read the file, or may not reach it, it needs a copy.
pub(super) fn boot_file(
    role: FileRole,
    path: &Path,
    as_caller: bool,
    readable: &mut Vec<PathBuf>,
) -> Result<File, StartError> {
    let failed = |source| StartError::File {
        role,
        path: path.to_owned(),
        source,
    };
    let mut file = File::open(path).map_err(failed)?;
    let metadata = file.metadata().map_err(failed)?;
    if !metadata.is_file() {
        return Err(failed(io::Error::new(
            io::ErrorKind::InvalidInput,
            "not a regular file",
        )));
    }
    if as_caller || metadata.mode() & 0o004 != 0 {
        readable.push(path.to_owned());
        return Ok(file);
    }
    memory_file("boxlite-boot", |copy| io::copy(&mut file, copy).map(drop)).map_err(failed)
}

/// Opens a template's memory. The engine opens it again through this descriptor; it wants to
/// be able to write, also where its view is private.
pub(super) fn open_memory(path: &Path) -> Result<File, StartError> {
    File::options()
        .read(true)
        .write(true)
        .open(path)
        .map_err(|source| StartError::File {
            role: FileRole::Memory,
            path: path.to_owned(),
            source,
        })
}

/// Opens what a template's devices stood at.
pub(super) fn open_state(path: &Path) -> Result<File, StartError> {
    File::open(path).map_err(|source| StartError::File {
        role: FileRole::State,
        path: path.to_owned(),
        source,
    })
}

pub(super) fn memory_file(name: &str, fill: impl FnOnce(&mut File) -> io::Result<()>) -> io::Result<File> {
    let mut file = File::from(rustix::fs::memfd_create(name, rustix::fs::MemfdFlags::CLOEXEC)?);
    fill(&mut file)?;
    file.rewind()?;
    Ok(file)
}
