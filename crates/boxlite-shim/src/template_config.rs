//! Templates: where a supervisor finds them, and what the process that makes one is told.

use std::path::PathBuf;

use boxlite_machine::MachineSpec;
use boxlite_machine::qemu::template::BlankDisks;
use serde::{Deserialize, Serialize};

/// The argument with which the supervisor's binary makes a template instead: it reads a
/// [`TemplateConfig`] on [`CONFIG_FD`](crate::CONFIG_FD) and writes one [`TemplateResult`] on
/// [`STATUS_FD`](crate::STATUS_FD), if that is there.
pub const MAKE_TEMPLATE: &str = "template";

/// What a start does about templates.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Templates {
    /// The folder that they are in.
    pub dir: PathBuf,
    /// The size of every disk of every machine, in bytes.
    pub disk_bytes: u64,
    /// What the disks of a template's machine are copies of.
    pub blank: BlankDisks,
    /// After a cold start of a shape without a template, have one made.
    pub make: bool,
}

/// A template to be made.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TemplateConfig {
    /// A machine of its shape.
    pub machine: MachineSpec,
    /// Where to.
    pub templates: Templates,
    /// How long its guest may take to come up, in milliseconds. `None`: by accelerator.
    #[serde(default)]
    pub timeout_ms: Option<u64>,
    /// Nobody waits for it: it gives way to everything else.
    #[serde(default)]
    pub in_background: bool,
}

/// What became of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TemplateResult {
    /// It is there.
    Made {
        /// The name of its folder.
        key: String,
        /// It was there before.
        existed: bool,
    },
    /// Another process makes it just now.
    Busy,
    /// There is none.
    Failed {
        /// Why.
        message: String,
    },
}
