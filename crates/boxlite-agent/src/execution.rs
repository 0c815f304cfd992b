//! One execution: its process, its streams and its end.
//!
//! Output is read only when the stream to the host takes it, and input is taken from
//! the host only when there is room: a process that writes or reads slowly costs no
//! memory. `exited` comes last: after the end of both outputs, or, when something that
//! the process left behind keeps them open, after [`QUIET`] without a byte.

use std::{
    convert::Infallible,
    io,
    os::fd::{AsFd as _, BorrowedFd, OwnedFd},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use boxlite_protocol::{
    OUTPUT_CHUNK_BYTES,
    guest::{
        ExecInput, ExecOutput, ExecRefused, ExecStart, ExecStarted, ExitStatus, ProcessSpec, TerminalSize,
        exec_input::Input, exec_output::Output, exec_refused::Reason, exit_status::How,
    },
};
use bytes::Bytes;
use prost::Message as _;
use rustix::{
    buffer::spare_capacity,
    pipe::{PipeFlags, fcntl_setpipe_size, pipe_with},
    process::{Pid, Signal, kill_process_group},
    termios::{LocalModes, SpecialCodeIndex, Winsize, tcgetattr, tcgetpgrp, tcsetwinsize},
};
use tokio::{
    io::{Interest, unix::AsyncFd},
    sync::mpsc,
    time::timeout,
};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Status, Streaming};

use crate::{
    agent::{Agent, BoxState},
    cgroup::{self, ExecutionGroup},
    child::{self, Child},
    console::log,
    first_process::FirstProcess,
    launch::{self, Entry, Launch, refused},
    sys,
};

/// How long an output may stay silent after the process's end before it counts as ended.
const QUIET: Duration = Duration::from_secs(2);
/// How many messages of output wait for the stream.
const OUTPUT_QUEUE: usize = 4;
/// How many messages of input wait for the process.
const INPUT_QUEUE: usize = 4;
/// What a pipe of output holds, in bytes: a program goes on while the host is slow.
const PIPE_BYTES: usize = 256 * 1024;

/// The answer to an Exec.
pub(crate) type OutputStream = ReceiverStream<Result<ExecOutput, Status>>;

/// Serves Exec.
pub(crate) async fn exec(agent: Arc<Agent>, mut input: Streaming<ExecInput>) -> Result<OutputStream, Status> {
    let start = match input.message().await?.and_then(|message| message.input) {
        Some(Input::Start(start)) => start,
        _ => return Err(Status::invalid_argument("the first message of an Exec is `start`")),
    };
    let (output, receiver) = mpsc::channel(OUTPUT_QUEUE);
    tokio::spawn(async move {
        let _count = agent.count_execution();
        run(&agent, start, input, Sink(output)).await;
    });
    Ok(ReceiverStream::new(receiver))
}

/// Where output goes; when the host has lost interest, nowhere.
#[derive(Clone)]
struct Sink(mpsc::Sender<Result<ExecOutput, Status>>);

impl Sink {
    async fn send(&self, output: Output) {
        let message = ExecOutput { output: Some(output) };
        // Without a receiver there is nobody to tell.
        let _ = self.0.send(Ok(message)).await;
    }
}

async fn run(agent: &Arc<Agent>, start: ExecStart, input: Streaming<ExecInput>, sink: Sink) {
    let spec = start.process.unwrap_or_default();
    let launched = async {
        launch::check(&spec)?;
        let state = agent.configured().map_err(|status| not_running(status.message()))?;
        // Before the main process there was nothing to be killed.
        let oom_kills = if start.main { 0 } else { cgroup::out_of_memory_kills() };
        let process = Process::start(agent, &state, &spec, start.main).await?;
        Ok::<_, ExecRefused>((process, oom_kills))
    };
    let launched = tokio::select! {
        launched = launched => launched,
        () = sink.0.closed(), if !spec.detached => return,
    };
    let (mut process, oom_kills) = match launched {
        Ok(launched) => launched,
        Err(refused) => return sink.send(Output::Refused(refused)).await,
    };
    let listed = agent.list_execution(Control {
        child: Arc::clone(&process.child),
        terminal: process.terminal.clone(),
    });
    let started = ExecStarted {
        pid: process.pid,
        execution: listed.number(),
    };
    sink.send(Output::Started(started)).await;

    let stdin = process.stdin.take();
    let feeding = tokio::spawn(feed(input, stdin));
    let grace = (spec.output_grace_ms > 0).then(|| Duration::from_millis(spec.output_grace_ms));
    let mut status = deliver(&process, &sink, spec.detached, grace).await;
    feeding.abort();
    if matches!(status.how, Some(How::Signal(libc::SIGKILL))) && cgroup::out_of_memory_kills() > oom_kills {
        status.out_of_memory = true;
    }
    sink.send(Output::Exited(status)).await;
}

fn not_running(message: &str) -> ExecRefused {
    ExecRefused {
        reason: Reason::NotRunning.into(),
        message: message.to_owned(),
        errno: libc::ESRCH,
    }
}

/// A process of the box that was started.
struct Process {
    child: Arc<Child>,
    /// In the box.
    pid: i32,
    group: Option<ExecutionGroup>,
    stdin: Option<Stdin>,
    outputs: Vec<Channel>,
    terminal: Option<Arc<AsyncFd<OwnedFd>>>,
}

enum Stdin {
    Pipe(AsyncFd<OwnedFd>),
    Terminal(Arc<AsyncFd<OwnedFd>>),
}

/// One output of a process.
struct Channel {
    fd: Arc<AsyncFd<OwnedFd>>,
    wrap: fn(Bytes) -> Output,
}

/// The child's ends of the streams.
struct ChildEnds {
    stdin: OwnedFd,
    stdout: Option<OwnedFd>,
    stderr: Option<OwnedFd>,
}

impl ChildEnds {
    /// Standard input, output and error: those that are missing are the first.
    fn as_fds(&self) -> [BorrowedFd<'_>; 3] {
        [
            self.stdin.as_fd(),
            self.stdout.as_ref().unwrap_or(&self.stdin).as_fd(),
            self.stderr.as_ref().unwrap_or(&self.stdin).as_fd(),
        ]
    }
}

/// Both ends of all streams of a process.
struct Streams {
    child: ChildEnds,
    stdin: Option<Stdin>,
    outputs: Vec<Channel>,
    terminal: Option<Arc<AsyncFd<OwnedFd>>>,
}

impl Streams {
    fn create(state: &BoxState, spec: &ProcessSpec) -> io::Result<Self> {
        if spec.tty {
            return Self::terminal(state, spec);
        }
        let output = |wrap| -> io::Result<(Channel, OwnedFd)> {
            let (ours, theirs) = pipe_with(PipeFlags::CLOEXEC)?;
            // The limit for all pipes of a user does not bind root; less is still a pipe.
            let _ = fcntl_setpipe_size(&theirs, PIPE_BYTES);
            Ok((
                Channel {
                    fd: Arc::new(watched(ours, Interest::READABLE)?),
                    wrap,
                },
                theirs,
            ))
        };
        let (stdin, child_stdin) = if spec.stdin {
            let (theirs, ours) = pipe_with(PipeFlags::CLOEXEC)?;
            (Some(Stdin::Pipe(watched(ours, Interest::WRITABLE)?)), theirs)
        } else {
            (None, std::fs::File::open("/dev/null")?.into())
        };
        let (stdout, child_stdout) = output(Output::Stdout)?;
        let mut outputs = vec![stdout];
        let child_stderr = if spec.merge_stderr {
            child_stdout.try_clone()?
        } else {
            let (stderr, child_stderr) = output(Output::Stderr)?;
            outputs.push(stderr);
            child_stderr
        };
        Ok(Streams {
            child: ChildEnds {
                stdin: child_stdin,
                stdout: Some(child_stdout),
                stderr: Some(child_stderr),
            },
            stdin,
            outputs,
            terminal: None,
        })
    }

    fn terminal(state: &BoxState, spec: &ProcessSpec) -> io::Result<Self> {
        let (controller, terminal) = state.spaces.open_terminal()?;
        if let Some(size) = &spec.size {
            tcsetwinsize(&controller, window_size(size))?;
        }
        let controller = Arc::new(watched(controller, Interest::READABLE | Interest::WRITABLE)?);
        Ok(Streams {
            child: ChildEnds {
                stdin: terminal,
                stdout: None,
                stderr: None,
            },
            stdin: spec.stdin.then(|| Stdin::Terminal(Arc::clone(&controller))),
            outputs: vec![Channel {
                fd: Arc::clone(&controller),
                wrap: Output::Stdout,
            }],
            terminal: Some(controller),
        })
    }
}

fn watched(fd: OwnedFd, interest: Interest) -> io::Result<AsyncFd<OwnedFd>> {
    rustix::io::ioctl_fionbio(&fd, true)?;
    sys::watch(fd, interest)
}

fn window_size(size: &TerminalSize) -> Winsize {
    let clamp = |number: u32| u16::try_from(number).unwrap_or(u16::MAX);
    Winsize {
        ws_row: clamp(size.rows),
        ws_col: clamp(size.columns),
        ws_xpixel: 0,
        ws_ypixel: 0,
    }
}

impl Process {
    async fn start(agent: &Agent, state: &BoxState, spec: &ProcessSpec, main: bool) -> Result<Self, ExecRefused> {
        let resources = |what: &'static str| move |error: io::Error| refused(Reason::Resources, what, &error);
        let first = state.live_first();
        match (&first, main) {
            (Some(_), true) => {
                return Err(ExecRefused {
                    reason: Reason::Invalid.into(),
                    message: "the box has a process 1".to_owned(),
                    errno: libc::EEXIST,
                });
            }
            (None, true) if state.first().is_some() => {
                return Err(not_running("process 1 of the box has ended"));
            }
            (None, false) => return Err(not_running("the box has no process 1")),
            _ => {}
        }
        let streams = Streams::create(state, spec).map_err(resources("make the standard streams"))?;
        let group = if main {
            None
        } else {
            let number = agent.next_execution_number();
            Some(ExecutionGroup::create(number).map_err(resources("make a control group"))?)
        };
        let (report, reporter) =
            pipe_with(PipeFlags::CLOEXEC).map_err(|error| resources("make a pipe")(error.into()))?;
        let ends = streams.child.as_fds();
        if let (true, Some(founder)) = (main, state.take_founder()) {
            let child = founder.become_main(spec, ends, reporter.as_fd()).await;
            let child = child.map_err(resources("tell the main process what it is"))?;
            return Self::started(state, child, None, streams, (report, reporter)).await;
        }
        let [stdin, stdout, stderr] = ends;
        let launch = Launch {
            spec,
            hostname: &state.hostname,
            entry: match main {
                true => Entry::AfterFounder(&state.spaces),
                false => Entry::Enter(&state.spaces),
            },
            stdin,
            stdout,
            stderr,
            report: reporter.as_fd(),
        };
        let forked = match (&first, &group) {
            (Some(first), Some(group)) => match &agent.own_pid_namespace {
                Ok(own) => first.fork(own, group.as_fd()),
                Err(error) => Err(io::Error::from(error.kind())),
            },
            _ => cgroup::open_box().and_then(|group| sys::fork(true, Some(group.as_fd()))),
        };
        let child = match forked {
            Ok(sys::Fork::Child) => launch.run(),
            Ok(sys::Fork::Parent(pid, pidfd)) => {
                Arc::new(Child::adopt(pid, pidfd).map_err(resources("watch the process"))?)
            }
            // A namespace without its process 1 takes no more processes.
            Err(_) if first.as_ref().is_some_and(|first| !first.child.is_alive()) => {
                return Err(not_running("process 1 of the box has ended"));
            }
            Err(error) => return Err(resources("fork")(error)),
        };
        Self::started(state, child, group, streams, (report, reporter)).await
    }

    /// Waits for the new process's report; without a `group` it is the main process.
    async fn started(
        state: &BoxState,
        child: Arc<Child>,
        group: Option<ExecutionGroup>,
        streams: Streams,
        (report, reporter): (OwnedFd, OwnedFd),
    ) -> Result<Self, ExecRefused> {
        let resources = |what: &'static str| move |error: io::Error| refused(Reason::Resources, what, &error);
        drop(reporter);
        let Streams {
            child: ends,
            stdin,
            outputs,
            terminal,
        } = streams;
        drop(ends);
        // The way to the program leads through file systems that may never answer.
        let unstarted = KillOnDrop(Some(&child));
        let report = child::read_to_end(report)
            .await
            .map_err(resources("read the new process's report"))?;
        unstarted.keep();
        let (pid, refusal) = match report.split_first_chunk::<4>() {
            Some((pid, refusal)) => (i32::from_ne_bytes(*pid), refusal),
            None => (0, &[][..]),
        };
        if !refusal.is_empty() {
            child.wait().await;
            return Err(ExecRefused::decode(refusal)
                .unwrap_or_else(|error| refused(Reason::Resources, "read a refusal", &io::Error::other(error))));
        }
        if group.is_none() {
            state.set_first(FirstProcess {
                child: Arc::clone(&child),
                idle: false,
            });
        }
        Ok(Process {
            child,
            pid,
            group,
            stdin,
            outputs,
            terminal,
        })
    }

    /// Kills the process and all that it started.
    fn kill(&self) {
        // The end of process 1 is the end of all processes of the box.
        let killed = match &self.group {
            Some(group) => group.kill(),
            None => self.child.signal(Signal::KILL),
        };
        if let Err(error) = killed {
            log!("kill process {}: {error}", self.child.pid());
            let _ = self.child.signal(Signal::KILL);
        }
    }
}

/// A process that has not become its program yet, and so has started no other.
struct KillOnDrop<'a>(Option<&'a Child>);

impl KillOnDrop<'_> {
    fn keep(mut self) {
        self.0 = None;
    }
}

impl Drop for KillOnDrop<'_> {
    fn drop(&mut self) {
        if let Some(child) = self.0 {
            let _ = child.signal(Signal::KILL);
        }
    }
}

/// What the pumps of one execution have in common.
#[derive(Default)]
struct Activity {
    /// Grows with every piece of output.
    pieces: AtomicU64,
    /// How many pieces wait for the host to take them.
    waiting: AtomicU64,
    /// The host has gone.
    discard: AtomicBool,
}

/// Sends all output and waits for the process's end.
async fn deliver(process: &Process, sink: &Sink, detached: bool, grace: Option<Duration>) -> ExitStatus {
    let activity = Activity::default();
    let pumps = async {
        match &process.outputs[..] {
            [one, two] => {
                tokio::join!(pump(one, sink, &activity), pump(two, sink, &activity));
            }
            channels => {
                for channel in channels {
                    pump(channel, sink, &activity).await;
                }
            }
        }
    };
    let cancelled = async {
        sink.0.closed().await;
        if !detached {
            process.kill();
        }
        std::future::pending::<Infallible>().await
    };
    let ended = async {
        let mut pumps = std::pin::pin!(pumps);
        tokio::select! {
            () = &mut pumps => return process.child.wait().await,
            mut status = process.child.wait() => {
                if let Some(grace) = grace {
                    status.output_cut = timeout(grace, &mut pumps).await.is_err();
                    return status;
                }
                loop {
                    let before = activity.pieces.load(Ordering::Relaxed);
                    if timeout(QUIET, &mut pumps).await.is_ok() {
                        return status;
                    }
                    let silent = activity.pieces.load(Ordering::Relaxed) == before;
                    if silent && activity.waiting.load(Ordering::Relaxed) == 0 {
                        return status;
                    }
                }
            }
        }
    };
    tokio::select! {
        status = ended => status,
        never = cancelled => match never {},
    }
}

/// Moves one output to the host until its end; when the host has gone, to nowhere.
async fn pump(channel: &Channel, sink: &Sink, activity: &Activity) {
    let mut buffer = Vec::new();
    loop {
        // First there is something to read, then room for it, and only then it is read.
        let Ok(mut ready) = channel.fd.readable().await else {
            return;
        };
        let permit = if activity.discard.load(Ordering::Relaxed) {
            None
        } else {
            activity.waiting.fetch_add(1, Ordering::Relaxed);
            let permit = sink.0.reserve().await.ok();
            activity.waiting.fetch_sub(1, Ordering::Relaxed);
            if permit.is_none() {
                activity.discard.store(true, Ordering::Relaxed);
            }
            permit
        };
        buffer.reserve(OUTPUT_CHUNK_BYTES);
        let read = ready.try_io(|fd| Ok(rustix::io::read(fd, spare_capacity(&mut buffer))?));
        match read {
            Ok(Ok(1..)) => {
                activity.pieces.fetch_add(1, Ordering::Relaxed);
                let Some(permit) = permit else {
                    buffer.clear();
                    continue;
                };
                permit.send(Ok(ExecOutput {
                    output: Some((channel.wrap)(take(&mut buffer))),
                }));
            }
            Ok(Err(error)) if error.kind() == io::ErrorKind::Interrupted => {}
            // A terminal whose last user has closed it says EIO.
            Ok(Ok(0) | Err(_)) => return,
            Err(_would_block) => {}
        }
    }
}

/// The bytes of `buffer`, which keeps its memory when they are few.
fn take(buffer: &mut Vec<u8>) -> Bytes {
    if buffer.len() < OUTPUT_CHUNK_BYTES / 16 {
        let bytes = Bytes::copy_from_slice(buffer);
        buffer.clear();
        bytes
    } else {
        std::mem::take(buffer).into()
    }
}

/// What calls beside its own act on in an execution.
#[derive(Debug, Clone)]
pub(crate) struct Control {
    child: Arc<Child>,
    terminal: Option<Arc<AsyncFd<OwnedFd>>>,
}

impl Control {
    pub(crate) fn is_alive(&self) -> bool {
        self.child.is_alive()
    }

    /// Signals the process, or the process group in its terminal's foreground.
    pub(crate) fn signal(&self, signal: Signal) {
        let foreground: Option<Pid> = self
            .terminal
            .as_ref()
            .and_then(|terminal| tcgetpgrp(terminal.get_ref()).ok());
        if let Some(group) = foreground {
            let _ = kill_process_group(group, signal);
            // What is in the foreground may be another: this one must end all the same.
            if signal != Signal::KILL {
                return;
            }
        }
        if let Err(error) = self.child.signal(signal) {
            log!("signal {} to process {}: {error}", signal.as_raw(), self.child.pid());
        }
    }

    /// Tells the terminal, if there is one, its size.
    pub(crate) fn resize(&self, size: &TerminalSize) {
        if let Some(terminal) = &self.terminal {
            let _ = tcsetwinsize(terminal.get_ref(), window_size(size));
        }
    }
}

/// Takes what the host sends until it has no more to say.
async fn feed(mut input: Streaming<ExecInput>, stdin: Option<Stdin>) {
    let (queue, queued) = mpsc::channel::<Bytes>(INPUT_QUEUE);
    let writing = async {
        if let Some(stdin) = stdin {
            write_input(stdin, queued).await;
        }
    };
    let reading = async {
        let mut queue = Some(queue);
        // An error here is a stream that was reset: whoever sends the output sees it too.
        while let Ok(Some(message)) = input.message().await {
            match message.input {
                Some(Input::Stdin(bytes)) if !bytes.is_empty() => {
                    if let Some(queue) = &queue {
                        // Nobody reads any more: what comes is thrown away.
                        let _ = queue.send(bytes).await;
                    }
                }
                Some(Input::CloseStdin(_)) => queue = None,
                Some(Input::Stdin(_) | Input::Start(_)) | None => {}
            }
        }
    };
    tokio::join!(writing, reading);
}

/// Writes input until its end or until nobody reads it.
async fn write_input(stdin: Stdin, mut queued: mpsc::Receiver<Bytes>) {
    let fd = match &stdin {
        Stdin::Pipe(fd) => fd,
        Stdin::Terminal(fd) => fd.as_ref(),
    };
    while let Some(bytes) = queued.recv().await {
        if write_all(fd, &bytes).await.is_err() {
            // EPIPE of a pipe, EIO of a terminal: the reader is gone, and that is its business.
            return;
        }
    }
    if let Stdin::Terminal(fd) = &stdin
        && let Ok(mode) = tcgetattr(fd.get_ref())
        && mode.local_modes.contains(LocalModes::ICANON)
    {
        // A terminal has no end; a person would type its end-of-file character.
        let end = mode.special_codes[SpecialCodeIndex::VEOF];
        let _ = write_all(fd, &[end]).await;
    }
}

async fn write_all(fd: &AsyncFd<OwnedFd>, mut bytes: &[u8]) -> io::Result<()> {
    while !bytes.is_empty() {
        let count = fd
            .async_io(Interest::WRITABLE, |fd| Ok(rustix::io::write(fd, bytes)?))
            .await?;
        bytes = &bytes[count..];
    }
    Ok(())
}
