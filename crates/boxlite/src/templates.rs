//! Templates of a home: machines that have booted, saved for others to go on from.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use boxlite_disk::DISK_DEVICE_BYTES;
use boxlite_machine::qemu::MAX_SHARES;
use boxlite_machine::qemu::template::{self, Template};
use boxlite_machine::{ConsoleLog, Disk, EngineSpec, MachineSpec, NetworkSpec, Share};
use boxlite_protocol::{DISK_SERIAL, ROOTFS_SERIAL};
use boxlite_shim::{TemplateConfig, TemplateResult};
use boxlite_store::Home;
use serde::{Deserialize, Serialize};
use tokio::io::AsyncReadExt;
use tokio::net::unix::pipe;

use crate::blank::blank_disks;
use crate::engine;
use crate::error::{StateError, TemplateCreateError, TemplateListError, TemplateRemoveError};
use crate::launch::machine::{CONSOLE_LOG_BYTES, CONSOLE_LOG_NAME};
use crate::options::{DEFAULT_CPUS, DEFAULT_MEMORY_MIB, MAX_VOLUMES};
use crate::shared::Shared;
use crate::survey::allocated;

const TEMPLATES_DIR_NAME: &str = "templates";
/// How often it is looked whether another process has finished a template.
const BUSY_POLL: Duration = Duration::from_millis(100);
/// A result longer than this is not one.
const MAX_RESULT_BYTES: u64 = 1 << 20;

/// The templates of a home; from [`crate::Client::templates`].
///
/// A box whose machine has the shape of a template (vCPUs, memory, places for volumes, a network
/// card or none) starts from it in a fraction of the time that a kernel takes to boot. Templates
/// are made after the first cold start of a shape, unless [`crate::TemplateUse`] says otherwise.
#[derive(Debug, Clone)]
pub struct Templates {
    shared: Arc<Shared>,
}

/// The shape of a template that is to be made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
#[non_exhaustive]
pub struct TemplateOptions {
    /// vCPUs, at least 1.
    pub cpus: u32,
    /// Memory in MiB.
    pub memory_mib: u64,
    /// Volumes that its boxes may have, 0 to 8: it is made for 0, 1, or 8.
    pub volumes: u32,
    /// Whether its boxes have a network.
    pub network: bool,
}

impl Default for TemplateOptions {
    fn default() -> Self {
        Self {
            cpus: DEFAULT_CPUS,
            memory_mib: DEFAULT_MEMORY_MIB,
            volumes: 0,
            network: true,
        }
    }
}

impl TemplateOptions {
    /// Sets [`cpus`](Self#structfield.cpus).
    #[must_use]
    pub fn cpus(mut self, cpus: u32) -> Self {
        self.cpus = cpus;
        self
    }

    /// Sets [`memory_mib`](Self#structfield.memory_mib).
    #[must_use]
    pub fn memory_mib(mut self, memory_mib: u64) -> Self {
        self.memory_mib = memory_mib;
        self
    }

    /// Sets [`volumes`](Self#structfield.volumes).
    #[must_use]
    pub fn volumes(mut self, volumes: u32) -> Self {
        self.volumes = volumes;
        self
    }

    /// Sets [`network`](Self#structfield.network).
    #[must_use]
    pub fn network(mut self, network: bool) -> Self {
        self.network = network;
        self
    }
}

/// A template.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct TemplateInfo {
    /// Its name: 16 hexadecimal digits.
    pub key: String,
    /// vCPUs.
    pub cpus: u32,
    /// Memory in MiB.
    pub memory_mib: u64,
    /// How many volumes its boxes may have: 0, 1 or 8.
    pub volumes: u32,
    /// Whether it has a network card.
    pub network: bool,
    /// `kvm` or `tcg`.
    pub accelerator: String,
    /// Engine and its version (`qemu 7.2.9`).
    pub engine: String,
    /// When it was made, in milliseconds since 1970.
    pub created_at_ms: u64,
    /// What it takes of the host's disk.
    pub size_bytes: u64,
    /// Whether boxes can start from it: engine, kernel and agent are those it was made with.
    pub usable: bool,
}

/// Where a home's templates are, and what a start does about them. Blocking; writes some hundred
/// KiB the first time.
pub(crate) fn location(home: &Home, make: bool) -> Result<boxlite_shim::Templates, StateError> {
    Ok(boxlite_shim::Templates {
        dir: dir(home),
        disk_bytes: DISK_DEVICE_BYTES,
        blank: blank_disks(home)?,
        make,
    })
}

/// Removes templates that nothing can start from any more, and what is left of those whose making
/// was broken off; gives what both took. What can't be removed is no reason not to work. Blocking.
pub(crate) fn sweep(home: &Home) -> u64 {
    match template::sweep(&dir(home)) {
        Ok(swept) => {
            if !swept.keys.is_empty() {
                tracing::info!(keys = ?swept.keys, "templates of before were removed");
            }
            swept.bytes
        }
        Err(error) => {
            tracing::warn!(error = %error.source, "{error}");
            0
        }
    }
}

pub(crate) fn dir(home: &Home) -> PathBuf {
    home.path().join(TEMPLATES_DIR_NAME)
}

impl Templates {
    pub(crate) fn new(shared: Arc<Shared>) -> Self {
        Self { shared }
    }

    /// Makes a template, unless there is one of that shape. Takes as long as a cold start.
    ///
    /// Dropping the future does not stop it.
    ///
    /// # Errors
    /// See [`TemplateCreateError`].
    pub async fn create(&self, options: TemplateOptions) -> Result<TemplateInfo, TemplateCreateError> {
        self.shared.check_open()?;
        check(options)?;
        let bundle = self.shared.bundle().await?;
        let wanted = engine::wanted(self.shared.accelerator);
        let (shim, config) = self
            .shared
            .blocking(move |shared| {
                let home = &shared.home;
                let config = TemplateConfig {
                    machine: MachineSpec {
                        accelerator: wanted,
                        ..machine(home, options, bundle.kernel(), bundle.initramfs())?
                    },
                    templates: location(home, false)?,
                    timeout_ms: None,
                    in_background: false,
                };
                Ok::<_, StateError>((bundle.shim(), config))
            })
            .await?;
        loop {
            match self.run(&shim, &config).await? {
                TemplateResult::Made { key, .. } => {
                    let found = self
                        .shared
                        .blocking(move |shared| info(&dir(&shared.home).join(key)))
                        .await?;
                    return found.ok_or(TemplateCreateError::Lost);
                }
                TemplateResult::Busy => tokio::time::sleep(BUSY_POLL).await,
                TemplateResult::Failed { message } => return Err(TemplateCreateError::Failed { message }),
            }
        }
    }

    async fn run(&self, shim: &Path, config: &TemplateConfig) -> Result<TemplateResult, TemplateCreateError> {
        let boxlite_shim::Launched { mut child, status } = boxlite_shim::spawn_template(shim, config)?;
        let unreadable = |source| StateError::File {
            action: "reading",
            path: PathBuf::from("the template's status"),
            source,
        };
        let status = pipe::Receiver::from_owned_fd(status).map_err(unreadable)?;
        let mut json = Vec::new();
        let read = status.take(MAX_RESULT_BYTES).read_to_end(&mut json).await;
        self.shared
            .blocking(move |_| {
                // It can only fail for a child that somebody else has waited for.
                let _ = child.wait();
                Ok::<_, StateError>(())
            })
            .await?;
        read.map_err(unreadable)?;
        serde_json::from_slice(&json).map_err(|_| TemplateCreateError::Lost)
    }

    /// Lists the templates, the newest first.
    ///
    /// # Errors
    /// When their folder can't be read.
    pub async fn list(&self) -> Result<Vec<TemplateInfo>, TemplateListError> {
        Ok(self.shared.blocking(|shared| list(&shared.home)).await?)
    }

    /// Removes the template whose key begins with `key`. Boxes that run are not touched by it.
    ///
    /// # Errors
    /// When there is none or several.
    pub async fn remove(&self, key: &str) -> Result<TemplateInfo, TemplateRemoveError> {
        let key = key.to_owned();
        self.shared
            .blocking(move |shared| {
                let mut found: Vec<_> = list(&shared.home)?
                    .into_iter()
                    .filter(|template| template.key.starts_with(&key))
                    .collect();
                match (found.pop(), found.len()) {
                    (Some(template), 0) => {
                        remove_dir(&dir(&shared.home).join(&template.key))?;
                        Ok(template)
                    }
                    (None, _) => Err(TemplateRemoveError::NotFound { key }),
                    (Some(_), more) => Err(TemplateRemoveError::Ambiguous { key, count: more + 1 }),
                }
            })
            .await
    }
}

fn check(options: TemplateOptions) -> Result<(), TemplateCreateError> {
    let refuse = |what, value, range| Err(TemplateCreateError::Shape { what, value, range });
    if options.cpus == 0 {
        return refuse("vCPUs", 0, "at least 1");
    }
    if options.memory_mib < 64 {
        return refuse("MiB of memory", options.memory_mib, "at least 64");
    }
    if options.volumes as usize > MAX_VOLUMES {
        return refuse("volumes", options.volumes.into(), "at most 8");
    }
    Ok(())
}

/// How many volumes a box may have whose machine has so many devices for shares.
fn volumes(shares: usize) -> u32 {
    let volumes = if shares < MAX_SHARES { shares } else { MAX_VOLUMES };
    u32::try_from(volumes).unwrap_or(u32::MAX)
}

/// A machine of that shape. Its disks and shares are only counted. Blocking.
fn machine(
    home: &Home,
    options: TemplateOptions,
    kernel: PathBuf,
    initramfs: PathBuf,
) -> Result<MachineSpec, StateError> {
    let dir = dir(home);
    let disk = |serial: &str, read_only| Disk {
        file: dir.join(serial),
        serial: serial.to_owned(),
        read_only,
    };
    Ok(MachineSpec {
        vcpus: options.cpus,
        memory_mib: options.memory_mib,
        kernel,
        initramfs,
        kernel_args_extra: Vec::new(),
        rootfs: Some(disk(ROOTFS_SERIAL, true)),
        disk: Some(disk(DISK_SERIAL, false)),
        blank: None,
        shares: (0..(options.volumes as usize).min(MAX_SHARES))
            .map(|place| Share::folder(template::share_tag(place), &dir, true))
            .collect(),
        network: if options.network {
            NetworkSpec::User {
                mac: "52:54:00:00:00:01".to_owned(),
                ports: Vec::new(),
            }
        } else {
            NetworkSpec::None
        },
        console_log: ConsoleLog {
            path: dir.join(CONSOLE_LOG_NAME),
            max_bytes: CONSOLE_LOG_BYTES,
        },
        runtime_dir: dir,
        engine: EngineSpec {
            qemu: None,
            cache_dir: Some(engine::cache_dir(home)?),
        },
        accelerator: None,
        security: boxlite_machine::Security::Default,
    })
}

/// All templates, the newest first. Blocking.
pub(crate) fn list(home: &Home) -> Result<Vec<TemplateInfo>, StateError> {
    let dir = dir(home);
    let failed = |source| StateError::File {
        action: "reading",
        path: dir.clone(),
        source,
    };
    let entries = match std::fs::read_dir(&dir) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries.map_err(failed)?,
    };
    let mut templates = Vec::new();
    for entry in entries {
        templates.extend(info(&entry.map_err(failed)?.path())?);
    }
    templates.sort_by(|a, b| (b.created_at_ms, &b.key).cmp(&(a.created_at_ms, &a.key)));
    Ok(templates)
}

/// What the folder says, if it is a template's. Blocking.
fn info(dir: &Path) -> Result<Option<TemplateInfo>, StateError> {
    let Ok(template) = Template::open(dir) else {
        return Ok(None);
    };
    let manifest = template.manifest();
    let shape = &manifest.shape;
    Ok(Some(TemplateInfo {
        key: shape.key(),
        cpus: shape.vcpus,
        memory_mib: shape.memory_mib,
        volumes: volumes(shape.shares),
        network: shape.network,
        accelerator: shape.accelerator.to_string(),
        engine: format!("qemu {}", shape.engine_version),
        created_at_ms: manifest.created_at_ms,
        size_bytes: allocated(dir)?,
        usable: shape.is_current(),
    }))
}

pub(crate) fn remove_dir(dir: &Path) -> Result<(), StateError> {
    match std::fs::remove_dir_all(dir) {
        Err(source) if source.kind() != std::io::ErrorKind::NotFound => Err(StateError::File {
            action: "removing",
            path: dir.to_owned(),
            source,
        }),
        _ => Ok(()),
    }
}
