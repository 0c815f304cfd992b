//! From the kernel's start of `/init` to where the host is waited for. Touches no
//! disk and no volume: a template of this machine must not have read them.

use std::{
    fs, io,
    path::Path,
    time::{Duration, Instant},
};

use boxlite_protocol::PROBE_PARAMETER;
use rustix::{
    fs::CWD,
    mount::{MountFlags, mount},
    process::{Resource, Rlimit, setrlimit},
    system::{RebootCommand, reboot},
    time::{ClockId, clock_gettime},
};

use crate::{cgroup, console::log};

/// How many files a process of the box may have open: what the kernel allows at most
/// (`fs.nr_open`).
const OPEN_FILES: u64 = 1 << 20;

/// When the agent began.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Boot {
    /// Time since the kernel's start when `main` began.
    pub(crate) kernel: Duration,
    began: Instant,
}

impl Boot {
    /// To be called first.
    pub(crate) fn begin() -> Self {
        let now = clock_gettime(ClockId::Boottime);
        Boot {
            kernel: Duration::new(now.tv_sec.unsigned_abs(), now.tv_nsec.unsigned_abs() as u32),
            began: Instant::now(),
        }
    }

    /// Time since `main` began.
    pub(crate) fn elapsed(&self) -> Duration {
        self.began.elapsed()
    }

    /// True when the machine was started only to see whether it starts.
    pub(crate) fn is_probe(&self) -> bool {
        mount_at("proc", "/proc", "proc", MountFlags::empty()).is_ok()
            && fs::read_to_string("/proc/cmdline").is_ok_and(|line| has_probe_parameter(&line))
    }
}

fn has_probe_parameter(command_line: &str) -> bool {
    command_line
        .split_ascii_whitespace()
        .any(|word| word == PROBE_PARAMETER)
}

/// What of the machine could not be prepared.
#[derive(Debug, thiserror::Error)]
pub(crate) enum PrepareError {
    #[error("mount {kind} at {target}: {source}")]
    Mount {
        kind: &'static str,
        target: &'static str,
        source: io::Error,
    },
    #[error("control groups: {0}")]
    Cgroup(#[source] io::Error),
    #[error("limits of resources: {0}")]
    Limits(#[source] io::Error),
}

/// Mounts the kernel's file systems for the agent itself and sets what its children inherit.
pub(crate) fn prepare() -> Result<(), PrepareError> {
    let mounts = [
        ("sysfs", "/sys", MountFlags::empty()),
        ("devtmpfs", "/dev", MountFlags::empty()),
        ("cgroup2", "/sys/fs/cgroup", MountFlags::empty()),
        ("tmpfs", "/run", MountFlags::NOSUID | MountFlags::NODEV),
    ];
    let mut result = Ok(());
    for (kind, target, flags) in mounts {
        // All are tried: the more there is, the better is what the host gets to know.
        if let Err(source) = mount_at(kind, target, kind, flags) {
            result = Err(PrepareError::Mount { kind, target, source });
        }
    }
    result?;
    cgroup::prepare().map_err(PrepareError::Cgroup)?;
    let unlimited = Rlimit {
        current: None,
        maximum: None,
    };
    let files = Rlimit {
        current: Some(OPEN_FILES),
        maximum: Some(OPEN_FILES),
    };
    let no_core = Rlimit {
        current: Some(0),
        maximum: None,
    };
    for (resource, limit) in [
        (Resource::Nofile, files),
        (Resource::Core, no_core),
        (Resource::Nproc, unlimited),
        (Resource::Sigpending, unlimited),
    ] {
        setrlimit(resource, limit).map_err(|error| PrepareError::Limits(error.into()))?;
    }
    // A box that runs out of memory must lose its own processes, not the agent.
    fs::write("/proc/self/oom_score_adj", "-1000").map_err(PrepareError::Limits)
}

fn mount_at(source: &str, target: &str, kind: &str, flags: MountFlags) -> io::Result<()> {
    if !Path::new(target).is_dir() {
        fs::create_dir_all(target)?;
    }
    mount(source, target, kind, flags, None)?;
    Ok(())
}

/// Ends the machine: the kernel's command line says `reboot=t` and the engine takes
/// a reset for the end.
///
/// What is to last has been written out before: see [`crate::shutdown`].
pub(crate) fn power_off() -> ! {
    // Both can only fail without CAP_SYS_BOOT, which process 1 has.
    if let Err(error) = reboot(RebootCommand::Restart) {
        log!("reboot: {error}");
    }
    let _ = reboot(RebootCommand::PowerOff);
    // The kernel panics when process 1 ends, and `panic=-1` reboots.
    std::process::exit(1)
}

/// Writes a value of sysctl(8), `name` with slashes. A kernel without it is not an error.
pub(crate) fn set_sysctl(name: &str, value: &str) {
    let path = format!("/proc/sys/{name}");
    if rustix::fs::accessat(CWD, &path, rustix::fs::Access::EXISTS, rustix::fs::AtFlags::empty()).is_ok()
        && let Err(error) = fs::write(&path, value)
    {
        log!("{path}: {error}");
    }
}

#[cfg(test)]
mod tests {
    use super::has_probe_parameter;

    #[test]
    fn only_the_whole_word_is_a_probe() {
        assert!(has_probe_parameter("quiet boxlite.probe=1\n"));
        assert!(!has_probe_parameter("quiet boxlite.probe=10"));
        assert!(!has_probe_parameter("xboxlite.probe=1 boxlite.probe=0"));
        assert!(!has_probe_parameter(""));
    }
}
