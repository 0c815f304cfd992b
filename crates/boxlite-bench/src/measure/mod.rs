//! The measurements, each with its floors.

mod copy;
mod exec;
mod images;
mod lists;
mod many;
mod memory;
mod peers;
mod sdk;
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
    /// What the boundary to other languages costs.
    Sdk,
    /// Loads, and boxes of large images.
    Images,
    /// Of idle boxes.
    Memory,
    /// At once, and ends.
    Many,
    /// Homes with many boxes.
    Lists,
}

impl Measurement {
    /// In the order of the page.
    pub(crate) const ALL: [Self; 8] = [
        Self::Start,
        Self::Exec,
        Self::Copy,
        Self::Sdk,
        Self::Images,
        Self::Memory,
        Self::Many,
        Self::Lists,
    ];

    /// Its name, and words that its rows have in their ids: what `--only` looks at.
    pub(crate) fn names(self) -> &'static [&'static str] {
        match self {
            Self::Start => &["start", "cold", "warm", "cli", "go", "peer"],
            Self::Exec => &["exec", "output", "stdin"],
            Self::Copy => &["copy"],
            Self::Sdk => &["sdk"],
            Self::Images => &["images", "load", "create"],
            Self::Memory => &["memory"],
            Self::Many => &["many", "ends"],
            Self::Lists => &["lists"],
        }
    }

    /// Takes its samples.
    pub(crate) async fn run(self, bench: &Bench, on_round: &mut dyn FnMut(usize)) -> Result<Vec<Row>, BenchError> {
        match self {
            Self::Start => start::measure(bench, on_round).await,
            Self::Exec => exec::measure(bench, on_round).await,
            Self::Copy => copy::measure(bench, on_round).await,
            Self::Sdk => sdk::measure(bench, on_round).await,
            Self::Images => images::measure(bench, on_round).await,
            Self::Memory => memory::measure(bench, on_round).await,
            Self::Many => many::measure(bench, on_round).await,
            Self::Lists => lists::measure(bench, on_round).await,
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
