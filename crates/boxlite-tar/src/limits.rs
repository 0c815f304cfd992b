/// What one entry of an archive may take at most; memory is bounded by these.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limits {
    /// Bytes of a path or a link target. Default 4,096, Linux's `PATH_MAX`.
    pub path_bytes: usize,
    /// Bytes of the extension headers (PAX records) of one entry, and of all global ones
    /// together. Default 4 MiB: an inode may have many extended attributes of 64 KiB.
    pub extension_bytes: usize,
    /// Pieces of data that one sparse file may have. Default 1,048,576.
    pub sparse_extents: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            path_bytes: 4096,
            extension_bytes: 4 << 20,
            sparse_extents: 1 << 20,
        }
    }
}
