#!/usr/bin/env bash
# Makes a small OCI image layout from the distribution's static busybox, with nothing
# but tar and sha256sum: scripts/make-image.sh DIR [TAG]
set -euo pipefail
out="$1" tag="${2:-latest}"
busybox=/bin/busybox
[ -x "$busybox" ] && ! ldd "$busybox" >/dev/null 2>&1 || {
  echo "scripts/make-image.sh: no static busybox at $busybox" >&2
  echo "  try: apt-get install busybox-static" >&2
  exit 1
}
case "$(uname -m)" in x86_64) arch=amd64 ;; aarch64) arch=arm64 ;; *) arch=$(uname -m) ;; esac

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
root="$work/root"
mkdir -p "$root"/{bin,dev,etc,home,proc,root,run,sys,tmp,usr/bin,usr/sbin,sbin,var/tmp}
chmod 1777 "$root/tmp" "$root/var/tmp"; chmod 0700 "$root/root"
install -m 0755 "$busybox" "$root/bin/busybox"
for applet in $("$busybox" --list); do [ "$applet" = busybox ] || ln -s busybox "$root/bin/$applet"; done
printf 'root:x:0:0:root:/root:/bin/sh\nguest:x:1000:1000:a guest:/home:/bin/sh\nnobody:x:65534:65534:nobody:/:/bin/false\n' > "$root/etc/passwd"
printf 'root:x:0:\nguest:x:1000:\nnogroup:x:65534:\n' > "$root/etc/group"
printf 'hello from an OCI image\n' > "$root/etc/motd"

mkdir -p "$out/blobs/sha256"
blob() { local digest; digest=$(sha256sum "$1" | cut -d' ' -f1); cp "$1" "$out/blobs/sha256/$digest"; echo "$digest"; }
tar --create --directory="$root" --sort=name --owner=0 --group=0 --numeric-owner --mtime=@1700000000 . > "$work/layer.tar"
diff_id=$(sha256sum "$work/layer.tar" | cut -d' ' -f1)
gzip -n -6 "$work/layer.tar"
layer=$(blob "$work/layer.tar.gz"); layer_size=$(stat -c %s "$work/layer.tar.gz")
printf '{"architecture":"%s","os":"linux","created":"2023-11-14T22:13:20Z","config":{"Env":["PATH=/usr/sbin:/usr/bin:/sbin:/bin","GREETING=from the image"],"Cmd":["/bin/sh"],"WorkingDir":"/","Labels":{"org.example.kind":"demo"}},"rootfs":{"type":"layers","diff_ids":["sha256:%s"]}}' \
  "$arch" "$diff_id" > "$work/config.json"
config=$(blob "$work/config.json"); config_size=$(stat -c %s "$work/config.json")
printf '{"schemaVersion":2,"mediaType":"application/vnd.oci.image.manifest.v1+json","config":{"mediaType":"application/vnd.oci.image.config.v1+json","digest":"sha256:%s","size":%s},"layers":[{"mediaType":"application/vnd.oci.image.layer.v1.tar+gzip","digest":"sha256:%s","size":%s}]}' \
  "$config" "$config_size" "$layer" "$layer_size" > "$work/manifest.json"
manifest=$(blob "$work/manifest.json"); manifest_size=$(stat -c %s "$work/manifest.json")
printf '{"imageLayoutVersion":"1.0.0"}' > "$out/oci-layout"
printf '{"schemaVersion":2,"manifests":[{"mediaType":"application/vnd.oci.image.manifest.v1+json","digest":"sha256:%s","size":%s,"platform":{"architecture":"%s","os":"linux"},"annotations":{"org.opencontainers.image.ref.name":"%s"}}]}' \
  "$manifest" "$manifest_size" "$arch" "$tag" > "$out/index.json"
