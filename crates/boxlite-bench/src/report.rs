//! The results file: everything that a run measured, and on what.

use serde::{Deserialize, Serialize};

use crate::statistics::{Better, Summary};

/// Grows by 1 when a file of before can't be read any more.
pub(crate) const FORMAT: u32 = 1;

/// A run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Report {
    /// [`FORMAT`].
    pub(crate) format: u32,
    /// RFC 3339.
    pub(crate) started_at: String,
    /// RFC 3339.
    pub(crate) finished_at: String,
    /// What it ran on.
    pub(crate) machine: Machine,
    /// What was measured, with what.
    pub(crate) versions: Versions,
    /// Before the first sample.
    pub(crate) load_before: Load,
    /// After the last one.
    pub(crate) load_after: Load,
    /// Samples of a latency row that were asked for.
    pub(crate) n: usize,
    /// Samples before them that don't count.
    pub(crate) warm_ups: usize,
    /// The rows, in the order of the table.
    pub(crate) rows: Vec<Row>,
}

/// A machine, without a name.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Machine {
    /// As in `/proc/cpuinfo`.
    pub(crate) cpu: String,
    /// Processors that this process may use.
    pub(crate) cpus: usize,
    /// Memory.
    pub(crate) memory_mib: u64,
    /// `kvm` or `tcg`: what boxlite chooses here.
    pub(crate) accelerator: String,
    /// What it was chosen by.
    pub(crate) accelerator_evidence: Vec<String>,
    /// File system below the home.
    pub(crate) filesystem: String,
}

/// Versions.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Versions {
    /// Commit of the tree, with `-dirty` when crates or guest differ from it.
    pub(crate) boxlite: String,
    /// As QEMU says.
    pub(crate) qemu: String,
    /// The host's.
    pub(crate) kernel: String,
    /// The compiler.
    pub(crate) rustc: String,
    /// The guest's kernel.
    pub(crate) guest_kernel: String,
    /// Peers and tools, as they say.
    pub(crate) tools: Vec<String>,
}

/// What else the machine was doing.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub(crate) struct Load {
    /// Load averages over 1, 5 and 15 minutes.
    pub(crate) averages: [f64; 3],
    /// Processes and threads that were runnable, this one included.
    pub(crate) runnable: u32,
    /// Share of processor time that others took in a second before the rows; 0 to 1.
    pub(crate) busy: f64,
}

/// One quantity, with all its samples.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Row {
    /// Unique in a report: `warm/tcg`.
    pub(crate) id: String,
    /// The table it belongs to.
    pub(crate) group: Group,
    /// For people.
    pub(crate) title: String,
    /// Of the samples.
    pub(crate) unit: Unit,
    /// Rows that this one stands beside.
    pub(crate) floors: Vec<String>,
    /// What it ought to reach.
    pub(crate) bars: Vec<Bar>,
    /// In the order in which they were taken.
    pub(crate) samples: Vec<f64>,
    /// What went wrong, for each sample that is missing.
    pub(crate) failures: Vec<String>,
    /// Why there are no samples at all.
    pub(crate) absent: Option<String>,
    /// Load average of the last minute at the row's end.
    pub(crate) load: f64,
}

impl Row {
    /// Its figures.
    pub(crate) fn summary(&self) -> Option<Summary> {
        Summary::of(&self.samples, self.unit.better())
    }
}

/// A table of the page.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Group {
    /// From nothing to the first output.
    Start,
    /// Where the time of a warm start goes.
    WarmStages,
    /// Where the time of a cold start goes.
    ColdStages,
    /// Processes in a running box.
    Exec,
    /// Streams and files.
    Throughput,
    /// The boundary to other languages.
    Sdk,
    /// Images.
    Images,
    /// Many boxes.
    Many,
    /// Memory.
    Memory,
    /// Ends of boxes.
    Ends,
    /// Homes with many boxes.
    Lists,
}

/// Of a row's samples.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Unit {
    /// Milliseconds.
    #[serde(rename = "ms")]
    Milliseconds,
    /// Microseconds.
    #[serde(rename = "µs")]
    Microseconds,
    /// Millions of bytes in a second.
    #[serde(rename = "MB/s")]
    MegabytesPerSecond,
    /// 2^20 bytes.
    #[serde(rename = "MiB")]
    Mebibytes,
}

impl Unit {
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Milliseconds => "ms",
            Self::Microseconds => "µs",
            Self::MegabytesPerSecond => "MB/s",
            Self::Mebibytes => "MiB",
        }
    }

    pub(crate) fn better(self) -> Better {
        match self {
            Self::Milliseconds | Self::Microseconds | Self::Mebibytes => Better::Less,
            Self::MegabytesPerSecond => Better::More,
        }
    }
}

/// What a row ought to reach: its p50, unless it says something else.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub(crate) enum Bar {
    /// In the row's unit.
    AtMost {
        /// The limit.
        value: f64,
    },
    /// In the row's unit.
    AtLeast {
        /// The limit.
        value: f64,
    },
    /// Against the p50 of another row of the same run.
    AtMostTimes {
        /// How many times.
        factor: f64,
        /// The other row.
        row: String,
    },
    /// The tail.
    P99AtMostTimesP50 {
        /// How many times.
        factor: f64,
    },
    /// No sample may be missing.
    NoFailure,
}
