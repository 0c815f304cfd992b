#!/usr/bin/env bash
# Installs what is missing to build (and, with `test`, to test) boxlite. Says what
# and why before it does. A second run finds everything there and does nothing.
#
#   scripts/setup.sh build|run|test|bench
set -euo pipefail

purpose="${1:-build}"
# package: what it is needed for. A package may name alternatives: first|second.
build=(
  "gcc|clang: the linker, and the C parts of SQLite and zstd"
  "libc6-dev: headers and static C library, for the agent that runs inside boxes"
  "make: the guest kernel's build"
  "linux-source-6.12: source of the guest kernel"
  "flex: the guest kernel's build" "bison: the guest kernel's build" "bc: the guest kernel's build"
  "libelf-dev: the guest kernel's build (objtool)" "xz-utils: unpacking the kernel source"
  "patch: our changes to the guest kernel"
  "binutils: stripping the guest kernel" "cpio: packing the initramfs" "zstd: packing the guest bundle"
)
run=("qemu-system-x86: runs the machines")
test=(
  "busybox-static: the smallest test image" "mmdebstrap: builds the Debian test image"
  "umoci: builds and unpacks images, to compare with" "skopeo: copies images between forms and registries"
  "buildah: builds an image the way users do" "docker-registry: a real registry to pull from"
  "erofs-utils: fsck.erofs, to check the root filesystems that we write"
  "e2fsprogs: e2fsck, to check the disks that we write"
  "python3: compares file trees, and tar archives" "attr: extended attributes in test images"
  "libcap2-bin: file capabilities in test images"
  "ca-certificates: registries over TLS" "shellcheck: checks the scripts"
  "g++: compiles the C header as C++" "pkg-config|pkgconf: builds against an installed C SDK" "cmake: the same with CMake"
  "valgrind: looks for leaks in the C SDK"
)

bench=("runc: a container runtime to measure beside" "bubblewrap: the same without a runtime")

case "$purpose" in
  build) wanted=("${build[@]}") ;;
  run) wanted=("${build[@]}" "${run[@]}") ;;
  test) wanted=("${build[@]}" "${run[@]}" "${test[@]}") ;;
  bench) wanted=("${build[@]}" "${run[@]}" "${test[@]}" "${bench[@]}") ;;
  *) echo "usage: scripts/setup.sh build|run|test|bench" >&2; exit 2 ;;
esac

have() { [ "$(dpkg-query -W -f '${db:Status-Status}' "$1" 2>/dev/null)" = installed ]; }

if ! command -v cargo >/dev/null; then
  echo "boxlite needs Rust 1.90 or newer, and cargo is not in PATH." >&2
  echo "  try: install it from https://rustup.rs, then run this again" >&2
  exit 1
fi
if ! command -v dpkg-query >/dev/null; then
  echo "This system has no dpkg, so nothing was installed. boxlite needs:" >&2
  printf '  %s\n' "${wanted[@]}" >&2
  echo "  try: install these with your system's package manager, then: make" >&2
  exit 0
fi

missing=() why=()
for entry in "${wanted[@]}"; do
  names=${entry%%:*}
  found=
  for name in ${names//|/ }; do if have "$name"; then found=1; break; fi; done
  [ -n "$found" ] || { missing+=("${names%%|*}"); why+=("  ${names%%|*}: ${entry#*: }"); }
done
[ ${#missing[@]} -gt 0 ] || exit 0

echo "To $purpose boxlite, these packages will be installed with apt-get:" >&2
printf '%s\n' "${why[@]}" >&2

as_root=()
if [ "$(id -u)" != 0 ]; then
  command -v sudo >/dev/null || { echo "  try: as root, apt-get install ${missing[*]}" >&2; exit 1; }
  as_root=(sudo)
fi
install() { "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "${missing[@]}"; }
# A package list that was never fetched, or is too old, is the usual cause of a failure.
if ! install >/tmp/boxlite-setup.$$ 2>&1; then
  "${as_root[@]}" apt-get update -qq
  install >/tmp/boxlite-setup.$$ 2>&1 || {
    tail -n 20 /tmp/boxlite-setup.$$ >&2; rm -f /tmp/boxlite-setup.$$
    echo "scripts/setup.sh: apt-get could not install: ${missing[*]}" >&2
    echo "  likely cause: a release of Debian or Ubuntu that names a package otherwise; see above" >&2
    exit 1
  }
fi
rm -f /tmp/boxlite-setup.$$
