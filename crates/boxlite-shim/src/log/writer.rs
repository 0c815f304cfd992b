//! Appending to the log: [`Writer`].

use std::fs::{File, OpenOptions};
use std::io::{self, BufReader, IoSlice, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use super::frame::{self, Found, HEADER_BYTES, Header, MAX_PAYLOAD_BYTES};
use super::{Stream, file_of};
use crate::launch::LogLimits;

/// Appends to a log. One writer at a time (the box's lock sees to that); any number of
/// [`Reader`](super::Reader)s may read meanwhile.
#[derive(Debug)]
pub struct Writer {
    path: PathBuf,
    limits: LogLimits,
    file: File,
    bytes: u64,
    newest_ns: u64,
}

impl Writer {
    /// Opens the log at `path`, or begins one. A frame that an earlier writer did not
    /// finish is cut off, and so is everything behind a damaged one. Blocks on the disk.
    ///
    /// # Errors
    /// What the file system says.
    pub fn open(path: &Path, limits: LogLimits) -> io::Result<Self> {
        let mut file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(path)?;
        let (bytes, newest_ns) = end_of_frames(&file)?;
        if bytes < file.metadata()?.len() {
            file.set_len(bytes)?;
        }
        file.seek(SeekFrom::Start(bytes))?;
        Ok(Self { path: path.to_owned(), limits, file, bytes, newest_ns })
    }

    /// Appends `output`, in as many frames as it takes. Blocks on the disk; the data is
    /// in the system's hands when this returns, not necessarily on the disk.
    ///
    /// # Errors
    /// What the file system says. Then nothing of the frame remains, and the next call
    /// begins where this one did.
    pub fn write(&mut self, stream: Stream, output: &[u8]) -> io::Result<()> {
        for payload in output.chunks(MAX_PAYLOAD_BYTES) {
            self.write_frame(stream, payload)?;
        }
        Ok(())
    }

    fn write_frame(&mut self, stream: Stream, payload: &[u8]) -> io::Result<()> {
        let frame_bytes = (HEADER_BYTES + payload.len()) as u64;
        if self.bytes > 0 && self.bytes + frame_bytes > self.limits.max_file_bytes {
            self.rotate()?;
        }
        // Never backwards, whatever the host's clock does: readers rely on the order.
        self.newest_ns = self.newest_ns.max(unix_ns());
        let header = Header {
            stream,
            length: payload.len() as u32,
            unix_ns: self.newest_ns,
        };
        let written = write_both(&mut self.file, &header.encode(), payload);
        match written {
            Ok(()) => {
                self.bytes += frame_bytes;
                Ok(())
            }
            Err(error) => {
                self.file.set_len(self.bytes)?;
                self.file.seek(SeekFrom::Start(self.bytes))?;
                Err(error)
            }
        }
    }

    fn rotate(&mut self) -> io::Result<()> {
        if self.limits.files <= 1 {
            // A reader holds the old file; a new one keeps its offsets true.
            std::fs::remove_file(&self.path)?;
        } else {
            for generation in (1..self.limits.files).rev() {
                let from = file_of(&self.path, generation - 1);
                match std::fs::rename(&from, file_of(&self.path, generation)) {
                    Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                    _ => {}
                }
            }
        }
        self.file = OpenOptions::new().read(true).write(true).create_new(true).open(&self.path)?;
        self.bytes = 0;
        Ok(())
    }
}

fn write_both(file: &mut File, header: &[u8], payload: &[u8]) -> io::Result<()> {
    let written = file.write_vectored(&[IoSlice::new(header), IoSlice::new(payload)])?;
    if written < header.len() {
        file.write_all(&header[written..])?;
        file.write_all(payload)
    } else {
        file.write_all(&payload[written - header.len()..])
    }
}

/// Where the last whole frame ends, and its time.
fn end_of_frames(file: &File) -> io::Result<(u64, u64)> {
    let mut reader = BufReader::with_capacity(MAX_PAYLOAD_BYTES, file);
    let (mut end, mut newest_ns) = (0, 0);
    while let Found::Frame(entry) = frame::read(&mut reader)? {
        end += (HEADER_BYTES + entry.bytes.len()) as u64;
        newest_ns = ns_of(entry.time);
    }
    Ok((end, newest_ns))
}

fn unix_ns() -> u64 {
    ns_of(SystemTime::now())
}

/// Until the year 2554, when it stands still.
fn ns_of(time: SystemTime) -> u64 {
    let since_epoch = time.duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since_epoch.as_nanos()).unwrap_or(u64::MAX)
}
