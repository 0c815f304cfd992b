//! From this process's stdin to a box.
//!
//! The thread that reads can't be woken from `read(2)`: it ends with the process.

use std::io;
use std::thread;

use bytes::Bytes;
use futures_util::stream;
use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::Errno;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt};
use tokio::sync::mpsc;
use tokio_util::io::StreamReader;

use super::PIECE_BYTES;
use crate::output;

type Piece = io::Result<Bytes>;

/// This process's stdin.
pub(crate) fn stdin_reader() -> impl AsyncRead + Send + Unpin + 'static {
    let pieces = stream::unfold(stdin_pieces(), |mut incoming| async move {
        incoming.recv().await.map(|piece| (piece, incoming))
    });
    StreamReader::new(Box::pin(pieces))
}

/// Moves stdin to `writer` and closes that at the end of the input. A box that
/// reads slowly stops the reading, two pieces ahead.
pub(crate) async fn forward_stdin(writer: impl AsyncWrite + Unpin) {
    forward(stdin_pieces(), writer).await;
}

/// Reads stdin in a thread of its own.
fn stdin_pieces() -> mpsc::Receiver<Piece> {
    let (pieces, incoming) = mpsc::channel(1);
    let failed = pieces.clone();
    let spawned = thread::Builder::new()
        .name("stdin".to_owned())
        .spawn(move || read_stdin(&pieces));
    if let Err(error) = spawned {
        // There is room for one piece, and this is the first.
        let _ = failed.try_send(Err(error));
    }
    incoming
}

fn read_stdin(pieces: &mpsc::Sender<Piece>) {
    let stdin = rustix::stdio::stdin();
    let mut buffer = vec![0; PIECE_BYTES];
    loop {
        match rustix::io::read(stdin, &mut buffer[..]) {
            Ok(0) => return,
            Ok(count) => {
                if pieces
                    .blocking_send(Ok(Bytes::copy_from_slice(&buffer[..count])))
                    .is_err()
                {
                    return;
                }
            }
            Err(Errno::INTR) => {}
            // The terminal is gone, or this process is in its background for good.
            Err(Errno::IO) => return,
            Err(Errno::AGAIN) => {
                let _ = poll(&mut [PollFd::new(&stdin, PollFlags::IN)], None);
            }
            Err(errno) => {
                let _ = pieces.blocking_send(Err(errno.into()));
                return;
            }
        }
    }
}

/// A box that closed its stdin is no failure: what was not read is dropped.
async fn forward(mut incoming: mpsc::Receiver<Piece>, mut writer: impl AsyncWrite + Unpin) {
    while let Some(piece) = incoming.recv().await {
        let piece = match piece {
            Ok(piece) => piece,
            Err(error) => {
                output::warn(&format!("reading standard input: {error}"));
                break;
            }
        };
        if let Err(error) = writer.write_all(&piece).await {
            tracing::debug!(%error, "the box takes no more input");
            return;
        }
        // Keys must arrive before the next one is pressed.
        if incoming.is_empty() && writer.flush().await.is_err() {
            return;
        }
    }
    let _ = writer.shutdown().await;
}

#[cfg(test)]
mod tests {
    use tokio::io::AsyncReadExt;

    use super::*;

    #[tokio::test]
    async fn the_end_of_the_input_closes_the_other_side() {
        let (sender, incoming) = mpsc::channel(1);
        let (ours, mut theirs) = tokio::io::duplex(16);
        let forwarding = tokio::spawn(forward(incoming, ours));
        let sending = tokio::spawn(async move {
            for piece in [&b"first "[..], b"second, longer than the pipe"] {
                sender.send(Ok(Bytes::from_static(piece))).await.unwrap();
            }
        });
        let mut arrived = String::new();
        theirs.read_to_string(&mut arrived).await.unwrap();
        assert_eq!(arrived, "first second, longer than the pipe");
        sending.await.unwrap();
        forwarding.await.unwrap();
    }

    #[tokio::test]
    async fn a_closed_stdin_of_the_box_ends_it() {
        let (sender, incoming) = mpsc::channel(1);
        let (ours, theirs) = tokio::io::duplex(16);
        drop(theirs);
        let forwarding = tokio::spawn(forward(incoming, ours));
        sender.send(Ok(Bytes::from_static(b"x"))).await.unwrap();
        forwarding.await.unwrap();
        assert!(sender.send(Ok(Bytes::from_static(b"y"))).await.is_err());
    }
}
