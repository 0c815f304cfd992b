use std::collections::BTreeMap;
use std::io::{self, Read};

use base64::Engine as _;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};

use crate::block::{self, BLOCK_BYTES, Block, Field, Format};
use crate::entry::{Entry, EntryKind, Extent, Timestamp, Xattr};
use crate::limits::Limits;
use crate::pax::{self, PaxError, Records};
use crate::read_error::ReadError;
use crate::sparse::{self, Map, PaxSparse, SparseError};

const SCHILY_XATTR: &[u8] = b"SCHILY.xattr.";
const LIBARCHIVE_XATTR: &[u8] = b"LIBARCHIVE.xattr.";

/// Writers differ in whether they pad.
const BASE64: GeneralPurpose = GeneralPurpose::new(
    &base64::alphabet::STANDARD,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

/// Reads an archive from start to end, entry by entry.
///
/// The source is read in small pieces: give it something buffered. After the last entry the
/// source stands behind the archive's final zeros (or at its end); what follows is not read.
///
/// Formats are told apart as GNU tar, Python's `tarfile` and Go's `archive/tar` do. Where
/// those disagree the archive is refused ([`ReadError::Ambiguous`]), with two exceptions: the
/// size field of links, devices, pipes and directories is ignored, as most programs do, and
/// global PAX records apply to all entries that follow, as the standard says.
#[derive(Debug)]
pub struct Reader<R> {
    source: R,
    limits: Limits,
    /// Bytes taken from the source.
    offset: u64,
    global: BTreeMap<Vec<u8>, Vec<u8>>,
    global_bytes: usize,
    body: Body,
    state: State,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Reading,
    Ended,
    Failed,
}

/// What is left of the current entry's data.
#[derive(Debug, Default)]
struct Body {
    /// Where the file has data, ascending.
    extents: Vec<Extent>,
    /// Which of them is being read.
    current: usize,
    /// Whether `next_extent` has given it out.
    entered: bool,
    /// How far the file has been read, holes included.
    position: u64,
    /// Bytes of the file, holes included.
    size: u64,
    /// Bytes that the archive still holds for this entry.
    stored: u64,
    /// Zeros after them, up to the next block.
    padding: u64,
}

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
    /// Reads from `source`, which stands at the archive's start.
    pub fn new(source: R, limits: Limits) -> Self {
        Self {
            source,
            limits,
            offset: 0,
            global: BTreeMap::new(),
            global_bytes: 0,
            body: Body::default(),
            state: State::Reading,
        }
    }

    /// How many bytes have been taken from the source.
    pub fn offset(&self) -> u64 {
        self.offset
    }

    /// The source, in whatever state it is.
    pub fn into_inner(self) -> R {
        self.source
    }

    /// The next entry, or `None` at the end of the archive. What is left of the data of the
    /// entry before is skipped.
    ///
    /// # Errors
    /// When the archive is damaged, ambiguous, beyond the limits or can't be read. Nothing
    /// can be read after that: all further calls fail too.
    pub fn next_entry(&mut self) -> Result<Option<Entry>, ReadError> {
        self.guarded(|reader| {
            if reader.state == State::Ended {
                return Ok(None);
            }
            reader.skip_body()?;
            let entry = reader.read_entry()?;
            if entry.is_none() {
                reader.state = State::Ended;
            }
            Ok(entry)
        })
    }

    /// The current entry's data as the file's reader sees it: holes are zeros. Both ways to
    /// read data may be mixed.
    pub fn data(&mut self) -> Data<'_, R> {
        Data { reader: self }
    }

    /// Reads the current entry's data as the file's reader sees it; 0 at its end.
    ///
    /// # Errors
    /// When the archive is truncated or can't be read.
    pub fn read_data(&mut self, buffer: &mut [u8]) -> Result<usize, ReadError> {
        if buffer.is_empty() {
            return Ok(0);
        }
        let body = &mut self.body;
        let next = body.extents.get(body.current).map_or(body.size, |extent| extent.offset);
        if body.position < next {
            let hole = usize::try_from(next - body.position).unwrap_or(usize::MAX);
            let bytes = hole.min(buffer.len());
            buffer[..bytes].fill(0);
            body.position += bytes as u64;
            return Ok(bytes);
        }
        let bytes = self.read_extent(buffer)?;
        if bytes == 0 && self.body.current < self.body.extents.len() {
            self.body.advance();
            return self.read_data(buffer);
        }
        Ok(bytes)
    }

    /// Skips to the next piece of the current entry's data: over what is left of the current
    /// piece and the hole after it. A file without holes has one piece, an empty one none.
    ///
    /// # Errors
    /// When the archive is truncated or can't be read.
    pub fn next_extent(&mut self) -> Result<Option<Extent>, ReadError> {
        self.guarded(|reader| {
            let body = &mut reader.body;
            if let Some(extent) = body.extents.get(body.current)
                && (body.entered || body.position > extent.offset)
            {
                let rest = extent.offset + extent.size - body.position;
                body.position += rest;
                body.stored -= rest;
                body.advance();
                reader.skip(rest, "the data of a file")?;
            }
            let body = &mut reader.body;
            match body.extents.get(body.current) {
                Some(extent) => {
                    body.position = extent.offset;
                    body.entered = true;
                    Ok(Some(*extent))
                }
                None => {
                    body.position = body.size;
                    Ok(None)
                }
            }
        })
    }

    /// Reads from the piece that [`next_extent`](Self::next_extent) gave; 0 at its end.
    ///
    /// # Errors
    /// When the archive is truncated or can't be read.
    pub fn read_extent(&mut self, buffer: &mut [u8]) -> Result<usize, ReadError> {
        self.guarded(|reader| {
            let body = &reader.body;
            let Some(extent) = body.extents.get(body.current) else {
                return Ok(0);
            };
            if body.position < extent.offset {
                return Ok(0);
            }
            let rest = extent.offset + extent.size - body.position;
            let bytes = usize::try_from(rest).unwrap_or(usize::MAX).min(buffer.len());
            if bytes == 0 {
                return Ok(0);
            }
            let bytes = reader.read_some(&mut buffer[..bytes])?;
            if bytes == 0 {
                return Err(reader.end_within("the data of a file"));
            }
            reader.body.position += bytes as u64;
            reader.body.stored -= bytes as u64;
            Ok(bytes)
        })
    }

    fn guarded<T>(&mut self, action: impl FnOnce(&mut Self) -> Result<T, ReadError>) -> Result<T, ReadError> {
        if self.state == State::Failed {
            return Err(ReadError::Failed);
        }
        let result = action(self);
        if result.is_err() {
            self.state = State::Failed;
        }
        result
    }

    fn read_some(&mut self, buffer: &mut [u8]) -> Result<usize, ReadError> {
        loop {
            match self.source.read(buffer) {
                Ok(bytes) => {
                    self.offset += bytes as u64;
                    return Ok(bytes);
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(source) => {
                    return Err(ReadError::Io {
                        offset: self.offset,
                        source,
                    });
                }
            }
        }
    }

    /// Fills the buffer; returns how much of it, less at the end of the source.
    fn read_full(&mut self, buffer: &mut [u8]) -> Result<usize, ReadError> {
        let mut filled = 0;
        while filled < buffer.len() {
            match self.read_some(&mut buffer[filled..])? {
                0 => break,
                bytes => filled += bytes,
            }
        }
        Ok(filled)
    }

    fn end_within(&self, within: &'static str) -> ReadError {
        ReadError::UnexpectedEnd {
            offset: self.offset,
            within,
        }
    }

    fn skip(&mut self, mut bytes: u64, within: &'static str) -> Result<(), ReadError> {
        let mut scratch = [0; 16 * 1024];
        while bytes > 0 {
            let piece = usize::try_from(bytes).unwrap_or(usize::MAX).min(scratch.len());
            match self.read_some(&mut scratch[..piece])? {
                0 => return Err(self.end_within(within)),
                skipped => bytes -= skipped as u64,
            }
        }
        Ok(())
    }

    fn skip_body(&mut self) -> Result<(), ReadError> {
        let body = std::mem::take(&mut self.body);
        self.skip(body.stored, "the data of a file")?;
        self.skip(body.padding, "the padding after a file")
    }

    /// A header block, or `None` at the end of the archive.
    fn read_block(&mut self, within: &'static str) -> Result<Option<Block>, ReadError> {
        let mut block = Block::zeroed();
        match self.read_full(&mut block.0)? {
            BLOCK_BYTES => Ok(Some(block)),
            0 => Ok(None),
            _ => Err(self.end_within(within)),
        }
    }

    fn read_entry(&mut self) -> Result<Option<Entry>, ReadError> {
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

    fn read_gnu_sparse(&mut self, block: &Block, offset: u64, stored: u64) -> Result<(Vec<Extent>, u64), ReadError> {
        if block.format() != Format::Gnu {
            return Err(ReadError::UnsupportedKind { offset, type_flag: 'S' });
        }
        let sparse = |source| ReadError::Sparse { offset, source };
        let size = block
            .number(block::GNU_REAL_SIZE)
            .and_then(|size| u64::try_from(size).ok())
            .ok_or_else(|| number_error(block, offset, block::GNU_REAL_SIZE))?;
        let mut map = Map::new(self.limits.sparse_extents);
        let mut push = |piece: Option<(u64, u64)>| {
            let (offset, size) = piece.ok_or(SparseError::Malformed)?;
            map.push(offset)?;
            map.push(size)
        };
        let (mut pieces, mut more) = block.gnu_sparse();
        pieces.try_for_each(&mut push).map_err(sparse)?;
        while more {
            let block = self
                .read_block("the map of a sparse file")?
                .ok_or_else(|| self.end_within("the map of a sparse file"))?;
            let (mut pieces, and_more) = block.gnu_sparse_extension();
            let mut any = false;
            pieces
                .try_for_each(|piece| {
                    any = true;
                    push(piece)
                })
                .map_err(sparse)?;
            // Blocks without pieces would let a map go on for ever.
            if and_more && !any {
                return Err(sparse(SparseError::Malformed));
            }
            more = and_more;
        }
        let extents = map
            .finish()
            .and_then(|extents| sparse::check(extents, size, Some(stored)))
            .map_err(sparse)?;
        Ok((extents, size))
    }

    fn read_pax_sparse(
        &mut self,
        found: PaxSparse,
        offset: u64,
        stored: &mut u64,
    ) -> Result<(Vec<Extent>, u64), ReadError> {
        let sparse = |source| ReadError::Sparse { offset, source };
        let (pieces, real_size) = match found {
            PaxSparse::Map { pieces, real_size } => (pieces, real_size),
            PaxSparse::InData { real_size } => (self.read_map_in_data(offset, stored)?, real_size),
        };
        let size = match real_size {
            Some(size) => size,
            None => return Err(sparse(SparseError::Malformed)),
        };
        let extents = sparse::check(pieces, size, Some(*stored)).map_err(sparse)?;
        Ok((extents, size))
    }

    /// The map of version 1.0: decimal numbers, each with a newline, filling whole blocks.
    fn read_map_in_data(&mut self, offset: u64, stored: &mut u64) -> Result<Vec<Extent>, ReadError> {
        let malformed = || ReadError::Sparse {
            offset,
            source: SparseError::Malformed,
        };
        let sparse = |source| ReadError::Sparse { offset, source };
        let mut map = Map::new(self.limits.sparse_extents);
        let mut missing: Option<u64> = None;
        let mut digits = Vec::with_capacity(20);
        while missing != Some(0) {
            if *stored < BLOCK_BYTES as u64 {
                return Err(malformed());
            }
            *stored -= BLOCK_BYTES as u64;
            let block = self
                .read_block("the map of a sparse file")?
                .ok_or_else(|| self.end_within("the map of a sparse file"))?;
            for byte in block.0 {
                match byte {
                    _ if missing == Some(0) => break,
                    b'0'..=b'9' if digits.len() < 20 => digits.push(byte),
                    b'\n' => {
                        let number = pax::decimal(&digits).ok_or_else(malformed)?;
                        digits.clear();
                        missing = Some(match missing {
                            None if number > self.limits.sparse_extents as u64 => {
                                return Err(sparse(SparseError::TooMany {
                                    limit: self.limits.sparse_extents,
                                }));
                            }
                            None => 2 * number,
                            Some(missing) => {
                                map.push(number).map_err(sparse)?;
                                missing - 1
                            }
                        });
                    }
                    _ => return Err(malformed()),
                }
            }
        }
        map.finish().map_err(sparse)
    }
}

impl Body {
    fn advance(&mut self) {
        self.current += 1;
        self.entered = false;
    }
}

/// A header and the records that override its fields.
struct Fields<'a> {
    block: &'a Block,
    offset: u64,
    local: &'a Records,
    global: &'a BTreeMap<Vec<u8>, Vec<u8>>,
}

impl<'a> Fields<'a> {
    /// The record that counts. An empty value stands for the header's own field.
    fn record(&self, key: &[u8]) -> Option<&'a [u8]> {
        self.local
            .get(key)
            .or_else(|| self.global.get(key).map(|value| &value[..]))
            .filter(|value| !value.is_empty())
    }

    fn pax(&self, source: PaxError) -> ReadError {
        ReadError::Pax {
            offset: self.offset,
            source,
        }
    }

    fn signed(&self, field: Field) -> Result<i64, ReadError> {
        self.block
            .number(field)
            .ok_or_else(|| number_error(self.block, self.offset, field))
    }

    fn unsigned(&self, key: &[u8], field: Field) -> Result<u64, ReadError> {
        match self.record(key) {
            Some(value) => pax::decimal(value).ok_or_else(|| self.pax(PaxError::value(key, value))),
            None => u64::try_from(self.signed(field)?).map_err(|_| number_error(self.block, self.offset, field)),
        }
    }

    fn device(&self, key: &[u8], field: Field) -> Result<u32, ReadError> {
        u32::try_from(self.unsigned(key, field)?).map_err(|_| number_error(self.block, self.offset, field))
    }

    fn owner(&self, key: &[u8], field: Field) -> Vec<u8> {
        match self.record(key) {
            Some(name) => name.to_vec(),
            None if self.block.format() == Format::V7 => Vec::new(),
            None => self.block.text(field).to_vec(),
        }
    }

    fn mtime(&self) -> Result<Timestamp, ReadError> {
        match self.record(b"mtime") {
            Some(value) => pax::parse_time(value).ok_or_else(|| self.pax(PaxError::value(b"mtime", value))),
            None => Ok(Timestamp {
                seconds: self.signed(block::MTIME)?,
                nanoseconds: 0,
            }),
        }
    }

    /// Extended attributes, however they were stored. Of one that is there in both ways the
    /// raw form counts, which is the one that most programs know.
    fn xattrs(&self) -> Result<Vec<Xattr>, ReadError> {
        let records = || {
            self.global
                .iter()
                .chain(self.local.0.iter().map(|(key, value)| (key, value)))
        };
        let mut xattrs = BTreeMap::new();
        for (key, value) in records() {
            if let Some(name) = key.strip_prefix(LIBARCHIVE_XATTR) {
                let malformed = || self.pax(PaxError::value(key, value));
                let name = decode_percent(name).ok_or_else(malformed)?;
                let value = BASE64.decode(value).map_err(|_| malformed())?;
                xattrs.insert(name, value);
            }
        }
        for (key, value) in records() {
            if let Some(name) = key.strip_prefix(SCHILY_XATTR) {
                xattrs.insert(name.to_vec(), value.clone());
            }
        }
        if let Some(name) = xattrs.keys().find(|name| name.is_empty() || name.contains(&0)) {
            return Err(self.pax(PaxError::value(SCHILY_XATTR, name)));
        }
        Ok(xattrs.into_iter().collect())
    }
}

fn decode_percent(name: &[u8]) -> Option<Vec<u8>> {
    let mut decoded = Vec::with_capacity(name.len());
    let mut rest = name.iter();
    while let Some(byte) = rest.next() {
        decoded.push(match byte {
            b'%' => {
                let mut digit = || char::from(*rest.next()?).to_digit(16);
                (digit()? * 16 + digit()?) as u8
            }
            byte => *byte,
        });
    }
    Some(decoded)
}

fn join_prefix(block: &Block) -> Vec<u8> {
    let (prefix, name) = (block.prefix(), block.text(block::NAME));
    if prefix.is_empty() {
        return name.to_vec();
    }
    [prefix, b"/", name].concat()
}

fn ambiguous(offset: u64, what: &'static str) -> ReadError {
    ReadError::Ambiguous { offset, what }
}

fn number_error(block: &Block, offset: u64, field: Field) -> ReadError {
    ReadError::Number {
        offset,
        field: field.name,
        bytes: String::from_utf8_lossy(block.bytes(field)).into_owned(),
    }
}

/// The size field alone, for headers whose size no record may override.
fn size_of(block: &Block, offset: u64) -> Result<u64, ReadError> {
    block
        .number(block::SIZE)
        .and_then(|size| u64::try_from(size).ok())
        .ok_or_else(|| number_error(block, offset, block::SIZE))
}

/// Whole blocks; sizes are below 2⁶³, so this can't overflow.
fn padded(bytes: u64) -> u64 {
    bytes.next_multiple_of(BLOCK_BYTES as u64)
}

/// The data of a [`Reader`]'s current entry, as the file's reader sees it.
#[derive(Debug)]
pub struct Data<'a, R> {
    reader: &'a mut Reader<R>,
}

impl<R: Read> Read for Data<'_, R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.reader.read_data(buffer).map_err(|error| match error {
            ReadError::Io { source, .. } => source,
            ReadError::UnexpectedEnd { .. } => io::Error::new(io::ErrorKind::UnexpectedEof, error),
            error => io::Error::other(error),
        })
    }
}
