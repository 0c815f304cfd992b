package boxlite_test

import (
	"context"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/boxlite-ai/boxlite/sdks/go"
)

// patience is more than anything takes that a test waits for, however slow the host.
const patience = 2 * time.Minute

// What the tests that need machines share: starting one takes seconds under emulation.
var shared struct {
	once   sync.Once
	home   string
	client *boxlite.Client
	box    *boxlite.Box
	err    error
}

func TestMain(m *testing.M) {
	if role := os.Getenv("BOXLITE_TEST_ROLE"); role != "" {
		os.Exit(play(role))
	}
	flag.Parse()
	if os.Getenv("BOXLITE_TEST_FIXTURES") == "" && flag.Lookup("test.run").Value.String() == "" {
		// Examples can't be skipped one by one, and all of them need machines.
		_ = flag.Set("test.run", "^Test")
	}
	// The library's own threads and descriptors come with its first use, and stay.
	if err := warmUp(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	descriptors := openDescriptors()
	code := m.Run()
	if shared.client != nil {
		if err := shared.client.Close(); err != nil {
			fmt.Fprintln(os.Stderr, "closing the shared client:", err)
			code = 1
		}
		_ = os.RemoveAll(shared.home)
	}
	if code == 0 {
		code = findLeaks(descriptors)
	}
	os.Exit(code)
}

func warmUp() error {
	home, err := os.MkdirTemp("", "boxlite-warm-up-")
	if err != nil {
		return err
	}
	defer func() { _ = os.RemoveAll(home) }()
	client, err := boxlite.NewClient(boxlite.WithHome(home))
	if err != nil {
		return fmt.Errorf("warming up: %w", err)
	}
	if _, err := client.Info(context.Background()); err != nil {
		return fmt.Errorf("warming up: %w", err)
	}
	return client.Close()
}

func findLeaks(before map[string]int) int {
	code := 0
	if err := goleak.Find(); err != nil {
		fmt.Fprintln(os.Stderr, "goroutines are left:", err)
		code = 1
	}
	var after map[string]int
	for range 50 {
		after = openDescriptors()
		if total(after) <= total(before) {
			return code
		}
		time.Sleep(100 * time.Millisecond)
	}
	fmt.Fprintf(os.Stderr, "descriptors are left:\nbefore %v\nafter  %v\n", before, after)
	return 1
}

// openDescriptors counts them by what they are.
func openDescriptors() map[string]int {
	entries, _ := os.ReadDir("/proc/self/fd")
	found := make(map[string]int)
	for _, entry := range entries {
		target, err := os.Readlink("/proc/self/fd/" + entry.Name())
		if err != nil {
			continue
		}
		if kind, _, ok := strings.Cut(target, ":["); ok {
			target = kind
		}
		found[target]++
	}
	return found
}

func total(counts map[string]int) int {
	sum := 0
	for _, count := range counts {
		sum += count
	}
	return sum
}

// fixtures gives the folder of test images, or skips the test where no machine can be started.
func fixtures(t testing.TB) string {
	t.Helper()
	folder := os.Getenv("BOXLITE_TEST_FIXTURES")
	if folder == "" || os.Getenv("BOXLITE_BUNDLE_DIR") == "" {
		const message = "needs machines: set BOXLITE_TEST_FIXTURES (scripts/fixtures.sh prints it) and BOXLITE_BUNDLE_DIR (target/bundle)"
		if os.Getenv("BOXLITE_TEST_MACHINES") == "1" {
			t.Fatal(message)
		}
		t.Skip(message)
	}
	return folder
}

func busybox(t testing.TB) string { return "oci:" + filepath.Join(fixtures(t), "busybox") }

// options for a small box.
func options(t testing.TB) boxlite.BoxOptions {
	return boxlite.BoxOptions{Image: busybox(t), MemoryMiB: 128, DiskMiB: 64}
}

// newClient gives a client with a home of its own.
func newClient(t testing.TB, options ...boxlite.ClientOption) *boxlite.Client {
	t.Helper()
	client, err := boxlite.NewClient(append([]boxlite.ClientOption{boxlite.WithHome(t.TempDir())}, options...)...)
	if err != nil {
		t.Fatalf("%+v", err)
	}
	t.Cleanup(func() { _ = client.Close() })
	return client
}

// sharedClient gives the client of all tests that don't mind others.
func sharedClient(t testing.TB) *boxlite.Client {
	t.Helper()
	image := busybox(t)
	shared.once.Do(func() {
		if shared.home, shared.err = os.MkdirTemp("", "boxlite-shared-"); shared.err != nil {
			return
		}
		if shared.client, shared.err = boxlite.NewClient(boxlite.WithHome(shared.home)); shared.err != nil {
			return
		}
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		defer cancel()
		shared.box, shared.err = shared.client.CreateBox(ctx, boxlite.BoxOptions{Image: image, MemoryMiB: 384, DiskMiB: 256, CPUs: 2})
		if shared.err == nil {
			shared.err = shared.box.Start(ctx)
		}
	})
	if shared.err != nil {
		t.Fatalf("%+v", shared.err)
	}
	return shared.client
}

// sharedBox gives a box of busybox that runs.
func sharedBox(t testing.TB) *boxlite.Box {
	t.Helper()
	sharedClient(t)
	return shared.box
}

// within gives a context for a test.
func within(t testing.TB) context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	t.Cleanup(cancel)
	return ctx
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatalf("%+v", err)
	}
}

// startBox makes a box and starts it; it is gone after the test.
func startBox(t testing.TB, client *boxlite.Client, options boxlite.BoxOptions) *boxlite.Box {
	t.Helper()
	ctx := within(t)
	box := createBox(t, client, options)
	must(t, box.Start(ctx))
	return box
}

func createBox(t testing.TB, client *boxlite.Client, options boxlite.BoxOptions) *boxlite.Box {
	t.Helper()
	box, err := client.CreateBox(within(t), options)
	must(t, err)
	t.Cleanup(func() {
		_ = box.Remove(context.Background(), boxlite.Force())
		_ = box.Close()
	})
	return box
}

// sh runs a script in a box and gives what it writes.
func sh(t testing.TB, box *boxlite.Box, script string) string {
	t.Helper()
	out, err := box.Command(within(t), "sh", "-c", script).Output()
	if err != nil {
		t.Fatalf("%s: %v", script, err)
	}
	return strings.TrimRight(string(out), "\n")
}

// eventually waits until something holds.
func eventually(t testing.TB, what string, holds func() bool) {
	t.Helper()
	for end := time.Now().Add(patience); ; time.Sleep(50 * time.Millisecond) {
		if holds() {
			return
		}
		if time.Now().After(end) {
			t.Fatal("never happened:", what)
		}
	}
}
