//! CopyIn: unpacks a tar stream into a directory of the box.
//!
//! Done by a helper in the box. Whatever the archive says, nothing is made outside of
//! the directory: each name is looked up from the directory's descriptor with
//! RESOLVE_BENEATH (openat2(2)). Where something is already, directories are merged, and
//! everything else is replaced by its like; a directory never takes the place of another
//! kind of file, nor the other way round.

use std::{
    ffi::{CString, OsStr},
    fs::File,
    io::{self, BufRead as _, BufReader, Read as _},
    os::{
        fd::{AsFd as _, BorrowedFd, OwnedFd},
        unix::{
            ffi::OsStrExt as _,
            fs::{FileExt as _, OpenOptionsExt as _},
        },
    },
    path::Path,
};

use boxlite_protocol::guest::{CopyInRequest, CopyInResponse, CopyInStart, copy_in_request::Input};
use boxlite_tar::{Entry, EntryKind, Limits, Reader, Timestamp};
use prost::Message as _;
use rustix::{
    fs::{
        AtFlags, FileType, Gid, Mode, OFlags, ResolveFlags, Timespec, Timestamps, UTIME_OMIT, Uid, XattrFlags, chownat,
        fchmod, fchown, fsetxattr, futimens, linkat, lsetxattr, makedev, mkdirat, mknodat, openat, openat2, statat,
        symlinkat, unlinkat, utimensat,
    },
    io::Errno,
    pipe::{PipeFlags, fcntl_setpipe_size, pipe_with},
};
use tokio::io::Interest;
use tonic::{Status, Streaming};

use crate::{
    agent::Agent,
    archive_pipe::{Archive, ArchivePipe},
    child::{self, Helper},
    copy_error::CopyError,
    launch::read_user_file,
    rootfs::create_dirs,
    stat_path::check_path,
    sys, user,
};

/// What the pipe to the helper holds, and how much it reads at once, in bytes.
const PIPE_BYTES: usize = 1 << 20;
const READ_BYTES: usize = 256 * 1024;

const DONE: u8 = 0;
const FAILED: u8 = 1;

/// Serves CopyIn.
pub(crate) async fn copy_in(agent: &Agent, mut input: Streaming<CopyInRequest>) -> Result<CopyInResponse, Status> {
    let start = match input.message().await?.and_then(|message| message.input) {
        Some(Input::Start(start)) => start,
        _ => return Err(Status::invalid_argument("the first message of a CopyIn is `start`")),
    };
    check_path(&start.path)?;
    let state = agent.configured()?;
    let failed = |error: io::Error| Status::internal(format!("start a helper in the box: {error}"));
    let pipe = || pipe_with(PipeFlags::CLOEXEC).map_err(|error| failed(error.into()));
    let (archive, archive_in) = pipe()?;
    let (result, result_in) = pipe()?;
    let _ = fcntl_setpipe_size(&archive, PIPE_BYTES);
    let keep = [archive.as_fd(), result_in.as_fd()];
    let helper = Helper::start(&state.spaces, &keep, || {
        let answer = match unpack(&start, archive.as_fd()) {
            Ok(response) => [&[DONE], &response.encode_to_vec()[..]].concat(),
            Err(error) => [&[FAILED], &error.encode()[..]].concat(),
        };
        // At most some kilobytes: they fit into the pipe.
        i32::from(rustix::io::write(&result_in, &answer).is_err())
    })
    .map_err(failed)?;
    drop((archive, result_in));

    rustix::io::ioctl_fionbio(&archive_in, true).map_err(|error| failed(error.into()))?;
    let archive_in = sys::watch(archive_in, Interest::WRITABLE).map_err(failed)?;
    // An error is a client that went away: the helper is killed in the middle.
    'stream: while let Some(message) = input.message().await? {
        let Some(Input::Data(data)) = message.input else {
            return Err(Status::invalid_argument("a CopyIn has one `start`, then `data`"));
        };
        let mut rest = &data[..];
        while !rest.is_empty() {
            let written = archive_in
                .async_io(Interest::WRITABLE, |fd| Ok(rustix::io::write(fd, rest)?))
                .await;
            match written {
                Ok(count) => rest = &rest[count..],
                // The helper reads no further; its answer says why.
                Err(_) => break 'stream,
            }
        }
    }
    drop(archive_in);
    let answer = child::read_to_end(result).await.map_err(failed)?;
    let status = helper.wait().await;
    match answer.split_first() {
        Some((&DONE, message)) => CopyInResponse::decode(message).map_err(|error| Status::internal(error.to_string())),
        Some((_, error)) if let Some(error) = CopyError::decode(error) => Err(error.into()),
        _ => Err(Status::internal(format!("the helper in the box ended with {status:?}"))),
    }
}

/// The helper's work.
fn unpack(start: &CopyInStart, archive: BorrowedFd<'_>) -> Result<CopyInResponse, CopyError> {
    let owner = if start.keep_owner {
        None
    } else {
        let passwd = read_user_file("/etc/passwd");
        let group = read_user_file("/etc/group");
        let identity = user::resolve(&start.user, &passwd, &group).map_err(CopyError::archive)?;
        Some((identity.uid, identity.gid))
    };
    let archive = archive
        .try_clone_to_owned()
        .map_err(|error| CopyError::system("open", b"the archive", error))?;
    unpack_from(ArchivePipe::new(archive), &start.path, owner)
}

fn unpack_from(
    archive: impl Archive,
    destination: &[u8],
    owner: Option<(u32, u32)>,
) -> Result<CopyInResponse, CopyError> {
    rustix::process::umask(Mode::empty());
    let mut unpacker = Unpacker::new(destination, owner)?;
    let mut reader = Reader::new(BufReader::with_capacity(READ_BYTES, archive), Limits::default());
    let mut response = CopyInResponse::default();
    while let Some(entry) = reader.next_entry()? {
        unpacker.unpack(&entry, &mut reader)?;
        response.entries += 1;
        response.bytes += entry.size;
    }
    unpacker.finish()?;
    // What follows the archive's end is padding; the sender must not stall on it.
    let _ = io::copy(&mut reader.into_inner().take(1 << 30), &mut io::sink());
    Ok(response)
}

struct Unpacker {
    root: OwnedFd,
    resolve: ResolveFlags,
    owner: Option<(u32, u32)>,
    /// The directory of the entry before, which most often is that of the next.
    parent: Option<(Vec<u8>, OwnedFd)>,
    /// Times of directories, which change while they are filled.
    directories: Vec<(Vec<u8>, Timestamp)>,
}

/// An entry's attributes beside its kind.
struct Attributes<'a> {
    uid: u32,
    gid: u32,
    mode: Mode,
    times: Timestamps,
    entry: &'a Entry,
}

impl Unpacker {
    fn new(destination: &[u8], owner: Option<(u32, u32)>) -> Result<Self, CopyError> {
        let path = Path::new(OsStr::from_bytes(destination));
        let root: OwnedFd = File::options()
            .read(true)
            .custom_flags(libc::O_DIRECTORY)
            .open(path)
            .map_err(|error| CopyError::system("open the directory", destination, error))?
            .into();
        // From the box's own root no path leads out: links with absolute targets are fine.
        let is_root = path.components().count() == 1;
        Ok(Unpacker {
            root,
            resolve: ResolveFlags::NO_MAGICLINKS
                | if is_root {
                    ResolveFlags::IN_ROOT
                } else {
                    ResolveFlags::BENEATH
                },
            owner,
            parent: None,
            directories: Vec::new(),
        })
    }

    fn unpack<A: Archive>(&mut self, entry: &Entry, reader: &mut Reader<BufReader<A>>) -> Result<(), CopyError> {
        let path = normal(&entry.path)?;
        let attributes = self.attributes(entry)?;
        if path.is_empty() {
            // The archive's own root: the directory that was there before.
            return match entry.kind {
                EntryKind::Directory => Ok(()),
                _ => Err(CopyError::archive(format_args!(
                    "the archive has an entry without a name: {:?}",
                    String::from_utf8_lossy(&entry.path)
                ))),
            };
        }
        let (parent, name) = self.parent(&path)?;
        let failed = |what: &'static str| {
            let path = path.clone();
            move |error: Errno| CopyError::system(what, &path, error)
        };
        match entry.kind {
            EntryKind::Directory => {
                let fd =
                    open_or_make_directory(&parent, &name, self.resolve).map_err(failed("create the directory"))?;
                attributes.apply(fd.as_fd()).map_err(failed("set attributes of"))?;
                self.directories.push((path.clone(), entry.mtime));
            }
            EntryKind::File => {
                let file = create_file(&parent, &name).map_err(failed("create the file"))?;
                self.write(&file, entry, reader, &path)?;
                attributes.apply(file.as_fd()).map_err(failed("set attributes of"))?;
                futimens(&file, &attributes.times).map_err(failed("set the time of"))?;
            }
            EntryKind::HardLink => {
                let target = normal(&entry.link)?;
                let (target_parent, target_name) = self.parent(&target)?;
                replace(&parent, &name, || {
                    linkat(&target_parent, &target_name, &parent, &name, AtFlags::empty())
                })
                .map_err(failed("create the hard link"))?;
            }
            EntryKind::SymLink => {
                let target = CString::new(&entry.link[..]).map_err(CopyError::archive)?;
                replace(&parent, &name, || symlinkat(&target, &parent, &name))
                    .map_err(failed("create the symbolic link"))?;
                attributes
                    .apply_unopened(&parent, &name, false)
                    .map_err(failed("set attributes of"))?;
            }
            EntryKind::CharDevice | EntryKind::BlockDevice | EntryKind::Fifo => {
                let kind = match entry.kind {
                    EntryKind::CharDevice => FileType::CharacterDevice,
                    EntryKind::BlockDevice => FileType::BlockDevice,
                    _ => FileType::Fifo,
                };
                let device = makedev(entry.device.0, entry.device.1);
                replace(&parent, &name, || {
                    mknodat(&parent, &name, kind, attributes.mode, device)
                })
                .map_err(failed("create the device or pipe"))?;
                attributes
                    .apply_unopened(&parent, &name, true)
                    .map_err(failed("set attributes of"))?;
            }
        }
        // Back in its place for the next entry, unless another was looked up for a link.
        let end = path.len() - name.as_bytes().len();
        self.parent = Some((path[..end].to_vec(), parent));
        Ok(())
    }

    fn attributes<'a>(&self, entry: &'a Entry) -> Result<Attributes<'a>, CopyError> {
        let id = |number: u64| {
            u32::try_from(number).ok().filter(|id| *id != u32::MAX).ok_or_else(|| {
                CopyError::archive(format_args!(
                    "{}: {number} is no owner on Linux",
                    String::from_utf8_lossy(&entry.path)
                ))
            })
        };
        let (uid, gid) = match self.owner {
            Some(owner) => owner,
            None => (id(entry.uid)?, id(entry.gid)?),
        };
        Ok(Attributes {
            uid,
            gid,
            mode: Mode::from_raw_mode(entry.mode & 0o7777),
            times: times(entry.mtime),
            entry,
        })
    }

    /// The directory that `path` is in, made if it is missing, and its last part.
    fn parent(&mut self, path: &[u8]) -> Result<(OwnedFd, CString), CopyError> {
        let split = path.iter().rposition(|byte| *byte == b'/').map_or(0, |slash| slash + 1);
        let (dir, name) = path.split_at(split);
        let name = CString::new(name).map_err(CopyError::archive)?;
        if let Some((known, fd)) = self.parent.take()
            && known == dir
        {
            return Ok((fd, name));
        }
        let mut fd = self
            .root
            .try_clone()
            .map_err(|error| CopyError::system("open", dir, error))?;
        if dir.is_empty() {
            return Ok((fd, name));
        }
        match openat2(&self.root, dir, DIRECTORY, Mode::empty(), self.resolve) {
            Ok(found) => return Ok((found, name)),
            Err(Errno::NOENT) => {}
            Err(error) => return Err(CopyError::system("open the directory", dir, error)),
        }
        let mut end = 0;
        for part in dir.split(|byte| *byte == b'/').filter(|part| !part.is_empty()) {
            end += part.len();
            let prefix = &dir[..end];
            end += 1;
            fd = match openat2(&self.root, prefix, DIRECTORY, Mode::empty(), self.resolve) {
                Ok(found) => found,
                Err(Errno::NOENT) => {
                    let failed = |error: Errno| CopyError::system("create the directory", prefix, error);
                    match mkdirat(&fd, part, Mode::from_raw_mode(0o755)) {
                        // A link to a directory that is missing, as /var/run often is: in
                        // the box's root it is made where it belongs.
                        Err(Errno::EXIST) if self.resolve.contains(ResolveFlags::IN_ROOT) => {
                            let path = [b"/", prefix].concat();
                            create_dirs(Path::new(OsStr::from_bytes(&path)))
                                .map_err(|error| CopyError::system("create the directory", prefix, error))?;
                            fd = openat2(&self.root, prefix, DIRECTORY, Mode::empty(), self.resolve).map_err(failed)?;
                            continue;
                        }
                        result => result.map_err(failed)?,
                    }
                    let made = openat(&fd, part, DIRECTORY | OFlags::NOFOLLOW, Mode::empty()).map_err(failed)?;
                    if let Some((uid, gid)) = self.owner {
                        let (uid, gid) = (Uid::from_raw(uid), Gid::from_raw(gid));
                        fchown(&made, Some(uid), Some(gid)).map_err(failed)?;
                    }
                    made
                }
                Err(error) => return Err(CopyError::system("open the directory", prefix, error)),
            };
        }
        Ok((fd, name))
    }

    fn write<A: Archive>(
        &mut self,
        file: &File,
        entry: &Entry,
        reader: &mut Reader<BufReader<A>>,
        path: &[u8],
    ) -> Result<(), CopyError> {
        let failed = |error: io::Error| CopyError::system("write to", path, error);
        let failed_archive = |error: io::Error| CopyError::system("read", b"the archive", error);
        while let Some(extent) = reader.next_extent()? {
            let mut offset = extent.offset;
            loop {
                let moved = reader.move_extent(|archive, rest| {
                    if archive.buffer().is_empty()
                        && let Some(moved) = archive.get_ref().splice(file, offset, rest).map_err(failed)?
                    {
                        return Ok(moved);
                    }
                    let data = archive.fill_buf().map_err(failed_archive)?;
                    let count = data.len().min(usize::try_from(rest).unwrap_or(usize::MAX));
                    file.write_all_at(&data[..count], offset).map_err(failed)?;
                    archive.consume(count);
                    Ok::<_, CopyError>(count as u64)
                })?;
                if moved == 0 {
                    break;
                }
                offset += moved;
            }
        }
        // A hole at the end has no data that would make the file longer.
        if entry.sparse.is_some() {
            file.set_len(entry.size).map_err(failed)?;
        }
        Ok(())
    }

    fn finish(self) -> Result<(), CopyError> {
        for (path, mtime) in self.directories.iter().rev() {
            match openat2(&self.root, &path[..], DIRECTORY, Mode::empty(), self.resolve) {
                Ok(fd) => {
                    futimens(&fd, &times(*mtime)).map_err(|error| CopyError::system("set the time of", path, error))?
                }
                // A later entry of the archive may have replaced what led there.
                Err(Errno::NOENT | Errno::NOTDIR | Errno::XDEV | Errno::LOOP) => {}
                Err(error) => return Err(CopyError::system("open the directory", path, error)),
            }
        }
        Ok(())
    }
}

const DIRECTORY: OFlags = OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::CLOEXEC);

/// `path` without empty parts and `.`; never absolute, never with `..`.
fn normal(path: &[u8]) -> Result<Vec<u8>, CopyError> {
    let parts: Vec<&[u8]> = path
        .split(|byte| *byte == b'/')
        .filter(|part| !matches!(*part, b"" | b"."))
        .collect();
    if parts.contains(&&b".."[..]) {
        return Err(CopyError::archive(format_args!(
            "the archive has a path that leads out of it: {:?}",
            String::from_utf8_lossy(path)
        )));
    }
    Ok(parts.join(&b'/'))
}

fn times(mtime: Timestamp) -> Timestamps {
    Timestamps {
        last_access: Timespec {
            tv_sec: 0,
            tv_nsec: UTIME_OMIT as _,
        },
        last_modification: Timespec {
            tv_sec: mtime.seconds,
            tv_nsec: mtime.nanoseconds as _,
        },
    }
}

/// A directory that is there (or behind a link that stays in the tree), or a new one.
fn open_or_make_directory(parent: &OwnedFd, name: &CString, resolve: ResolveFlags) -> Result<OwnedFd, Errno> {
    match mkdirat(parent, name, Mode::from_raw_mode(0o700)) {
        Ok(()) => openat(parent, name, DIRECTORY | OFlags::NOFOLLOW, Mode::empty()),
        Err(Errno::EXIST) => {
            // As seen from the entry's own directory: a link to another branch of the
            // tree is not followed, which is the safe side.
            openat2(parent, name, DIRECTORY, Mode::empty(), resolve)
        }
        Err(error) => Err(error),
    }
}

/// A new file in the place of whatever is no directory there.
fn create_file(parent: &OwnedFd, name: &CString) -> Result<File, Errno> {
    let flags = OFlags::WRONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let new = flags | OFlags::CREATE | OFlags::EXCL;
    let private = Mode::from_raw_mode(0o600);
    match openat(parent, name, new, private) {
        Err(Errno::EXIST) => {}
        result => return result.map(File::from),
    }
    match unlinkat(parent, name, AtFlags::empty()) {
        Ok(()) => openat(parent, name, new, private),
        // Something is mounted there, /etc/hosts for one: its content is replaced.
        Err(Errno::BUSY) => openat(parent, name, flags | OFlags::TRUNC, private),
        Err(error) => Err(error),
    }
    .map(File::from)
}

/// Makes something that is no directory, in the place of whatever is none there.
fn replace(parent: &OwnedFd, name: &CString, make: impl Fn() -> Result<(), Errno>) -> Result<(), Errno> {
    match make() {
        Err(Errno::EXIST) => {
            unlinkat(parent, name, AtFlags::empty())?;
            make()
        }
        result => result,
    }
}

impl Attributes<'_> {
    fn owner(&self) -> (Option<Uid>, Option<Gid>) {
        (Some(Uid::from_raw(self.uid)), Some(Gid::from_raw(self.gid)))
    }

    /// Owner first: a change of it clears set-uid bits and capabilities.
    fn apply(&self, fd: BorrowedFd<'_>) -> Result<(), Errno> {
        let (uid, gid) = self.owner();
        fchown(fd, uid, gid)?;
        fchmod(fd, self.mode)?;
        for (name, value) in &self.entry.xattrs {
            accept(fsetxattr(fd, &name[..], value, XattrFlags::empty()))?;
        }
        Ok(())
    }

    /// For what can't be opened without effect: links, devices, pipes.
    fn apply_unopened(&self, parent: &OwnedFd, name: &CString, has_mode: bool) -> Result<(), Errno> {
        let (uid, gid) = self.owner();
        chownat(parent, name, uid, gid, AtFlags::SYMLINK_NOFOLLOW)?;
        if has_mode
            && FileType::from_raw_mode(statat(parent, name, AtFlags::SYMLINK_NOFOLLOW)?.st_mode) != FileType::Symlink
        {
            rustix::fs::chmodat(parent, name, self.mode, AtFlags::empty())?;
        }
        if !self.entry.xattrs.is_empty() {
            // There is no lsetxattr from a descriptor.
            rustix::process::fchdir(parent)?;
            for (key, value) in &self.entry.xattrs {
                accept(lsetxattr(name, &key[..], value, XattrFlags::empty()))?;
            }
        }
        utimensat(parent, name, &self.times, AtFlags::SYMLINK_NOFOLLOW)
    }
}

/// A file system without extended attributes takes the rest of the file all the same.
fn accept(result: Result<(), Errno>) -> Result<(), Errno> {
    match result {
        Err(Errno::NOTSUP) => Ok(()),
        result => result,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use boxlite_tar::Writer;
    use proptest::prelude::*;
    use std::{
        fs,
        os::unix::fs::{MetadataExt as _, PermissionsExt as _},
    };

    fn own_ids() -> (u32, u32) {
        (rustix::process::getuid().as_raw(), rustix::process::getgid().as_raw())
    }

    fn archive(entries: &[(Entry, &[u8])]) -> Vec<u8> {
        let mut writer = Writer::new(Vec::new());
        for (entry, data) in entries {
            writer.append(entry, *data).unwrap();
        }
        writer.finish().unwrap()
    }

    fn file(path: &str, content: &'static [u8]) -> (Entry, &'static [u8]) {
        let mut entry = Entry::new(path, EntryKind::File);
        entry.size = content.len() as u64;
        (entry, content)
    }

    fn link(path: &str, target: &str, kind: EntryKind) -> (Entry, &'static [u8]) {
        let mut entry = Entry::new(path, kind);
        entry.link = target.into();
        (entry, b"")
    }

    fn unpack_to(dir: &Path, entries: &[(Entry, &[u8])]) -> Result<CopyInResponse, CopyError> {
        unpack_from(&archive(entries)[..], dir.as_os_str().as_bytes(), Some(own_ids()))
    }

    #[test]
    fn attributes_are_kept() {
        let root = tempfile::tempdir().unwrap();
        let mut dir = Entry::new("d", EntryKind::Directory);
        dir.mode = 0o2751;
        dir.mtime = Timestamp {
            seconds: 1_000_000_000,
            nanoseconds: 7,
        };
        let (mut inner, content) = file("d/f", b"content");
        inner.mode = 0o4000;
        inner.mtime = Timestamp {
            seconds: -5,
            nanoseconds: 999_999_999,
        };
        let mut sparse = Entry::new("./d//sparse", EntryKind::File);
        sparse.size = 1 << 20;
        sparse.sparse = Some(vec![boxlite_tar::Extent { offset: 8192, size: 3 }]);
        let mut soft = link("soft", "/nowhere", EntryKind::SymLink);
        soft.0.mtime = Timestamp {
            seconds: 5,
            nanoseconds: 6,
        };
        let response = unpack_to(
            root.path(),
            &[
                (dir, b""),
                (inner, content),
                (sparse, b"abc"),
                soft,
                link("hard", "d/f", EntryKind::HardLink),
                (Entry::new("pipe", EntryKind::Fifo), b""),
            ],
        )
        .unwrap();
        assert_eq!((response.entries, response.bytes), (6, 7 + (1 << 20)));
        let at = |path: &str| fs::symlink_metadata(root.path().join(path)).unwrap();
        assert_eq!(
            (at("d").mode() & 0o7777, at("d").mtime(), at("d").mtime_nsec()),
            (0o2751, 1_000_000_000, 7)
        );
        assert_eq!(
            (at("d/f").mode() & 0o7777, at("d/f").mtime(), at("d/f").mtime_nsec()),
            (0o4000, -5, 999_999_999)
        );
        assert_eq!(at("hard").ino(), at("d/f").ino());
        assert_eq!((at("soft").mtime(), at("soft").mtime_nsec()), (5, 6));
        assert!(at("d/sparse").blocks() * 512 < 1 << 19);
        let data = fs::read(root.path().join("d/sparse")).unwrap();
        assert_eq!((data.len(), &data[8192..8195], data[8195]), (1 << 20, &b"abc"[..], 0));
    }

    #[test]
    fn what_is_there_is_merged_or_replaced() {
        let root = tempfile::tempdir().unwrap();
        let at = |path: &str| root.path().join(path);
        fs::create_dir_all(at("d/keep")).unwrap();
        fs::create_dir_all(at("real")).unwrap();
        std::os::unix::fs::symlink("real", at("alias")).unwrap();
        std::os::unix::fs::symlink("/etc/passwd", at("d/f")).unwrap();
        fs::write(at("d/g"), "old and longer").unwrap();
        fs::set_permissions(at("d/g"), fs::Permissions::from_mode(0o400)).unwrap();
        unpack_to(
            root.path(),
            &[
                (Entry::new("./", EntryKind::Directory), b""),
                (Entry::new("d", EntryKind::Directory), b""),
                file("d/f", b"new"),
                file("d/g", b"short"),
                (Entry::new("alias", EntryKind::Directory), b""),
                file("alias/x", b"through"),
                file("made/on/the/way", b""),
                link("d/g2", "d/g", EntryKind::HardLink),
                link("d/g2", "over", EntryKind::SymLink),
            ],
        )
        .unwrap();
        assert!(at("d/keep").is_dir());
        assert_eq!(fs::read(at("d/f")).unwrap(), b"new");
        assert!(!at("d/f").is_symlink());
        assert_eq!(fs::read(at("d/g")).unwrap(), b"short");
        assert_eq!(fs::read(at("real/x")).unwrap(), b"through");
        assert!(at("alias").is_symlink());
        assert!(at("made/on/the/way").is_file());
        assert_eq!(fs::read_link(at("d/g2")).unwrap(), Path::new("over"));
        assert!(unpack_to(root.path(), &[file("d", b"x")]).is_err());
        assert!(unpack_to(root.path(), &[(Entry::new("d/g", EntryKind::Directory), b"")]).is_err());
        assert!(at("d/keep").is_dir());
    }

    #[test]
    fn nothing_is_made_outside() {
        let root = tempfile::tempdir().unwrap();
        let inside = root.path().join("inside");
        let outside = root.path().join("outside");
        for evil in [
            vec![file("../outside", b"x")],
            vec![file("a/../../outside", b"x")],
            vec![link("l", "..", EntryKind::SymLink), file("l/outside", b"x")],
            vec![
                link("l", root.path().to_str().unwrap(), EntryKind::SymLink),
                file("l/outside", b"x"),
            ],
            vec![
                link("l", "..", EntryKind::SymLink),
                (Entry::new("l/outside", EntryKind::Directory), b""),
            ],
            vec![
                link("l", "..", EntryKind::SymLink),
                link("l/outside", "x", EntryKind::SymLink),
            ],
            vec![link("h", "../secret", EntryKind::HardLink), file("h", b"x")],
            vec![
                link("l", "../secret", EntryKind::SymLink),
                (Entry::new("l", EntryKind::Directory), b""),
            ],
        ] {
            let _ = fs::remove_dir_all(&inside);
            fs::create_dir(&inside).unwrap();
            fs::write(root.path().join("secret"), "secret").unwrap();
            let result = unpack_to(&inside, &evil);
            assert!(result.is_err(), "{evil:?}");
            assert!(!outside.exists(), "{evil:?}");
            assert_eq!(fs::read(root.path().join("secret")).unwrap(), b"secret");
        }
        // A link as such may point anywhere, and an absolute name is one in the directory.
        let fine = [
            link("l", "/etc/passwd", EntryKind::SymLink),
            file("l", b"x"),
            file("/abs", b"y"),
        ];
        unpack_to(&inside, &fine).unwrap();
        assert!(!inside.join("l").is_symlink());
        assert_eq!(fs::read(inside.join("abs")).unwrap(), b"y");
    }

    #[test]
    fn broken_archives_and_targets_are_refused() {
        let root = tempfile::tempdir().unwrap();
        let path = root.path().as_os_str().as_bytes();
        let whole = archive(&[file("f", b"0123456789")]);
        let error = unpack_from(&whole[..515], path, None).unwrap_err();
        assert_eq!(Status::from(error).code(), tonic::Code::InvalidArgument);
        let error = unpack_from(&whole[..], b"/no/such/dir", None).unwrap_err();
        assert_eq!(Status::from(error).code(), tonic::Code::NotFound);
    }

    proptest! {
        #[test]
        fn normal_paths_go_down_only(path: Vec<u8>) {
            if let Ok(path) = normal(&path) {
                let parts: Vec<_> = path.split(|byte| *byte == b'/').collect();
                prop_assert!(path.is_empty() || !parts.iter().any(|part| matches!(*part, b"" | b"." | b"..")));
            }
        }
    }
}
