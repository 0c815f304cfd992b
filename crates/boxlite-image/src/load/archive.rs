use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, BufReader, Read};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use boxlite_tar::{EntryKind, ReadError, Reader};
use flate2::bufread::MultiGzDecoder;

use super::{Job, LoadError};
use crate::content::PendingBlob;
use crate::digest::{Algorithm, Digest, Hasher};
use crate::document::DocumentError;
use crate::media_type::Compression;
use crate::progress::Meter;

/// Files up to this size stay in memory, as far as these are not too many.
const SMALL_BYTES: u64 = 64 << 10;
const MAX_SMALL_BYTES: u64 = 32 << 20;
/// What links in links may come to.
const MAX_HOPS: usize = 8;
/// Longer than any path in an archive of images.
const MAX_PATH_BYTES: usize = 1024;

/// The files of an archive, read in one go: it may be compressed, and what its files are for
/// often comes last. Large files are in the content store's care but not yet in the store.
pub(super) struct Archive {
    members: BTreeMap<String, Member>,
}

enum Member {
    Small {
        digest: Digest,
        content: Vec<u8>,
    },
    Large(Box<PendingBlob>),
    /// It is in the store now.
    Stored {
        digest: Digest,
        bytes: u64,
        compression: Compression,
    },
    /// Stands for the member of this path.
    Link(String),
}

/// What is known of a file.
#[derive(Debug, Clone)]
pub(super) struct Summary {
    pub(super) digest: Digest,
    pub(super) bytes: u64,
    pub(super) compression: Compression,
}

impl Archive {
    pub(super) fn read(job: &Job) -> Result<Self, LoadError> {
        let metadata = std::fs::metadata(&job.path).map_err(job.unreadable(&job.path))?;
        if metadata.is_dir() {
            return Err(LoadError::WrongType {
                path: job.path.clone(),
                expected: "file",
            });
        }
        let total_bytes = metadata.is_file().then_some(metadata.len());
        let read_bytes = Arc::new(AtomicU64::new(0));
        let file = File::open(&job.path).map_err(job.unreadable(&job.path))?;
        let counted = Counted {
            file,
            bytes: Arc::clone(&read_bytes),
        };
        let source = decompressed(&job.path, counted)?;
        let limits = boxlite_tar::Limits {
            path_bytes: MAX_PATH_BYTES,
            ..boxlite_tar::Limits::default()
        };
        let mut reader = Reader::new(source, limits);
        let unsound = |source| LoadError::Archive {
            path: job.path.clone(),
            source,
        };
        let too_large = |what, limit| LoadError::TooLarge {
            path: job.path.clone(),
            what,
            limit,
        };
        let mut meter = Meter::new(&job.progress);
        let mut members = BTreeMap::new();
        let (mut entries, mut all_bytes, mut small_bytes) = (0u64, 0u64, 0u64);
        let mut buffer = vec![0; 1 << 20];
        while let Some(entry) = reader.next_entry().map_err(unsound)? {
            job.check_cancelled()?;
            entries += 1;
            if entries > job.options.limits.archive_entries {
                return Err(too_large("entries", job.options.limits.archive_entries));
            }
            // A name that is no text can't be one that a manifest refers to.
            let Some(path) = std::str::from_utf8(&entry.path).ok().and_then(normalise) else {
                continue;
            };
            let member = match entry.kind {
                // Nobody writes images like this, and a few bytes could stand for a full disk.
                EntryKind::File if entry.sparse.is_some() => continue,
                EntryKind::File => {
                    all_bytes = all_bytes.saturating_add(entry.size);
                    if all_bytes > job.options.limits.image_bytes {
                        return Err(too_large("bytes", job.options.limits.image_bytes));
                    }
                    let algorithm = match path.strip_prefix("blobs/sha512/") {
                        Some(_) => Algorithm::Sha512,
                        None => Algorithm::Sha256,
                    };
                    if entry.size <= SMALL_BYTES && small_bytes + entry.size <= MAX_SMALL_BYTES {
                        small_bytes += entry.size;
                        let mut content = Vec::new();
                        read_data(&mut reader, &mut buffer, |piece| {
                            content.extend_from_slice(piece);
                            Ok(())
                        })
                        .map_err(|error| error.explain(job))?;
                        let mut hasher = Hasher::new(algorithm);
                        hasher.update(&content);
                        Member::Small {
                            digest: hasher.finish(),
                            content,
                        }
                    } else {
                        let mut writer = job
                            .store
                            .writer_under(&job.lease, algorithm)
                            .map_err(|error| job.content(error))?;
                        read_data(&mut reader, &mut buffer, |piece| {
                            job.check_cancelled()?;
                            job.tell(&mut meter, read_bytes.load(Ordering::Relaxed), total_bytes);
                            writer.append(piece).map_err(|error| job.content(error))
                        })
                        .map_err(|error| error.explain(job))?;
                        Member::Large(Box::new(writer.finish().map_err(|error| job.content(error))?))
                    }
                }
                EntryKind::HardLink => match text(&entry.link).and_then(normalise) {
                    Some(target) => Member::Link(target),
                    None => continue,
                },
                EntryKind::SymLink => match text(&entry.link).and_then(|link| relative_to(&path, link)) {
                    Some(target) => Member::Link(target),
                    None => continue,
                },
                _ => continue,
            };
            members.insert(path, member);
        }
        Ok(Self { members })
    }

    pub(super) fn has(&self, path: &str) -> bool {
        self.resolve(path).is_some()
    }

    /// The name under which a member's content is, links followed.
    fn resolve(&self, path: &str) -> Option<String> {
        let mut path = normalise(path)?;
        for _ in 0..MAX_HOPS {
            match self.members.get(&path)? {
                Member::Link(target) => path.clone_from(target),
                _ => return Some(path),
            }
        }
        None
    }

    fn member(&self, job: &Job, path: &str) -> Result<(String, &Member), LoadError> {
        let name = self.resolve(path).ok_or_else(|| job.missing(path))?;
        let member = self.members.get(&name).ok_or_else(|| job.missing(path))?;
        Ok((name, member))
    }

    pub(super) fn summary(&self, job: &Job, path: &str) -> Result<Summary, LoadError> {
        let (_, member) = self.member(job, path)?;
        Ok(match member {
            Member::Small { digest, content } => Summary {
                digest: digest.clone(),
                bytes: content.len() as u64,
                compression: Compression::detect(content),
            },
            Member::Large(pending) => {
                let start = pending
                    .read(Compression::MAGIC_BYTES as u64)
                    .map_err(|error| job.content(error))?;
                Summary {
                    digest: pending.digest().clone(),
                    bytes: pending.bytes(),
                    compression: Compression::detect(&start),
                }
            }
            Member::Stored {
                digest,
                bytes,
                compression,
            } => Summary {
                digest: digest.clone(),
                bytes: *bytes,
                compression: *compression,
            },
            Member::Link(_) => return Err(job.missing(path)),
        })
    }

    /// The whole content of a document.
    pub(super) fn document(&self, job: &Job, kind: &'static str, path: &str) -> Result<Vec<u8>, LoadError> {
        let limit = job.options.limits.document_bytes;
        let Summary { digest, bytes, .. } = self.summary(job, path)?;
        if bytes > limit {
            return Err(job.unusable(path)(DocumentError::TooLong {
                document: kind,
                bytes,
                limit,
            }));
        }
        match self.member(job, path)?.1 {
            Member::Small { content, .. } => Ok(content.clone()),
            Member::Large(pending) => pending.read(limit).map_err(|error| job.content(error)),
            _ => job.store.read(&digest, limit).map_err(|error| job.content(error)),
        }
    }

    /// Puts a file into the content store.
    pub(super) fn store(&mut self, job: &Job, path: &str) -> Result<Summary, LoadError> {
        job.check_cancelled()?;
        let summary = self.summary(job, path)?;
        let (name, _) = self.member(job, path)?;
        let Summary {
            digest,
            bytes,
            compression,
        } = summary.clone();
        match self.members.insert(
            name,
            Member::Stored {
                digest,
                bytes,
                compression,
            },
        ) {
            Some(Member::Small { digest, content }) => {
                job.store
                    .write_as(&digest, &content)
                    .map_err(|error| job.content(error))?;
            }
            Some(Member::Large(pending)) => {
                pending.commit().map_err(|error| job.content(error))?;
            }
            _ => {}
        }
        Ok(summary)
    }
}

/// Why a file's data could not be taken in.
enum Stopped {
    Archive(ReadError),
    Load(LoadError),
}

impl Stopped {
    fn explain(self, job: &Job) -> LoadError {
        match self {
            Self::Archive(source) => LoadError::Archive {
                path: job.path.clone(),
                source,
            },
            Self::Load(error) => error,
        }
    }
}

fn read_data(
    reader: &mut Reader<Box<dyn Read>>,
    buffer: &mut [u8],
    mut take: impl FnMut(&[u8]) -> Result<(), LoadError>,
) -> Result<(), Stopped> {
    loop {
        match reader.read_data(buffer).map_err(Stopped::Archive)? {
            0 => return Ok(()),
            n => take(&buffer[..n]).map_err(Stopped::Load)?,
        }
    }
}

/// Counts what is read, so that progress is told in bytes of the file.
struct Counted {
    file: File,
    bytes: Arc<AtomicU64>,
}

impl Read for Counted {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let n = self.file.read(buffer)?;
        self.bytes.fetch_add(n as u64, Ordering::Relaxed);
        Ok(n)
    }
}

/// The archive without its compression, which its first bytes tell.
fn decompressed(path: &Path, mut file: Counted) -> Result<Box<dyn Read>, LoadError> {
    let unreadable = |source| LoadError::Read {
        path: path.to_owned(),
        source,
    };
    let mut start = Vec::new();
    file.by_ref().take(6).read_to_end(&mut start).map_err(unreadable)?;
    let unsupported = match start[..] {
        [0xfd, b'7', b'z', b'X', b'Z', 0] => Some("xz"),
        [b'B', b'Z', b'h', ..] => Some("bzip2"),
        [0x04, 0x22, 0x4d, 0x18, ..] => Some("lz4"),
        _ => None,
    };
    if let Some(compression) = unsupported {
        return Err(LoadError::Compression {
            path: path.to_owned(),
            compression,
        });
    }
    let compression = Compression::detect(&start);
    let whole = BufReader::with_capacity(1 << 18, io::Cursor::new(start).chain(file));
    Ok(match compression {
        Compression::None => Box::new(whole),
        Compression::Gzip => Box::new(BufReader::with_capacity(1 << 18, MultiGzDecoder::new(whole))),
        Compression::Zstd => Box::new(zstd::stream::read::Decoder::with_buffer(whole).map_err(unreadable)?),
    })
}

fn text(bytes: &[u8]) -> Option<&str> {
    std::str::from_utf8(bytes).ok()
}

/// A path without `.`, `..` and doubled slashes; `None` if it leads out of the archive or
/// nowhere.
fn normalise(path: &str) -> Option<String> {
    let mut components: Vec<&str> = Vec::new();
    for component in path.split('/') {
        match component {
            "" | "." => {}
            ".." => {
                components.pop()?;
            }
            name => components.push(name),
        }
    }
    (!components.is_empty()).then(|| components.join("/"))
}

/// Where a symbolic link leads; `None` if that is not in the archive.
fn relative_to(link_path: &str, target: &str) -> Option<String> {
    if target.starts_with('/') {
        return None;
    }
    let folder = link_path.rsplit_once('/').map_or("", |(folder, _)| folder);
    normalise(&format!("{folder}/{target}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn paths_stay_inside() {
        assert_eq!(normalise("./a//b/./c").as_deref(), Some("a/b/c"));
        assert_eq!(normalise("/a/../b").as_deref(), Some("b"));
        for outside in ["..", "a/../..", "../a", "", "/", "."] {
            assert_eq!(normalise(outside), None, "{outside}");
        }
        assert_eq!(
            relative_to("x/layer.tar", "../y/layer.tar").as_deref(),
            Some("y/layer.tar")
        );
        assert_eq!(relative_to("x/layer.tar", "../../y"), None);
        assert_eq!(relative_to("x/layer.tar", "/etc/passwd"), None);
    }

    proptest! {
        #[test]
        fn no_path_leads_out(path in "[a./]{0,20}", link in "[a./]{0,20}") {
            for found in [normalise(&path), relative_to(&path, &link)].into_iter().flatten() {
                prop_assert!(!found.split('/').any(|c| matches!(c, "" | "." | "..")), "{}", found);
            }
        }
    }
}
