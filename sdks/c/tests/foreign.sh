#!/usr/bin/env bash
# A program of somebody else, built against an installation with nothing but pkg-config, and
# with CMake. Twice: into a prefix, and through DESTDIR.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cat > "$work/app.c" <<'C'
#include <boxlite.h>
#include <stdio.h>
int main(void)
{
    boxlite_client_t client;
    boxlite_error_t *error = NULL;
    if (boxlite_abi_version() != BOXLITE_ABI_VERSION || boxlite_client_new("{}", &client, &error) != BOXLITE_OK)
        return 1;
    puts(boxlite_version());
    return boxlite_client_free(client);
}
C
fail() { echo "foreign: $1" >&2; exit 1; }

try() { # PREFIX, where it is now, and how to tell pkg-config
  local prefix=$1 now=$2; shift 2
  export PKG_CONFIG_PATH="$now/lib/pkgconfig"
  # shellcheck disable=SC2046 # flags are words
  (cd "$work" && cc app.c -o app $("$@" pkg-config --cflags --libs boxlite))
  LD_LIBRARY_PATH="$now/lib" "$work/app" || fail "the program does not run ($prefix)"
  readelf -d "$work/app" | grep -q 'NEEDED.*\[libboxlite.so.0\]' || fail "the program does not need libboxlite.so.0"
  # shellcheck disable=SC2046 # flags are words
  (cd "$work" && cc app.c -o static $("$@" pkg-config --cflags boxlite) "$now/lib/libboxlite.a" -lm -ldl -lpthread)
  env -u LD_LIBRARY_PATH "$work/static" || fail "the static program does not run ($prefix)"
}

PREFIX="$work/prefix" DESTDIR='' "$here/../install.sh"
try "$work/prefix" "$work/prefix"
PREFIX=/opt/nowhere DESTDIR="$work/stage" "$here/../install.sh"
grep -q '^prefix=/opt/nowhere$' "$work/stage/opt/nowhere/lib/pkgconfig/boxlite.pc" || fail "DESTDIR is in boxlite.pc"
try /opt/nowhere "$work/stage/opt/nowhere" env PKG_CONFIG_SYSROOT_DIR="$work/stage"

cat > "$work/CMakeLists.txt" <<'C'
cmake_minimum_required(VERSION 3.16)
project(app C)
find_package(boxlite 0.1 REQUIRED)
add_executable(shared app.c)
target_link_libraries(shared boxlite::boxlite)
add_executable(alone app.c)
target_link_libraries(alone boxlite::static)
C
cmake -S "$work" -B "$work/build" -DCMAKE_PREFIX_PATH="$work/prefix" > "$work/log" && cmake --build "$work/build" >> "$work/log" || { cat "$work/log"; fail "cmake"; }
"$work/build/shared" && "$work/build/alone" || fail "what cmake built does not run"
echo "foreign: ok"
