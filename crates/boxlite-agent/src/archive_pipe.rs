//! The pipe that an archive comes or goes through, and the short way of files' data.

use std::{
    cell::Cell,
    fs::File,
    io::{self, Read, Write},
    os::fd::OwnedFd,
};

use rustix::{
    io::Errno,
    pipe::{SpliceFlags, splice},
};

/// At most so much is asked for at once: what the pipe holds.
const SPLICE_BYTES: u64 = 1 << 20;

/// The bytes of an archive.
pub(crate) trait Archive: Read {
    /// Moves up to `bytes` of what comes next into `file` at `offset` without a look at them,
    /// and says how many; 0 at the archive's end. `None`: they must be read and written.
    fn splice(&self, file: &File, offset: u64, bytes: u64) -> io::Result<Option<u64>>;
}

/// What takes an archive.
pub(crate) trait Sink: Write {
    /// Moves up to `bytes` of `file`, from where it stands, and says how many; 0 at its end.
    fn move_from(&mut self, file: &File, bytes: u64) -> io::Result<u64>;
}

/// Either end of an archive's pipe.
#[derive(Debug)]
pub(crate) struct ArchivePipe {
    pipe: File,
    /// Until a file turned up whose file system can't.
    splices: Cell<bool>,
}

impl ArchivePipe {
    /// `pipe` is one of its ends.
    pub(crate) fn new(pipe: OwnedFd) -> Self {
        ArchivePipe {
            pipe: pipe.into(),
            splices: Cell::new(true),
        }
    }
}

impl Read for ArchivePipe {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.pipe.read(buffer)
    }
}

impl Archive for ArchivePipe {
    fn splice(&self, file: &File, mut offset: u64, bytes: u64) -> io::Result<Option<u64>> {
        while self.splices.get() {
            let wanted = bytes.min(SPLICE_BYTES) as usize;
            match splice(&self.pipe, None, file, Some(&mut offset), wanted, SpliceFlags::MOVE) {
                Ok(moved) => return Ok(Some(moved as u64)),
                Err(Errno::INTR) => {}
                // splice(2): the target file system may not support it.
                Err(Errno::INVAL) => self.splices.set(false),
                Err(error) => return Err(error.into()),
            }
        }
        Ok(None)
    }
}

impl Write for ArchivePipe {
    fn write(&mut self, buffer: &[u8]) -> io::Result<usize> {
        self.pipe.write(buffer)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Sink for ArchivePipe {
    fn move_from(&mut self, file: &File, bytes: u64) -> io::Result<u64> {
        let wanted = bytes.min(SPLICE_BYTES);
        while self.splices.get() {
            match splice(file, None, &self.pipe, None, wanted as usize, SpliceFlags::MOVE) {
                Ok(moved) => return Ok(moved as u64),
                Err(Errno::INTR) => {}
                // splice(2): the file system may not support it.
                Err(Errno::INVAL) => self.splices.set(false),
                Err(error) => return Err(error.into()),
            }
        }
        io::copy(&mut file.take(wanted), &mut self.pipe)
    }
}

#[cfg(test)]
impl Sink for &mut Vec<u8> {
    fn move_from(&mut self, file: &File, bytes: u64) -> io::Result<u64> {
        io::copy(&mut file.take(bytes), self)
    }
}

#[cfg(test)]
impl Archive for &[u8] {
    fn splice(&self, _: &File, _: u64, _: u64) -> io::Result<Option<u64>> {
        Ok(None)
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use super::*;

    #[test]
    fn a_pipe_goes_into_a_file_at_its_place() {
        let (reader, writer) = rustix::pipe::pipe().unwrap();
        let mut writer = File::from(writer);
        writer.write_all(b"0123456789").unwrap();
        drop(writer);
        let file = tempfile::NamedTempFile::new().unwrap();
        let mut archive = ArchivePipe::new(reader);
        let mut first = [0; 2];
        archive.read_exact(&mut first).unwrap();
        assert_eq!(archive.splice(file.as_file(), 3, 4).unwrap(), Some(4));
        assert_eq!(archive.splice(file.as_file(), 7, 100).unwrap(), Some(4));
        assert_eq!(archive.splice(file.as_file(), 11, 100).unwrap(), Some(0));
        assert_eq!(std::fs::read(file.path()).unwrap(), b"\0\0\x0023456789");
    }

    #[test]
    fn a_file_goes_into_a_pipe_from_where_it_stands() {
        let (reader, writer) = rustix::pipe::pipe().unwrap();
        let path = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(path.path(), b"0123456789").unwrap();
        let file = File::open(path.path()).unwrap();
        let mut archive = ArchivePipe::new(writer);
        archive.write_all(b">").unwrap();
        assert_eq!(archive.move_from(&file, 4).unwrap(), 4);
        assert_eq!(archive.move_from(&file, 100).unwrap(), 6);
        assert_eq!(archive.move_from(&file, 100).unwrap(), 0);
        drop(archive);
        let mut all = String::new();
        File::from(reader).read_to_string(&mut all).unwrap();
        assert_eq!(all, ">0123456789");
    }
}
