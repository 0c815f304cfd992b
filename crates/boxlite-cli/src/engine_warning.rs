//! Warnings about what runs the machines: in software, or an engine that nobody has
//! tried. Once per boot of the host, because nothing about them changes between.

use std::fs;
use std::path::Path;

use boxlite::{BoxInfo, RunInfo};

use crate::output;

/// The file in the home that remembers the boot in which was warned, and of what.
const MARKER: &str = "engine-warnings";

/// Warns of what the box's run has to warn of, unless that was done since the host's
/// start; of a start from a template that failed, each time. A home that can't be written to
/// is warned about each time, too.
pub(crate) fn warn_once(info: &BoxInfo) {
    let mut warnings = info.run.as_ref().map(warnings).unwrap_or_default();
    let cold_reason = info.run.as_ref().and_then(|run| run.cold_reason.as_ref());
    for failed in warnings.extract_if(.., |warning| Some(&*warning) == cold_reason) {
        output::warn(&failed);
    }
    if warnings.is_empty() {
        return;
    }
    let said = format!("{}\n{}\n", boot_id(), warnings.join("\n"));
    // <home>/boxes/<id>
    let home = info.directory.parent().and_then(Path::parent);
    if let Some(home) = home
        && !is_first(home, &said)
    {
        return;
    }
    for warning in &warnings {
        output::warn(warning);
    }
}

fn warnings(run: &RunInfo) -> Vec<String> {
    let mut warnings = run.warnings.clone();
    if run.accelerator.as_deref() == Some("tcg") {
        warnings.push(
            "no hardware virtualisation is used here: machines run in software (tcg), several times slower; boxlite doctor says why"
                .to_owned(),
        );
    }
    warnings
}

/// Whether the marker does not say this; it does afterwards.
fn is_first(home: &Path, said: &str) -> bool {
    let marker = home.join(MARKER);
    if fs::read_to_string(&marker).is_ok_and(|known| known == said) {
        return false;
    }
    if let Err(error) = fs::write(&marker, said) {
        tracing::debug!(%error, marker = %marker.display(), "the warnings are not remembered");
    }
    true
}

fn boot_id() -> String {
    fs::read_to_string("/proc/sys/kernel/random/boot_id")
        .map(|id| id.trim().to_owned())
        .unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn software_and_unknown_engines_are_warned_of() {
        let run = |accelerator: &str, known: &[&str]| -> RunInfo {
            serde_json::from_value(serde_json::json!({
                "run_id": "r",
                "engine": "qemu 99.0",
                "accelerator": accelerator,
                "accelerator_evidence": [],
                "start_mode": "cold",
                "stages": [],
                "warnings": known,
                "agent_version": null,
                "kernel_release": null,
                "shim_pid": null,
            }))
            .unwrap()
        };
        assert!(warnings(&run("kvm", &[])).is_empty());
        assert_eq!(warnings(&run("kvm", &["QEMU 99 is new"])), ["QEMU 99 is new"]);
        assert!(warnings(&run("tcg", &[]))[0].contains("in software"));
        assert_eq!(warnings(&run("tcg", &["QEMU 99 is new"])).len(), 2);
    }

    #[test]
    fn once_a_boot() {
        let home = tempfile::tempdir().unwrap();
        assert!(is_first(home.path(), "one"));
        assert!(!is_first(home.path(), "one"));
        assert!(is_first(home.path(), "two"));
        assert!(!is_first(home.path(), "two"));
    }

    #[test]
    fn a_home_that_can_not_be_written_is_no_failure() {
        assert!(is_first(Path::new("/proc/nowhere"), "one"));
    }
}
