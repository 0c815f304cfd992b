//! Which version of the protocol two peers use.
//!
//! Hello carries the range that the host speaks; the answer is the highest that
//! both do. Every request carries the sender's version as metadata
//! ([`METADATA_KEY`]), and a server refuses what it does not speak with
//! `FAILED_PRECONDITION` before it looks at the request.

use std::ops::RangeInclusive;

use tonic::{Request, Status, metadata::MetadataValue, service::Interceptor};

/// The version of `proto/*.proto` as they are: a schema that changes gets the next one.
pub const PROTOCOL_VERSION: u32 = 1;
/// The oldest version that this build speaks.
pub const PROTOCOL_MIN: u32 = 1;
/// The newest version that this build speaks.
pub const PROTOCOL_MAX: u32 = PROTOCOL_VERSION;
/// The metadata key with the sender's version, in decimal, on every request.
pub const METADATA_KEY: &str = "boxlite-protocol";

/// Two peers have no version in common.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "the peer speaks boxlite protocol {peer_min}..{peer_max}, this end speaks {own_min}..{own_max}: \
     one of the two is from another release"
)]
pub struct VersionMismatch {
    /// The oldest that the peer speaks.
    pub peer_min: u32,
    /// The newest that the peer speaks.
    pub peer_max: u32,
    /// The oldest that this end speaks.
    pub own_min: u32,
    /// The newest that this end speaks.
    pub own_max: u32,
}

impl From<VersionMismatch> for Status {
    fn from(mismatch: VersionMismatch) -> Self {
        Status::failed_precondition(mismatch.to_string())
    }
}

/// The version to use with a peer that speaks `min` to `max`: the highest that both do.
///
/// # Errors
/// [`VersionMismatch`] when there is none, also for an empty range.
pub fn negotiate(min: u32, max: u32) -> Result<u32, VersionMismatch> {
    let common = max.min(PROTOCOL_MAX);
    if min <= common && PROTOCOL_MIN <= common {
        Ok(common)
    } else {
        Err(VersionMismatch {
            peer_min: min,
            peer_max: max,
            own_min: PROTOCOL_MIN,
            own_max: PROTOCOL_MAX,
        })
    }
}

/// Client side: puts the version on every request.
#[derive(Debug, Clone)]
pub struct SendVersion(u32);

impl SendVersion {
    /// For the first call on a stream: the oldest version that this build speaks,
    /// so that every peer with a version in common answers.
    pub fn hello() -> Self {
        SendVersion(PROTOCOL_MIN)
    }

    /// For every call after hello, with the version that hello gave.
    pub fn negotiated(version: u32) -> Self {
        SendVersion(version)
    }
}

impl Default for SendVersion {
    /// The version of this build.
    fn default() -> Self {
        SendVersion(PROTOCOL_VERSION)
    }
}

impl Interceptor for SendVersion {
    fn call(&mut self, mut request: Request<()>) -> Result<Request<()>, Status> {
        request.metadata_mut().insert(METADATA_KEY, MetadataValue::from(self.0));
        Ok(request)
    }
}

/// Server side: refuses requests of a version that this build does not speak, and
/// requests that carry none.
#[derive(Debug, Clone)]
pub struct RequireVersion(RangeInclusive<u32>);

impl Default for RequireVersion {
    fn default() -> Self {
        RequireVersion(PROTOCOL_MIN..=PROTOCOL_MAX)
    }
}

impl Interceptor for RequireVersion {
    fn call(&mut self, request: Request<()>) -> Result<Request<()>, Status> {
        let Some(value) = request.metadata().get(METADATA_KEY) else {
            return Err(Status::failed_precondition(format!(
                "the request names no version of the boxlite protocol (metadata key {METADATA_KEY}); \
                 this end speaks {}..{}",
                self.0.start(),
                self.0.end()
            )));
        };
        let version = value.to_str().ok().and_then(|text| text.parse::<u32>().ok());
        match version {
            Some(version) if self.0.contains(&version) => Ok(request),
            Some(version) => Err(VersionMismatch {
                peer_min: version,
                peer_max: version,
                own_min: *self.0.start(),
                own_max: *self.0.end(),
            }
            .into()),
            None => Err(Status::failed_precondition(format!(
                "metadata key {METADATA_KEY} is not a version number: {value:?}"
            ))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use sha2::{Digest as _, Sha256};

    /// The schema of each version. A changed schema is a new version, except for
    /// comments and until the first release: then this line changes with it.
    const SCHEMA_OF_VERSION: (u32, &str) = (1, "2b6ccf08d4297b56eae04f04a2d87077dcfce5611c4f9d52f15946cffd776ff6");

    #[test]
    fn the_schema_is_the_one_of_its_version() {
        let mut hash = Sha256::new();
        for text in [
            include_str!("../proto/guest.proto"),
            include_str!("../proto/shim.proto"),
        ] {
            for line in text.lines() {
                let code = line.split("//").next().unwrap_or_default();
                for word in code.split_whitespace() {
                    hash.update(word);
                    hash.update(" ");
                }
            }
        }
        let hash: String = hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!((PROTOCOL_VERSION, hash.as_str()), SCHEMA_OF_VERSION);
    }

    #[test]
    fn the_highest_common_version_wins() {
        assert_eq!(negotiate(PROTOCOL_MIN, PROTOCOL_MAX), Ok(PROTOCOL_MAX));
        assert_eq!(negotiate(0, u32::MAX), Ok(PROTOCOL_MAX));
        let newer = negotiate(PROTOCOL_MAX + 1, PROTOCOL_MAX + 4).unwrap_err();
        assert_eq!((newer.peer_min, newer.own_max), (PROTOCOL_MAX + 1, PROTOCOL_MAX));
        assert!(negotiate(0, PROTOCOL_MIN - 1).is_err());
        assert!(negotiate(PROTOCOL_MAX, PROTOCOL_MIN - 1).is_err());
    }
}
