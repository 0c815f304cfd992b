//! From a box to this process's stdout or stderr.

use std::io;
use std::os::fd::BorrowedFd;
use std::thread;

use bytes::{Bytes, BytesMut};
use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::Errno;
use thiserror::Error;
use tokio::io::{AsyncRead, AsyncReadExt};
use tokio::sync::{mpsc, oneshot};

use super::PIECE_BYTES;

/// Why not all bytes arrived.
#[derive(Debug, Error)]
pub(crate) enum PumpError {
    /// The box's side failed.
    #[error("reading the box's output: {0}")]
    Read(#[source] io::Error),
    /// The caller's side failed; a broken pipe among others.
    #[error("writing the box's output: {0}")]
    Write(#[source] io::Error),
}

/// Where bytes go; may block.
pub(crate) trait Sink: Send + 'static {
    /// Writes all of it.
    fn write_all(&mut self, bytes: &[u8]) -> io::Result<()>;
}

/// This process's stdout or stderr, without a buffer.
#[derive(Debug, Clone, Copy)]
pub(crate) enum StdStream {
    Out,
    Err,
}

impl StdStream {
    fn fd(self) -> BorrowedFd<'static> {
        match self {
            Self::Out => rustix::stdio::stdout(),
            Self::Err => rustix::stdio::stderr(),
        }
    }
}

impl Sink for StdStream {
    fn write_all(&mut self, mut bytes: &[u8]) -> io::Result<()> {
        let fd = self.fd();
        while !bytes.is_empty() {
            match rustix::io::write(fd, bytes) {
                Ok(written) => bytes = &bytes[written..],
                Err(Errno::INTR) => {}
                // Somebody else made the open file description non-blocking.
                Err(Errno::AGAIN) => {
                    let _ = poll(&mut [PollFd::new(&fd, PollFlags::OUT)], None);
                }
                Err(errno) => return Err(errno.into()),
            }
        }
        Ok(())
    }
}

/// Writes one piece, without holding up the other tasks.
pub(crate) async fn write(mut stream: StdStream, piece: Bytes) -> io::Result<()> {
    tokio::task::spawn_blocking(move || stream.write_all(&piece))
        .await
        .map_err(io::Error::other)?
}

/// Moves everything from `reader` to `sink`, which blocks in a thread of its own:
/// a slow sink stops the reading, two pieces ahead.
pub(crate) async fn pump(mut reader: impl AsyncRead + Unpin, mut sink: impl Sink) -> Result<u64, PumpError> {
    let (pieces, mut incoming) = mpsc::channel::<Bytes>(1);
    let (finished, outcome) = oneshot::channel();
    thread::Builder::new()
        .name("output".to_owned())
        .spawn(move || {
            let mut result = Ok(());
            while let Some(piece) = incoming.blocking_recv() {
                result = sink.write_all(&piece);
                if result.is_err() {
                    break;
                }
            }
            // Before the receiver goes, so that the outcome is there when sending fails.
            let _ = finished.send(result);
        })
        .map_err(PumpError::Write)?;

    let mut moved = 0;
    let mut buffer = BytesMut::new();
    let mut read_result = Ok(());
    loop {
        buffer.reserve(PIECE_BYTES);
        tokio::select! {
            // A reader of ours that is gone is noticed while the box is silent, too.
            () = pieces.closed() => break,
            read = reader.read_buf(&mut buffer) => match read {
                Ok(0) => break,
                Ok(count) => {
                    moved += count as u64;
                    if pieces.send(buffer.split().freeze()).await.is_err() {
                        break;
                    }
                }
                Err(error) => {
                    read_result = Err(PumpError::Read(error));
                    break;
                }
            },
        }
    }
    drop(pieces);
    // A sender that is gone without a word means that the thread panicked.
    let written = outcome.await.unwrap_or_else(|_| Err(io::ErrorKind::Other.into()));
    written.map_err(PumpError::Write)?;
    read_result.map(|()| moved)
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU64, Ordering};
    use std::sync::{Arc, Mutex};

    use tokio::io::AsyncWriteExt;

    use super::*;

    #[derive(Clone, Default)]
    struct Collected(Arc<Mutex<Vec<u8>>>);

    impl Sink for Collected {
        fn write_all(&mut self, bytes: &[u8]) -> io::Result<()> {
            self.0.lock().unwrap().extend_from_slice(bytes);
            Ok(())
        }
    }

    struct Closed;

    impl Sink for Closed {
        fn write_all(&mut self, _: &[u8]) -> io::Result<()> {
            Err(io::ErrorKind::BrokenPipe.into())
        }
    }

    /// Takes a piece only when it is let to.
    struct Gated(std::sync::mpsc::Receiver<()>);

    impl Sink for Gated {
        fn write_all(&mut self, _: &[u8]) -> io::Result<()> {
            self.0.recv().map_err(|_| io::ErrorKind::BrokenPipe.into())
        }
    }

    #[tokio::test]
    async fn bytes_are_exact() {
        let bytes: Vec<u8> = (0..1_000_003_u32).map(|n| (n % 251) as u8).collect();
        let collected = Collected::default();
        let moved = pump(&bytes[..], collected.clone()).await.unwrap();
        assert_eq!(moved, bytes.len() as u64);
        assert!(*collected.0.lock().unwrap() == bytes);
    }

    #[tokio::test]
    async fn a_closed_sink_ends_it() {
        let result = pump(tokio::io::repeat(b'y'), Closed).await;
        let Err(PumpError::Write(error)) = result else {
            panic!("{result:?}");
        };
        assert_eq!(error.kind(), io::ErrorKind::BrokenPipe);
    }

    #[tokio::test]
    async fn a_slow_sink_stops_the_reading() {
        let (let_go, gate) = std::sync::mpsc::channel();
        let (mut box_side, our_side) = tokio::io::duplex(1024);
        let written = Arc::new(AtomicU64::new(0));
        let writer = {
            let written = Arc::clone(&written);
            tokio::spawn(async move {
                while box_side.write_all(&[0; 1024]).await.is_ok() {
                    written.fetch_add(1024, Ordering::Relaxed);
                }
            })
        };
        let pumping = tokio::spawn(pump(our_side, Gated(gate)));
        // With nobody reading, the writer comes to rest: what it has written does not
        // change over many turns of this (single-threaded) runtime.
        let mut before = u64::MAX;
        loop {
            for _ in 0..1000 {
                tokio::task::yield_now().await;
            }
            let now = written.load(Ordering::Relaxed);
            if now == before {
                break;
            }
            before = now;
        }
        assert!(before <= 4 * PIECE_BYTES as u64, "{before} bytes were read ahead");
        drop(let_go);
        let result = pumping.await.unwrap();
        assert!(matches!(result, Err(PumpError::Write(_))), "{result:?}");
        writer.await.unwrap();
    }
}
