//! User, groups and capabilities.

use rustix::fs::{Gid, Uid};
use rustix::io::Errno;
use rustix::thread::{
    CapabilitySet, CapabilitySets, clear_ambient_capability_set, configure_capability_in_ambient_set,
    remove_capability_from_bounding_set, set_capabilities, set_keep_capabilities, set_thread_groups,
    set_thread_res_gid, set_thread_res_uid,
};

use super::confinement::{Confinement, Identity};
use super::report::{CAPABILITIES, JailReport, UNPRIVILEGED_USER};

/// Capabilities of an engine that serves root's files.
const FILE_CAPABILITIES: CapabilitySet = CapabilitySet::CHOWN
    .union(CapabilitySet::DAC_OVERRIDE)
    .union(CapabilitySet::DAC_READ_SEARCH)
    .union(CapabilitySet::FOWNER)
    .union(CapabilitySet::FSETID);

/// Gives up what the engine doesn't need. An error means that it is not certain who this
/// process is now: it must not go on.
pub(super) fn assume(confinement: &Confinement, report: &mut JailReport) -> Result<(), Errno> {
    let ports = if confinement.low_ports {
        CapabilitySet::NET_BIND_SERVICE
    } else {
        CapabilitySet::empty()
    };
    let was = rustix::thread::capabilities(None)?;
    // In a user namespace of its own the engine's capabilities are worth nothing outside.
    let keep = match &confinement.identity {
        Identity::Caller => CapabilitySet::empty(),
        Identity::Root { .. } => FILE_CAPABILITIES | ports,
        Identity::Unprivileged { .. } => ports,
    } & was.permitted;
    let bounded = bound(keep, was.effective);
    match &confinement.identity {
        Identity::Caller => report.add(UNPRIVILEGED_USER, Ok::<_, Errno>(())),
        Identity::Root { why } => report.add(UNPRIVILEGED_USER, Err(why)),
        Identity::Unprivileged { id, groups } => {
            set_keep_capabilities(true)?;
            let groups: Vec<Gid> = groups.iter().map(|group| Gid::from_raw(*group)).collect();
            set_thread_groups(&groups)?;
            let (uid, gid) = (Uid::from_raw(*id), Gid::from_raw(*id));
            set_thread_res_gid(gid, gid, gid)?;
            set_thread_res_uid(uid, uid, uid)?;
            report.add(UNPRIVILEGED_USER, Ok::<_, Errno>(()));
        }
    }
    set_capabilities(
        None,
        CapabilitySets {
            effective: keep,
            permitted: keep,
            inheritable: keep,
        },
    )?;
    clear_ambient_capability_set()?;
    for capability in keep.iter() {
        configure_capability_in_ambient_set(capability, true)?;
    }
    report.add(CAPABILITIES, bounded);
    Ok(())
}

/// Takes every other capability out of what a program run later can get.
fn bound(keep: CapabilitySet, effective: CapabilitySet) -> Result<(), String> {
    if !effective.contains(CapabilitySet::SETPCAP) {
        // Without privileges now, and with no-new-privileges none later.
        return Ok(());
    }
    for number in 0..u64::BITS {
        let capability = CapabilitySet::from_bits_retain(1 << number);
        if keep.contains(capability) {
            continue;
        }
        match remove_capability_from_bounding_set(capability) {
            Ok(()) => {}
            // Beyond the last that this kernel knows.
            Err(Errno::INVAL) => break,
            Err(errno) => return Err(format!("capability {number}: {errno}")),
        }
    }
    Ok(())
}
