use std::collections::BTreeMap;
use std::io::{self, Read};

mod fields;
mod header;
mod sparse_map;

use crate::block::{BLOCK_BYTES, Block};
use crate::entry::{Entry, Extent};
use crate::limits::Limits;
use crate::read_error::ReadError;

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

    /// Has `mover` take bytes of the piece that [`next_extent`](Self::next_extent) gave from the
    /// source itself, for those that can move them without a copy. It gets the source and how
    /// much is left of the piece, and says how much it took; 0 at the piece's end.
    ///
    /// # Errors
    /// The mover's; and when it takes nothing, because the archive is truncated.
    pub fn move_extent<E: From<ReadError>>(
        &mut self,
        mover: impl FnOnce(&mut R, u64) -> Result<u64, E>,
    ) -> Result<u64, E> {
        if self.state == State::Failed {
            return Err(ReadError::Failed.into());
        }
        let body = &self.body;
        let rest = match body.extents.get(body.current) {
            Some(extent) if body.position >= extent.offset => extent.offset + extent.size - body.position,
            _ => 0,
        };
        if rest == 0 {
            return Ok(0);
        }
        // What it took of the source before it failed is not known.
        let moved = mover(&mut self.source, rest).inspect_err(|_| self.state = State::Failed)?;
        if moved == 0 || moved > rest {
            self.state = State::Failed;
            return Err(self.end_within("the data of a file").into());
        }
        self.offset += moved;
        self.body.position += moved;
        self.body.stored -= moved;
        Ok(moved)
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
}

impl Body {
    fn advance(&mut self) {
        self.current += 1;
        self.entered = false;
    }
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
