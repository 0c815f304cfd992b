use serde::{Deserialize, Serialize};

/// What an image may be at most. Whatever exceeds a limit is refused with an error that
/// names it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Limits {
    /// Bytes of a manifest, an index or a config. Default 4 MiB.
    pub document_bytes: u64,
    /// Layers of an image. Default 127.
    pub layers: usize,
    /// Bytes of all layers together, as they are stored, and of an archive that is loaded,
    /// decompressed. Default 64 GiB.
    pub image_bytes: u64,
    /// Images that one archive or layout may hold. Default 1,000.
    pub images: usize,
    /// Files in an archive that is loaded. Default 100,000.
    pub archive_entries: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            document_bytes: 4 << 20,
            layers: 127,
            image_bytes: 64 << 30,
            images: 1_000,
            archive_entries: 100_000,
        }
    }
}
