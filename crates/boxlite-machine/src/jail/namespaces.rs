//! Name spaces, and the mounts of single files in them.

use std::io;
use std::path::Path;

use rustix::fs::StatVfsMountFlags;
use rustix::io::Errno;
use rustix::mount::{MountFlags, MountPropagationFlags, mount, mount_bind, mount_change, mount_remount};
use rustix::thread::UnshareFlags;

use super::confinement::{ConfinedShare, Confinement, FileMount};
use super::report::{IPC_NAMESPACE, JailReport, MOUNT_NAMESPACE, NETWORK_NAMESPACE, USER_NAMESPACE};
use crate::sys;

/// Enters the name spaces that this host allows.
pub(super) fn enter(confinement: &Confinement, report: &mut JailReport) {
    let user = if rustix::process::geteuid().is_root() {
        Ok(())
    } else {
        let entered = enter_user_namespace();
        report.add(USER_NAMESPACE, entered.clone());
        entered
    };
    let mut enter = |what, flags| {
        let entered = match &user {
            Ok(()) => sys::unshare(flags).map_err(|errno| format!("unshare(2): {errno}")),
            Err(_) => Err("needs a user namespace, which this host doesn't allow".to_owned()),
        };
        report.add(what, entered);
    };
    enter(IPC_NAMESPACE, UnshareFlags::NEWIPC);
    if !confinement.network {
        enter(NETWORK_NAMESPACE, UnshareFlags::NEWNET);
    }
    enter(MOUNT_NAMESPACE, UnshareFlags::NEWNS);
    if report.has(MOUNT_NAMESPACE) {
        // Nothing that is mounted here may appear outside.
        let private = mount_change("/", MountPropagationFlags::REC | MountPropagationFlags::DOWNSTREAM);
        if let Err(errno) = private {
            report.applied.retain(|applied| applied != MOUNT_NAMESPACE);
            report.add(MOUNT_NAMESPACE, Err(format!("making mounts private: {errno}")));
        }
    }
}

/// The caller stays the caller in it, and has the rights over the other name spaces.
fn enter_user_namespace() -> Result<(), String> {
    let (uid, gid) = (rustix::process::geteuid(), rustix::process::getegid());
    sys::unshare(UnshareFlags::NEWUSER).map_err(|errno| match errno {
        Errno::NOSPC => "user.max_user_namespaces is used up".to_owned(),
        Errno::PERM | Errno::ACCESS => format!("unprivileged user namespaces are switched off: {errno}"),
        errno => format!("unshare(2): {errno}"),
    })?;
    let write =
        |file: &str, text: String| std::fs::write(file, text).map_err(|error| format!("writing {file}: {error}"));
    write("/proc/self/setgroups", "deny".to_owned())?;
    write("/proc/self/uid_map", format!("{0} {0} 1", uid.as_raw()))?;
    write("/proc/self/gid_map", format!("{0} {0} 1", gid.as_raw()))
}

/// Why a single file can't be shared.
#[derive(Debug, thiserror::Error)]
pub(super) enum FileMountError {
    #[error("a volume that is a single file needs a mount namespace: {why}")]
    NoMountNamespace { why: String },
    #[error("making {}: {source}", path.display())]
    Make {
        path: std::path::PathBuf,
        source: io::Error,
    },
    #[error("mounting {}: {source}", path.display())]
    Mount { path: std::path::PathBuf, source: Errno },
}

/// Mounts the single files among `shares`.
pub(super) fn mount_files(shares: &[ConfinedShare], report: &JailReport) -> Result<(), FileMountError> {
    for share in shares {
        let Some(place) = &share.mount else { continue };
        if let Some(missing) = report.missing.iter().find(|missing| missing.what == MOUNT_NAMESPACE) {
            return Err(FileMountError::NoMountNamespace {
                why: missing.why.clone(),
            });
        }
        mount_file(&share.source, place, share.read_only)?;
    }
    Ok(())
}

fn mount_file(source: &Path, place: &FileMount, read_only: bool) -> Result<(), FileMountError> {
    let make = |path: &Path| {
        let path = path.to_owned();
        move |source| FileMountError::Make { path, source }
    };
    let failed = |path: &Path| {
        let path = path.to_owned();
        move |source| FileMountError::Mount { path, source }
    };
    let shut = MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOEXEC;
    std::fs::create_dir_all(&place.dir).map_err(make(&place.dir))?;
    mount("tmpfs", &place.dir, "tmpfs", shut, c"size=64k,nr_inodes=8,mode=0755").map_err(failed(&place.dir))?;
    let target = place.dir.join(&place.name);
    std::fs::File::create(&target).map_err(make(&target))?;
    mount_bind(source, &target).map_err(failed(source))?;
    if read_only {
        // Flags that the source's own mount has can't be taken off in a user namespace.
        let kept = rustix::fs::statvfs(&target).map_err(failed(&target))?.f_flag;
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
        mount_remount(&target, flags, "").map_err(failed(&target))?;
    }
    // The guest may write to the file, not beside it.
    mount_remount(&place.dir, MountFlags::BIND | MountFlags::RDONLY | shut, "").map_err(failed(&place.dir))
}
