//! Copying files between host and box.

mod channel;
mod pack;
mod placement;
mod unpack;

use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::task::{Context, Poll};

use boxlite_protocol::TAR_CHUNK_BYTES;
use boxlite_protocol::guest::{
    CopyInRequest, CopyInResponse, CopyInStart, CopyOutRequest, CopyOutResponse, StatPathRequest, StatPathResponse,
    copy_in_request::Input,
};
use boxlite_tar::{Limits, Reader, Writer};
use bytes::{Buf, Bytes, BytesMut};
use futures_util::Stream;
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncRead, AsyncReadExt, ReadBuf};
use tokio::sync::mpsc;
use tonic::{Code, Status, Streaming};

use crate::connection::Connection;
use crate::error::{CopyError, StateError};
use crate::rpc;
use channel::{PieceSender, Pieces};
use placement::{Existing, Landing, Subject};
use unpack::Target;

/// As many links as Linux follows.
const MAX_LINKS: u32 = 40;
/// The type bits of a mode, and those of a folder and a symbolic link: `inode(7)`.
const MODE_TYPE: u32 = 0o170_000;
const MODE_FOLDER: u32 = 0o040_000;
const MODE_LINK: u32 = 0o120_000;

/// How files are copied.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
#[non_exhaustive]
pub struct CopyOptions {
    /// When the source itself is a symbolic link, copy what it points to.
    pub follow_link: bool,
    /// Into the box: keep owners (by number) instead of giving everything to root.
    pub keep_owner: bool,
}

/// What was copied.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[non_exhaustive]
pub struct CopyReport {
    /// Files, folders, links and so on.
    pub entries: u64,
    /// Bytes of files.
    pub bytes: u64,
    /// What was left out and why; at most a hundred are listed.
    pub skipped: Vec<SkippedEntry>,
    /// How many were left out.
    pub skipped_count: u64,
}

/// Something that was not copied.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SkippedEntry {
    /// Its path, with what is not UTF-8 replaced.
    pub path: String,
    /// Why.
    pub reason: String,
}

/// A tar stream out of a box; from [`crate::BoxHandle::copy_out_tar`].
#[derive(Debug)]
pub struct TarStream {
    stream: Streaming<CopyOutResponse>,
    piece: Bytes,
    _connection: Connection,
}

impl AsyncRead for TarStream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<std::io::Result<()>> {
        while self.piece.is_empty() {
            match std::task::ready!(Pin::new(&mut self.stream).poll_next(context)) {
                Some(Ok(message)) => self.piece = message.data,
                Some(Err(status)) => {
                    return Poll::Ready(Err(std::io::Error::other(rpc::call_error("copy out", &status))));
                }
                None => return Poll::Ready(Ok(())),
            }
        }
        let count = self.piece.len().min(buffer.remaining());
        buffer.put_slice(&self.piece[..count]);
        self.piece.advance(count);
        Poll::Ready(Ok(()))
    }
}

pub(crate) async fn copy_in(
    connection: &Connection,
    source: &Path,
    destination: &str,
    options: CopyOptions,
) -> Result<CopyReport, CopyError> {
    placement::check_box_path(destination)?;
    let (subject, follow_link) = host_subject(source, options.follow_link).await?;
    let (resolved, existing) = resolve_in_box(connection, destination).await?;
    let (folder, name) = match placement::landing(&subject, destination, existing)? {
        Landing::Inside => (resolved, subject.name),
        Landing::Spread => (resolved, None),
        Landing::As => {
            let (folder, name) = placement::split(&resolved).ok_or_else(|| CopyError::NotAFolder {
                path: destination.to_owned(),
            })?;
            require_folder(connection, folder).await?;
            (folder.to_owned(), Some(name.as_bytes().to_vec()))
        }
    };
    let (writer, pieces) = channel::to_async();
    let packing = {
        let source = source.to_owned();
        tokio::task::spawn_blocking(move || {
            pack::pack(&source, name.as_deref(), follow_link, Writer::new(writer)).map(|(report, _writer)| report)
        })
    };
    let sent = send(connection, &folder, options, pieces).await;
    let packed = packing.await.map_err(StateError::Runtime)?;
    match (sent, packed) {
        // A broken pipe while packing only says that the box refused; that error says why.
        (Err(error), Err(packing)) if is_broken_pipe(&packing) => Err(error),
        (_, Err(error)) | (Err(error), Ok(_)) => Err(error),
        (Ok(_), Ok(report)) => Ok(report),
    }
}

fn is_broken_pipe(error: &CopyError) -> bool {
    let source = match error {
        CopyError::Host { source, .. }
        | CopyError::Pack {
            source: boxlite_tar::WriteError::Io { source },
            ..
        } => source,
        _ => return false,
    };
    source.kind() == std::io::ErrorKind::BrokenPipe
}

pub(crate) async fn copy_in_tar<R>(
    connection: &Connection,
    mut tar: R,
    destination: &str,
    options: CopyOptions,
) -> Result<CopyReport, CopyError>
where
    R: AsyncRead + Send + Unpin + 'static,
{
    placement::check_box_path(destination)?;
    require_folder(connection, destination).await?;
    let (sender, pieces) = mpsc::channel(2);
    let reading = async move {
        let mut buffer = BytesMut::new();
        loop {
            buffer.reserve(TAR_CHUNK_BYTES);
            let count = (&mut tar)
                .take(TAR_CHUNK_BYTES as u64)
                .read_buf(&mut buffer)
                .await
                .map_err(CopyError::Stream)?;
            if count == 0 || sender.send(buffer.split().freeze()).await.is_err() {
                return Ok(());
            }
        }
    };
    // A stream that can't be read must not look like one that ended: the call is dropped.
    let (response, ()) = tokio::try_join!(send(connection, destination, options, pieces), reading)?;
    Ok(CopyReport {
        entries: response.entries,
        bytes: response.bytes,
        ..CopyReport::default()
    })
}

async fn send(
    connection: &Connection,
    folder: &str,
    options: CopyOptions,
    pieces: mpsc::Receiver<Bytes>,
) -> Result<CopyInResponse, CopyError> {
    let start = CopyInRequest {
        input: Some(Input::Start(CopyInStart {
            path: Bytes::copy_from_slice(folder.as_bytes()),
            keep_owner: options.keep_owner,
            user: String::new(),
        })),
    };
    let stream = Pieces::new(start, pieces, |piece| CopyInRequest {
        input: Some(Input::Data(piece)),
    });
    let answer = connection.guest().copy_in(stream).await;
    Ok(answer
        .map_err(|status| rpc::call_error("copy in", &status))?
        .into_inner())
}

pub(crate) async fn copy_out(
    connection: &Connection,
    source: &str,
    destination: &Path,
    options: CopyOptions,
) -> Result<CopyReport, CopyError> {
    use std::os::unix::ffi::OsStrExt;

    placement::check_box_path(source)?;
    let contents = placement::means_contents(source.as_bytes());
    let follow_link = options.follow_link || placement::is_folder_form(source.as_bytes());
    let stat = stat(connection, source, follow_link).await?;
    if !stat.exists {
        return Err(CopyError::SourceMissing {
            path: source.to_owned(),
        });
    }
    let is_folder = stat.mode & MODE_TYPE == MODE_FOLDER;
    if !is_folder && placement::is_folder_form(source.as_bytes()) {
        return Err(CopyError::NotAFolder {
            path: source.to_owned(),
        });
    }
    let subject = Subject {
        is_folder,
        // The root and `..` have no name to be kept.
        name: (!contents)
            .then(|| placement::split(source))
            .flatten()
            .map(|(_, name)| name.as_bytes().to_vec()),
    };
    let given = destination.to_owned();
    let (resolved, existing) = tokio::task::spawn_blocking(move || resolve_on_host(&given))
        .await
        .map_err(StateError::Runtime)??;
    let text = destination.display().to_string();
    let (folder, target) = match placement::landing(&subject, &text, existing)? {
        Landing::Inside => (resolved, subject.name.map_or(Target::Spread, Target::Named)),
        Landing::Spread => (resolved, Target::Spread),
        Landing::As => {
            let name = resolved.file_name().ok_or(CopyError::NotAFolder { path: text })?;
            let folder = match resolved.parent() {
                Some(folder) if !folder.as_os_str().is_empty() => folder,
                _ => Path::new("."),
            };
            if !folder.is_dir() {
                return Err(CopyError::ParentMissing {
                    path: folder.display().to_string(),
                });
            }
            (folder.to_owned(), Target::Named(name.as_bytes().to_vec()))
        }
    };
    let stream = open_out(connection, source, follow_link).await?;
    let (sender, reader) = channel::to_blocking();
    let unpacking = tokio::task::spawn_blocking(move || {
        let mut reader = Reader::new(reader, Limits::default());
        unpack::unpack(&mut reader, &folder, &target)
    });
    let received = receive(stream, sender).await;
    let unpacked = unpacking.await.map_err(StateError::Runtime)?;
    match (received, unpacked) {
        // What broke the stream says more than how the unpacking ended by it.
        (Err(error), _) => Err(error),
        (Ok(()), Err(error)) => Err(error.into()),
        (Ok(()), Ok(report)) => Ok(report),
    }
}

/// Hands a stream on until it ends or nobody takes it any more.
async fn receive(mut stream: Streaming<CopyOutResponse>, sender: PieceSender) -> Result<(), CopyError> {
    loop {
        match stream.message().await {
            Ok(Some(message)) => {
                if !sender.send(message.data).await {
                    return Ok(());
                }
            }
            Ok(None) => {
                sender.finish().await;
                return Ok(());
            }
            Err(status) => {
                return Err(rpc::call_error("copy out", &status).into());
            }
        }
    }
}

pub(crate) async fn copy_out_tar(
    connection: Connection,
    source: &str,
    options: CopyOptions,
) -> Result<TarStream, CopyError> {
    placement::check_box_path(source)?;
    let follow_link = options.follow_link || placement::is_folder_form(source.as_bytes());
    let stream = open_out(&connection, source, follow_link).await?;
    Ok(TarStream {
        stream,
        piece: Bytes::new(),
        _connection: connection,
    })
}

async fn open_out(
    connection: &Connection,
    source: &str,
    follow_link: bool,
) -> Result<Streaming<CopyOutResponse>, CopyError> {
    let answer = connection
        .guest()
        .copy_out(CopyOutRequest {
            path: Bytes::copy_from_slice(source.as_bytes()),
            follow_link,
        })
        .await;
    answer
        .map(tonic::Response::into_inner)
        .map_err(|status| out_error(source, &status))
}

fn out_error(source: &str, status: &Status) -> CopyError {
    if status.code() == Code::NotFound {
        CopyError::SourceMissing {
            path: source.to_owned(),
        }
    } else {
        rpc::call_error("copy out", status).into()
    }
}

async fn stat(connection: &Connection, path: &str, follow_link: bool) -> Result<StatPathResponse, CopyError> {
    let answer = connection
        .guest()
        .stat_path(StatPathRequest {
            path: Bytes::copy_from_slice(path.as_bytes()),
            follow_link,
        })
        .await;
    Ok(answer.map_err(|status| rpc::call_error("stat", &status))?.into_inner())
}

async fn require_folder(connection: &Connection, path: &str) -> Result<(), CopyError> {
    let stat = stat(connection, path, true).await?;
    if !stat.exists {
        return Err(CopyError::ParentMissing { path: path.to_owned() });
    }
    if stat.mode & MODE_TYPE != MODE_FOLDER {
        return Err(CopyError::NotAFolder { path: path.to_owned() });
    }
    Ok(())
}

/// What is at a path of the box. A link that leads to a file, or nowhere, is replaced by
/// where it leads to: that is what is written.
async fn resolve_in_box(connection: &Connection, path: &str) -> Result<(String, Existing), CopyError> {
    let end = stat(connection, path, true).await?;
    if end.exists && end.mode & MODE_TYPE == MODE_FOLDER {
        return Ok((path.to_owned(), Existing::Folder));
    }
    let existing = if end.exists { Existing::File } else { Existing::Nothing };
    let mut resolved = path.to_owned();
    for _ in 0..MAX_LINKS {
        let own = stat(connection, resolved.trim_end_matches('/'), false).await?;
        if !own.exists || own.mode & MODE_TYPE != MODE_LINK {
            return Ok((resolved, existing));
        }
        let target = std::str::from_utf8(&own.link_target).map_err(|_| CopyError::BoxPath {
            path: String::from_utf8_lossy(&own.link_target).into_owned(),
        })?;
        resolved = placement::follow(&resolved, target);
    }
    Err(CopyError::LinkLoop { path: path.to_owned() })
}

/// The same for a path of the host. Blocking.
fn resolve_on_host(path: &Path) -> Result<(PathBuf, Existing), CopyError> {
    let failed = |source| CopyError::Host {
        action: "looking at",
        path: path.to_owned(),
        source,
    };
    match std::fs::metadata(path) {
        Ok(metadata) if metadata.is_dir() => Ok((path.to_owned(), Existing::Folder)),
        Ok(_) => Ok((std::fs::canonicalize(path).map_err(failed)?, Existing::File)),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            let mut resolved = path.to_owned();
            for _ in 0..MAX_LINKS {
                let Ok(target) = std::fs::read_link(&resolved) else {
                    return Ok((resolved, Existing::Nothing));
                };
                resolved = match resolved.parent() {
                    Some(folder) => folder.join(target),
                    None => target,
                };
            }
            Err(CopyError::LinkLoop {
                path: path.display().to_string(),
            })
        }
        // A file where a folder would have to be: `file/` and `file/x`.
        Err(error) if error.kind() == std::io::ErrorKind::NotADirectory => Err(CopyError::NotAFolder {
            path: path.display().to_string(),
        }),
        Err(error) => Err(failed(error)),
    }
}

/// What a source of the host is, and whether a link at its end is followed.
async fn host_subject(source: &Path, follow_link: bool) -> Result<(Subject, bool), CopyError> {
    use std::os::unix::ffi::OsStrExt;

    let follow_link = follow_link || placement::is_folder_form(source.as_os_str().as_bytes());
    let path = source.to_owned();
    let looked = tokio::task::spawn_blocking(move || {
        let metadata = if follow_link {
            std::fs::metadata(&path)
        } else {
            std::fs::symlink_metadata(&path)
        };
        metadata.and_then(|metadata| Ok((metadata.is_dir(), placement::host_name(&path)?)))
    })
    .await
    .map_err(StateError::Runtime)?;
    let text = || source.display().to_string();
    match looked {
        Ok((is_folder, _)) if !is_folder && placement::is_folder_form(source.as_os_str().as_bytes()) => {
            Err(CopyError::NotAFolder { path: text() })
        }
        Ok((is_folder, name)) => Ok((Subject { is_folder, name }, follow_link)),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Err(CopyError::SourceMissing { path: text() }),
        Err(error) if error.kind() == std::io::ErrorKind::NotADirectory => Err(CopyError::NotAFolder { path: text() }),
        Err(error) => Err(CopyError::Host {
            action: "looking at",
            path: source.to_owned(),
            source: error,
        }),
    }
}
