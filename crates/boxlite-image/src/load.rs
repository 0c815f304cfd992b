use std::path::{Path, PathBuf};

use tokio_util::sync::CancellationToken;

use crate::content::{ContentError, ContentStore, Lease};
use crate::digest::Digest;
use crate::document::DocumentError;
use crate::limits::Limits;
use crate::manifest::{AssembleError, ImageManifest, Parts};
use crate::platform::Platform;
use crate::progress::{Meter, Progress, ProgressFn};
use crate::reference::Reference;
use crate::source::Source;

mod archive;
mod docker;
mod error;
mod layout;

pub use error::LoadError;

/// How images are loaded.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct LoadOptions {
    /// Which image of a multi-platform one; the host's if `None`.
    pub platform: Option<Platform>,
    /// What an image may be at most.
    pub limits: Limits,
}

/// An image that is in the content store now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LoadedImage {
    /// Its name, if the archive or layout gives a whole one.
    pub reference: Option<Reference>,
    /// What the archive or layout calls it: a docker archive's `RepoTags`, a layout's
    /// `org.opencontainers.image.ref.name`, which often is a mere tag.
    pub name: Option<String>,
    /// The image.
    pub manifest: ImageManifest,
}

/// Loads images from a local archive or layout into a content store: those that the source
/// names, or all. An image with several names is returned once for each.
///
/// Everything is verified: blobs of layouts against their digests, the plain layers of docker
/// archives against the image config. No image is unpacked.
///
/// Needs a tokio runtime; the work is done in its pool for blocking work. Cancelling `cancel`,
/// or dropping the future, stops it within moments.
///
/// # Errors
/// See [`LoadError`]. A registry's reference and a root filesystem's folder can't be loaded.
pub async fn load(
    store: &ContentStore,
    source: &Source,
    options: &LoadOptions,
    progress: ProgressFn,
    cancel: CancellationToken,
) -> Result<Vec<LoadedImage>, LoadError> {
    let path = match source {
        Source::DockerArchive { path, .. } | Source::OciLayout { path, .. } | Source::OciArchive { path, .. } => {
            path.clone()
        }
        Source::Registry(_) | Source::RootfsDir(_) => {
            return Err(LoadError::NotLoadable {
                input: Box::new(source.clone()),
            });
        }
    };
    let cancel = cancel.child_token();
    let _stop_when_dropped = cancel.clone().drop_guard();
    let job = (store.clone(), source.clone(), options.clone(), cancel, path.clone());
    let work = move || {
        let (store, source, options, cancel, path) = job;
        let lease = store.lease().map_err(|source| LoadError::Content {
            path: path.clone(),
            source,
        })?;
        let job = Job {
            store,
            lease,
            path,
            options,
            progress,
            cancel,
        };
        match source {
            Source::DockerArchive { reference, .. } => docker::load(&job, reference.as_ref()),
            Source::OciLayout { tag, .. } => layout::load_folder(&job, tag.as_deref()),
            Source::OciArchive { tag, .. } => layout::load_archive(&job, tag.as_deref()),
            other => Err(LoadError::NotLoadable { input: Box::new(other) }),
        }
    };
    match tokio::task::spawn_blocking(work).await {
        Ok(result) => result,
        Err(error) => match error.try_into_panic() {
            Ok(panic) => std::panic::resume_unwind(panic),
            Err(_) => Err(LoadError::Cancelled { path }),
        },
    }
}

/// What one load needs everywhere.
struct Job {
    store: ContentStore,
    lease: Lease,
    path: PathBuf,
    options: LoadOptions,
    progress: ProgressFn,
    cancel: CancellationToken,
}

impl Job {
    fn wanted(&self) -> Platform {
        self.options.platform.clone().unwrap_or_else(Platform::host)
    }

    fn check_cancelled(&self) -> Result<(), LoadError> {
        if self.cancel.is_cancelled() {
            return Err(LoadError::Cancelled {
                path: self.path.clone(),
            });
        }
        Ok(())
    }

    fn tell(&self, meter: &mut Meter, current_bytes: u64, total_bytes: Option<u64>) {
        let path = &self.path;
        meter.tick(current_bytes, || Progress::Reading {
            path: path.clone(),
            current_bytes,
            total_bytes,
        });
    }

    fn unreadable(&self, path: &Path) -> impl FnOnce(std::io::Error) -> LoadError {
        let path = path.to_owned();
        move |source| LoadError::Read { path, source }
    }

    fn content(&self, source: ContentError) -> LoadError {
        LoadError::Content {
            path: self.path.clone(),
            source,
        }
    }

    fn missing(&self, member: &str) -> LoadError {
        LoadError::Missing {
            path: self.path.clone(),
            member: member.chars().take(200).collect(),
        }
    }

    fn unusable(&self, member: impl ToString) -> impl Fn(DocumentError) -> LoadError {
        let (path, member) = (self.path.clone(), member.to_string());
        move |source| LoadError::Document {
            path: path.clone(),
            member: member.clone(),
            source,
        }
    }

    fn wrong_digest(&self, member: &str, expected: &Digest, actual: &Digest) -> LoadError {
        LoadError::Digest {
            path: self.path.clone(),
            member: member.to_owned(),
            expected: expected.clone(),
            actual: actual.clone(),
        }
    }

    fn no_platform(&self, available: impl IntoIterator<Item = Platform>) -> LoadError {
        LoadError::Platform {
            path: self.path.clone(),
            wanted: Box::new(self.wanted()),
            available: available.into_iter().collect(),
        }
    }

    fn assemble(
        &self,
        parts: Parts,
        index_digest: Option<Digest>,
        platform: Platform,
    ) -> Result<ImageManifest, LoadError> {
        let digest = parts.digest.clone();
        parts
            .assemble(&self.store, index_digest, platform)
            .map_err(|error| match error {
                AssembleError::Content(error) => self.content(error),
                AssembleError::Document(error) => self.unusable(&digest)(error),
            })
    }
}

/// The whole reference in a name that an archive or layout gives, if it is one. A lone word
/// may as well be a tag.
fn whole_reference(name: &str) -> Option<Reference> {
    name.contains([':', '/']).then(|| Reference::parse(name).ok()).flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lone_word_is_no_whole_name() {
        let whole = |name| whole_reference(name).map(|reference| reference.to_string());
        assert_eq!(whole("latest"), None);
        assert_eq!(whole("3.20"), None);
        assert_eq!(whole("<none>:<none>"), None);
        assert_eq!(whole("alpine:3.20").as_deref(), Some("docker.io/library/alpine:3.20"));
        assert_eq!(whole("localhost/x").as_deref(), Some("localhost/x:latest"));
    }
}
