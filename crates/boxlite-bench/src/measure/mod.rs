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

/// Hardware virtualization, by its name in ids, in options and in boxlite's environment.
pub(crate) const KVM: &str = "kvm";
/// Emulation.
pub(crate) const TCG: &str = "tcg";

/// The accelerators to measure: the one that was asked for, else emulation everywhere, and what
/// boxlite chooses where that is more.
pub(crate) fn accelerators(chosen: &str, asked: Option<&str>) -> Vec<Accelerator> {
    match (asked, chosen) {
        (Some(KVM), _) => vec![Accelerator::Kvm],
        (None, KVM) => vec![Accelerator::Kvm, Accelerator::Tcg],
        _ => vec![Accelerator::Tcg],
    }
}

/// Its name.
pub(crate) fn name(accelerator: Accelerator) -> &'static str {
    if accelerator == Accelerator::Kvm { KVM } else { TCG }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn emulation_is_measured_unless_only_kvm_was_asked_for() {
        assert_eq!(accelerators(KVM, None), [Accelerator::Kvm, Accelerator::Tcg]);
        assert_eq!(accelerators(TCG, None), [Accelerator::Tcg]);
        assert_eq!(accelerators(KVM, Some(TCG)), [Accelerator::Tcg]);
        // Where boxlite would not choose it, it may still be tried.
        assert_eq!(accelerators(TCG, Some(KVM)), [Accelerator::Kvm]);
    }
}
