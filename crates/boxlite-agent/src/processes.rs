//! Processes: what runs in the box, as ps(1) would show it.

use std::{collections::HashMap, fs};

use boxlite_protocol::guest::Process;
use rustix::param::page_size;

use crate::{agent::BoxState, cgroup, child, launch::read_user_file, user};

/// Clock ticks a second in /proc: fixed for user space on every Linux.
const TICKS_PER_SECOND: u64 = 100;

/// Lists the processes of the box, sorted by their number in it.
pub(crate) async fn list(state: &BoxState) -> Result<Vec<Process>, child::HelperError> {
    let passwd = child::ask(&state.spaces, || read_user_file("/etc/passwd")).await?;
    let boot_seconds = fs::read_to_string("/proc/stat")
        .ok()
        .and_then(|text| cgroup::field(&text, "btime"))
        .unwrap_or(0);
    // One that ends while it is looked at is left out.
    let found: Vec<Seen> = cgroup::box_processes().into_iter().filter_map(look_at).collect();
    let inner: HashMap<i32, i32> = found.iter().map(|seen| (seen.outer_pid, seen.status.pid)).collect();
    let mut list: Vec<Process> = found
        .into_iter()
        .map(|seen| {
            let Seen { stat, status, .. } = seen;
            let uid = status.uid;
            Process {
                pid: status.pid,
                parent_pid: inner.get(&stat.parent).copied().unwrap_or(0),
                uid,
                user: user::name_of(uid, &passwd).unwrap_or_else(|| uid.to_string()),
                cpu_us: stat.ticks * (1_000_000 / TICKS_PER_SECOND),
                started_unix_ms: boot_seconds * 1000 + stat.started * (1000 / TICKS_PER_SECOND),
                memory_bytes: stat.resident_pages * page_size() as u64,
                state: stat.state.to_string(),
                tty: terminal_name(stat.terminal),
                command: if seen.command.is_empty() {
                    format!("[{}]", stat.name)
                } else {
                    seen.command
                },
            }
        })
        .collect();
    list.sort_by_key(|process| process.pid);
    Ok(list)
}

struct Seen {
    outer_pid: i32,
    stat: Stat,
    status: Ids,
    command: String,
}

fn look_at(pid: i32) -> Option<Seen> {
    let read = |name: &str| fs::read(format!("/proc/{pid}/{name}")).ok();
    let text = |name: &str| Some(String::from_utf8_lossy(&read(name)?).into_owned());
    Some(Seen {
        outer_pid: pid,
        stat: Stat::parse(&text("stat")?)?,
        status: Ids::parse(&text("status")?)?,
        command: command_line(&read("cmdline")?),
    })
}

/// Of /proc/PID/stat (proc_pid_stat(5)).
#[derive(Debug, PartialEq, Eq)]
struct Stat {
    name: String,
    state: char,
    parent: i32,
    terminal: u32,
    ticks: u64,
    started: u64,
    resident_pages: u64,
}

impl Stat {
    fn parse(text: &str) -> Option<Self> {
        // The name may contain anything, also ") ".
        let (start, rest) = text.rsplit_once(") ")?;
        let (_, name) = start.split_once('(')?;
        let fields: Vec<&str> = rest.split_ascii_whitespace().collect();
        // `rest` begins with field 3.
        let field = |number: usize| fields.get(number - 3).copied();
        let number = |index| field(index)?.parse::<u64>().ok();
        Some(Stat {
            name: name.to_owned(),
            state: field(3)?.chars().next()?,
            parent: field(4)?.parse().ok()?,
            terminal: field(7)?.parse::<i32>().ok()?.cast_unsigned(),
            ticks: number(14)?.saturating_add(number(15)?),
            started: number(22)?,
            resident_pages: number(24)?,
        })
    }
}

/// Of /proc/PID/status (proc_pid_status(5)).
#[derive(Debug, PartialEq, Eq)]
struct Ids {
    /// In its innermost PID namespace but one that it made itself.
    pid: i32,
    /// The effective one.
    uid: u32,
}

impl Ids {
    fn parse(text: &str) -> Option<Self> {
        let values = |name: &str| text.lines().find_map(|line| line.strip_prefix(name));
        Some(Ids {
            // The agent's namespace comes first, the box's second.
            pid: values("NSpid:")?.split_ascii_whitespace().nth(1)?.parse().ok()?,
            uid: values("Uid:")?.split_ascii_whitespace().nth(1)?.parse().ok()?,
        })
    }
}

fn command_line(bytes: &[u8]) -> String {
    let end = bytes.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1);
    String::from_utf8_lossy(&bytes[..end]).replace('\0', " ")
}

/// The name below /dev of a terminal's device number; `?` for none, as ps(1) shows it.
fn terminal_name(device: u32) -> String {
    let (major, minor) = ((device >> 8) & 0xfff, (device & 0xff) | ((device >> 12) & 0xf_ff00));
    match major {
        136..=143 => format!("pts/{}", (major - 136) * 256 + minor),
        _ => "?".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const STAT: &str = "812 (a) b (c)) S 811 812 812 34817 812 4194304 95 0 0 0 7 5 0 0 20 0 1 0 \
        4321 1048576 250 18446744073709551615 1 1 0 0 0 0 0 0 0 0 0 0 17 1 0 0 0 0 0\n";

    #[test]
    fn the_kernels_files_are_read() {
        let stat = Stat::parse(STAT).unwrap();
        assert_eq!(stat.name, "a) b (c)");
        assert_eq!((stat.state, stat.parent), ('S', 811));
        assert_eq!((stat.ticks, stat.started, stat.resident_pages), (12, 4321, 250));
        assert_eq!(terminal_name(stat.terminal), "pts/1");
        assert_eq!(terminal_name(0), "?");
        let status = "Name:\ta\nUid:\t0\t1000\t0\t0\nNSpid:\t812\t9\t1\nNSpgid:\t812\t9\n";
        assert_eq!(Ids::parse(status), Some(Ids { pid: 9, uid: 1000 }));
        assert_eq!(Ids::parse("NSpid:\t812\nUid:\t0\t0\t0\t0\n"), None);
        assert_eq!(command_line(b"sh\0-c\0echo  x\0\0"), "sh -c echo  x");
        assert_eq!(command_line(b""), "");
    }

    proptest! {
        #[test]
        fn any_text_is_read(text: String, device: u32, bytes: Vec<u8>) {
            let _ = (Stat::parse(&text), Ids::parse(&text), terminal_name(device), command_line(&bytes));
        }

        #[test]
        fn names_do_not_confuse(name in "[ -~]{0,15}") {
            let text = format!("1 ({name}) R 0 1 1 0 -1 0 0 0 0 0 1 2 0 0 20 0 1 0 3 4 5 6");
            prop_assert_eq!(Stat::parse(&text).unwrap().name, name);
        }
    }
}
