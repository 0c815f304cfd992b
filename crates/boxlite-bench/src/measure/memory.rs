//! What an idle box costs the host.

use std::fs;
use std::process::Command;
use std::time::Duration;

use crate::bench::{Bench, MEMORY_MIB, remove};
use crate::error::BenchError;
use crate::report::{Bar, Group, Row, Unit};
use crate::sample::{Contender, Observations, interleave, row};

/// From the start until a box is idle: the guest's kernel has done what it put off.
const SETTLE: Duration = Duration::from_secs(5);

pub(super) async fn measure(bench: &Bench, on_round: &mut dyn FnMut(usize)) -> Result<Vec<Row>, BenchError> {
    bench.template().await?;
    let memory = |name: &str, title: &str| row(bench.id(name), Group::Memory, Unit::Mebibytes, title);
    let whole = memory(
        "memory/box",
        &format!("PSS of an idle {MEMORY_MIB} MiB box: engine and shim"),
    )
    .floor(bench.id("memory/bare"))
    .bar(Bar::AtMost { value: 80.0 });
    let rows = vec![
        whole,
        memory("memory/engine", "· the engine"),
        memory("memory/shim", "· the shim"),
    ];
    let mut contenders = vec![Contender::several(rows, || idle(bench))];
    let floor = memory(
        "memory/bare",
        "floor: a bare QEMU restored from a template, with the same devices",
    );
    contenders.push(
        match bench
            .kit()
            .and_then(|kit| kit.template().map_err(|error| error.to_string()))
        {
            Ok(template) => Contender::one(floor, move || {
                let value = tokio::task::block_in_place(|| {
                    let mut machine = template.restore()?;
                    machine.round_trip("byte")?;
                    std::thread::sleep(SETTLE);
                    pss_mib(machine.pid())
                });
                async { value }
            }),
            Err(why) => Contender::absent(floor, why),
        },
    );
    let client = memory(
        "memory/client",
        "RSS of a client: `boxlite wait` of one box, by its process",
    );
    contenders.push(Contender::one(client, || client_rss(bench)));
    Ok(interleave(bench.settings.heavy, contenders, on_round).await)
}

async fn idle(bench: &Bench) -> Result<Observations, BenchError> {
    let sandbox = bench.idle(bench.options()).await?;
    tokio::time::sleep(SETTLE).await;
    let info = sandbox.info().await.map_err(BenchError::boxlite("info"))?;
    let pids = info.run.and_then(|run| run.engine_pid.zip(run.shim_pid));
    let (engine, shim) = pids.ok_or_else(|| BenchError::Answer {
        what: "a box that runs",
        expected: "processes".to_owned(),
        got: "none".to_owned(),
    })?;
    let (engine, shim) = (pss_mib(engine)?, pss_mib(shim)?);
    remove(&sandbox).await?;
    Ok(vec![
        (bench.id("memory/box"), engine + shim),
        (bench.id("memory/engine"), engine),
        (bench.id("memory/shim"), shim),
    ])
}

/// A client that has nothing to do but to wait: the command is the library and little else.
async fn client_rss(bench: &Bench) -> Result<f64, BenchError> {
    let sandbox = bench.idle(bench.options()).await?;
    let mut command: Command = bench.cli(&["wait", sandbox.name()]);
    let spawned = command.stdout(std::process::Stdio::null()).spawn();
    let mut child = spawned.map_err(|source| BenchError::Spawn {
        program: bench.settings.cli.display().to_string(),
        source,
    })?;
    tokio::time::sleep(SETTLE).await;
    let value = field_mib(&format!("/proc/{}/status", child.id()), "VmRSS:");
    remove(&sandbox).await?;
    let ended = tokio::task::block_in_place(|| child.wait());
    ended.map_err(BenchError::stream("boxlite wait"))?;
    value
}

fn pss_mib(pid: u32) -> Result<f64, BenchError> {
    field_mib(&format!("/proc/{pid}/smaps_rollup"), "Pss:")
}

/// A field of a file of proc(5) that counts in kB.
fn field_mib(path: &str, field: &str) -> Result<f64, BenchError> {
    let text = fs::read_to_string(path).map_err(BenchError::file(path))?;
    kib(&text, field)
        .map(|kib| kib / 1024.0)
        .ok_or_else(|| BenchError::Answer {
            what: "proc",
            expected: field.to_owned(),
            got: format!("{path} without it"),
        })
}

fn kib(text: &str, field: &str) -> Option<f64> {
    let line = text.lines().find_map(|line| line.strip_prefix(field))?;
    line.split_whitespace().next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_found() {
        let text = "55a0-7ffc ---p 00000000 00:00 0 [rollup]\nRss:  100 kB\nPss:    2048 kB\nPss_Dirty: 1 kB\n";
        assert_eq!(kib(text, "Pss:"), Some(2048.0));
        assert_eq!(kib(text, "Swap:"), None);
    }
}
