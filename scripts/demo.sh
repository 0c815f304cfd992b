#!/usr/bin/env bash
# What `make demo` shows: an image is made and loaded, and a box of it prints its own
# kernel, its memory and the image's greeting.
set -euo pipefail
boxlite="$1"
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
step() { printf '\n\033[1m$ %s\033[0m\n' "$1"; }
[ -t 1 ] && [ -z "${NO_COLOR:-}" ] || step() { printf '\n$ %s\n' "$1"; }

"$(dirname "$0")/make-image.sh" "$work/demo"
step "boxlite load oci:demo --tag demo"
"$boxlite" load "oci:$work/demo" --tag demo
# shellcheck disable=SC2016 # the box's shell expands it
greet='cat /etc/motd; echo "kernel  $(uname -sr)"; grep MemTotal /proc/meminfo; echo "host    $(hostname)"; echo "process $$"'
step "boxlite run --rm --memory 256m demo sh -c '…'"
"$boxlite" run --rm --memory 256m demo sh -c "$greet"
