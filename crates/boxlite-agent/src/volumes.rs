//! Volumes: folders and single files of the host, over 9p.

use std::{
    ffi::CString,
    fs, io,
    os::unix::ffi::OsStrExt as _,
    path::{Component, Path, PathBuf},
};

use boxlite_protocol::guest::Volume;
use rustix::mount::{MountFlags, UnmountFlags, mount, mount_bind, unmount};

use crate::rootfs::create_dirs;

/// How volumes are mounted.
///
/// `directio`: every read and write goes to the host, so that both sides always see the
/// same file; a cached page would show zeros where the host has appended since.
/// `cache=mmap` beside it lets programs map files shared and writable, as databases do.
const OPTIONS: &str = "trans=virtio,version=9p2000.L,msize=524288,cache=mmap,directio";

/// Where a share is mounted while one file of it is bound to its target.
const SHARE: &str = "/dev/.boxlite-share";

/// Why a volume is not there.
#[derive(Debug, thiserror::Error)]
pub(crate) enum VolumeError {
    #[error("volume {tag}: its target {target:?} is not an absolute path without `..`")]
    Target { tag: String, target: String },
    #[error("volume {tag}: {file_name:?} is not the name of a file")]
    FileName { tag: String, file_name: String },
    #[error("volume {tag} at {target}: {step}: {source}")]
    Mount {
        tag: String,
        target: String,
        step: &'static str,
        source: io::Error,
    },
}

/// Refuses what can't be mounted, and sorts so that a volume comes after those that
/// its target is in.
pub(crate) fn plan(volumes: &[Volume]) -> Result<Vec<Volume>, VolumeError> {
    for volume in volumes {
        let target = Path::new(&volume.target);
        let plain = target
            .components()
            .all(|part| matches!(part, Component::RootDir | Component::Normal(_)));
        if !target.is_absolute() || !plain || target.parent().is_none() || volume.target.contains('\0') {
            return Err(VolumeError::Target {
                tag: volume.tag.clone(),
                target: volume.target.clone(),
            });
        }
        if matches!(volume.file_name.as_str(), "." | "..") || volume.file_name.contains(['/', '\0']) {
            return Err(VolumeError::FileName {
                tag: volume.tag.clone(),
                file_name: volume.file_name.clone(),
            });
        }
    }
    let mut sorted = volumes.to_vec();
    sorted.sort_by_key(|volume| Path::new(&volume.target).components().count());
    Ok(sorted)
}

/// Mounts one volume below this process's root, which must be the box's.
pub(crate) fn attach(volume: &Volume) -> Result<(), VolumeError> {
    let failed = |step| {
        move |source: io::Error| VolumeError::Mount {
            tag: volume.tag.clone(),
            target: volume.target.clone(),
            step,
            source,
        }
    };
    let target = Path::new(&volume.target);
    if volume.file_name.is_empty() {
        create_dirs(target).map_err(failed("create the target"))?;
        return mount_share(volume, target).map_err(failed("mount"));
    }
    fs::create_dir_all(SHARE).map_err(failed("create a directory for the share"))?;
    mount_share(volume, Path::new(SHARE)).map_err(failed("mount"))?;
    let bound = (|| {
        create_file(target).map_err(failed("create the target"))?;
        let source: PathBuf = Path::new(SHARE).join(&volume.file_name);
        mount_bind(&source, target).map_err(|error| failed("bind the file")(error.into()))
    })();
    // The share itself goes out of sight; the file holds on to it.
    unmount(SHARE, UnmountFlags::DETACH).map_err(|error| failed("hide the share")(error.into()))?;
    fs::remove_dir(SHARE).map_err(failed("hide the share"))?;
    bound
}

fn mount_share(volume: &Volume, target: &Path) -> io::Result<()> {
    let mut flags = MountFlags::NODEV | MountFlags::NOATIME;
    if volume.read_only {
        flags |= MountFlags::RDONLY;
    }
    let tag = CString::new(volume.tag.as_bytes())?;
    let options = CString::new(OPTIONS)?;
    mount(
        &tag,
        target.as_os_str().as_bytes(),
        "9p",
        flags,
        Some(options.as_c_str()),
    )?;
    Ok(())
}

/// Makes sure that there is a file (or anything that is not a directory) at `path`.
pub(crate) fn create_file(path: &Path) -> io::Result<()> {
    match fs::metadata(path) {
        Ok(metadata) if metadata.is_dir() => return Err(io::ErrorKind::IsADirectory.into()),
        Ok(_) => return Ok(()),
        Err(_) => {}
    }
    if let Some(parent) = path.parent() {
        create_dirs(parent)?;
    }
    // A symbolic link to a file that is missing: the file is made where it points to.
    if let Ok(link) = fs::read_link(path)
        && let Some(parent) = path.parent()
        && let Some(parent) = parent.join(link).parent()
    {
        create_dirs(parent)?;
    }
    fs::File::options().create(true).append(true).open(path)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn volume(target: &str, file_name: &str) -> Volume {
        Volume {
            tag: "v".into(),
            target: target.into(),
            file_name: file_name.into(),
            ..Default::default()
        }
    }

    #[test]
    fn volumes_come_after_what_they_are_in() {
        let targets = ["/a/b/c", "/z", "/a", "/a/b"].map(|target| volume(target, ""));
        let planned = plan(&targets).unwrap();
        let order: Vec<_> = planned.iter().map(|volume| volume.target.as_str()).collect();
        assert_eq!(order, ["/z", "/a", "/a/b", "/a/b/c"]);
    }

    #[test]
    fn targets_and_names_that_lead_elsewhere_are_refused() {
        for target in ["", "a", "/", "/../a", "/a/../..", "//"] {
            let planned = plan(&[volume(target, "")]);
            assert!(matches!(planned, Err(VolumeError::Target { .. })), "{target}");
        }
        for name in ["..", ".", "a/b"] {
            let planned = plan(&[volume("/a", name)]);
            assert!(matches!(planned, Err(VolumeError::FileName { .. })), "{name}");
        }
        assert!(plan(&[volume("/a/..b/", "..c")]).is_ok());
    }

    #[test]
    fn a_target_file_is_made_where_its_link_points() {
        let root = tempfile::tempdir().unwrap();
        let link = root.path().join("resolv.conf");
        std::os::unix::fs::symlink("run/resolve/stub.conf", &link).unwrap();
        create_file(&link).unwrap();
        assert!(root.path().join("run/resolve/stub.conf").is_file());
        create_file(&link).unwrap();
        assert!(create_file(root.path()).is_err());
        create_file(&root.path().join("new/dir/file")).unwrap();
    }

    proptest! {
        #[test]
        fn planned_targets_stay_below_the_root(target: String) {
            if let Ok(planned) = plan(&[volume(&target, "")]) {
                prop_assert!(!planned[0].target.split('/').any(|part| part == ".."));
            }
        }
    }
}
