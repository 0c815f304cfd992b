//! The jail around an engine.

mod report;

pub use report::{JailReport, MissingMeasure};
