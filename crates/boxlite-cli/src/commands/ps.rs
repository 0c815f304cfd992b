//! `boxlite ps`

use boxlite::{BoxInfo, BoxState, ListFilter, PublishedPort};
use clap::Args;
use jiff::Timestamp;

use crate::cli::GlobalArgs;
use crate::failure::Failure;
use crate::format::{self, Format};
use crate::output;
use crate::table::{Table, shortened};
use crate::value::byte_size::BinarySize;
use crate::value::filter;
use crate::value::instant::for_people;
use crate::value::port::host_address;

/// Digits of an id that are shown.
pub(crate) const ID_DIGITS: usize = 12;
const COMMAND_WIDTH: usize = 20;
const FILTERS: [&str; 5] = ["id", "name", "label", "status", "ancestor"];

/// List boxes
#[derive(Debug, Args)]
#[command(after_help = "\
    Filters: id, name (a part of it), label=KEY or KEY=VALUE, status (created, starting, \
    running, stopping, stopped, paused, failed), ancestor (an image). Several values of one \
    filter are alternatives; labels must all be there.")]
pub(crate) struct PsArgs {
    /// Also boxes that don't run
    #[arg(short, long)]
    all: bool,

    /// Print ids only
    #[arg(short, long)]
    quiet: bool,

    /// List only what fits
    #[arg(short, long, value_name = "KEY=VALUE", value_parser = parse_filter)]
    filter: Vec<Filter>,

    /// List only the newest box, in whatever state
    #[arg(short, long)]
    latest: bool,

    /// Don't shorten ids and commands
    #[arg(long)]
    no_trunc: bool,

    /// Also show engine, kind of start (warm or cold), vCPUs and memory
    #[arg(long)]
    wide: bool,

    /// table or json
    #[arg(long, value_name = "FORMAT", default_value = "table", value_parser = format::parse)]
    format: Format,
}

/// One condition.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Filter {
    Id(String),
    Name(String),
    Label(String),
    State(BoxState),
    Ancestor(String),
}

#[derive(Debug, thiserror::Error, PartialEq, Eq)]
enum PsFilterError {
    #[error(transparent)]
    Filter(#[from] filter::FilterError),
    #[error(transparent)]
    State(#[from] boxlite::UnknownWord),
}

fn parse_filter(text: &str) -> Result<Filter, PsFilterError> {
    let (key, value) = filter::parse(text, &FILTERS)?;
    let owned = value.to_owned();
    Ok(match key {
        "id" => Filter::Id(owned),
        "name" => Filter::Name(owned),
        "label" => Filter::Label(owned),
        "ancestor" => Filter::Ancestor(owned),
        _ => Filter::State(match value {
            // Docker's words for these.
            "exited" => BoxState::Stopped,
            "dead" => BoxState::Failed,
            word => word.parse()?,
        }),
    })
}

fn list_filter(args: &PsArgs) -> ListFilter {
    let mut list = ListFilter::default();
    list.all = args.all || args.latest;
    for filter in &args.filter {
        match filter.clone() {
            Filter::Id(id) => list.ids.push(id),
            Filter::Name(name) => list.names.push(name),
            Filter::Label(label) => list.labels.push(label),
            Filter::State(state) => list.states.push(state),
            Filter::Ancestor(image) => list.ancestors.push(image),
        }
    }
    list
}

pub(crate) async fn run(global: &GlobalArgs, args: PsArgs) -> Result<u8, Failure> {
    let client = global.client().await?;
    let mut boxes = client.list(list_filter(&args)).await?;
    if args.latest {
        boxes.truncate(1);
    }
    if args.quiet {
        let ids: Vec<String> = boxes
            .iter()
            .map(|info| format!("{}\n", shown_id(&info.id, args.no_trunc)))
            .collect();
        output::print(&ids.concat())?;
    } else if args.format == Format::Json {
        output::json(&boxes)?;
    } else {
        output::print(&table(&boxes, &args, Timestamp::now()).render())?;
    }
    Ok(0)
}

fn table(boxes: &[BoxInfo], args: &PsArgs, now: Timestamp) -> Table {
    let mut columns = vec!["BOX ID", "IMAGE", "COMMAND", "CREATED", "STATUS", "PORTS"];
    if args.wide {
        columns.extend(["ENGINE", "START", "CPUS", "MEMORY"]);
    }
    columns.push("NAMES");
    let mut table = Table::new(&columns);
    for info in boxes {
        let mut cells = vec![
            shown_id(&info.id, args.no_trunc).to_owned(),
            info.image.clone(),
            command(&info.command, args.no_trunc),
            ago(info.created_at_ms, now),
            status(info, now),
            ports(&info.ports),
        ];
        if args.wide {
            cells.extend([
                engine(info),
                start_mode(info),
                info.cpus.to_string(),
                BinarySize(info.memory_mib << 20).to_string(),
            ]);
        }
        cells.push(info.name.clone());
        table.row(cells);
    }
    table
}

/// Whether the last start was warm or cold.
fn start_mode(info: &BoxInfo) -> String {
    let run = info.run.as_ref();
    run.and_then(|run| run.start_mode.clone()).unwrap_or_default()
}

/// An id, shortened unless all of it is wanted.
pub(crate) fn shown_id(id: &str, whole: bool) -> &str {
    if whole { id } else { id.get(..ID_DIGITS).unwrap_or(id) }
}

fn command(words: &[String], whole: bool) -> String {
    let line = words.join(" ");
    if whole {
        format!("\"{line}\"")
    } else {
        format!("\"{}\"", shortened(&line, COMMAND_WIDTH))
    }
}

/// Seconds from a time in milliseconds since 1970 until now.
fn seconds_since(time_ms: u64, now: Timestamp) -> i64 {
    let then = i64::try_from(time_ms).unwrap_or(i64::MAX);
    now.as_millisecond().saturating_sub(then) / 1000
}

/// How long ago something was.
pub(crate) fn ago(time_ms: u64, now: Timestamp) -> String {
    format!("{} ago", for_people(seconds_since(time_ms, now)))
}

fn status(info: &BoxInfo, now: Timestamp) -> String {
    let since = |time: Option<u64>| time.map(|time| for_people(seconds_since(time, now)));
    let ended = since(info.finished_at_ms).map_or(String::new(), |age| format!(" {age} ago"));
    match info.state {
        BoxState::Created => "Created".to_owned(),
        BoxState::Starting => "Starting".to_owned(),
        BoxState::Running => match since(info.started_at_ms) {
            Some(age) => format!("Up {age}"),
            None => "Up".to_owned(),
        },
        BoxState::Paused => match since(info.started_at_ms) {
            Some(age) => format!("Up {age} (Paused)"),
            None => "Up (Paused)".to_owned(),
        },
        BoxState::Stopping => "Stopping".to_owned(),
        BoxState::Stopped => match &info.exit_status {
            Some(status) => format!("Exited ({}){ended}", status.shell_code()),
            None => format!("Stopped{ended}"),
        },
        BoxState::Failed => format!("Failed{ended}"),
    }
}

fn ports(ports: &[PublishedPort]) -> String {
    let texts: Vec<String> = ports
        .iter()
        .map(|port| match port.host {
            // None is picked while the box does not run.
            0 => format!("{}/{}", port.guest, port.protocol),
            host => format!("{}->{}/{}", host_address(port.host_ip, host), port.guest, port.protocol),
        })
        .collect();
    texts.join(", ")
}

fn engine(info: &BoxInfo) -> String {
    let run = info.run.as_ref();
    match (
        run.and_then(|run| run.engine.as_deref()),
        run.and_then(|run| run.accelerator.as_deref()),
    ) {
        (Some(engine), Some(accelerator)) => format!("{engine} ({accelerator})"),
        (Some(engine), None) => engine.to_owned(),
        _ => info.engine.to_string(),
    }
}

#[cfg(test)]
mod tests;
