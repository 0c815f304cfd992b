//! The box's root file system: the image below, the box's disk above, and all that is
//! mounted into it. Runs in a child that gets namespaces of its own for it.

use std::{
    fs, io,
    os::{
        fd::OwnedFd,
        unix::fs::{MetadataExt as _, chown},
    },
    path::{Path, PathBuf},
};

use boxlite_protocol::guest::Volume;
use rustix::{
    fs::{CWD, Mode, OFlags, openat},
    mount::{MountFlags, MoveMountFlags, UnmountFlags, mount, mount_move, move_mount, unmount},
    process::{chdir, chroot, umask},
    system::sethostname,
};

use crate::{
    etc::{EtcFiles, Replace},
    spaces::Namespaces,
    volumes,
};

const LOWER: &str = "/run/rootfs";
const DISK: &str = "/run/disk";
const MERGED: &str = "/run/box";
/// Where the layers are put together.
pub(crate) const LAYERS: [&str; 3] = [LOWER, DISK, MERGED];
/// Where the box's /dev and /sys wait for its root.
pub(crate) const VIEW_OF_DEVICES: &str = "/run/dev";
pub(crate) const VIEW_OF_KERNEL: &str = "/run/sys";

/// What the child is to mount.
pub(crate) struct Assembly<'a> {
    /// Prepared, and without a box yet.
    pub(crate) namespaces: &'a Namespaces,
    pub(crate) rootfs_device: PathBuf,
    pub(crate) disk_device: PathBuf,
    pub(crate) hostname: &'a str,
    pub(crate) etc: &'a EtcFiles,
    pub(crate) volume_dirs: &'a [String],
    /// From [`volumes::plan`].
    pub(crate) volumes: &'a [Volume],
}

/// Why the root file system could not be put together.
#[derive(Debug, thiserror::Error)]
pub(crate) enum AssembleError {
    #[error("{step}: {source}")]
    Step { step: String, source: io::Error },
    #[error(transparent)]
    Volume(#[from] volumes::VolumeError),
}

fn step<E: Into<io::Error>>(step: impl Into<String>) -> impl FnOnce(E) -> AssembleError {
    move |error| AssembleError::Step {
        step: step.into(),
        source: error.into(),
    }
}

impl Assembly<'_> {
    /// Moves this process, a forked child in the box's control group, into the box's
    /// namespaces and gives them the box's root.
    pub(crate) fn build(&self) -> Result<(), AssembleError> {
        self.namespaces.enter().map_err(step("enter the box's namespaces"))?;
        umask(Mode::empty());
        if !self.hostname.is_empty() {
            sethostname(self.hostname.as_bytes()).map_err(step(format!("set the host name {:?}", self.hostname)))?;
        }
        self.mount_layers()?;
        let views = Views::open().map_err(step("open the prepared /dev and /sys"))?;
        enter_root().map_err(step("make the box's root file system the root"))?;
        views.attach()?;
        self.mount_etc()?;
        for dir in self.volume_dirs {
            create_dirs(Path::new(dir)).map_err(step(format!("create the image's volume {dir:?}")))?;
        }
        volumes::attach(self.volumes)?;
        Ok(())
    }

    fn mount_layers(&self) -> Result<(), AssembleError> {
        mount(&self.rootfs_device, LOWER, "erofs", MountFlags::RDONLY, None)
            .map_err(step("mount the image's root file system (erofs)"))?;
        // The disk is as large as its maker made it: nothing is to be written into it
        // in the background for tables that may never be used.
        mount(
            &self.disk_device,
            DISK,
            "ext4",
            MountFlags::NOATIME,
            Some(c"discard,noinit_itable"),
        )
        .map_err(step("mount the box's disk (ext4)"))?;
        let upper = Path::new(DISK).join("upper");
        if !upper.exists() {
            create_upper(&upper).map_err(step("prepare the box's disk"))?;
        }
        // Without redirects, rename(2) of the image's directories would fail.
        mount(
            "overlay",
            MERGED,
            "overlay",
            MountFlags::empty(),
            Some(c"lowerdir=/run/rootfs,upperdir=/run/disk/upper,workdir=/run/disk/work,redirect_dir=on,xino=auto"),
        )
        .map_err(step("lay the disk over the image (overlay)"))
    }

    fn mount_etc(&self) -> Result<(), AssembleError> {
        for (target, file, replace) in &self.etc.mounts {
            let path = Path::new(target);
            if *replace == Replace::WhenUnset && !is_unset(path) {
                continue;
            }
            volumes::create_file(path).map_err(step(format!("create {target}")))?;
            attach(file, target).map_err(step(format!("mount {target}")))?;
        }
        Ok(())
    }
}

/// The prepared mounts that every box has, at hand when their paths are no longer.
struct Views {
    devices: OwnedFd,
    kernel: OwnedFd,
}

impl Views {
    fn open() -> io::Result<Self> {
        let open = |path: &str| openat(CWD, path, OFlags::PATH | OFlags::CLOEXEC, Mode::empty());
        Ok(Views {
            devices: open(VIEW_OF_DEVICES)?,
            kernel: open(VIEW_OF_KERNEL)?,
        })
    }

    /// Moves them into this process's root, and leaves a place for /proc.
    fn attach(&self) -> Result<(), AssembleError> {
        for dir in ["/proc", "/sys", "/dev"] {
            create_dirs(Path::new(dir)).map_err(step(format!("create {dir}")))?;
        }
        attach(&self.kernel, "/sys").map_err(step("mount /sys"))?;
        attach(&self.devices, "/dev").map_err(step("mount /dev"))
    }
}

fn attach(file: &OwnedFd, target: &str) -> io::Result<()> {
    move_mount(
        file,
        "",
        CWD,
        target,
        MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH | MoveMountFlags::MOVE_MOUNT_T_SYMLINKS,
    )?;
    Ok(())
}

/// machine-id(5): a missing or empty file, or one that says so, is yet to be filled.
fn is_unset(path: &Path) -> bool {
    match fs::read(path) {
        Ok(content) => matches!(content.trim_ascii(), b"" | b"uninitialized"),
        Err(error) => error.kind() == io::ErrorKind::NotFound,
    }
}

/// The upper directory is what the merged root shows of itself: it gets the looks of
/// the image's root.
fn create_upper(upper: &Path) -> io::Result<()> {
    let image = fs::metadata(LOWER)?;
    let work = upper.with_file_name("work");
    if !work.exists() {
        fs::create_dir(&work)?;
    }
    // Renamed into place: a start that was cut off here must find nothing half-made.
    let new = upper.with_file_name("upper.new");
    if !new.exists() {
        fs::create_dir(&new)?;
    }
    chown(&new, Some(image.uid()), Some(image.gid()))?;
    fs::set_permissions(&new, image.permissions())?;
    fs::File::open(&new)?.set_modified(image.modified()?)?;
    fs::rename(&new, upper)
}

/// Puts the merged root over this process's root, out of which no path leads then.
fn enter_root() -> io::Result<()> {
    chdir(MERGED)?;
    // The overlay holds on to its layers. Nothing of the machine's own file systems
    // stays in the box's mount namespace.
    for path in [DISK, LOWER, "/dev"] {
        unmount(path, UnmountFlags::DETACH)?;
    }
    mount_move(".", "/")?;
    chroot(".")?;
    chdir("/")?;
    Ok(())
}

/// As `mkdir -p`, also where a symbolic link points to a directory that is missing.
pub(crate) fn create_dirs(path: &Path) -> io::Result<()> {
    create_dirs_through(path, 40)
}

fn create_dirs_through(path: &Path, links: u32) -> io::Result<()> {
    match fs::metadata(path) {
        Ok(metadata) if metadata.is_dir() => return Ok(()),
        Ok(_) => return Err(io::ErrorKind::NotADirectory.into()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(error),
    }
    let Some(parent) = path.parent() else {
        return Ok(());
    };
    if !parent.as_os_str().is_empty() {
        create_dirs_through(parent, links)?;
    }
    if let Ok(target) = fs::read_link(path) {
        let Some(links) = links.checked_sub(1) else {
            return Err(rustix::io::Errno::LOOP.into());
        };
        return create_dirs_through(&parent.join(target), links);
    }
    match rustix::fs::mkdirat(CWD, path, rustix::fs::Mode::from_raw_mode(0o755)) {
        Ok(()) | Err(rustix::io::Errno::EXIST) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    #[test]
    fn directories_are_made_through_links() {
        let root = tempfile::tempdir().unwrap();
        let at = |path: &str| root.path().join(path);
        create_dirs(&at("a/b/c")).unwrap();
        symlink("a/new", at("dangling")).unwrap();
        create_dirs(&at("dangling/d")).unwrap();
        assert!(at("a/new/d").is_dir());
        symlink("loop", at("loop")).unwrap();
        assert!(create_dirs(&at("loop/x")).is_err());
        fs::write(at("file"), "").unwrap();
        assert!(create_dirs(&at("file/x")).is_err());
        assert!(create_dirs(&at("file")).is_err());
    }

    #[test]
    fn a_machine_id_is_unset_when_it_says_nothing() {
        let root = tempfile::tempdir().unwrap();
        let path = root.path().join("machine-id");
        assert!(is_unset(&path));
        for (content, unset) in [("", true), ("\n", true), ("uninitialized\n", true), ("0123\n", false)] {
            fs::write(&path, content).unwrap();
            assert_eq!(is_unset(&path), unset, "{content:?}");
        }
    }
}
