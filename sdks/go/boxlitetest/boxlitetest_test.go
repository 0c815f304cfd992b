package boxlitetest_test

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"testing"

	"github.com/boxlite-ai/boxlite/sdks/go"
	"github.com/boxlite-ai/boxlite/sdks/go/boxlitetest"
)

func image(t *testing.T) string {
	t.Helper()
	folder := os.Getenv("BOXLITE_TEST_FIXTURES")
	if folder == "" {
		t.Skip("needs machines: set BOXLITE_TEST_FIXTURES (scripts/fixtures.sh prints it)")
	}
	t.Setenv("BOXLITE_HOME", t.TempDir())
	return "oci:" + filepath.Join(folder, "busybox")
}

func TestRunGivesABoxAndRemovesIt(t *testing.T) {
	image := image(t)
	var name string
	ran := t.Run("inner", func(t *testing.T) {
		box := boxlitetest.Run(t, image, boxlitetest.WithOptions(boxlite.BoxOptions{
			MemoryMiB: 128,
			Env:       map[string]string{"A": "b"},
		}))
		name = box.Name()
		out, err := box.Command(context.Background(), "sh", "-c", "echo $A").Output()
		if err != nil || string(out) != "b\n" {
			t.Errorf("got %q, %v", out, err)
		}
	})
	if !ran {
		t.Fatal("the box could not be used")
	}
	client, err := boxlite.NewClient()
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = client.Close() }()
	if _, err := client.GetBox(context.Background(), name); !errors.Is(err, boxlite.ErrNotFound) {
		t.Errorf("the box after the test: %v", err)
	}
}
