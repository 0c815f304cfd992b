use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use http::header::{ACCEPT, HeaderMap};
use http::{HeaderValue, Method};
use tokio_util::sync::CancellationToken;

use super::{Failure, PullOptions, blocking};
use crate::digest::{Digest, Hasher};
use crate::media_type::{DOCKER_INDEX, DOCKER_MANIFEST, OCI_INDEX, OCI_MANIFEST};
use crate::progress::{Progress, ProgressFn};
use crate::reference::Reference;
use crate::registry::{self, Answer, Backoff, RegistryError, Request, Session, Transport};

/// Asks a registry and its mirrors about one repository.
pub(super) struct Asker<'a> {
    pub(super) options: &'a PullOptions,
    pub(super) progress: ProgressFn,
    pub(super) cancel: CancellationToken,
    /// The mirrors' in order, then the registry's own.
    sessions: Vec<Session>,
    /// The session that served last: a mirror that is down is not asked for every layer.
    preferred: AtomicUsize,
}

impl<'a> Asker<'a> {
    pub(super) async fn new(
        reference: &Reference,
        options: &'a PullOptions,
        progress: ProgressFn,
        cancel: CancellationToken,
    ) -> Result<Self, Failure> {
        let (timeouts, proxy) = (options.timeouts.clone(), options.proxy);
        let certificates = options.ca_certificates.clone();
        let transport = blocking(move || Transport::new(&timeouts, proxy, &certificates)).await??;
        let sessions = registry::sessions(reference, options, &Arc::new(transport)).map_err(Failure::Address)?;
        Ok(Self {
            options,
            progress,
            cancel,
            sessions,
            preferred: AtomicUsize::new(0),
        })
    }

    /// A round through the sessions, for something that any of them may have.
    pub(super) fn round(&self) -> Round<'_> {
        Round {
            asker: self,
            first: self.preferred.load(Ordering::Relaxed),
            asked: 0,
            errors: Vec::new(),
        }
    }

    /// Waits before the next attempt, or gives the error back if there is to be none.
    pub(super) async fn pause(&self, backoff: &mut Backoff<'_>, error: RegistryError) -> Result<(), Failure> {
        let Some(delay) = backoff.delay(&error) else {
            return Err(error.into());
        };
        tracing::debug!(%error, ?delay, "trying again");
        (self.progress)(Progress::Retrying {
            attempt: backoff.next_attempt(),
            delay,
            error: error.to_string(),
        });
        self.or_cancelled(tokio::time::sleep(delay)).await
    }

    async fn or_cancelled<T>(&self, work: impl Future<Output = T>) -> Result<T, Failure> {
        self.cancel.run_until_cancelled(work).await.ok_or(Failure::Cancelled)
    }

    /// What a tag stands for: from the headers if they say it.
    pub(super) async fn digest_of_tag(&self, tag: &str) -> Result<Digest, Failure> {
        let mut round = self.round();
        while let Some(session) = round.next_session() {
            match self.head(session, tag).await {
                Ok(digest) => return Ok(digest),
                Err(failure) => round.failed(failure)?,
            }
        }
        Err(round.give_up())
    }

    async fn head(&self, session: &Session, tag: &str) -> Result<Digest, Failure> {
        let path = format!("manifests/{tag}");
        let headers = accept_manifests();
        let mut backoff = Backoff::new(&self.options.retry);
        loop {
            match self
                .or_cancelled(session.request(&Method::HEAD, &path, &headers))
                .await?
            {
                Ok(answer) => match announced_digest(&answer)? {
                    Some(digest) => return Ok(digest),
                    None => break,
                },
                // Some registries know only GET.
                Err(RegistryError::Status {
                    status: 400 | 405 | 501,
                    ..
                }) => break,
                Err(error) => self.pause(&mut backoff, error).await?,
            }
        }
        let (json, _) = self.manifest_from(session, tag, None).await?;
        Ok(Digest::sha256(&json))
    }

    /// Fetches a manifest or index by tag or digest: its text, and the media type that is
    /// announced.
    pub(super) async fn manifest(
        &self,
        name: &str,
        expected: Option<&Digest>,
    ) -> Result<(Vec<u8>, Option<String>), Failure> {
        let mut round = self.round();
        while let Some(session) = round.next_session() {
            match self.manifest_from(session, name, expected).await {
                Ok(found) => {
                    round.succeeded();
                    return Ok(found);
                }
                Err(failure) => round.failed(failure)?,
            }
        }
        Err(round.give_up())
    }

    async fn manifest_from(
        &self,
        session: &Session,
        name: &str,
        expected: Option<&Digest>,
    ) -> Result<(Vec<u8>, Option<String>), Failure> {
        let path = format!("manifests/{name}");
        let mut backoff = Backoff::new(&self.options.retry);
        loop {
            let got = self.or_cancelled(get_manifest(
                session,
                &path,
                expected,
                self.options.limits.document_bytes,
            ));
            match got.await? {
                Ok(found) => return Ok(found),
                Err(error) => self.pause(&mut backoff, error).await?,
            }
        }
    }
}

/// Which sessions have been asked for something, and what came of it.
pub(super) struct Round<'a> {
    asker: &'a Asker<'a>,
    first: usize,
    asked: usize,
    errors: Vec<(usize, RegistryError)>,
}

impl<'a> Round<'a> {
    fn current(&self) -> usize {
        (self.first + self.asked - 1) % self.asker.sessions.len()
    }

    /// The next to ask: the one that served last, then the others in their order.
    pub(super) fn next_session(&mut self) -> Option<&'a Session> {
        if self.asked == self.asker.sessions.len() {
            return None;
        }
        self.asked += 1;
        self.asker.sessions.get(self.current())
    }

    pub(super) fn succeeded(&self) {
        self.asker.preferred.store(self.current(), Ordering::Relaxed);
    }

    /// Notes that a session failed; gives back what another session can't help with.
    pub(super) fn failed(&mut self, failure: Failure) -> Result<(), Failure> {
        let Failure::Registry { error, .. } = failure else {
            return Err(failure);
        };
        tracing::warn!(%error, "asking failed");
        self.errors.push((self.current(), *error));
        Ok(())
    }

    /// The failure of a round in which nobody helped.
    pub(super) fn give_up(mut self) -> Failure {
        // What the registry itself says counts; its mirrors often just don't have it.
        self.errors.sort_by_key(|(index, _)| *index);
        match self.errors.pop() {
            Some((_, error)) => Failure::Registry {
                error: Box::new(error),
                earlier: self.errors.into_iter().map(|(_, error)| error).collect(),
            },
            None => Failure::Cancelled,
        }
    }
}

async fn get_manifest(
    session: &Session,
    path: &str,
    expected: Option<&Digest>,
    limit_bytes: u64,
) -> Result<(Vec<u8>, Option<String>), RegistryError> {
    let mut answer = session.request(&Method::GET, path, &accept_manifests()).await?;
    let json = answer.collect(limit_bytes).await?;
    let expected = match expected {
        Some(expected) => Some(expected.clone()),
        None => announced_digest(&answer)?,
    };
    if let Some(expected) = expected {
        let mut hasher = Hasher::new(expected.algorithm());
        hasher.update(&json);
        let actual = hasher.finish();
        if actual != expected {
            return Err(RegistryError::Digest {
                request: answer.request,
                expected,
                actual,
            });
        }
    }
    let media_type = answer.header("content-type").map(str::to_owned);
    Ok((json, media_type))
}

fn accept_manifests() -> HeaderMap {
    [OCI_INDEX, OCI_MANIFEST, DOCKER_INDEX, DOCKER_MANIFEST]
        .into_iter()
        .map(|media_type| (ACCEPT, HeaderValue::from_static(media_type)))
        .collect()
}

/// The digest in the headers, if there is one. A malformed one is not passed over: whoever
/// gives a digest wants it to be compared.
fn announced_digest(answer: &Answer) -> Result<Option<Digest>, RegistryError> {
    let Some(text) = answer.header("docker-content-digest") else {
        return Ok(None);
    };
    Digest::parse(text).map(Some).map_err(|_| RegistryError::Protocol {
        request: Box::<Request>::clone(&answer.request),
        problem: "Docker-Content-Digest is no digest",
    })
}
