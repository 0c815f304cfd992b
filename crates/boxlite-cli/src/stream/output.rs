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

/// Where pieces go; may block.
pub(crate) trait Sink: Send + 'static {
    /// What is written at once.
    type Piece: Send + 'static;

    /// Writes all of it.
    fn write(&mut self, piece: Self::Piece) -> io::Result<()>;
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
    type Piece = Bytes;

    fn write(&mut self, piece: Bytes) -> io::Result<()> {
        let fd = self.fd();
        let mut bytes = &piece[..];
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

/// Stdout and stderr in the order in which pieces for them come.
#[derive(Debug)]
pub(crate) struct BothStreams;

impl Sink for BothStreams {
    type Piece = (StdStream, Bytes);

    fn write(&mut self, (mut stream, bytes): Self::Piece) -> io::Result<()> {
        stream.write(bytes)
    }
}

/// A sink that blocks in a thread of its own, which ends with the process at the
/// latest: a runtime's shutdown does not wait for it.
#[derive(Debug)]
pub(crate) struct Writer<S: Sink> {
    pieces: mpsc::Sender<S::Piece>,
    outcome: oneshot::Receiver<io::Result<()>>,
}

impl<S: Sink> Writer<S> {
    /// Starts the thread.
    pub(crate) fn start(mut sink: S) -> io::Result<Self> {
        let (pieces, mut incoming) = mpsc::channel(1);
        let (finished, outcome) = oneshot::channel();
        thread::Builder::new().name("output".to_owned()).spawn(move || {
            let mut result = Ok(());
            while let Some(piece) = incoming.blocking_recv() {
                result = sink.write(piece);
                if result.is_err() {
                    break;
                }
            }
            // Before the receiver goes, so that the outcome is there when sending fails.
            let _ = finished.send(result);
        })?;
        Ok(Self { pieces, outcome })
    }

    /// Hands a piece over as soon as the one before is being written. Says whether
    /// the sink still takes any; [`finish`](Self::finish) says why not.
    pub(crate) async fn write(&self, piece: S::Piece) -> bool {
        self.pieces.send(piece).await.is_ok()
    }

    /// Waits until the sink takes no more.
    async fn closed(&self) {
        self.pieces.closed().await;
    }

    /// Waits until everything is written, or the sink has failed.
    pub(crate) async fn finish(self) -> io::Result<()> {
        drop(self.pieces);
        // A sender that is gone without a word means that the thread panicked.
        self.outcome.await.unwrap_or_else(|_| Err(io::ErrorKind::Other.into()))
    }
}

/// Moves everything from `reader` to `sink`: a slow sink stops the reading, two pieces
/// ahead.
pub(crate) async fn pump(mut reader: impl AsyncRead + Unpin, sink: impl Sink<Piece = Bytes>) -> Result<u64, PumpError> {
    let writer = Writer::start(sink).map_err(PumpError::Write)?;
    let mut moved = 0;
    let mut buffer = BytesMut::new();
    let mut read_result = Ok(());
    loop {
        buffer.reserve(PIECE_BYTES);
        tokio::select! {
            // A write that failed is noticed while the box is silent, too.
            () = writer.closed() => break,
            read = reader.read_buf(&mut buffer) => match read {
                Ok(0) => break,
                Ok(count) => {
                    moved += count as u64;
                    if !writer.write(buffer.split().freeze()).await {
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
    writer.finish().await.map_err(PumpError::Write)?;
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
        type Piece = Bytes;

        fn write(&mut self, bytes: Bytes) -> io::Result<()> {
            self.0.lock().unwrap().extend_from_slice(&bytes);
            Ok(())
        }
    }

    struct Closed;

    impl Sink for Closed {
        type Piece = Bytes;

        fn write(&mut self, _: Bytes) -> io::Result<()> {
            Err(io::ErrorKind::BrokenPipe.into())
        }
    }

    /// Takes a piece only when it is let to.
    struct Gated(std::sync::mpsc::Receiver<()>);

    impl Sink for Gated {
        type Piece = Bytes;

        fn write(&mut self, _: Bytes) -> io::Result<()> {
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
