//! What host and guest say to each other: the schema's types, the version that
//! both agree on, and the byte streams that carry it.
//!
//! - [`guest`] and [`shim`]: the messages, clients and servers of `proto/*.proto`
//! - [`version`]: [`negotiate`] at hello and the metadata on every later request
//! - [`preamble`]: how both ends of a byte stream of unknown state find each other
//! - [`transport`]: HTTP/2 on such a stream and on Unix sockets, with one set of limits
#![forbid(unsafe_code)]

mod exit_status;
pub mod preamble;
pub mod transport;
pub mod version;

mod boxlite {
    #![allow(missing_docs, unreachable_pub, clippy::all)]
    pub mod guest {
        pub mod v1 {
            tonic::include_proto!("boxlite.guest.v1");
        }
    }
    pub mod shim {
        pub mod v1 {
            tonic::include_proto!("boxlite.shim.v1");
        }
    }
}
pub use boxlite::guest::v1 as guest;
pub use boxlite::shim::v1 as shim;

pub use version::{PROTOCOL_MAX, PROTOCOL_MIN, PROTOCOL_VERSION, VersionMismatch, negotiate};

/// The longest piece of stdin in one message, in bytes.
pub const STDIN_CHUNK_BYTES: usize = 64 * 1024;
/// The longest piece of stdout or stderr in one message, in bytes.
pub const OUTPUT_CHUNK_BYTES: usize = 64 * 1024;
/// The longest piece of a tar stream in one message, in bytes.
pub const TAR_CHUNK_BYTES: usize = 256 * 1024;
/// The longest message that either end accepts, in bytes (gRPC's usual limit).
pub const MESSAGE_LIMIT_BYTES: usize = 4 * 1024 * 1024;
/// The name of the guest's end of the stream: the `name` of the virtio-serial port.
pub const AGENT_PORT_NAME: &str = "boxlite.agent";
/// The address that user-mode networks give their guest, unless a host says otherwise: guests take
/// it before anybody has spoken to them, so that nothing is left to do when the host wants it.
pub const USUAL_ADDRESS_CIDR: &str = "10.0.2.15/24";
/// The gateway of [`USUAL_ADDRESS_CIDR`].
pub const USUAL_GATEWAY: &str = "10.0.2.2";
/// The serial number of the disk with the image's root file system.
pub const ROOTFS_SERIAL: &str = "rootfs";
/// The serial number of the box's own disk, with whatever was written to it.
pub const DISK_SERIAL: &str = "disk";
/// The serial number of a disk on which no box has written anything yet. Only machines of
/// templates, and machines that go on from one, have it: its file system is mounted in the
/// template, and a new box's disk takes its place when it is the same, byte for byte.
pub const BLANK_DISK_SERIAL: &str = "blank";
/// The word on the kernel's command line that makes the agent power off at once,
/// so that a start of kernel and agent proves that an accelerator works.
pub const PROBE_PARAMETER: &str = "boxlite.probe=1";
