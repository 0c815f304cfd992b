//! What the boundary costs: the same things through the Go SDK, the library and the command.

use std::io::{copy, sink};
use std::process::Stdio;
use std::time::Instant;

use boxlite::BoxHandle;

use super::exec::{STREAM_MIB, output, per_second};
use crate::bench::{Bench, milliseconds, remove};
use crate::error::BenchError;
use crate::go::{GoProgram, contender};
use crate::report::{Group, Row, Unit};
use crate::sample::{Contender, interleave, row};

/// Calls in a sample: enough to forget the request around them.
const CALLS: u32 = 1_000_000;
/// Operations in a sample.
const OPERATIONS: u32 = 200;

pub(super) async fn measure(bench: &Bench, on_round: &mut dyn FnMut(usize)) -> Result<Vec<Row>, BenchError> {
    bench.template().await?;
    let go = tokio::task::block_in_place(|| GoProgram::start(bench));
    let sandbox = bench.idle(bench.options()).await?;
    let micro = |name: &str, title: &str| row(bench.id(name), Group::Sdk, Unit::Microseconds, title);
    let rate = |name: &str, title: String| row(bench.id(name), Group::Sdk, Unit::MegabytesPerSecond, title);
    let each = |count: u32| move |elapsed_ms: f64| elapsed_ms * 1e3 / f64::from(count);
    let bytes = STREAM_MIB << 20;
    let contenders = vec![
        contender(
            &go,
            micro("sdk/call", "Go → Rust → Go: `Version()`"),
            format!("call {CALLS}"),
            each(CALLS),
        ),
        contender(
            &go,
            micro("sdk/info", "an operation through Go: `Box.Info`").floor(bench.id("sdk/info-library")),
            format!("info {OPERATIONS}"),
            each(OPERATIONS),
        ),
        Contender::one(micro("sdk/info-library", "floor: the same by the Rust library"), || {
            info(&sandbox)
        }),
        contender(
            &go,
            rate("sdk/output", format!("exec output through Go, {STREAM_MIB} MiB"))
                .floor(bench.id("sdk/output-cli"))
                .floor(bench.id("sdk/output-library")),
            format!("output {bytes}"),
            move |elapsed_ms| bytes as f64 / 1e3 / elapsed_ms,
        ),
        Contender::one(
            rate("sdk/output-cli", "floor: the same by `boxlite exec`".to_owned()),
            || {
                let elapsed = tokio::task::block_in_place(|| by_command(bench, &sandbox));
                async move { per_second(bytes, elapsed?) }
            },
        ),
        Contender::one(
            rate("sdk/output-library", "floor: the same by the Rust library".to_owned()),
            || async { per_second(bytes, output(&sandbox).await?) },
        ),
    ];
    let rows = interleave(bench.settings.heavy, contenders, on_round).await;
    remove(&sandbox).await?;
    // It waits for the program to end.
    tokio::task::block_in_place(|| drop(go));
    Ok(rows)
}

/// Microseconds.
async fn info(sandbox: &BoxHandle) -> Result<f64, BenchError> {
    let begin = Instant::now();
    for _ in 0..OPERATIONS {
        sandbox.info().await.map_err(BenchError::boxlite("info"))?;
    }
    Ok(milliseconds(begin) * 1e3 / f64::from(OPERATIONS))
}

/// Milliseconds, through a pipe.
fn by_command(bench: &Bench, sandbox: &BoxHandle) -> Result<f64, BenchError> {
    let count = format!("count={STREAM_MIB}");
    let mut command = bench.cli(&["exec", sandbox.name(), "dd", "if=/dev/zero", "bs=1M", &count]);
    let begin = Instant::now();
    let spawned = command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn();
    let mut child = spawned.map_err(|source| BenchError::Spawn {
        program: bench.settings.cli.display().to_string(),
        source,
    })?;
    let taken = match child.stdout.take() {
        Some(mut stdout) => copy(&mut stdout, &mut sink()).map_err(BenchError::stream("stdout"))?,
        None => 0,
    };
    child.wait().map_err(BenchError::stream("wait"))?;
    let elapsed = milliseconds(begin);
    super::exec::whole("exec output by the command", taken)?;
    Ok(elapsed)
}
