#!/usr/bin/env bash
# Makes libboxlite.a and libboxlite.so of what cargo built of crates/boxlite-ffi.
#
#   scripts/ffi.sh [PROFILE]     PROFILE: release (default) or debug
#
# Both give other programs nothing but boxlite_*: the archive becomes one object in which
# every other symbol is local, so that a second SQLite, or a second Rust library, in the
# same program is no clash.
set -euo pipefail
cd "$(dirname "$0")/.."
profile=${1:-release}
out=${CARGO_TARGET_DIR:-target}/$profile
[ -f "$out/libboxlite_ffi.a" ] && [ -f "$out/libboxlite_ffi.so" ] || { echo "ffi: cargo has not built crates/boxlite-ffi in $out" >&2; exit 1; }

if [ "$out/libboxlite.so" -ot "$out/libboxlite_ffi.so" ]; then
  install -m 0755 "$out/libboxlite_ffi.so" "$out/libboxlite.so.new"
  mv "$out/libboxlite.so.new" "$out/libboxlite.so"
fi
ln -sf libboxlite.so "$out/libboxlite.so.0"

if [ "$out/libboxlite.a" -ot "$out/libboxlite_ffi.a" ]; then
  work=$(mktemp -d "$out/libboxlite.XXXXXX")
  trap 'rm -rf "$work"' EXIT
  if [ "$(uname -s)" = Darwin ]; then
    nm -gU "$out/libboxlite_ffi.a" 2>/dev/null | awk '$3 ~ /^_boxlite_/ { print $3 }' | sort -u > "$work/exported"
    ld -r -force_load "$out/libboxlite_ffi.a" -exported_symbols_list "$work/exported" -o "$work/boxlite.o"
  else
    # Only what the exported functions reach is taken out of the archive.
    # Their names are had from the shared library: plugins make nm stumble over bitcode in archives.
    nm -D --defined-only "$out/libboxlite_ffi.so" | awk '$3 ~ /^boxlite_/ { sub(/@.*/, "", $3); print "--undefined=" $3 }' > "$work/wanted"
    ld -r --gc-sections --gc-keep-exported --force-group-allocation -T scripts/ffi.ld @"$work/wanted" -o "$work/boxlite.o" "$out/libboxlite_ffi.a"
    objcopy --wildcard --keep-global-symbol='boxlite_*' "$work/boxlite.o"
    [ "$profile" = debug ] || objcopy --strip-debug "$work/boxlite.o"
  fi
  ar rcs "$work/libboxlite.a" "$work/boxlite.o"
  mv "$work/libboxlite.a" "$out/libboxlite.a"
fi
