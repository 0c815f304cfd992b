//! Processes in a box that runs: the round trip of `true`, and the bytes of streams.

use std::time::Instant;
use tokio::sync::Mutex;

use boxlite::{BoxHandle, ExecOptions, ExecOutput, ExecStdin};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use crate::bench::{Bench, milliseconds, remove, run_in};
use crate::error::BenchError;
use crate::floor::BareMachine;
use crate::report::{Bar, Group, Row, Unit};
use crate::sample::{Contender, interleave, row};

/// Programs in one sample of the loops: enough to forget the request around them.
const LOOP: u32 = 20;
/// How much a sample of a stream moves: enough to last some tenths of a second.
pub(super) const STREAM_MIB: u64 = 128;
const MIB: u64 = 1 << 20;
/// What a writer writes at once.
static BLOCK: [u8; 1 << 16] = [0; 1 << 16];

pub(super) async fn measure(bench: &Bench, on_round: &mut dyn FnMut(usize)) -> Result<Vec<Row>, BenchError> {
    bench.template().await?;
    let sandbox = bench.idle(bench.options()).await?;
    let mut echo = sandbox
        .exec(ExecOptions::new(["cat"]).stdin(true))
        .await
        .map_err(BenchError::boxlite("exec"))?;
    let ends = echo.take_stdin().zip(echo.take_stdout());
    let Some(ends) = ends else {
        return Err(BenchError::Stream {
            stream: "cat",
            source: std::io::ErrorKind::BrokenPipe.into(),
        });
    };
    let ends = Mutex::new(ends);
    let bare = bare(bench);
    let fast = latencies(bench, &sandbox, &ends, &bare);
    let mut rows = interleave(bench.settings.rounds, fast, &mut *on_round).await;
    drop(echo);
    let rates = interleave(bench.settings.heavy, rates(bench, &sandbox, &bare), on_round);
    rows.extend(rates.await);
    remove(&sandbox).await?;
    Ok(rows)
}

/// A bare machine that serves as long as the box lives.
fn bare(bench: &Bench) -> Result<Mutex<BareMachine>, String> {
    let machine = bench.kit()?.template().and_then(|template| template.restore());
    machine.map(Mutex::new).map_err(|error| error.to_string())
}

/// Something that asks the bare machine.
fn ask<'a>(
    machine: &'a Result<Mutex<BareMachine>, String>,
    row: Row,
    mut request: impl FnMut(&mut BareMachine) -> Result<f64, BenchError> + 'a,
) -> Contender<'a> {
    match machine {
        Ok(machine) => Contender::one(row, move || {
            let value = tokio::task::block_in_place(|| request(&mut machine.blocking_lock()));
            async { value }
        }),
        Err(why) => Contender::absent(row, why),
    }
}

fn latencies<'a>(
    bench: &'a Bench,
    sandbox: &'a BoxHandle,
    echo: &'a Mutex<(ExecStdin, ExecOutput)>,
    bare: &'a Result<Mutex<BareMachine>, String>,
) -> Vec<Contender<'a>> {
    let latency = |name: &str, title: &str| row(bench.id(name), Group::Exec, Unit::Milliseconds, title);
    let mut exec = latency("exec/true", "exec of `true`, until its exit status")
        .floor(bench.id("exec/fork"))
        .floor(bench.id("exec/echo"));
    if bench.accelerator == "tcg" {
        exec = exec
            .bar(Bar::AtMost { value: 15.0 })
            .bar(Bar::P99AtMostTimesP50 { factor: 2.0 });
    }
    let script = format!("i=0; while [ $i -lt {LOOP} ]; do /bin/busybox true; i=$((i+1)); done");
    let cli = latency("exec/cli", "`boxlite exec BOX true`, the whole process").floor(bench.id("exec/true"));
    vec![
        Contender::one(exec, move || async move {
            let begin = Instant::now();
            run_in(sandbox, &["true"]).await?;
            Ok(milliseconds(begin))
        }),
        Contender::one(cli, move || {
            let elapsed = tokio::task::block_in_place(|| bench.time_cli(&["exec", sandbox.name(), "true"]));
            async { elapsed }
        }),
        Contender::one(
            latency("exec/fork", "floor: fork and exec of `true` by a shell in the box"),
            move || {
                let script = script.clone();
                async move {
                    let begin = Instant::now();
                    run_in(sandbox, &["sh", "-c", &script]).await?;
                    let all = milliseconds(begin);
                    let begin = Instant::now();
                    run_in(sandbox, &["sh", "-c", "true"]).await?;
                    // The shell itself, and the exec that started it, are not part of the loop.
                    Ok((all - milliseconds(begin)).max(0.0) / f64::from(LOOP))
                }
            },
        ),
        Contender::one(
            latency("exec/echo", "floor: a byte through `cat` in the box, there and back"),
            move || async move {
                let (stdin, stdout) = &mut *echo.lock().await;
                let begin = Instant::now();
                stdin.write_all(b"x").await.map_err(BenchError::stream("stdin"))?;
                stdin.flush().await.map_err(BenchError::stream("stdin"))?;
                stdout
                    .read_exact(&mut [0])
                    .await
                    .map_err(BenchError::stream("stdout"))?;
                Ok(milliseconds(begin))
            },
        ),
        ask(
            bare,
            latency(
                "exec/bare-spawn",
                "floor: fork and exec of the smallest program in a bare machine",
            ),
            |machine| Ok(machine.round_trip(&format!("spawn {LOOP}"))? / f64::from(LOOP)),
        ),
        ask(
            bare,
            latency(
                "exec/bare-byte",
                "floor: a line over a bare virtio-serial port, there and back",
            ),
            |machine| machine.round_trip("byte"),
        ),
    ]
}

fn rates<'a>(
    bench: &'a Bench,
    sandbox: &'a BoxHandle,
    bare: &'a Result<Mutex<BareMachine>, String>,
) -> Vec<Contender<'a>> {
    let rate = |name: &str, title: String| row(bench.id(name), Group::Throughput, Unit::MegabytesPerSecond, title);
    let bytes = STREAM_MIB * MIB;
    let out = rate("exec/output", format!("exec output, {STREAM_MIB} MiB")).floor(bench.id("exec/bare-read"));
    let into = rate("exec/stdin", format!("exec stdin, {STREAM_MIB} MiB")).floor(bench.id("exec/bare-write"));
    let raw_out = rate(
        "exec/bare-read",
        "floor: bytes from a bare virtio-serial port".to_owned(),
    );
    let raw_in = rate(
        "exec/bare-write",
        "floor: bytes to a bare virtio-serial port".to_owned(),
    );
    vec![
        Contender::one(out, move || async move { per_second(bytes, output(sandbox).await?) }),
        ask(bare, raw_out, move |machine| per_second(bytes, machine.source(bytes)?)),
        Contender::one(into, move || async move { per_second(bytes, input(sandbox).await?) }),
        ask(bare, raw_in, move |machine| {
            per_second(bytes, machine.sink(bytes / BLOCK.len() as u64, &BLOCK)?)
        }),
    ]
}

pub(super) async fn output(sandbox: &BoxHandle) -> Result<f64, BenchError> {
    let count = format!("count={STREAM_MIB}");
    let begin = Instant::now();
    let options = ExecOptions::new(["dd", "if=/dev/zero", "bs=1M", count.as_str()]);
    let mut execution = sandbox.exec(options).await.map_err(BenchError::boxlite("exec"))?;
    let mut taken = 0;
    if let Some(mut stdout) = execution.take_stdout() {
        let mut buffer = vec![0; BLOCK.len()];
        loop {
            let part = stdout.read(&mut buffer).await.map_err(BenchError::stream("stdout"))?;
            taken += part as u64;
            if part == 0 {
                break;
            }
        }
    }
    execution.wait().await.map_err(BenchError::boxlite("wait"))?;
    whole("exec output", taken)?;
    Ok(milliseconds(begin))
}

async fn input(sandbox: &BoxHandle) -> Result<f64, BenchError> {
    let begin = Instant::now();
    // It says how much has come, when all of it has; `wc` would take it byte by byte.
    let options = ExecOptions::new(["sh", "-c", "dd bs=64k iflag=fullblock of=/dev/null 2>&1 | tail -n 1"]).stdin(true);
    let mut execution = sandbox.exec(options).await.map_err(BenchError::boxlite("exec"))?;
    if let Some(mut stdin) = execution.take_stdin() {
        for _ in 0..STREAM_MIB * MIB / BLOCK.len() as u64 {
            stdin.write_all(&BLOCK).await.map_err(BenchError::stream("stdin"))?;
        }
        stdin.shutdown().await.map_err(BenchError::stream("stdin"))?;
    }
    let mut count = String::new();
    if let Some(mut stdout) = execution.take_stdout() {
        stdout
            .read_to_string(&mut count)
            .await
            .map_err(BenchError::stream("stdout"))?;
    }
    execution.wait().await.map_err(BenchError::boxlite("wait"))?;
    // `2048+0 records out`
    let blocks: u64 = count.split('+').next().unwrap_or_default().parse().unwrap_or_default();
    whole("exec stdin", blocks * BLOCK.len() as u64)?;
    Ok(milliseconds(begin))
}

pub(super) fn whole(what: &'static str, taken: u64) -> Result<(), BenchError> {
    if taken == STREAM_MIB * MIB {
        return Ok(());
    }
    Err(BenchError::Answer {
        what,
        expected: format!("{} bytes", STREAM_MIB * MIB),
        got: taken.to_string(),
    })
}

/// MB/s.
pub(super) fn per_second(bytes: u64, elapsed_ms: f64) -> Result<f64, BenchError> {
    Ok(bytes as f64 / 1e3 / elapsed_ms)
}
