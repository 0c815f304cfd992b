#!/usr/bin/env bash
# Installs header, libraries, pkg-config file, CMake package and reference: what `make install` does.
#
#   PREFIX=/usr/local DESTDIR= sdks/c/install.sh
#
# PREFIX is where it will be looked for; DESTDIR, if set, is put before it only for copying.
set -euo pipefail
cd "$(dirname "$0")"
prefix=${PREFIX:-/usr/local}
case $prefix in /*) ;; *) echo "install: PREFIX must be an absolute path" >&2; exit 1 ;; esac
root=${DESTDIR:-}$prefix
built=../../${CARGO_TARGET_DIR:-target}/release
case ${CARGO_TARGET_DIR:-} in /*) built=$CARGO_TARGET_DIR/release ;; esac
version=$(sed -n '/^\[workspace.package\]/,/^\[/s/^version = "\(.*\)"/\1/p' ../../Cargo.toml)
for library in libboxlite.a libboxlite.so; do
  [ -f "$built/$library" ] || { echo "install: there is no $library: make ffi makes it" >&2; exit 1; }
done

fill() { sed -e "s|@PREFIX@|$prefix|" -e "s|@VERSION@|$version|" "$1"; }
install -d "$root/include" "$root/lib/pkgconfig" "$root/lib/cmake/boxlite" "$root/share/doc/boxlite"
install -m 0644 include/boxlite.h "$root/include/boxlite.h"
install -m 0644 "$built/libboxlite.a" "$root/lib/libboxlite.a"
# The name that programs remember points to the one file of this version.
install -m 0755 "$built/libboxlite.so" "$root/lib/libboxlite.so.$version"
ln -sfn "libboxlite.so.$version" "$root/lib/libboxlite.so.0"
ln -sfn libboxlite.so.0 "$root/lib/libboxlite.so"
fill boxlite.pc.in > "$root/lib/pkgconfig/boxlite.pc"
install -m 0644 cmake/boxlite-config.cmake "$root/lib/cmake/boxlite/boxlite-config.cmake"
fill cmake/boxlite-config-version.cmake.in > "$root/lib/cmake/boxlite/boxlite-config-version.cmake"
install -m 0644 ../../docs/c-api.md ../../docs/json.md "$root/share/doc/boxlite/"
