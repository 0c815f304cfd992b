//! Appending to the log.

use std::fs::{File, OpenOptions};
use std::io::{self, BufReader, Read as _, Seek as _, SeekFrom, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use super::frame::{HEADER_BYTES, Header, MAX_PAYLOAD_BYTES};
use super::{Limits, OUTPUT_LOG_NAME, Stream};

/// The smallest file size at which the log rotates.
const MIN_FILE_BYTES: u64 = 64 * 1024;

/// The one writer of a box's log. All calls block on the file system.
#[derive(Debug)]
pub struct Writer {
    path: PathBuf,
    limits: Limits,
    file: File,
    file_bytes: u64,
    buffer: Vec<u8>,
}

impl Writer {
    /// Opens `output.log` in `box_dir`, created with mode 0600, to write after what is there.
    /// An incomplete entry at the end (the host went down in a write) is cut off.
    ///
    /// # Errors
    /// Whatever the file system says.
    pub fn open(box_dir: &Path, limits: Limits) -> io::Result<Self> {
        let path = box_dir.join(OUTPUT_LOG_NAME);
        let file = open_append(&path)?;
        let complete = complete_bytes(&file)?;
        if complete < file.metadata()?.len() {
            file.set_len(complete)?;
        }
        Ok(Self {
            path,
            limits: Limits {
                max_file_bytes: limits.max_file_bytes.max(MIN_FILE_BYTES),
                max_files: limits.max_files.max(1),
            },
            file,
            file_bytes: complete,
            buffer: Vec::new(),
        })
    }

    /// Appends `bytes`, which arrived at `time_unix_ns`, in one write.
    ///
    /// # Errors
    /// Whatever the file system says; after an error the log ends with a whole entry.
    pub fn append(&mut self, stream: Stream, time_unix_ns: u64, bytes: &[u8]) -> io::Result<()> {
        for payload in bytes.chunks(MAX_PAYLOAD_BYTES) {
            let length = (HEADER_BYTES + payload.len()) as u64;
            if self.file_bytes > 0 && self.file_bytes + length > self.limits.max_file_bytes {
                self.rotate()?;
            }
            let header = Header {
                stream,
                time_unix_ns,
                payload_bytes: payload.len(),
            };
            self.buffer.clear();
            self.buffer.extend_from_slice(&header.encode());
            self.buffer.extend_from_slice(payload);
            if let Err(error) = self.file.write_all(&self.buffer) {
                // A full disk may have taken a part: readers must not see half an entry.
                self.file.set_len(self.file_bytes)?;
                return Err(error);
            }
            self.file_bytes += length;
        }
        Ok(())
    }

    fn rotate(&mut self) -> io::Result<()> {
        let keep = self.limits.max_files;
        if keep == 1 {
            std::fs::remove_file(&self.path)?;
        } else {
            for number in (1..keep - 1).rev() {
                let from = rotated(&self.path, number);
                match std::fs::rename(&from, rotated(&self.path, number + 1)) {
                    Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                    _ => {}
                }
            }
            std::fs::rename(&self.path, rotated(&self.path, 1))?;
        }
        self.file = open_append(&self.path)?;
        self.file_bytes = 0;
        Ok(())
    }
}

/// `output.log.<number>`.
pub(super) fn rotated(path: &Path, number: u32) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(format!(".{number}"));
    name.into()
}

fn open_append(path: &Path) -> io::Result<File> {
    OpenOptions::new()
        .read(true)
        .append(true)
        .create(true)
        .mode(0o600)
        .open(path)
}

/// How many bytes at the beginning of the file are whole entries.
fn complete_bytes(file: &File) -> io::Result<u64> {
    let size = file.metadata()?.len();
    let mut reader = BufReader::with_capacity(256 * 1024, file);
    reader.seek(SeekFrom::Start(0))?;
    let mut complete = 0;
    let mut header = [0; HEADER_BYTES];
    while complete + HEADER_BYTES as u64 <= size {
        reader.read_exact(&mut header)?;
        let Some(header) = Header::decode(&header) else {
            break;
        };
        let end = complete + (HEADER_BYTES + header.payload_bytes) as u64;
        if end > size {
            break;
        }
        reader.seek_relative(header.payload_bytes as i64)?;
        complete = end;
    }
    Ok(complete)
}
