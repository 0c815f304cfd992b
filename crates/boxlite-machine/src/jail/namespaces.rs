//! Name spaces.

use rustix::io::Errno;
use rustix::mount::{MountPropagationFlags, mount_change};
use rustix::thread::UnshareFlags;

use super::confinement::Confinement;
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
