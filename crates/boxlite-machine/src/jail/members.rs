//! Members of shares: folders and files that are mounted into a private folder, so that one
//! device shows several of them, or a file without the folder that it is in.

use std::ffi::CStr;
use std::io;
use std::path::{Path, PathBuf};

use rustix::fs::StatVfsMountFlags;
use rustix::io::Errno;
use rustix::mount::{MountFlags, mount, mount_bind, mount_bind_recursive, mount_remount};

use super::confinement::ConfinedShare;
use super::report::{JailReport, MOUNT_NAMESPACE};
use crate::ShareMember;
use crate::sys;

/// The private folder has room for mount points and nothing else.
const FOLDER_OPTIONS: &CStr = c"size=64k,nr_inodes=64,mode=0755";

/// Why members can't be shared.
#[derive(Debug, thiserror::Error)]
pub(super) enum MemberError {
    #[error(
        "a volume that is a single file, and more than 4 volumes, need a mount namespace: {why}; \
         allow it on this host (user.max_user_namespaces of sysctl(8), or what denies user \
         namespaces to users), or give the box at most 4 volumes, all of them folders"
    )]
    NoMountNamespace { why: String },
    #[error("making {}: {source}", path.display())]
    Make { path: PathBuf, source: io::Error },
    #[error("mounting {}: {source}", path.display())]
    Mount { path: PathBuf, source: Errno },
    #[error("mounting {} read-only (a folder needs Linux 5.12 or newer for it): {source}", path.display())]
    ReadOnly { path: PathBuf, source: Errno },
}

/// Mounts the members of `shares`. Nothing of it is seen outside the mount namespace, which
/// `report` must have.
pub(super) fn mount_all(shares: &[ConfinedShare], report: &JailReport) -> Result<(), MemberError> {
    for share in shares {
        let ConfinedShare::Members { dir, members } = share else {
            continue;
        };
        if !report.has(MOUNT_NAMESPACE) {
            let missing = report.missing.iter().find(|missing| missing.what == MOUNT_NAMESPACE);
            return Err(MemberError::NoMountNamespace {
                why: missing.map_or_else(|| "there is none".to_owned(), |missing| missing.why.clone()),
            });
        }
        mount_in(dir, members)?;
    }
    Ok(())
}

fn mount_in(dir: &Path, members: &[ShareMember]) -> Result<(), MemberError> {
    let shut = MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOEXEC;
    std::fs::create_dir_all(dir).map_err(make_error(dir))?;
    mount("tmpfs", dir, "tmpfs", shut, FOLDER_OPTIONS).map_err(mount_error(dir))?;
    for member in members {
        let target = dir.join(&member.name);
        let metadata = std::fs::metadata(&member.source).map_err(make_error(&member.source))?;
        if metadata.is_dir() {
            std::fs::create_dir(&target).map_err(make_error(&target))?;
            // With what is mounted below it, as a folder has that is exported by itself.
            mount_bind_recursive(&member.source, &target).map_err(mount_error(&member.source))?;
        } else {
            std::fs::File::create_new(&target).map_err(make_error(&target))?;
            mount_bind(&member.source, &target).map_err(mount_error(&member.source))?;
        }
        if member.read_only {
            let made = if metadata.is_dir() {
                sys::make_mounts_read_only(&target)
            } else {
                make_read_only(&target)
            };
            made.map_err(|source| MemberError::ReadOnly {
                path: member.source.clone(),
                source,
            })?;
        }
    }
    // The guest may write to the members, not beside them.
    mount_remount(dir, MountFlags::BIND | MountFlags::RDONLY | shut, "").map_err(mount_error(dir))
}

/// One mount, also where the kernel knows no other way.
fn make_read_only(target: &Path) -> Result<(), Errno> {
    // Flags that the source's own mount has can't be taken off in a user namespace.
    let kept = rustix::fs::statvfs(target)?.f_flag;
    let mut flags = MountFlags::BIND | MountFlags::RDONLY;
    for (was, keep) in [
        (StatVfsMountFlags::NOSUID, MountFlags::NOSUID),
        (StatVfsMountFlags::NODEV, MountFlags::NODEV),
        (StatVfsMountFlags::NOEXEC, MountFlags::NOEXEC),
        (StatVfsMountFlags::NOATIME, MountFlags::NOATIME),
        (StatVfsMountFlags::NODIRATIME, MountFlags::NODIRATIME),
        (StatVfsMountFlags::RELATIME, MountFlags::RELATIME),
    ] {
        if kept.contains(was) {
            flags |= keep;
        }
    }
    mount_remount(target, flags, "")
}

fn make_error(path: &Path) -> impl FnOnce(io::Error) -> MemberError {
    move |source| MemberError::Make {
        path: path.to_owned(),
        source,
    }
}

fn mount_error(path: &Path) -> impl FnOnce(Errno) -> MemberError {
    move |source| MemberError::Mount {
        path: path.to_owned(),
        source,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn without_a_mount_namespace_members_are_refused_with_the_reason() {
        let member = ShareMember {
            name: "0".to_owned(),
            source: "/".into(),
            read_only: true,
        };
        let shares = [
            ConfinedShare::Folder {
                source: "/".into(),
                read_only: true,
            },
            ConfinedShare::Members {
                dir: "/nowhere".into(),
                members: vec![member],
            },
        ];
        let mut report = JailReport::default();
        report.add(MOUNT_NAMESPACE, Err("user namespaces are switched off"));
        mount_all(&shares[..1], &report).unwrap();
        let refused = mount_all(&shares, &report).unwrap_err().to_string();
        assert!(refused.contains("user namespaces are switched off"), "{refused}");
        assert!(refused.contains("at most 4 volumes"), "{refused}");
    }
}
