#!/usr/bin/env bash
# The SDK from outside: a module of somebody else's that imports it. Needs `make go`, and for the
# last step BOXLITE_TEST_FIXTURES.
set -euo pipefail
sdk=$(cd "$(dirname "$0")" && pwd)
work=$(mktemp -d)
trap 'chmod -R u+w "$work" 2>/dev/null; rm -rf "$work"' EXIT
cd "$work"
mkdir app && cd app
cat > main.go <<'GO'
package main

import (
	"context"
	"fmt"
	"log"
	"os"

	"github.com/boxlite-ai/boxlite/sdks/go"
)

func main() {
	ctx := context.Background()
	client, err := boxlite.NewClient()
	if err != nil {
		log.Fatalf("%+v", err)
	}
	defer client.Close()
	box, err := client.CreateBox(ctx, boxlite.BoxOptions{Image: os.Args[1], MemoryMiB: 128})
	if err != nil {
		log.Fatalf("%+v", err)
	}
	if err := box.Start(ctx); err != nil {
		log.Fatalf("%+v", err)
	}
	out, err := box.Command(ctx, "echo", "from a foreign module").Output()
	if err != nil {
		log.Fatalf("%+v", err)
	}
	fmt.Printf("%s", out)
}
GO
go mod init example.com/app 2> /dev/null
go mod edit -require=github.com/boxlite-ai/boxlite/sdks/go@v0.0.0 -replace="github.com/boxlite-ai/boxlite/sdks/go=$sdk"
export GOFLAGS=-mod=mod
go mod tidy 2> /dev/null
export GOFLAGS=-mod=readonly
echo "-- go build, go vet"
go build -o app . && go vet ./...
echo "-- go mod vendor, go build -mod=vendor"
GOFLAGS='' go mod vendor
GOFLAGS='' go build -mod=vendor -o app-vendored .
echo "-- without cgo it says why"
if CGO_ENABLED=0 GOFLAGS='' go build -o app-nocgo . 2> said; then
  echo "CGO_ENABLED=0 built something" >&2; exit 1
fi
cat said
# One sentence of ours, which names what to do.
[ "$(grep -c 'CGO_ENABLED' said)" = 1 ] || { echo "it is not said clearly" >&2; exit 1; }
echo "-- what the programs need of the system"
ldd app | awk '{ print $1 }'
if ldd app | grep -i -e boxlite -e krun; then echo "the library is not linked statically" >&2; exit 1; fi
objdump -T app | grep -o 'GLIBC_[0-9.]*' | sort -uV | tail -n 1
if [ -n "${BOXLITE_TEST_FIXTURES:-}" ]; then
  for program in app app-vendored; do
    echo "-- ./$program"
    out=$(env -u BOXLITE_BUNDLE_DIR BOXLITE_HOME="$work/home" "./$program" "oci:$BOXLITE_TEST_FIXTURES/busybox")
    [ "$out" = "from a foreign module" ] || { echo "it says: $out" >&2; exit 1; }
  done
fi
