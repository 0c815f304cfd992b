//! The measurements, each with its floors.

mod copy;
mod exec;
mod many;
mod memory;
mod start;

use boxlite::Accelerator;

use crate::bench::Bench;
use crate::error::BenchError;
use crate::report::Row;

/// A measurement: rows that belong beside each other, taken in turn.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Measurement {
    /// From nothing to the first output.
    Start,
    /// Processes and streams of a running box.
    Exec,
    /// Files in and out.
    Copy,
    /// Of idle boxes.
    Memory,
    /// At once, and ends.
    Many,
}

impl Measurement {
    /// In the order of the page.
    pub(crate) const ALL: [Self; 5] = [Self::Start, Self::Exec, Self::Copy, Self::Memory, Self::Many];

    /// Its name, and words that its rows have in their ids: what `--only` looks at.
    pub(crate) fn names(self) -> &'static [&'static str] {
        match self {
            Self::Start => &["start", "cold", "warm", "cli", "go", "peer"],
            Self::Exec => &["exec", "output", "stdin"],
            Self::Copy => &["copy"],
            Self::Memory => &["memory"],
            Self::Many => &["many", "ends"],
        }
    }

    /// Takes its samples.
    pub(crate) async fn run(self, bench: &Bench, on_round: &mut dyn FnMut(usize)) -> Result<Vec<Row>, BenchError> {
        match self {
            Self::Start => start::measure(bench, on_round).await,
            Self::Exec => exec::measure(bench, on_round).await,
            Self::Copy => copy::measure(bench, on_round).await,
            Self::Memory => memory::measure(bench, on_round).await,
            Self::Many => many::measure(bench, on_round).await,
        }
    }
}

/// The accelerators to measure: emulation everywhere, and what boxlite chooses where that is more.
pub(crate) fn accelerators(chosen: &str) -> Vec<Accelerator> {
    if chosen == "kvm" {
        vec![Accelerator::Kvm, Accelerator::Tcg]
    } else {
        vec![Accelerator::Tcg]
    }
}
