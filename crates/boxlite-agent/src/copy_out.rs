//! CopyOut: packs one path of the box as a tar stream, in a helper in the box.

use std::{
    collections::HashMap,
    ffi::{CStr, CString, OsStr},
    fs::File,
    io::{self, BufWriter, Read, Seek as _, SeekFrom, Write},
    os::{
        fd::{AsFd as _, BorrowedFd, OwnedFd},
        unix::ffi::OsStrExt as _,
    },
    path::Path,
};

use boxlite_protocol::{
    TAR_CHUNK_BYTES,
    guest::{CopyOutRequest, CopyOutResponse},
};
use boxlite_tar::{Entry, EntryKind, Extent, Timestamp, Writer, Xattr};
use rustix::{
    buffer::spare_capacity,
    fs::{
        AtFlags, CWD, Dir, FileType, Mode, OFlags, SeekFrom as Whence, Stat, fstatfs, major, minor, openat, readlinkat,
        statat,
    },
    io::Errno,
    pipe::{PipeFlags, fcntl_setpipe_size, pipe_with},
};
use tokio::{
    io::{Interest, unix::AsyncFd},
    sync::mpsc,
};
use tokio_stream::wrappers::ReceiverStream;
use tonic::Status;

use crate::{
    agent::Agent,
    archive_pipe::{ArchivePipe, Sink},
    child::{self, Helper},
    copy_error::CopyError,
    stat_path::check_path,
    sys,
};

/// What the pipe from the helper holds, in bytes.
const PIPE_BYTES: usize = 1 << 20;
/// How many messages wait for the stream.
const QUEUE: usize = 2;
/// Files up to this many bytes are read into the archive's buffer beside their headers. Moved
/// into the pipe each by itself, thousands of them would be thousands of messages.
const SMALL_FILE_BYTES: u64 = TAR_CHUNK_BYTES as u64 / 2;

/// The answer to a CopyOut.
pub(crate) type TarStream = ReceiverStream<Result<CopyOutResponse, Status>>;

/// Serves CopyOut.
pub(crate) async fn copy_out(agent: &Agent, request: CopyOutRequest) -> Result<TarStream, Status> {
    check_path(&request.path)?;
    let state = agent.configured()?;
    let failed = |error: io::Error| Status::internal(format!("start a helper in the box: {error}"));
    let pipe = || pipe_with(PipeFlags::CLOEXEC).map_err(|error| failed(error.into()));
    let (archive, archive_in) = pipe()?;
    let (result, result_in) = pipe()?;
    let _ = fcntl_setpipe_size(&archive, PIPE_BYTES);
    let keep = [archive_in.as_fd(), result_in.as_fd()];
    let helper = Helper::start(&state.spaces, &keep, || match pack(&request, archive_in.as_fd()) {
        Ok(()) => 0,
        Err(error) => {
            let _ = rustix::io::write(&result_in, &error.encode());
            1
        }
    })
    .map_err(failed)?;
    drop((archive_in, result_in));
    rustix::io::ioctl_fionbio(&archive, true).map_err(|error| failed(error.into()))?;
    let archive = sys::watch(archive, Interest::READABLE).map_err(failed)?;
    let (output, receiver) = mpsc::channel(QUEUE);
    tokio::spawn(async move {
        if let Err(status) = deliver(archive, result, helper, &output).await {
            let _ = output.send(Err(status)).await;
        }
    });
    Ok(ReceiverStream::new(receiver))
}

/// Moves the archive to the host. The helper is killed when the host has gone.
async fn deliver(
    archive: AsyncFd<OwnedFd>,
    result: OwnedFd,
    helper: Helper,
    output: &mpsc::Sender<Result<CopyOutResponse, Status>>,
) -> Result<(), Status> {
    let failed = |error: io::Error| Status::internal(format!("read the archive: {error}"));
    loop {
        let Ok(permit) = output.reserve().await else {
            return Ok(());
        };
        let mut buffer = Vec::with_capacity(TAR_CHUNK_BYTES);
        let read = archive.async_io(Interest::READABLE, |fd| {
            Ok(rustix::io::read(fd, spare_capacity(&mut buffer))?)
        });
        let count = tokio::select! {
            count = read => count.map_err(failed)?,
            () = output.closed() => return Ok(()),
        };
        if count == 0 {
            break;
        }
        permit.send(Ok(CopyOutResponse { data: buffer.into() }));
    }
    let report = child::read_to_end(result).await.map_err(failed)?;
    let status = helper.wait().await;
    match CopyError::decode(&report) {
        Some(error) => Err(error.into()),
        None if status.success() => Ok(()),
        None => Err(Status::internal(format!("the helper in the box ended with {status:?}"))),
    }
}

/// The helper's work.
fn pack(request: &CopyOutRequest, archive: BorrowedFd<'_>) -> Result<(), CopyError> {
    let archive = archive
        .try_clone_to_owned()
        .map_err(|error| CopyError::system("open", b"the archive", error))?;
    pack_to(ArchivePipe::new(archive), &request.path, request.follow_link)
}

fn pack_to(archive: impl Sink, path: &[u8], follow: bool) -> Result<(), CopyError> {
    let name = match Path::new(OsStr::from_bytes(path)).file_name() {
        Some(name) => name.as_bytes().to_vec(),
        // The root, or a path that ends with `..`.
        None => b".".to_vec(),
    };
    let path = CString::new(path).map_err(CopyError::archive)?;
    let mut packer = Packer {
        writer: Writer::new(BufWriter::with_capacity(TAR_CHUNK_BYTES, archive)),
        links: HashMap::new(),
    };
    packer.pack_tree(&path, name, follow)?;
    packer
        .writer
        .finish()
        .map_err(|error| CopyError::system("write", b"the archive", error))?;
    Ok(())
}

struct Packer<S: Sink> {
    writer: Writer<BufWriter<S>>,
    /// Where files with several names were packed first, by device and inode.
    links: HashMap<(u64, u64), Vec<u8>>,
}

/// A directory that is being packed.
struct Level {
    fd: OwnedFd,
    device: u64,
    /// Its path in the archive.
    path: Vec<u8>,
    /// What is still to be packed of it, in reverse order.
    names: Vec<CString>,
}

impl<S: Sink> Packer<S> {
    fn pack_tree(&mut self, path: &CStr, name: Vec<u8>, follow: bool) -> Result<(), CopyError> {
        let mut levels: Vec<Level> = Vec::new();
        levels.extend(self.pack_one(CWD, path, name, follow, None)?);
        while let Some(level) = levels.last_mut() {
            let Some(name) = level.names.pop() else {
                levels.pop();
                continue;
            };
            let path = [&level.path[..], b"/", name.as_bytes()].concat();
            let (fd, device) = (level.fd.as_fd(), level.device);
            let below = self.pack_one(fd, &name, path, false, Some(device))?;
            levels.extend(below);
        }
        Ok(())
    }

    /// Packs one entry; a directory is given back to be descended into.
    fn pack_one(
        &mut self,
        dir: BorrowedFd<'_>,
        name: &CStr,
        path: Vec<u8>,
        follow: bool,
        parent_device: Option<u64>,
    ) -> Result<Option<Level>, CopyError> {
        let failed = |what: &'static str| {
            let path = path.clone();
            move |error: Errno| CopyError::system(what, &path, error)
        };
        let flags = if follow {
            AtFlags::empty()
        } else {
            AtFlags::SYMLINK_NOFOLLOW
        };
        let stat = match statat(dir, name, flags) {
            Ok(stat) => stat,
            // Below the first, what vanishes while it is packed was never there.
            Err(Errno::NOENT) if parent_device.is_some() => return Ok(None),
            Err(error) => return Err(CopyError::system("find", name.to_bytes(), error)),
        };
        let kind = match FileType::from_raw_mode(stat.st_mode) {
            FileType::RegularFile => EntryKind::File,
            FileType::Directory => EntryKind::Directory,
            FileType::Symlink => EntryKind::SymLink,
            FileType::CharacterDevice => EntryKind::CharDevice,
            FileType::BlockDevice => EntryKind::BlockDevice,
            FileType::Fifo => EntryKind::Fifo,
            // An archive has no sockets, and without its program one means nothing.
            _ => return Ok(None),
        };
        let mut entry = entry(path.clone(), kind, &stat);
        if kind != EntryKind::Directory && stat.st_nlink > 1 {
            if let Some(first) = self.links.get(&(stat.st_dev, stat.st_ino)) {
                entry.kind = EntryKind::HardLink;
                entry.link.clone_from(first);
                entry.size = 0;
                self.writer.append(&entry, io::empty())?;
                return Ok(None);
            }
            self.links.insert((stat.st_dev, stat.st_ino), path.clone());
        }
        let nofollow = if follow { OFlags::empty() } else { OFlags::NOFOLLOW };
        match kind {
            EntryKind::File => {
                let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::CLOEXEC | nofollow;
                let file = openat(dir, name, flags, Mode::empty()).map_err(failed("open"))?;
                entry.xattrs = xattrs_of(&file).map_err(failed("read the attributes of"))?;
                // Fewer blocks than bytes: there are holes.
                if (stat.st_blocks.unsigned_abs()).saturating_mul(512) < entry.size {
                    entry.sparse = extents(&file, entry.size).map_err(failed("find the holes of"))?;
                }
                let file = File::from(file);
                match &entry.sparse {
                    Some(extents) => {
                        let data = Pieces {
                            file: &file,
                            extents,
                            done: 0,
                        };
                        self.writer.append(&entry, data)?;
                    }
                    None if entry.size <= SMALL_FILE_BYTES => self.writer.append(&entry, &file)?,
                    None => self.writer.append_moved(&entry, |archive, rest| {
                        archive.flush()?;
                        archive.get_mut().move_from(&file, rest)
                    })?,
                }
                Ok(None)
            }
            EntryKind::Directory => {
                let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC | nofollow;
                let fd = openat(dir, name, flags, Mode::empty()).map_err(failed("open"))?;
                entry.xattrs = xattrs_of(&fd).map_err(failed("read the attributes of"))?;
                self.writer.append(&entry, io::empty())?;
                if parent_device.is_some_and(|device| device != stat.st_dev) && is_kernel_view(&fd) {
                    return Ok(None);
                }
                let names = names_in(&fd).map_err(failed("read the directory"))?;
                Ok(Some(Level {
                    fd,
                    device: stat.st_dev,
                    path,
                    names,
                }))
            }
            _ => {
                if kind == EntryKind::SymLink {
                    let target = readlinkat(dir, name, Vec::new()).map_err(failed("read the link"))?;
                    entry.link = target.into_bytes();
                }
                entry.xattrs = xattrs_at(dir, name).map_err(failed("read the attributes of"))?;
                self.writer.append(&entry, io::empty())?;
                Ok(None)
            }
        }
    }
}

fn entry(path: Vec<u8>, kind: EntryKind, stat: &Stat) -> Entry {
    let mut entry = Entry::new(path, kind);
    entry.mode = stat.st_mode & 0o7777;
    entry.uid = stat.st_uid.into();
    entry.gid = stat.st_gid.into();
    entry.mtime = Timestamp {
        seconds: stat.st_mtime,
        nanoseconds: stat.st_mtime_nsec as u32,
    };
    match kind {
        EntryKind::File => entry.size = stat.st_size.unsigned_abs(),
        EntryKind::CharDevice | EntryKind::BlockDevice => {
            entry.device = (major(stat.st_rdev), minor(stat.st_rdev));
        }
        _ => {}
    }
    entry
}

/// True for what is not content but the kernel's view of itself.
fn is_kernel_view(directory: &OwnedFd) -> bool {
    const PROC: u64 = 0x9fa0;
    const SYSFS: u64 = 0x6265_6572;
    const CGROUP2: u64 = 0x6367_7270;
    const DEVPTS: u64 = 0x1cd1;
    const MQUEUE: u64 = 0x1980_0202;
    fstatfs(directory).is_ok_and(|fs| matches!(fs.f_type as u64, PROC | SYSFS | CGROUP2 | DEVPTS | MQUEUE))
}

/// The names in a directory, last one first.
fn names_in(directory: &OwnedFd) -> Result<Vec<CString>, Errno> {
    let mut names = Vec::new();
    for entry in Dir::read_from(directory)? {
        let name = entry?.file_name().to_owned();
        if !matches!(name.to_bytes(), b"." | b"..") {
            names.push(name);
        }
    }
    names.sort_unstable_by(|one, other| other.cmp(one));
    Ok(names)
}

/// The pieces of a file that have data (lseek(2), SEEK_DATA and SEEK_HOLE).
fn extents(file: &OwnedFd, size: u64) -> Result<Option<Vec<Extent>>, Errno> {
    let mut extents = Vec::new();
    let mut offset = 0;
    while offset < size {
        let start = match rustix::fs::seek(file, Whence::Data(offset)) {
            Ok(start) => start,
            Err(Errno::NXIO) => break,
            // A file system that knows no holes.
            Err(Errno::INVAL | Errno::OPNOTSUPP) => return Ok(None),
            Err(error) => return Err(error),
        };
        let end = rustix::fs::seek(file, Whence::Hole(start))?.min(size);
        if end > start {
            extents.push(Extent {
                offset: start,
                size: end - start,
            });
        }
        offset = end;
    }
    rustix::fs::seek(file, Whence::Start(0))?;
    Ok(Some(extents))
}

/// Reads a sparse file's pieces one after the other.
struct Pieces<'a> {
    file: &'a File,
    extents: &'a [Extent],
    /// Of the first of `extents`, in bytes.
    done: u64,
}

impl Read for Pieces<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let Some((extent, rest)) = self.extents.split_first() else {
            return Ok(0);
        };
        let mut file = self.file;
        if self.done == 0 {
            file.seek(SeekFrom::Start(extent.offset))?;
        }
        let count = file.take(extent.size - self.done).read(buffer)?;
        self.done += count as u64;
        if self.done == extent.size {
            (self.extents, self.done) = (rest, 0);
        }
        Ok(count)
    }
}

/// The longest list of names, and the longest value, in bytes (xattr(7)).
const XATTR_BYTES: usize = 64 * 1024;

fn xattrs_of(file: &OwnedFd) -> Result<Vec<Xattr>, Errno> {
    xattrs(
        |list| rustix::fs::flistxattr(file, spare_capacity(list)),
        |name, value| rustix::fs::fgetxattr(file, name, spare_capacity(value)),
    )
}

/// For what can't be opened without effect.
fn xattrs_at(dir: BorrowedFd<'_>, name: &CStr) -> Result<Vec<Xattr>, Errno> {
    // There is no llistxattr from a descriptor.
    if !name.to_bytes().starts_with(b"/") {
        rustix::process::fchdir(dir)?;
    }
    xattrs(
        |list| rustix::fs::llistxattr(name, spare_capacity(list)),
        |key, value| rustix::fs::lgetxattr(name, key, spare_capacity(value)),
    )
}

fn xattrs(
    list: impl Fn(&mut Vec<u8>) -> Result<usize, Errno>,
    get: impl Fn(&CStr, &mut Vec<u8>) -> Result<usize, Errno>,
) -> Result<Vec<Xattr>, Errno> {
    let mut names = Vec::with_capacity(XATTR_BYTES);
    match list(&mut names) {
        Ok(_) => {}
        Err(Errno::NOTSUP) => return Ok(Vec::new()),
        Err(error) => return Err(error),
    }
    let mut found = Vec::new();
    for name in names.split_inclusive(|byte| *byte == 0) {
        let Ok(name) = CStr::from_bytes_with_nul(name) else {
            continue;
        };
        let mut value = Vec::with_capacity(XATTR_BYTES);
        match get(name, &mut value) {
            Ok(_) => found.push((name.to_bytes().to_vec(), value.as_slice().to_vec())),
            // Gone since it was listed, or computed by a file system that has no value.
            Err(Errno::NODATA | Errno::NOTSUP) => {}
            Err(error) => return Err(error),
        }
    }
    found.sort_unstable();
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;
    use boxlite_tar::{Limits, Reader};
    use std::{
        fs,
        os::unix::fs::{FileExt as _, MetadataExt as _, symlink},
    };

    fn pack_dir(path: &Path, follow: bool) -> Vec<(Entry, Vec<u8>)> {
        let mut archive = Vec::new();
        pack_to(&mut archive, path.as_os_str().as_bytes(), follow).unwrap();
        let mut reader = Reader::new(&archive[..], Limits::default());
        let mut entries = Vec::new();
        while let Some(entry) = reader.next_entry().unwrap() {
            let mut data = Vec::new();
            reader.data().read_to_end(&mut data).unwrap();
            entries.push((entry, data));
        }
        entries
    }

    #[test]
    fn trees_are_packed_below_their_name() {
        let root = tempfile::tempdir().unwrap();
        let dir = root.path().join("tree");
        fs::create_dir_all(dir.join("a/b")).unwrap();
        fs::write(dir.join("a/file"), "content").unwrap();
        fs::hard_link(dir.join("a/file"), dir.join("hard")).unwrap();
        symlink("a/file", dir.join("soft")).unwrap();
        let sparse = File::create(dir.join("sparse")).unwrap();
        sparse.set_len(4 << 20).unwrap();
        sparse.write_all_at(b"x", 1 << 20).unwrap();
        let _socket = std::os::unix::net::UnixListener::bind(dir.join("socket")).unwrap();
        let entries = pack_dir(&dir, false);
        let names: Vec<_> = entries
            .iter()
            .map(|(entry, _)| {
                String::from_utf8(entry.path.clone())
                    .unwrap()
                    .trim_end_matches('/')
                    .to_owned()
            })
            .collect();
        assert_eq!(
            names,
            [
                "tree",
                "tree/a",
                "tree/a/b",
                "tree/a/file",
                "tree/hard",
                "tree/soft",
                "tree/sparse"
            ]
        );
        assert_eq!(entries[3].1, b"content");
        let metadata = fs::metadata(dir.join("a/file")).unwrap();
        assert_eq!(
            (entries[3].0.mtime.seconds, i64::from(entries[3].0.mtime.nanoseconds)),
            (metadata.mtime(), metadata.mtime_nsec())
        );
        assert_eq!(entries[4].0.kind, EntryKind::HardLink);
        assert_eq!(entries[4].0.link, b"tree/a/file");
        assert_eq!(
            (entries[5].0.kind, &entries[5].0.link[..]),
            (EntryKind::SymLink, &b"a/file"[..])
        );
        let (sparse, data) = &entries[6];
        assert_eq!((data.len(), data[1 << 20]), (4 << 20, b'x'));
        assert!(sparse.stored_size() < 1 << 20, "{:?}", sparse.sparse);
    }

    #[test]
    fn a_link_is_packed_or_what_it_names() {
        let root = tempfile::tempdir().unwrap();
        fs::write(root.path().join("file"), "x").unwrap();
        let link = root.path().join("link");
        symlink("file", &link).unwrap();
        let packed = pack_dir(&link, false);
        assert_eq!(packed[0].0.kind, EntryKind::SymLink);
        let followed = pack_dir(&link, true);
        assert_eq!(
            (followed[0].0.kind, &followed[0].0.path[..]),
            (EntryKind::File, &b"link"[..])
        );
        assert_eq!(followed[0].1, b"x");
    }

    #[test]
    fn what_is_missing_is_not_found() {
        let error = pack_to(&mut Vec::new(), b"/no/such/path", false).unwrap_err();
        assert_eq!(Status::from(error).code(), tonic::Code::NotFound);
    }
}
