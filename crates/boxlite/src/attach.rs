//! Attaching to the main process of a box.

use serde::{Deserialize, Serialize};

use crate::execution::TerminalSize;

/// How [`crate::BoxHandle::attach`] and [`crate::BoxHandle::start_attached`] attach.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
#[non_exhaustive]
pub struct AttachOptions {
    /// Feed its standard input. One execution at a time can.
    pub stdin: bool,
    /// Size of the terminal, if it has one.
    pub size: Option<TerminalSize>,
}
