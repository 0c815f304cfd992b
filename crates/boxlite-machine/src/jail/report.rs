//! What the jail could do on this host: [`JailReport`].

use serde::{Deserialize, Serialize};

/// The engine dies with the process that started it (`PR_SET_PDEATHSIG`).
pub const PARENT_DEATH: &str = "parent-death-signal";
/// No descriptor of the caller's but those that the engine is given, and no environment.
pub const INHERITANCE: &str = "descriptors-and-environment";
/// No core dumps, no locked memory (`setrlimit(2)`).
pub const RESOURCE_LIMITS: &str = "resource-limits";
/// No privileges by exec (`PR_SET_NO_NEW_PRIVS`).
pub const NO_NEW_PRIVILEGES: &str = "no-new-privileges";
/// A user name space (only where the caller isn't root, who needs none for the others).
pub const USER_NAMESPACE: &str = "user-namespace";
/// A mount name space.
pub const MOUNT_NAMESPACE: &str = "mount-namespace";
/// An IPC name space.
pub const IPC_NAMESPACE: &str = "ipc-namespace";
/// A network name space with nothing in it (only for machines without a network).
pub const NETWORK_NAMESPACE: &str = "network-namespace";
/// The engine doesn't run as root.
pub const UNPRIVILEGED_USER: &str = "unprivileged-user";
/// No capabilities but those that volumes of root's and ports below 1024 need.
pub const CAPABILITIES: &str = "capabilities";
/// Access to the file system limited to what the machine needs (Landlock).
pub const FILE_ACCESS: &str = "landlock";
/// The engine's own system call filter (seccomp).
pub const SYSTEM_CALL_FILTER: &str = "seccomp";

/// The measures of the jail around one engine.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct JailReport {
    /// What holds: names of this crate's `jail` module.
    pub applied: Vec<String>,
    /// What the host did not allow, or this machine can't have.
    pub missing: Vec<MissingMeasure>,
}

/// One measure that does not hold.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MissingMeasure {
    /// The measure.
    pub what: String,
    /// Why it does not hold.
    pub why: String,
}

impl JailReport {
    pub(crate) fn add<E: std::fmt::Display>(&mut self, what: &str, result: Result<(), E>) {
        match result {
            Ok(()) => self.applied.push(what.to_owned()),
            Err(why) => self.missing.push(MissingMeasure {
                what: what.to_owned(),
                why: why.to_string(),
            }),
        }
    }

    /// Whether this measure holds.
    #[must_use]
    pub fn has(&self, what: &str) -> bool {
        self.applied.iter().any(|applied| applied == what)
    }
}
