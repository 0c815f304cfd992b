//! Why a machine did not start.

use std::io;
use std::net::IpAddr;
use std::path::PathBuf;

use super::command_line::InvalidSpec;
use super::qmp::QmpError;
use crate::jail::JailReport;
use crate::jail::process::Failure;
use crate::spec::Protocol;

/// What a file is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FileRole {
    /// The guest's kernel.
    Kernel,
    /// The guest's initramfs.
    Initramfs,
    /// The image's root file system.
    Rootfs,
    /// The box's disk.
    Disk,
    /// The memory of a template.
    Memory,
    /// The state of a template's devices.
    State,
}

impl std::fmt::Display for FileRole {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Kernel => "kernel",
            Self::Initramfs => "initramfs",
            Self::Rootfs => "root file system",
            Self::Disk => "disk",
            Self::Memory => "template's memory",
            Self::State => "template's state",
        })
    }
}

/// A machine could not be started. Nothing of it runs.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StartError {
    /// The machine can't be one.
    #[error(transparent)]
    Invalid(#[from] InvalidSpec),
    /// A file of the machine can't be opened.
    #[error("the {role} {} can't be opened", path.display())]
    File {
        /// What it is for.
        role: FileRole,
        /// Where it should be.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The source of a share can't be shared.
    #[error("{} can't be shared with the box: {why}", path.display())]
    Share {
        /// The source.
        path: PathBuf,
        /// The reason.
        why: String,
    },
    /// Descriptors, pipes or memory for the engine can't be had.
    #[error("preparing the engine's descriptors")]
    Descriptors(#[source] io::Error),
    /// The process that becomes the engine can't be started.
    #[error("starting {}", path.display())]
    Spawn {
        /// The program.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The jail failed.
    #[error("the engine could not be confined and run: {failure}")]
    Jail {
        /// Which step, and why.
        failure: Failure,
    },
    /// All of the jail is required, and the host does not allow all of it.
    #[error("the host does not allow all of the jail: {}", missing(report))]
    JailIncomplete {
        /// What is missing.
        report: JailReport,
    },
    /// Another program listens on a port that is to be published.
    #[error("{protocol} port {host_ip}:{host_port} is taken")]
    PortInUse {
        /// The address.
        host_ip: IpAddr,
        /// The port.
        host_port: u16,
        /// The protocol.
        protocol: Protocol,
    },
    /// A port that is to be published can't be listened on.
    #[error("{protocol} port {host_ip}:{host_port} can't be published: {why}")]
    PortRefused {
        /// The address.
        host_ip: IpAddr,
        /// The port.
        host_port: u16,
        /// The protocol.
        protocol: Protocol,
        /// What the system says.
        why: String,
    },
    /// The engine ended before the guest ran.
    #[error("the engine ended at once ({status}): {}", stderr.last().map_or("it said nothing", String::as_str))]
    EngineExited {
        /// How.
        status: std::process::ExitStatus,
        /// Its last words.
        stderr: Vec<String>,
    },
    /// The engine's control channel failed.
    #[error("the engine's control channel failed")]
    Control(#[from] QmpError),
}

fn missing(report: &JailReport) -> String {
    let missing: Vec<String> = report
        .missing
        .iter()
        .map(|missing| format!("{} ({})", missing.what, missing.why))
        .collect();
    missing.join(", ")
}
