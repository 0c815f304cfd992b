//! What is measured on: the machine, its load, the versions of everything.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use crate::error::BenchError;
use crate::report::Load;

/// Over this time processors are watched before the rows.
const WATCH: Duration = Duration::from_secs(1);
/// How much of a failed program's standard error is told.
const STDERR_TAIL_BYTES: usize = 400;

/// The load averages over 1, 5 and 15 minutes.
pub(crate) fn load_average() -> Option<[f64; 3]> {
    let text = fs::read_to_string("/proc/loadavg").ok()?;
    parse_load(&text).map(|(averages, _)| averages)
}

/// What others do, now. Blocking (one second).
pub(crate) fn load() -> Load {
    let before = cpu_times();
    std::thread::sleep(WATCH);
    let busy = match (before, cpu_times()) {
        (Some(before), Some(after)) => busy(before, after),
        _ => 0.0,
    };
    let text = fs::read_to_string("/proc/loadavg").unwrap_or_default();
    let (averages, runnable) = parse_load(&text).unwrap_or_default();
    Load {
        averages,
        runnable,
        busy,
    }
}

fn parse_load(text: &str) -> Option<([f64; 3], u32)> {
    let mut words = text.split_whitespace();
    let mut average = || words.next()?.parse::<f64>().ok();
    let averages = [average()?, average()?, average()?];
    let runnable = words.next()?.split('/').next()?.parse().ok()?;
    Some((averages, runnable))
}

/// Ticks of all processors: idle ones, and all.
fn cpu_times() -> Option<(u64, u64)> {
    parse_cpu_times(&fs::read_to_string("/proc/stat").ok()?)
}

/// The first line of `/proc/stat`, proc(5): user, nice, system, idle, iowait, irq, softirq, steal.
fn parse_cpu_times(text: &str) -> Option<(u64, u64)> {
    let fields: Vec<u64> = text
        .lines()
        .next()?
        .split_whitespace()
        .skip(1)
        .take(8)
        .map_while(|field| field.parse().ok())
        .collect();
    Some((fields.get(3)? + fields.get(4)?, fields.iter().sum()))
}

fn busy(before: (u64, u64), after: (u64, u64)) -> f64 {
    let idle = after.0.saturating_sub(before.0) as f64;
    let all = after.1.saturating_sub(before.1).max(1) as f64;
    (1.0 - idle / all).clamp(0.0, 1.0)
}

/// The processor's name.
pub(crate) fn cpu_model() -> String {
    let text = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    text.lines()
        .find_map(|line| {
            line.strip_prefix("model name")?
                .split_once(':')
                .map(|(_, name)| name.trim().to_owned())
        })
        .unwrap_or_else(|| std::env::consts::ARCH.to_owned())
}

/// `AMD EPYC 7B13` as `amd-epyc-7b13`: for the name of a file.
pub(crate) fn slug(text: &str) -> String {
    let words: Vec<String> = text
        .split(|letter: char| !letter.is_ascii_alphanumeric())
        .filter(|word| !word.is_empty())
        .map(str::to_ascii_lowercase)
        .collect();
    words.join("-")
}

/// The file system that `path` is on, as `stat` calls it.
pub(crate) fn filesystem(path: &Path) -> String {
    output(Command::new("stat").args(["-f", "-c", "%T"]).arg(path)).map_or_else(|_| "unknown".to_owned(), first_line)
}

/// The first line that a program prints about its version, if there is such a program.
pub(crate) fn version(program: &str) -> Option<String> {
    output(Command::new(program).arg("--version")).ok().map(first_line)
}

/// The commit of the tree around this crate, with `-dirty` when what is measured differs from it.
pub(crate) fn commit() -> String {
    let tree = concat!(env!("CARGO_MANIFEST_DIR"), "/../..");
    let git = |arguments: &[&str]| output(Command::new("git").args(["-C", tree]).args(arguments)).ok();
    let Some(commit) = git(&["rev-parse", "--short=12", "HEAD"]).map(first_line) else {
        return "unknown".to_owned();
    };
    let changed = git(&["status", "--porcelain", "--", "crates", "guest", "Cargo.lock"]);
    let dirty = changed.is_none_or(|files| !files.trim().is_empty());
    if dirty { format!("{commit}-dirty") } else { commit }
}

fn first_line(text: String) -> String {
    text.lines().next().unwrap_or_default().trim().to_owned()
}

/// Runs a program to its end. Blocking.
///
/// # Errors
/// When it can't be run, or fails.
pub(crate) fn output(command: &mut Command) -> Result<String, BenchError> {
    let program = command.get_program().to_string_lossy().into_owned();
    let output = command
        .stdin(std::process::Stdio::null())
        .output()
        .map_err(|source| BenchError::Spawn {
            program: program.clone(),
            source,
        })?;
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    let tail = output.stderr.len().saturating_sub(STDERR_TAIL_BYTES);
    Err(BenchError::Program {
        program,
        status: output.status,
        stderr: String::from_utf8_lossy(&output.stderr[tail..]).trim().to_owned(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn load_is_read_as_the_kernel_writes_it() {
        assert_eq!(
            parse_load("0.84 0.83 0.64 3/165 27104\n"),
            Some(([0.84, 0.83, 0.64], 3))
        );
        assert_eq!(parse_load("0.84 x"), None);
    }

    #[test]
    fn waiting_for_disks_is_idle() {
        let before = parse_cpu_times("cpu  10 0 10 60 20 0 0 0 0 0\ncpu0 1 1 1 1\n");
        assert_eq!(before, Some((80, 100)));
        assert!((busy((80, 100), (130, 200)) - 0.5).abs() < 1e-9);
        assert!(busy((80, 100), (80, 100)) >= 0.0);
    }

    #[test]
    fn machines_have_file_names() {
        assert_eq!(slug("Intel(R) Xeon(R) CPU @ 2.20GHz"), "intel-r-xeon-r-cpu-2-20ghz");
        assert_eq!(slug("AMD EPYC"), "amd-epyc");
    }

    #[test]
    fn a_failed_program_says_how() {
        let error = output(Command::new("sh").args(["-c", "echo why >&2; exit 3"])).unwrap_err();
        assert_eq!(error.to_string(), "sh: exit status: 3: why");
    }
}
