//! QEMU's control channel (QMP): JSON objects, one a line, answers in the order of
//! the commands, events in between.

use std::collections::VecDeque;
use std::io::{self, IoSlice};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::sync::{Arc, Mutex, PoisonError};

use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags, sendmsg};
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::UnixStream;
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};
use tokio::sync::{mpsc, oneshot};

/// The longest line that is taken from the engine.
const MAX_LINE_BYTES: u64 = 4 << 20;

/// A QMP command did not succeed.
#[derive(Debug, thiserror::Error)]
pub enum QmpError {
    /// The engine is gone, or its channel broke.
    #[error("the engine's control channel ended")]
    Closed,
    /// The channel could not be written.
    #[error("writing to the engine's control channel")]
    Write(#[source] io::Error),
    /// The engine refused.
    #[error("the engine refused {command}: {description}")]
    Refused {
        /// The command.
        command: &'static str,
        /// The engine's class of errors.
        class: String,
        /// The engine's words.
        description: String,
    },
}

/// Something that the engine reports by itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Event {
    pub(crate) name: String,
    pub(crate) data: Value,
}

/// One line from the engine.
#[derive(Debug, PartialEq)]
pub(crate) enum Line {
    Greeting,
    Return(Value),
    Error { class: String, description: String },
    Event(Event),
}

/// Reads one line; `None` for one that is not QMP.
pub(crate) fn parse(line: &[u8]) -> Option<Line> {
    #[derive(Deserialize)]
    struct Wire {
        #[serde(rename = "QMP")]
        greeting: Option<Value>,
        #[serde(rename = "return")]
        returned: Option<Value>,
        error: Option<WireError>,
        event: Option<String>,
        #[serde(default)]
        data: Value,
    }
    #[derive(Deserialize)]
    struct WireError {
        class: String,
        desc: String,
    }
    let wire: Wire = serde_json::from_slice(line).ok()?;
    Some(match wire {
        Wire { greeting: Some(_), .. } => Line::Greeting,
        Wire {
            event: Some(name),
            data,
            ..
        } => Line::Event(Event { name, data }),
        Wire { error: Some(error), .. } => Line::Error {
            class: error.class,
            description: error.desc,
        },
        Wire {
            returned: Some(value), ..
        } => Line::Return(value),
        _ => return None,
    })
}

/// A command on its way out.
#[derive(Debug)]
struct Command {
    line: Vec<u8>,
    /// Goes with the first byte (`unix(7)`, `SCM_RIGHTS`).
    descriptor: Option<OwnedFd>,
    answer: oneshot::Sender<Answer>,
}

type Answer = Result<Value, (String, String)>;
type Pending = Arc<Mutex<VecDeque<oneshot::Sender<Answer>>>>;

/// A client of the control channel. Commands may be sent at the same time.
#[derive(Debug, Clone)]
pub(crate) struct Qmp {
    commands: mpsc::Sender<Command>,
}

impl Qmp {
    /// Takes over `stream` in two tasks. Events go to `events`.
    pub(crate) fn new(stream: UnixStream, events: mpsc::UnboundedSender<Event>) -> Self {
        let (read, write) = stream.into_split();
        let pending = Pending::default();
        let (commands, receiver) = mpsc::channel(16);
        tokio::spawn(write_commands(write, receiver, Arc::clone(&pending)));
        tokio::spawn(read_lines(read, events, pending));
        Self { commands }
    }

    /// Runs `command`, and answers what it returned.
    pub(crate) async fn execute(&self, command: &'static str, arguments: Value) -> Result<Value, QmpError> {
        self.run(command, arguments, None).await
    }

    /// Runs a `command` that takes a descriptor.
    pub(crate) async fn send_descriptor(
        &self,
        command: &'static str,
        arguments: Value,
        descriptor: BorrowedFd<'_>,
    ) -> Result<Value, QmpError> {
        let descriptor = descriptor.try_clone_to_owned().map_err(QmpError::Write)?;
        self.run(command, arguments, Some(descriptor)).await
    }

    async fn run(
        &self,
        command: &'static str,
        arguments: Value,
        descriptor: Option<OwnedFd>,
    ) -> Result<Value, QmpError> {
        let mut line = match arguments {
            Value::Null => json!({ "execute": command }),
            arguments => json!({ "execute": command, "arguments": arguments }),
        }
        .to_string()
        .into_bytes();
        line.push(b'\n');
        let (sender, answer) = oneshot::channel();
        let sent = Command {
            line,
            descriptor,
            answer: sender,
        };
        self.commands.send(sent).await.map_err(|_| QmpError::Closed)?;
        match answer.await {
            Ok(Ok(value)) => Ok(value),
            Ok(Err((class, description))) => Err(QmpError::Refused {
                command,
                class,
                description,
            }),
            Err(_) => Err(QmpError::Closed),
        }
    }
}

async fn write_commands(mut stream: OwnedWriteHalf, mut commands: mpsc::Receiver<Command>, pending: Pending) {
    while let Some(Command {
        line,
        descriptor,
        answer,
    }) = commands.recv().await
    {
        // Before the write: the answer may come while it is still under way.
        pending.lock().unwrap_or_else(PoisonError::into_inner).push_back(answer);
        let written = match &descriptor {
            None => stream.write_all(&line).await,
            Some(descriptor) => write_with(&mut stream, &line, descriptor).await,
        };
        if let Err(error) = written {
            tracing::debug!(%error, "the engine takes no more commands");
            pending.lock().unwrap_or_else(PoisonError::into_inner).clear();
            return;
        }
    }
}

/// Writes `line`, and sends `descriptor` along.
async fn write_with(stream: &mut OwnedWriteHalf, line: &[u8], descriptor: &OwnedFd) -> io::Result<()> {
    let descriptors = [descriptor.as_fd()];
    let sent = loop {
        stream.writable().await?;
        let send = || {
            let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
            let mut rights = SendAncillaryBuffer::new(&mut space);
            // There is room for one by construction.
            rights.push(SendAncillaryMessage::ScmRights(&descriptors));
            let bytes = [IoSlice::new(line)];
            Ok(sendmsg(
                AsRef::<UnixStream>::as_ref(stream),
                &bytes,
                &mut rights,
                SendFlags::NOSIGNAL,
            )?)
        };
        match AsRef::<UnixStream>::as_ref(stream).try_io(tokio::io::Interest::WRITABLE, send) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            sent => break sent?,
        }
    };
    stream.write_all(&line[sent..]).await
}

async fn read_lines(stream: OwnedReadHalf, events: mpsc::UnboundedSender<Event>, pending: Pending) {
    let mut reader = BufReader::new(stream);
    let mut line = Vec::new();
    loop {
        line.clear();
        match (&mut reader).take(MAX_LINE_BYTES).read_until(b'\n', &mut line).await {
            Ok(read) if read > 0 && line.ends_with(b"\n") => {}
            Ok(_) => break,
            Err(error) => {
                tracing::debug!(%error, "the engine's control channel broke");
                break;
            }
        }
        let answer = match parse(&line) {
            Some(Line::Event(event)) => {
                tracing::debug!(event = event.name, data = %event.data, "engine");
                // Nobody may be interested any more.
                let _ = events.send(event);
                continue;
            }
            Some(Line::Greeting) => continue,
            Some(Line::Return(value)) => Ok(value),
            Some(Line::Error { class, description }) => Err((class, description)),
            None => {
                tracing::warn!(bytes = line.len(), "the engine said something that is not QMP");
                continue;
            }
        };
        if let Some(sender) = pending.lock().unwrap_or_else(PoisonError::into_inner).pop_front() {
            let _ = sender.send(answer);
        }
    }
    pending.lock().unwrap_or_else(PoisonError::into_inner).clear();
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn knows_the_kinds_of_lines() {
        assert_eq!(
            parse(br#"{"QMP": {"version": {}, "capabilities": ["oob"]}}"#),
            Some(Line::Greeting)
        );
        assert_eq!(parse(br#"{"return": {"a": 1}}"#), Some(Line::Return(json!({"a": 1}))));
        assert_eq!(
            parse(br#"{"error": {"class": "CommandNotFound", "desc": "no"}}"#),
            Some(Line::Error {
                class: "CommandNotFound".into(),
                description: "no".into()
            })
        );
        let event =
            br#"{"timestamp": {"seconds": 1, "microseconds": 2}, "event": "SHUTDOWN", "data": {"guest": true}}"#;
        assert_eq!(
            parse(event),
            Some(Line::Event(Event {
                name: "SHUTDOWN".into(),
                data: json!({"guest": true})
            }))
        );
        assert_eq!(parse(br#"{"id": 1}"#), None);
    }

    #[tokio::test]
    async fn answers_reach_their_commands_around_events_and_garbage() {
        let (ours, theirs) = UnixStream::pair().unwrap();
        let (sender, mut events) = mpsc::unbounded_channel();
        let qmp = Qmp::new(ours, sender);
        let engine = async {
            let mut lines = BufReader::new(theirs);
            lines.get_mut().write_all(b"{\"QMP\": {}}\nnonsense\n").await.unwrap();
            for answer in [
                "{\"event\": \"STOP\"}\n{\"return\": 7}\n",
                "{\"error\": {\"class\": \"C\", \"desc\": \"D\"}}\n",
            ] {
                let mut line = String::new();
                lines.read_line(&mut line).await.unwrap();
                assert!(line.contains("\"execute\":\"query-it\""), "{line}");
                lines.get_mut().write_all(answer.as_bytes()).await.unwrap();
            }
        };
        let client = async {
            assert_eq!(qmp.execute("query-it", Value::Null).await.unwrap(), json!(7));
            let refused = qmp.execute("query-it", json!({"x": 1})).await.unwrap_err();
            assert_eq!(refused.to_string(), "the engine refused query-it: D");
        };
        tokio::join!(engine, client);
        assert_eq!(events.recv().await.unwrap().name, "STOP");
        assert!(matches!(
            qmp.execute("query-it", Value::Null).await,
            Err(QmpError::Closed | QmpError::Write(_))
        ));
    }

    proptest! {
        #[test]
        fn any_line_is_parsed_without_panic(line: Vec<u8>) {
            let _ = parse(&line);
        }

        #[test]
        fn returns_survive(text: String, number: i64) {
            let value = json!({ "text": text, "number": number });
            let line = json!({ "return": value }).to_string();
            prop_assert_eq!(parse(line.as_bytes()), Some(Line::Return(value)));
        }
    }
}
