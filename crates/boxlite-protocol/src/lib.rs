//! What host and guest say to each other.
#![forbid(unsafe_code)]

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
