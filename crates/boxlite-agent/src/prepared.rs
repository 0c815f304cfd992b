//! What of a box does not depend on the box: made before the host says hello, so that a
//! template has it and a warm start finds it done.
//!
//! Work that a machine does only after it was restored is expensive under emulation: the
//! code for it is translated anew each time.

use std::{io, os::fd::AsFd as _};

use rustix::{
    mount::{MountFlags, MountPropagationFlags, UnmountFlags, mount, mount_change, unmount},
    process::umask,
};

use crate::{
    boot::set_sysctl,
    cgroup,
    child::{self, LookError},
    devices,
    disks::Disks,
    etc::Workshop,
    network::Interfaces,
    rootfs::{LAYERS, VIEW_OF_DEVICES, VIEW_OF_KERNEL},
    spaces::Namespaces,
    sys,
};

/// What programs for containers rely on.
const SYSCTLS: [(&str, &str); 5] = [
    // ping(8) for everyone, and web servers that are not root.
    ("net/ipv4/ping_group_range", "0 2147483647"),
    ("net/ipv4/ip_unprivileged_port_start", "0"),
    // What search engines and other users of many mappings ask for.
    ("vm/max_map_count", "1048576"),
    ("fs/inotify/max_user_watches", "1048576"),
    ("fs/inotify/max_user_instances", "8192"),
];

/// The parts of a box that is not any particular box yet.
#[derive(Debug)]
pub(crate) struct Prepared {
    pub(crate) namespaces: Namespaces,
    pub(crate) etc: Workshop,
    pub(crate) disks: Disks,
    pub(crate) interfaces: Interfaces,
}

/// Why a box could not be prepared.
#[derive(Debug, thiserror::Error)]
pub(crate) enum PrepareBoxError {
    #[error("start the process that makes the box's namespaces: {0}")]
    Fork(#[source] io::Error),
    #[error("make the box's namespaces: {0}")]
    Make(String),
    #[error("open the box's namespaces: {0}")]
    Open(#[source] io::Error),
    #[error("make the box's own files: {0}")]
    Etc(#[source] io::Error),
    #[error("list the disks: {0}")]
    Disks(#[source] io::Error),
}

impl Prepared {
    /// Makes them. Touches no disk and no volume.
    pub(crate) async fn make() -> Result<Self, PrepareBoxError> {
        for (name, value) in SYSCTLS {
            set_sysctl(name, value);
        }
        Ok(Prepared {
            namespaces: namespaces().await?,
            etc: Workshop::open().map_err(PrepareBoxError::Etc)?,
            disks: Disks::list().map_err(PrepareBoxError::Disks)?,
            interfaces: Interfaces::bring_up(),
        })
    }
}

/// Has a child make the namespaces and what is mounted in them whatever the box is.
async fn namespaces() -> Result<Namespaces, PrepareBoxError> {
    let group = cgroup::open_box().map_err(PrepareBoxError::Fork)?;
    let fill = || fill_namespaces().map_err(|(what, error)| format!("{what}: {error}"));
    let looked = child::look_into(group.as_fd(), fill, Namespaces::open).await;
    let (namespaces, child) = looked.map_err(|error| match error {
        LookError::Fork(error) => PrepareBoxError::Fork(error),
        LookError::Work(message) => PrepareBoxError::Make(message),
        LookError::Look(error) => PrepareBoxError::Open(error),
    })?;
    // A template that was saved before would end it in every box.
    child.wait().await;
    Ok(namespaces)
}

fn fill_namespaces() -> Result<(), (&'static str, io::Error)> {
    sys::unshare(Namespaces::FLAGS).map_err(|error| ("unshare", error))?;
    umask(rustix::fs::Mode::empty());
    mount_change("/", MountPropagationFlags::REC | MountPropagationFlags::PRIVATE)
        .map_err(|error| ("make mounts private", error.into()))?;
    for dir in LAYERS.into_iter().chain([VIEW_OF_DEVICES, VIEW_OF_KERNEL]) {
        std::fs::create_dir_all(dir).map_err(|error| ("create folders", error))?;
    }
    devices::create(VIEW_OF_DEVICES.as_ref()).map_err(|error| ("fill /dev", error))?;
    // The agent's own views are not the box's.
    for path in ["/sys/fs/cgroup", "/sys", "/proc"] {
        unmount(path, UnmountFlags::DETACH).map_err(|error| ("unmount the agent's views", error.into()))?;
    }
    let flags = MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOEXEC;
    mount("sysfs", VIEW_OF_KERNEL, "sysfs", flags, None).map_err(|error| ("mount /sys", error.into()))?;
    let groups = format!("{VIEW_OF_KERNEL}/fs/cgroup");
    mount("cgroup2", groups, "cgroup2", flags, None).map_err(|error| ("mount /sys/fs/cgroup", error.into()))
}
