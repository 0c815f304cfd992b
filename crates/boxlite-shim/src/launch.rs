//! How a client starts the supervisor.

use std::io::{self, Write as _};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use command_fds::{CommandFdExt as _, FdMapping, FdMappingCollision};

use crate::launch_config::{CONFIG_FD, LOCK_FD, LaunchConfig, PARENT_FD, STATUS_FD};
use crate::template_config::{MAKE_TEMPLATE, TemplateConfig};

/// A supervisor to be started.
#[derive(Debug)]
pub struct Launch<'a> {
    /// The supervisor's binary, from the bundle.
    pub shim: &'a Path,
    /// What it runs.
    pub config: &'a LaunchConfig,
    /// The box's lock: the open file description goes to the supervisor, and the lock with it.
    pub lock: OwnedFd,
    /// The read end of a pipe whose write end the caller holds (close-on-exec) for as long as
    /// the box may run. Given exactly when [`LaunchConfig::parent_watch`].
    pub parent: Option<OwnedFd>,
}

/// A supervisor that was started.
#[derive(Debug)]
pub struct Launched {
    /// Its process. It is not killed when this is dropped, but it must be waited for, or
    /// it stays as a zombie of this process after its end.
    pub child: Child,
    /// The read end of its status pipe: lines of [`StartEvent`](crate::StartEvent), then end
    /// of file.
    pub status: OwnedFd,
}

/// Starting the supervisor failed.
#[derive(Debug, thiserror::Error)]
pub enum LaunchError {
    /// The configuration can't be written as JSON.
    #[error("the box's configuration can't be handed to its supervisor")]
    Encode(#[source] serde_json::Error),
    /// The configuration says `parent_watch` and no pipe was given, or the reverse.
    #[error("parent_watch is {parent_watch}, but a parent pipe was {}given", if *parent_watch { "not " } else { "" })]
    ParentPipe {
        /// What the configuration says.
        parent_watch: bool,
    },
    /// Pipes and the configuration's memory file.
    #[error("can't make the descriptors for the box's supervisor")]
    Descriptors(#[source] io::Error),
    /// The mapping of descriptors.
    #[error("can't hand descriptors to the box's supervisor")]
    Mapping(#[source] FdMappingCollision),
    /// The binary can't be run.
    #[error("can't run the supervisor {}", path.display())]
    Spawn {
        /// The binary.
        path: PathBuf,
        /// The system's reason.
        source: io::Error,
    },
}

impl Launch<'_> {
    /// Starts the supervisor. Blocks for the fork only.
    ///
    /// # Errors
    /// [`LaunchError`]; nothing is running then.
    pub fn spawn(self) -> Result<Launched, LaunchError> {
        if self.parent.is_some() != self.config.parent_watch {
            return Err(LaunchError::ParentPipe {
                parent_watch: self.config.parent_watch,
            });
        }
        let config = serde_json::to_vec(self.config).map_err(LaunchError::Encode)?;
        let config = memory_file(&config).map_err(LaunchError::Descriptors)?;
        let (status, status_write) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC)
            .map_err(|errno| LaunchError::Descriptors(errno.into()))?;
        let mut mappings = vec![
            FdMapping {
                parent_fd: config,
                child_fd: CONFIG_FD,
            },
            FdMapping {
                parent_fd: status_write,
                child_fd: STATUS_FD,
            },
            FdMapping {
                parent_fd: self.lock,
                child_fd: LOCK_FD,
            },
        ];
        if let Some(parent) = self.parent {
            mappings.push(FdMapping {
                parent_fd: parent,
                child_fd: PARENT_FD,
            });
        }
        let mut command = Command::new(self.shim);
        command
            .current_dir("/")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        command.fd_mappings(mappings).map_err(LaunchError::Mapping)?;
        let child = command.spawn().map_err(|source| LaunchError::Spawn {
            path: self.shim.to_owned(),
            source,
        })?;
        Ok(Launched { child, status })
    }
}

/// Starts a process that makes a template, with `shim` as its program. Blocks for the fork
/// only. Its status pipe carries one [`TemplateResult`](crate::TemplateResult).
///
/// # Errors
/// [`LaunchError`]; nothing is running then.
pub fn spawn_template(shim: &Path, config: &TemplateConfig) -> Result<Launched, LaunchError> {
    let config = serde_json::to_vec(config).map_err(LaunchError::Encode)?;
    let config = memory_file(&config).map_err(LaunchError::Descriptors)?;
    let (status, status_write) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC)
        .map_err(|errno| LaunchError::Descriptors(errno.into()))?;
    let mut command = Command::new(shim);
    command
        .arg(MAKE_TEMPLATE)
        .current_dir("/")
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    command
        .fd_mappings(vec![
            FdMapping {
                parent_fd: config,
                child_fd: CONFIG_FD,
            },
            FdMapping {
                parent_fd: status_write,
                child_fd: STATUS_FD,
            },
        ])
        .map_err(LaunchError::Mapping)?;
    let child = command.spawn().map_err(|source| LaunchError::Spawn {
        path: shim.to_owned(),
        source,
    })?;
    Ok(Launched { child, status })
}

/// A descriptor from which `bytes` can be read, without anybody writing at the other end.
fn memory_file(bytes: &[u8]) -> io::Result<OwnedFd> {
    let fd = rustix::fs::memfd_create("boxlite-launch", rustix::fs::MemfdFlags::CLOEXEC)?;
    let mut file = std::fs::File::from(fd);
    file.write_all(bytes)?;
    io::Seek::rewind(&mut file)?;
    Ok(file.into())
}
