//! How one machine's engine is to be confined: [`Confinement`].

use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::{Accelerator, MachineSpec, NetworkSpec, Security, Share, ShareContent, ShareMember};

/// The first of the user IDs that engines started by root get: far from those that
/// distributions, containers and directories give to people and services.
const FIRST_UID: u32 = 0x6000_0000;
/// How many there are.
const UIDS: u32 = 0x0fff_ffff;
/// Ports below this need a capability.
const FIRST_UNPRIVILEGED_PORT: u16 = 1024;

/// What the process that becomes the engine does to itself first.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Confinement {
    /// What the guest may reach of the host's files.
    pub shares: Vec<ConfinedShare>,
    /// The engine needs the host's network.
    pub network: bool,
    /// Who the engine runs as.
    pub identity: Identity,
    /// The engine binds ports below 1024.
    pub low_ports: bool,
    /// The engine opens `/dev/kvm`.
    pub kvm: bool,
    /// Files that it opens by path beside its own program files.
    pub readable: Vec<PathBuf>,
    /// Files that it opens by path to read and write them.
    pub writable: Vec<PathBuf>,
    /// All measures, or no engine.
    pub strict: bool,
}

/// Who an engine runs as.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Identity {
    /// The caller, who isn't root.
    Caller,
    /// Root, and why.
    Root {
        /// What can't be had otherwise.
        why: String,
    },
    /// Nobody else: a user ID (and a group ID) that belongs to this box.
    Unprivileged {
        /// Both IDs.
        id: u32,
        /// Supplementary groups (that of `/dev/kvm`).
        groups: Vec<u32>,
    },
}

/// A share, as the jail makes it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum ConfinedShare {
    /// A folder of the host.
    Folder {
        /// Which one.
        source: PathBuf,
        /// Only reading.
        read_only: bool,
    },
    /// A private folder.
    Members {
        /// Where it is: made if missing, and covered by a private file system.
        dir: PathBuf,
        /// What is mounted in it.
        members: Vec<ShareMember>,
    },
}

impl ConfinedShare {
    /// The folder that the engine exports.
    #[must_use]
    pub fn export(&self) -> &Path {
        match self {
            Self::Folder { source, .. } => source,
            Self::Members { dir, .. } => dir,
        }
    }

    fn of(share: &Share, runtime_dir: &Path) -> Self {
        match &share.content {
            ShareContent::Folder { source, read_only } => Self::Folder {
                source: source.clone(),
                read_only: *read_only,
            },
            ShareContent::Members(members) => Self::Members {
                dir: runtime_dir.join(format!("share-{}", share.tag)),
                members: members.clone(),
            },
        }
    }
}

impl Confinement {
    /// The confinement of `spec`'s engine. `uid_seed` (the box's ID) chooses the user ID when
    /// the caller is root: the same for every start of a box, another for another box.
    #[must_use]
    pub fn of(spec: &MachineSpec, accelerator: Accelerator, uid_seed: &str) -> Self {
        let kvm = accelerator == Accelerator::Kvm;
        let kvm_access = kvm
            .then(|| std::fs::metadata(KVM).map(|device| (device.gid(), device.mode())).ok())
            .flatten();
        let ports: &[_] = match &spec.network {
            NetworkSpec::None => &[],
            NetworkSpec::User { ports, .. } => ports,
        };
        Self {
            shares: spec
                .shares
                .iter()
                .map(|share| ConfinedShare::of(share, &spec.runtime_dir))
                .collect(),
            network: !matches!(spec.network, NetworkSpec::None),
            identity: identity(
                rustix::process::geteuid().is_root(),
                !spec.shares.is_empty(),
                kvm_access,
                uid_seed,
            ),
            low_ports: ports
                .iter()
                .any(|port| (1..FIRST_UNPRIVILEGED_PORT).contains(&port.host_port)),
            kvm,
            readable: Vec::new(),
            writable: Vec::new(),
            strict: spec.security == Security::Strict,
        }
    }
}

pub(super) const KVM: &str = "/dev/kvm";

fn identity(root: bool, shares: bool, kvm: Option<(u32, u32)>, seed: &str) -> Identity {
    if !root {
        return Identity::Caller;
    }
    if shares {
        return Identity::Root {
            why: "the box has volumes, whose files belong to root".to_owned(),
        };
    }
    let groups = match kvm {
        None => Vec::new(),
        Some((_, mode)) if mode & 0o006 == 0o006 => Vec::new(),
        Some((group, mode)) if mode & 0o060 == 0o060 && group != 0 => vec![group],
        Some((_, mode)) => {
            return Identity::Root {
                why: format!("only root may open {KVM} (mode {:03o})", mode & 0o777),
            };
        }
    };
    Identity::Unprivileged {
        id: FIRST_UID + fnv1a(seed) % UIDS,
        groups,
    }
}

/// The 32-bit FNV-1a hash: spreads box IDs over user IDs.
fn fnv1a(text: &str) -> u32 {
    text.bytes().fold(0x811c_9dc5, |hash, byte| {
        (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_root_changes_its_identity_and_only_where_it_can() {
        assert_eq!(identity(false, true, None, "a"), Identity::Caller);
        assert!(matches!(identity(true, true, None, "a"), Identity::Root { .. }));
        assert!(matches!(
            identity(true, false, Some((0, 0o600)), "a"),
            Identity::Root { .. }
        ));
        let Identity::Unprivileged { id, groups } = identity(true, false, Some((104, 0o660)), "a") else {
            panic!("group kvm is enough");
        };
        assert!((FIRST_UID..FIRST_UID + UIDS).contains(&id));
        assert_eq!(groups, [104]);
        let Identity::Unprivileged { id: other, groups } = identity(true, false, Some((0, 0o666)), "b") else {
            panic!("a device for everybody is enough");
        };
        assert!(groups.is_empty());
        assert_ne!(id, other);
    }
}
