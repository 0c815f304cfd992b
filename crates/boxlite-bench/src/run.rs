//! A run: every measurement that was asked for, and what it ran on.

use std::path::{Path, PathBuf};

use boxlite::Client;
use clap::Args;

use crate::bench::{Bench, Settings};
use crate::error::BenchError;
use crate::host;
use crate::measure::{KVM, Measurement, TCG, accelerators, name};
use crate::report::{FORMAT, Machine, Report, Row, Versions};
use crate::sample::Rounds;

/// Programs whose versions belong to the figures.
const TOOLS: [&str; 6] = ["crun", "runc", "bwrap", "umoci", "docker", "go"];

#[derive(Debug, Args)]
pub(crate) struct RunArgs {
    /// Samples of each latency row
    #[arg(long, default_value_t = 30, value_parser = clap::value_parser!(u16).range(1..))]
    n: u16,
    /// Samples before them that don't count
    #[arg(long, default_value_t = 3)]
    warm_ups: u16,
    /// Samples of rows that move much data or start many boxes
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u16).range(1..))]
    heavy: u16,
    /// One sample of everything, to see whether it works
    #[arg(long, conflicts_with_all = ["n", "warm_ups", "heavy"])]
    quick: bool,
    /// Only measurements with a name that contains this; may be given several times
    #[arg(long, value_name = "PATTERN")]
    only: Vec<String>,
    /// Only on this accelerator [default: on tcg, and on kvm where boxlite finds that it works]
    #[arg(long, value_name = "NAME", value_parser = [KVM, TCG])]
    accelerator: Option<String>,
    /// The commit under test, where its tree is not at hand
    #[arg(long, value_name = "HASH")]
    commit: Option<String>,
    /// The command under test [default: `boxlite` beside this program]
    #[arg(long, value_name = "FILE")]
    boxlite: Option<PathBuf>,
    /// Folder of images to measure with, as `scripts/fixtures.sh` makes it
    #[arg(long, value_name = "FOLDER")]
    fixtures: PathBuf,
    /// Folder for the results
    #[arg(long, value_name = "FOLDER", default_value = "bench/results")]
    results: PathBuf,
    /// Folder for homes and files, which should be on a disk [default: that of the results]
    #[arg(long, value_name = "FOLDER")]
    work: Option<PathBuf>,
}

/// Runs; gives the file with the results.
pub(crate) async fn run(arguments: RunArgs) -> Result<PathBuf, BenchError> {
    let started = jiff::Timestamp::now();
    let settings = settings(&arguments)?;
    std::fs::create_dir_all(&arguments.results).map_err(BenchError::file(&arguments.results))?;
    let parent = arguments.work.as_ref().unwrap_or(&arguments.results);
    let work = tempfile::Builder::new()
        .prefix(".bench-")
        .tempdir_in(parent)
        .map_err(BenchError::file(parent))?;
    let work_path = work.path().canonicalize().map_err(BenchError::file(work.path()))?;
    let chosen = Probe::of(&work_path).await?;
    let load_before = tokio::task::block_in_place(host::load);
    let mut rows = Vec::new();
    for accelerator in accelerators(&chosen.accelerator, arguments.accelerator.as_deref()) {
        let folder = work_path.join(name(accelerator));
        std::fs::create_dir(&folder).map_err(BenchError::file(&folder))?;
        let bench = Bench::open(settings.clone(), &folder, accelerator).await?;
        let taken = all(&bench, &arguments.only).await;
        // Also the boxes of a measurement that failed.
        bench.client.close().await;
        rows.extend(taken?);
    }
    let report = Report {
        format: FORMAT,
        started_at: started.to_string(),
        finished_at: jiff::Timestamp::now().to_string(),
        machine: chosen.machine(&work_path),
        versions: chosen.versions(arguments.commit),
        load_before,
        load_after: tokio::task::block_in_place(host::load),
        n: settings.rounds.n,
        warm_ups: settings.rounds.warm_ups,
        rows,
    };
    write(&report, &arguments.results, started)
}

async fn all(bench: &Bench, only: &[String]) -> Result<Vec<Row>, BenchError> {
    let mut rows = Vec::new();
    for measurement in Measurement::ALL {
        let names = measurement.names();
        let wanted = only.is_empty()
            || only
                .iter()
                .any(|part| names.iter().any(|name| name.contains(part.as_str())));
        if !wanted {
            continue;
        }
        let title = names.first().copied().unwrap_or_default();
        let mut on_round = |round| eprint!("\r{title} on {}: round {}   ", bench.accelerator, round + 1);
        let taken = measurement.run(bench, &mut on_round).await;
        eprintln!();
        match taken {
            Ok(taken) => rows.extend(taken),
            // The other rows are worth having.
            Err(error) => eprintln!("{title}: {error}"),
        }
    }
    Ok(rows)
}

fn settings(arguments: &RunArgs) -> Result<Settings, BenchError> {
    let rounds = |warm_ups: u16, n: u16| Rounds {
        warm_ups: usize::from(warm_ups),
        n: usize::from(n),
    };
    let beside = || {
        let own = std::env::current_exe().map_err(BenchError::file("/proc/self/exe"))?;
        Ok(own.with_file_name("boxlite"))
    };
    let cli = arguments.boxlite.clone().map_or_else(beside, Ok)?;
    if !cli.is_file() {
        return Err(BenchError::Missing {
            missing: format!("{} is not there", cli.display()),
            remedy: "make build",
        });
    }
    let quick = arguments.quick;
    Ok(Settings {
        rounds: if quick {
            rounds(0, 1)
        } else {
            rounds(arguments.warm_ups, arguments.n)
        },
        heavy: if quick {
            rounds(0, 1)
        } else {
            rounds(1, arguments.heavy)
        },
        cli,
        fixtures: arguments.fixtures.clone(),
    })
}

/// What boxlite finds here when nobody tells it what to take.
struct Probe {
    accelerator: String,
    evidence: Vec<String>,
    qemu: String,
    guest_kernel: String,
    host_kernel: String,
    memory_mib: u64,
}

impl Probe {
    async fn of(work: &Path) -> Result<Self, BenchError> {
        let home = work.join("probe");
        let client = Client::builder().home(&home).build().await;
        let client = client.map_err(BenchError::boxlite("opening the home"))?;
        let info = client.info().await.map_err(BenchError::boxlite("info"))?;
        client.close().await;
        let (Some(accelerator), Some(engine), Some(bundle)) = (info.accelerator, info.engine, info.bundle) else {
            return Err(BenchError::Missing {
                missing: "no engine or no bundle".to_owned(),
                remedy: "boxlite doctor",
            });
        };
        let kernel = bundle.directory.join("vmlinux");
        let guest_kernel = std::fs::read(&kernel).map_err(BenchError::file(&kernel))?;
        Ok(Self {
            accelerator: accelerator.name,
            evidence: accelerator.evidence,
            qemu: format!("{} {}", engine.name, engine.version),
            guest_kernel: release(&guest_kernel),
            host_kernel: info.host_kernel,
            memory_mib: info.host_memory_bytes >> 20,
        })
    }

    fn machine(&self, work: &Path) -> Machine {
        Machine {
            cpu: host::cpu_model(),
            cpus: std::thread::available_parallelism().map_or(1, usize::from),
            memory_mib: self.memory_mib,
            accelerator: self.accelerator.clone(),
            accelerator_evidence: self.evidence.clone(),
            filesystem: host::filesystem(work),
        }
    }

    fn versions(&self, commit: Option<String>) -> Versions {
        let tool = |name: &&str| host::version(name).map(|version| format!("{name}: {version}"));
        Versions {
            boxlite: commit.unwrap_or_else(host::commit),
            qemu: self.qemu.clone(),
            kernel: self.host_kernel.clone(),
            rustc: host::version("rustc").unwrap_or_else(|| "unknown".to_owned()),
            guest_kernel: self.guest_kernel.clone(),
            tools: TOOLS.iter().filter_map(tool).collect(),
        }
    }
}

/// A kernel's release, from the banner in its image: `Linux version 6.12.48 (…`.
fn release(kernel: &[u8]) -> String {
    const BANNER: &[u8] = b"Linux version ";
    let found = kernel.windows(BANNER.len()).position(|window| window == BANNER);
    let rest = found.and_then(|at| kernel.get(at + BANNER.len()..)).unwrap_or_default();
    let word = rest.split(|byte| *byte == b' ').next().unwrap_or_default();
    String::from_utf8_lossy(&word[..word.len().min(64)]).into_owned()
}

/// `<date>-<machine>.json`; a second run of a day gets a number.
fn write(report: &Report, folder: &Path, started: jiff::Timestamp) -> Result<PathBuf, BenchError> {
    let text = serde_json::to_string_pretty(report).map_err(|source| BenchError::Json {
        what: "results".to_owned(),
        source,
    })?;
    let name = format!("{}-{}", started.strftime("%Y-%m-%d"), host::slug(&report.machine.cpu));
    let file = (1..)
        .map(|number| match number {
            1 => folder.join(format!("{name}.json")),
            _ => folder.join(format!("{name}-{number}.json")),
        })
        .find(|file| !file.exists())
        .unwrap_or_else(|| folder.join(format!("{name}.json")));
    std::fs::write(&file, text + "\n").map_err(BenchError::file(&file))?;
    Ok(file)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_kernel_tells_its_release() {
        assert_eq!(release(b"\0\0Linux version 6.12.48 (me@here) #1"), "6.12.48");
        assert_eq!(release(b"nothing of the kind"), "");
    }
}
