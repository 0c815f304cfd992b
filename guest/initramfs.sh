#!/usr/bin/env bash
# Packs the agent as the only file of an initramfs: guest/initramfs.sh AGENT OUT
# Same agent, same bytes: owner, time and inode numbers are fixed. Uncompressed,
# because under emulation the guest pays more for inflating it than the host for reading it.
set -euo pipefail
agent="$1" out="$2"
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
# The kernel's own built-in archive provides /dev/console.
install -m 0755 "$agent" "$work/init"
touch -d @0 "$work/init" "$work"
mkdir -p "$(dirname "$out")"
(cd "$work" && echo init | cpio --quiet --create --format=newc --owner=+0:+0 --reproducible) > "$out.new"
mv "$out.new" "$out"
