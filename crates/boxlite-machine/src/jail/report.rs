//! What the jail could do on this host: [`JailReport`].

use serde::{Deserialize, Serialize};

/// The measures of the jail around one engine.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct JailReport {
    /// What holds.
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
