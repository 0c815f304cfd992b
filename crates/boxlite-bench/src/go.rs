//! The Go SDK, asked for samples: a Go program of the tree (`sdks/go/internal/bench`).

use std::io::{BufRead as _, BufReader, Write as _};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::Mutex;

use crate::bench::{Bench, CPUS, IMAGE, MEMORY_MIB};
use crate::error::BenchError;
use crate::host;
use crate::report::Row;
use crate::sample::Contender;

/// A Go program that answers requests with milliseconds. It ends when it is dropped, and removes
/// its boxes before.
#[derive(Debug)]
pub(crate) struct GoProgram {
    child: Child,
    /// Taken when the program shall end.
    requests: Option<ChildStdin>,
    answers: BufReader<ChildStdout>,
}

impl GoProgram {
    /// Builds the program and starts it. Blocking.
    ///
    /// # Errors
    /// When there is no Go, or the library that the SDK links has not been built.
    pub(crate) fn start(bench: &Bench) -> Result<Mutex<Self>, String> {
        let tree = concat!(env!("CARGO_MANIFEST_DIR"), "/../../sdks/go");
        let program = bench.work.join("go-bench");
        let mut build = Command::new("go");
        build.current_dir(tree).args(["build", "-o"]).arg(&program);
        host::output(build.arg("./internal/bench")).map_err(|error| format!("{error}: make go"))?;
        let mut command = Command::new(&program);
        command.args(["-image", IMAGE, "-cpus", &CPUS.to_string()]);
        command.args(["-memory-mib", &MEMORY_MIB.to_string()]);
        command
            .env("BOXLITE_HOME", &bench.home)
            .env("BOXLITE_ACCEL", bench.accelerator);
        command.stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.spawn().map_err(|error| error.to_string())?;
        match (child.stdin.take(), child.stdout.take()) {
            (requests @ Some(_), Some(answers)) => Ok(Mutex::new(Self {
                child,
                requests,
                answers: BufReader::new(answers),
            })),
            _ => Err("the Go program has no streams".to_owned()),
        }
    }

    /// Asks for a sample. Blocking.
    pub(crate) fn ask(&mut self, request: &str) -> Result<f64, BenchError> {
        let mut answer = String::new();
        let asked = match &mut self.requests {
            Some(requests) => writeln!(requests, "{request}"),
            None => Err(std::io::ErrorKind::BrokenPipe.into()),
        };
        asked
            .and_then(|()| self.answers.read_line(&mut answer))
            .map_err(BenchError::stream("the Go program"))?;
        answer.trim().parse().map_err(|_| BenchError::Answer {
            what: "the Go program",
            expected: "milliseconds".to_owned(),
            got: answer.trim().to_owned(),
        })
    }
}

impl Drop for GoProgram {
    fn drop(&mut self) {
        drop(self.requests.take());
        // There is nobody to tell that it had not ended well.
        let _ = self.child.wait();
    }
}

/// Something that asks the Go program; `figure` makes the row's unit of its milliseconds.
pub(crate) fn contender<'a>(
    program: &'a Result<Mutex<GoProgram>, String>,
    row: Row,
    request: String,
    figure: impl Fn(f64) -> f64 + 'a,
) -> Contender<'a> {
    match program {
        Ok(program) => Contender::one(row, move || {
            let answer = tokio::task::block_in_place(|| {
                let mut program = program.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
                program.ask(&request)
            });
            let value = answer.map(&figure);
            async { value }
        }),
        Err(why) => Contender::absent(row, why),
    }
}
