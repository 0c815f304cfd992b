//! Embeds the guest bundle: the zstd-compressed tar that `BOXLITE_BUNDLE` names.

use std::path::{Path, PathBuf};

fn main() {
    println!("cargo::rustc-check-cfg=cfg(boxlite_bundle)");
    println!("cargo::rerun-if-env-changed=BOXLITE_BUNDLE");
    println!("cargo::rerun-if-changed=build.rs");
    let Some(bundle) = std::env::var_os("BOXLITE_BUNDLE").filter(|path| !path.is_empty()) else {
        return;
    };
    let bundle = PathBuf::from(bundle);
    println!("cargo::rerun-if-changed={}", bundle.display());
    if let Err(error) = embed(&bundle) {
        println!("cargo::error=BOXLITE_BUNDLE={}: {error}", bundle.display());
    }
}

fn embed(bundle: &Path) -> Result<(), String> {
    let bytes = std::fs::read(bundle).map_err(|error| error.to_string())?;
    let out_dir = std::env::var_os("OUT_DIR").ok_or("cargo sets no OUT_DIR")?;
    std::fs::write(Path::new(&out_dir).join("bundle.tar.zst"), &bytes).map_err(|error| error.to_string())?;
    println!("cargo::rustc-env=BOXLITE_BUNDLE_HASH={}", hash(&bytes));
    println!("cargo::rustc-cfg=boxlite_bundle");
    Ok(())
}

fn hash(bytes: &[u8]) -> String {
    use sha2::{Digest, Sha256};

    Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}
