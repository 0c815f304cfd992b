use std::time::Duration;

use bytes::Bytes;
use http::header::{CONTENT_RANGE, HeaderMap, RANGE};
use http::{HeaderValue, Method};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use super::ask::Asker;
use super::{Failure, blocking};
use crate::content::{Claim, CommitError, ContentError, ContentStore, Partial};
use crate::digest::Digest;
use crate::document::Descriptor;
use crate::kind::ErrorKind;
use crate::progress::{LayerState, Meter, Progress};
use crate::registry::{Answer, Backoff, RegistryError, Session};

/// How often it is looked whether another pull has finished a blob.
const LOOK_AGAIN: Duration = Duration::from_millis(150);
/// Pieces of an answer that may wait for the disk.
const QUEUED_PIECES: usize = 64;
/// As much as makes a failed attempt count as progress.
const PROGRESS_BYTES: u64 = 256 << 10;

/// Gets one blob into the store.
pub(super) struct Download<'a> {
    pub(super) asker: &'a Asker<'a>,
    pub(super) store: &'a ContentStore,
    pub(super) descriptor: &'a Descriptor,
    pub(super) cancel: &'a CancellationToken,
    /// Whether the listener hears of it.
    pub(super) is_layer: bool,
}

/// How one attempt at one endpoint ended.
enum Ended {
    Complete,
    Failed(RegistryError),
    Cancelled,
}

impl Download<'_> {
    pub(super) async fn run(&self) -> Result<(), Failure> {
        let Some(partial) = self.claim().await? else {
            self.tell(self.descriptor.size, LayerState::Exists);
            return Ok(());
        };
        self.tell(partial.written_bytes(), LayerState::Downloading);
        let mut slot = Some(partial);
        let outcome = self.download(&mut slot).await;
        // Closed before anyone hears of it, so that the lock is free by then.
        blocking(move || drop(slot)).await?;
        outcome?;
        self.tell(self.descriptor.size, LayerState::Done);
        Ok(())
    }

    async fn download(&self, slot: &mut Option<Box<Partial>>) -> Result<(), Failure> {
        let mut round = self.asker.round();
        while let Some(session) = round.next_session() {
            match self.download_from(session, slot).await {
                Ok(()) => {
                    round.succeeded();
                    return Ok(());
                }
                Err(failure) => round.failed(failure)?,
            }
        }
        Err(round.give_up())
    }

    fn tell(&self, current_bytes: u64, state: LayerState) {
        if self.is_layer {
            (self.asker.progress)(self.event(current_bytes, state));
        }
    }

    fn event(&self, current_bytes: u64, state: LayerState) -> Progress {
        Progress::Layer {
            digest: self.descriptor.digest.clone(),
            current_bytes,
            total_bytes: self.descriptor.size,
            state,
        }
    }

    /// Waits until the blob is there or is ours to download.
    async fn claim(&self) -> Result<Option<Box<Partial>>, Failure> {
        let mut is_told = false;
        loop {
            let (store, digest) = (self.store.clone(), self.descriptor.digest.clone());
            let size = self.descriptor.size;
            match blocking(move || Partial::claim(&store, &digest, size)).await? {
                Ok(Claim::Exists) => return Ok(None),
                Ok(Claim::Mine(partial)) => return Ok(Some(partial)),
                Ok(Claim::Busy) => {}
                // The store's own copy is damaged; what is downloaded replaces it.
                Err(error @ ContentError::Digest { .. }) => {
                    tracing::warn!(%error, "the content store is damaged");
                    let (store, digest) = (self.store.clone(), self.descriptor.digest.clone());
                    blocking(move || store.discard_damaged(&digest)).await??;
                    continue;
                }
                Err(error) => return Err(error.into()),
            }
            if !is_told {
                self.tell(0, LayerState::Waiting);
                is_told = true;
            }
            let slept = self.cancel.run_until_cancelled(tokio::time::sleep(LOOK_AGAIN)).await;
            slept.ok_or(Failure::Cancelled)?;
        }
    }

    /// Downloads from one endpoint, as often as the policy allows. The partial is taken from
    /// the slot and put back, whatever happens.
    async fn download_from(&self, session: &Session, slot: &mut Option<Box<Partial>>) -> Result<(), Failure> {
        let mut backoff = Backoff::new(&self.asker.options.retry);
        let mut may_restart = true;
        loop {
            let Some(mut partial) = slot.take() else {
                return Err(Failure::Cancelled);
            };
            let began_at = partial.written_bytes();
            let (ended, returned) = self.attempt(session, partial).await?;
            partial = returned;
            let grew = partial.written_bytes().saturating_sub(began_at);
            match ended {
                Ended::Cancelled => {
                    *slot = Some(partial);
                    return Err(Failure::Cancelled);
                }
                Ended::Failed(error) => {
                    *slot = Some(partial);
                    if grew >= PROGRESS_BYTES {
                        backoff.progressed();
                    }
                    self.cancel
                        .run_until_cancelled(self.asker.pause(&mut backoff, error))
                        .await
                        .ok_or(Failure::Cancelled)??;
                }
                Ended::Complete => {
                    let (committed, partial) = blocking(move || {
                        let committed = partial.commit();
                        (committed, partial)
                    })
                    .await?;
                    *slot = Some(partial);
                    match committed {
                        Ok(()) => return Ok(()),
                        Err(CommitError::Content(error)) => return Err(error.into()),
                        // What was resumed may have been at fault; once it is tried from the
                        // beginning.
                        Err(CommitError::Digest { .. }) if began_at > 0 && may_restart => {
                            may_restart = false;
                        }
                        Err(CommitError::Digest { actual }) => {
                            return Err(self.wrong_digest(session, actual).into());
                        }
                    }
                }
            }
        }
    }

    fn path(&self) -> String {
        format!("blobs/{}", self.descriptor.digest)
    }

    fn wrong_digest(&self, session: &Session, actual: Digest) -> RegistryError {
        let expected = self.descriptor.digest.clone();
        let request = session.describe(&self.path());
        RegistryError::Digest {
            request,
            expected,
            actual,
        }
    }

    /// Asks once for what is missing and writes what comes.
    async fn attempt(&self, session: &Session, mut partial: Box<Partial>) -> Result<(Ended, Box<Partial>), Failure> {
        let offset = partial.written_bytes();
        if offset == partial.size_bytes() {
            return Ok((Ended::Complete, partial));
        }
        let mut headers = HeaderMap::new();
        if offset > 0
            && let Ok(range) = HeaderValue::from_str(&format!("bytes={offset}-"))
        {
            headers.insert(RANGE, range);
        }
        let path = self.path();
        let asked = session.request(&Method::GET, &path, &headers);
        let answer = match self.cancel.run_until_cancelled(asked).await {
            None => return Ok((Ended::Cancelled, partial)),
            Some(Ok(answer)) => answer,
            // The registry can't go on there: then from the beginning.
            Some(Err(RegistryError::Status { status: 416, .. })) if offset > 0 => {
                let partial = restart(partial).await?;
                return Box::pin(self.attempt(session, partial)).await;
            }
            Some(Err(error)) => return Ok((Ended::Failed(error), partial)),
        };
        let begin = match self.beginning(&answer, offset) {
            Ok(begin) => begin,
            Err(error) => return Ok((Ended::Failed(error), partial)),
        };
        if begin != offset {
            partial = restart(partial).await?;
        }
        self.receive(answer, partial).await
    }

    /// Where in the blob the answer begins, if its headers fit together with the descriptor.
    fn beginning(&self, answer: &Answer, offset: u64) -> Result<u64, RegistryError> {
        let size = self.descriptor.size;
        let begin = match answer.status().as_u16() {
            206 => {
                let range = answer.header(CONTENT_RANGE.as_str()).and_then(parse_content_range);
                match range {
                    Some(range) if range.begin == offset => {}
                    _ => {
                        return Err(RegistryError::Protocol {
                            request: answer.request.clone(),
                            problem: "Content-Range does not fit the Range that was asked for",
                        });
                    }
                }
                if let Some(total) = range.and_then(|range| range.total).filter(|t| *t != size) {
                    return Err(self.wrong_size(answer, total));
                }
                offset
            }
            _ => 0,
        };
        match answer.content_length() {
            Some(length) if begin.checked_add(length) != Some(size) => {
                // A range may end early; the rest is asked for then.
                if answer.status().as_u16() == 206 && length < size - begin {
                    return Ok(begin);
                }
                Err(self.wrong_size(answer, begin.saturating_add(length)))
            }
            _ => Ok(begin),
        }
    }

    fn wrong_size(&self, answer: &Answer, actual_bytes: u64) -> RegistryError {
        let expected_bytes = self.descriptor.size;
        RegistryError::Size {
            request: answer.request.clone(),
            expected_bytes,
            actual_bytes,
        }
    }

    /// Writes the answer's body to the partial, in a thread of its own: the network does not
    /// wait for hashing and the disk, nor they for it.
    async fn receive(&self, mut answer: Answer, partial: Box<Partial>) -> Result<(Ended, Box<Partial>), Failure> {
        let size = partial.size_bytes();
        let mut current = partial.written_bytes();
        let mut meter = Meter::new(&self.asker.progress);
        let sink = Sink::open(partial);
        let ended = loop {
            let chunk = match self.cancel.run_until_cancelled(answer.chunk()).await {
                None => break Ended::Cancelled,
                Some(Err(error)) => break Ended::Failed(error),
                Some(Ok(chunk)) => chunk,
            };
            let Some(chunk) = chunk else {
                break if current == size {
                    Ended::Complete
                } else {
                    Ended::Failed(RegistryError::Truncated {
                        request: answer.request.clone(),
                        received_bytes: current,
                        expected_bytes: size,
                    })
                };
            };
            current = current.saturating_add(chunk.len() as u64);
            if current > size {
                break Ended::Failed(self.wrong_size(&answer, current));
            }
            // Refused only if writing failed, which closing the sink tells.
            if sink.pieces.send(chunk).await.is_err() {
                break Ended::Cancelled;
            }
            if self.is_layer {
                meter.tick(current, || self.event(current, LayerState::Downloading));
            }
        };
        let partial = sink.close().await?;
        Ok((ended, partial))
    }
}

async fn restart(mut partial: Box<Partial>) -> Result<Box<Partial>, Failure> {
    blocking(move || partial.restart().map(|()| partial))
        .await?
        .map_err(Failure::Content)
}

/// A thread that hashes and writes what it is sent.
struct Sink {
    pieces: mpsc::Sender<Bytes>,
    writer: JoinHandle<Result<Box<Partial>, ContentError>>,
}

impl Sink {
    fn open(mut partial: Box<Partial>) -> Self {
        let (pieces, mut queue) = mpsc::channel::<Bytes>(QUEUED_PIECES);
        let writer = tokio::task::spawn_blocking(move || {
            while let Some(piece) = queue.blocking_recv() {
                if let Err(error) = partial.append(&piece) {
                    // On a full disk what was begun is in the way of whatever frees space.
                    if error.kind() == ErrorKind::NoSpace {
                        partial.restart()?;
                    }
                    return Err(error);
                }
            }
            Ok(partial)
        });
        Self { pieces, writer }
    }

    /// Waits until everything sent is written.
    async fn close(self) -> Result<Box<Partial>, Failure> {
        drop(self.pieces);
        match self.writer.await {
            Ok(partial) => Ok(partial?),
            Err(error) => match error.try_into_panic() {
                Ok(panic) => std::panic::resume_unwind(panic),
                Err(_) => Err(Failure::Cancelled),
            },
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct ContentRange {
    begin: u64,
    total: Option<u64>,
}

/// Reads `bytes BEGIN-END/TOTAL` (RFC 9110, section 14.4).
fn parse_content_range(value: &str) -> Option<ContentRange> {
    let (range, total) = value.trim().strip_prefix("bytes ")?.split_once('/')?;
    let (begin, end) = range.split_once('-')?;
    let (begin, end): (u64, u64) = (begin.trim().parse().ok()?, end.trim().parse().ok()?);
    let total = match total.trim() {
        "*" => None,
        total => Some(total.parse().ok()?),
    };
    (begin <= end && total.is_none_or(|total| end < total)).then_some(ContentRange { begin, total })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn content_ranges() {
        let parsed = |value| parse_content_range(value).map(|r| (r.begin, r.total));
        assert_eq!(parsed("bytes 5-9/10"), Some((5, Some(10))));
        assert_eq!(parsed("bytes 5-9/*"), Some((5, None)));
        for bad in [
            "",
            "5-9/10",
            "bytes 9-5/10",
            "bytes 5-10/10",
            "bytes */10",
            "bytes 5-x/10",
        ] {
            assert_eq!(parsed(bad), None, "{bad}");
        }
    }

    proptest! {
        #[test]
        fn any_content_range_parses_or_fails_cleanly(value in ".{0,40}") {
            let _ = parse_content_range(&value);
        }
    }
}
