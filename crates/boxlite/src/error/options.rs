//! What can be wrong with the options of a box.

use std::path::PathBuf;

use crate::error::{Diagnose, ErrorCode};

/// One thing that is wrong with [`crate::BoxOptions`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum OptionsError {
    /// No image was named.
    #[error("no image is named")]
    NoImage,
    /// The image's name can't be read.
    #[error("image {image:?}: {reason}")]
    Image {
        /// What was given.
        image: String,
        /// What is wrong with it.
        reason: String,
    },
    /// The name has characters or a length that a name can't have.
    #[error("name {name:?} is not of the form [a-zA-Z0-9][a-zA-Z0-9_.-]* with at most 128 bytes")]
    Name {
        /// What was given.
        name: String,
    },
    /// The name can't be one, by the home's own rules.
    #[error("{reason}")]
    TakenForm {
        /// What is wrong with it.
        reason: String,
    },
    /// A number is out of its range.
    #[error("{field} is {value}, which is not within {min}…{max}")]
    OutOfRange {
        /// The field of the options.
        field: &'static str,
        /// What was given.
        value: u64,
        /// The least.
        min: u64,
        /// The most.
        max: u64,
    },
    /// A variable's name is empty or has `=` or a NUL byte, or its value has a NUL byte.
    #[error("environment variable {key:?} has no valid name or value")]
    Env {
        /// Name of the variable.
        key: String,
    },
    /// A path in the box is not absolute, has `..` or a NUL byte.
    #[error("{field} {path:?} is not an absolute path without '..' and NUL bytes")]
    BoxPath {
        /// The field of the options.
        field: &'static str,
        /// What was given.
        path: String,
    },
    /// A text has a byte that it can't have, or is empty.
    #[error("{field} {value:?} is empty or has a byte that is not allowed there")]
    Text {
        /// The field of the options.
        field: &'static str,
        /// What was given.
        value: String,
    },
    /// The host name is not a name by RFC 1123, or longer than 64 bytes.
    #[error("hostname {hostname:?} is not a host name of at most 64 bytes")]
    Hostname {
        /// What was given.
        hostname: String,
    },
    /// More mounts than a machine has room for.
    #[error("{count} mounts: a box has at most {max}")]
    TooManyMounts {
        /// How many were given.
        count: usize,
        /// The most.
        max: usize,
    },
    /// Two mounts have the same target.
    #[error("two mounts have the target {target:?}")]
    DuplicateMount {
        /// The target.
        target: String,
    },
    /// A mount may not cover this path.
    #[error("nothing can be mounted on {target:?}: the box needs its own")]
    MountTarget {
        /// The target.
        target: String,
    },
    /// A mount's source is not there or can't be looked at.
    #[error("mount source {path}: {reason}", path = source_path.display())]
    MountSource {
        /// The path on the host.
        source_path: PathBuf,
        /// What the system said.
        reason: String,
    },
    /// A mount's source is neither a folder nor a regular file.
    #[error("mount source {path} is neither a folder nor a regular file", path = source_path.display())]
    MountSourceKind {
        /// The path on the host.
        source_path: PathBuf,
    },
    /// A port of the box is 0.
    #[error("port 0 of the box can't be published")]
    GuestPort,
    /// The same port of the host is published twice.
    #[error("port {port}/{protocol} of the host is published twice")]
    DuplicatePort {
        /// The port of the host.
        port: u16,
        /// The transport.
        protocol: crate::Protocol,
    },
    /// Ports without a network.
    #[error("ports can't be published with the network mode none")]
    PortsWithoutNetwork,
    /// The address to publish on is not one that the engine can listen on.
    #[error("ports can only be published on IPv4 addresses, not on {address}")]
    PortAddress {
        /// What was given.
        address: std::net::IpAddr,
    },
    /// Name servers that the box could not reach.
    #[error("name servers can't be set with the network mode none")]
    DnsWithoutNetwork,
    /// The platform can't be read.
    #[error("platform {platform:?} is not of the form os/architecture[/variant]")]
    Platform {
        /// What was given.
        platform: String,
    },
    /// The platform's machine code can't run here.
    #[error("images for {platform} can't run here: this machine runs {host}")]
    ForeignPlatform {
        /// What was given.
        platform: String,
        /// What the host runs.
        host: String,
    },
    /// A command that is only an empty string.
    #[error("the command's first word is empty")]
    EmptyCommand,
    /// The image has no command of its own.
    #[error("the image has neither an entrypoint nor a command")]
    NoCommand,
    /// A terminal or open standard input without a main process to have them.
    #[error("{field} needs a main process: a command, an entrypoint or run_image_command")]
    NeedsMainProcess {
        /// The field of the options.
        field: &'static str,
    },
    /// The engine is not there yet.
    #[error("the engine {engine} is not supported by this version")]
    Engine {
        /// What was asked for.
        engine: &'static str,
    },
}

impl Diagnose for OptionsError {
    fn code(&self) -> ErrorCode {
        match self {
            Self::Engine { .. } | Self::ForeignPlatform { .. } => ErrorCode::Unsupported,
            _ => ErrorCode::InvalidArgument,
        }
    }

    fn hint(&self) -> Option<String> {
        Some(match self {
            Self::Engine { .. } => "use the engine qemu, or auto".to_owned(),
            Self::NoCommand => "give a command, or leave run_image_command off to have an idle box".to_owned(),
            Self::TooManyMounts { .. } => "mount a folder that several of them are in".to_owned(),
            Self::MountSource { .. } => "a mount's source must exist: create it first, or mend the path".to_owned(),
            Self::ForeignPlatform { host, .. } => {
                format!("leave the platform out, or ask for {host}")
            }
            Self::PortsWithoutNetwork | Self::DnsWithoutNetwork => "use the network mode user".to_owned(),
            _ => return None,
        })
    }
}
