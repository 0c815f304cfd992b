// Package testing shows tests that need a machine.
//
//	BOXLITE_EXAMPLE_IMAGE=alpine:3.20 go test ./examples/testing
package testing

import (
	"context"
	"os"
	"strings"
	"testing"

	"github.com/boxlite-ai/boxlite/sdks/go"
	"github.com/boxlite-ai/boxlite/sdks/go/boxlitetest"
)

// install is the program under test: it changes a system in ways that nobody wants on their own.
const install = `
set -e
echo "service:x:990:990::/var/lib/service:/bin/false" >> /etc/passwd
mkdir -p /etc/service
echo "user=service" > /etc/service/config
chown -R service /etc/service
`

func TestInstallationMakesAUser(t *testing.T) {
	image := os.Getenv("BOXLITE_EXAMPLE_IMAGE")
	if image == "" {
		t.Skip("set BOXLITE_EXAMPLE_IMAGE to an image with busybox, such as alpine:3.20")
	}
	box := boxlitetest.Run(t, image, boxlitetest.WithOptions(boxlite.BoxOptions{MemoryMiB: 128}))
	ctx := context.Background()
	if err := box.WriteFile(ctx, "/tmp/install.sh", []byte(install), 0o755); err != nil {
		t.Fatal(err)
	}
	if out, err := box.Command(ctx, "sh", "/tmp/install.sh").CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	config, err := box.ReadFile(ctx, "/etc/service/config")
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(string(config), "user=service") {
		t.Errorf("the configuration is %q", config)
	}
}
