//! From nothing to the first output: cold, warm, through the command and through Go; and what
//! the same takes without boxlite.

use std::time::Instant;

use boxlite::{AttachOptions, BoxOptions, DEFAULT_CPUS, DEFAULT_MEMORY_MIB, StartPreference};
use tokio::io::AsyncReadExt as _;

use super::peers;
use crate::bench::{Bench, CPUS, IMAGE, MEMORY_MIB, milliseconds, remove};
use crate::error::BenchError;
use crate::go::{GoProgram, contender};
use crate::report::{Bar, Group, Row, Unit};
use crate::sample::{Contender, Observations, interleave, row};

/// Stages of a start as boxlite tells them, in their order.
const COLD_STAGES: [&str; 8] = [
    "launch",
    "prepare",
    "jail",
    "engine",
    "kernel",
    "agent",
    "configure",
    "main",
];
const WARM_STAGES: [&str; 8] = [
    "launch",
    "prepare",
    "jail",
    "engine",
    "restore",
    "agent",
    "configure",
    "main",
];

pub(super) async fn measure(bench: &Bench, on_round: &mut dyn FnMut(usize)) -> Result<Vec<Row>, BenchError> {
    bench.template().await?;
    bench.usual_template().await?;
    let go = tokio::task::block_in_place(|| GoProgram::start(bench));
    let mut contenders = floors(bench);
    contenders.push(Contender::several(start_rows(bench, "cold"), || {
        boxed(bench, "cold", bench.options().start(StartPreference::Cold))
    }));
    contenders.push(Contender::several(start_rows(bench, "warm"), || {
        boxed(bench, "warm", bench.options())
    }));
    contenders.push(usual(bench));
    contenders.push(command(bench));
    let title = "Go: `CreateBox`, `Start`, `Command(…).Output()`";
    let row = row(bench.id("go/start"), Group::Start, Unit::Milliseconds, title).floor(bench.id("warm/floor"));
    contenders.push(contender(&go, row, "start".to_owned(), |elapsed_ms| elapsed_ms));
    contenders.extend(peers::contenders(bench));
    let rows = interleave(bench.settings.rounds, contenders, on_round).await;
    // It waits for the program to end.
    tokio::task::block_in_place(|| drop(go));
    Ok(rows)
}

fn floors(bench: &Bench) -> Vec<Contender<'_>> {
    let start = |name: &str, title: &str| row(bench.id(name), Group::Start, Unit::Milliseconds, title);
    let raw = start("cold/floor", "floor: raw QEMU, kernel, an init that prints");
    let restored = start(
        "warm/floor",
        "floor: bare QEMU restored from a template, an init that runs a program",
    );
    let kit = match bench.kit() {
        Ok(kit) => kit,
        Err(why) => return vec![Contender::absent(raw, &why), Contender::absent(restored, why)],
    };
    let template = kit.template();
    let boot = Contender::one(raw, move || {
        let elapsed = tokio::task::block_in_place(|| kit.boot());
        async { elapsed }
    });
    let restore = match template {
        Ok(template) => Contender::one(restored, move || {
            let elapsed = tokio::task::block_in_place(|| template.first_output());
            async { elapsed }
        }),
        Err(error) => Contender::absent(restored, error),
    };
    vec![boot, restore]
}

/// The row of a start, and one for each part of its time.
fn start_rows(bench: &Bench, mode: &str) -> Vec<Row> {
    let id = bench.id(mode);
    let start = row(
        &id,
        Group::Start,
        Unit::Milliseconds,
        format!("{mode}: create → first output"),
    );
    let (group, stages, bars) = match mode {
        "cold" => (Group::ColdStages, COLD_STAGES, [1600.0, 1.6]),
        _ => (Group::WarmStages, WARM_STAGES, [250.0, 1.8]),
    };
    let floor = bench.id(&format!("{mode}/floor"));
    let mut start = start.floor(&floor);
    // The bars are for emulation.
    if bench.accelerator == "tcg" {
        let [value, factor] = bars;
        start = start
            .bar(Bar::AtMost { value })
            .bar(Bar::AtMostTimes { factor, row: floor })
            .bar(Bar::P99AtMostTimesP50 { factor: 2.0 });
    }
    let part = |name: &str, title: &str| row(format!("{id}/{name}"), group, Unit::Milliseconds, title);
    let mut rows = vec![
        start,
        part("create", "the call of `create`"),
        part("start", "the call of `start_attached`"),
    ];
    for stage in stages {
        rows.push(part(&format!("stage/{stage}"), &format!("· stage {stage}")));
    }
    rows.push(part("output", "from there to the first byte of output"));
    rows
}

/// One box from nothing to its first output.
async fn boxed(bench: &Bench, mode: &str, options: BoxOptions) -> Result<Observations, BenchError> {
    let id = bench.id(mode);
    let options = options.command(["echo", "first output"]);
    let begin = Instant::now();
    let handle = bench
        .client
        .create(options)
        .await
        .map_err(BenchError::boxlite("create"))?;
    let created = milliseconds(begin);
    let starting = handle.start_attached(AttachOptions::default()).await;
    let mut execution = starting.map_err(BenchError::boxlite("start"))?;
    let started = milliseconds(begin);
    let mut first = [0];
    let read = match execution.take_stdout() {
        Some(mut stdout) => stdout.read_exact(&mut first).await.map(drop),
        None => Err(std::io::ErrorKind::BrokenPipe.into()),
    };
    let elapsed = milliseconds(begin);
    read.map_err(BenchError::stream("stdout"))?;
    execution.wait().await.map_err(BenchError::boxlite("wait"))?;
    let info = handle.info().await.map_err(BenchError::boxlite("info"))?;
    remove(&handle).await?;
    let run = info.run.as_ref();
    let got = run.and_then(|run| run.start_mode.clone()).unwrap_or_default();
    if got != mode {
        let why = run.and_then(|run| run.cold_reason.clone()).unwrap_or_default();
        return Err(BenchError::Answer {
            what: "a start",
            expected: mode.to_owned(),
            got: format!("{got} ({why})"),
        });
    }
    let mut observations = vec![
        (id.clone(), elapsed),
        (format!("{id}/create"), created),
        (format!("{id}/start"), started - created),
        (format!("{id}/output"), elapsed - started),
    ];
    for stage in run.iter().flat_map(|run| &run.stages) {
        let name = format!("{id}/stage/{}", stage.stage);
        observations.push((name, stage.duration_us as f64 / 1e3));
    }
    Ok(observations)
}

/// A box of the shape that it has when nobody asks for another. It has two vCPUs, and so no bare
/// machine beside it.
fn usual(bench: &Bench) -> Contender<'_> {
    let title =
        format!("warm, of the usual shape ({DEFAULT_CPUS} vCPUs, {DEFAULT_MEMORY_MIB} MiB): create → first output");
    let usual = row(bench.id("warm/usual"), Group::Start, Unit::Milliseconds, title);
    Contender::one(usual, || async {
        let observations = boxed(bench, "warm", BoxOptions::new(IMAGE)).await?;
        // The first is the whole.
        match observations.first() {
            Some((_, elapsed)) => Ok(*elapsed),
            None => Err(BenchError::Answer {
                what: "a start",
                expected: "figures".to_owned(),
                got: "none".to_owned(),
            }),
        }
    })
}

fn command(bench: &Bench) -> Contender<'_> {
    let (cpus, memory) = (CPUS.to_string(), format!("{MEMORY_MIB}m"));
    let title = format!("`boxlite run --rm --cpus {cpus} --memory {memory} IMAGE true`, the whole process");
    let run = row(bench.id("cli/run"), Group::Start, Unit::Milliseconds, title).floor(bench.id("warm/floor"));
    Contender::one(run, move || {
        let arguments = ["run", "--rm", "--cpus", &cpus, "--memory", &memory, IMAGE, "true"];
        let elapsed = tokio::task::block_in_place(|| bench.time_cli(&arguments));
        async { elapsed }
    })
}
