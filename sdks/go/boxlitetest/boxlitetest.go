/*
Package boxlitetest gives tests boxes of their own.

	func TestMigration(t *testing.T) {
		box := boxlitetest.Run(t, "postgres:17-alpine", boxlitetest.WithOptions(boxlite.BoxOptions{
			Env:             map[string]string{"POSTGRES_PASSWORD": "x"},
			RunImageCommand: true,
		}))
		...
	}

The box runs when Run returns, and is removed when the test has ended. All tests of a process
share one client, and with it the images. What a box of a failed test has written to its log is
put into the test's log.
*/
package boxlitetest

import (
	"bytes"
	"context"
	"sync"
	"testing"
	"time"

	"github.com/boxlite-ai/boxlite/sdks/go"
)

// startPatience bounds a pull and a start, and removalPatience a removal, so that a test binary
// ends by itself and says where it hung.
const (
	startPatience   = 10 * time.Minute
	removalPatience = time.Minute
)

// logTail is how many lines of a failed test's box are shown.
const logTail = 50

// Option changes what [Run] starts.
type Option func(*settings)

type settings struct {
	options boxlite.BoxOptions
	client  *boxlite.Client
}

// WithOptions gives the box these options; the image of [Run] is put into them.
func WithOptions(options boxlite.BoxOptions) Option {
	return func(s *settings) { s.options = options }
}

// WithClient uses this client instead of the one that all tests share.
func WithClient(client *boxlite.Client) Option {
	return func(s *settings) { s.client = client }
}

var shared struct {
	sync.Mutex
	client *boxlite.Client
	users  int
}

// acquire gives the client of all tests, which lives as long as one of them uses it.
func acquire() (*boxlite.Client, error) {
	shared.Lock()
	defer shared.Unlock()
	if shared.client == nil {
		client, err := boxlite.NewClient()
		if err != nil {
			return nil, err
		}
		shared.client = client
	}
	shared.users++
	return shared.client, nil
}

func release() error {
	shared.Lock()
	defer shared.Unlock()
	if shared.users--; shared.users > 0 {
		return nil
	}
	client := shared.client
	shared.client = nil
	return client.Close()
}

// Run starts a box of an image, a reference or a local form such as "oci:dir", and gives it when
// it runs. When the test has ended the box is removed, whatever state it is in. If it can't be
// started the test fails at once, and says why and what to do.
func Run(t testing.TB, image string, options ...Option) *boxlite.Box {
	t.Helper()
	var s settings
	for _, option := range options {
		option(&s)
	}
	s.options.Image = image
	client := s.client
	if client == nil {
		common, err := acquire()
		if err != nil {
			t.Fatalf("boxlitetest: %+v", err)
		}
		t.Cleanup(func() {
			if err := release(); err != nil {
				t.Errorf("boxlitetest: closing the client: %+v", err)
			}
		})
		client = common
	}
	ctx, cancel := context.WithTimeout(context.Background(), startPatience)
	defer cancel()
	box, err := client.CreateBox(ctx, s.options)
	if err != nil {
		t.Fatalf("boxlitetest: %+v", err)
	}
	t.Cleanup(func() { remove(t, box) })
	if err := box.Start(ctx); err != nil {
		t.Fatalf("boxlitetest: %+v", err)
	}
	return box
}

func remove(t testing.TB, box *boxlite.Box) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), removalPatience)
	defer cancel()
	if t.Failed() {
		var text bytes.Buffer
		if err := box.CopyLogs(ctx, &text, &text, boxlite.Tail(logTail)); err == nil && text.Len() > 0 {
			t.Logf("the log of box %s ends with:\n%s", box.Name(), &text)
		}
	}
	if err := box.Remove(ctx, boxlite.Force()); err != nil {
		t.Errorf("boxlitetest: removing box %s: %+v", box.Name(), err)
	}
	if err := box.Close(); err != nil {
		t.Errorf("boxlitetest: %+v", err)
	}
}
