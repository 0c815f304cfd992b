//! The supervisor of one running box: holds its lock, runs its engine in a jail, answers
//! on its socket, keeps its output and records its end.
#![deny(unsafe_code)]

mod supervisor;
#[allow(unsafe_code)]
mod sys;
mod template;

use std::fs::{File, OpenOptions};
use std::io::{self, Read as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;
use std::process::ExitCode;
use std::sync::Mutex;
use std::time::Instant;

use boxlite_shim::{LaunchConfig, MAKE_TEMPLATE, SHIM_LOG_NAME, Stage, StartEvent, StartFailure, StartFailureCode};

/// A configuration larger than this is not one of ours.
const MAX_CONFIG_BYTES: u64 = 16 << 20;
/// The log begins anew when it is larger than this at a start.
const MAX_LOG_BYTES: u64 = 1 << 20;
/// Status of a shim that was not started by boxlite.
const USAGE: u8 = 2;

fn main() -> ExitCode {
    let began = Instant::now();
    if std::env::args_os().nth(1).is_some_and(|argument| argument == "jail") {
        return boxlite_machine::jail::main();
    }
    sys::accept_signals();
    let Some(inherited) = sys::Inherited::take() else {
        return ExitCode::from(USAGE);
    };
    let Some(config) = inherited.config else {
        // Whoever runs it by hand.
        let _ = rustix::io::write(
            rustix::stdio::stderr(),
            b"boxlite-shim is started by boxlite, for one box\n",
        );
        return ExitCode::from(USAGE);
    };
    if std::env::args_os()
        .nth(1)
        .is_some_and(|argument| argument == MAKE_TEMPLATE)
    {
        return template::main(config, inherited.status);
    }
    let config = match read_config::<LaunchConfig>(File::from(config)) {
        Ok(config) => config,
        Err(error) => return fail(inherited.status, StartFailureCode::InvalidConfig, &error.to_string()),
    };
    let parent = inherited.parent.filter(|_| config.parent_watch);
    if config.parent_watch && parent.is_none() {
        return fail(
            inherited.status,
            StartFailureCode::InvalidConfig,
            "parent_watch without the parent's pipe",
        );
    }
    // Fails for the leader of a process group, which is no reason not to go on.
    let _ = rustix::process::setsid();
    log_to(&config.box_dir.join(SHIM_LOG_NAME));
    tracing::info!(
        version = env!("CARGO_PKG_VERSION"),
        box_id = config.box_id,
        run_id = config.run_id,
        pid = std::process::id(),
        "the supervisor begins"
    );
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    match runtime {
        Ok(runtime) => {
            let code = runtime.block_on(supervisor::supervise(
                config,
                inherited.status,
                parent,
                inherited.lock,
                began,
            ));
            // Tasks that still wait for clients that don't read.
            runtime.shutdown_background();
            code
        }
        Err(error) => fail(inherited.status, StartFailureCode::Internal, &error.to_string()),
    }
}

fn read_config<T: serde::de::DeserializeOwned>(file: File) -> io::Result<T> {
    let mut json = Vec::new();
    file.take(MAX_CONFIG_BYTES).read_to_end(&mut json)?;
    Ok(serde_json::from_slice(&json)?)
}

/// Says that there will be no box.
fn fail(status: Option<std::os::fd::OwnedFd>, code: StartFailureCode, message: &str) -> ExitCode {
    let failure = StartFailure {
        stage: Stage::Prepare,
        code,
        message: message.to_owned(),
        evidence: Vec::new(),
        cause: None,
        hint: None,
    };
    if let (Some(status), Ok(mut line)) = (status, serde_json::to_vec(&StartEvent::Failed(Box::new(failure)))) {
        line.push(b'\n');
        // Nobody is left to be told when this fails too.
        let _ = io::Write::write_all(&mut File::from(status), &line);
    }
    ExitCode::FAILURE
}

/// A box without this log still runs.
fn log_to(path: &Path) {
    let too_large = std::fs::metadata(path).is_ok_and(|metadata| metadata.len() > MAX_LOG_BYTES);
    let file = OpenOptions::new()
        .create(true)
        .append(!too_large)
        .write(true)
        .truncate(too_large)
        .mode(0o600)
        .open(path);
    if let Ok(file) = file {
        let filter = tracing_subscriber::EnvFilter::try_from_env("BOXLITE_SHIM_LOG")
            .unwrap_or_else(|_| tracing_subscriber::EnvFilter::new("info,boxlite_shim=debug,boxlite_machine=debug"));
        // Fails only when there is a subscriber already.
        let _ = tracing_subscriber::fmt()
            .with_env_filter(filter)
            .with_writer(Mutex::new(file))
            .with_ansi(false)
            .try_init();
    }
}
