//! The box's root file system: the image below, the box's disk above, and all that is
//! mounted into it. Put together by the founder of the box, in namespaces of its own.

use std::{
    fs, io,
    os::fd::{AsFd, AsRawFd as _, OwnedFd},
    path::{Path, PathBuf},
};

use boxlite_protocol::{BLANK_DISK_SERIAL, ROOTFS_SERIAL, guest::ConfigureRequest};
use rustix::{
    fs::{CWD, Mode, OFlags, openat, syncfs},
    mount::{
        MountFlags, MountPropagationFlags, MoveMountFlags, OpenTreeFlags, UnmountFlags, mount, mount_change,
        move_mount, open_tree, unmount,
    },
    process::{chroot, fchdir, umask},
    system::sethostname,
};

use crate::{
    devices,
    disks::{Disks, FindDiskError},
    etc::{EtcFiles, Replace, Workshop},
    spaces::Namespaces,
    sys, volumes,
};

const LOWER: &str = "/run/rootfs";
const DISK: &str = "/run/disk";
const MERGED: &str = "/run/box";
/// Where the box's root is in the layers: the first block of every image's file system leads
/// there and nowhere else, so that it can be mounted before it is known which image it is.
const ROOT_IN_LAYERS: &str = "/run/box/rootfs";
/// Where the box's /dev, /sys and /proc wait for its root.
const VIEW_OF_DEVICES: &str = "/run/dev";
const VIEW_OF_KERNEL: &str = "/run/sys";
const VIEW_OF_PROCESSES: &str = "/run/proc";
/// What programs in the box take for its boot id.
pub(crate) const BOOT_ID: &str = "sys/kernel/random/boot_id";

/// Why the root file system could not be put together.
#[derive(Debug, thiserror::Error)]
pub(crate) enum AssembleError {
    #[error("{step}: {source}")]
    Step { step: String, source: io::Error },
    #[error(transparent)]
    Volume(#[from] volumes::VolumeError),
    #[error(transparent)]
    Disk(#[from] FindDiskError),
}

fn step<E: Into<io::Error>>(step: impl Into<String>) -> impl FnOnce(E) -> AssembleError {
    move |error| AssembleError::Step {
        step: step.into(),
        source: error.into(),
    }
}

/// What of a box's root is there before it is known which box it is.
#[derive(Debug)]
pub(crate) struct Site {
    etc: Workshop,
    views: Views,
    devices: MachineDevices,
    /// The image's root file system and a disk on which nothing was ever written are laid over
    /// each other.
    is_laid: bool,
}

impl Site {
    /// Gives this process, the first of a PID namespace and in the box's control group, the
    /// box's other namespaces, and mounts in them what every box has.
    ///
    /// In the machine of a template there is a blank disk. Its file system and the image's are
    /// mounted then, although neither is the box's yet: the blank disk is a copy in every
    /// machine, and of the image only the block has been read that all images share.
    pub(crate) fn prepare(disks: &Disks) -> Result<Self, AssembleError> {
        let etc = Workshop::open().map_err(step("make the box's own files"))?;
        sys::unshare(Namespaces::FLAGS).map_err(step("make namespaces"))?;
        umask(Mode::empty());
        mount_change("/", MountPropagationFlags::REC | MountPropagationFlags::PRIVATE)
            .map_err(step("make mounts private"))?;
        let views = [VIEW_OF_DEVICES, VIEW_OF_KERNEL, VIEW_OF_PROCESSES];
        for dir in [LOWER, DISK, MERGED].into_iter().chain(views) {
            fs::create_dir_all(dir).map_err(step("create folders"))?;
        }
        devices::create(VIEW_OF_DEVICES.as_ref()).map_err(step("fill /dev"))?;
        mount_views(&etc)?;
        let devices = MachineDevices::hide().map_err(step("hide the machine's devices"))?;
        let laid = (disks.find(ROOTFS_SERIAL), disks.find(BLANK_DISK_SERIAL));
        if let (Ok(rootfs), Ok(blank)) = &laid {
            mount_rootfs(&devices.path(rootfs))?;
            lay(&devices.path(blank))?;
            // What the machine remembers of the disk and what is on it are to be the same.
            let disk = openat(
                CWD,
                DISK,
                OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC,
                Mode::empty(),
            )
            .map_err(step("open the blank disk"))?;
            syncfs(&disk).map_err(step("write out the blank disk"))?;
            drop(disk);
            hide_layers()?;
        }
        Ok(Site {
            etc,
            views: Views::open().map_err(step("open the prepared /dev, /sys and /proc"))?,
            devices,
            is_laid: matches!(laid, (Ok(_), Ok(_))),
        })
    }

    /// Makes this process's root the box's.
    pub(crate) fn build(self, request: &ConfigureRequest, disks: &Disks) -> Result<(), AssembleError> {
        let hostname = &request.hostname;
        if !hostname.is_empty() {
            sethostname(hostname.as_bytes()).map_err(step(format!("set the host name {hostname:?}")))?;
        }
        let is_laid =
            self.is_laid && request.rootfs_serial == ROOTFS_SERIAL && request.disk_serial == BLANK_DISK_SERIAL;
        if !is_laid {
            // Over what may have been laid before, which nobody uses then.
            mount_rootfs(&self.devices.path(&disks.find(&request.rootfs_serial)?))?;
            lay(&self.devices.path(&disks.find(&request.disk_serial)?))?;
            hide_layers()?;
        }
        let etc = self.etc.fill(request).map_err(step("fill the box's own files"))?;
        enter_root()?;
        self.views.attach()?;
        mount_etc(&etc)?;
        for dir in &request.volume_dirs {
            create_dirs(Path::new(dir)).map_err(step(format!("create the image's volume {dir:?}")))?;
        }
        volumes::attach(&volumes::plan(&request.volumes)?)?;
        Ok(())
    }
}

/// The machine's own devices, which are not in the box's mount namespace.
#[derive(Debug)]
struct MachineDevices(OwnedFd);

impl MachineDevices {
    /// Takes them out of this process's mount namespace, in which [`VIEW_OF_PROCESSES`] is.
    fn hide() -> io::Result<Self> {
        let dev = openat(
            CWD,
            "/dev",
            OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC,
            Mode::empty(),
        )?;
        unmount("/dev", UnmountFlags::DETACH)?;
        Ok(MachineDevices(dev))
    }

    /// A path by which mount(2) finds the device with the kernel's name `name`.
    fn path(&self, name: &str) -> PathBuf {
        format!("{VIEW_OF_PROCESSES}/self/fd/{}/{name}", self.0.as_raw_fd()).into()
    }
}

/// Takes the layers out of this mount namespace. The overlay holds on to them.
fn hide_layers() -> Result<(), AssembleError> {
    for path in [DISK, LOWER] {
        unmount(path, UnmountFlags::DETACH).map_err(step("hide the layers of the root file system"))?;
    }
    Ok(())
}

/// The box's views of the kernel, instead of the agent's.
fn mount_views(etc: &Workshop) -> Result<(), AssembleError> {
    for path in ["/sys/fs/cgroup", "/sys", "/proc"] {
        unmount(path, UnmountFlags::DETACH).map_err(step("unmount the agent's views"))?;
    }
    let flags = MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOEXEC;
    mount("sysfs", VIEW_OF_KERNEL, "sysfs", flags, None).map_err(step("mount /sys"))?;
    let groups = format!("{VIEW_OF_KERNEL}/fs/cgroup");
    mount("cgroup2", groups, "cgroup2", flags, None).map_err(step("mount /sys/fs/cgroup"))?;
    mount("proc", VIEW_OF_PROCESSES, "proc", flags, None).map_err(step("mount /proc"))?;
    let boot_id = format!("{VIEW_OF_PROCESSES}/{BOOT_ID}");
    attach(etc.boot_id(), &boot_id).map_err(step("cover the kernel's boot id"))
}

fn mount_rootfs(device: &Path) -> Result<(), AssembleError> {
    mount(device, LOWER, "erofs", MountFlags::RDONLY, None).map_err(step("mount the image's root file system (erofs)"))
}

/// Mounts a disk and lays it over the image.
fn lay(disk: &Path) -> Result<(), AssembleError> {
    // The disk is as large as its maker made it: nothing is to be written into it, or read from
    // it, in the background for tables that may never be used.
    let options = c"discard,noinit_itable,no_prefetch_block_bitmaps";
    mount(disk, DISK, "ext4", MountFlags::NOATIME, Some(options)).map_err(step("mount the box's disk (ext4)"))?;
    for dir in ["upper", "work"] {
        create_dirs(&Path::new(DISK).join(dir)).map_err(step("prepare the box's disk"))?;
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

fn mount_etc(etc: &EtcFiles) -> Result<(), AssembleError> {
    for (target, file, replace) in &etc.mounts {
        let path = Path::new(target);
        if *replace == Replace::WhenUnset && !is_unset(path) {
            continue;
        }
        volumes::create_file(path).map_err(step(format!("create {target}")))?;
        attach(file, target).map_err(step(format!("mount {target}")))?;
    }
    Ok(())
}

/// The prepared mounts that every box has, at hand when their paths are no longer.
#[derive(Debug)]
struct Views {
    devices: OwnedFd,
    kernel: OwnedFd,
    processes: OwnedFd,
}

impl Views {
    fn open() -> io::Result<Self> {
        let open = |path: &str| openat(CWD, path, OFlags::PATH | OFlags::CLOEXEC, Mode::empty());
        Ok(Views {
            devices: open(VIEW_OF_DEVICES)?,
            kernel: open(VIEW_OF_KERNEL)?,
            processes: open(VIEW_OF_PROCESSES)?,
        })
    }

    /// Moves them into this process's root.
    fn attach(&self) -> Result<(), AssembleError> {
        for (view, target) in [
            (&self.processes, "/proc"),
            (&self.kernel, "/sys"),
            (&self.devices, "/dev"),
        ] {
            create_dirs(Path::new(target)).map_err(step(format!("create {target}")))?;
            attach(view, target).map_err(step(format!("mount {target}")))?;
        }
        Ok(())
    }
}

fn attach(file: impl AsFd, target: &str) -> io::Result<()> {
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

/// Puts the box's root over this process's root, out of which no path leads then.
fn enter_root() -> Result<(), AssembleError> {
    let flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC;
    let root = open_tree(CWD, ROOT_IN_LAYERS, flags).map_err(step("find the image's root in its file system"))?;
    // What is below it stays where it is, out of sight and out of reach: each unmount(2) here
    // would have every start wait for the kernel to be sure that nobody looks.
    attach(&root, "/").map_err(step("mount the box's root"))?;
    fchdir(&root).map_err(step("change to the box's root"))?;
    chroot(".").map_err(step("make the box's root the root"))
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
