//! One stream of messages from a process, split into its outputs and its end.
//!
//! There is no task behind it: whoever reads an output or waits moves the stream on, and
//! what belongs to somebody else is queued for them, up to a limit. When a queue is full
//! the stream is not read, so that the process is held up all the way.

use std::collections::VecDeque;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Wake, Waker};

use boxlite_protocol::guest::{ExecOutput, exec_output::Output};
use bytes::{Buf, Bytes};
use futures_util::Stream;
use tokio::io::ReadBuf;
use tonic::Status;

use crate::error::ExecutionError;
use crate::exit_status::ExitStatus;
use crate::rpc;

/// What one output may have queued before the stream is held up. A message may go over it.
const LANE_LIMIT_BYTES: usize = 256 * 1024;

pub(crate) type OutputStream = Pin<Box<dyn Stream<Item = Result<ExecOutput, Status>> + Send>>;

/// One of the outputs of a process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum LaneKind {
    Stdout = 0,
    Stderr = 1,
}

/// Whoever may have to be woken: a reader of each output, and who waits for the end.
const PARTIES: usize = 3;
const WAITER: usize = 2;

/// Hands one wake-up of the stream to all who wait for anything from it.
#[derive(Debug, Default)]
struct Fan {
    wakers: Mutex<[Option<Waker>; PARTIES]>,
}

impl Fan {
    fn register(&self, party: usize, waker: &Waker) {
        let mut wakers = self.wakers.lock().unwrap_or_else(PoisonError::into_inner);
        match &mut wakers[party] {
            Some(known) => known.clone_from(waker),
            empty => *empty = Some(waker.clone()),
        }
    }

    fn wake_all(&self) {
        let taken = {
            let mut wakers = self.wakers.lock().unwrap_or_else(PoisonError::into_inner);
            std::mem::take(&mut *wakers)
        };
        for waker in taken.into_iter().flatten() {
            waker.wake();
        }
    }
}

impl Wake for Fan {
    fn wake(self: Arc<Self>) {
        self.wake_all();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.wake_all();
    }
}

#[derive(Debug, Default)]
struct Lane {
    queue: VecDeque<Bytes>,
    queued_bytes: usize,
    /// Nobody reads this output, so what comes is thrown away.
    is_discarded: bool,
}

impl Lane {
    fn push(&mut self, bytes: Bytes) {
        if !self.is_discarded && !bytes.is_empty() {
            self.queued_bytes += bytes.len();
            self.queue.push_back(bytes);
        }
    }

    fn is_full(&self) -> bool {
        self.queued_bytes >= LANE_LIMIT_BYTES
    }

    fn discard(&mut self) {
        self.is_discarded = true;
        self.queue.clear();
        self.queued_bytes = 0;
    }
}

struct State {
    stream: Option<OutputStream>,
    lanes: [Lane; 2],
    outcome: Option<Result<ExitStatus, ExecutionError>>,
}

impl std::fmt::Debug for State {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("State")
            .field("lanes", &self.lanes)
            .field("outcome", &self.outcome)
            .finish_non_exhaustive()
    }
}

/// The stream of a process, shared by its readers.
#[derive(Debug)]
pub(crate) struct Demux {
    state: Mutex<State>,
    fan: Arc<Fan>,
}

impl Demux {
    pub(crate) fn new(stream: OutputStream) -> Arc<Self> {
        Arc::new(Self {
            state: Mutex::new(State {
                stream: Some(stream),
                lanes: [Lane::default(), Lane::default()],
                outcome: None,
            }),
            fan: Arc::new(Fan::default()),
        })
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Reads from one output.
    pub(crate) fn poll_read(
        &self,
        kind: LaneKind,
        context: &Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<std::io::Result<()>> {
        let filled_before = buffer.filled().len();
        let mut state = self.lock();
        loop {
            let lane = &mut state.lanes[kind as usize];
            let was_full = lane.is_full();
            while buffer.remaining() > 0
                && let Some(front) = lane.queue.front_mut()
            {
                let count = front.len().min(buffer.remaining());
                buffer.put_slice(&front[..count]);
                front.advance(count);
                lane.queued_bytes -= count;
                if front.is_empty() {
                    lane.queue.pop_front();
                }
            }
            let has_drained = lane.queue.is_empty();
            if buffer.filled().len() > filled_before {
                drop(state);
                // Others may go on with the stream, or see that all was delivered.
                if was_full || has_drained {
                    self.fan.wake_all();
                }
                return Poll::Ready(Ok(()));
            }
            if buffer.remaining() == 0 {
                return Poll::Ready(Ok(()));
            }
            match &state.outcome {
                Some(Ok(_)) => return Poll::Ready(Ok(())),
                Some(Err(error)) => return Poll::Ready(Err(as_io(error))),
                None => {}
            }
            self.fan.register(kind as usize, context.waker());
            std::task::ready!(self.advance(&mut state));
        }
    }

    /// Moves the stream on by one message; pending while a queue is full.
    fn advance(&self, state: &mut State) -> Poll<()> {
        if state.lanes.iter().any(Lane::is_full) {
            return Poll::Pending;
        }
        let waker = Waker::from(Arc::clone(&self.fan));
        let mut context = Context::from_waker(&waker);
        let message = match &mut state.stream {
            Some(stream) => std::task::ready!(stream.as_mut().poll_next(&mut context)),
            None => None,
        };
        let outcome = match message {
            Some(Ok(message)) => match message.output {
                Some(Output::Stdout(bytes)) => {
                    state.lanes[LaneKind::Stdout as usize].push(bytes);
                    None
                }
                Some(Output::Stderr(bytes)) => {
                    state.lanes[LaneKind::Stderr as usize].push(bytes);
                    None
                }
                Some(Output::Exited(status)) => Some(rpc::exit_status(&status).ok_or(ExecutionError::Protocol {
                    detail: "an end without a status",
                })),
                Some(Output::Started(_) | Output::Refused(_)) => Some(Err(ExecutionError::Protocol {
                    detail: "a process that starts twice",
                })),
                None => Some(Err(ExecutionError::Protocol {
                    detail: "an empty message",
                })),
            },
            Some(Err(status)) => Some(Err(ExecutionError::Broken {
                code: rpc::code_of(&status),
                message: rpc::message_of(&status),
            })),
            None => Some(Err(ExecutionError::Broken {
                code: crate::ErrorCode::Engine,
                message: "it ended without saying how the process did".to_owned(),
            })),
        };
        if let Some(outcome) = outcome {
            state.outcome = Some(outcome);
            state.stream = None;
        }
        self.fan.wake_all();
        Poll::Ready(())
    }

    /// Waits for the end of the process and the delivery of its output.
    pub(crate) fn poll_wait(&self, context: &Context<'_>) -> Poll<Result<ExitStatus, ExecutionError>> {
        let mut state = self.lock();
        loop {
            self.fan.register(WAITER, context.waker());
            if let Some(outcome) = &state.outcome {
                let is_delivered = state.lanes.iter().all(|lane| lane.queue.is_empty());
                if is_delivered || outcome.is_err() {
                    return Poll::Ready(outcome.clone());
                }
                return Poll::Pending;
            }
            std::task::ready!(self.advance(&mut state));
        }
    }

    /// Throws away what comes on an output from now on.
    pub(crate) fn discard(&self, kind: LaneKind) {
        self.lock().lanes[kind as usize].discard();
        self.fan.wake_all();
    }

    /// Whether the end of the process is known.
    pub(crate) fn has_ended(&self) -> bool {
        self.lock().outcome.is_some()
    }

    /// Drops the stream. What was read from it can still be had.
    pub(crate) fn close(&self) {
        let stream = {
            let mut state = self.lock();
            if state.outcome.is_none() {
                state.outcome = Some(Err(ExecutionError::Closed));
            }
            state.stream.take()
        };
        drop(stream);
        self.fan.wake_all();
    }
}

fn as_io(error: &ExecutionError) -> std::io::Error {
    let kind = match error {
        ExecutionError::Broken { .. } => std::io::ErrorKind::ConnectionReset,
        ExecutionError::Closed | ExecutionError::Ended => std::io::ErrorKind::NotConnected,
        ExecutionError::Protocol { .. } => std::io::ErrorKind::InvalidData,
    };
    std::io::Error::new(kind, error.clone())
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use boxlite_protocol::guest::{self, exit_status::How};
    use tokio::io::{AsyncRead, AsyncReadExt};

    use super::*;

    struct Reader(Arc<Demux>, LaneKind);

    impl AsyncRead for Reader {
        fn poll_read(
            self: Pin<&mut Self>,
            context: &mut Context<'_>,
            buffer: &mut ReadBuf<'_>,
        ) -> Poll<std::io::Result<()>> {
            self.0.poll_read(self.1, context, buffer)
        }
    }

    fn output(kind: LaneKind, bytes: &[u8]) -> Result<ExecOutput, Status> {
        let bytes = Bytes::copy_from_slice(bytes);
        Ok(ExecOutput {
            output: Some(match kind {
                LaneKind::Stdout => Output::Stdout(bytes),
                LaneKind::Stderr => Output::Stderr(bytes),
            }),
        })
    }

    fn exited(code: i32) -> Result<ExecOutput, Status> {
        Ok(ExecOutput {
            output: Some(Output::Exited(guest::ExitStatus {
                how: Some(How::Code(code)),
                out_of_memory: false,
                output_cut: false,
            })),
        })
    }

    fn demux(messages: Vec<Result<ExecOutput, Status>>) -> (Arc<Demux>, Arc<AtomicUsize>) {
        let polled = Arc::new(AtomicUsize::new(0));
        let counter = Arc::clone(&polled);
        let stream = futures_util::stream::iter(messages).then_count(counter);
        (Demux::new(Box::pin(stream)), polled)
    }

    trait ThenCount: Stream + Sized {
        fn then_count(self, counter: Arc<AtomicUsize>) -> impl Stream<Item = Self::Item> {
            futures_util::StreamExt::inspect(self, move |_| {
                counter.fetch_add(1, Ordering::SeqCst);
            })
        }
    }
    impl<S: Stream> ThenCount for S {}

    async fn wait(demux: &Demux) -> Result<ExitStatus, ExecutionError> {
        std::future::poll_fn(|context| demux.poll_wait(context)).await
    }

    #[tokio::test]
    async fn both_outputs_and_the_status_arrive_whole() {
        let (demux, _) = demux(vec![
            output(LaneKind::Stdout, b"out 1\n"),
            output(LaneKind::Stderr, b"err 1\n"),
            output(LaneKind::Stdout, b""),
            output(LaneKind::Stdout, b"out 2\n"),
            exited(3),
        ]);
        let (mut out, mut err) = (Vec::new(), Vec::new());
        let mut stdout = Reader(Arc::clone(&demux), LaneKind::Stdout);
        let mut stderr = Reader(Arc::clone(&demux), LaneKind::Stderr);
        let (read_out, read_err, status) =
            tokio::join!(stdout.read_to_end(&mut out), stderr.read_to_end(&mut err), wait(&demux));
        read_out.unwrap();
        read_err.unwrap();
        assert_eq!(out, b"out 1\nout 2\n");
        assert_eq!(err, b"err 1\n");
        assert_eq!(status.unwrap(), ExitStatus::from_code(3));
        assert_eq!(wait(&demux).await.unwrap(), ExitStatus::from_code(3));
    }

    #[tokio::test]
    async fn an_output_that_nobody_reads_holds_the_stream_up() {
        let chunk = vec![7; 64 * 1024];
        let mut messages: Vec<_> = (0..100).map(|_| output(LaneKind::Stdout, &chunk)).collect();
        messages.push(exited(0));
        let (demux, polled) = demux(messages);
        assert!(futures_util::poll!(std::pin::pin!(wait(&demux))).is_pending());
        assert_eq!(polled.load(Ordering::SeqCst), LANE_LIMIT_BYTES / chunk.len());
        let mut stdout = Reader(Arc::clone(&demux), LaneKind::Stdout);
        let mut all = Vec::new();
        let (read, status) = tokio::join!(stdout.read_to_end(&mut all), wait(&demux));
        read.unwrap();
        status.unwrap();
        assert_eq!(all.len(), 100 * chunk.len());
    }

    #[tokio::test]
    async fn a_discarded_output_holds_nothing_up() {
        let chunk = vec![7; 64 * 1024];
        let mut messages: Vec<_> = (0..100).map(|_| output(LaneKind::Stderr, &chunk)).collect();
        messages.push(exited(0));
        let (demux, _) = demux(messages);
        demux.discard(LaneKind::Stderr);
        wait(&demux).await.unwrap();
    }

    #[tokio::test]
    async fn waiting_lasts_until_the_output_is_read() {
        let (demux, _) = demux(vec![output(LaneKind::Stdout, b"x"), exited(0)]);
        {
            let mut waiting = std::pin::pin!(wait(&demux));
            assert!(futures_util::poll!(&mut waiting).is_pending());
            let mut byte = [0];
            Reader(Arc::clone(&demux), LaneKind::Stdout)
                .read_exact(&mut byte)
                .await
                .unwrap();
            assert!(futures_util::poll!(&mut waiting).is_ready());
        }
    }

    #[tokio::test]
    async fn a_broken_stream_is_an_error_everywhere_after_what_came() {
        for end in [None, Some(Err(Status::unavailable("the box is gone")))] {
            let mut messages = vec![output(LaneKind::Stdout, b"partial")];
            messages.extend(end);
            let (demux, _) = demux(messages);
            let mut stdout = Reader(Arc::clone(&demux), LaneKind::Stdout);
            let mut read = Vec::new();
            let error = stdout.read_to_end(&mut read).await.unwrap_err();
            assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset);
            assert_eq!(read, b"partial");
            assert!(matches!(wait(&demux).await, Err(ExecutionError::Broken { .. })));
        }
    }

    #[tokio::test]
    async fn closing_wakes_readers_and_drops_the_stream() {
        let demux = Demux::new(Box::pin(futures_util::stream::pending()));
        let reader = {
            let demux = Arc::clone(&demux);
            tokio::spawn(async move {
                let mut byte = [0];
                Reader(demux, LaneKind::Stdout).read(&mut byte).await
            })
        };
        tokio::task::yield_now().await;
        demux.close();
        let error = reader.await.unwrap().unwrap_err();
        assert_eq!(error.kind(), std::io::ErrorKind::NotConnected);
        assert!(matches!(wait(&demux).await, Err(ExecutionError::Closed)));
    }

    #[tokio::test]
    async fn messages_out_of_place_are_protocol_errors() {
        let started = Ok(ExecOutput {
            output: Some(Output::Started(guest::ExecStarted { pid: 1, execution: 1 })),
        });
        let no_status = Ok(ExecOutput {
            output: Some(Output::Exited(guest::ExitStatus::default())),
        });
        for message in [started, no_status, Ok(ExecOutput { output: None })] {
            let (demux, _) = demux(vec![message]);
            assert!(matches!(wait(&demux).await, Err(ExecutionError::Protocol { .. })));
        }
    }
}
