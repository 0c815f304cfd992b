//! Control groups: one for the box, below it one for each execution, so that all
//! that an execution started can be counted, found and killed (cgroups(7), version 2).
//!
//! The box sees its own group as the root of the hierarchy. Process 1 is in that
//! root; every other execution has a leaf, so that a service manager in the box may
//! hand out controllers as soon as it has moved process 1 (and what it started).

use std::{
    collections::BTreeSet,
    fs, io,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    path::{Path, PathBuf},
    sync::{Mutex, PoisonError},
};

use rustix::fs::{CWD, Mode, OFlags, openat};

const ROOT: &str = "/sys/fs/cgroup";
const BOX: &str = "/sys/fs/cgroup/box";

/// Hands the controllers down to the box's group and makes it.
pub(crate) fn prepare() -> io::Result<()> {
    for controller in fs::read_to_string(Path::new(ROOT).join("cgroup.controllers"))?.split_whitespace() {
        fs::write(Path::new(ROOT).join("cgroup.subtree_control"), format!("+{controller}"))?;
    }
    fs::create_dir(BOX)
}

/// The box's group, for [`crate::sys::fork`].
pub(crate) fn open_box() -> io::Result<OwnedFd> {
    open(Path::new(BOX))
}

/// The numbers of all processes of the box, in the agent's PID namespace.
pub(crate) fn box_processes() -> BTreeSet<i32> {
    let mut found = BTreeSet::new();
    collect(Path::new(BOX), &mut found);
    found
}

fn collect(group: &Path, found: &mut BTreeSet<i32>) {
    // A group may be removed at any moment: what can't be read has no processes.
    if let Ok(text) = fs::read_to_string(group.join("cgroup.procs")) {
        found.extend(text.lines().filter_map(|line| line.parse::<i32>().ok()));
    }
    for entry in fs::read_dir(group).into_iter().flatten().flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            collect(&entry.path(), found);
        }
    }
}

/// Kills every process of the box.
pub(crate) fn kill_box() -> io::Result<()> {
    fs::write(Path::new(BOX).join("cgroup.kill"), "1")
}

/// How many processes of the box the kernel killed for want of memory.
pub(crate) fn out_of_memory_kills() -> u64 {
    read_box("memory.events")
        .and_then(|text| field(&text, "oom_kill"))
        .unwrap_or(0)
}

/// A file of the box's group.
pub(crate) fn read_box(name: &str) -> Option<String> {
    fs::read_to_string(Path::new(BOX).join(name)).ok()
}

/// The number behind `name` in a file of the form `name number`, one a line.
pub(crate) fn field(text: &str, name: &str) -> Option<u64> {
    text.lines()
        .find_map(|line| line.strip_prefix(name)?.strip_prefix(' ')?.trim().parse().ok())
}

fn open(path: &Path) -> io::Result<OwnedFd> {
    Ok(openat(
        CWD,
        path,
        OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC,
        Mode::empty(),
    )?)
}

/// The group of one execution. Dropping it removes it, now or when its last process is gone.
#[derive(Debug)]
pub(crate) struct ExecutionGroup {
    path: PathBuf,
    fd: OwnedFd,
}

/// Groups that still had processes when their execution was over.
static LEFT_BEHIND: Mutex<Vec<PathBuf>> = Mutex::new(Vec::new());

impl ExecutionGroup {
    /// A new group; `number` must not have been used before.
    pub(crate) fn create(number: u64) -> io::Result<Self> {
        remove_empty();
        let path = Path::new(BOX).join(format!("exec-{number}"));
        fs::create_dir(&path)?;
        match open(&path) {
            Ok(fd) => Ok(ExecutionGroup { path, fd }),
            Err(error) => {
                let _ = fs::remove_dir(&path);
                Err(error)
            }
        }
    }

    /// For [`crate::sys::fork`].
    pub(crate) fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }

    /// Kills all that is in the group.
    pub(crate) fn kill(&self) -> io::Result<()> {
        fs::write(self.path.join("cgroup.kill"), "1")
    }
}

impl Drop for ExecutionGroup {
    fn drop(&mut self) {
        LEFT_BEHIND
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .push(std::mem::take(&mut self.path));
        remove_empty();
    }
}

fn remove_empty() {
    LEFT_BEHIND
        .lock()
        .unwrap_or_else(PoisonError::into_inner)
        .retain(|path| fs::remove_dir(path).is_err_and(|error| error.kind() == io::ErrorKind::ResourceBusy));
}

#[cfg(test)]
mod tests {
    use super::field;

    #[test]
    fn fields_are_found_by_their_whole_name() {
        let events = "low 0\nhigh 1\nmax 2\noom 3\noom_kill 4\noom_group_kill 5\n";
        assert_eq!(field(events, "oom"), Some(3));
        assert_eq!(field(events, "oom_kill"), Some(4));
        assert_eq!(field(events, "kill"), None);
        assert_eq!(field("oom_kill many", "oom_kill"), None);
    }
}
