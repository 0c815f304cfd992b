#!/usr/bin/env bash
# What CI refuses: formatting, clippy's warnings, scripts, licences and sources of dependencies.
set -euo pipefail
cd "$(dirname "$0")/.."
cargo fmt --all --check
cargo clippy --locked --workspace --all-targets --quiet -- -D warnings
RUSTDOCFLAGS="-D warnings" cargo doc --locked --workspace --no-deps --quiet
if command -v shellcheck >/dev/null; then shellcheck --severity=warning scripts/*.sh guest/*.sh guest/kernel/*.sh sdks/c/*.sh sdks/c/tests/*.sh sdks/go/*.sh .ci/run; fi
# The advisories need a clone of a public repository; the workflow checks them.
if cargo deny --version >/dev/null 2>&1; then cargo deny --log-level error check licenses bans sources
else echo "lint: cargo-deny is not installed; licences were not checked (cargo install cargo-deny)" >&2; fi
echo "lint: clean"
