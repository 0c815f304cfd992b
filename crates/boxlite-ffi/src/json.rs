//! Options that cross the boundary as JSON. Those of the library are its own types; here are
//! the ones that it has in another form.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use boxlite::{Accelerator, EngineKind, RegistryOptions, Signal, TemplateUse};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::error::Failure;

/// Reads the options `name`; NULL means `{}`.
pub(crate) fn parse<T: DeserializeOwned>(name: &str, text: Option<&str>) -> Result<T, Failure> {
    let text = text.unwrap_or("{}");
    // serde would take the fields of a struct from an array, in their order.
    if !text.trim_start_matches([' ', '\t', '\n', '\r']).starts_with('{') {
        return Err(Failure::argument(format!("{name} is no JSON object")));
    }
    serde_json::from_str(text).map_err(|error| Failure::argument(format!("{name}: {error}")))
}

/// How a client is opened.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ClientOptions {
    /// The home directory. Absent: `BOXLITE_HOME`, else `~/.boxlite`.
    pub home: Option<PathBuf>,
    /// Engine for boxes whose options say `auto`. Absent: `BOXLITE_ENGINE`, else `auto`.
    pub engine: Option<EngineKind>,
    /// The accelerator. Absent: `BOXLITE_ACCEL`, else by evidence.
    pub accelerator: Option<Accelerator>,
    /// Whether boxes start from templates. Absent: `BOXLITE_TEMPLATES`, else `auto`.
    pub templates: Option<TemplateUse>,
    /// Folder with supervisor, kernel and initramfs. Absent: `BOXLITE_BUNDLE_DIR`, else the
    /// library's own.
    pub bundle_dir: Option<PathBuf>,
    /// How registries are reached.
    pub registries: RegistryOptions,
}

impl ClientOptions {
    /// The same for the library.
    pub(crate) fn builder(self) -> boxlite::ClientBuilder {
        let mut builder = boxlite::Client::builder().registries(self.registries);
        if let Some(home) = self.home {
            builder = builder.home(home);
        }
        if let Some(engine) = self.engine {
            builder = builder.engine(engine);
        }
        if let Some(accelerator) = self.accelerator {
            builder = builder.accelerator(accelerator);
        }
        if let Some(templates) = self.templates {
            builder = builder.templates(templates);
        }
        if let Some(bundle_dir) = self.bundle_dir {
            builder = builder.bundle_dir(bundle_dir);
        }
        builder
    }
}

/// How a box is stopped.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct StopOptions {
    /// How long to wait before killing, in milliseconds. Absent: the box's.
    pub timeout_ms: Option<u64>,
    /// What to send first. Absent: the box's stop signal.
    pub signal: Option<Signal>,
}

impl From<StopOptions> for boxlite::StopOptions {
    fn from(options: StopOptions) -> Self {
        let mut stop = Self::default();
        stop.timeout = options.timeout_ms.map(Duration::from_millis);
        stop.signal = options.signal;
        stop
    }
}

/// Where an output goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum StdoutMode {
    /// Into a pipe.
    Pipe,
    /// Nowhere.
    Null,
}

/// Where standard error goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum StderrMode {
    /// Into a pipe.
    Pipe,
    /// Nowhere.
    Null,
    /// Where standard output goes.
    Stdout,
}

/// What is run in a box.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ExecOptions {
    /// Program and arguments; the program is looked up in the box's `PATH`.
    pub command: Vec<String>,
    /// Environment, over the box's.
    #[serde(default)]
    pub env: BTreeMap<String, String>,
    /// Working directory, absolute; must exist. Absent: the box's.
    #[serde(default)]
    pub working_dir: Option<String>,
    /// `name`, `uid`, `name:group` or `uid:gid`. Absent: the box's.
    #[serde(default)]
    pub user: Option<String>,
    /// Give it a standard input; otherwise that is `/dev/null`.
    #[serde(default)]
    pub stdin: bool,
    /// Where standard output goes. Absent: into a pipe.
    #[serde(default)]
    pub stdout: Option<StdoutMode>,
    /// Where standard error goes. Absent: into a pipe. Must be absent with a terminal.
    #[serde(default)]
    pub stderr: Option<StderrMode>,
    /// Give it a terminal.
    #[serde(default)]
    pub tty: bool,
    /// Lines of the terminal; with `columns`.
    #[serde(default)]
    pub rows: Option<u16>,
    /// Columns of the terminal; with `rows`.
    #[serde(default)]
    pub columns: Option<u16>,
    /// Let it live on when its handle is freed; its output is then lost.
    #[serde(default)]
    pub detached: bool,
    /// How long its outputs may go on after its end because other processes hold them, in
    /// milliseconds. Absent: until they have been silent for some seconds.
    #[serde(default)]
    pub output_grace_ms: Option<u64>,
}

/// How the main process of a box is attached to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct AttachOptions {
    /// Feed its standard input. One execution at a time can.
    pub stdin: bool,
    /// Where standard output goes. Absent: into a pipe.
    pub stdout: Option<StdoutMode>,
    /// Where standard error goes. Absent: into a pipe. Must be absent if it has a terminal.
    pub stderr: Option<StderrMode>,
    /// Lines of the terminal, if it has one; with `columns`.
    pub rows: Option<u16>,
    /// Columns of the terminal, if it has one; with `rows`.
    pub columns: Option<u16>,
}

impl From<AttachOptions> for boxlite::AttachOptions {
    fn from(options: AttachOptions) -> Self {
        let mut attach = Self::default();
        attach.stdin = options.stdin;
        attach.size = match (options.rows, options.columns) {
            (Some(rows), Some(columns)) => Some(boxlite::TerminalSize { rows, columns }),
            _ => None,
        };
        attach
    }
}

impl ExecOptions {
    /// The same for the library, to which outputs are streams that are read.
    pub(crate) fn into_library(self) -> Result<boxlite::ExecOptions, Failure> {
        let mut options = boxlite::ExecOptions::new(self.command);
        options.env = self
            .env
            .into_iter()
            .map(|(key, value)| (key.into(), value.into()))
            .collect();
        options.working_dir = self.working_dir.map(Into::into);
        options.user = self.user;
        options.stdin = self.stdin;
        options.tty = self.tty;
        options.size = terminal_size(self.rows, self.columns)?;
        options.detached = self.detached;
        options.merge_stderr = self.stderr == Some(StderrMode::Stdout);
        options.output_grace = self.output_grace_ms.map(std::time::Duration::from_millis);
        Ok(options)
    }
}

/// How an image is removed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ImageRemoveOptions {
    /// Also an image that boxes were made from, and all of its names.
    pub force: bool,
}

/// The size of a terminal, of which one half alone is a mistake.
pub(crate) fn terminal_size(rows: Option<u16>, columns: Option<u16>) -> Result<Option<boxlite::TerminalSize>, Failure> {
    match (rows, columns) {
        (Some(rows), Some(columns)) => Ok(Some(boxlite::TerminalSize { rows, columns })),
        (None, None) => Ok(None),
        _ => Err(Failure::argument("rows and columns are given together or not at all")),
    }
}
