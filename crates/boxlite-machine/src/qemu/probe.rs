//! Finding QEMU and finding out what it can do.

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::io::{self, Write as _};
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::spec::EngineSpec;

/// The oldest QEMU whose command line and behaviour this crate was made for.
pub const OLDEST_VERSION: Version = Version {
    major: 7,
    minor: 2,
    micro: 0,
};
/// The newest major version that was looked at.
const NEWEST_KNOWN_MAJOR: u32 = 10;
/// Name of the program.
const PROGRAM: &str = "qemu-system-x86_64";
/// Names the program to use.
const VARIABLE: &str = "BOXLITE_QEMU";
/// Name of the remembered answer, in [`EngineSpec::cache_dir`].
const CACHE_NAME: &str = "qemu.json";
/// How to get it.
const INSTALL_HINT: &str = "apt-get install qemu-system-x86";
/// What machines are built from.
const DEVICES: [&str; 5] = [
    "virtio-serial-device",
    "virtio-blk-device",
    "virtio-9p-device",
    "virtio-net-device",
    "virtserialport",
];
/// The engine's own system call filter.
pub(crate) const SANDBOX: &str = "on,obsolete=deny,elevateprivileges=deny,spawn=deny,resourcecontrol=deny";

/// Version of a QEMU.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Version {
    /// 7 of 7.2.22.
    pub major: u32,
    /// 2 of 7.2.22.
    pub minor: u32,
    /// 22 of 7.2.22.
    pub micro: u32,
}

impl std::fmt::Display for Version {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}.{}.{}", self.major, self.minor, self.micro)
    }
}

/// A QEMU that can run machines.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct QemuInfo {
    /// The program.
    pub path: PathBuf,
    /// Its version.
    pub version: Version,
    /// Its system call filter works.
    pub sandbox: bool,
    /// When the program was last changed, in nanoseconds since the epoch.
    pub mtime_ns: i128,
    /// Its size.
    pub size_bytes: u64,
}

impl QemuInfo {
    /// What a person should know about it.
    #[must_use]
    pub fn warnings(&self) -> Vec<String> {
        if self.version.major > NEWEST_KNOWN_MAJOR {
            vec![format!(
                "QEMU {} is newer than what boxlite was tested with",
                self.version
            )]
        } else {
            Vec::new()
        }
    }
}

/// There is no QEMU that can run machines.
#[derive(Debug, thiserror::Error)]
pub enum ProbeError {
    /// There is none.
    #[error("{PROGRAM} was not found in {}", places.join(", "))]
    NotFound {
        /// Where was looked.
        places: Vec<String>,
    },
    /// It can't be run.
    #[error("{} can't be run", path.display())]
    Run {
        /// The program.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// It ran, but not as a QEMU does.
    #[error("{} does not behave like QEMU: {}", path.display(), stderr.join("; "))]
    NotQemu {
        /// The program.
        path: PathBuf,
        /// What it said.
        stderr: Vec<String>,
    },
    /// It is too old.
    #[error("{} is version {found}, but {needed} or newer is needed", path.display())]
    TooOld {
        /// The program.
        path: PathBuf,
        /// Its version.
        found: Version,
        /// [`OLDEST_VERSION`].
        needed: Version,
    },
    /// It was built without something.
    #[error("{} (version {version}) was built without {}", path.display(), what.join(", "))]
    Lacks {
        /// The program.
        path: PathBuf,
        /// Its version.
        version: Version,
        /// What is missing: machines and devices.
        what: Vec<String>,
    },
}

impl ProbeError {
    /// What to do about it.
    #[must_use]
    pub fn hint(&self) -> String {
        match self {
            Self::NotFound { .. } => INSTALL_HINT.to_owned(),
            Self::Run { .. } | Self::NotQemu { .. } => {
                format!("{INSTALL_HINT}, or name another one in {VARIABLE}")
            }
            Self::TooOld { needed, .. } => format!("install QEMU {needed} or newer, or name one in {VARIABLE}"),
            Self::Lacks { .. } => format!("install the distribution's complete QEMU: {INSTALL_HINT}"),
        }
    }
}

/// Finds the QEMU of `engine` (a path of its own, `BOXLITE_QEMU`, `PATH`), and what it can
/// do. Runs it for some 50 ms, unless that is remembered in the cache folder and the
/// program has not changed. Blocks.
///
/// # Errors
/// [`ProbeError`].
pub fn probe(engine: &EngineSpec) -> Result<QemuInfo, ProbeError> {
    let path = find(
        engine.qemu.as_deref(),
        std::env::var_os(VARIABLE).as_deref(),
        std::env::var_os("PATH").as_deref(),
    )?;
    let metadata = std::fs::metadata(&path).map_err(|source| ProbeError::Run {
        path: path.clone(),
        source,
    })?;
    let mtime_ns = i128::from(metadata.mtime()) * 1_000_000_000 + i128::from(metadata.mtime_nsec());
    let size_bytes = metadata.size();
    let cache = engine.cache_dir.as_ref().map(|dir| dir.join(CACHE_NAME));
    let remembered: Option<QemuInfo> = cache
        .as_ref()
        .and_then(|cache| std::fs::read(cache).ok())
        .and_then(|json| serde_json::from_slice(&json).ok());
    if let Some(info) = remembered
        && (&info.path, info.mtime_ns, info.size_bytes) == (&path, mtime_ns, size_bytes)
        && info.version >= OLDEST_VERSION
    {
        return Ok(info);
    }
    let (version, sandbox) = ask(&path)?;
    let info = QemuInfo {
        path,
        version,
        sandbox,
        mtime_ns,
        size_bytes,
    };
    if let Some(cache) = &cache
        && let Err(error) = remember(cache, &info)
    {
        tracing::debug!(%error, path = %cache.display(), "the engine's probe is not remembered");
    }
    Ok(info)
}

/// Written aside and renamed: other processes read it at any time.
fn remember(cache: &Path, info: &QemuInfo) -> io::Result<()> {
    let mut aside = cache.as_os_str().to_owned();
    aside.push(format!(".{}", std::process::id()));
    let mut file = std::fs::File::create(&aside)?;
    file.write_all(&serde_json::to_vec(info)?)?;
    std::fs::rename(&aside, cache)
}

fn find(own: Option<&Path>, variable: Option<&OsStr>, path: Option<&OsStr>) -> Result<PathBuf, ProbeError> {
    let named = own.or(variable.filter(|value| !value.is_empty()).map(Path::new));
    if let Some(named) = named {
        return if is_program(named) {
            Ok(std::path::absolute(named).unwrap_or_else(|_| named.to_owned()))
        } else {
            Err(ProbeError::NotFound {
                places: vec![named.display().to_string()],
            })
        };
    }
    let dirs: Vec<PathBuf> = path
        .map(|path| std::env::split_paths(path).filter(|dir| dir.is_absolute()).collect())
        .unwrap_or_default();
    let found = dirs
        .iter()
        .map(|dir| dir.join(PROGRAM))
        .find(|program| is_program(program));
    found.ok_or_else(|| ProbeError::NotFound {
        places: dirs.iter().map(|dir| dir.display().to_string()).collect(),
    })
}

fn is_program(path: &Path) -> bool {
    std::fs::metadata(path).is_ok_and(|metadata| metadata.is_file() && metadata.permissions().mode() & 0o111 != 0)
}

/// Version, and whether the filter works.
fn ask(path: &Path) -> Result<(Version, bool), ProbeError> {
    let failed = |source| ProbeError::Run {
        path: path.to_owned(),
        source,
    };
    let with = converse(path, true).map_err(failed)?;
    let (output, sandbox) = if with.status.success() {
        (with, true)
    } else {
        (converse(path, false).map_err(failed)?, false)
    };
    let answers = String::from_utf8_lossy(&output.stdout);
    let Some(facts) = facts(&answers) else {
        // Too old to understand the question: perhaps it says its version.
        return Err(match version_text(path) {
            Some(found) if found < OLDEST_VERSION => ProbeError::TooOld {
                path: path.to_owned(),
                found,
                needed: OLDEST_VERSION,
            },
            _ => ProbeError::NotQemu {
                path: path.to_owned(),
                stderr: last_lines(&output.stderr),
            },
        });
    };
    if facts.version < OLDEST_VERSION {
        return Err(ProbeError::TooOld {
            path: path.to_owned(),
            found: facts.version,
            needed: OLDEST_VERSION,
        });
    }
    if !facts.lacks.is_empty() {
        return Err(ProbeError::Lacks {
            path: path.to_owned(),
            version: facts.version,
            what: facts.lacks,
        });
    }
    Ok((facts.version, sandbox))
}

/// One QEMU without a machine answers everything on its control channel.
fn converse(path: &Path, sandbox: bool) -> io::Result<Output> {
    const QUESTIONS: &[u8] = br#"{"execute":"qmp_capabilities"}
{"execute":"query-machines"}
{"execute":"qom-list-types","arguments":{"implements":"device"}}
{"execute":"quit"}
"#;
    let mut command = Command::new(path);
    command
        .args([
            "-M",
            "none",
            "-nodefaults",
            "-no-user-config",
            "-display",
            "none",
            "-qmp",
            "stdio",
        ])
        .env_clear()
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    if sandbox {
        command.args(["-sandbox", SANDBOX]);
    }
    let mut child = command.spawn()?;
    let asked = match child.stdin.take() {
        // Less than a pipe holds: can't block. One that is gone already is told by its status.
        Some(mut stdin) => stdin.write_all(QUESTIONS),
        None => Ok(()),
    };
    let output = child.wait_with_output()?;
    match asked {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => Err(error),
        _ => Ok(output),
    }
}

#[derive(Debug, PartialEq)]
struct Facts {
    version: Version,
    lacks: Vec<String>,
}

/// Reads the answers; `None` when they are not QEMU's.
fn facts(answers: &str) -> Option<Facts> {
    let values: Vec<Value> = answers
        .lines()
        .filter_map(|line| serde_json::from_str(line).ok())
        .collect();
    let version = &values.first()?["QMP"]["version"]["qemu"];
    let number = |name: &str| version[name].as_u64().and_then(|number| u32::try_from(number).ok());
    let version = Version {
        major: number("major")?,
        minor: number("minor")?,
        micro: number("micro")?,
    };
    let names: BTreeSet<&str> = values
        .iter()
        .filter_map(|value| value["return"].as_array())
        .flatten()
        .filter_map(|item| item["name"].as_str())
        .collect();
    let lacks = std::iter::once("microvm")
        .chain(DEVICES)
        .filter(|name| !names.contains(name))
        .map(str::to_owned)
        .collect();
    Some(Facts { version, lacks })
}

/// `QEMU emulator version 7.2.22 (Debian …)`.
fn version_text(path: &Path) -> Option<Version> {
    let output = Command::new(path)
        .arg("--version")
        .env_clear()
        .stdin(Stdio::null())
        .output()
        .ok()?;
    parse_version(&String::from_utf8_lossy(&output.stdout))
}

fn parse_version(text: &str) -> Option<Version> {
    let rest = text.split_once("version ")?.1;
    let numbers = rest.split(|c: char| !c.is_ascii_digit() && c != '.').next()?;
    let mut numbers = numbers.split('.').map(|number| number.parse().ok());
    Some(Version {
        major: numbers.next()??,
        minor: numbers.next()??,
        micro: numbers.next().flatten().unwrap_or(0),
    })
}

fn last_lines(stderr: &[u8]) -> Vec<String> {
    let text = String::from_utf8_lossy(&stderr[stderr.len().saturating_sub(4096)..]).into_owned();
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(5)..]
        .iter()
        .map(|line| (*line).to_owned())
        .collect()
}

#[cfg(test)]
mod tests;
