use super::*;
use crate::report::{Machine, Unit, Versions};
use crate::sample::row;

fn report() -> Report {
    let mut warm = row("warm/tcg", Group::Start, Unit::Milliseconds, "warm: <create>")
        .floor("warm/floor/tcg")
        .bar(Bar::AtMost { value: 250.0 })
        .bar(Bar::AtMostTimes {
            factor: 1.8,
            row: "warm/floor/tcg".into(),
        })
        .bar(Bar::NoFailure);
    warm.samples = vec![300.0, 200.0, 210.0];
    warm.failures = vec!["it fell".into()];
    let mut floor = row("warm/floor/tcg", Group::Start, Unit::Milliseconds, "a bare engine");
    floor.samples = vec![100.0];
    let mut absent = row("go/tcg", Group::Start, Unit::Milliseconds, "Go");
    absent.absent = Some("no go here".into());
    let load = Load {
        averages: [0.1, 0.2, 0.3],
        runnable: 1,
        busy: 0.05,
    };
    Report {
        format: FORMAT,
        started_at: "then".into(),
        finished_at: "later".into(),
        machine: Machine {
            cpu: "a processor".into(),
            cpus: 2,
            memory_mib: 1024,
            accelerator: "tcg".into(),
            accelerator_evidence: vec!["no svm".into()],
            filesystem: "ext4".into(),
        },
        versions: Versions {
            boxlite: "abc".into(),
            qemu: "7.2".into(),
            kernel: "6.1".into(),
            rustc: "1.90".into(),
            guest_kernel: "6.12".into(),
            tools: Vec::new(),
        },
        load_before: load,
        load_after: load,
        n: 3,
        warm_ups: 1,
        rows: vec![warm, floor, absent],
    }
}

#[test]
fn a_row_stands_above_its_floor_with_its_bars() {
    let page = page(&report(), "x.json");
    let warm = page.lines().find(|line| line.contains("warm: <create>")).unwrap();
    assert!(
        warm.contains("| 3 | 210.0 | 300.0 | 300.0 | 300.0 | 1 | 2.10 |"),
        "{warm}"
    );
    assert!(warm.contains("≤ 250 ms: met"), "{warm}");
    assert!(warm.contains("≤ 1.8 × warm/floor/tcg: **not met**"), "{warm}");
    assert!(warm.contains("no failure: **not met**"), "{warm}");
    let below = page
        .lines()
        .skip_while(|line| !line.contains("warm: <create>"))
        .nth(1)
        .unwrap();
    assert!(below.contains("floor: a bare engine"), "{below}");
    assert!(page.contains("no go here"));
    assert!(page.contains("others took 5 %"));
}

#[test]
fn the_plot_is_in_multiples_and_escaped() {
    let svg = plot::plot(&report());
    assert!(
        svg.contains("warm: &lt;create&gt;") && svg.contains("2.10 × (210.0 ms)"),
        "{svg}"
    );
    assert!(svg.starts_with("<svg ") && svg.ends_with("</svg>\n"));
}

/// As from a lab: KVM's rows, a row of emulation, and parts of a start.
fn lab() -> Report {
    let taken = |id: &str, group, title: &str, samples: &[f64]| {
        let mut row = row(id, group, Unit::Milliseconds, title);
        row.samples = samples.to_vec();
        row
    };
    let mut cold = taken("cold/kvm", Group::Start, "cold: create", &[4000.0, 4400.0]).floor("cold/floor/kvm");
    cold.failures = vec!["it fell".into()];
    let rows = vec![
        taken("warm/kvm", Group::Start, "warm: create", &[1500.0, 2500.0]).floor("warm/floor/kvm"),
        taken(
            "warm/kvm/create",
            Group::WarmStages,
            "the call of `create`",
            &[20.0, 20.0],
        ),
        taken(
            "warm/kvm/start",
            Group::WarmStages,
            "the call of `start_attached`",
            &[1480.0, 2480.0],
        ),
        taken(
            "warm/kvm/stage/engine",
            Group::WarmStages,
            "· stage engine",
            &[900.0, 1100.0],
        ),
        taken("warm/kvm/stage/main", Group::WarmStages, "· stage main", &[0.0, 0.0]),
        taken(
            "warm/floor/kvm",
            Group::Start,
            "floor: a bare engine",
            &[1000.0, 1000.0],
        ),
        cold,
        taken("warm/tcg", Group::Start, "warm: emulated twice", &[9000.0]).floor("warm/floor/kvm"),
        row("go/start/kvm", Group::Start, Unit::Milliseconds, "Go").floor("warm/floor/kvm"),
    ];
    let mut lab = report();
    lab.rows = rows;
    lab
}

#[test]
fn of_a_lab_there_are_ratios_and_no_times() {
    let section = ratios::section(&lab(), "lab.json");
    let lines: Vec<&str> = section.lines().filter(|line| line.starts_with("| ")).collect();
    assert_eq!(
        lines[1..],
        [
            "| warm: create | a bare engine | time | 2, 2 | 0, 0 | 1.50 | 2.50 |",
            "| cold: create | warm: create | time | 2, 2 | 1, 0 | 2.67 | 1.76 |",
        ],
        "{section}"
    );
    assert!(section.contains("## Under KVM, in a nested lab\n"), "{section}");
    assert!(section.contains("(../bench/results/lab.json)"), "{section}");
    assert!(!section.contains(" ms") && !section.contains("1500"), "{section}");
}

#[test]
fn parts_of_a_start_are_told_in_percent() {
    let section = ratios::section(&lab(), "lab.json");
    assert!(
        section.contains("- warm: the call of `create` 1 %, engine 50 %, the rest 49 %\n"),
        "{section}"
    );
}
