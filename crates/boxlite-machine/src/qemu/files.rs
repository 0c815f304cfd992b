//! The host's files that a machine is made of.

use std::fs::{File, Metadata};
use std::io::{self, Seek as _};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use super::start_error::{FileRole, StartError};
use crate::spec::{Disk, MachineSpec, ShareContent, ShareMember};

pub(super) fn check_shares(spec: &MachineSpec) -> Result<(), StartError> {
    for share in &spec.shares {
        match &share.content {
            ShareContent::Folder { source, .. } => {
                if !look(source)?.is_dir() {
                    return Err(refused(source, "it is not a folder"));
                }
            }
            ShareContent::Members(members) => check_members(members)?,
        }
    }
    Ok(())
}

fn check_members(members: &[ShareMember]) -> Result<(), StartError> {
    for (index, ShareMember { name, source, .. }) in members.iter().enumerate() {
        let kind = look(source)?;
        if !kind.is_dir() && !kind.is_file() {
            return Err(refused(source, "it is neither a folder nor a regular file"));
        }
        let is_name = !matches!(name.as_str(), "" | "." | "..") && !name.contains(['/', '\0']);
        if !is_name || members[..index].iter().any(|other| other.name == *name) {
            return Err(refused(source, format!("{name:?} can't be its name in the share")));
        }
    }
    Ok(())
}

fn look(source: &Path) -> Result<Metadata, StartError> {
    std::fs::metadata(source).map_err(|error| refused(source, error))
}

fn refused(source: &Path, why: impl ToString) -> StartError {
    StartError::Share {
        path: source.to_owned(),
        why: why.to_string(),
    }
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
