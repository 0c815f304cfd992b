//! What a nested lab has to say of KVM: its rows as multiples of what stands beside them. The
//! times themselves are those of an emulated processor, and are not shown.

use std::fmt::Write as _;

use crate::measure::KVM;
use crate::report::{Group, Report, Row, Unit};

/// Rows that say something of each other without being floors: by their names, before the
/// accelerator's.
const PAIRS: [(&str, &str); 2] = [("cold", "warm"), ("exec/echo", "exec/bare-byte")];
/// Below this many percent a part of a start isn't named.
const LEAST_PERCENT: f64 = 0.5;

/// A section of the page; `name` is that of the file with the samples.
pub(super) fn section(report: &Report, name: &str) -> String {
    let versions = &report.versions;
    let mut section = format!(
        "\n## Under KVM, in a nested lab\n\n\
         From [{name}](../bench/results/{name}), taken on a machine that is emulated itself: QEMU's TCG plays a \
         processor with SVM whose clock counts instructions, and KVM on that runs the boxes and their floors, with {} \
         processor{}. No time in it means anything; ratios taken in one run do, of the instructions that something \
         takes, but not of what caches, disks and the exits of a machine cost on metal. Of times and memory less is \
         better, of rates more. n samples of both come after {} that don't count; where n is less than 20, the p95 is \
         the worst one. boxlite {}, {}, Linux {}, guest {}.\n\n\
         | | beside | of | n | failures | p50 ÷ p50 | p95 ÷ p95 |\n|---|---|---|--:|--:|--:|--:|\n",
        report.machine.cpus,
        if report.machine.cpus == 1 { "" } else { "s" },
        report.warm_ups,
        versions.boxlite,
        versions.qemu,
        versions.kernel,
        versions.guest_kernel,
    );
    for row in report.rows.iter().filter(|row| is_kvm(row)) {
        let pairs = PAIRS
            .iter()
            .filter(|(one, _)| row.id == format!("{one}/{KVM}"))
            .map(|(_, other)| format!("{other}/{KVM}"));
        for other in row.floors.iter().cloned().chain(pairs) {
            let other = report.rows.iter().find(|row| row.id == other);
            section.push_str(&other.and_then(|other| line(row, other)).unwrap_or_default());
        }
    }
    let shares: Vec<String> = [("warm", Group::WarmStages), ("cold", Group::ColdStages)]
        .into_iter()
        .filter_map(|(mode, group)| Some(format!("- {mode}: {}\n", shares(report, mode, group)?)))
        .collect();
    if !shares.is_empty() {
        section.push_str("\nWhere the time of a start goes there, by the sums of all samples:\n\n");
        section.extend(shares);
    }
    section
}

/// A run may have rows of emulation too: under two emulators they say nothing at all.
fn is_kvm(row: &Row) -> bool {
    row.id.split('/').any(|part| part == KVM)
}

/// A row beside another one; nothing where one of them was not taken.
fn line(row: &Row, other: &Row) -> Option<String> {
    let (ours, theirs) = (row.summary()?, other.summary()?);
    if theirs.p50 <= 0.0 || theirs.p95 <= 0.0 {
        return None;
    }
    let of = match row.unit {
        Unit::Milliseconds | Unit::Microseconds => "time",
        Unit::MegabytesPerSecond => "rate",
        Unit::Mebibytes => "memory",
    };
    Some(format!(
        "| {} | {} | {of} | {}, {} | {}, {} | {:.2} | {:.2} |\n",
        title(row),
        title(other),
        ours.n,
        theirs.n,
        row.failures.len(),
        other.failures.len(),
        ours.p50 / theirs.p50,
        ours.p95 / theirs.p95,
    ))
}

fn title(row: &Row) -> &str {
    row.title.strip_prefix("floor: ").unwrap_or(&row.title)
}

/// The parts of a start in percent. The sums, because those of the parts and of the whole add up,
/// which medians don't.
fn shares(report: &Report, mode: &str, group: Group) -> Option<String> {
    let sum = |row: &Row| row.samples.iter().sum::<f64>();
    let id = format!("{mode}/{KVM}");
    let whole = report.rows.iter().find(|row| row.id == id).map(sum)?;
    if whole <= 0.0 {
        return None;
    }
    let call = format!("{id}/start");
    let (mut named, mut rest) = (String::new(), 100.0);
    for row in &report.rows {
        // The call that starts a box is the stages and what is between them.
        if row.group != group || !is_kvm(row) || row.id == call {
            continue;
        }
        let percent = sum(row) / whole * 100.0;
        if percent >= LEAST_PERCENT {
            rest -= percent;
            // Writing to a String can't fail.
            let _ = write!(named, "{} {percent:.0} %, ", row.title.trim_start_matches("· stage "));
        }
    }
    Some(format!("{named}the rest {:.0} %", rest.max(0.0)))
}
