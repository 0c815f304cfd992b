//! The namespaces of the box: made once by Configure, kept open by the agent, and
//! entered by every process that is to be in the box.

use std::{
    fs, io,
    os::fd::{AsFd as _, BorrowedFd, OwnedFd},
};

use rustix::{
    fs::{CWD, Mode, OFlags, openat},
    thread::{LinkNameSpaceType, move_into_link_name_space},
};

/// Open namespaces.
#[derive(Debug)]
pub(crate) struct Namespaces {
    mount: OwnedFd,
    uts: OwnedFd,
    ipc: OwnedFd,
    cgroup: OwnedFd,
}

/// What of a box's root the agent itself uses.
#[derive(Debug)]
pub(crate) struct Root {
    /// The box's root directory, for fstatfs(2) and syncfs(2) and nothing that walks paths.
    directory: OwnedFd,
    /// The multiplexer of the box's terminals: opening it anew makes one.
    ptmx: OwnedFd,
}

/// The namespaces of a box, and its root in them.
#[derive(Debug)]
pub(crate) struct Spaces {
    namespaces: Namespaces,
    root: Root,
}

impl Namespaces {
    /// The `CLONE_NEW…` flags of what is kept here.
    pub(crate) const FLAGS: i32 = libc::CLONE_NEWNS | libc::CLONE_NEWUTS | libc::CLONE_NEWIPC | libc::CLONE_NEWCGROUP;

    /// Opens those of the process `pid`.
    pub(crate) fn open(pid: i32) -> io::Result<Self> {
        let namespace =
            |name: &str| -> io::Result<OwnedFd> { Ok(fs::File::open(format!("/proc/{pid}/ns/{name}"))?.into()) };
        Ok(Namespaces {
            mount: namespace("mnt")?,
            uts: namespace("uts")?,
            ipc: namespace("ipc")?,
            cgroup: namespace("cgroup")?,
        })
    }

    /// Moves this process, a forked child, into them. Its root and working directory
    /// become those of the mount namespace.
    pub(crate) fn enter(&self) -> io::Result<()> {
        for (fd, kind) in [
            (&self.cgroup, LinkNameSpaceType::ControlGroup),
            (&self.uts, LinkNameSpaceType::HostNameAndNISDomainName),
            (&self.ipc, LinkNameSpaceType::InterProcessCommunication),
            (&self.mount, LinkNameSpaceType::Mount),
        ] {
            move_into_link_name_space(fd.as_fd(), Some(kind))?;
        }
        Ok(())
    }
}

impl Root {
    /// That of the process `pid`.
    pub(crate) fn open(pid: i32) -> io::Result<Self> {
        let open = |path: &str, flags| {
            let path = format!("/proc/{pid}/root{path}");
            openat(CWD, path, flags | OFlags::CLOEXEC, Mode::empty())
        };
        Ok(Root {
            directory: open("", OFlags::RDONLY | OFlags::DIRECTORY)?,
            ptmx: open("/dev/pts/ptmx", OFlags::PATH)?,
        })
    }
}

impl Spaces {
    /// `root` is that of the mount namespace.
    pub(crate) fn new(namespaces: Namespaces, root: Root) -> Self {
        Spaces { namespaces, root }
    }

    /// The box's root directory, for fstatfs(2) and syncfs(2) and nothing that walks paths.
    pub(crate) fn root(&self) -> BorrowedFd<'_> {
        self.root.directory.as_fd()
    }

    /// Moves this process, a forked child, into them. Its root and working directory
    /// become the box's root.
    pub(crate) fn enter(&self) -> io::Result<()> {
        self.namespaces.enter()
    }

    /// A new pseudo terminal of the box: the controlling end, not blocking, and the
    /// terminal itself.
    pub(crate) fn open_terminal(&self) -> io::Result<(OwnedFd, OwnedFd)> {
        use std::os::fd::AsRawFd as _;
        let controller = openat(
            CWD,
            format!("/proc/self/fd/{}", self.root.ptmx.as_raw_fd()),
            OFlags::RDWR | OFlags::NOCTTY | OFlags::NONBLOCK | OFlags::CLOEXEC,
            Mode::empty(),
        )?;
        rustix::pty::unlockpt(&controller)?;
        let terminal = rustix::pty::ioctl_tiocgptpeer(
            &controller,
            rustix::pty::OpenptFlags::RDWR | rustix::pty::OpenptFlags::NOCTTY | rustix::pty::OpenptFlags::CLOEXEC,
        )?;
        Ok((controller, terminal))
    }
}
