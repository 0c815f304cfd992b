#!/usr/bin/env bash
# The SDKs, from outside, on real machines. `make ffi` has built the libraries.
#
#   scripts/test-sdk.sh c|go
set -euo pipefail
cd "$(dirname "$0")/.."
target=${CARGO_TARGET_DIR:-target}
status=0
say() { printf '\n== %s\n' "$1"; }
run() { say "$1"; shift; "$@" || { echo "FAILED: $*" >&2; status=1; }; }
need() { command -v "$1" > /dev/null || { echo "$1 is missing: apt-get install $2" >&2; exit 1; }; }

symbols() { # FILE, and how nm is to look at it
  local strange
  strange=$(nm "$2" --defined-only "$1" | awk 'NF == 3 && $2 ~ /[A-TV-Z]/ { sub(/@.*/, "", $3); print $3 }' | grep -v -e '^boxlite_' -e '^BOXLITE_' || true)
  [ -z "$strange" ] || { echo "$1 exports: $strange" >&2; return 1; }
  diff <(nm "$2" --defined-only "$1" | awk 'NF == 3 { sub(/@.*/, "", $3); print $3 }' | grep '^boxlite_' | sort -u) \
       <(grep -oE '\bboxlite_[a-z_]+\(' sdks/c/include/boxlite.h | tr -d '(' | sort | uniq -c | awk '{ print $2 }' | sort -u | grep -v '_t$') \
    || { echo "$1 and the header differ" >&2; return 1; }
}

dialects() {
  local warnings=(-Wall -Wextra -Wpedantic -Werror -Isdks/c/include -fsyntax-only) standard
  for standard in c99 c11; do ${CC:-cc} -std=$standard "${warnings[@]}" -x c sdks/c/tests/header.c || return 1; done
  for standard in c++11 c++20; do ${CXX:-c++} -std=$standard "${warnings[@]}" -x c++ sdks/c/tests/header.c || return 1; done
}

fresh() { # a home for one program, removed after it
  local home result=0
  home=$(mktemp -d "${TMPDIR:-/tmp}/boxlite-c.XXXXXX")
  BOXLITE_HOME=$home "${@/HOME_OF_IT/$home}" || result=$?
  rm -rf "$home"
  return $result
}

sanitized() {
  ${CC:-cc} -std=c99 -D_POSIX_C_SOURCE=200809L -g -fsanitize=address,undefined -Wall -Wextra -Werror -Isdks/c/include \
    sdks/c/tests/lifecycle.c "$target/release/libboxlite.a" -lm -ldl -lpthread -o "$target/c/lifecycle-asan" || return 1
  fresh "$target/c/lifecycle-asan" "$image" HOME_OF_IT
}

examples() {
  local out code=0
  out=$(fresh "$target/c/run" "$image" sh -c 'echo "a b"; echo err >&2; exit 7' 2> /dev/null) || code=$?
  [ "$out" = "a b" ] && [ $code = 7 ]
}

test_c() {
  need valgrind valgrind; need cmake cmake; need pkg-config pkg-config
  BOXLITE_TEST_FIXTURES=$(scripts/fixtures.sh); export BOXLITE_TEST_FIXTURES
  local image="oci:$BOXLITE_TEST_FIXTURES/busybox"
  run "the header, in every dialect" dialects
  run "what libboxlite.so exports" symbols "$target/release/libboxlite.so" -D
  run "what libboxlite.a exports" symbols "$target/release/libboxlite.a" -g
  run "pages that are written from sources" sdks/c/reference.py --check
  run "pages that are written from types" scripts/json-docs.py --check
  run "examples and programs build" sdks/c/build.sh
  run "an installation, seen from outside" sdks/c/tests/foreign.sh
  run "the example run.c" examples
  run "a life" fresh "$target/c/lifecycle" "$image" HOME_OF_IT
  run "the same under the address sanitizer" sanitized
  run "the same under valgrind" fresh valgrind --quiet --error-exitcode=9 --leak-check=full --show-leak-kinds=definite,indirect \
    --errors-for-leak-kinds=definite,indirect \
    --trace-children=no --fair-sched=yes "$target/c/lifecycle" "$image" HOME_OF_IT
  run "the functions on machines" env BOXLITE_BUNDLE_DIR="$PWD/target/bundle" \
    cargo test --locked -p boxlite-ffi --test machine -- --ignored --test-threads=2
}

formatted() {
  local strange
  strange=$(gofmt -l sdks/go)
  [ -z "$strange" ] || { echo "not as gofmt has it: $strange" >&2; return 1; }
}

linted() {
  if command -v golangci-lint > /dev/null; then (cd sdks/go && golangci-lint run ./...)
  else echo "golangci-lint is not installed; the workflow runs it (https://golangci-lint.run)"; fi
}

test_go() {
  if ! command -v go > /dev/null; then
    echo "NOT TESTED: the Go SDK, because there is no go. Install Go 1.24 or newer from https://go.dev/dl"
    return
  fi
  BOXLITE_TEST_FIXTURES=$(scripts/fixtures.sh); export BOXLITE_TEST_FIXTURES
  export BOXLITE_BUNDLE_DIR="$PWD/target/bundle" BOXLITE_TEST_MACHINES=1
  run "what sdks/go links" sdks/go/install-archive.sh "$target/release/libboxlite.a"
  run "gofmt" formatted
  run "go vet" go -C sdks/go vet ./...
  run "golangci-lint" linted
  run "the Go SDK on machines" env BOXLITE_EXAMPLE_IMAGE="oci:$BOXLITE_TEST_FIXTURES/busybox" go -C sdks/go test -race -count=1 -timeout 20m ./...
  run "a foreign module" sdks/go/foreign.sh
}

case ${1:-} in
  c) test_c ;;
  go) test_go ;;
  *) echo "usage: scripts/test-sdk.sh c|go" >&2; exit 2 ;;
esac
exit $status
