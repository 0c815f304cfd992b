/// A point in time: seconds since 1970-01-01 00:00:00 UTC and what follows, always forwards.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Timestamp {
    /// Whole seconds; negative before 1970.
    pub seconds: i64,
    /// 0 to 999,999,999, added to `seconds` even when that is negative.
    pub nanoseconds: u32,
}

/// What an entry stands for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum EntryKind {
    /// A regular file; the only kind that has data.
    File,
    /// Another name of an earlier entry, whose path is in [`Entry::link`].
    HardLink,
    /// A symbolic link to [`Entry::link`].
    SymLink,
    /// A directory.
    Directory,
    /// A character device, [`Entry::device`].
    CharDevice,
    /// A block device, [`Entry::device`].
    BlockDevice,
    /// A named pipe.
    Fifo,
}

/// A piece of a file that has data; what no piece covers is a hole and reads as zeros.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Extent {
    /// Where it starts in the file, in bytes.
    pub offset: u64,
    /// How many bytes it has.
    pub size: u64,
}

impl Extent {
    /// Where it ends, in bytes; `None` beyond 2⁶⁴.
    pub(crate) fn end(&self) -> Option<u64> {
        self.offset.checked_add(self.size)
    }
}

/// An extended attribute: its whole name (`security.capability`) and its value, any bytes.
pub type Xattr = (Vec<u8>, Vec<u8>);

/// One member of an archive, without its data.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// The path as the archive has it: not normalised, maybe absolute, maybe with `..` or a
    /// trailing slash. Never contains a NUL.
    pub path: Vec<u8>,
    /// What it is.
    pub kind: EntryKind,
    /// The target of a symbolic link or the path of a hard link's other name; else empty.
    pub link: Vec<u8>,
    /// Permission bits with set-uid, set-gid and sticky: 12 bits.
    pub mode: u32,
    /// The owner's number.
    pub uid: u64,
    /// The group's number.
    pub gid: u64,
    /// The owner's name, may be empty.
    pub user: Vec<u8>,
    /// The group's name, may be empty.
    pub group: Vec<u8>,
    /// Bytes of a file as its reader sees it, with its holes. 0 for other kinds.
    pub size: u64,
    /// When it was last modified.
    pub mtime: Timestamp,
    /// Major and minor number of a device; else zeros.
    pub device: (u32, u32),
    /// Extended attributes, sorted by name.
    pub xattrs: Vec<Xattr>,
    /// Where a sparse file has data: ascending, not overlapping, within `size`, all pieces but
    /// the last multiples of 512 bytes. `None` for a file without holes.
    pub sparse: Option<Vec<Extent>>,
}

impl Entry {
    /// An entry of root's from 1970 with mode 0644 (0755 for directories, 0777 for symbolic
    /// links) and nothing else.
    pub fn new(path: impl Into<Vec<u8>>, kind: EntryKind) -> Self {
        let mode = match kind {
            EntryKind::Directory => 0o755,
            EntryKind::SymLink => 0o777,
            _ => 0o644,
        };
        Self {
            path: path.into(),
            kind,
            link: Vec::new(),
            mode,
            uid: 0,
            gid: 0,
            user: Vec::new(),
            group: Vec::new(),
            size: 0,
            mtime: Timestamp::default(),
            device: (0, 0),
            xattrs: Vec::new(),
            sparse: None,
        }
    }

    /// Bytes of data that the archive holds for this entry, without holes; saturating.
    pub fn stored_size(&self) -> u64 {
        match &self.sparse {
            Some(extents) => extents
                .iter()
                .fold(0, |total: u64, extent| total.saturating_add(extent.size)),
            None => self.size,
        }
    }
}
