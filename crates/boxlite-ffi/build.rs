//! Names what the shared library exports, and the library itself.

use std::path::Path;

/// Grows with `BOXLITE_ABI_VERSION`, less one: `libboxlite.so.0` is the interface 1.
const SONAME: &str = "libboxlite.so.0";

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rerun-if-changed=exports.map");
    let root = std::env::var_os("CARGO_MANIFEST_DIR").unwrap_or_default();
    let map = Path::new(&root).join("exports.map");
    println!("cargo::rustc-cdylib-link-arg=-Wl,-soname,{SONAME}");
    // rustc exports what is `no_mangle` in any crate, and C code that was bundled brings its own.
    println!("cargo::rustc-cdylib-link-arg=-Wl,--version-script={}", map.display());
    println!("cargo::rustc-cdylib-link-arg=-Wl,--exclude-libs,ALL");
}
