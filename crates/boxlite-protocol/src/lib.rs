//! placeholder
#![allow(missing_docs)]
pub mod guest { tonic::include_proto!("boxlite.guest.v1"); }
pub mod shim { tonic::include_proto!("boxlite.shim.v1"); }
