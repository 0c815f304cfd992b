//! `boxlite top`

use boxlite::ProcessInfo;
use clap::Args;
use jiff::Timestamp;
use jiff::tz::TimeZone;

use crate::cli::GlobalArgs;
use crate::failure::Failure;
use crate::format::{self, Format};
use crate::output;
use crate::table::Table;
use crate::value::byte_size::BinarySize;

/// List the processes of a box
#[derive(Debug, Args)]
#[command(after_help = "\
    PIDs are those inside of the box; the host has no processes for them. Unlike docker's, \
    it takes no options of ps.")]
pub(crate) struct TopArgs {
    /// table or json
    #[arg(long, value_name = "FORMAT", default_value = "table", value_parser = format::parse)]
    format: Format,

    /// Name or id of the box
    #[arg(value_name = "BOX")]
    name: String,
}

pub(crate) async fn run(global: &GlobalArgs, args: TopArgs) -> Result<u8, Failure> {
    let client = global.client().await?;
    let processes = client.get(&args.name).await?.processes().await?;
    match args.format {
        Format::Json => output::json(&processes)?,
        Format::Table => output::print(&table(&processes, &TimeZone::system()).render())?,
    }
    Ok(0)
}

fn table(processes: &[ProcessInfo], zone: &TimeZone) -> Table {
    let mut table = Table::new(&[
        "USER", "PID", "PPID", "STAT", "STARTED", "TIME", "RSS", "TTY", "COMMAND",
    ]);
    for process in processes {
        table.row([
            process.user.clone(),
            process.pid.to_string(),
            process.parent_pid.to_string(),
            process.state.clone(),
            clock(process.started_at_ms, zone),
            duration(process.cpu_us),
            BinarySize(process.memory_bytes).to_string(),
            if process.tty.is_empty() {
                "?".to_owned()
            } else {
                process.tty.clone()
            },
            process.command.clone(),
        ]);
    }
    table
}

fn clock(time_ms: u64, zone: &TimeZone) -> String {
    i64::try_from(time_ms)
        .ok()
        .and_then(|time| Timestamp::from_millisecond(time).ok())
        .map_or_else(
            || "?".to_owned(),
            |time| time.to_zoned(zone.clone()).strftime("%H:%M:%S").to_string(),
        )
}

fn duration(microseconds: u64) -> String {
    let seconds = microseconds / 1_000_000;
    format!("{:02}:{:02}:{:02}", seconds / 3600, seconds / 60 % 60, seconds % 60)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn processes_for_people() {
        let process = ProcessInfo {
            pid: 1,
            parent_pid: 0,
            uid: 0,
            user: "root".into(),
            cpu_us: 3_723_000_000,
            started_at_ms: 3_600_000,
            memory_bytes: 1 << 20,
            state: "S".into(),
            tty: String::new(),
            command: "sleep\u{7} 60".into(),
        };
        let text = table(&[process], &TimeZone::UTC).render();
        assert_eq!(
            text,
            "USER   PID   PPID   STAT   STARTED    TIME       RSS       TTY   COMMAND\n\
             root   1     0      S      01:00:00   01:02:03   1.00MiB   ?     sleep\\u{7} 60\n"
        );
    }
}
