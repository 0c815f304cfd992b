//! Making a template: [`make`].

use std::fs::{DirBuilder, File, OpenOptions, Permissions};
use std::io::{self, Write as _};
use std::os::fd::AsFd as _;
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde_json::{Value, json};
use tokio::io::AsyncReadExt as _;

use super::disk::{BlankDisks, copy};
use super::lock::KeyLock;
use super::sweep::sweep;
use super::{BLANK_NAME, FileIdentity, MANIFEST_NAME, Manifest, RAM_NAME, STATE_NAME, Shape, Template};
use crate::qemu::machine::{Boot, Machine, StartOptions, device_state_only};
use crate::qemu::probe::QemuInfo;
use crate::qemu::qmp::QmpError;
use crate::qemu::start_error::StartError;
use crate::spec::{ConsoleLog, Disk, MachineSpec, NetworkSpec};

/// From when the agent has opened its port until the template is taken. What the kernel puts off
/// for a second or so after its boot (and what was allocated for it) would be done again by each
/// box; nobody waits for a template.
const SETTLE: Duration = Duration::from_millis(2000);
/// How often the engine is asked whether it has saved the state. Nobody waits for it.
const SAVE_POLL: Duration = Duration::from_millis(5);
/// How much of the guest's console is kept for a failure.
const CONSOLE_TAIL_BYTES: usize = 4096;
/// Folders of templates in the making begin with this.
pub(super) const STAGING_PREFIX: &str = ".making-";

/// What is needed to make a template.
#[derive(Debug)]
pub struct MakeOptions<'a> {
    /// A machine of the shape. Its disks, shares and ports are not touched.
    pub spec: &'a MachineSpec,
    /// The engine.
    pub qemu: &'a QemuInfo,
    /// What executes the guest's instructions.
    pub accelerator: crate::Accelerator,
    /// The folder of templates; made if it is missing.
    pub dir: &'a Path,
    /// As in [`StartOptions`].
    pub shim: PathBuf,
    /// How long the guest may take to come up.
    pub timeout: Duration,
    /// The size of the disks of all machines, in bytes.
    pub disk_bytes: u64,
    /// What its disks are copies of.
    pub blank: &'a BlankDisks,
}

/// A template could not be made. Nothing of it is left.
#[derive(Debug, thiserror::Error)]
pub enum MakeError {
    /// The machine has no shape.
    #[error(transparent)]
    Shape(#[from] super::ShapeError),
    /// Another process makes it.
    #[error("another process makes this template")]
    Busy,
    /// A file can't be made.
    #[error("{} can't be written", path.display())]
    Write {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The machine did not start.
    #[error("the template's machine did not start")]
    Start(#[from] StartError),
    /// Its engine ended.
    #[error("the template's engine ended ({status}): {}", evidence.join("; "))]
    Ended {
        /// How.
        status: std::process::ExitStatus,
        /// The last that it and its guest said.
        evidence: Vec<String>,
    },
    /// Its guest did not come up in time.
    #[error("the template's guest did not come up within {} s: {}", after.as_secs(), evidence.join("; "))]
    Silent {
        /// The time.
        after: Duration,
        /// The last that it said.
        evidence: Vec<String>,
    },
    /// The engine did not save its state.
    #[error("the engine did not save the template: {0}")]
    Save(String),
    /// The engine refused something.
    #[error(transparent)]
    Control(#[from] QmpError),
    /// What was made can't be used.
    #[error("the new template can't be opened")]
    Open(#[from] super::OpenError),
}

fn write_error(path: &Path) -> impl FnOnce(io::Error) -> MakeError {
    move |source| MakeError::Write {
        path: path.to_owned(),
        source,
    }
}

/// A folder that is deleted unless it is kept.
#[derive(Debug)]
struct Staging {
    dir: PathBuf,
}

impl Drop for Staging {
    fn drop(&mut self) {
        // Gone already when it was kept.
        let _ = std::fs::remove_dir_all(&self.dir);
    }
}

/// Makes the template of `options.spec`'s shape, or finds the one that is there. Boots a machine
/// and saves it; needs a Tokio runtime, and blocks it for file operations. Dropping the future
/// ends the machine and leaves nothing.
///
/// # Errors
/// [`MakeError`].
pub async fn make(options: MakeOptions<'_>) -> Result<Template, MakeError> {
    let shape = Shape::of(options.spec, options.qemu, options.accelerator)?;
    DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(options.dir)
        .map_err(write_error(options.dir))?;
    // Held until this is over.
    let lock = KeyLock::try_take(options.dir, &shape.key()).map_err(write_error(options.dir))?;
    let Some(_lock) = lock else {
        return Err(MakeError::Busy);
    };
    if let Ok(template) = Template::find(options.dir, &shape) {
        return Ok(template);
    }
    // They are as large as this one will be.
    if let Err(error) = sweep(options.dir) {
        tracing::warn!(error = %error.source, "{error}");
    }
    let place = options.dir.join(shape.key());
    // It holds a damaged one, or one of a shape with the same name.
    match std::fs::remove_dir_all(&place) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(write_error(&place)(error)),
        _ => {}
    }
    // The lock is held: whoever made this before is dead.
    let staging = Staging {
        dir: options.dir.join(format!("{STAGING_PREFIX}{}", shape.key())),
    };
    let _ = std::fs::remove_dir_all(&staging.dir);
    DirBuilder::new()
        .mode(0o700)
        .create(&staging.dir)
        .map_err(write_error(&staging.dir))?;
    save(&options, &shape, &staging.dir).await?;
    seal(&shape, &staging.dir)?;
    std::fs::rename(&staging.dir, &place).map_err(write_error(&place))?;
    sync_dir(options.dir)?;
    Ok(Template::find(options.dir, &shape)?)
}

/// Boots the machine and writes its memory and state.
async fn save(options: &MakeOptions<'_>, shape: &Shape, dir: &Path) -> Result<(), MakeError> {
    let ram = dir.join(RAM_NAME);
    sparse(&ram, options.spec.memory_mib << 20).map_err(write_error(&ram))?;
    let folder = dir.join("folder");
    DirBuilder::new()
        .mode(0o700)
        .create(&folder)
        .map_err(write_error(&folder))?;
    let mut spec = shape.fill(
        &MachineSpec {
            shares: Vec::new(),
            ..options.spec.clone()
        },
        &folder,
    );
    if let Some(Disk { file, .. }) = &mut spec.rootfs {
        file.clone_from(&options.blank.rootfs);
    }
    if let Some(Disk { file, .. }) = &mut spec.disk {
        *file = dir.join("disk");
        sparse(file, options.disk_bytes).map_err(write_error(file))?;
    }
    if shape.blank {
        let file = dir.join(BLANK_NAME);
        copy(&options.blank.disk, &file).map_err(write_error(&file))?;
        spec.blank = Some(Disk {
            file,
            serial: options.blank.serial.clone(),
            read_only: false,
        });
    }
    if let NetworkSpec::User { ports, .. } = &mut spec.network {
        ports.clear();
    }
    spec.console_log = ConsoleLog {
        path: dir.join("console.log"),
        ..spec.console_log
    };
    spec.runtime_dir = dir.to_owned();
    let start = StartOptions {
        boot: Boot::IntoFile { ram: &ram },
        shim: options.shim.clone(),
        uid_seed: &shape.key(),
    };
    let mut machine = Machine::start(&spec, options.qemu, options.accelerator, start).await?;
    // Its other end is the port's host: it must be there, and say nothing.
    let agent = machine.take_agent_stream();
    let console = Console::read(machine.take_console());
    let mut port = machine.agent_port();
    tokio::select! {
        biased;
        Ok(_) = port.wait_for(|open| *open) => {}
        ended = machine.wait() => return Err(ended_early(ended, &machine, &console)),
        () = tokio::time::sleep(options.timeout) => {
            return Err(MakeError::Silent { after: options.timeout, evidence: console.lines() });
        }
    }
    tokio::time::sleep(SETTLE).await;
    // It stands still only with the end of the saving: a machine that goes on from a state in
    // which the guest ran, runs.
    let qmp = machine.qmp();
    qmp.execute("migrate-set-capabilities", device_state_only()).await?;
    let state_path = dir.join(STATE_NAME);
    let state = new_file(&state_path).map_err(write_error(&state_path))?;
    qmp.send_descriptor("getfd", json!({ "fdname": "state" }), state.as_fd())
        .await?;
    qmp.execute("migrate", json!({ "uri": "fd:state" })).await?;
    loop {
        let answer = qmp.execute("query-migrate", Value::Null).await?;
        match answer["status"].as_str() {
            Some("completed") => break,
            Some("failed" | "cancelled") => {
                let why = answer["error-desc"].as_str().unwrap_or("it gives no reason");
                return Err(MakeError::Save(why.to_owned()));
            }
            _ => tokio::time::sleep(SAVE_POLL).await,
        }
    }
    machine.quit().await?;
    // With its end all of the memory is in the file.
    if let Err(error) = machine.wait().await {
        return Err(MakeError::Save(error.to_string()));
    }
    drop(agent);
    let blank = spec.blank.as_ref().map(|blank| &blank.file);
    for file in [&ram, &state_path].into_iter().chain(blank) {
        File::open(file)
            .and_then(|file| file.sync_all())
            .map_err(write_error(file))?;
    }
    Ok(())
}

/// Leaves in `dir` what a template has, and writes its manifest.
pub(super) fn seal(shape: &Shape, dir: &Path) -> Result<(), MakeError> {
    let identity = |name: &str| {
        let path = dir.join(name);
        FileIdentity::of(&path)
            .map(|identity| FileIdentity {
                path: name.into(),
                ..identity
            })
            .map_err(write_error(&path))
    };
    for entry in std::fs::read_dir(dir).map_err(write_error(dir))? {
        let entry = entry.map_err(write_error(dir))?;
        let is_blank = shape.blank && entry.file_name() == BLANK_NAME;
        if is_blank || entry.file_name() == RAM_NAME || entry.file_name() == STATE_NAME {
            continue;
        }
        let path = entry.path();
        let removed = match entry.file_type() {
            Ok(kind) if kind.is_dir() => std::fs::remove_dir_all(&path),
            _ => std::fs::remove_file(&path),
        };
        removed.map_err(write_error(&path))?;
    }
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let manifest = Manifest {
        shape: shape.clone(),
        created_at_ms: u64::try_from(now.as_millis()).unwrap_or(u64::MAX),
        ram: identity(RAM_NAME)?,
        state: identity(STATE_NAME)?,
        blank: shape.blank.then(|| identity(BLANK_NAME)).transpose()?,
    };
    let path = dir.join(MANIFEST_NAME);
    let json = serde_json::to_vec_pretty(&manifest).map_err(|error| MakeError::Save(error.to_string()))?;
    let mut file = new_file(&path).map_err(write_error(&path))?;
    file.write_all(&json)
        .and_then(|()| file.sync_all())
        .map_err(write_error(&path))?;
    sync_dir(dir)
}

fn sync_dir(dir: &Path) -> Result<(), MakeError> {
    File::open(dir).and_then(|dir| dir.sync_all()).map_err(write_error(dir))
}

fn new_file(path: &Path) -> io::Result<File> {
    OpenOptions::new().create_new(true).write(true).mode(0o600).open(path)
}

/// A file of holes. The engines that root starts are nobody in particular: they open it through
/// a descriptor that they are given, and nobody else gets into its folder.
pub(super) fn sparse(path: &Path, bytes: u64) -> io::Result<File> {
    let file = new_file(path)?;
    file.set_len(bytes)?;
    if rustix::process::geteuid().is_root() {
        file.set_permissions(Permissions::from_mode(0o666))?;
    }
    Ok(file)
}

fn ended_early(ended: io::Result<crate::qemu::EngineExit>, machine: &Machine, console: &Console) -> MakeError {
    match ended {
        Ok(exit) => {
            let mut evidence = machine.stderr_tail();
            evidence.extend(console.lines());
            MakeError::Ended {
                status: exit.status,
                evidence,
            }
        }
        Err(error) => MakeError::Save(error.to_string()),
    }
}

/// The last that the guest said.
#[derive(Debug, Default)]
struct Console {
    tail: std::sync::Arc<std::sync::Mutex<Vec<u8>>>,
}

impl Console {
    /// Reads until the end: the guest stands still when nobody does.
    fn read(stream: Option<std::os::unix::net::UnixStream>) -> Self {
        let console = Self::default();
        let stream = stream.and_then(|stream| {
            stream.set_nonblocking(true).ok()?;
            tokio::net::UnixStream::from_std(stream).ok()
        });
        if let Some(mut stream) = stream {
            let tail = std::sync::Arc::clone(&console.tail);
            tokio::spawn(async move {
                let mut buffer = [0; CONSOLE_TAIL_BYTES];
                while let Ok(count @ 1..) = stream.read(&mut buffer).await {
                    let mut tail = tail.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
                    tail.extend_from_slice(&buffer[..count]);
                    let surplus = tail.len().saturating_sub(CONSOLE_TAIL_BYTES);
                    tail.drain(..surplus);
                }
            });
        }
        console
    }

    fn lines(&self) -> Vec<String> {
        let tail = self.tail.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        String::from_utf8_lossy(&tail)
            .lines()
            .map(|line| line.trim_end().to_owned())
            .filter(|line| !line.is_empty())
            .collect()
    }
}
