//! Process 1 of the box's PID namespace: the main process, or the agent's own
//! process that does nothing but wait for orphans.

use std::{
    io,
    os::fd::{AsFd as _, OwnedFd},
    sync::Arc,
};

use rustix::{
    fs::CWD,
    mount::{MountFlags, MoveMountFlags, OpenTreeFlags, UnmountFlags, mount, move_mount, open_tree, unmount},
    thread::{LinkNameSpaceType, ThreadNameSpaceType, move_into_link_name_space, move_into_thread_name_spaces},
};

use crate::{child::Child, rootfs::BOOT_ID, spaces::Spaces, sys};

/// Process 1 of the box.
#[derive(Debug)]
pub(crate) struct FirstProcess {
    pub(crate) child: Arc<Child>,
    /// True when it is the agent's, not the user's.
    pub(crate) idle: bool,
}

impl FirstProcess {
    /// Forks into the PID namespace of this process (as a child of the agent).
    ///
    /// `own` is the agent's PID namespace.
    pub(crate) fn fork(&self, own: &OwnedFd, group: std::os::fd::BorrowedFd<'_>) -> io::Result<sys::Fork> {
        move_into_thread_name_spaces(self.child.pidfd(), ThreadNameSpaceType::PROCESS_ID)?;
        let fork = sys::fork(false, Some(group));
        if !matches!(fork, Ok(sys::Fork::Child)) {
            // Only the namespace of later children was set; the agent's own never changes.
            move_into_link_name_space(own.as_fd(), Some(LinkNameSpaceType::ProcessID))?;
        }
        fork
    }
}

/// Moves this process, the first of a PID namespace, into a box whose founder has ended without
/// having become the main process: the box's view of the processes is made anew.
///
/// # Errors
/// When it can't be, with what was tried.
pub(crate) fn enter_after_founder(spaces: &Spaces) -> Result<(), (&'static str, io::Error)> {
    spaces.enter().map_err(|error| ("enter the box", error))?;
    let path = format!("/proc/{BOOT_ID}");
    let flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC;
    let boot_id = open_tree(CWD, &path, flags).map_err(|error| ("open the boot id", error.into()))?;
    unmount("/proc", UnmountFlags::DETACH).map_err(|error| ("unmount /proc", error.into()))?;
    mount(
        "proc",
        "/proc",
        "proc",
        MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOEXEC,
        None,
    )
    .map_err(|error| ("mount /proc", error.into()))?;
    let from = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH;
    move_mount(&boot_id, "", CWD, &path, from).map_err(|error| ("cover the kernel's boot id", error.into()))
}
