//! The guest bundle: supervisor, kernel, initramfs. Embedded, given, or in the build tree.

use std::io::{Read, Write};
use std::path::{Path, PathBuf};

use boxlite_store::Home;

use crate::error::{BundleError, StateError};
use crate::system::{BundleInfo, BundleOrigin};

/// The supervisor's program.
pub(crate) const SHIM_NAME: &str = "boxlite-shim";
/// The guest's kernel.
pub(crate) const KERNEL_NAME: &str = "vmlinux";
/// The guest's first file system, with the agent.
pub(crate) const INITRAMFS_NAME: &str = "initramfs.cpio";

const FILES: [&str; 3] = [SHIM_NAME, KERNEL_NAME, INITRAMFS_NAME];

/// More than this is no bundle.
const MAX_FILE_BYTES: u64 = 1 << 30;

/// What build.rs found in `BOXLITE_BUNDLE`: a zstd-compressed tar and the hash of its bytes.
#[cfg(boxlite_bundle)]
const EMBEDDED: Option<(&[u8], &str)> = Some((
    include_bytes!(concat!(env!("OUT_DIR"), "/bundle.tar.zst")),
    env!("BOXLITE_BUNDLE_HASH"),
));
#[cfg(not(boxlite_bundle))]
const EMBEDDED: Option<(&[u8], &str)> = None;

/// A bundle on the host's disk, complete.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Bundle {
    pub(crate) directory: PathBuf,
    pub(crate) origin: BundleOrigin,
}

impl Bundle {
    /// Finds the bundle, and unpacks the embedded one if that is it. Blocking.
    ///
    /// A directory that is given (or named by `BOXLITE_BUNDLE_DIR`) comes first, then the
    /// embedded bundle, then a `bundle` directory beside the folder of the running program,
    /// which is where the build puts it.
    pub(crate) fn locate(home: &Home, given: Option<&Path>) -> Result<Self, BundleError> {
        if let Some(directory) = given {
            return Self::at(directory, BundleOrigin::Given);
        }
        if let Some((archive, hash)) = EMBEDDED {
            let directory = home.bundle_dir(hash);
            if !is_complete(&directory) {
                unpack(home, archive, &directory)?;
            }
            return Self::at(&directory, BundleOrigin::Embedded);
        }
        let mut searched = Vec::new();
        if let Ok(program) = std::env::current_exe() {
            // target/<profile>/program, and target/<profile>/deps/test-program.
            for folder in program.ancestors().skip(2).take(2) {
                let directory = folder.join("bundle");
                if is_complete(&directory) {
                    return Self::at(&directory, BundleOrigin::BuildTree);
                }
                searched.push(directory);
            }
        }
        Err(BundleError::NotFound { searched })
    }

    fn at(directory: &Path, origin: BundleOrigin) -> Result<Self, BundleError> {
        let directory = std::path::absolute(directory).unwrap_or_else(|_| directory.to_owned());
        match FILES.iter().find(|name| !directory.join(name).is_file()) {
            Some(file) => Err(BundleError::Incomplete { directory, file }),
            None => Ok(Self { directory, origin }),
        }
    }

    pub(crate) fn shim(&self) -> PathBuf {
        self.directory.join(SHIM_NAME)
    }

    pub(crate) fn kernel(&self) -> PathBuf {
        self.directory.join(KERNEL_NAME)
    }

    pub(crate) fn initramfs(&self) -> PathBuf {
        self.directory.join(INITRAMFS_NAME)
    }

    /// Whether it is still all there: a prune by another version removes it.
    pub(crate) fn is_intact(&self) -> bool {
        is_complete(&self.directory)
    }

    pub(crate) fn info(&self) -> BundleInfo {
        BundleInfo {
            directory: self.directory.clone(),
            origin: self.origin,
        }
    }
}

/// Whether all files are there. Directories of bundles appear whole, so one look is enough.
fn is_complete(directory: &Path) -> bool {
    FILES.iter().all(|name| directory.join(name).is_file())
}

/// The bundles that are unpacked in a home, and which of them is this library's. Blocking.
pub(crate) fn unpacked(home: &Home) -> Result<(Vec<PathBuf>, Option<PathBuf>), StateError> {
    let folder = home.bundles_dir();
    let failed = |source| StateError::File {
        action: "reading",
        path: folder.clone(),
        source,
    };
    let all = std::fs::read_dir(&folder)
        .map_err(failed)?
        .map(|entry| entry.map(|entry| entry.path()))
        .collect::<Result<Vec<_>, _>>()
        .map_err(failed)?;
    let own = EMBEDDED.map(|(_, hash)| home.bundle_dir(hash));
    Ok((all, own.filter(|directory| directory.is_dir())))
}

fn unpack(home: &Home, archive: &[u8], directory: &Path) -> Result<(), BundleError> {
    let failed = |path: &Path| {
        let path = path.to_owned();
        move |source| BundleError::Unpack { path, source }
    };
    let staging = home.stage().map_err(BundleError::Stage)?;
    let folder = staging.path().join("bundle");
    std::fs::create_dir(&folder).map_err(failed(&folder))?;
    let decoder = zstd::Decoder::new(archive).map_err(failed(&folder))?;
    unpack_tar(decoder, &folder).map_err(failed(&folder))?;
    match staging.publish("bundle", directory) {
        Ok(()) => Ok(()),
        // Another process was faster; a folder is never replaced by a rename.
        Err(_) if is_complete(directory) => Ok(()),
        Err(error) => Err(BundleError::Stage(error)),
    }
}

/// Unpacks the three files, and nothing else, of the tar that the build made.
fn unpack_tar(archive: impl Read, folder: &Path) -> std::io::Result<()> {
    use std::os::unix::fs::OpenOptionsExt;

    let mut reader = boxlite_tar::Reader::new(archive, boxlite_tar::Limits::default());
    while let Some(entry) = reader.next_entry().map_err(std::io::Error::other)? {
        let path = entry.path.strip_prefix(b"./").unwrap_or(&entry.path);
        let Some(name) = FILES.iter().find(|name| name.as_bytes() == path) else {
            continue;
        };
        let mode = if *name == SHIM_NAME { 0o755 } else { 0o644 };
        let mut file = std::fs::OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(mode)
            .open(folder.join(name))?;
        std::io::copy(&mut reader.data().take(MAX_FILE_BYTES), &mut file)?;
        file.flush()?;
        file.sync_all()?;
    }
    match FILES.iter().find(|name| !folder.join(name).is_file()) {
        Some(name) => Err(std::io::Error::new(
            std::io::ErrorKind::InvalidData,
            format!("the embedded bundle has no {name}"),
        )),
        None => std::fs::File::open(folder)?.sync_all(),
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use boxlite_tar::{Entry, EntryKind, Writer};

    use super::*;

    fn archive(names: &[&str]) -> Vec<u8> {
        let mut writer = Writer::new(Vec::new());
        for name in names {
            let mut entry = Entry::new(*name, EntryKind::File);
            entry.size = name.len() as u64;
            writer.append(&entry, name.as_bytes()).unwrap();
        }
        zstd::encode_all(&writer.finish().unwrap()[..], 1).unwrap()
    }

    #[test]
    fn a_bundle_is_unpacked_whole_and_once() {
        let folder = tempfile::tempdir().unwrap();
        let home = Home::open(folder.path()).unwrap();
        let directory = home.bundle_dir("0a");
        let whole = archive(&["./boxlite-shim", "../escape", "vmlinux", "other", "initramfs.cpio"]);
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| unpack(&home, &whole, &directory).unwrap());
            }
        });
        let bundle = Bundle::at(&directory, BundleOrigin::Embedded).unwrap();
        assert!(bundle.is_intact());
        assert_eq!(std::fs::read(bundle.kernel()).unwrap(), b"vmlinux");
        let mode = std::fs::metadata(bundle.shim()).unwrap().permissions().mode();
        assert_eq!(mode & 0o111, 0o111, "the supervisor can be executed");
        assert_eq!(std::fs::read_dir(&directory).unwrap().count(), 3);
        assert_eq!(std::fs::read_dir(folder.path().join("tmp")).unwrap().count(), 0);
        let (all, _) = unpacked(&home).unwrap();
        assert_eq!(all, [directory]);
    }

    #[test]
    fn half_a_bundle_is_none() {
        let folder = tempfile::tempdir().unwrap();
        let home = Home::open(folder.path()).unwrap();
        let directory = home.bundle_dir("0a");
        for damaged in [archive(&["boxlite-shim", "vmlinux"]), b"no archive".to_vec()] {
            assert!(matches!(
                unpack(&home, &damaged, &directory),
                Err(BundleError::Unpack { .. })
            ));
            assert!(!directory.exists());
        }
        assert!(matches!(
            Bundle::at(folder.path(), BundleOrigin::Given),
            Err(BundleError::Incomplete { file: SHIM_NAME, .. })
        ));
    }
}
