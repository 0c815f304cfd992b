#!/usr/bin/env bash
# Packs the guest bundle (shim, kernel, initramfs), which the library embeds:
# guest/bundle.sh DIR OUT.tar.zst. Same files, same bytes.
set -euo pipefail
dir="$1" out="$2"
tar --create --directory="$dir" --sort=name --owner=0 --group=0 --numeric-owner --mtime=@0 \
  boxlite-shim vmlinux initramfs.cpio | zstd --quiet --force -12 -T0 -o "$out.new"
# An unchanged bundle keeps its time, so that nothing that embeds it is built again.
if cmp -s "$out.new" "$out"; then rm "$out.new"; else mv "$out.new" "$out"; fi
