use std::io::{self, Read, Write};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD_NO_PAD;

use crate::block::{self, BLOCK_BYTES, Block};
use crate::entry::{Entry, EntryKind, Extent};
use crate::pax;
use crate::sparse::{self, SparseError};

const COPY_BYTES: usize = 64 * 1024;

/// Why an entry could not be written.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum WriteError {
    /// The sink failed; the archive is unusable.
    #[error("writing the archive: {source}")]
    Io {
        /// Why.
        #[from]
        source: io::Error,
    },
    /// The data could not be read. The entry was completed with zeros, so that the archive
    /// is well-formed and more may be appended.
    #[error("reading the data of {path:?} for the archive: {source}")]
    Data {
        /// The entry's path.
        path: String,
        /// Why.
        source: io::Error,
    },
    /// There was less data than the entry's size. The entry was completed with zeros, so that
    /// the archive is well-formed and more may be appended.
    #[error("{path:?} has become shorter while it was read: {missing} bytes of {expected} are missing")]
    DataTooShort {
        /// The entry's path.
        path: String,
        /// How many bytes there should have been.
        expected: u64,
        /// How many of them were not there.
        missing: u64,
    },
    /// A path, link or name can't be in an archive: empty, or with a NUL. Nothing was written.
    #[error("{what} of {path:?} can't be in a tar archive: it is empty or contains a NUL")]
    Name {
        /// The entry's path.
        path: String,
        /// What of it.
        what: &'static str,
    },
    /// A number is out of range. Nothing was written.
    #[error("{what} of {path:?} is out of range: {value}")]
    OutOfRange {
        /// The entry's path.
        path: String,
        /// What of it.
        what: &'static str,
        /// The number.
        value: u64,
    },
    /// The sparse map does not fit the entry. Nothing was written.
    #[error("the sparse map of {path:?} is unusable: {source}")]
    Sparse {
        /// The entry's path.
        path: String,
        /// What is wrong.
        source: SparseError,
    },
}

/// Writes an archive: ustar headers, PAX records where a value needs them, sparse files in
/// GNU's PAX format 1.0. The same entries give the same bytes.
///
/// The sink is written in small pieces: give it something buffered.
#[derive(Debug)]
pub struct Writer<W> {
    sink: W,
}

impl<W: Write> Writer<W> {
    /// Writes to `sink`.
    pub fn new(sink: W) -> Self {
        Self { sink }
    }

    /// Appends an entry. For a file, `data` gives exactly what its map covers, piece after
    /// piece, or all of its `size` bytes if it has none; what it gives beyond that is not
    /// read. For all other kinds `data` is not used.
    ///
    /// Directories get a slash at their path's end if they have none, other kinds lose it.
    ///
    /// # Errors
    /// When the entry can't be expressed, the data is too short, or the sink fails.
    pub fn append(&mut self, entry: &Entry, data: impl Read) -> Result<(), WriteError> {
        let expected = self.begin(entry)?;
        let (copied, failure) = self.copy(data, expected)?;
        self.end(entry, copied, failure)
    }

    /// As [`append`](Self::append), of a file whose data `mover` takes into the sink itself, for
    /// those that can move it without a copy. It gets the sink and how much is left, and says how
    /// much it moved; 0 when there is no more. An error of it is the data's.
    ///
    /// # Errors
    /// As [`append`](Self::append).
    pub fn append_moved(
        &mut self,
        entry: &Entry,
        mut mover: impl FnMut(&mut W, u64) -> io::Result<u64>,
    ) -> Result<(), WriteError> {
        let expected = self.begin(entry)?;
        let mut moved = 0;
        let mut failure = None;
        while moved < expected {
            match mover(&mut self.sink, expected - moved) {
                Ok(0) => break,
                Ok(count) => moved += count.min(expected - moved),
                Err(error) => {
                    failure = Some(error);
                    break;
                }
            }
        }
        self.end(entry, moved, failure)
    }

    /// Writes an entry's header; how much data is to follow it.
    fn begin(&mut self, entry: &Entry) -> Result<u64, WriteError> {
        let header = Header::new(entry)?;
        self.sink.write_all(&header.bytes)?;
        Ok(match entry.kind {
            EntryKind::File => entry.stored_size(),
            _ => 0,
        })
    }

    /// Fills up what there was too little of, so that what follows is found.
    fn end(&mut self, entry: &Entry, copied: u64, failure: Option<io::Error>) -> Result<(), WriteError> {
        let lossy = || String::from_utf8_lossy(&entry.path).into_owned();
        let expected = match entry.kind {
            EntryKind::File => entry.stored_size(),
            _ => 0,
        };
        self.write_zeros(expected - copied)?;
        self.write_zeros(expected.next_multiple_of(BLOCK_BYTES as u64) - expected)?;
        match failure {
            Some(source) => Err(WriteError::Data { path: lossy(), source }),
            None if copied < expected => Err(WriteError::DataTooShort {
                path: lossy(),
                expected,
                missing: expected - copied,
            }),
            None => Ok(()),
        }
    }

    /// Ends the archive with two blocks of zeros and gives the flushed sink back.
    ///
    /// # Errors
    /// When the sink fails.
    pub fn finish(mut self) -> io::Result<W> {
        self.sink.write_all(&[0; 2 * BLOCK_BYTES])?;
        self.sink.flush()?;
        Ok(self.sink)
    }

    /// The sink.
    pub fn get_mut(&mut self) -> &mut W {
        &mut self.sink
    }

    /// Copies at most `bytes`; returns how many there were and why there were not more.
    fn copy(&mut self, mut data: impl Read, bytes: u64) -> Result<(u64, Option<io::Error>), WriteError> {
        let mut buffer = vec![0; COPY_BYTES.min(usize::try_from(bytes).unwrap_or(COPY_BYTES))];
        let mut copied = 0;
        while copied < bytes {
            let piece = usize::try_from(bytes - copied).unwrap_or(usize::MAX).min(buffer.len());
            match data.read(&mut buffer[..piece]) {
                Ok(0) => break,
                Ok(read) => {
                    self.sink.write_all(&buffer[..read])?;
                    copied += read as u64;
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Ok((copied, Some(error))),
            }
        }
        Ok((copied, None))
    }

    fn write_zeros(&mut self, bytes: u64) -> Result<(), WriteError> {
        io::copy(&mut io::repeat(0).take(bytes), &mut self.sink)?;
        Ok(())
    }
}

/// Everything that precedes an entry's data.
struct Header {
    bytes: Vec<u8>,
}

impl Header {
    fn new(entry: &Entry) -> Result<Self, WriteError> {
        let lossy = || String::from_utf8_lossy(&entry.path).into_owned();
        let path = checked_path(entry)?;
        let mut block = Block::zeroed();
        let mut records = Vec::new();

        let sparse_map = match (&entry.sparse, entry.kind) {
            (Some(extents), EntryKind::File) => {
                let extents = sparse::check(extents.clone(), entry.size, None)
                    .map_err(|source| WriteError::Sparse { path: lossy(), source })?;
                Some(map_in_data(&extents, entry.size))
            }
            _ => None,
        };
        let size = match (&sparse_map, entry.kind) {
            (_, kind) if kind != EntryKind::File => 0,
            (Some(map), _) => map.len() as u64 + entry.stored_size(),
            (None, _) => entry.size,
        };

        if let Some(map) = &sparse_map {
            debug_assert_eq!(map.len() % BLOCK_BYTES, 0);
            pax::push_record(&mut records, b"GNU.sparse.major", b"1");
            pax::push_record(&mut records, b"GNU.sparse.minor", b"0");
            pax::push_record(&mut records, b"GNU.sparse.name", &path);
            pax::push_record(&mut records, b"GNU.sparse.realsize", entry.size.to_string().as_bytes());
            block.set_text(block::NAME, &placeholder(b"GNUSparseFile.0/", &path));
        } else if let Some((prefix, name)) = split(&path) {
            block.set_text(block::PREFIX, prefix);
            block.set_text(block::NAME, name);
        } else {
            pax::push_record(&mut records, b"path", &path);
            block.set_text(block::NAME, &path);
        }
        if matches!(entry.kind, EntryKind::HardLink | EntryKind::SymLink) {
            if entry.link.len() > 100 {
                pax::push_record(&mut records, b"linkpath", &entry.link);
            }
            block.set_text(block::LINK, &entry.link);
        }
        block.set_number(block::MODE, u64::from(entry.mode & 0o7777));
        for (what, key, field, value) in [
            ("the owner's number", &b"uid"[..], block::UID, entry.uid),
            ("the group's number", b"gid", block::GID, entry.gid),
            ("the size", b"size", block::SIZE, size),
        ] {
            if value > i64::MAX.cast_unsigned() {
                return Err(WriteError::OutOfRange {
                    path: lossy(),
                    what,
                    value,
                });
            }
            if !block.set_number(field, value) {
                pax::push_record(&mut records, key, value.to_string().as_bytes());
            }
        }
        for (key, field, name) in [
            (&b"uname"[..], block::USER, &entry.user),
            (b"gname", block::GROUP, &entry.group),
        ] {
            // One byte less than the field: some programs need the NUL.
            if name.len() > 31 {
                pax::push_record(&mut records, key, name);
            } else {
                block.set_text(field, name);
            }
        }
        let seconds = u64::try_from(entry.mtime.seconds).ok();
        let fits = block.set_number(block::MTIME, seconds.unwrap_or(0));
        if entry.mtime.nanoseconds > 999_999_999 {
            return Err(WriteError::OutOfRange {
                path: lossy(),
                what: "the modification time's nanoseconds",
                value: entry.mtime.nanoseconds.into(),
            });
        }
        if entry.mtime.nanoseconds > 0 || seconds.is_none() || !fits {
            let time = pax::format_time(entry.mtime);
            pax::push_record(&mut records, b"mtime", time.as_bytes());
        }
        if matches!(entry.kind, EntryKind::CharDevice | EntryKind::BlockDevice) {
            for (key, field, number) in [
                (&b"SCHILY.devmajor"[..], block::DEVICE_MAJOR, entry.device.0),
                (b"SCHILY.devminor", block::DEVICE_MINOR, entry.device.1),
            ] {
                if !block.set_number(field, number.into()) {
                    pax::push_record(&mut records, key, number.to_string().as_bytes());
                }
            }
        }
        for (name, value) in &entry.xattrs {
            if name.is_empty() || name.contains(&0) {
                return Err(WriteError::Name {
                    path: lossy(),
                    what: "the name of an extended attribute",
                });
            }
            push_xattr(&mut records, name, value);
        }
        block.set_ustar(match entry.kind {
            EntryKind::File => b'0',
            EntryKind::HardLink => b'1',
            EntryKind::SymLink => b'2',
            EntryKind::CharDevice => b'3',
            EntryKind::BlockDevice => b'4',
            EntryKind::Directory => b'5',
            EntryKind::Fifo => b'6',
        });
        block.set_checksum();

        let mut bytes = Vec::with_capacity(BLOCK_BYTES);
        if !records.is_empty() {
            bytes.extend_from_slice(&extended_header(&path, &records).0);
            bytes.extend_from_slice(&records);
            bytes.resize(bytes.len().next_multiple_of(BLOCK_BYTES), 0);
        }
        bytes.extend_from_slice(&block.0);
        bytes.extend_from_slice(&sparse_map.unwrap_or_default());
        Ok(Self { bytes })
    }
}

/// The path as it will be written.
fn checked_path(entry: &Entry) -> Result<Vec<u8>, WriteError> {
    let mut path = entry.path.clone();
    while path.last() == Some(&b'/') && path.len() > 1 {
        path.pop();
    }
    if entry.kind == EntryKind::Directory && path.last() != Some(&b'/') && !path.is_empty() {
        path.push(b'/');
    }
    let is_link = matches!(entry.kind, EntryKind::HardLink | EntryKind::SymLink);
    let bad = |name: &[u8], may_be_empty: bool| name.contains(&0) || !may_be_empty && name.is_empty();
    for (what, is_bad) in [
        ("the path", bad(&path, false)),
        ("the link target", is_link && bad(&entry.link, false)),
        ("the owner's name", bad(&entry.user, true)),
        ("the group's name", bad(&entry.group, true)),
    ] {
        if is_bad {
            return Err(WriteError::Name {
                path: String::from_utf8_lossy(&entry.path).into_owned(),
                what,
            });
        }
    }
    Ok(path)
}

/// Splits a path at a slash into what fits the header's prefix and name.
fn split(path: &[u8]) -> Option<(&[u8], &[u8])> {
    const NAME_BYTES: usize = 100;
    const PREFIX_BYTES: usize = 155;
    if path.len() <= NAME_BYTES {
        return Some((&[], path));
    }
    // The leftmost slash that leaves a name short enough; the prefix must not be empty, or
    // an absolute path would lose its first slash.
    let first = path.len() - 1 - NAME_BYTES;
    let slash = first.max(1) + path[first.max(1)..].iter().position(|byte| *byte == b'/')?;
    let (prefix, name) = (&path[..slash], &path[slash + 1..]);
    (prefix.len() <= PREFIX_BYTES && !name.is_empty()).then_some((prefix, name))
}

/// A name for what programs that don't know an extension would unpack.
fn placeholder(prefix: &[u8], path: &[u8]) -> Vec<u8> {
    let last = path
        .split(|byte| *byte == b'/')
        .rfind(|component| !component.is_empty())
        .unwrap_or(b"file");
    let mut name = prefix.to_vec();
    name.extend_from_slice(&last[..last.len().min(99 - prefix.len())]);
    name
}

fn extended_header(path: &[u8], records: &[u8]) -> Block {
    let mut block = Block::zeroed();
    block.set_text(block::NAME, &placeholder(b"PaxHeaders.0/", path));
    block.set_number(block::MODE, 0o644);
    block.set_number(block::UID, 0);
    block.set_number(block::GID, 0);
    block.set_number(block::SIZE, records.len() as u64);
    block.set_number(block::MTIME, 0);
    block.set_ustar(b'x');
    block.set_checksum();
    block
}

/// The map of a sparse file, version 1.0, filling whole blocks.
fn map_in_data(extents: &[Extent], size: u64) -> Vec<u8> {
    // A last empty piece at the file's end tells programs that ignore `realsize` its size.
    let last = Extent { offset: size, size: 0 };
    let mut map = format!("{}\n", extents.len() + 1).into_bytes();
    for extent in extents.iter().chain([&last]) {
        map.extend_from_slice(format!("{}\n{}\n", extent.offset, extent.size).as_bytes());
    }
    map.resize(map.len().next_multiple_of(BLOCK_BYTES), 0);
    map
}

fn push_xattr(records: &mut Vec<u8>, name: &[u8], value: &[u8]) {
    if !name.contains(&b'=') {
        pax::push_record(records, &[b"SCHILY.xattr.", name].concat(), value);
        return;
    }
    // A key ends at its first `=`, so such a name needs libarchive's encoded form.
    let mut key = b"LIBARCHIVE.xattr.".to_vec();
    for byte in name {
        match byte {
            b'=' | b'%' | 0..=0x20 | 0x7f.. => {
                key.extend_from_slice(format!("%{byte:02X}").as_bytes());
            }
            byte => key.push(*byte),
        }
    }
    pax::push_record(records, &key, STANDARD_NO_PAD.encode(value).as_bytes());
}
