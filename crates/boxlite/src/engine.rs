//! The engine on this host and the accelerator that it uses.

use std::path::{Path, PathBuf};

use boxlite_machine::accelerator::{self, AcceleratorChoice};
use boxlite_machine::qemu::{self, QemuInfo};
use boxlite_machine::{ConsoleLog, EngineSpec, MachineSpec, NetworkSpec, Security};
use boxlite_store::Home;

use crate::bundle::Bundle;
use crate::client::Accelerator;
use crate::error::{EngineError, StateError};
use crate::options::EngineKind;
use crate::system::{AcceleratorInfo, EngineInfo};

const CACHE_DIR_NAME: &str = "cache";
/// A machine that is never started needs no more than this to be described.
const PROBE_CONSOLE_BYTES: u64 = 8192;

/// An engine that can run machines.
#[derive(Debug, Clone)]
pub(crate) struct Found {
    pub(crate) info: EngineInfo,
    pub(crate) warnings: Vec<String>,
    program: PathBuf,
}

/// The accelerator that was asked for; `None` leaves the choice to the evidence.
pub(crate) fn wanted(accelerator: Accelerator) -> Option<boxlite_machine::Accelerator> {
    match accelerator {
        Accelerator::Auto => None,
        Accelerator::Kvm => Some(boxlite_machine::Accelerator::Kvm),
        Accelerator::Hvf => Some(boxlite_machine::Accelerator::Hvf),
        Accelerator::Tcg => Some(boxlite_machine::Accelerator::Tcg),
    }
}

/// The folder in which answers of probes are kept. Blocking.
pub(crate) fn cache_dir(home: &Home) -> Result<PathBuf, StateError> {
    use std::os::unix::fs::DirBuilderExt;

    let path = home.path().join(CACHE_DIR_NAME);
    let made = std::fs::DirBuilder::new().recursive(true).mode(0o700).create(&path);
    match made {
        Ok(()) => Ok(path),
        Err(source) => Err(StateError::File {
            action: "making",
            path,
            source,
        }),
    }
}

/// Finds the engine. Blocking.
pub(crate) fn find(home: &Home, engine: EngineKind) -> Result<Found, EngineError> {
    match engine {
        EngineKind::Auto | EngineKind::Qemu => {}
        EngineKind::Krun => return Err(EngineError::Unsupported { engine: "krun" }),
    }
    let qemu = qemu::probe(&EngineSpec {
        qemu: None,
        cache_dir: Some(cache_dir(home)?),
    })?;
    Ok(found(&qemu))
}

fn found(qemu: &QemuInfo) -> Found {
    Found {
        info: EngineInfo {
            name: "qemu".to_owned(),
            version: qemu.version.to_string(),
            path: qemu.path.clone(),
        },
        warnings: qemu.warnings(),
        program: qemu.path.clone(),
    }
}

/// Chooses the accelerator, as a start would. The first time after a boot of the host it may
/// run a small guest.
pub(crate) async fn choose(
    home: &Home,
    engine: &Found,
    accelerator: Accelerator,
    bundle: &Bundle,
) -> Result<AcceleratorInfo, EngineError> {
    let spec = probe_spec(home.path(), bundle, accelerator);
    let AcceleratorChoice { accelerator, evidence } = accelerator::choose(&engine.program, &spec).await?;
    Ok(AcceleratorInfo {
        name: accelerator.to_string(),
        evidence,
    })
}

/// A machine of which only what the choice looks at is filled in.
fn probe_spec(home: &Path, bundle: &Bundle, accelerator: Accelerator) -> MachineSpec {
    MachineSpec {
        vcpus: 1,
        memory_mib: crate::options::DEFAULT_MEMORY_MIB,
        kernel: bundle.kernel(),
        initramfs: bundle.initramfs(),
        kernel_args_extra: Vec::new(),
        rootfs: None,
        disk: None,
        blank: None,
        shares: Vec::new(),
        network: NetworkSpec::None,
        console_log: ConsoleLog {
            path: home.join(CACHE_DIR_NAME).join("probe.log"),
            max_bytes: PROBE_CONSOLE_BYTES,
        },
        runtime_dir: home.join(CACHE_DIR_NAME),
        engine: EngineSpec {
            qemu: None,
            cache_dir: Some(home.join(CACHE_DIR_NAME)),
        },
        accelerator: wanted(accelerator),
        security: Security::Default,
    }
}
