//! `boxlite stats`

use std::collections::HashMap;
use std::io::IsTerminal;
use std::time::Duration;

use boxlite::{BoxInfo, BoxState, Client, Diagnose, ErrorCode, ListFilter, Metrics};
use clap::Args;
use futures_util::future::join_all;
use serde::Serialize;

use super::ps::shown_id;
use crate::cli::GlobalArgs;
use crate::failure::Failure;
use crate::format::{self, Format};
use crate::output;
use crate::table::Table;
use crate::value::byte_size::{BinarySize, ByteSize};

const INTERVAL: Duration = Duration::from_secs(1);
const NOTHING: &str = "--";

/// Show what running boxes use
#[derive(Debug, Args)]
#[command(after_help = "\
    CPU % is of one vCPU, over the last second. Goes on until Ctrl-C; --format json prints a \
    line for each box and second.")]
pub(crate) struct StatsArgs {
    /// Print once
    #[arg(long)]
    no_stream: bool,

    /// Also boxes that don't run
    #[arg(short, long)]
    all: bool,

    /// Don't shorten ids
    #[arg(long)]
    no_trunc: bool,

    /// table or json
    #[arg(long, value_name = "FORMAT", default_value = "table", value_parser = format::parse)]
    format: Format,

    /// Names or ids of boxes [default: all that run]
    #[arg(value_name = "BOX")]
    boxes: Vec<String>,
}

/// What one box uses, as it is printed.
#[derive(Debug, Serialize)]
struct Sample {
    id: String,
    name: String,
    state: BoxState,
    /// Of one vCPU; absent in the first sample.
    cpu_percent: Option<f64>,
    metrics: Option<Metrics>,
}

pub(crate) async fn run(global: &GlobalArgs, args: StatsArgs) -> Result<u8, Failure> {
    let client = global.client().await?;
    let live = !args.no_stream && args.format == Format::Table && std::io::stdout().is_terminal();
    let mut earlier = HashMap::new();
    // Shares need two samples: the first one is not shown.
    sample(&client, &args, &mut earlier).await?;
    loop {
        tokio::time::sleep(INTERVAL).await;
        let samples = sample(&client, &args, &mut earlier).await?;
        match args.format {
            Format::Json if args.no_stream => output::json(&samples)?,
            Format::Json => {
                for sample in &samples {
                    output::json_line(sample)?;
                }
            }
            Format::Table => {
                let text = table(&samples, args.no_trunc).render();
                if live {
                    // Home, then erase what was below.
                    output::print(&format!("\u{1b}[H\u{1b}[J{text}"))?;
                } else {
                    output::print(&text)?;
                }
            }
        }
        if args.no_stream {
            return Ok(0);
        }
    }
}

async fn sample(
    client: &Client,
    args: &StatsArgs,
    earlier: &mut HashMap<String, Metrics>,
) -> Result<Vec<Sample>, Failure> {
    let boxes = selected(client, args).await?;
    let measured = join_all(boxes.iter().map(|info| measure(client, info))).await;
    let mut samples = Vec::new();
    for (info, metrics) in boxes.into_iter().zip(measured) {
        let metrics = metrics?;
        let cpu_percent = match (&metrics, earlier.get(&info.id)) {
            (Some(now), Some(before)) => cpu_percent(before, now),
            _ => None,
        };
        match &metrics {
            Some(now) => earlier.insert(info.id.clone(), now.clone()),
            None => earlier.remove(&info.id),
        };
        samples.push(Sample {
            id: info.id,
            name: info.name,
            state: info.state,
            cpu_percent,
            metrics,
        });
    }
    Ok(samples)
}

async fn selected(client: &Client, args: &StatsArgs) -> Result<Vec<BoxInfo>, Failure> {
    if args.boxes.is_empty() {
        let filter = if args.all {
            ListFilter::all()
        } else {
            ListFilter::default()
        };
        return Ok(client.list(filter).await?);
    }
    let mut boxes = Vec::new();
    for name in &args.boxes {
        boxes.push(client.get(name).await?.info().await?);
    }
    Ok(boxes)
}

/// What a box uses; nothing if it does not run, or has just ended.
async fn measure(client: &Client, info: &BoxInfo) -> Result<Option<Metrics>, Failure> {
    if info.state != BoxState::Running {
        return Ok(None);
    }
    let handle = match client.get(&info.id).await {
        Ok(handle) => handle,
        Err(error) if error.code() == ErrorCode::NotFound => return Ok(None),
        Err(error) => return Err(error.into()),
    };
    match handle.metrics().await {
        Ok(metrics) => Ok(Some(metrics)),
        Err(error) if matches!(error.code(), ErrorCode::NotFound | ErrorCode::InvalidState) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

/// The share of one vCPU between two samples of one run.
fn cpu_percent(before: &Metrics, now: &Metrics) -> Option<f64> {
    let elapsed = now.uptime_us.checked_sub(before.uptime_us)?;
    let used = now.cpu_usage_us.checked_sub(before.cpu_usage_us)?;
    if elapsed == 0 {
        return None;
    }
    #[expect(
        clippy::cast_precision_loss,
        reason = "microseconds of one second are far below 2^53"
    )]
    let share = used as f64 / elapsed as f64;
    Some((share * 10_000.0).round() / 100.0)
}

fn table(samples: &[Sample], whole_ids: bool) -> Table {
    let mut table = Table::new(&[
        "BOX ID",
        "NAME",
        "CPU %",
        "MEM USAGE / LIMIT",
        "MEM %",
        "NET I/O",
        "BLOCK I/O",
        "PIDS",
        "HOST MEM",
    ]);
    for sample in samples {
        let mut cells = vec![shown_id(&sample.id, whole_ids).to_owned(), sample.name.clone()];
        match &sample.metrics {
            None => cells.extend(std::iter::repeat_n(NOTHING.to_owned(), 7)),
            Some(metrics) => cells.extend([
                sample
                    .cpu_percent
                    .map_or_else(|| NOTHING.to_owned(), |percent| format!("{percent:.2}%")),
                format!(
                    "{} / {}",
                    BinarySize(metrics.memory_usage_bytes),
                    BinarySize(metrics.memory_limit_bytes)
                ),
                memory_percent(metrics),
                format!(
                    "{} / {}",
                    ByteSize(metrics.net_rx_bytes),
                    ByteSize(metrics.net_tx_bytes)
                ),
                format!(
                    "{} / {}",
                    ByteSize(metrics.block_read_bytes),
                    ByteSize(metrics.block_write_bytes)
                ),
                metrics.processes.to_string(),
                BinarySize(metrics.host.pss_bytes).to_string(),
            ]),
        }
        table.row(cells);
    }
    table
}

fn memory_percent(metrics: &Metrics) -> String {
    let hundredths =
        (u128::from(metrics.memory_usage_bytes) * 10_000).checked_div(u128::from(metrics.memory_limit_bytes));
    match hundredths {
        Some(hundredths) => format!("{}.{:02}%", hundredths / 100, hundredths % 100),
        None => NOTHING.to_owned(),
    }
}

#[cfg(test)]
mod tests;
