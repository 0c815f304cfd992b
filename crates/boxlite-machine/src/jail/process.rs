//! The step between supervisor and engine: a process that confines itself and then
//! becomes the engine.

use std::fs::File;
use std::io::{self, Read as _, Write as _};
use std::os::fd::RawFd;
use std::os::unix::process::CommandExt as _;
use std::path::PathBuf;
use std::process::{Command, ExitCode};

use rustix::process::{Resource, Rlimit, Signal};
use serde::{Deserialize, Serialize};

use super::confinement::Confinement;
use super::report::{FILE_ACCESS, INHERITANCE, JailReport, NO_NEW_PRIVILEGES, PARENT_DEATH, RESOURCE_LIMITS};
use super::{file_access, identity, members, namespaces};
use crate::sys;

/// Descriptor on which the jail reads its [`Spec`] (JSON, to end of file).
pub const SPEC_FD: RawFd = 3;
/// Descriptor on which it writes [`Message`]s, one JSON object a line. End of file after a
/// report means that the process has become the engine.
pub const REPORT_FD: RawFd = 4;
/// The first of the descriptors that the engine gets, under the same numbers.
pub const ENGINE_FD: RawFd = 5;

/// What an engine's process does.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Spec {
    /// The process that started it and with which it dies.
    pub parent_pid: u32,
    /// The engine.
    pub binary: PathBuf,
    /// Its arguments, without its name.
    pub args: Vec<String>,
    /// It gets the descriptors `ENGINE_FD..ENGINE_FD + engine_fds`.
    pub engine_fds: u32,
    /// What comes before.
    pub confinement: Confinement,
}

/// What the process says before it becomes the engine.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Message {
    /// The engine is next.
    Report(JailReport),
    /// Measures are missing and all are required: there will be no engine.
    Incomplete(JailReport),
    /// There will be no engine.
    Failed(Failure),
}

/// Why a process did not become the engine.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failure {
    /// Which step.
    pub step: Step,
    /// What the system said.
    pub why: String,
}

/// The steps that can't be left out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Step {
    /// Reading the specification.
    Spec,
    /// Tying it to its parent.
    Parent,
    /// Closing descriptors.
    Descriptors,
    /// Volumes that are mounted in the jail: single files, and those that share a device.
    Volumes,
    /// Changing user, groups and capabilities.
    Identity,
    /// Becoming the engine.
    Exec,
}

impl std::fmt::Display for Failure {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let step = match self.step {
            Step::Spec => "reading the jail's specification",
            Step::Parent => "tying the engine to its supervisor",
            Step::Descriptors => "closing descriptors",
            Step::Volumes => "preparing the volumes",
            Step::Identity => "giving up root's rights",
            Step::Exec => "running the engine",
        };
        write!(f, "{step}: {}", self.why)
    }
}

impl Failure {
    fn at<E: std::fmt::Display>(step: Step) -> impl FnOnce(E) -> Self {
        move |why| Self {
            step,
            why: why.to_string(),
        }
    }
}

/// The whole of `boxlite-shim jail`: must be called first in a process with one thread,
/// which was started with [`SPEC_FD`] and [`REPORT_FD`]. Returns only when there is no engine.
#[must_use]
pub fn main() -> ExitCode {
    let (Some(spec), Some(report)) = (sys::inherited(SPEC_FD), sys::inherited(REPORT_FD)) else {
        return ExitCode::from(2);
    };
    let mut report = File::from(report);
    if let Err(failure) = become_engine(File::from(spec), &mut report) {
        // Nobody is left to be told when this fails too.
        let _ = say(&mut report, &Message::Failed(failure));
    }
    ExitCode::FAILURE
}

fn become_engine(mut spec: File, report: &mut File) -> Result<(), Failure> {
    let mut json = Vec::new();
    spec.read_to_end(&mut json).map_err(Failure::at(Step::Spec))?;
    drop(spec);
    let spec: Spec = serde_json::from_slice(&json).map_err(Failure::at(Step::Spec))?;
    let confinement = &spec.confinement;
    let mut applied = JailReport::default();

    let engine_fds = RawFd::try_from(spec.engine_fds).map_err(Failure::at(Step::Descriptors))?;
    rustix::io::fcntl_setfd(&*report, rustix::io::FdFlags::CLOEXEC).map_err(Failure::at(Step::Descriptors))?;
    sys::close_on_exec_from(ENGINE_FD + engine_fds).map_err(Failure::at(Step::Descriptors))?;
    applied.add(INHERITANCE, Ok::<_, String>(()));
    applied.add(RESOURCE_LIMITS, limit_resources());

    namespaces::enter(confinement, &mut applied);
    members::mount_all(&confinement.shares, &applied).map_err(Failure::at(Step::Volumes))?;
    let limits = file_access::prepare(confinement, &spec.binary);
    identity::assume(confinement, &mut applied).map_err(Failure::at(Step::Identity))?;
    // After the change of user, which clears it.
    tie_to_parent(spec.parent_pid).map_err(Failure::at(Step::Parent))?;
    applied.add(PARENT_DEATH, Ok::<_, String>(()));
    let privileges = rustix::thread::set_no_new_privs(true);
    applied.add(NO_NEW_PRIVILEGES, privileges);
    applied.add(FILE_ACCESS, limits.and_then(file_access::restrict));

    if confinement.strict && !applied.missing.is_empty() {
        return say(report, &Message::Incomplete(applied)).map_err(Failure::at(Step::Spec));
    }
    say(report, &Message::Report(applied)).map_err(Failure::at(Step::Spec))?;
    let error = Command::new(&spec.binary)
        .args(&spec.args)
        .env_clear()
        .current_dir("/")
        .exec();
    Err(Failure::at(Step::Exec)(error))
}

fn say(report: &mut File, message: &Message) -> io::Result<()> {
    let mut line = serde_json::to_vec(message)?;
    line.push(b'\n');
    report.write_all(&line)
}

fn tie_to_parent(parent_pid: u32) -> Result<(), String> {
    rustix::process::set_parent_process_death_signal(Some(Signal::KILL)).map_err(|errno| errno.to_string())?;
    // It may have died before that call.
    let parent = rustix::process::getppid().map_or(0, |pid| pid.as_raw_nonzero().get());
    if i64::from(parent) == i64::from(parent_pid) {
        Ok(())
    } else {
        Err("the supervisor is gone".to_owned())
    }
}

fn limit_resources() -> Result<(), String> {
    let none = Rlimit {
        current: Some(0),
        maximum: Some(0),
    };
    for (name, resource) in [("core", Resource::Core), ("memlock", Resource::Memlock)] {
        rustix::process::setrlimit(resource, none).map_err(|errno| format!("{name}: {errno}"))?;
    }
    // A file server needs a descriptor for each file that the guest has open.
    let files = rustix::process::getrlimit(Resource::Nofile)
        .maximum
        .map_or(65_536, |limit| limit.min(65_536));
    let files = Rlimit {
        current: Some(files),
        maximum: Some(files),
    };
    rustix::process::setrlimit(Resource::Nofile, files).map_err(|errno| format!("nofile: {errno}"))
}
