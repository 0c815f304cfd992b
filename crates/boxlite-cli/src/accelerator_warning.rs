//! The warning that machines run without hardware virtualisation, once per boot.

use std::fs;
use std::path::Path;

use boxlite::BoxInfo;

use crate::output;

/// The file in the home that remembers the boot in which was warned.
const MARKER: &str = "tcg-warning";

/// Warns if the box runs under translation, unless that was done since the host's
/// start. A home that can't be written to is warned about each time.
pub(crate) fn warn_once(info: &BoxInfo) {
    let accelerator = info.run.as_ref().and_then(|run| run.accelerator.as_deref());
    if accelerator != Some("tcg") {
        return;
    }
    // <home>/boxes/<id>
    let home = info.directory.parent().and_then(Path::parent);
    if let Some(home) = home
        && !is_first(home, &boot_id())
    {
        return;
    }
    output::warn(
        "no hardware virtualisation is used here: machines run in software (tcg), several times slower; boxlite doctor says why",
    );
}

/// Whether this boot is not the marker's; it is afterwards.
fn is_first(home: &Path, boot_id: &str) -> bool {
    let marker = home.join(MARKER);
    if fs::read_to_string(&marker).is_ok_and(|known| known == boot_id) {
        return false;
    }
    if let Err(error) = fs::write(&marker, boot_id) {
        tracing::debug!(%error, marker = %marker.display(), "the warning is not remembered");
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
