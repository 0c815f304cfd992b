//! Engines that run machines.
//!
//! [`MachineSpec`] says what a machine is made of, [`qemu`] runs it, in a [`jail`], with
//! the accelerator that [`accelerator::choose`] found to work.
#![deny(unsafe_code)]

pub mod accelerator;
pub mod jail;
pub mod qemu;
mod spec;
#[allow(unsafe_code)]
mod sys;

pub use jail::{JailReport, MissingMeasure};
pub use spec::{
    Accelerator, ConsoleLog, Disk, EngineSpec, MachineSpec, NetworkSpec, PortForward, Protocol, Security, Share,
    ShareContent, ShareMember, UnknownAccelerator,
};
