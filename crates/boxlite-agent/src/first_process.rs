//! Process 1 of the box's PID namespace: the main process, or the agent's own
//! process that does nothing but wait for orphans.

use std::{
    io,
    os::fd::{AsFd as _, OwnedFd},
    sync::Arc,
};

use rustix::{
    fs::CWD,
    mount::{MountFlags, MoveMountFlags, UnmountFlags, mount, move_mount, unmount},
    thread::{
        LinkNameSpaceType, ThreadNameSpaceType, move_into_link_name_space, move_into_thread_name_spaces, set_name,
    },
};

use crate::{cgroup, child::Child, spaces::Spaces, sys};

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

/// What a first process does in the box before anything else: the views of the
/// kernel that depend on its PID namespace.
///
/// # Errors
/// When they can't be mounted, with what was tried.
pub(crate) fn enter_as_first(spaces: &Spaces, boot_id: &OwnedFd) -> Result<(), (&'static str, io::Error)> {
    spaces.enter().map_err(|error| ("enter the box", error))?;
    // A main process that was refused may have left one for a namespace that is gone.
    let _ = unmount("/proc", UnmountFlags::DETACH);
    mount(
        "proc",
        "/proc",
        "proc",
        MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOEXEC,
        None,
    )
    .map_err(|error| ("mount /proc", error.into()))?;
    // A mount moves once: after a main process that was refused, the next one sees the
    // kernel's own boot id.
    let _ = move_mount(
        boot_id,
        "",
        CWD,
        "/proc/sys/kernel/random/boot_id",
        MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH,
    );
    Ok(())
}

/// Starts process 1 of an idle box.
pub(crate) fn start_idle(spaces: &Spaces, boot_id: &OwnedFd) -> Result<FirstProcess, io::Error> {
    let group = cgroup::open_box()?;
    let (receive, send) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC)?;
    match sys::fork(true, Some(group.as_fd()))? {
        sys::Fork::Child => {
            let _ = std::fs::write("/proc/self/oom_score_adj", "-999");
            if let Err((step, error)) = enter_as_first(spaces, boot_id) {
                let _ = rustix::io::write(&send, format!("{step}: {error}").as_bytes());
                sys::exit(1);
            }
            let _ = set_name(c"boxlite-init");
            let _ = sys::set_command_line(c"boxlite-init");
            let _ = rustix::process::setsid();
            sys::close_all_except(&[]);
            sys::reap_forever()
        }
        sys::Fork::Parent(pid, pidfd) => {
            drop(send);
            let child = Child::adopt(pid, pidfd)?;
            // Ends when the child has closed everything: it depends on nothing that could block.
            let mut report = Vec::new();
            io::Read::read_to_end(&mut std::fs::File::from(receive), &mut report)?;
            if report.is_empty() {
                Ok(FirstProcess {
                    child: Arc::new(child),
                    idle: true,
                })
            } else {
                Err(io::Error::other(String::from_utf8_lossy(&report).into_owned()))
            }
        }
    }
}
