//! Making a template, in a process of its own: the box that had it made may end before.

use std::fs::File;
use std::io::{Seek as _, Write as _};
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::process::{Command, ExitCode, Stdio};
use std::time::Duration;

use boxlite_machine::accelerator;
use boxlite_machine::qemu::probe;
use boxlite_machine::qemu::template::{self, MakeError, MakeOptions, Shape, Template};
use boxlite_shim::{CONFIG_FD, MAKE_TEMPLATE, TemplateConfig, TemplateResult, default_start_timeout_ms};
use command_fds::{CommandFdExt as _, FdMapping};

use crate::supervisor::describe;

/// The lowest priority of `nice(2)`.
const LOWEST_PRIORITY: i32 = 19;

/// `boxlite-shim template`.
pub(crate) fn main(config: OwnedFd, status: Option<OwnedFd>) -> ExitCode {
    let result = match crate::read_config::<TemplateConfig>(File::from(config)) {
        Ok(config) => run(&config),
        Err(error) => TemplateResult::Failed {
            message: error.to_string(),
        },
    };
    if let (Some(status), Ok(line)) = (status, serde_json::to_vec(&result)) {
        // Whoever asked may be gone.
        let _ = File::from(status).write_all(&line);
    }
    match result {
        TemplateResult::Failed { .. } => ExitCode::FAILURE,
        TemplateResult::Made { .. } | TemplateResult::Busy => ExitCode::SUCCESS,
    }
}

fn run(config: &TemplateConfig) -> TemplateResult {
    // Fails for the leader of a process group, which is no reason not to go on.
    let _ = rustix::process::setsid();
    if config.in_background {
        // It only takes longer where this is not allowed.
        let _ = rustix::process::nice(LOWEST_PRIORITY);
    }
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            return TemplateResult::Failed {
                message: error.to_string(),
            };
        }
    };
    runtime
        .block_on(make(config))
        .unwrap_or_else(|message| TemplateResult::Failed { message })
}

async fn make(config: &TemplateConfig) -> Result<TemplateResult, String> {
    let qemu = probe(&config.machine.engine).map_err(|error| describe(&error))?;
    let choice = accelerator::choose(&qemu.path, &config.machine)
        .await
        .map_err(|error| describe(&error))?;
    let shape = Shape::of(&config.machine, &qemu, choice.accelerator).map_err(|error| describe(&error))?;
    let dir = &config.templates.dir;
    let existed = Template::find(dir, &shape).is_ok();
    let options = MakeOptions {
        spec: &config.machine,
        qemu: &qemu,
        accelerator: choice.accelerator,
        dir,
        shim: PathBuf::from("/proc/self/exe"),
        timeout: Duration::from_millis(
            config
                .timeout_ms
                .unwrap_or(default_start_timeout_ms(choice.accelerator)),
        ),
        disk_bytes: config.templates.disk_bytes,
        blank: &config.templates.blank,
    };
    match template::make(options).await {
        Ok(_) => Ok(TemplateResult::Made {
            key: shape.key(),
            existed,
        }),
        Err(MakeError::Busy) => Ok(TemplateResult::Busy),
        Err(error) => Err(describe(&error)),
    }
}

/// Has a template made by a process that goes on when this one ends. Nobody waits for it: what
/// goes wrong, the next start that looks for the template finds out.
pub(crate) fn make_in_background(config: &TemplateConfig) -> std::io::Result<()> {
    let json = serde_json::to_vec(config)?;
    let mut file = File::from(rustix::fs::memfd_create(
        "boxlite-template",
        rustix::fs::MemfdFlags::CLOEXEC,
    )?);
    file.write_all(&json)?;
    file.rewind()?;
    let mut command = Command::new("/proc/self/exe");
    command
        .arg(MAKE_TEMPLATE)
        .current_dir("/")
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    command
        .fd_mappings(vec![FdMapping {
            parent_fd: file.into(),
            child_fd: CONFIG_FD,
        }])
        .map_err(std::io::Error::other)?;
    let mut child = tokio::process::Command::from(command).spawn()?;
    // So that it is no zombie for as long as the box runs.
    tokio::spawn(async move { child.wait().await });
    Ok(())
}
