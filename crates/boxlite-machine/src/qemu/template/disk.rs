//! The disks of machines that go on from a template.

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};

use rustix::fs::{SeekFrom, copy_file_range, seek};
use rustix::io::Errno;
use serde::{Deserialize, Serialize};

use super::Template;
use super::make::sparse;
use crate::spec::{Disk, MachineSpec};

/// Name of what fills the place of the disk that a box has no use for.
const UNUSED_NAME: &str = "unused";
/// Behind the name of a box's disk while it is made.
const NEW_SUFFIX: &str = ".new";

/// What the disks of a template's machine are copies of.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BlankDisks {
    /// The root file system of an image without a file.
    pub rootfs: PathBuf,
    /// A disk that was formatted and not used.
    pub disk: PathBuf,
    /// The serial by which the guest finds a disk that no box has used.
    pub serial: String,
}

/// A disk could not be copied for a machine.
#[derive(Debug, thiserror::Error)]
#[error("{} can't be made a copy of {}", to.display(), from.display())]
pub struct CopyBlankError {
    /// The template's disk.
    pub from: PathBuf,
    /// The machine's.
    pub to: PathBuf,
    /// What the system said.
    pub source: io::Error,
}

impl Template {
    /// Gives `spec`, which is of the template's shape, the disks that its guest has. A disk
    /// that `is_blank` (formatted as that of [`BlankDisks`], and never used) is replaced by a
    /// copy of the template's, which its guest has mounted already, and is the `blank` one
    /// then; any other stays as it is, and the blank one is thrown away with the machine.
    /// Blocking (writes some hundred KiB).
    ///
    /// # Errors
    /// [`CopyBlankError`]; the disk is as it was then.
    pub fn place_disks(&self, spec: &mut MachineSpec, is_blank: bool, serial: &str) -> Result<(), CopyBlankError> {
        let (true, Some(disk)) = (self.manifest.shape.blank, &mut spec.disk) else {
            return Ok(());
        };
        let from = self.blank();
        let unused = spec.runtime_dir.join(UNUSED_NAME);
        let failed = |to: &Path| {
            let (from, to) = (from.clone(), to.to_owned());
            move |source| CopyBlankError { from, to, source }
        };
        let blank = if is_blank {
            let bytes = std::fs::metadata(&from).map_err(failed(&unused))?.len();
            sparse_anew(&unused, bytes).map_err(failed(&unused))?;
            let mut new = disk.file.clone().into_os_string();
            new.push(NEW_SUFFIX);
            let new = PathBuf::from(new);
            let copied = copy(&from, &new).and_then(|()| std::fs::rename(&new, &disk.file));
            copied.map_err(failed(&disk.file))?;
            std::mem::replace(&mut disk.file, unused)
        } else {
            copy(&from, &unused).map_err(failed(&unused))?;
            unused
        };
        spec.blank = Some(Disk {
            file: blank,
            serial: serial.to_owned(),
            read_only: false,
        });
        Ok(())
    }
}

/// A file of holes, in the place of what may be left of an earlier try.
fn sparse_anew(path: &Path, bytes: u64) -> io::Result<File> {
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => sparse(path, bytes),
    }
}

/// Copies a file with its holes, over what may be left of an earlier try.
pub(super) fn copy(from: &Path, to: &Path) -> io::Result<()> {
    let source = File::open(from)?;
    let target = sparse_anew(to, source.metadata()?.len())?;
    let mut position = 0;
    loop {
        let start = match seek(&source, SeekFrom::Data(position)) {
            Ok(start) => start,
            // No data behind it.
            Err(Errno::NXIO) => return Ok(()),
            Err(error) => return Err(error.into()),
        };
        let end = seek(&source, SeekFrom::Hole(start))?;
        let (mut read, mut written) = (start, start);
        while read < end {
            let left = usize::try_from(end - read).unwrap_or(usize::MAX);
            if copy_file_range(&source, Some(&mut read), &target, Some(&mut written), left)? == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
        }
        position = end;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::{FileExt as _, MetadataExt as _};

    #[test]
    fn a_copy_has_the_same_bytes_and_holes() {
        let dir = tempfile::tempdir().unwrap();
        let (from, to) = (dir.path().join("from"), dir.path().join("to"));
        let file = File::create_new(&from).unwrap();
        file.set_len(1 << 30).unwrap();
        for (position, bytes) in [(0, &b"first"[..]), (1 << 20, &[7; 10_000]), ((1 << 30) - 4, b"last")] {
            file.write_all_at(bytes, position).unwrap();
        }
        std::fs::write(&to, "what was there before").unwrap();
        copy(&from, &to).unwrap();
        let copied = File::open(&to).unwrap();
        let metadata = copied.metadata().unwrap();
        assert_eq!(metadata.len(), 1 << 30);
        assert!(metadata.blocks() * 512 < 1 << 20, "{} blocks", metadata.blocks());
        for (position, bytes) in [
            (0, &b"first\0"[..]),
            ((1 << 20) + 9_998, &[7, 7, 0]),
            ((1 << 30) - 5, b"\0last"),
        ] {
            let mut read = vec![0; bytes.len()];
            copied.read_exact_at(&mut read, position).unwrap();
            assert_eq!(read, bytes);
        }
    }
}
