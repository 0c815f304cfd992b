#!/usr/bin/env bash
# Makes the images that the tests run on, with other people's tools, and prints the
# folder that holds them. Cached outside the tree by the hash of what makes them.
#
#   busybox/           OCI layout: one static binary
#   debian/            OCI layout: a Debian root filesystem with python3, one layer (debian.tar)
#   layers/            OCI layout: debian and four layers over it: whiteouts, an opaque directory, hard
#                      links, device nodes, xattrs, capabilities, long names, sparse files, odd modes
#   *.docker.tar, *.oci.tar   the same as archives, written by skopeo
#   built.oci.tar      an image that buildah built
#   expected/*.jsonl   what `umoci unpack` as root makes of each (tests/tree.py)
set -euo pipefail
cd "$(dirname "$0")/.."
cache="${BOXLITE_CACHE_DIR:-${XDG_CACHE_HOME:-$HOME/.cache}/boxlite}/fixtures"
key=$(cat scripts/fixtures.sh scripts/make-image.sh tests/tree.py tests/odd_layers.py | sha256sum | cut -c1-16)
out="$cache/$key"
if [ "${1:-}" = --path ] || [ -d "$out" ]; then echo "$out"; exit 0; fi

mkdir -p "$cache"
exec 9>"$cache/$key.lock"; flock 9
[ ! -d "$out" ] || { echo "$out"; exit 0; }
work=$(mktemp -d "$cache/build.XXXXXX")
root=(); [ "$(id -u)" = 0 ] || root=(sudo)
trap '"${root[@]}" rm -rf "$work"' EXIT
say() { echo "fixtures: $1" >&2; }
quietly() { "$@" > "$work/log" 2>&1 || { tail -n 20 "$work/log" >&2; say "failed: $*"; exit 1; }; }

say "busybox"
scripts/make-image.sh "$work/busybox"

say "a Debian root filesystem (mmdebstrap)"
quietly "${root[@]}" mmdebstrap --variant=minbase --include=python3-minimal,libpython3-stdlib,attr,libcap2-bin,procps,iproute2 bookworm "$work/debian.tar"
"${root[@]}" chmod a+r "$work/debian.tar"
quietly umoci init --layout "$work/debian"
quietly umoci new --image "$work/debian:latest"
quietly umoci raw add-layer --image "$work/debian:latest" "$work/debian.tar"
quietly umoci config --image "$work/debian:latest" --config.cmd python3 --config.env LANG=C.UTF-8 --config.env PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
quietly umoci gc --layout "$work/debian"

say "layers over it"
cp -a "$work/debian" "$work/layers"
python3 tests/odd_layers.py "$work/odd"
for layer in "$work"/odd/*.tar; do quietly umoci raw add-layer --image "$work/layers:latest" "$layer"; done
quietly umoci config --image "$work/layers:latest" --config.user daemon --config.workingdir /srv/work --config.volume /var/data \
  --config.entrypoint /usr/bin/env --config.cmd true --config.stopsignal SIGINT --config.exposedports 8080/tcp
quietly umoci gc --layout "$work/layers"

say "archives (skopeo)"
quietly skopeo copy "oci:$work/debian:latest" "docker-archive:$work/debian.docker.tar:example.org/debian:12"
quietly skopeo copy "oci:$work/layers:latest" "oci-archive:$work/layers.oci.tar:latest"
quietly skopeo copy "oci:$work/busybox:latest" "docker-archive:$work/busybox.docker.tar:busybox:1"

say "an image built by buildah"
export BUILDAH_ISOLATION=chroot STORAGE_DRIVER=vfs
mkdir -p "$work/built"
cp /bin/busybox "$work/built/busybox"; printf 'built\n' > "$work/built/note"
store=(--root "$work/storage" --runroot "$work/run")
container=$("${root[@]}" buildah "${store[@]}" from scratch)
quietly "${root[@]}" buildah "${store[@]}" copy "$container" "$work/built/busybox" /bin/busybox
quietly "${root[@]}" buildah "${store[@]}" copy --chown 123:456 "$container" "$work/built/note" /srv/note
quietly "${root[@]}" buildah "${store[@]}" config --entrypoint '["/bin/busybox","echo","entry"]' --cmd 'from buildah' --env BUILT=yes --label maker=buildah "$container"
quietly "${root[@]}" buildah "${store[@]}" commit "$container" "oci-archive:$work/built.oci.tar:built"
"${root[@]}" chmod a+r "$work/built.oci.tar"
"${root[@]}" rm -rf "$work/storage" "$work/run" "$work/built"

say "what they should look like (umoci unpack)"
mkdir "$work/expected"
for image in busybox debian layers; do
  quietly "${root[@]}" umoci unpack --image "$work/$image:latest" "$work/unpacked"
  "${root[@]}" python3 tests/tree.py "$work/unpacked/rootfs" > "$work/expected/$image.jsonl"
  "${root[@]}" rm -rf "$work/unpacked"
done
rm -rf "$work/odd" "$work/log"
trap - EXIT
chmod 755 "$work"
mv -T "$work" "$out"
echo "$out"
