#!/usr/bin/env bash
# Every test: units and properties, then the command against real machines. `make test`
# has built what they need. Ends with one line that counts them.
set -euo pipefail
cd "$(dirname "$0")/.."

export BOXLITE_TEST_BIN="$PWD/target/release/boxlite"
export BOXLITE_TEST_BUNDLE_DIR="$PWD/target/bundle"
export BOXLITE_TEST_KERNEL="$PWD/target/bundle/vmlinux"
BOXLITE_TEST_AGENT="$PWD/target/$(uname -m)-unknown-linux-gnu/guest/boxlite-agent"; export BOXLITE_TEST_AGENT
BOXLITE_TEST_FIXTURES=$(scripts/fixtures.sh); export BOXLITE_TEST_FIXTURES
home=$(mktemp -d "${TMPDIR:-/tmp}/boxlite-test.XXXXXX")
export BOXLITE_TEST_HOME="$home/home"
log="$home/log"
cleanup() {
  if [ -d "$BOXLITE_TEST_HOME" ]; then
    mapfile -t left < <("$BOXLITE_TEST_BIN" --home "$BOXLITE_TEST_HOME" ps -aq 2>/dev/null)
    [ ${#left[@]} = 0 ] || "$BOXLITE_TEST_BIN" --home "$BOXLITE_TEST_HOME" rm -f "${left[@]}" >/dev/null 2>&1 || true
  fi
  rm -rf "$home"
}
trap cleanup EXIT

run() { printf '\n== %s\n' "$1"; shift; "$@" 2>&1 | tee -a "$log"; return "${PIPESTATUS[0]}"; }
status=0
run "units and properties" cargo test --locked --workspace --no-fail-fast || status=1
# Machines are slow under emulation and each has a processor to itself only up to the machine's own.
run "real machines" cargo test --locked -p boxlite-cli --test machine --no-fail-fast -- --ignored --test-threads="$(nproc)" || status=1
run "the library on real machines" env BOXLITE_BUNDLE_DIR="$PWD/target/bundle" cargo test --locked -p boxlite --no-fail-fast --tests -- --ignored --test-threads=2 || status=1
run "the supervisor with real machines" cargo test --locked -p boxlite-shim --no-fail-fast --tests -- --ignored --test-threads=2 || status=1
run "the agent in real machines" cargo test --locked -p boxlite-agent --no-fail-fast --test machine -- --ignored --test-threads=2 || status=1

awk '/^test result:/ { for (i = 1; i <= NF; i++) { if ($i ~ /^passed/) p += $(i-1); if ($i ~ /^failed/) f += $(i-1) } }
     END { printf "\n%d passed, %d failed\n", p, f; exit p == 0 }' "$log" || status=1
exit $status
