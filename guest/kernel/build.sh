#!/usr/bin/env bash
# Builds the guest kernel from the distribution's kernel source package and prints
# the path of the resulting ELF.
#
#   guest/kernel/build.sh            build, or take from the cache
#   guest/kernel/build.sh --path     only print where the cached kernel would be
#
# BOXLITE_CACHE_DIR      where builds are kept (default: $XDG_CACHE_HOME/boxlite, ~/.cache/boxlite)
# BOXLITE_KERNEL_SOURCE  a kernel source archive (.tar.xz) to use instead of the distribution's
set -euo pipefail

here=$(cd "$(dirname "$0")" && pwd)
arch=$(uname -m)
config="$here/guest-kernel-$arch.config"
patches=("$here"/patches/*.patch)
cache="${BOXLITE_CACHE_DIR:-${XDG_CACHE_HOME:-$HOME/.cache}/boxlite}/kernel"

fail() { echo "guest/kernel/build.sh: $1" >&2; [ $# -lt 2 ] || echo "  try: $2" >&2; exit 1; }

[ -f "$config" ] || fail "no guest kernel configuration for $arch ($config)" "name a kernel of your own in BOXLITE_KERNEL"

# The newest source package that is installed; 6.1 is the oldest kernel that the agent can run on.
source="${BOXLITE_KERNEL_SOURCE:-$(find /usr/src -maxdepth 1 -name 'linux-source-6.*.tar.xz' 2>/dev/null | sort -V | tail -n 1)}"
[ -f "$source" ] || fail "no kernel source found in /usr/src" "apt-get install linux-source-6.12   (or: make setup)"

# Version, configuration and patches are the key: the archive's name and size stand for the
# version, because hashing 140 MB at every build would cost more than it tells.
version=$(basename "$source" .tar.xz)
package_version=$(dpkg-query -W -f '${Version}' "$version" 2>/dev/null || stat -c '%s' "$source")
key=$( (echo "$version $package_version $arch $(cc -dumpversion)"; sed 's/[[:space:]]*$//' "$config"; cat "${patches[@]}") | sha256sum | cut -c1-16)
out="$cache/$key"

if [ "${1:-}" = --path ]; then echo "$out/vmlinux"; exit 0; fi
if [ -f "$out/vmlinux" ]; then echo "$out/vmlinux"; exit 0; fi

for tool in flex bison bc make cc xz patch; do
  command -v "$tool" >/dev/null || fail "building the guest kernel needs $tool" "make setup"
done

mkdir -p "$cache"
# One build at a time for all checkouts of this machine; whoever waited finds it done.
exec 9>"$cache/$key.lock"
if ! flock -n 9; then echo "guest kernel: another build of the same kernel is running; waiting for it" >&2; flock 9; fi
if [ -f "$out/vmlinux" ]; then echo "$out/vmlinux"; exit 0; fi

work=$(mktemp -d "$cache/build.XXXXXX")
trap 'rm -rf "$work"' EXIT
echo "guest kernel: building $version ($package_version) in $work; some 5 to 7 minutes on two cores, once" >&2
tar -xf "$source" -C "$work" --strip-components=1
(
  cd "$work"
  export KBUILD_BUILD_USER=boxlite KBUILD_BUILD_HOST=boxlite KBUILD_BUILD_TIMESTAMP='2024-01-01'
  for patch in "${patches[@]}"; do
    # No fuzz: a patch that fits only roughly is read again by a person.
    patch -p1 --fuzz=0 --forward --silent <"$patch" || { echo "$(basename "$patch") does not fit $version" >&2; exit 1; }
  done
  make -s allnoconfig KCONFIG_ALLCONFIG="$config"
  # A symbol that Kconfig dropped is an option that would be missing without a word.
  missing=$(grep -E '^CONFIG_[A-Z0-9_]+=[ym"]' "$config" | while IFS= read -r line; do grep -qxF "$line" .config || echo "  $line"; done)
  [ -z "$missing" ] || { echo "the kernel source does not know, or cannot satisfy:" >&2; echo "$missing" >&2; exit 1; }
  make -s -j"$(nproc)" vmlinux
  strip -s -o vmlinux.stripped vmlinux
) >"$work.log" 2>&1 || { tail -n 40 "$work.log" >&2; fail "the guest kernel did not build; the whole log is $work.log"; }
rm -f "$work.log"

mkdir -p "$out.new"
cp "$work/vmlinux.stripped" "$out.new/vmlinux"
cp "$work/.config" "$out.new/config"
mv -T "$out.new" "$out"
echo "$out/vmlinux"
