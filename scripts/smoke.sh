#!/usr/bin/env bash
# A short end-to-end set against a built tree or an installed boxlite, with no compiler
# and no registry: scripts/smoke.sh [BOXLITE]. Needs busybox-static.
# Prints one line a check and what the machine runs on; exit status 1 if any check failed.
set -u
here=$(cd "$(dirname "$0")/.." && pwd)
boxlite="${1:-}"
[ -n "$boxlite" ] || { [ -x "$here/target/release/boxlite" ] && boxlite="$here/target/release/boxlite"; }
[ -n "$boxlite" ] || boxlite=$(command -v boxlite) || { echo "smoke: no boxlite in target/release or PATH" >&2; echo "  try: make" >&2; exit 1; }
work=$(mktemp -d); export BOXLITE_HOME="$work/home" NO_COLOR=1
trap '"$boxlite" rm -f smoke >/dev/null 2>&1; rm -rf "$work"' EXIT
passed=0 failed=0
check() { # name, expected, command…
  local name="$1" expected="$2" actual; shift 2
  actual=$("$@" 2>"$work/err"); local status=$?
  if [ "$actual/$status" = "$expected" ]; then echo "ok      $name"; passed=$((passed + 1))
  else echo "FAILED  $name: expected '$expected', got '$actual/$status'"; sed 's/^/        /' "$work/err"; failed=$((failed + 1)); fi
}

"$here/scripts/make-image.sh" "$work/image" || exit 1
check "load an image" "busybox:smoke/0" sh -c "'$boxlite' load oci:$work/image --tag busybox:smoke | grep -o busybox:smoke | head -n 1"
check "run a command" "hello from an OCI image/0" "$boxlite" run --rm --memory 256m busybox:smoke cat /etc/motd
check "exit status" "/7" "$boxlite" run --rm --memory 256m busybox:smoke sh -c 'exit 7'
check "stdin to stdout" "3000000/0" sh -c "head -c 3000000 /dev/zero | '$boxlite' run --rm -i --memory 256m busybox:smoke cat | wc -c"
mkdir "$work/volume"
check "a detached box" "/0" sh -c "'$boxlite' run -d --name smoke --memory 256m --cpus 2 -v '$work/volume:/data' -p 0:80 busybox:smoke sleep 10000 >/dev/null"
check "exec" "2/0" "$boxlite" exec smoke nproc
check "a volume" "from the box/0" sh -c "'$boxlite' exec smoke sh -c 'echo from the box > /data/file' && cat '$work/volume/file'"
check "copy out" "root/0" sh -c "'$boxlite' cp smoke:/etc/passwd - | tar -xOf - | head -n 1 | cut -d: -f1"
# shellcheck disable=SC2016 # the inner shell expands it
check "a published port" "served/0" sh -c '
  "$0" exec smoke sh -c "echo served > /tmp/index.html; httpd -p 80 -h /tmp"
  address=$("$0" port smoke | sed -n "s/^80\/tcp -> //p")
  busybox wget -q -O - "http://$address/"' "$boxlite"
check "stop and start keep the disk" "kept/0" sh -c "'$boxlite' exec smoke sh -c 'echo kept > /root/kept' && '$boxlite' stop -t 1 smoke >/dev/null && '$boxlite' start smoke >/dev/null && '$boxlite' exec smoke cat /root/kept"
check "remove" "/0" sh -c "'$boxlite' rm -f smoke >/dev/null && '$boxlite' ps -aq"
echo; "$boxlite" info; echo
echo "$passed passed, $failed failed"
[ "$failed" = 0 ]
