//! The box's /dev: what programs expect of a container, and nothing of the machine's
//! own devices.

use std::{io, os::unix::fs::symlink, path::Path};

use rustix::{
    fs::{CWD, FileType, Mode, chmod, makedev, mkdirat, mknodat},
    mount::{MountFlags, mount},
};

/// Name, major and minor number (Documentation/admin-guide/devices.txt).
const NODES: [(&str, u32, u32); 9] = [
    ("null", 1, 3),
    ("zero", 1, 5),
    ("full", 1, 7),
    ("random", 1, 8),
    ("urandom", 1, 9),
    ("tty", 5, 0),
    ("console", 5, 1),
    ("net/tun", 10, 200),
    ("fuse", 10, 229),
];

const LINKS: [(&str, &str); 6] = [
    ("ptmx", "pts/ptmx"),
    ("fd", "/proc/self/fd"),
    ("stdin", "/proc/self/fd/0"),
    ("stdout", "/proc/self/fd/1"),
    ("stderr", "/proc/self/fd/2"),
    ("core", "/proc/kcore"),
];

/// Mounts a `/dev` at `dev` and fills it.
pub(crate) fn create(dev: &Path) -> io::Result<()> {
    let quiet = MountFlags::NOSUID | MountFlags::NOEXEC;
    mount("tmpfs", dev, "tmpfs", MountFlags::NOSUID, Some(c"mode=755,size=65536k"))?;
    let for_all = Mode::from_raw_mode(0o755);
    mkdirat(CWD, dev.join("net"), for_all)?;
    for (name, major, minor) in NODES {
        let path = dev.join(name);
        // The machine's console belongs to root; all else is for everyone.
        let mode = Mode::from_raw_mode(if name == "console" { 0o600 } else { 0o666 });
        mknodat(CWD, &path, FileType::CharacterDevice, mode, makedev(major, minor))?;
        chmod(&path, mode)?;
    }
    for (name, target) in LINKS {
        symlink(target, dev.join(name))?;
    }
    for name in ["pts", "shm", "mqueue"] {
        mkdirat(CWD, dev.join(name), for_all)?;
    }
    mount(
        "devpts",
        dev.join("pts"),
        "devpts",
        quiet,
        Some(c"newinstance,ptmxmode=0666,mode=0620,gid=5"),
    )?;
    mount(
        "shm",
        dev.join("shm"),
        "tmpfs",
        quiet | MountFlags::NODEV,
        Some(c"mode=1777"),
    )?;
    mount("mqueue", dev.join("mqueue"), "mqueue", quiet | MountFlags::NODEV, None)?;
    Ok(())
}
