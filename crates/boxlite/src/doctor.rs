//! Whether a start can work on this host, check by check.

use std::path::Path;

use boxlite_store::{Home, HomeWarning};
use serde::{Deserialize, Serialize};

use crate::bundle::Bundle;
use crate::client::{Accelerator, ClientBuilder};
use crate::engine;
use crate::error::{Diagnose, full_message};

/// The result of [`crate::Client::doctor`].
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct DoctorReport {
    /// One for each thing that a start needs.
    pub checks: Vec<Check>,
}

impl DoctorReport {
    /// Whether a start can work: no check failed.
    #[must_use]
    pub fn can_start(&self) -> bool {
        self.checks.iter().all(|check| check.status != CheckStatus::Failure)
    }
}

/// One check.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Check {
    /// What was checked.
    pub name: String,
    /// How it came out.
    pub status: CheckStatus,
    /// What was found, in one line.
    pub message: String,
    /// The command or change that mends it.
    pub fix: Option<String>,
}

impl Check {
    fn ok(name: &str, message: impl Into<String>) -> Self {
        Self {
            name: name.to_owned(),
            status: CheckStatus::Ok,
            message: message.into(),
            fix: None,
        }
    }

    fn warning(name: &str, message: impl Into<String>, fix: impl Into<String>) -> Self {
        Self {
            name: name.to_owned(),
            status: CheckStatus::Warning,
            message: message.into(),
            fix: Some(fix.into()),
        }
    }

    fn failure(name: &str, error: &dyn Diagnose) -> Self {
        Self {
            name: name.to_owned(),
            status: CheckStatus::Failure,
            message: full_message(error),
            fix: error.hint(),
        }
    }
}

/// How a check came out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CheckStatus {
    /// Good.
    Ok,
    /// A start works, but something is slower or weaker than it could be.
    Warning,
    /// A start can't work.
    Failure,
}

/// Memory that a box and its engine need at the least.
const LEAST_MEMORY_BYTES: u64 = 256 << 20;
/// Descriptors that a client with some boxes and executions needs.
const LEAST_DESCRIPTORS: u64 = 1024;
/// Watches that following logs needs: one for each follower and folder.
const LEAST_INOTIFY_INSTANCES: u64 = 64;

/// Checks everything that a start needs, as far as it can be come to.
pub(crate) async fn examine(builder: ClientBuilder) -> DoctorReport {
    let mut checks = Vec::new();
    let builder = match builder.with_environment() {
        Ok(builder) => builder,
        Err(error) => {
            checks.push(Check::failure("environment", &error));
            return DoctorReport { checks };
        }
    };
    let accelerator = builder.accelerator.unwrap_or_default();
    let found = tokio::task::spawn_blocking(move || {
        let mut checks = Vec::new();
        let found = look(&builder, &mut checks);
        (checks, found)
    })
    .await;
    let found = match found {
        Ok((first, found)) => {
            checks.extend(first);
            found
        }
        Err(error) => {
            checks.push(Check {
                name: "checks".to_owned(),
                status: CheckStatus::Failure,
                message: format!("the checks ended early: {error}"),
                fix: None,
            });
            None
        }
    };
    if let Some((home, engine, bundle)) = found {
        checks.push(check_accelerator(&home, &engine, accelerator, &bundle).await);
    }
    checks.push(check_memory());
    checks.push(check_descriptors());
    checks.extend(host::checks());
    DoctorReport { checks }
}

/// Home, bundle and engine; what the accelerator is chosen with, if all are there. Blocking.
fn look(builder: &ClientBuilder, checks: &mut Vec<Check>) -> Option<(Home, engine::Found, Bundle)> {
    let home = check_home(builder, checks)?;
    let bundle = check_bundle(&home, builder.bundle_dir.as_deref(), checks);
    let engine = check_engine(&home, builder, checks);
    Some((home, engine?, bundle?))
}

fn check_engine(home: &Home, builder: &ClientBuilder, checks: &mut Vec<Check>) -> Option<engine::Found> {
    match engine::find(home, builder.engine.unwrap_or_default()) {
        Ok(found) => {
            let what = format!(
                "{} {} ({})",
                found.info.name,
                found.info.version,
                found.info.path.display()
            );
            if found.warnings.is_empty() {
                checks.push(Check::ok("engine", what.as_str()));
            }
            for warning in &found.warnings {
                checks.push(Check::warning(
                    "engine",
                    format!("{what}: {warning}"),
                    "name a tested one in BOXLITE_QEMU if starts fail",
                ));
            }
            Some(found)
        }
        Err(error) => {
            checks.push(Check::failure("engine", &error));
            None
        }
    }
}

async fn check_accelerator(home: &Home, engine: &engine::Found, wanted: Accelerator, bundle: &Bundle) -> Check {
    match engine::choose(home, engine, wanted, bundle).await {
        Ok(choice) => {
            let message = format!("{}: {}", choice.name, choice.evidence.join("; "));
            if choice.name == "tcg" && wanted != Accelerator::Tcg {
                Check::warning(
                    "accelerator",
                    message,
                    "run on a machine whose processor's virtualization can be used (/dev/kvm): starts are several times faster there",
                )
            } else {
                Check::ok("accelerator", message)
            }
        }
        Err(error) => Check::failure("accelerator", &error),
    }
}

fn check_home(builder: &ClientBuilder, checks: &mut Vec<Check>) -> Option<Home> {
    let path = builder.home.as_deref()?;
    let home = match Home::open(path) {
        Ok(home) => home,
        Err(error) => {
            checks.push(Check::failure("home", &crate::OpenError::from(error)));
            return None;
        }
    };
    if home.warnings().is_empty() {
        let message = format!("{} can hold boxes", home.path().display());
        checks.push(Check::ok("home", message));
    }
    for warning in home.warnings() {
        let fix = match warning {
            HomeWarning::NetworkFileSystem { .. } => "set BOXLITE_HOME to a folder on a local file system",
            HomeWarning::LowSpace { .. } => "boxlite system prune",
        };
        checks.push(Check::warning("home", warning.to_string(), fix));
    }
    match home.free_space() {
        Ok(space) => checks.push(Check::ok(
            "free space",
            format!("{} of {} GiB", space.available_bytes >> 30, space.total_bytes >> 30),
        )),
        Err(error) => checks.push(Check::warning(
            "free space",
            format!("it can't be found out: {error}"),
            format!("df {}", home.path().display()),
        )),
    }
    Some(home)
}

fn check_bundle(home: &Home, given: Option<&Path>, checks: &mut Vec<Check>) -> Option<Bundle> {
    match Bundle::locate(home, given) {
        Ok(bundle) => {
            let size_mib = std::fs::metadata(bundle.kernel()).map_or(0, |file| file.len() >> 20);
            checks.push(Check::ok("bundle", bundle.directory.display().to_string()));
            checks.push(Check::ok(
                "kernel",
                format!("{} ({size_mib} MiB)", bundle.kernel().display()),
            ));
            Some(bundle)
        }
        Err(error) => {
            checks.push(Check::failure("bundle", &error));
            None
        }
    }
}

fn check_memory() -> Check {
    let system = rustix::system::sysinfo();
    let unit = u64::from(system.mem_unit);
    let total = system.totalram.saturating_mul(unit);
    let message = format!("{} MiB", total >> 20);
    if total < LEAST_MEMORY_BYTES {
        Check::warning("memory", message, "give this machine more memory")
    } else {
        Check::ok("memory", message)
    }
}

fn check_descriptors() -> Check {
    let limit = rustix::process::getrlimit(rustix::process::Resource::Nofile);
    match limit.current {
        Some(count) if count < LEAST_DESCRIPTORS => Check::warning(
            "open files",
            format!("only {count} descriptors"),
            format!("ulimit -n {LEAST_DESCRIPTORS}"),
        ),
        Some(count) => Check::ok("open files", format!("{count} descriptors")),
        None => Check::ok("open files", "without a limit"),
    }
}

/// What only Linux has.
mod host {
    use super::{Check, LEAST_INOTIFY_INSTANCES};

    pub(super) fn checks() -> Vec<Check> {
        vec![inotify(), user_namespaces(), cgroup()]
    }

    fn read_number(path: &str) -> Option<u64> {
        std::fs::read_to_string(path).ok()?.trim().parse().ok()
    }

    fn inotify() -> Check {
        match read_number("/proc/sys/fs/inotify/max_user_instances") {
            Some(count) if count < LEAST_INOTIFY_INSTANCES => Check::warning(
                "inotify",
                format!("only {count} instances: few logs can be followed at once"),
                format!("sysctl fs.inotify.max_user_instances={LEAST_INOTIFY_INSTANCES}"),
            ),
            Some(count) => Check::ok("inotify", format!("{count} instances")),
            None => Check::warning(
                "inotify",
                "its limits can't be read: logs can perhaps not be followed",
                "mount /proc",
            ),
        }
    }

    fn user_namespaces() -> Check {
        if rustix::process::geteuid().is_root() {
            return Check::ok("user namespaces", "not needed as root");
        }
        let most = read_number("/proc/sys/user/max_user_namespaces");
        let unprivileged = read_number("/proc/sys/kernel/unprivileged_userns_clone");
        let restricted = read_number("/proc/sys/kernel/apparmor_restrict_unprivileged_userns");
        if most == Some(0) || most.is_none() {
            Check::warning(
                "user namespaces",
                "there are none: the engine is confined less",
                "sysctl user.max_user_namespaces=10000",
            )
        } else if unprivileged == Some(0) {
            Check::warning(
                "user namespaces",
                "only root may make them: the engine is confined less",
                "sysctl kernel.unprivileged_userns_clone=1",
            )
        } else if restricted == Some(1) {
            Check::warning(
                "user namespaces",
                "AppArmor restricts them: the engine is confined less",
                "sysctl kernel.apparmor_restrict_unprivileged_userns=0",
            )
        } else {
            Check::ok("user namespaces", "allowed")
        }
    }

    fn cgroup() -> Check {
        if std::path::Path::new("/sys/fs/cgroup/cgroup.controllers").exists() {
            Check::ok("cgroup", "version 2")
        } else {
            Check::warning(
                "cgroup",
                "no unified hierarchy: the engine's resources are not limited by one",
                "boot with systemd.unified_cgroup_hierarchy=1",
            )
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_home_that_can_t_be_is_a_failure_with_a_fix() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("file");
        std::fs::write(&file, "").unwrap();
        let report = examine(ClientBuilder::default().home(&file)).await;
        let home = report.checks.iter().find(|check| check.name == "home").unwrap();
        assert_eq!(home.status, CheckStatus::Failure);
        assert!(home.fix.is_some());
        assert!(!report.can_start());
    }

    #[tokio::test]
    async fn a_bundle_without_a_kernel_is_a_failure_that_names_it() {
        let folder = tempfile::tempdir().unwrap();
        let builder = ClientBuilder::default()
            .home(folder.path().join("home"))
            .bundle_dir(folder.path());
        let report = examine(builder).await;
        let bundle = report.checks.iter().find(|check| check.name == "bundle").unwrap();
        assert_eq!(bundle.status, CheckStatus::Failure);
        assert!(bundle.message.contains("boxlite-shim"), "{}", bundle.message);
    }
}
