//! Floors: what the same QEMU and the same kernel take with nothing of boxlite around or in them.

mod cpio;
mod machine;
mod qmp;

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::error::BenchError;
use crate::host;

pub(crate) use machine::{BareMachine, Kit};

/// The guest's only program.
const INIT: &str = include_str!("init.c");
/// What the guest's program writes first.
pub(crate) const FIRST_OUTPUT: &str = "first output\n";

/// Compiles the floor's init and packs it. Blocking.
///
/// # Errors
/// When there is no C compiler, or no static libc.
pub(crate) fn initramfs(work: &Path) -> Result<PathBuf, BenchError> {
    let (source, program, archive) = (work.join("init.c"), work.join("init"), work.join("init.cpio"));
    std::fs::write(&source, INIT).map_err(BenchError::file(&source))?;
    host::output(
        Command::new("cc")
            .args(["-static", "-O2", "-s", "-w", "-o"])
            .arg(&program)
            .arg(&source),
    )
    .map_err(|error| match error {
        BenchError::Spawn { .. } => BenchError::Missing {
            missing: "no C compiler for the floor's init".to_owned(),
            remedy: "apt-get install gcc libc6-dev",
        },
        other => other,
    })?;
    let init = std::fs::read(&program).map_err(BenchError::file(&program))?;
    std::fs::write(&archive, cpio::archive(&init)).map_err(BenchError::file(&archive))?;
    Ok(archive)
}
