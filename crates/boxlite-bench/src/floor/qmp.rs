//! As much of QEMU's control protocol as saving and restoring a bare machine takes.

use std::io::{BufRead as _, BufReader, Write as _};
use std::os::unix::net::UnixStream;
use std::time::Duration;

use serde_json::{Value, json};

use crate::error::BenchError;

/// Nothing that is asked here takes longer, on the slowest of machines.
const PATIENCE: Duration = Duration::from_secs(60);

/// A conversation with QEMU.
#[derive(Debug)]
pub(crate) struct Qmp {
    stream: BufReader<UnixStream>,
}

impl Qmp {
    /// Takes the greeting. Blocking.
    pub(crate) fn greet(stream: UnixStream) -> Result<Self, BenchError> {
        stream
            .set_read_timeout(Some(PATIENCE))
            .map_err(BenchError::stream("QMP"))?;
        let mut qmp = Self {
            stream: BufReader::new(stream),
        };
        qmp.message()?;
        Ok(qmp)
    }

    /// Sends commands in one go, and waits for the answers to all of them; gives the last.
    pub(crate) fn execute(&mut self, commands: &[(&str, Value)]) -> Result<Value, BenchError> {
        let mut text = String::new();
        for (name, arguments) in commands {
            text.push_str(&json!({ "execute": name, "arguments": arguments }).to_string());
            text.push('\n');
        }
        self.stream
            .get_mut()
            .write_all(text.as_bytes())
            .map_err(BenchError::stream("QMP"))?;
        let mut last = Value::Null;
        for _ in commands {
            last = self.answer()?;
        }
        Ok(last)
    }

    fn answer(&mut self) -> Result<Value, BenchError> {
        loop {
            let mut message = self.message()?;
            if let Some(error) = message.get("error") {
                return Err(BenchError::Answer {
                    what: "QMP",
                    expected: "a return".to_owned(),
                    got: error.to_string(),
                });
            }
            if let Some(value) = message.get_mut("return") {
                return Ok(value.take());
            }
        }
    }

    /// Events too.
    fn message(&mut self) -> Result<Value, BenchError> {
        let mut line = String::new();
        self.stream.read_line(&mut line).map_err(BenchError::stream("QMP"))?;
        serde_json::from_str(&line).map_err(|source| BenchError::Json {
            what: "QMP".to_owned(),
            source,
        })
    }
}
