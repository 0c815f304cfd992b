//! Headers: an entry's own, and those before it that extend it.

use std::collections::BTreeMap;
use std::io::Read;

use super::fields::{Fields, ambiguous, join_prefix, size_of};
use super::{Body, Reader, padded};
use crate::block::{self, BLOCK_BYTES, Block};
use crate::entry::{Entry, EntryKind, Extent};
use crate::pax::Records;
use crate::read_error::ReadError;
use crate::sparse::PaxSparse;

/// What headers before the entry's own say about it.
#[derive(Default)]
struct Extensions {
    records: Option<Records>,
    long_name: Option<Vec<u8>>,
    long_link: Option<Vec<u8>>,
}

impl Extensions {
    fn any(&self) -> bool {
        self.records.is_some() || self.long_name.is_some() || self.long_link.is_some()
    }
}

impl<R: Read> Reader<R> {
    pub(super) fn read_entry(&mut self) -> Result<Option<Entry>, ReadError> {
        let mut extensions = Extensions::default();
        loop {
            let offset = self.offset;
            let end = |reader: &Self| match extensions.any() {
                true => Err(reader.end_within("an entry: only its extended headers are there")),
                false => Ok(None),
            };
            let Some(block) = self.read_block("a header")? else {
                return end(self);
            };
            if block.is_zero() {
                return match self.read_block("the final zeros")? {
                    Some(block) if !block.is_zero() => Err(ReadError::LoneZeroBlock { offset }),
                    _ => end(self),
                };
            }
            if !block.checksum_matches() {
                return Err(ReadError::Checksum { offset });
            }
            match block.type_flag() {
                // Solaris wrote its own letter before POSIX had decided.
                b'x' | b'X' => {
                    let data =
                        self.read_extension(&block, offset, "the extended header", self.limits.extension_bytes)?;
                    let records = Records::parse(&data).map_err(|source| ReadError::Pax { offset, source })?;
                    if extensions.records.replace(records).is_some() {
                        return Err(ambiguous(offset, "extended header"));
                    }
                }
                b'g' => {
                    let data = self.read_extension(&block, offset, "the global header", self.limits.extension_bytes)?;
                    self.apply_global(&data, offset)?;
                }
                b'L' => {
                    let name = self.read_long(&block, offset, "the path")?;
                    if extensions.long_name.replace(name).is_some() {
                        return Err(ambiguous(offset, "path"));
                    }
                }
                b'K' => {
                    let link = self.read_long(&block, offset, "the link target")?;
                    if extensions.long_link.replace(link).is_some() {
                        return Err(ambiguous(offset, "link target"));
                    }
                }
                // A label of the volume, nothing to unpack.
                b'V' => {
                    let size = size_of(&block, offset)?;
                    self.skip(padded(size), "the volume's label")?;
                }
                type_flag => {
                    let global = std::mem::take(&mut self.global);
                    let entry = self.parse_entry(&block, type_flag, offset, &global, extensions);
                    self.global = global;
                    return entry.map(Some);
                }
            }
        }
    }

    fn read_extension(
        &mut self,
        block: &Block,
        offset: u64,
        what: &'static str,
        limit: usize,
    ) -> Result<Vec<u8>, ReadError> {
        let bytes = size_of(block, offset)?;
        let size = usize::try_from(bytes)
            .ok()
            .filter(|size| *size <= limit)
            .ok_or(ReadError::TooLong {
                offset,
                what,
                bytes,
                limit,
            })?;
        let mut data = vec![0; size];
        if self.read_full(&mut data)? < size {
            return Err(self.end_within("an extended header"));
        }
        self.skip(padded(bytes) - bytes, "an extended header")?;
        Ok(data)
    }

    fn read_long(&mut self, block: &Block, offset: u64, what: &'static str) -> Result<Vec<u8>, ReadError> {
        // Its NUL is counted, and some writers fill the block with more of them.
        let limit = self.limits.path_bytes.saturating_add(BLOCK_BYTES);
        let data = self.read_extension(block, offset, what, limit)?;
        Ok(block::until_nul(&data).to_vec())
    }

    fn apply_global(&mut self, data: &[u8], offset: u64) -> Result<(), ReadError> {
        let records = Records::parse(data).map_err(|source| ReadError::Pax { offset, source })?;
        for (key, value) in records.0 {
            self.global_bytes += key.len() + value.len();
            if let Some(former) = self.global.insert(key, value) {
                self.global_bytes -= former.len();
            }
        }
        if self.global_bytes > self.limits.extension_bytes {
            return Err(ReadError::TooLong {
                offset,
                what: "the global headers",
                bytes: self.global_bytes as u64,
                limit: self.limits.extension_bytes,
            });
        }
        Ok(())
    }

    fn parse_entry(
        &mut self,
        block: &Block,
        type_flag: u8,
        offset: u64,
        global: &BTreeMap<Vec<u8>, Vec<u8>>,
        extensions: Extensions,
    ) -> Result<Entry, ReadError> {
        let local = extensions.records.unwrap_or_default();
        let fields = Fields {
            block,
            offset,
            local: &local,
            global,
        };

        let mut path = self.name(&fields, b"path", "path", extensions.long_name, || join_prefix(block))?;
        let link = self.name(&fields, b"linkpath", "link target", extensions.long_link, || {
            block.text(block::LINK).to_vec()
        })?;

        let (kind, has_data) = match type_flag {
            // Before POSIX a slash was all that told a directory.
            0 if path.ends_with(b"/") => (EntryKind::Directory, false),
            0 | b'0' | b'7' | b'S' => (EntryKind::File, true),
            b'1' => (EntryKind::HardLink, false),
            b'2' => (EntryKind::SymLink, false),
            b'3' => (EntryKind::CharDevice, false),
            b'4' => (EntryKind::BlockDevice, false),
            b'5' => (EntryKind::Directory, false),
            b'6' => (EntryKind::Fifo, false),
            // A directory of GNU's incremental archives: its data is a list of names.
            b'D' => (EntryKind::Directory, true),
            other => {
                return Err(ReadError::UnsupportedKind {
                    offset,
                    type_flag: other.into(),
                });
            }
        };

        let stored = if has_data {
            fields.unsigned(b"size", block::SIZE)?
        } else {
            0
        };
        let mut body = Body {
            stored,
            padding: padded(stored) - stored,
            ..Body::default()
        };
        let mut sparse = None;
        if kind == EntryKind::File {
            body.size = stored;
            if type_flag == b'S' {
                let (extents, size) = self.read_gnu_sparse(block, offset, stored)?;
                body.size = size;
                sparse = Some(extents);
            } else if let Some(found) = PaxSparse::parse(&local, self.limits.sparse_extents)
                .map_err(|source| ReadError::Sparse { offset, source })?
            {
                if let Some(name) = local.get(b"GNU.sparse.name") {
                    path = name.to_vec();
                }
                let (extents, size) = self.read_pax_sparse(found, offset, &mut body.stored)?;
                body.size = size;
                sparse = Some(extents);
            }
        }
        body.extents = match &sparse {
            Some(extents) => extents.clone(),
            None if body.size > 0 => vec![Extent {
                offset: 0,
                size: body.size,
            }],
            None => Vec::new(),
        };
        for (what, name) in [("the path", &path), ("the link target", &link)] {
            if name.len() > self.limits.path_bytes {
                return Err(ReadError::TooLong {
                    offset,
                    what,
                    bytes: name.len() as u64,
                    limit: self.limits.path_bytes,
                });
            }
        }
        let is_link = matches!(kind, EntryKind::HardLink | EntryKind::SymLink);
        let entry = Entry {
            path,
            kind,
            link: if is_link { link } else { Vec::new() },
            // Some writers put the kind's bits there too.
            mode: (fields.signed(block::MODE)? & 0o7777) as u32,
            uid: fields.unsigned(b"uid", block::UID)?,
            gid: fields.unsigned(b"gid", block::GID)?,
            user: fields.owner(b"uname", block::USER),
            group: fields.owner(b"gname", block::GROUP),
            size: if kind == EntryKind::File { body.size } else { 0 },
            mtime: fields.mtime()?,
            device: match kind {
                EntryKind::CharDevice | EntryKind::BlockDevice => (
                    fields.device(b"SCHILY.devmajor", block::DEVICE_MAJOR)?,
                    fields.device(b"SCHILY.devminor", block::DEVICE_MINOR)?,
                ),
                _ => (0, 0),
            },
            xattrs: fields.xattrs()?,
            sparse,
        };
        self.body = body;
        Ok(entry)
    }

    /// A path: from PAX records, a GNU long name, or the header.
    fn name(
        &self,
        fields: &Fields<'_>,
        key: &[u8],
        what: &'static str,
        long: Option<Vec<u8>>,
        header: impl FnOnce() -> Vec<u8>,
    ) -> Result<Vec<u8>, ReadError> {
        match (fields.record(key), long) {
            (Some(record), Some(long)) if record != long => Err(ambiguous(fields.offset, what)),
            (Some(record), _) => Ok(record.to_vec()),
            (None, Some(long)) => Ok(long),
            (None, None) => Ok(header()),
        }
    }
}
