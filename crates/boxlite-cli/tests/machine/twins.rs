//! Two boxes of one template are two machines: nothing that has to be unique is the same.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{SystemTime, UNIX_EPOCH};

use crate::harness::{Boxlite, eventually, repository, unique};
use crate::templates::with_busybox;

/// Where `witness.c` is in the boxes.
const WITNESS: &str = "/witness/witness";
/// How far a box's clock may be from the host's.
const CLOCK_TOLERANCE_NS: u128 = 100_000_000;

/// Two boxes of one template, with the witness in each.
struct Twins<'a> {
    boxlite: &'a Boxlite,
    names: [String; 2],
}

impl<'a> Twins<'a> {
    /// Starts them, with a script as the main process: nothing runs in a box before it. It is
    /// what comes first that is the same in both if anything is: later, time has its part in the
    /// kernel's random numbers, and of two processors, which have some each, which one it is.
    fn start(boxlite: &'a Boxlite, folder: &Path, script: &str) -> Self {
        boxlite.ok(["template", "create", "--cpus", "1", "-m", "128m", "--volumes", "1"]);
        let twins = Self {
            boxlite,
            names: [unique("twin"), unique("twin")],
        };
        let volume = format!("{}:/witness:ro", compile_witness(folder).display());
        let script = format!("{script}; echo end; exec sleep 1000");
        for name in &twins.names {
            let options = ["run", "-d", "--name", name, "--cpus", "1", "-m", "128m", "-v", &volume];
            boxlite.ok(options.into_iter().chain(["busybox", "sh", "-c", &script]));
            let run = boxlite.inspect(name)["run"].clone();
            assert_eq!(run["start_mode"], "warm", "{run}");
        }
        twins
    }

    /// What the main process of each said.
    fn first_words(&self) -> [Vec<String>; 2] {
        self.names.each_ref().map(|name| {
            let mut lines: Vec<String> = Vec::new();
            eventually("the main process has said all", || {
                lines = self.boxlite.ok(["logs", name]).lines().map(str::to_owned).collect();
                lines.last().is_some_and(|line| line == "end")
            });
            lines.pop();
            lines
        })
    }
}

impl Drop for Twins<'_> {
    fn drop(&mut self) {
        self.boxlite.output(["rm", "-f", &self.names[0], &self.names[1]]);
    }
}

/// Each line of the one is unlike that of the other.
fn assert_unlike([one, other]: &[Vec<String>; 2], count: usize) {
    assert_eq!((one.len(), other.len()), (count, count), "{one:?} {other:?}");
    for (one, other) in one.iter().zip(other) {
        assert!(!one.trim().is_empty());
        assert_ne!(one, other);
    }
}

/// One file that needs nothing of the image, at an address that the kernel chooses, alone in a
/// folder.
fn compile_witness(folder: &Path) -> PathBuf {
    let alone = folder.join("witness");
    std::fs::create_dir(&alone).unwrap();
    let source = repository().join("crates/boxlite-cli/tests/machine/witness.c");
    let status = Command::new("cc")
        .args(["-O1", "-Wall", "-Wextra", "-Werror", "-fPIE", "-static-pie", "-o"])
        .args([&alone.join("witness"), &source])
        .status()
        .unwrap();
    assert!(status.success(), "cc: {status}");
    alone
}

#[test]
#[ignore = "starts machines"]
fn the_first_program_finds_a_machine_of_its_own() {
    const IDENTITIES: &str = "cat /proc/sys/kernel/random/boot_id; cat /proc/sys/kernel/random/uuid; \
        head -c 16 /dev/urandom | od -An -tx1; grep -m1 stack /proc/self/maps; cat /etc/machine-id; \
        hostname; cat /etc/hostname; cat /sys/class/net/eth0/address";
    let (folder, boxlite) = with_busybox();
    let twins = Twins::start(&boxlite, folder.path(), IDENTITIES);
    let first = twins.first_words();
    assert_unlike(&first, 8);
    // And so it is for all that come later.
    let later = twins.names.each_ref().map(|name| -> Vec<String> {
        let said = boxlite.ok(["exec", name, "sh", "-c", IDENTITIES]);
        said.lines().map(str::to_owned).collect()
    });
    assert_unlike(&later, 8);
    let lasting = |said: &[String]| [0, 4, 5, 6, 7].map(|line| said[line].clone());
    for (first, later) in first.iter().zip(&later) {
        assert_eq!(lasting(first), lasting(later), "a box keeps what is its own");
        assert_ne!(first[2], later[2], "random numbers are drawn once");
    }
}

#[test]
#[ignore = "starts machines"]
fn programs_are_at_other_addresses() {
    let (folder, boxlite) = with_busybox();
    // A heap is at one of 8192 places only: several of them are the same in both by accident
    // as good as never.
    let script = format!("for run in 1 2 3 4; do {WITNESS} layout; done");
    let said = Twins::start(&boxlite, folder.path(), &script).first_words();
    let rows = said.each_ref().map(|said| -> Vec<Vec<&str>> {
        assert_eq!(said.len(), 4, "{said:?}");
        said.iter().map(|line| line.split(' ').collect()).collect()
    });
    for (column, what) in ["text", "heap", "mappings", "stack"].into_iter().enumerate() {
        let places = rows
            .each_ref()
            .map(|rows| -> Vec<&str> { rows.iter().map(|row| row[column]).collect() });
        assert!(places[0].iter().any(|place| *place != places[0][0]), "{what}: {said:?}");
        assert_ne!(places[0], places[1], "{what}");
    }
}

#[test]
#[ignore = "starts machines"]
fn clocks_are_right_and_go_on() {
    let (folder, boxlite) = with_busybox();
    let twins = Twins::start(&boxlite, folder.path(), "true");
    let host = || SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_nanos();
    for name in &twins.names {
        // However long it takes to ask, the box's reading is taken in between.
        let before = host();
        let clock: u128 = boxlite.ok(["exec", name, WITNESS, "clock"]).trim().parse().unwrap();
        let after = host();
        assert!(
            (before - CLOCK_TOLERANCE_NS..=after + CLOCK_TOLERANCE_NS).contains(&clock),
            "{clock} is not within {before} and {after}"
        );
        let uptime = || -> f64 {
            let text = boxlite.ok(["exec", name, "cut", "-d ", "-f1", "/proc/uptime"]);
            text.trim().parse().unwrap()
        };
        assert!(uptime() < uptime(), "the monotonic clock goes on");
    }
}

/// Where the number that a box's secret gives for a pair of ports can be (RFC 6528: the initial
/// sequence number is that and the clock, which counts 64 ns here): from `start` on, so far.
#[derive(Debug, Clone, Copy)]
struct Secret {
    start: u32,
    width: u32,
}

impl Secret {
    fn can_be(self, other: Secret) -> bool {
        other.start.wrapping_sub(self.start) <= self.width || self.start.wrapping_sub(other.start) <= other.width
    }
}

/// Of each port, in each of two rounds.
fn secrets(said: &[String]) -> [Vec<Secret>; 2] {
    let secrets: Vec<Secret> = said
        .iter()
        .map(|line| {
            let numbers: Vec<u64> = line.split(' ').map(|number| number.parse().unwrap()).collect();
            let [_port, sequence, before, after] = numbers[..] else {
                panic!("{line}");
            };
            let ticks = |nanoseconds: u64| (nanoseconds >> 6) as u32;
            Secret {
                start: (sequence as u32).wrapping_sub(ticks(after)),
                width: ticks(after).wrapping_sub(ticks(before)),
            }
        })
        .collect();
    let (first, second) = secrets.split_at(secrets.len() / 2);
    [first.to_vec(), second.to_vec()]
}

#[test]
#[ignore = "starts machines"]
fn tcp_connections_begin_elsewhere() {
    let (folder, boxlite) = with_busybox();
    let twins = Twins::start(&boxlite, folder.path(), &format!("{WITNESS} sequences"));
    let said = twins.first_words();
    let boxes = said.each_ref().map(|said| secrets(said));
    let can_be = |one: &[Secret], other: &[Secret]| -> Vec<bool> {
        assert_eq!((one.len(), other.len()), (8, 8), "{said:?}");
        one.iter().zip(other).map(|(one, other)| one.can_be(*other)).collect()
    };
    // Two connections of one box show the same secret: what is measured is measured.
    for [first, second] in &boxes {
        assert_eq!(can_be(first, second), [true; 8], "{said:?}");
    }
    // Numbers that the time of a connection leaves open can agree by accident, not for all ports.
    assert_ne!(can_be(&boxes[0][0], &boxes[1][0]), [true; 8], "{said:?}");
}
