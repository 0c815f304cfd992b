//! The guest's serial console: kept in a bounded file, watched for panics.

use std::collections::VecDeque;
use std::fs::{File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::guest_text::printable;
use boxlite_machine::ConsoleLog;
use tokio::io::{AsyncRead, AsyncReadExt as _};
use tokio::sync::watch;

/// Lines that are kept for messages.
const TAIL_LINES: usize = 40;
/// A longer line is cut: the guest decides how long its lines are.
const MAX_LINE_BYTES: usize = 400;
/// How long the end of an engine's console may take.
const END_TIMEOUT: Duration = Duration::from_secs(1);
/// What Linux says first when it panics.
const PANIC_TEXT: &str = "Kernel panic - not syncing";

/// What the console has said so far.
#[derive(Debug, Clone)]
pub(crate) struct Console {
    tail: Arc<Mutex<Tail>>,
    /// Bytes that have come.
    bytes: watch::Receiver<u64>,
}

#[derive(Debug, Default)]
struct Tail {
    lines: VecDeque<String>,
    partial: Vec<u8>,
    panic: Option<String>,
}

impl Console {
    /// Reads `stream` to its end and keeps what comes, in a task.
    pub(crate) fn spawn(mut stream: impl AsyncRead + Unpin + Send + 'static, log: &ConsoleLog) -> Self {
        let mut file = RotatingFile::new(log);
        let tail = Arc::new(Mutex::new(Tail::default()));
        let (count, bytes) = watch::channel(0);
        let console = Self {
            tail: Arc::clone(&tail),
            bytes,
        };
        tokio::spawn(async move {
            let mut buffer = vec![0; 16 * 1024];
            loop {
                let read = match stream.read(&mut buffer).await {
                    Ok(0) => break,
                    Ok(read) => read,
                    Err(error) => {
                        tracing::debug!(%error, "the console ended");
                        break;
                    }
                };
                file.append(&buffer[..read]);
                lock(&tail).push(&buffer[..read]);
                count.send_modify(|bytes| *bytes += read as u64);
            }
        });
        console
    }

    /// Waits until everything that the engine has written is here, but not for ever.
    pub(crate) async fn ended(&self) {
        let mut bytes = self.bytes.clone();
        // The sender goes when the stream has ended.
        let end = async { while bytes.changed().await.is_ok() {} };
        let _ = tokio::time::timeout(END_TIMEOUT, end).await;
    }

    /// Changes whenever something has come.
    pub(crate) fn bytes(&self) -> watch::Receiver<u64> {
        self.bytes.clone()
    }

    /// The last lines, without control characters.
    pub(crate) fn last_lines(&self) -> Vec<String> {
        let tail = lock(&self.tail);
        let mut lines: Vec<String> = tail.lines.iter().cloned().collect();
        if !tail.partial.is_empty() {
            lines.push(printable(&tail.partial));
        }
        lines
    }

    /// The line in which the guest's kernel said that it panicked.
    pub(crate) fn panic(&self) -> Option<String> {
        lock(&self.tail).panic.clone()
    }
}

fn lock(tail: &Mutex<Tail>) -> MutexGuard<'_, Tail> {
    tail.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Tail {
    fn push(&mut self, bytes: &[u8]) {
        for byte in bytes {
            if *byte == b'\n' {
                self.end_line();
            } else if self.partial.len() < MAX_LINE_BYTES {
                self.partial.push(*byte);
            }
        }
        // A panic ends the machine, perhaps in the middle of the line.
        self.look_for_panic();
    }

    fn end_line(&mut self) {
        self.look_for_panic();
        let line = printable(&self.partial);
        self.partial.clear();
        if line.is_empty() {
            return;
        }
        if self.lines.len() == TAIL_LINES {
            self.lines.pop_front();
        }
        self.lines.push_back(line);
    }

    fn look_for_panic(&mut self) {
        let found = self
            .partial
            .windows(PANIC_TEXT.len())
            .any(|window| window == PANIC_TEXT.as_bytes());
        if found && self.panic.is_none() {
            self.panic = Some(printable(&self.partial));
        }
    }
}

/// A file and the one before it, which together keep to a size.
#[derive(Debug)]
struct RotatingFile {
    path: PathBuf,
    max_file_bytes: u64,
    file: Option<(File, u64)>,
    failed: bool,
}

impl RotatingFile {
    fn new(log: &ConsoleLog) -> Self {
        Self {
            path: log.path.clone(),
            max_file_bytes: (log.max_bytes / 2).max(4096),
            file: None,
            failed: false,
        }
    }

    /// The box goes on when its console can't be kept; that is said once.
    fn append(&mut self, bytes: &[u8]) {
        for piece in bytes.chunks(4096) {
            if let Err(error) = self.append_piece(piece)
                && !std::mem::replace(&mut self.failed, true)
            {
                tracing::warn!(path = %self.path.display(), %error, "the console can't be kept");
            }
        }
    }

    fn append_piece(&mut self, piece: &[u8]) -> io::Result<()> {
        let length = piece.len() as u64;
        let (mut file, size) = match self.file.take() {
            Some((file, size)) if size + length <= self.max_file_bytes => (file, size),
            Some(_) => (self.rotate()?, 0),
            None => {
                let file = self.open()?;
                let size = file.metadata()?.len();
                if size + length <= self.max_file_bytes {
                    (file, size)
                } else {
                    (self.rotate()?, 0)
                }
            }
        };
        file.write_all(piece)?;
        self.file = Some((file, size + length));
        Ok(())
    }

    fn open(&self) -> io::Result<File> {
        OpenOptions::new()
            .append(true)
            .create(true)
            .mode(0o600)
            .open(&self.path)
    }

    fn rotate(&self) -> io::Result<File> {
        let mut old = self.path.as_os_str().to_owned();
        old.push(".1");
        std::fs::rename(&self.path, old)?;
        self.open()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn console_log(dir: &tempfile::TempDir, max_bytes: u64) -> ConsoleLog {
        ConsoleLog {
            path: dir.path().join("console.log"),
            max_bytes,
        }
    }

    #[tokio::test]
    async fn keeps_the_newest_within_the_limit() {
        let dir = tempfile::tempdir().unwrap();
        let log = console_log(&dir, 16 * 1024);
        let input: Vec<u8> = (0..5000).flat_map(|n| format!("line {n}\n").into_bytes()).collect();
        let console = Console::spawn(std::io::Cursor::new(input.clone()), &log);
        console.ended().await;
        let old = std::fs::read(dir.path().join("console.log.1")).unwrap();
        let new = std::fs::read(&log.path).unwrap();
        assert!(old.len() + new.len() <= 16 * 1024);
        assert!(input.ends_with(&[old, new].concat()));
        assert_eq!(console.last_lines().last().unwrap(), "line 4999");
        assert_eq!(console.last_lines().len(), TAIL_LINES);
        assert_eq!(*console.bytes().borrow(), input.len() as u64);
        assert_eq!(console.panic(), None);
    }

    #[tokio::test]
    async fn sees_a_panic_also_in_pieces_and_unfinished() {
        let dir = tempfile::tempdir().unwrap();
        let text = b"[ 0.1] ok\r\n[    1.5] \x1b[31mKernel panic - not syncing: no init".as_slice();
        let (first, second) = text.split_at(35);
        let stream = tokio::io::AsyncReadExt::chain(first, second);
        let console = Console::spawn(stream, &console_log(&dir, 8192));
        console.ended().await;
        assert_eq!(
            console.panic().unwrap(),
            "[    1.5] [31mKernel panic - not syncing: no init"
        );
        assert_eq!(console.last_lines()[0], "[ 0.1] ok");
    }

    proptest::proptest! {
        #[test]
        fn any_bytes_stay_bounded(pieces: Vec<Vec<u8>>) {
            let mut tail = Tail::default();
            for piece in &pieces {
                tail.push(piece);
            }
            proptest::prop_assert!(tail.partial.len() <= MAX_LINE_BYTES);
            let escapes = tail.lines.iter().any(|line| line.contains('\u{1b}'));
            proptest::prop_assert!(!escapes);
        }
    }
}
