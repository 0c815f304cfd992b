//! `boxlite logs`

use boxlite::{LogEntry, LogOptions, LogStreamKind};
use bytes::{BufMut, Bytes, BytesMut};
use clap::Args;
use jiff::Timestamp;
use jiff::tz::TimeZone;
use thiserror::Error;

use crate::cli::GlobalArgs;
use crate::failure::Failure;
use crate::stream::{BothStreams, StdStream, Writer};
use crate::value::instant;

/// Print what the main process of a box has written
#[derive(Debug, Args)]
#[command(after_help = "\
    What it wrote to stdout goes to stdout, and what it wrote to stderr to stderr, as it was \
    written. What exec runs is not in the log.")]
pub(crate) struct LogsArgs {
    /// Go on with what comes, until the box ends
    #[arg(short, long)]
    follow: bool,

    /// Only the last so many lines, or all
    #[arg(short = 'n', long, value_name = "LINES", default_value = "all", value_parser = parse_tail)]
    tail: Tail,

    /// Only from then on: a time, or how long ago (10m)
    #[arg(long, value_name = "TIME", value_parser = parse_instant)]
    since: Option<Timestamp>,

    /// Only until then
    #[arg(long, value_name = "TIME", value_parser = parse_instant)]
    until: Option<Timestamp>,

    /// Begin each line with its time
    #[arg(short, long)]
    timestamps: bool,

    /// Name or id of the box
    #[arg(value_name = "BOX")]
    name: String,
}

/// How much of the end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Tail(Option<u64>);

#[derive(Debug, Error, PartialEq, Eq)]
#[error("a number of lines, or all")]
struct TailError;

fn parse_tail(text: &str) -> Result<Tail, TailError> {
    match text {
        "all" => Ok(Tail(None)),
        // Docker's other word for all.
        "-1" => Ok(Tail(None)),
        number => number.parse().map(|n| Tail(Some(n))).map_err(|_| TailError),
    }
}

fn parse_instant(text: &str) -> Result<Timestamp, instant::InstantError> {
    instant::parse(text, Timestamp::now(), &TimeZone::system())
}

pub(crate) async fn run(global: &GlobalArgs, args: LogsArgs) -> Result<u8, Failure> {
    let milliseconds = |time: Timestamp| u64::try_from(time.as_millisecond()).unwrap_or_default();
    let mut options = LogOptions::default();
    options.follow = args.follow;
    options.tail = args.tail.0;
    options.since_ms = args.since.map(milliseconds);
    options.until_ms = args.until.map(milliseconds);

    let client = global.client().await?;
    let mut entries = client.get(&args.name).await?.logs(options).await?;
    let mut stamps = Stamps::default();
    let writer = Writer::start(BothStreams).map_err(Failure::output)?;
    while let Some(entry) = entries.next().await {
        let entry = entry?;
        let to = match entry.stream {
            LogStreamKind::Stdout => StdStream::Out,
            LogStreamKind::Stderr => StdStream::Err,
        };
        let bytes = if args.timestamps {
            stamps.stamp(&entry)
        } else {
            entry.bytes
        };
        if !writer.write((to, bytes)).await {
            break;
        }
    }
    writer.finish().await.map_err(Failure::output)?;
    Ok(0)
}

/// Puts times before lines that come in pieces.
#[derive(Debug, Default)]
struct Stamps {
    stdout_inside_line: bool,
    stderr_inside_line: bool,
}

impl Stamps {
    fn stamp(&mut self, entry: &LogEntry) -> Bytes {
        let inside_line = match entry.stream {
            LogStreamKind::Stdout => &mut self.stdout_inside_line,
            LogStreamKind::Stderr => &mut self.stderr_inside_line,
        };
        let time = Timestamp::from_nanosecond(i128::from(entry.time_ns))
            .map(|time| format!("{time:.9} "))
            .unwrap_or_default();
        let mut stamped = BytesMut::with_capacity(entry.bytes.len() + time.len());
        for line in entry.bytes.split_inclusive(|byte| *byte == b'\n') {
            if !*inside_line {
                stamped.put_slice(time.as_bytes());
            }
            stamped.put_slice(line);
            *inside_line = !line.ends_with(b"\n");
        }
        stamped.freeze()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(stream: LogStreamKind, seconds: u64, bytes: &'static str) -> LogEntry {
        LogEntry {
            stream,
            time_ns: seconds * 1_000_000_000 + 5,
            bytes: Bytes::from_static(bytes.as_bytes()),
        }
    }

    #[test]
    fn each_line_has_one_time() {
        let mut stamps = Stamps::default();
        let mut text =
            |stream, seconds, bytes| String::from_utf8(stamps.stamp(&entry(stream, seconds, bytes)).to_vec()).unwrap();
        assert_eq!(
            text(LogStreamKind::Stdout, 0, "a\nb"),
            "1970-01-01T00:00:00.000000005Z a\n1970-01-01T00:00:00.000000005Z b"
        );
        assert_eq!(
            text(LogStreamKind::Stderr, 1, "e\n"),
            "1970-01-01T00:00:01.000000005Z e\n"
        );
        assert_eq!(
            text(LogStreamKind::Stdout, 2, "c\nd"),
            "c\n1970-01-01T00:00:02.000000005Z d"
        );
    }

    #[test]
    fn tails() {
        assert_eq!(parse_tail("all"), Ok(Tail(None)));
        assert_eq!(parse_tail("0"), Ok(Tail(Some(0))));
        assert_eq!(parse_tail("20"), Ok(Tail(Some(20))));
        assert_eq!(parse_tail("x"), Err(TailError));
    }
}
