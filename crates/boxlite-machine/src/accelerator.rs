//! Which accelerator works on this host: [`choose`].
//!
//! `/dev/kvm` can open, create a machine and a processor, and still hang every ordinary
//! guest. So it counts only when the processor says that it has what KVM needs and a small
//! real guest, the box's own kernel and agent, ran to its end.

use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};
use tokio::io::AsyncReadExt as _;

use crate::{Accelerator, MachineSpec};

/// Names an accelerator when the box's configuration doesn't.
pub const ACCELERATOR_VARIABLE: &str = "BOXLITE_ACCEL";
/// The word on the kernel's command line that makes the agent end the machine at once
/// (`boxlite_protocol::PROBE_PARAMETER`).
const PROBE_PARAMETER: &str = "boxlite.probe=1";
/// Linux says this, at its highest log level, when process 1 ends the machine in order.
const ORDERLY_END: &str = "reboot: ";
const PANIC: &str = "Kernel panic";
/// The probe guest takes about a second with KVM on a slow host.
const PROBE_DEADLINE: Duration = Duration::from_secs(15);
const PROBE_MEMORY_MIB: u32 = 128;
/// More console than this is not read from a probe guest.
const MAX_CONSOLE_BYTES: u64 = 256 * 1024;
/// A guest that failed may have failed for want of time: it is tried again after this.
const FAILURE_HOLDS: Duration = Duration::from_secs(600);
const CACHE_NAME: &str = "accelerator.json";
const MAX_CACHE_BYTES: u64 = 64 * 1024;

/// The accelerator, and why that one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AcceleratorChoice {
    /// What executes the guest.
    pub accelerator: Accelerator,
    /// What was found, for a person, in the order in which it was looked at.
    pub evidence: Vec<String>,
}

/// No accelerator could be chosen.
#[derive(Debug, thiserror::Error)]
pub enum ChooseError {
    /// The environment names an accelerator that doesn't exist.
    #[error("{ACCELERATOR_VARIABLE}={0:?}: there are kvm, hvf and tcg")]
    Unknown(String),
    /// The one that was asked for can't work here.
    #[error("{accelerator} was asked for ({by}) and can't be used: {why}")]
    Unusable {
        /// The one.
        accelerator: Accelerator,
        /// Who asked.
        by: String,
        /// Why not.
        why: String,
    },
}

/// Where to look on this host; other places are for tests.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Host {
    /// `/proc/cpuinfo`.
    pub cpuinfo: PathBuf,
    /// `/dev/kvm`.
    pub kvm: PathBuf,
    /// `/proc/sys/kernel/random/boot_id`.
    pub boot_id: PathBuf,
    /// The value of [`ACCELERATOR_VARIABLE`].
    pub wanted: Option<String>,
    /// How long the probe guest may take.
    pub deadline: Duration,
}

impl Host {
    /// The host that this process runs on.
    #[must_use]
    pub fn this() -> Self {
        Self {
            cpuinfo: "/proc/cpuinfo".into(),
            kvm: "/dev/kvm".into(),
            boot_id: "/proc/sys/kernel/random/boot_id".into(),
            wanted: std::env::var(ACCELERATOR_VARIABLE)
                .ok()
                .filter(|value| !value.is_empty()),
            deadline: PROBE_DEADLINE,
        }
    }
}

/// Chooses for a machine that is to be run by the QEMU at `qemu`. Runs a guest, for up to 15
/// seconds, once per boot of the host where KVM seems to be there; the answer is kept in
/// the specification's cache folder. Must be called in a tokio runtime.
///
/// # Errors
/// Only when an accelerator was asked for, by the specification or by the environment.
pub async fn choose(qemu: &Path, spec: &MachineSpec) -> Result<AcceleratorChoice, ChooseError> {
    choose_on(&Host::this(), qemu, spec).await
}

/// [`choose`] on a host that is described.
///
/// # Errors
/// As [`choose`].
pub async fn choose_on(host: &Host, qemu: &Path, spec: &MachineSpec) -> Result<AcceleratorChoice, ChooseError> {
    if let Some(accelerator) = spec.accelerator {
        return asked_for(host, accelerator, "by the box's configuration".to_owned());
    }
    if let Some(name) = &host.wanted {
        let accelerator = name.parse().map_err(|_| ChooseError::Unknown(name.clone()))?;
        return asked_for(host, accelerator, format!("{ACCELERATOR_VARIABLE}={name}"));
    }
    let mut evidence = Vec::new();
    let accelerator = if signs_of_kvm(host, &mut evidence) && kvm_runs_a_guest(host, qemu, spec, &mut evidence).await {
        Accelerator::Kvm
    } else {
        Accelerator::Tcg
    };
    tracing::debug!(%accelerator, ?evidence, "accelerator chosen");
    Ok(AcceleratorChoice { accelerator, evidence })
}

fn asked_for(host: &Host, accelerator: Accelerator, by: String) -> Result<AcceleratorChoice, ChooseError> {
    let unusable = |why| ChooseError::Unusable {
        accelerator,
        by: by.clone(),
        why,
    };
    let mut evidence = vec![format!("{accelerator} was asked for: {by}")];
    match accelerator {
        Accelerator::Tcg => {}
        Accelerator::Kvm => evidence.push(open_kvm(&host.kvm).map_err(unusable)?),
        Accelerator::Hvf => return Err(unusable("it does not exist on Linux".to_owned())),
    }
    Ok(AcceleratorChoice { accelerator, evidence })
}

/// What can be seen without running anything.
fn signs_of_kvm(host: &Host, evidence: &mut Vec<String>) -> bool {
    let extension = match std::fs::read_to_string(&host.cpuinfo) {
        Ok(text) => virtualization_flag(&text),
        Err(error) => {
            evidence.push(format!("{} can't be read: {error}", host.cpuinfo.display()));
            None
        }
    };
    match extension {
        Some(flag) => evidence.push(format!("the processor has {flag}")),
        None if cfg!(target_arch = "x86_64") => {
            evidence.push("the processor shows neither vmx nor svm".to_owned());
            return false;
        }
        None => {}
    }
    match open_kvm(&host.kvm) {
        Ok(fact) => {
            evidence.push(fact);
            true
        }
        Err(fact) => {
            evidence.push(fact);
            false
        }
    }
}

fn virtualization_flag(cpuinfo: &str) -> Option<&'static str> {
    cpuinfo
        .lines()
        .filter_map(|line| line.split_once(':'))
        .filter(|(key, _)| key.trim() == "flags")
        .flat_map(|(_, flags)| flags.split_ascii_whitespace())
        .find_map(|flag| ["vmx", "svm"].into_iter().find(|known| *known == flag))
}

fn open_kvm(path: &Path) -> Result<String, String> {
    let path_text = path.display();
    match std::fs::OpenOptions::new().read(true).write(true).open(path) {
        Ok(_) => Ok(format!("{path_text} opens")),
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => Err(format!(
            "{path_text} does not open: {error} (is this user in the group kvm?)"
        )),
        Err(error) => Err(format!("{path_text} does not open: {error}")),
    }
}

/// A remembered answer, good as long as everything in `key` is the same.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Remembered {
    key: Key,
    works: bool,
    fact: String,
    unix_s: u64,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Key {
    boot_id: String,
    files: Vec<FileKey>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct FileKey {
    path: PathBuf,
    bytes: u64,
    mtime_s: i64,
    mtime_ns: i64,
}

impl Key {
    fn of(host: &Host, files: [&Path; 3]) -> io::Result<Self> {
        let file = |path: &Path| {
            let metadata = std::fs::metadata(path)?;
            Ok(FileKey {
                path: path.to_owned(),
                bytes: metadata.len(),
                mtime_s: metadata.mtime(),
                mtime_ns: metadata.mtime_nsec(),
            })
        };
        Ok(Self {
            boot_id: std::fs::read_to_string(&host.boot_id)?.trim().to_owned(),
            files: files.into_iter().map(file).collect::<io::Result<_>>()?,
        })
    }
}

async fn kvm_runs_a_guest(host: &Host, qemu: &Path, spec: &MachineSpec, evidence: &mut Vec<String>) -> bool {
    let cache = spec.engine.cache_dir.as_ref().map(|dir| dir.join(CACHE_NAME));
    let key = match Key::of(host, [qemu, &spec.kernel, &spec.initramfs]) {
        Ok(key) => key,
        Err(error) => {
            evidence.push(format!("no guest could be tried with KVM: {error}"));
            return false;
        }
    };
    let now_s = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |time| time.as_secs());
    if let Some(known) = cache.as_deref().and_then(|path| recall(path, &key, now_s)) {
        evidence.push(format!("{} (since this host's start)", known.fact));
        return known.works;
    }
    let began = std::time::Instant::now();
    let (works, fact) = match run_guest(host, qemu, spec).await {
        Ok(()) => (
            true,
            format!("a guest ran to its end with KVM in {} ms", began.elapsed().as_millis()),
        ),
        Err(why) => (false, format!("a guest does not run with KVM: {why}")),
    };
    evidence.push(fact.clone());
    if let Some(path) = cache {
        let remembered = Remembered {
            key,
            works,
            fact,
            unix_s: now_s,
        };
        if let Err(error) = remember(&path, &remembered) {
            tracing::warn!(path = %path.display(), %error, "the accelerator's choice can't be kept");
        }
    }
    works
}

fn recall(path: &Path, key: &Key, now_s: u64) -> Option<Remembered> {
    if std::fs::metadata(path).ok()?.len() > MAX_CACHE_BYTES {
        return None;
    }
    let known: Remembered = serde_json::from_slice(&std::fs::read(path).ok()?).ok()?;
    let age_s = now_s.saturating_sub(known.unix_s);
    (known.key == *key && (known.works || age_s < FAILURE_HOLDS.as_secs())).then_some(known)
}

fn remember(path: &Path, remembered: &Remembered) -> io::Result<()> {
    let dir = path.parent().unwrap_or(Path::new("/"));
    std::fs::create_dir_all(dir)?;
    // Several processes may do so at once: each its own file, and the last one stays.
    let temporary = dir.join(format!(".{CACHE_NAME}.{}", std::process::id()));
    std::fs::write(&temporary, serde_json::to_vec(remembered)?)?;
    std::fs::rename(temporary, path)
}

/// Runs kernel and agent with KVM, nothing else, to their end.
async fn run_guest(host: &Host, qemu: &Path, spec: &MachineSpec) -> Result<(), String> {
    let mut command = tokio::process::Command::new(qemu);
    command
        .args(["-accel", "kvm", "-cpu", "host", "-smp", "1"])
        .args(["-M", "microvm,acpi=off,pit=off,pic=off,rtc=on"])
        .args(["-m", &PROBE_MEMORY_MIB.to_string()])
        .args(["-nodefaults", "-no-user-config", "-no-reboot", "-display", "none"])
        .args(["-chardev", "stdio,id=console,signal=off", "-serial", "chardev:console"])
        .args([
            "-sandbox",
            "on,obsolete=deny,elevateprivileges=deny,spawn=deny,resourcecontrol=deny",
        ])
        .args([
            "-append",
            &format!("quiet panic=-1 reboot=t console=ttyS0 {PROBE_PARAMETER}"),
        ])
        .arg("-kernel")
        .arg(&spec.kernel)
        .arg("-initrd")
        .arg(&spec.initramfs)
        .env_clear()
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true);
    let mut child = command
        .spawn()
        .map_err(|error| format!("{}: {error}", qemu.display()))?;
    let (stdout, stderr) = (child.stdout.take(), child.stderr.take());
    let finished = tokio::time::timeout(host.deadline, async {
        let (console, errors) = tokio::join!(read_some(stdout), read_some(stderr));
        let status = child.wait().await;
        (console, errors, status)
    })
    .await;
    let Ok((console, errors, status)) = finished else {
        // Dropping would kill it as well, but not wait for it.
        let _ = child.kill().await;
        return Err(format!("it did not end in {} s", host.deadline.as_secs()));
    };
    let status = status.map_err(|error| error.to_string())?;
    let last = |text: &str| {
        text.lines()
            .rfind(|line| !line.trim().is_empty())
            .unwrap_or("nothing")
            .trim()
            .to_owned()
    };
    if !status.success() {
        return Err(format!("QEMU ended with {status}: {}", last(&errors)));
    }
    if let Some(line) = console.lines().find(|line| line.contains(PANIC)) {
        return Err(line.trim().to_owned());
    }
    if !console.contains(ORDERLY_END) {
        return Err(format!("it did not end in order; its last words: {}", last(&console)));
    }
    Ok(())
}

async fn read_some(pipe: Option<impl tokio::io::AsyncRead + Unpin>) -> String {
    let mut bytes = Vec::new();
    if let Some(pipe) = pipe {
        // Dropping the pipe's end at the limit ends a guest that says more.
        if let Err(error) = pipe.take(MAX_CONSOLE_BYTES).read_to_end(&mut bytes).await {
            tracing::debug!(%error, "reading from the probe guest");
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

#[cfg(test)]
mod tests;
