//! Reading the log, while it is written and rotated.

use std::collections::VecDeque;
use std::fs::File;
use std::io;
use std::os::unix::fs::{FileExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::frame::{HEADER_BYTES, Header};
use super::writer::rotated;
use super::{Entry, OUTPUT_LOG_NAME, Stream};

const READ_BYTES: usize = 256 * 1024;
/// More rotated files than this are not looked for.
const MAX_ROTATED: u32 = 1000;

/// Where reading starts.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ReadOptions {
    /// Only the last so many lines (counted over both streams together).
    pub tail_lines: Option<usize>,
    /// Only what arrived at this time or later, nanoseconds since 1970.
    pub since_unix_ns: Option<u64>,
}

/// Reading the log failed.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// The file can't be read.
    #[error("can't read {}", path.display())]
    Io {
        /// The log file.
        path: PathBuf,
        /// The system's reason.
        source: io::Error,
    },
    /// Something else than entries is in the file.
    #[error("{} is damaged at byte {offset}", path.display())]
    Damaged {
        /// The log file.
        path: PathBuf,
        /// Where.
        offset: u64,
    },
}

/// Reads a box's log in order, from the oldest file kept to the newest. Calls block on the
/// file system only; they never wait for the writer.
#[derive(Debug)]
pub struct Reader {
    path: PathBuf,
    since_unix_ns: u64,
    cursor: Option<Cursor>,
    /// Bytes of the next entry that come before the first line wanted.
    skip_bytes: usize,
    /// This stream is in the middle of a line that is not wanted.
    skip_line_of: Option<Stream>,
}

/// A place in one of the log's files.
#[derive(Debug, Clone)]
struct Cursor {
    file: Arc<File>,
    inode: u64,
    offset: u64,
    buffer: Vec<u8>,
    buffer_offset: u64,
}

/// Where a line begins.
struct LineStart {
    file: Arc<File>,
    inode: u64,
    offset: u64,
    skip_bytes: usize,
    other_in_line: Option<Stream>,
}

impl Reader {
    /// A reader of the log in `box_dir`. A log that doesn't exist (yet) is empty.
    ///
    /// # Errors
    /// With `tail_lines` the log is read through once to count lines: as [`Self::next_entry`].
    pub fn open(box_dir: &Path, options: ReadOptions) -> Result<Self, ReadError> {
        let mut reader = Self {
            path: box_dir.join(OUTPUT_LOG_NAME),
            since_unix_ns: options.since_unix_ns.unwrap_or(0),
            cursor: None,
            skip_bytes: 0,
            skip_line_of: None,
        };
        if let Some(lines) = options.tail_lines {
            reader.seek_tail(lines)?;
        }
        Ok(reader)
    }

    /// The next entry, or `None` at the log's present end: a later call may return more.
    ///
    /// # Errors
    /// The file can't be read, or is damaged.
    pub fn next_entry(&mut self) -> Result<Option<Entry>, ReadError> {
        loop {
            let Some(mut entry) = self.next_raw()? else {
                return Ok(None);
            };
            let skip = std::mem::take(&mut self.skip_bytes);
            if skip > 0 {
                entry.bytes.drain(..skip.min(entry.bytes.len()));
            }
            if self.skip_line_of == Some(entry.stream) {
                match entry.bytes.iter().position(|byte| *byte == b'\n') {
                    Some(end) => {
                        entry.bytes.drain(..=end);
                        self.skip_line_of = None;
                    }
                    None => continue,
                }
            }
            if entry.time_unix_ns >= self.since_unix_ns && !entry.bytes.is_empty() {
                return Ok(Some(entry));
            }
        }
    }

    fn seek_tail(&mut self, lines: usize) -> Result<(), ReadError> {
        let mut starts: VecDeque<LineStart> = VecDeque::new();
        let mut in_line = [false; 2];
        while let Some(entry) = self.next_raw()? {
            if entry.time_unix_ns < self.since_unix_ns {
                continue;
            }
            let Some(cursor) = &self.cursor else { break };
            let frame_offset = cursor.offset - (HEADER_BYTES + entry.bytes.len()) as u64;
            let (own, other) = match entry.stream {
                Stream::Stdout => (0, 1),
                Stream::Stderr => (1, 0),
            };
            let other_stream = match entry.stream {
                Stream::Stdout => Stream::Stderr,
                Stream::Stderr => Stream::Stdout,
            };
            for (index, byte) in entry.bytes.iter().enumerate() {
                if !in_line[own] && lines > 0 {
                    if starts.len() == lines {
                        starts.pop_front();
                    }
                    starts.push_back(LineStart {
                        file: Arc::clone(&cursor.file),
                        inode: cursor.inode,
                        offset: frame_offset,
                        skip_bytes: index,
                        other_in_line: in_line[other].then_some(other_stream),
                    });
                }
                in_line[own] = *byte != b'\n';
            }
        }
        if let Some(start) = starts.pop_front() {
            self.cursor = Some(Cursor::at(start.file, start.inode, start.offset));
            self.skip_bytes = start.skip_bytes;
            self.skip_line_of = start.other_in_line;
        }
        Ok(())
    }

    /// The next frame of whichever file it is in.
    fn next_raw(&mut self) -> Result<Option<Entry>, ReadError> {
        loop {
            if self.cursor.is_none() {
                self.cursor = self.open_oldest()?;
            }
            let Some(cursor) = &mut self.cursor else {
                return Ok(None);
            };
            if let Some(entry) = cursor.next_frame(&self.path)? {
                return Ok(Some(entry));
            }
            let inode = cursor.inode;
            if inode_of(&self.path) == Some(inode) {
                return Ok(None);
            }
            // Rotated since: what was written before that is read first.
            if let Some(entry) = cursor.next_frame(&self.path)? {
                return Ok(Some(entry));
            }
            match self.open_newer_than(inode)? {
                Some(newer) => self.cursor = Some(newer),
                None => return Ok(None),
            }
        }
    }

    fn name(&self, number: u32) -> PathBuf {
        if number == 0 {
            self.path.clone()
        } else {
            rotated(&self.path, number)
        }
    }

    fn open_oldest(&self) -> Result<Option<Cursor>, ReadError> {
        let oldest = (1..=MAX_ROTATED)
            .take_while(|number| self.name(*number).exists())
            .last()
            .unwrap_or(0);
        self.open_file(oldest)
    }

    /// The file that was begun after the one with this inode; the oldest, when that one
    /// is gone. `None` for the moment in which a rotation has moved the newest file away
    /// and not begun the next.
    fn open_newer_than(&self, inode: u64) -> Result<Option<Cursor>, ReadError> {
        loop {
            let place = (0..=MAX_ROTATED)
                .map(|number| (number, inode_of(&self.name(number))))
                .take_while(|(number, found)| *number == 0 || found.is_some())
                .find(|(_, found)| *found == Some(inode));
            let Some((number, _)) = place else {
                return self.open_oldest();
            };
            if number == 0 {
                return Ok(None);
            }
            let newer = self.open_file(number - 1)?;
            // A rotation between the two looks would have skipped a file.
            if inode_of(&self.name(number)) == Some(inode) {
                return Ok(newer);
            }
        }
    }

    fn open_file(&self, number: u32) -> Result<Option<Cursor>, ReadError> {
        let path = self.name(number);
        match File::open(&path) {
            Ok(file) => {
                let inode = file.metadata().map_err(|source| ReadError::Io { path, source })?.ino();
                Ok(Some(Cursor::at(Arc::new(file), inode, 0)))
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(source) => Err(ReadError::Io { path, source }),
        }
    }
}

impl Cursor {
    fn at(file: Arc<File>, inode: u64, offset: u64) -> Self {
        Self {
            file,
            inode,
            offset,
            buffer: Vec::new(),
            buffer_offset: offset,
        }
    }

    fn next_frame(&mut self, path: &Path) -> Result<Option<Entry>, ReadError> {
        let Some(header) = self.bytes(0, HEADER_BYTES, path)? else {
            return Ok(None);
        };
        let header = <[u8; HEADER_BYTES]>::try_from(header)
            .ok()
            .and_then(|bytes| Header::decode(&bytes));
        let Some(header) = header else {
            return Err(ReadError::Damaged {
                path: path.to_owned(),
                offset: self.offset,
            });
        };
        let Some(payload) = self.bytes(HEADER_BYTES, header.payload_bytes, path)? else {
            return Ok(None);
        };
        let entry = Entry {
            stream: header.stream,
            time_unix_ns: header.time_unix_ns,
            bytes: payload.to_vec(),
        };
        self.offset += (HEADER_BYTES + header.payload_bytes) as u64;
        Ok(Some(entry))
    }

    /// `length` bytes at `skip` beyond the present offset; `None` when the file is shorter.
    fn bytes(&mut self, skip: usize, length: usize, path: &Path) -> Result<Option<&[u8]>, ReadError> {
        let from = (self.offset - self.buffer_offset) as usize + skip;
        if self.buffer.len() < from + length {
            self.buffer.resize(READ_BYTES, 0);
            self.buffer_offset = self.offset;
            let mut filled = 0;
            while filled < self.buffer.len() {
                let place = self.buffer_offset + filled as u64;
                match self.file.read_at(&mut self.buffer[filled..], place) {
                    Ok(0) => break,
                    Ok(count) => filled += count,
                    Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                    Err(source) => {
                        self.buffer.clear();
                        return Err(ReadError::Io {
                            path: path.to_owned(),
                            source,
                        });
                    }
                }
            }
            self.buffer.truncate(filled);
        }
        let from = (self.offset - self.buffer_offset) as usize + skip;
        Ok(self.buffer.get(from..from + length))
    }
}

fn inode_of(path: &Path) -> Option<u64> {
    std::fs::metadata(path).ok().map(|metadata| metadata.ino())
}

#[cfg(test)]
mod tests;
