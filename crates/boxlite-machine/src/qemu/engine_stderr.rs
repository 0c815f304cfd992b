//! The engine's last words.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::io::{AsyncRead, AsyncReadExt as _};
use tokio::task::JoinHandle;

/// Lines that are kept.
const LINES: usize = 20;
/// A longer line is cut.
const LINE_BYTES: usize = 1000;

/// The last lines that came on a stream.
#[derive(Debug, Clone, Default)]
pub(crate) struct LastLines(Arc<Mutex<Tail>>);

#[derive(Debug, Default)]
struct Tail {
    lines: VecDeque<String>,
    partial: Vec<u8>,
}

impl LastLines {
    /// Reads `stream` to its end, in a task.
    pub(crate) fn read(mut stream: impl AsyncRead + Unpin + Send + 'static) -> (Self, JoinHandle<()>) {
        let lines = Self::default();
        let filled = lines.clone();
        let task = tokio::spawn(async move {
            let mut buffer = [0; 4096];
            // An error on a pipe is its end.
            while let Ok(read @ 1..) = stream.read(&mut buffer).await {
                filled.push(&buffer[..read]);
            }
        });
        (lines, task)
    }

    fn push(&self, bytes: &[u8]) {
        let mut tail = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        for byte in bytes {
            if *byte != b'\n' {
                if tail.partial.len() < LINE_BYTES {
                    tail.partial.push(*byte);
                }
                continue;
            }
            let line = printable(&tail.partial);
            tail.partial.clear();
            tracing::warn!(line, "engine");
            if tail.lines.len() == LINES {
                tail.lines.pop_front();
            }
            tail.lines.push_back(line);
        }
    }

    pub(crate) fn get(&self) -> Vec<String> {
        let tail = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let mut lines: Vec<String> = tail.lines.iter().cloned().collect();
        if !tail.partial.is_empty() {
            lines.push(printable(&tail.partial));
        }
        lines
    }
}

fn printable(line: &[u8]) -> String {
    String::from_utf8_lossy(line)
        .chars()
        .filter(|c| !c.is_control())
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn keeps_the_last_lines_whole() {
        let text: String = (0..50).map(|n| format!("line {n}\n")).collect::<String>() + "unfinished";
        let (lines, task) = LastLines::read(std::io::Cursor::new(text));
        task.await.unwrap();
        let lines = lines.get();
        assert_eq!(lines.len(), LINES + 1);
        assert_eq!(lines[LINES - 1..], ["line 49", "unfinished"]);
    }

    #[tokio::test]
    async fn a_line_without_end_is_bounded() {
        let (lines, task) = LastLines::read(std::io::Cursor::new(vec![b'x'; 100_000]));
        task.await.unwrap();
        assert_eq!(lines.get()[0].len(), LINE_BYTES);
    }
}
