//! A report as a page: tables, what the bars say, and a plot.

mod plot;
mod ratios;

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use clap::Args;

use crate::error::BenchError;
use crate::report::{Bar, FORMAT, Group, Load, Report, Row};

/// Beside the page.
const PLOT_NAME: &str = "benchmarks.svg";

#[derive(Debug, Args)]
pub(crate) struct RenderArgs {
    /// Results, as `run` has written them
    #[arg(value_name = "FILE")]
    results: PathBuf,
    /// The page; its plot is put beside it
    #[arg(long, value_name = "FILE", default_value = "docs/BENCHMARKS.md")]
    page: PathBuf,
    /// Results of a nested lab for KVM, of which the page shows only ratios
    #[arg(long, value_name = "FILE")]
    ratios: Option<PathBuf>,
}

/// Writes the page of a report.
pub(crate) fn render(arguments: &RenderArgs) -> Result<(), BenchError> {
    let report = read(&arguments.results)?;
    let mut page = page(&report, &name(&arguments.results));
    if let Some(file) = &arguments.ratios {
        page.push_str(&ratios::section(&read(file)?, &name(file)));
    }
    write(&arguments.page, &page)?;
    write(&arguments.page.with_file_name(PLOT_NAME), &plot::plot(&report))
}

fn read(path: &Path) -> Result<Report, BenchError> {
    let text = std::fs::read(path).map_err(BenchError::file(path))?;
    let report: Report = serde_json::from_slice(&text).map_err(|source| BenchError::Json {
        what: path.display().to_string(),
        source,
    })?;
    if report.format == FORMAT {
        return Ok(report);
    }
    Err(BenchError::Missing {
        missing: format!("{} is not of format {FORMAT}", path.display()),
        remedy: "make bench",
    })
}

fn name(path: &Path) -> String {
    path.file_name().unwrap_or_default().to_string_lossy().into_owned()
}

fn write(path: &Path, text: &str) -> Result<(), BenchError> {
    std::fs::write(path, text).map_err(BenchError::file(path))
}

const GROUPS: [(Group, &str); 11] = [
    (Group::Start, "From nothing to the first output"),
    (Group::WarmStages, "Where the time of a warm start goes"),
    (Group::ColdStages, "Where the time of a cold start goes"),
    (Group::Exec, "Processes in a running box"),
    (Group::Throughput, "Streams and files"),
    (Group::Sdk, "Through Go"),
    (Group::Images, "Images"),
    (Group::Many, "Many boxes"),
    (Group::Memory, "Memory"),
    (Group::Ends, "Ends of boxes"),
    (Group::Lists, "Homes with many boxes"),
];

fn page(report: &Report, name: &str) -> String {
    let mut page = String::from("# Benchmarks\n\n");
    let machine = &report.machine;
    let versions = &report.versions;
    // Writing to a String can't fail.
    let _ = write!(
        page,
        "Written by `boxlite-bench render` from [{name}](../bench/results/{name}), which has every sample; `make bench` \
         takes them anew. Each row stands beside its floors (indented), taken in turn with it in the same run. \
         {} warm-ups, then n samples. The bars are those of the design, held against the p50.\n\n\
         | | |\n|---|---|\n\
         | machine | {}, {} processors, {} MiB, {} |\n\
         | accelerator | {} ({}) |\n\
         | versions | boxlite {}, {}, Linux {}, guest {}, {} |\n\
         | load before | {} |\n| load after | {} |\n| taken | {} to {} |\n\n![plot]({PLOT_NAME})\n",
        report.warm_ups,
        machine.cpu,
        machine.cpus,
        machine.memory_mib,
        machine.filesystem,
        machine.accelerator,
        machine.accelerator_evidence.join("; "),
        versions.boxlite,
        versions.qemu,
        versions.kernel,
        versions.guest_kernel,
        versions.rustc,
        load(report.load_before),
        load(report.load_after),
        report.started_at,
        report.finished_at,
    );
    for (group, title) in GROUPS {
        let rows: Vec<&Row> = in_order(report, group);
        if rows.is_empty() {
            continue;
        }
        let _ = write!(
            page,
            "\n## {title}\n\n| | unit | n | p50 | p95 | p99 | max | failures | × floor | bar |\n|---|---|--:|--:|--:|--:|--:|--:|--:|---|\n"
        );
        for row in rows {
            page.push_str(&line(report, row));
        }
    }
    page
}

fn load(load: Load) -> String {
    let [one, five, fifteen] = load.averages;
    format!(
        "{one:.2}, {five:.2}, {fifteen:.2}; others took {:.0} % of the processors",
        load.busy * 100.0
    )
}

/// Each row is followed by its floors.
fn in_order(report: &Report, group: Group) -> Vec<&Row> {
    let is_floor = |row: &Row| report.rows.iter().any(|other| other.floors.contains(&row.id));
    let mut rows = Vec::new();
    for row in report.rows.iter().filter(|row| row.group == group) {
        if is_floor(row) {
            continue;
        }
        rows.push(row);
        for floor in &row.floors {
            rows.extend(report.rows.iter().find(|row| row.id == *floor && row.group == group));
        }
    }
    rows
}

fn p50_of(report: &Report, id: &str) -> Option<f64> {
    let row = report.rows.iter().find(|row| row.id == id)?;
    row.summary().map(|summary| summary.p50)
}

fn line(report: &Report, row: &Row) -> String {
    let is_floor = report.rows.iter().any(|other| other.floors.contains(&row.id));
    let indent = match (is_floor, row.title.starts_with("floor: ")) {
        (true, false) => "&nbsp;&nbsp;floor: ",
        (true, true) => "&nbsp;&nbsp;",
        (false, _) => "",
    };
    let unit = row.unit.as_str();
    let Some(summary) = row.summary() else {
        let why = row.absent.clone().or_else(|| row.failures.first().cloned());
        return format!(
            "| {indent}{} | {unit} | 0 | | | | | {} | | {} |\n",
            row.title,
            row.failures.len(),
            why.unwrap_or_else(|| "not taken".to_owned()).replace(['|', '\n'], " ")
        );
    };
    let times: Vec<String> = row
        .floors
        .iter()
        .filter_map(|floor| p50_of(report, floor))
        .filter(|floor| *floor > 0.0)
        .map(|floor| format!("{:.2}", summary.p50 / floor))
        .collect();
    let bars: Vec<String> = row.bars.iter().map(|bar| verdict(report, row, bar)).collect();
    format!(
        "| {indent}{} | {unit} | {} | {} | {} | {} | {} | {} | {} | {} |\n",
        row.title,
        summary.n,
        figure(summary.p50),
        figure(summary.p95),
        figure(summary.p99),
        figure(summary.max),
        row.failures.len(),
        times.join(", "),
        bars.join("; ")
    )
}

/// With one decimal, and three where that would say nothing.
fn figure(value: f64) -> String {
    if value < 1.0 {
        format!("{value:.3}")
    } else {
        format!("{value:.1}")
    }
}

fn verdict(report: &Report, row: &Row, bar: &Bar) -> String {
    let Some(summary) = row.summary() else {
        return "not taken".to_owned();
    };
    let unit = row.unit.as_str();
    let (what, met) = match bar {
        Bar::AtMost { value } => (format!("≤ {value} {unit}"), Some(summary.p50 <= *value)),
        Bar::AtLeast { value } => (format!("≥ {value} {unit}"), Some(summary.p50 >= *value)),
        Bar::AtMostTimes { factor, row } => (
            format!("≤ {factor} × {row}"),
            p50_of(report, row).map(|floor| summary.p50 <= factor * floor),
        ),
        Bar::P99AtMostTimesP50 { factor } => (
            format!("p99 ≤ {factor} × p50"),
            Some(summary.p99 <= factor * summary.p50),
        ),
        Bar::NoFailure => ("no failure".to_owned(), Some(row.failures.is_empty())),
    };
    let word = match met {
        Some(true) => "met",
        Some(false) => "**not met**",
        None => "not taken",
    };
    format!("{what}: {word}")
}

#[cfg(test)]
mod tests;
