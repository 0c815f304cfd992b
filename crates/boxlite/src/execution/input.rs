//! What goes to a process: first its start, then standard input.

use std::pin::Pin;
use std::task::{Context, Poll};

use boxlite_protocol::guest::{self, ExecInput, exec_input};
use boxlite_protocol::shim::{AttachInput, attach_input};
use bytes::Bytes;
use futures_util::Stream;
use tokio::io::AsyncWrite;
use tokio::sync::mpsc;
use tokio_util::sync::PollSender;

/// The largest piece of standard input in one message.
const STDIN_CHUNK_BYTES: usize = 64 * 1024;
/// Pieces of standard input between its writer and the connection.
const STDIN_QUEUE: usize = 1;

/// A message type that carries the input of a process.
pub(crate) trait InputMessage: Send + 'static {
    fn stdin(bytes: Bytes) -> Self;
    fn close_stdin() -> Self;
}

impl InputMessage for ExecInput {
    fn stdin(bytes: Bytes) -> Self {
        Self {
            input: Some(exec_input::Input::Stdin(bytes)),
        }
    }
    fn close_stdin() -> Self {
        Self {
            input: Some(exec_input::Input::CloseStdin(guest::CloseStdin {})),
        }
    }
}

impl InputMessage for AttachInput {
    fn stdin(bytes: Bytes) -> Self {
        Self {
            input: Some(attach_input::Input::Stdin(bytes)),
        }
    }
    fn close_stdin() -> Self {
        Self {
            input: Some(attach_input::Input::CloseStdin(guest::CloseStdin {})),
        }
    }
}

/// The messages to a process, as the connection takes them.
#[derive(Debug)]
pub(crate) struct InputStream<M> {
    start: Option<M>,
    stdin: Option<mpsc::Receiver<Bytes>>,
}

impl<M: InputMessage + Unpin> InputStream<M> {
    /// The stream, and standard input if there is to be one.
    pub(crate) fn new(start: M, stdin: bool) -> (Self, Option<ExecStdin>) {
        let (writer, receiver) = if stdin {
            let (sender, receiver) = mpsc::channel(STDIN_QUEUE);
            let writer = ExecStdin {
                sender: PollSender::new(sender),
            };
            (Some(writer), Some(receiver))
        } else {
            (None, None)
        };
        let stream = Self {
            start: Some(start),
            stdin: receiver,
        };
        (stream, writer)
    }
}

impl<M: InputMessage + Unpin> Stream for InputStream<M> {
    type Item = M;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<M>> {
        if let Some(start) = self.start.take() {
            return Poll::Ready(Some(start));
        }
        let Some(stdin) = &mut self.stdin else {
            return Poll::Ready(None);
        };
        match std::task::ready!(stdin.poll_recv(context)) {
            Some(bytes) => Poll::Ready(Some(M::stdin(bytes))),
            None => {
                self.stdin = None;
                Poll::Ready(Some(M::close_stdin()))
            }
        }
    }
}

/// Standard input of an [`Execution`](crate::Execution). `shutdown` (or dropping it) is its end.
#[derive(Debug)]
pub struct ExecStdin {
    sender: PollSender<Bytes>,
}

impl ExecStdin {
    /// Writes bytes that are owned already without copying them, when they are at most
    /// 64 KiB.
    ///
    /// # Errors
    /// `BrokenPipe` when the process has ended or was let go.
    pub async fn write_bytes(&mut self, bytes: Bytes) -> std::io::Result<()> {
        let mut rest = bytes;
        while !rest.is_empty() {
            let piece = rest.split_to(rest.len().min(STDIN_CHUNK_BYTES));
            std::future::poll_fn(|context| self.sender.poll_reserve(context))
                .await
                .map_err(|_| broken_pipe())?;
            self.sender.send_item(piece).map_err(|_| broken_pipe())?;
        }
        Ok(())
    }
}

impl AsyncWrite for ExecStdin {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, data: &[u8]) -> Poll<std::io::Result<usize>> {
        if data.is_empty() {
            return Poll::Ready(Ok(0));
        }
        std::task::ready!(self.sender.poll_reserve(context)).map_err(|_| broken_pipe())?;
        let count = data.len().min(STDIN_CHUNK_BYTES);
        self.sender
            .send_item(Bytes::copy_from_slice(&data[..count]))
            .map_err(|_| broken_pipe())?;
        Poll::Ready(Ok(count))
    }

    fn poll_flush(self: Pin<&mut Self>, _context: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, _context: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        self.sender.close();
        Poll::Ready(Ok(()))
    }
}

fn broken_pipe() -> std::io::Error {
    std::io::ErrorKind::BrokenPipe.into()
}

#[cfg(test)]
mod tests {
    use futures_util::StreamExt;
    use tokio::io::AsyncWriteExt;

    use super::*;

    fn start() -> ExecInput {
        ExecInput {
            input: Some(exec_input::Input::Start(guest::ExecStart::default())),
        }
    }

    fn kind(message: Option<ExecInput>) -> &'static str {
        match message.and_then(|message| message.input) {
            Some(exec_input::Input::Start(_)) => "start",
            Some(exec_input::Input::Stdin(_)) => "stdin",
            Some(exec_input::Input::CloseStdin(_)) => "close",
            None => "end",
        }
    }

    #[tokio::test]
    async fn standard_input_follows_the_start_and_ends_the_stream() {
        let (mut stream, stdin) = InputStream::new(start(), true);
        let mut stdin = stdin.unwrap();
        stdin.write_all(b"x").await.unwrap();
        assert_eq!(kind(stream.next().await), "start");
        assert_eq!(kind(stream.next().await), "stdin");
        assert!(futures_util::poll!(stream.next()).is_pending());
        stdin.shutdown().await.unwrap();
        assert_eq!(kind(stream.next().await), "close");
        assert_eq!(kind(stream.next().await), "end");
        let (mut stream, stdin) = InputStream::new(start(), false);
        assert!(stdin.is_none());
        assert_eq!(kind(stream.next().await), "start");
        assert_eq!(kind(stream.next().await), "end");
    }

    #[tokio::test]
    async fn dropping_standard_input_closes_it() {
        let (mut stream, stdin) = InputStream::new(start(), true);
        stream.next().await;
        drop(stdin);
        assert_eq!(kind(stream.next().await), "close");
    }

    #[tokio::test]
    async fn a_writer_is_held_up_and_learns_of_the_end() {
        let (stream, stdin) = InputStream::new(start(), true);
        let mut stdin = stdin.unwrap();
        assert_eq!(stdin.write(&[0; 100_000]).await.unwrap(), STDIN_CHUNK_BYTES);
        assert!(futures_util::poll!(std::pin::pin!(stdin.write(b"more"))).is_pending());
        drop(stream);
        let error = stdin.write(b"more").await.unwrap_err();
        assert_eq!(error.kind(), std::io::ErrorKind::BrokenPipe);
    }
}
