//! Boxes at once, and the ends of boxes.

use std::time::Instant;

use boxlite::StopOptions;
use futures_util::future::try_join_all;

use crate::bench::{Bench, milliseconds, remove, run_in};
use crate::error::BenchError;
use crate::report::{Bar, Group, Row, Unit};
use crate::sample::{Contender, Observations, interleave, row};

/// How many boxes are started at once.
const CROWDS: [usize; 3] = [1, 5, 20];
/// The crowd against its serial starts: starting together must not cost more than waiting.
const CROWD_FACTOR: f64 = 1.1;

/// Crowds against as many boxes one after the other, and what ends cost.
pub(super) async fn measure(bench: &Bench, on_round: &mut dyn FnMut(usize)) -> Result<Vec<Row>, BenchError> {
    bench.template().await?;
    let mut contenders = Vec::new();
    for boxes in CROWDS {
        let (id, serial) = (
            bench.id(&format!("many/{boxes}")),
            bench.id(&format!("many/{boxes}-serial")),
        );
        let title = |how: &str| format!("{boxes} boxes {how}: create → first output of the last");
        let crowd = row(&id, Group::Many, Unit::Milliseconds, title("at once"))
            .floor(&serial)
            .bar(Bar::NoFailure)
            .bar(Bar::AtMostTimes {
                factor: CROWD_FACTOR,
                row: serial.clone(),
            });
        let one_by_one = row(&serial, Group::Many, Unit::Milliseconds, title("one after the other"));
        contenders.push(Contender::one(crowd, move || at_once(bench, boxes)));
        contenders.push(Contender::one(one_by_one, move || in_turn(bench, boxes)));
    }
    let ends = vec![
        row(
            bench.id("ends/stop"),
            Group::Ends,
            Unit::Milliseconds,
            "stop of an idle box",
        ),
        row(
            bench.id("ends/remove"),
            Group::Ends,
            Unit::Milliseconds,
            "remove of a stopped box",
        ),
        row(
            bench.id("ends/kill"),
            Group::Ends,
            Unit::Milliseconds,
            "forced remove of a box that runs",
        ),
    ];
    contenders.push(Contender::several(ends, || end(bench)));
    Ok(interleave(bench.settings.heavy, contenders, on_round).await)
}

/// Starts boxes together; they are removed afterwards, also those of a crowd of which one failed.
async fn at_once(bench: &Bench, boxes: usize) -> Result<f64, BenchError> {
    let begin = Instant::now();
    let started = try_join_all((0..boxes).map(|_| first_output(bench))).await;
    let elapsed = milliseconds(begin);
    let handles = started?;
    for handle in &handles {
        remove(handle).await?;
    }
    Ok(elapsed)
}

async fn in_turn(bench: &Bench, boxes: usize) -> Result<f64, BenchError> {
    let begin = Instant::now();
    let mut handles = Vec::new();
    for _ in 0..boxes {
        handles.push(first_output(bench).await?);
    }
    let elapsed = milliseconds(begin);
    for handle in &handles {
        remove(handle).await?;
    }
    Ok(elapsed)
}

async fn first_output(bench: &Bench) -> Result<boxlite::BoxHandle, BenchError> {
    let handle = bench.idle(bench.options()).await?;
    run_in(&handle, &["echo", "first"]).await?;
    Ok(handle)
}

async fn end(bench: &Bench) -> Result<Observations, BenchError> {
    let handle = bench.idle(bench.options()).await?;
    let begin = Instant::now();
    handle
        .stop(StopOptions::default())
        .await
        .map_err(BenchError::boxlite("stop"))?;
    let stop = milliseconds(begin);
    let begin = Instant::now();
    remove(&handle).await?;
    let removal = milliseconds(begin);
    let handle = bench.idle(bench.options()).await?;
    let begin = Instant::now();
    remove(&handle).await?;
    Ok(vec![
        (bench.id("ends/stop"), stop),
        (bench.id("ends/remove"), removal),
        (bench.id("ends/kill"), milliseconds(begin)),
    ])
}
