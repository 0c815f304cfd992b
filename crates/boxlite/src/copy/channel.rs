//! Between blocking tar code and asynchronous streams: bounded queues of pieces.

use std::io::{Read, Write};
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::{Buf, Bytes, BytesMut};
use futures_util::Stream;
use tokio::sync::mpsc;

use boxlite_protocol::TAR_CHUNK_BYTES;

/// Pieces that are on their way between the two sides.
const QUEUED_PIECES: usize = 4;

/// A queue of pieces from blocking to asynchronous code.
pub(crate) fn to_async() -> (PieceWriter, mpsc::Receiver<Bytes>) {
    let (sender, receiver) = mpsc::channel(QUEUED_PIECES);
    let writer = PieceWriter {
        sender,
        piece: BytesMut::with_capacity(TAR_CHUNK_BYTES),
    };
    (writer, receiver)
}

/// A queue of pieces from asynchronous to blocking code. The reader's end of data is an
/// error unless the sender was [finished](PieceSender::finish).
pub(crate) fn to_blocking() -> (PieceSender, PieceReader) {
    let (sender, receiver) = mpsc::channel(QUEUED_PIECES);
    (
        PieceSender { sender },
        PieceReader {
            receiver,
            piece: Bytes::new(),
            is_finished: false,
        },
    )
}

/// Cuts what is written into pieces. Blocks while the queue is full; fails once nobody
/// takes the pieces any more, which is how the asynchronous side ends the blocking one.
#[derive(Debug)]
pub(crate) struct PieceWriter {
    sender: mpsc::Sender<Bytes>,
    piece: BytesMut,
}

impl PieceWriter {
    fn send(&mut self) -> std::io::Result<()> {
        if self.piece.is_empty() {
            return Ok(());
        }
        let piece = self.piece.split().freeze();
        self.piece.reserve(TAR_CHUNK_BYTES);
        self.sender
            .blocking_send(piece)
            .map_err(|_| std::io::ErrorKind::BrokenPipe.into())
    }
}

impl Write for PieceWriter {
    fn write(&mut self, data: &[u8]) -> std::io::Result<usize> {
        let count = data.len().min(TAR_CHUNK_BYTES - self.piece.len());
        self.piece.extend_from_slice(&data[..count]);
        if self.piece.len() == TAR_CHUNK_BYTES {
            self.send()?;
        }
        Ok(count)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        self.send()
    }
}

/// The asynchronous end of [`to_blocking`].
#[derive(Debug)]
pub(crate) struct PieceSender {
    sender: mpsc::Sender<Option<Bytes>>,
}

impl PieceSender {
    /// Hands a piece on; whether anybody still takes them.
    pub(crate) async fn send(&self, piece: Bytes) -> bool {
        self.sender.send(Some(piece)).await.is_ok()
    }

    /// Says that the data is complete.
    pub(crate) async fn finish(self) {
        // Who does not listen any more needs no end either.
        let _ = self.sender.send(None).await;
    }
}

/// The blocking end of [`to_blocking`].
#[derive(Debug)]
pub(crate) struct PieceReader {
    receiver: mpsc::Receiver<Option<Bytes>>,
    piece: Bytes,
    is_finished: bool,
}

impl Read for PieceReader {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        while self.piece.is_empty() && !self.is_finished {
            match self.receiver.blocking_recv() {
                Some(Some(piece)) => self.piece = piece,
                Some(None) => self.is_finished = true,
                None => return Err(std::io::ErrorKind::UnexpectedEof.into()),
            }
        }
        let count = self.piece.len().min(buffer.len());
        self.piece.copy_to_slice(&mut buffer[..count]);
        Ok(count)
    }
}

/// A queue of pieces with something before the first.
#[derive(Debug)]
pub(crate) struct Pieces<M> {
    start: Option<M>,
    pieces: mpsc::Receiver<Bytes>,
    wrap: fn(Bytes) -> M,
}

impl<M> Pieces<M> {
    pub(crate) fn new(start: M, pieces: mpsc::Receiver<Bytes>, wrap: fn(Bytes) -> M) -> Self {
        Self {
            start: Some(start),
            pieces,
            wrap,
        }
    }
}

impl<M: Unpin> Stream for Pieces<M> {
    type Item = M;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<M>> {
        if let Some(start) = self.start.take() {
            return Poll::Ready(Some(start));
        }
        let piece = std::task::ready!(self.pieces.poll_recv(context));
        Poll::Ready(piece.map(self.wrap))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn what_is_written_arrives_in_pieces() {
        let (mut writer, mut pieces) = to_async();
        let data: Vec<u8> = (0..3 * TAR_CHUNK_BYTES + 5).map(|index| (index % 251) as u8).collect();
        let expected = data.clone();
        let writing = tokio::task::spawn_blocking(move || {
            writer.write_all(&data).unwrap();
            writer.flush().unwrap();
        });
        let mut all = Vec::new();
        while let Some(piece) = pieces.recv().await {
            assert!(piece.len() <= TAR_CHUNK_BYTES);
            all.extend_from_slice(&piece);
        }
        writing.await.unwrap();
        assert_eq!(all, expected);
    }

    #[tokio::test]
    async fn a_writer_ends_when_nobody_takes_its_pieces() {
        let (mut writer, pieces) = to_async();
        drop(pieces);
        let error = tokio::task::spawn_blocking(move || writer.write_all(&[0; TAR_CHUNK_BYTES + 1]).unwrap_err())
            .await
            .unwrap();
        assert_eq!(error.kind(), std::io::ErrorKind::BrokenPipe);
    }

    #[tokio::test]
    async fn only_a_finished_stream_ends_well() {
        for is_finished in [true, false] {
            let (sender, mut reader) = to_blocking();
            let reading = tokio::task::spawn_blocking(move || {
                let mut all = Vec::new();
                reader.read_to_end(&mut all).map(|_| all)
            });
            assert!(sender.send(Bytes::from_static(b"abc")).await);
            if is_finished {
                sender.finish().await;
                assert_eq!(reading.await.unwrap().unwrap(), b"abc");
            } else {
                drop(sender);
                let error = reading.await.unwrap().unwrap_err();
                assert_eq!(error.kind(), std::io::ErrorKind::UnexpectedEof);
            }
        }
    }
}
