//! Moves the bytes of a process between the box and the caller's descriptors.

use std::io;
use std::os::fd::OwnedFd;
use std::sync::Arc;

use boxlite::{ExecOutput, ExecStdin, Execution};
use bytes::Bytes;
use rustix::io::Errno;
use rustix::net::{SendFlags, Shutdown, send, shutdown};
use tokio::io::unix::AsyncFd;
use tokio::io::{AsyncReadExt, Interest};
use tokio_util::sync::CancellationToken;

use crate::error::Failure;
use crate::json::{AttachOptions, ExecOptions, StderrMode, StdoutMode, terminal_size};
use crate::pipe::{self, Pair};

/// What is moved at a time; as much as a message of the box carries.
const CHUNK_BYTES: usize = 64 * 1024;

/// The caller's ends of the streams of a process.
#[derive(Debug, Default)]
pub(crate) struct Ends {
    pub(crate) stdin: Option<OwnedFd>,
    pub(crate) stdout: Option<OwnedFd>,
    pub(crate) stderr: Option<OwnedFd>,
}

/// The streams of a process that is about to be started.
#[derive(Debug)]
pub(crate) struct Streams {
    pub(crate) ends: Ends,
    stdin: Option<Arc<Channel>>,
    stdout: Option<Sink>,
    stderr: Option<Sink>,
}

/// What was asked for.
struct Wanted {
    stdin: bool,
    stdout: Option<StdoutMode>,
    stderr: Option<StderrMode>,
    tty: bool,
}

fn check(wanted: &Wanted, has_size: bool) -> Result<(), Failure> {
    if wanted.tty && wanted.stderr.is_some() {
        return Err(Failure::argument(
            "stderr can't be given with a terminal: stdout carries both",
        ));
    }
    if has_size && !wanted.tty {
        return Err(Failure::argument("rows and columns can't be given without a terminal"));
    }
    Ok(())
}

impl Streams {
    /// Checks what can be checked before the box is asked.
    pub(crate) fn check_exec(options: &ExecOptions) -> Result<(), Failure> {
        check(
            &Wanted::exec(options),
            terminal_size(options.rows, options.columns)?.is_some(),
        )
    }

    /// Streams for a process that is run with `options`. Needs the runtime.
    pub(crate) fn for_exec(options: &ExecOptions) -> Result<Self, Failure> {
        Self::new(&Wanted::exec(options)).map_err(|error| Failure::system("making the streams", error))
    }

    /// Streams for a main process. Needs the runtime.
    pub(crate) fn for_main(options: &AttachOptions, tty: bool) -> Result<Self, Failure> {
        let wanted = Wanted {
            stdin: options.stdin,
            stdout: options.stdout,
            stderr: options.stderr,
            tty,
        };
        check(&wanted, terminal_size(options.rows, options.columns)?.is_some())?;
        Self::new(&wanted).map_err(|error| Failure::system("making the streams", error))
    }

    fn new(wanted: &Wanted) -> io::Result<Self> {
        let mut streams = Self {
            ends: Ends::default(),
            stdin: None,
            stdout: None,
            stderr: None,
        };
        let has_stdout = wanted.stdout.unwrap_or(StdoutMode::Pipe) == StdoutMode::Pipe;
        if wanted.tty && wanted.stdin && has_stdout {
            let Pair { ours, theirs } = pipe::both_ways()?;
            let channel = Arc::new(Channel::socket(ours)?);
            streams.ends.stdin = Some(theirs.try_clone()?);
            streams.ends.stdout = Some(theirs);
            streams.stdout = Some(Sink::new(Arc::clone(&channel)));
            streams.stdin = Some(channel);
            return Ok(streams);
        }
        if wanted.stdin {
            let Pair { ours, theirs } = pipe::from_caller()?;
            streams.stdin = Some(Arc::new(Channel::pipe(ours, Interest::READABLE)?));
            streams.ends.stdin = Some(theirs);
        }
        if has_stdout {
            let (sink, end) = Sink::pipe()?;
            streams.stdout = Some(sink);
            streams.ends.stdout = Some(end);
        }
        match wanted.stderr.unwrap_or(StderrMode::Pipe) {
            StderrMode::Stdout => streams.stderr = streams.stdout.clone(),
            StderrMode::Pipe if !wanted.tty => {
                let (sink, end) = Sink::pipe()?;
                streams.stderr = Some(sink);
                streams.ends.stderr = Some(end);
            }
            StderrMode::Pipe | StderrMode::Null => {}
        }
        Ok(streams)
    }

    /// Begins to move bytes. `close` ends the input, `gone` says that the process has ended.
    /// Outputs are moved until they end or their reader goes; that may be later.
    pub(crate) fn connect(
        self,
        execution: &mut Execution,
        close: &CancellationToken,
        gone: &CancellationToken,
    ) -> Ends {
        // Outputs that nobody takes are thrown away by waiting for the process.
        for (sink, output) in [
            (
                self.stdout,
                Execution::take_stdout as fn(&mut Execution) -> Option<ExecOutput>,
            ),
            (self.stderr, Execution::take_stderr),
        ] {
            if let Some(sink) = sink
                && let Some(output) = output(execution)
            {
                tokio::spawn(move_output(output, sink));
            }
        }
        if let Some(source) = self.stdin
            && let Some(stdin) = execution.take_stdin()
        {
            tokio::spawn(move_input(source, stdin, close.clone(), gone.clone()));
        }
        self.ends
    }
}

impl Wanted {
    fn exec(options: &ExecOptions) -> Self {
        Self {
            stdin: options.stdin,
            stdout: options.stdout,
            stderr: options.stderr,
            tty: options.tty,
        }
    }
}

/// The library's end of a pipe or a socket pair.
#[derive(Debug)]
struct Channel {
    fd: AsyncFd<OwnedFd>,
    is_socket: bool,
}

impl Channel {
    fn pipe(fd: OwnedFd, interest: Interest) -> io::Result<Self> {
        Ok(Self {
            fd: pipe::watch(fd, interest)?,
            is_socket: false,
        })
    }

    fn socket(fd: OwnedFd) -> io::Result<Self> {
        Ok(Self {
            fd: pipe::watch(fd, Interest::READABLE | Interest::WRITABLE)?,
            is_socket: true,
        })
    }

    fn read_now(fd: &OwnedFd, buffer: &mut [u8]) -> io::Result<usize> {
        Ok(rustix::io::retry_on_intr(|| rustix::io::read(fd, &mut *buffer))?)
    }

    async fn read(&self, buffer: &mut [u8]) -> io::Result<usize> {
        self.fd
            .async_io(Interest::READABLE, |fd| Self::read_now(fd, buffer))
            .await
    }

    async fn write_all(&self, mut data: &[u8]) -> io::Result<()> {
        while !data.is_empty() {
            let count = self
                .fd
                .async_io(Interest::WRITABLE, |fd| {
                    // SIGPIPE is blocked on the threads that this runs on.
                    let written = rustix::io::retry_on_intr(|| {
                        if self.is_socket {
                            send(fd, data, SendFlags::NOSIGNAL)
                        } else {
                            rustix::io::write(fd, data)
                        }
                    });
                    Ok(written?)
                })
                .await?;
            data = &data[count..];
        }
        Ok(())
    }

    /// Lets writers at the other end know that nobody reads any more.
    fn stop_reading(&self) {
        if !self.is_socket {
            return;
        }
        let _ = shutdown(&self.fd, Shutdown::Read);
        // A socket that is closed with bytes in it resets the connection, and the other end would
        // see an error where its input ends.
        let mut rest = [0; 4096];
        while Self::read_now(self.fd.get_ref(), &mut rest).is_ok_and(|count| count > 0) {}
    }
}

/// Where outputs are written to. With clones, pieces are written whole, one after the other.
#[derive(Debug, Clone)]
struct Sink {
    channel: Arc<Channel>,
    turn: Arc<tokio::sync::Mutex<()>>,
}

impl Sink {
    fn new(channel: Arc<Channel>) -> Self {
        Self {
            channel,
            turn: Arc::default(),
        }
    }

    fn pipe() -> io::Result<(Self, OwnedFd)> {
        let Pair { ours, theirs } = pipe::to_caller()?;
        Ok((Self::new(Arc::new(Channel::pipe(ours, Interest::WRITABLE)?)), theirs))
    }

    async fn write_all(&self, data: &[u8]) -> io::Result<()> {
        let _turn = self.turn.lock().await;
        self.channel.write_all(data).await
    }
}

impl Drop for Sink {
    fn drop(&mut self) {
        // The pump of the input may hold the socket for longer; a pipe ends by being closed.
        if self.channel.is_socket {
            let _ = shutdown(&self.channel.fd, Shutdown::Write);
        }
    }
}

async fn move_output(mut output: ExecOutput, sink: Sink) {
    let mut buffer = vec![0; CHUNK_BYTES];
    // An error comes after all that had arrived; how the process ended says the rest. When the
    // reader has gone, dropping the output lets the process write into the void.
    while let Ok(count @ 1..) = output.read(&mut buffer).await {
        if sink.write_all(&buffer[..count]).await.is_err() {
            return;
        }
    }
}

async fn move_input(source: Arc<Channel>, mut stdin: ExecStdin, close: CancellationToken, gone: CancellationToken) {
    let moving = async {
        let mut buffer = vec![0; CHUNK_BYTES];
        loop {
            let read = if close.is_cancelled() {
                // What was written before the end was asked for belongs to the input.
                match Channel::read_now(source.fd.get_ref(), &mut buffer) {
                    Err(error) if error.raw_os_error() == Some(Errno::AGAIN.raw_os_error()) => Ok(0),
                    other => other,
                }
            } else {
                tokio::select! {
                    read = source.read(&mut buffer) => read,
                    () = close.cancelled() => continue,
                }
            };
            let Ok(count @ 1..) = read else { return };
            if stdin
                .write_bytes(Bytes::copy_from_slice(&buffer[..count]))
                .await
                .is_err()
            {
                return;
            }
        }
    };
    tokio::select! {
        () = moving => {}
        () = gone.cancelled() => {}
    }
    source.stop_reading();
}
