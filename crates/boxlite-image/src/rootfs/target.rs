//! The file that a root filesystem is written to: complete under its name, or not at all.

use std::ffi::OsString;
use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use tokio_util::sync::CancellationToken;

use super::tree::Tree;
use super::{BuildError, BuildOptions};
use crate::erofs::{Image, ImageError, Sealed};

/// A file beside its destination, removed unless it gets there.
#[derive(Debug)]
pub(super) struct Target {
    dest: PathBuf,
    temporary: PathBuf,
    device_bytes: Option<u64>,
    is_published: bool,
}

impl Target {
    pub(super) fn create(dest: &Path, options: &BuildOptions) -> Result<(Self, Image), BuildError> {
        let failed = |path: &Path| {
            let path = path.to_owned();
            move |source: io::Error| BuildError::Write {
                path,
                source: source.into(),
            }
        };
        let temporary = beside(dest, "tmp").map_err(failed(dest))?;
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(&temporary)
            .map_err(failed(&temporary))?;
        let target = Self {
            dest: dest.to_owned(),
            temporary,
            device_bytes: options.device_bytes,
            is_published: false,
        };
        let scratch = beside(dest, "scratch").map_err(failed(dest))?;
        let limit = options.device_bytes.unwrap_or(u64::MAX);
        let image = Image::new(file, &scratch, limit).map_err(failed(&scratch))?;
        Ok((target, image))
    }

    pub(super) fn write_error(&self, source: ImageError) -> BuildError {
        BuildError::Write {
            path: self.dest.clone(),
            source,
        }
    }

    /// Completes the file system and moves it to its destination.
    pub(super) fn seal(mut self, image: Image, tree: &Tree, cancel: &CancellationToken) -> Result<Sealed, BuildError> {
        if cancel.is_cancelled() {
            return Err(BuildError::Cancelled);
        }
        let sealed = image.seal(tree).map_err(|error| self.write_error(error))?;
        self.publish(&sealed).map_err(|error| self.write_error(error.into()))?;
        self.is_published = true;
        Ok(sealed)
    }

    fn publish(&self, sealed: &Sealed) -> io::Result<()> {
        if let Some(bytes) = self.device_bytes {
            sealed.file.set_len(bytes)?;
        }
        sealed.file.sync_all()?;
        fs::rename(&self.temporary, &self.dest)?;
        let folder = self.dest.parent().filter(|folder| !folder.as_os_str().is_empty());
        File::open(folder.unwrap_or(Path::new(".")))?.sync_all()
    }
}

impl Drop for Target {
    fn drop(&mut self) {
        if self.is_published {
            return;
        }
        if let Err(error) = fs::remove_file(&self.temporary)
            && error.kind() != io::ErrorKind::NotFound
        {
            tracing::warn!(path = %self.temporary.display(), %error, "cannot delete unfinished root filesystem");
        }
    }
}

/// A name in the same folder that nobody else uses.
fn beside(dest: &Path, suffix: &str) -> io::Result<PathBuf> {
    let name = dest
        .file_name()
        .ok_or_else(|| io::Error::new(io::ErrorKind::InvalidInput, "not a path of a file"))?;
    let mut random = [0; 8];
    getrandom::fill(&mut random).map_err(|error| io::Error::other(error.to_string()))?;
    let mut temporary = OsString::from(".");
    temporary.push(name);
    temporary.push(format!(".{:016x}.{suffix}", u64::from_le_bytes(random)));
    Ok(dest.with_file_name(temporary))
}
