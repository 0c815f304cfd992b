//! What of a box does not depend on the box: made before the host says hello, so that a
//! template has it and a warm start finds it done.
//!
//! Work that a machine does only after it was restored is expensive under emulation: the
//! code for it is translated anew each time.

use std::io;

use crate::{
    boot::set_sysctl,
    disks::Disks,
    entropy::Generator,
    founder::{FoundError, Founder},
    network::Interfaces,
    spaces::Namespaces,
    sys,
};

/// What the agent takes of memory before it is needed: as much as a start needs several times.
const HEAP_BYTES: i32 = 1 << 20;

/// What programs for containers rely on.
const SYSCTLS: [(&str, &str); 5] = [
    // ping(8) for everyone, and web servers that are not root.
    ("net/ipv4/ping_group_range", "0 2147483647"),
    ("net/ipv4/ip_unprivileged_port_start", "0"),
    // What search engines and other users of many mappings ask for.
    ("vm/max_map_count", "1048576"),
    ("fs/inotify/max_user_watches", "1048576"),
    ("fs/inotify/max_user_instances", "8192"),
];

/// The parts of a box that is not any particular box yet.
#[derive(Debug)]
pub(crate) struct Prepared {
    pub(crate) founder: Founder,
    pub(crate) namespaces: Namespaces,
    pub(crate) disks: Disks,
    pub(crate) interfaces: Interfaces,
    pub(crate) random: Generator,
}

/// Why a box could not be prepared.
#[derive(Debug, thiserror::Error)]
pub(crate) enum PrepareBoxError {
    #[error(transparent)]
    Found(#[from] FoundError),
    #[error("open the box's namespaces: {0}")]
    Open(#[source] io::Error),
    #[error("list the disks: {0}")]
    Disks(#[source] io::Error),
    #[error("open the random number generator: {0}")]
    Random(#[source] io::Error),
}

impl Prepared {
    /// Makes them. Touches no volume, and no disk but a blank one.
    pub(crate) async fn make() -> Result<Self, PrepareBoxError> {
        sys::take_memory_ahead(HEAP_BYTES);
        for (name, value) in SYSCTLS {
            set_sysctl(name, value);
        }
        let disks = Disks::list().map_err(PrepareBoxError::Disks)?;
        let founder = Founder::start(&disks).await?;
        Ok(Prepared {
            namespaces: Namespaces::open(founder.pid()).map_err(PrepareBoxError::Open)?,
            founder,
            disks,
            interfaces: Interfaces::bring_up(),
            random: Generator::open().map_err(PrepareBoxError::Random)?,
        })
    }
}
