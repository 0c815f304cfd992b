//! Reading the log: [`Reader`].

use std::collections::VecDeque;
use std::fs::File;
use std::io::{self, BufReader, Read, Seek, SeekFrom};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use rustix::fs::inotify;
use tokio::io::unix::AsyncFd;

use super::frame::{self, Found, HEADER_BYTES, MAX_PAYLOAD_BYTES};
use super::{Entry, FrameError, file_of};

/// More files than any limit keeps.
const MAX_GENERATIONS: u32 = 1000;

/// Where to begin.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct OpenOptions {
    /// Only the last so many lines. A last line without an end counts.
    pub tail_lines: Option<u64>,
    /// Only what came at this time or later.
    pub since: Option<SystemTime>,
}

/// The log can't be read.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// A file can't be read.
    #[error("reading {path}", path = path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// A file holds something else than frames.
    #[error("{path} is damaged at byte {offset}: {source}", path = path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// Where.
        offset: u64,
        /// What is wrong there.
        source: FrameError,
    },
}

/// Reads a log from the oldest entry that is kept to the newest, across rotations.
#[derive(Debug)]
pub struct Reader {
    path: PathBuf,
    since: Option<SystemTime>,
    /// `None`: there was no log yet.
    current: Option<Open>,
    /// Bytes of the next entry that the tail leaves out.
    skip_bytes: usize,
}

#[derive(Debug)]
struct Open {
    file: BufReader<File>,
    /// Identity of the file, whatever it is called by now.
    inode: u64,
    offset: u64,
}

impl Reader {
    /// Opens the log at `path`; a log that does not exist (yet) is an empty one. Blocks
    /// on the disk, with `tail_lines` for as long as reading all of the log takes.
    ///
    /// # Errors
    /// [`ReadError`].
    pub fn open(path: &Path, options: OpenOptions) -> Result<Self, ReadError> {
        let mut reader = Self {
            path: path.to_owned(),
            since: options.since,
            current: None,
            skip_bytes: 0,
        };
        reader.current = reader.open_oldest()?;
        if let Some(lines) = options.tail_lines {
            reader.seek_to_tail(lines)?;
        }
        Ok(reader)
    }

    /// The next entry, or `None` where the log ends for now. Blocks on the disk.
    ///
    /// # Errors
    /// [`ReadError`].
    pub fn next_entry(&mut self) -> Result<Option<Entry>, ReadError> {
        loop {
            let Some(mut entry) = self.next_frame()? else { return Ok(None) };
            let skip = std::mem::take(&mut self.skip_bytes).min(entry.bytes.len());
            entry.bytes = entry.bytes.slice(skip..);
            let wanted = self.since.is_none_or(|since| entry.time >= since);
            if wanted && !entry.bytes.is_empty() {
                return Ok(Some(entry));
            }
        }
    }

    fn next_frame(&mut self) -> Result<Option<Entry>, ReadError> {
        loop {
            if self.current.is_none() {
                self.current = self.open_oldest()?;
            }
            let Some(current) = &mut self.current else { return Ok(None) };
            if let Some(entry) = current.read(&self.path)? {
                return Ok(Some(entry));
            }
            let Some(generation) = self.generation()? else {
                // Rotated out of existence: what comes next is the oldest that is left.
                match self.open_oldest()? {
                    Some(oldest) => self.current = Some(oldest),
                    None => return Ok(None),
                }
                continue;
            };
            if generation == 0 {
                return Ok(None);
            }
            // It may have grown between the read and the rotation.
            let Some(current) = &mut self.current else { return Ok(None) };
            if let Some(entry) = current.read(&self.path)? {
                return Ok(Some(entry));
            }
            let next = self.open(generation - 1)?;
            // A rotation between the two looks would make `next` one too new.
            if next.is_some() && self.generation()? == Some(generation) {
                self.current = next;
            }
        }
    }

    /// What the file that is being read is called by now.
    fn generation(&self) -> Result<Option<u32>, ReadError> {
        let Some(current) = &self.current else { return Ok(None) };
        for generation in 0..MAX_GENERATIONS {
            let path = file_of(&self.path, generation);
            match std::fs::metadata(&path) {
                Ok(metadata) if metadata.ino() == current.inode => return Ok(Some(generation)),
                Ok(_) => {}
                // While it rotates there is no current file for a moment.
                Err(error) if error.kind() == io::ErrorKind::NotFound && generation == 0 => {}
                Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
                Err(source) => return Err(ReadError::Read { path, source }),
            }
        }
        Ok(None)
    }

    fn open_oldest(&self) -> Result<Option<Open>, ReadError> {
        let mut oldest = None;
        for generation in 0..MAX_GENERATIONS {
            match self.open(generation)? {
                Some(open) => oldest = Some(open),
                None if generation == 0 => {}
                None => break,
            }
        }
        Ok(oldest)
    }

    fn open(&self, generation: u32) -> Result<Option<Open>, ReadError> {
        let path = file_of(&self.path, generation);
        let opened = File::open(&path).and_then(|file| {
            let inode = file.metadata()?.ino();
            Ok((file, inode))
        });
        match opened {
            Ok((file, inode)) => Ok(Some(Open {
                file: BufReader::with_capacity(MAX_PAYLOAD_BYTES, file),
                inode,
                offset: 0,
            })),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(source) => Err(ReadError::Read { path, source }),
        }
    }

    /// Moves to where the last `lines` lines begin. Remembers only the frames that they
    /// are in.
    fn seek_to_tail(&mut self, lines: u64) -> Result<(), ReadError> {
        /// A frame: before which file it was read, where it begins, its line ends.
        struct Seen {
            inode: u64,
            offset: u64,
            bytes: bytes::Bytes,
            line_ends: u64,
        }
        let mut seen: VecDeque<Seen> = VecDeque::new();
        let mut line_ends = 0;
        let mut ends_with_newline = true;
        while let Some(entry) = self.next_frame()? {
            let Some(current) = &self.current else { break };
            let count = entry.bytes.iter().filter(|byte| **byte == b'\n').count() as u64;
            ends_with_newline = entry.bytes.last().map_or(ends_with_newline, |byte| *byte == b'\n');
            line_ends += count;
            seen.push_back(Seen {
                inode: current.inode,
                offset: current.offset - (HEADER_BYTES + entry.bytes.len()) as u64,
                bytes: entry.bytes,
                line_ends: count,
            });
            // One more than asked for: the line before the tail must end somewhere.
            while let Some(first) = seen.front()
                && line_ends - first.line_ends > lines
            {
                line_ends -= first.line_ends;
                seen.pop_front();
            }
        }
        let total = line_ends + u64::from(!ends_with_newline);
        let mut skip_lines = total.saturating_sub(lines);
        for frame in &seen {
            let mut skip_bytes = 0;
            for (at, byte) in frame.bytes.iter().enumerate() {
                if skip_lines == 0 {
                    break;
                }
                skip_bytes = at + 1;
                skip_lines -= u64::from(*byte == b'\n');
            }
            if skip_lines == 0 && skip_bytes < frame.bytes.len() {
                return self.seek(frame.inode, frame.offset, skip_bytes);
            }
        }
        // No line at all: stay at the end.
        Ok(())
    }

    fn seek(&mut self, inode: u64, offset: u64, skip_bytes: usize) -> Result<(), ReadError> {
        for generation in 0..MAX_GENERATIONS {
            let Some(mut open) = self.open(generation)? else {
                if generation == 0 {
                    continue;
                }
                break;
            };
            if open.inode == inode {
                open.seek(offset)
                    .map_err(|source| ReadError::Read { path: self.path.clone(), source })?;
                self.current = Some(open);
                self.skip_bytes = skip_bytes;
                return Ok(());
            }
        }
        // Rotated away meanwhile; everything that is left is newer.
        self.current = self.open_oldest()?;
        Ok(())
    }
}

impl Open {
    fn read(&mut self, path: &Path) -> Result<Option<Entry>, ReadError> {
        let failed = |source| ReadError::Read { path: path.to_owned(), source };
        match frame::read(&mut self.file).map_err(failed)? {
            Found::Frame(entry) => {
                self.offset += (HEADER_BYTES + entry.bytes.len()) as u64;
                Ok(Some(entry))
            }
            Found::End => {
                // Part of a frame may have been read: it is read again once it is whole.
                self.seek(self.offset).map_err(failed)?;
                Ok(None)
            }
            Found::Damaged(source) => Err(ReadError::Damaged {
                path: path.to_owned(),
                offset: self.offset,
                source,
            }),
        }
    }

    fn seek(&mut self, offset: u64) -> io::Result<()> {
        self.offset = offset;
        self.file.seek(SeekFrom::Start(offset)).map(drop)
    }
}

/// Tells when a log may have grown (inotify(7)). Make it before the [`Reader`], so that
/// nothing is missed between the two.
#[derive(Debug)]
pub struct Watch {
    inotify: AsyncFd<File>,
}

impl Watch {
    /// Watches the log at `path`, whose folder must exist. Needs a Tokio runtime.
    ///
    /// # Errors
    /// What inotify says (`ENOSPC`: the user has too many watches).
    pub fn new(path: &Path) -> io::Result<Self> {
        let fd = inotify::init(inotify::CreateFlags::NONBLOCK | inotify::CreateFlags::CLOEXEC)?;
        let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
        inotify::add_watch(
            &fd,
            folder.unwrap_or(Path::new(".")),
            inotify::WatchFlags::MODIFY
                | inotify::WatchFlags::CREATE
                | inotify::WatchFlags::MOVED_TO
                | inotify::WatchFlags::ONLYDIR,
        )?;
        Ok(Self { inotify: AsyncFd::new(File::from(fd))? })
    }

    /// Waits until something in the log's folder has changed since the last call.
    /// Cancel-safe.
    ///
    /// # Errors
    /// What inotify says.
    pub async fn changed(&mut self) -> io::Result<()> {
        let mut events = [0; 4096];
        loop {
            let mut ready = self.inotify.readable().await?;
            let mut drained = false;
            let read = ready.try_io(|fd| {
                loop {
                    match (&*fd.get_ref()).read(&mut events) {
                        Ok(_) => drained = true,
                        Err(error) if error.kind() == io::ErrorKind::WouldBlock && drained => return Ok(()),
                        Err(error) => return Err(error),
                    }
                }
            });
            match read {
                Ok(result) => return result,
                Err(_would_block) => {}
            }
        }
    }
}
