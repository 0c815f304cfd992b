//! Volumes: folders and single files of the host, over 9p.

use std::{
    ffi::CString,
    fs, io,
    os::unix::ffi::OsStrExt as _,
    path::{Component, Path, PathBuf},
};

use boxlite_protocol::guest::Volume;
use rustix::mount::{MountFlags, UnmountFlags, mount, mount_bind, mount_remount, unmount};

use crate::rootfs::create_dirs;

/// How volumes are mounted.
///
/// `directio`: every read and write goes to the host, so that both sides always see the
/// same file; a cached page would show zeros where the host has appended since.
/// `cache=mmap` beside it lets programs map files shared and writable, as databases do.
const OPTIONS: &str = "trans=virtio,version=9p2000.L,msize=524288,cache=mmap,directio";

/// Where shares are mounted while what is in them is bound to its targets.
const SHARES: &str = "/dev/.boxlite-share";

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
    #[error("hide the shares that volumes are in: {source}")]
    Hide { source: io::Error },
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

/// Mounts volumes, in the order of [`plan`], below this process's root, which must be the box's.
pub(crate) fn attach(volumes: &[Volume]) -> Result<(), VolumeError> {
    let mut shares = Shares::default();
    let attached = volumes.iter().try_for_each(|volume| {
        let target = Path::new(&volume.target);
        if volume.file_name.is_empty() {
            create_dirs(target).map_err(failed(volume, "create the target"))?;
            mount_share(&volume.tag, volume.read_only, target).map_err(failed(volume, "mount"))
        } else {
            let share = shares.mount(volume, volumes)?;
            bind(volume, &share.join(&volume.file_name))
        }
    });
    let hidden = shares.hide();
    attached.and(hidden.map_err(|source| VolumeError::Hide { source }))
}

fn failed<E: Into<io::Error>>(volume: &Volume, step: &'static str) -> impl FnOnce(E) -> VolumeError {
    move |error| VolumeError::Mount {
        tag: volume.tag.clone(),
        target: volume.target.clone(),
        step,
        source: error.into(),
    }
}

fn bind(volume: &Volume, source: &Path) -> Result<(), VolumeError> {
    let target = Path::new(&volume.target);
    let is_folder = fs::metadata(source)
        .map_err(failed(volume, "find it in its share"))?
        .is_dir();
    let created = if is_folder {
        create_dirs(target)
    } else {
        create_file(target)
    };
    created.map_err(failed(volume, "create the target"))?;
    mount_bind(source, target).map_err(failed(volume, "bind"))?;
    if volume.read_only {
        // The host refuses writes anyway; this says so also where mounts are listed.
        let flags = MountFlags::BIND | MountFlags::RDONLY | MountFlags::NODEV | MountFlags::NOATIME;
        mount_remount(target, flags, "").map_err(failed(volume, "make it read-only"))?;
    }
    Ok(())
}

/// The shares that are mounted while what is in them is bound to its targets. A device takes one
/// mount at a time, so each is mounted once, for all volumes in it.
#[derive(Default)]
struct Shares {
    /// Their tags; each is mounted at its place in this list.
    tags: Vec<String>,
}

impl Shares {
    /// Where `wanted`'s share is.
    fn mount(&mut self, wanted: &Volume, volumes: &[Volume]) -> Result<PathBuf, VolumeError> {
        if let Some(place) = self.tags.iter().position(|tag| *tag == wanted.tag) {
            return Ok(Self::path(place));
        }
        let path = Self::path(self.tags.len());
        fs::create_dir_all(&path).map_err(failed(wanted, "create a directory for the share"))?;
        let read_only = volumes
            .iter()
            .all(|volume| volume.tag != wanted.tag || volume.read_only);
        mount_share(&wanted.tag, read_only, &path).map_err(failed(wanted, "mount"))?;
        self.tags.push(wanted.tag.clone());
        Ok(path)
    }

    fn path(place: usize) -> PathBuf {
        Path::new(SHARES).join(place.to_string())
    }

    /// Puts them out of sight; the volumes hold on to them.
    fn hide(&self) -> io::Result<()> {
        if self.tags.is_empty() {
            return Ok(());
        }
        for place in 0..self.tags.len() {
            let path = Self::path(place);
            unmount(&path, UnmountFlags::DETACH)?;
            fs::remove_dir(path)?;
        }
        fs::remove_dir(SHARES)
    }
}

fn mount_share(tag: &str, read_only: bool, target: &Path) -> io::Result<()> {
    let mut flags = MountFlags::NODEV | MountFlags::NOATIME;
    if read_only {
        flags |= MountFlags::RDONLY;
    }
    let tag = CString::new(tag)?;
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
