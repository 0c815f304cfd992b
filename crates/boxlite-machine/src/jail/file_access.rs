//! Which files the engine may reach (Landlock).

use std::path::{Path, PathBuf};

use landlock::{
    ABI, Access as _, AccessFs, AccessNet, BitFlags, CompatLevel, Compatible as _, PathBeneath, PathFd, PathFdError,
    Ruleset, RulesetAttr as _, RulesetCreated, RulesetCreatedAttr as _, RulesetError, RulesetStatus, Scope,
};

use super::confinement::{ConfinedShare, Confinement, Identity, KVM};

/// The newest rules that this code knows; older kernels apply those that they know.
const RULES: ABI = ABI::V6;

/// Files that the C library, its resolver and the engine's user-mode network read.
const SYSTEM_FILES: [&str; 9] = [
    "/etc/ld.so.cache",
    "/etc/ld.so.preload",
    "/etc/nsswitch.conf",
    "/etc/host.conf",
    "/etc/hosts",
    "/etc/gai.conf",
    "/etc/localtime",
    "/etc/resolv.conf",
    "/dev/urandom",
];
/// Where programs and libraries are.
const PROGRAM_DIRS: [&str; 5] = ["/usr", "/lib", "/lib64", "/lib32", "/etc/alternatives"];

/// Why file access isn't limited.
#[derive(Debug, thiserror::Error)]
pub(super) enum RestrictError {
    #[error("this kernel has no Landlock, or it is switched off (lsm= on its command line)")]
    Unsupported,
    #[error("Landlock: {0}")]
    Rules(#[from] RulesetError),
    #[error("{0}")]
    Path(#[from] PathFdError),
}

/// The limits of one engine, not in force yet.
#[derive(Debug)]
pub(super) struct Limits(RulesetCreated);

/// Collects what the engine may reach. Opens every path, so it must be done by somebody
/// who may: the engine's own user may not even enter the folder where the box is.
pub(super) fn prepare(confinement: &Confinement, binary: &Path) -> Result<Limits, RestrictError> {
    let mut ruleset = Ruleset::default()
        .set_compatibility(CompatLevel::BestEffort)
        .handle_access(AccessFs::from_all(RULES))?
        .scope(Scope::from_all(RULES))?;
    if !confinement.network {
        ruleset = ruleset.handle_access(AccessNet::from_all(RULES))?;
    }
    let mut rules = ruleset.create()?;
    let program = AccessFs::ReadFile | AccessFs::ReadDir | AccessFs::Execute;
    let read = AccessFs::ReadFile | AccessFs::ReadDir;
    for dir in PROGRAM_DIRS
        .map(PathBuf::from)
        .into_iter()
        .chain(program_prefix(binary))
    {
        rules = allow_if_there(rules, &dir, program)?;
    }
    for file in SYSTEM_FILES {
        rules = allow_if_there(rules, Path::new(file), read)?;
    }
    rules = allow_if_there(rules, Path::new("/dev/null"), AccessFs::ReadFile | AccessFs::WriteFile)?;
    // The resolver's configuration is replaced by renaming, and read again when it was: its
    // folder, unless that is /etc and the reader is root, who would read /etc/shadow too.
    if confinement.network
        && let Ok(file) = std::fs::canonicalize("/etc/resolv.conf")
        && let Some(dir) = file.parent()
        && (dir != Path::new("/etc") || !matches!(confinement.identity, Identity::Root { .. }))
    {
        rules = allow_if_there(rules, dir, read)?;
    }
    for path in &confinement.readable {
        rules = allow(rules, path, read)?;
    }
    for path in &confinement.writable {
        rules = allow(rules, path, AccessFs::ReadFile | AccessFs::WriteFile)?;
    }
    if confinement.kvm {
        rules = allow(
            rules,
            Path::new(KVM),
            AccessFs::ReadFile | AccessFs::WriteFile | AccessFs::IoctlDev,
        )?;
    }
    // No device nodes and no programs: neither is needed to serve files.
    let write = AccessFs::from_all(RULES)
        & !(AccessFs::MakeChar | AccessFs::MakeBlock | AccessFs::Execute | AccessFs::IoctlDev);
    let access = |read_only: bool| if read_only { read } else { write };
    for share in &confinement.shares {
        match share {
            ConfinedShare::Folder { source, read_only } => rules = allow(rules, source, access(*read_only))?,
            ConfinedShare::Members { dir, members } => {
                rules = allow(rules, dir, read)?;
                for member in members {
                    rules = allow(rules, &dir.join(&member.name), access(member.read_only))?;
                }
            }
        }
    }
    Ok(Limits(rules))
}

/// Limits this process, and so the engine.
pub(super) fn restrict(limits: Limits) -> Result<(), RestrictError> {
    match limits.0.restrict_self()?.ruleset {
        RulesetStatus::NotEnforced => Err(RestrictError::Unsupported),
        RulesetStatus::FullyEnforced | RulesetStatus::PartiallyEnforced => Ok(()),
    }
}

/// Where a program outside `/usr` keeps its libraries and data: `/opt/qemu` for
/// `/opt/qemu/bin/qemu-system-x86_64`.
fn program_prefix(binary: &Path) -> Option<PathBuf> {
    let binary = std::fs::canonicalize(binary).ok()?;
    if binary.starts_with("/usr") {
        return None;
    }
    if binary.starts_with("/nix/store") {
        return Some("/nix/store".into());
    }
    let dir = binary.parent()?;
    let prefix = if dir.ends_with("bin") { dir.parent()? } else { dir };
    // Never everything: then the program alone.
    Some(if prefix == Path::new("/") {
        binary
    } else {
        prefix.to_owned()
    })
}

fn allow_if_there(
    rules: RulesetCreated,
    path: &Path,
    access: BitFlags<AccessFs>,
) -> Result<RulesetCreated, RestrictError> {
    if path.exists() {
        allow(rules, path, access)
    } else {
        Ok(rules)
    }
}

fn allow(rules: RulesetCreated, path: &Path, access: BitFlags<AccessFs>) -> Result<RulesetCreated, RestrictError> {
    let access = if path.is_dir() {
        access
    } else {
        access & AccessFs::from_file(RULES)
    };
    Ok(rules.add_rule(PathBeneath::new(PathFd::new(path)?, access))?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_prefix_of_a_program_is_never_everything() {
        let dir = tempfile::tempdir().unwrap();
        let root = std::fs::canonicalize(dir.path()).unwrap();
        std::fs::create_dir_all(root.join("qemu/bin")).unwrap();
        let binary = root.join("qemu/bin/qemu-system-x86_64");
        std::fs::write(&binary, "").unwrap();
        assert_eq!(program_prefix(&binary), Some(root.join("qemu")));
        let binary = root.join("qemu/engine");
        std::fs::write(&binary, "").unwrap();
        assert_eq!(program_prefix(&binary), Some(root.join("qemu")));
        assert_eq!(program_prefix(Path::new("/usr/bin/env")), None);
    }
}
