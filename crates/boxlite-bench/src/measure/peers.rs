//! Containers of the same root filesystem and command: no kernel of their own, and so the least
//! that anything of this kind can take.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Instant;

use serde_json::{Value, json};

use crate::bench::{Bench, milliseconds};
use crate::error::BenchError;
use crate::host;
use crate::report::{Group, Unit};
use crate::sample::{Contender, row};

/// What boxes run too.
const COMMAND: [&str; 2] = ["echo", "first output"];
/// Containers that are asked for by this name are removed when they end.
const CONTAINER: &str = "boxlite-bench";

/// A row for each peer; those that are not here say so.
pub(super) fn contenders(bench: &Bench) -> Vec<Contender<'_>> {
    let bundle = tokio::task::block_in_place(|| bundle(bench)).map_err(|error| error.to_string());
    let peer = |name: &str, title: &str| {
        row(
            bench.id(&format!("peer/{name}")),
            Group::Start,
            Unit::Milliseconds,
            title,
        )
    };
    let mut contenders = Vec::new();
    for runtime in runtimes() {
        let row = peer(
            runtime,
            &format!("peer: a container by `{runtime} run`, the whole process"),
        );
        contenders.push(match &bundle {
            Ok(bundle) => {
                let bundle = bundle.clone();
                timed(row, move || {
                    let mut command = Command::new(runtime);
                    command.args(["run", "--bundle"]).arg(&bundle).arg(CONTAINER);
                    command
                })
            }
            Err(why) => Contender::absent(row, why),
        });
    }
    let row = peer("bwrap", "peer: a container by `bwrap`, the whole process");
    contenders.push(match bundle {
        Ok(bundle) => timed(row, move || bubblewrap(&bundle)),
        Err(why) => Contender::absent(row, why),
    });
    contenders.push(docker(peer("docker", "peer: `docker run --rm`, the whole process")));
    contenders
}

/// Container runtimes that are here; that there is none is said of the second.
fn runtimes() -> Vec<&'static str> {
    let [first, second] = ["crun", "runc"];
    match (host::version(first), host::version(second)) {
        (Some(_), Some(_)) => vec![first, second],
        (Some(_), None) => vec![first],
        (None, _) => vec![second],
    }
}

fn timed<'a>(row: crate::report::Row, command: impl Fn() -> Command + 'a) -> Contender<'a> {
    Contender::one(row, move || {
        let elapsed = tokio::task::block_in_place(|| {
            let begin = Instant::now();
            let output = host::output(&mut command())?;
            let elapsed = milliseconds(begin);
            if output.trim() == COMMAND[1] {
                return Ok(elapsed);
            }
            Err(BenchError::Answer {
                what: "a peer",
                expected: COMMAND[1].to_owned(),
                got: output,
            })
        });
        async { elapsed }
    })
}

/// The image of the boxes, unpacked, with a configuration that runs the command.
fn bundle(bench: &Bench) -> Result<PathBuf, BenchError> {
    let bundle = bench.work.join("bundle");
    let image = format!("{}/busybox:latest", bench.settings.fixtures.display());
    host::output(Command::new("umoci").args(["unpack", "--image", &image]).arg(&bundle))?;
    configure(&bundle.join("config.json"))?;
    Ok(bundle)
}

/// Without control groups, which not every machine lets a container have; neither do boxes that
/// nobody set limits for.
fn configure(file: &Path) -> Result<(), BenchError> {
    let text = std::fs::read(file).map_err(BenchError::file(file))?;
    let json = |source| BenchError::Json {
        what: file.display().to_string(),
        source,
    };
    let mut config: Value = serde_json::from_slice(&text).map_err(json)?;
    config["process"]["terminal"] = json!(false);
    config["process"]["args"] = json!(COMMAND);
    let without = |list: &mut Value, kinds: &[&str]| {
        if let Some(list) = list.as_array_mut() {
            list.retain(|entry| !kinds.iter().any(|kind| entry["type"] == **kind));
        }
    };
    without(&mut config["mounts"], &["cgroup", "cgroup2"]);
    without(&mut config["linux"]["namespaces"], &["cgroup"]);
    if let Some(linux) = config["linux"].as_object_mut() {
        linux.remove("resources");
    }
    std::fs::write(file, config.to_string()).map_err(BenchError::file(file))
}

fn bubblewrap(bundle: &Path) -> Command {
    let mut command = Command::new("bwrap");
    command.arg("--unshare-all").arg("--bind").arg(bundle.join("rootfs"));
    command.args(["/", "--proc", "/proc", "--dev", "/dev"]);
    command.args(COMMAND).env("PATH", "/usr/bin:/bin");
    command
}

/// Only where an engine answers: the client alone is no peer.
fn docker<'a>(row: crate::report::Row) -> Contender<'a> {
    let answer = tokio::task::block_in_place(|| host::output(Command::new("docker").arg("version")));
    match answer {
        Ok(_) => timed(row, || {
            let mut command = Command::new("docker");
            command.args(["run", "--rm", "busybox"]).args(COMMAND);
            command
        }),
        Err(error) => Contender::absent(row, error),
    }
}
