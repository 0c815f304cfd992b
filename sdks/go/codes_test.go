package boxlite_test

import (
	"context"
	"errors"
	"net"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/boxlite-ai/boxlite/sdks/go"
)

// Each code and each sentinel is met in a real failure.
func TestCodesAreProvoked(t *testing.T) {
	client := sharedClient(t)
	settings := options(t)
	settings.Name = "codes"
	box := createBox(t, client, settings)
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	defer func() { _ = taken.Close() }()
	damaged := filepath.Join(t.TempDir(), "damaged.tar")
	must(t, os.WriteFile(damaged, []byte("no archive at all"), 0o600))
	done, cancel := context.WithCancel(context.Background())
	cancel()
	create := func(change func(*boxlite.BoxOptions)) error {
		o := options(t)
		change(&o)
		made, err := client.CreateBox(within(t), o)
		if err != nil {
			return err
		}
		defer func() { _ = made.Remove(context.Background(), boxlite.Force()) }()
		return made.Start(within(t))
	}
	for _, c := range []struct {
		code     boxlite.Code
		sentinel error
		provoke  func() error
	}{
		{boxlite.CodeNotFound, boxlite.ErrNotFound, func() error {
			_, err := client.GetBox(within(t), "no-such-box")
			return err
		}},
		{boxlite.CodeAlreadyExists, boxlite.ErrAlreadyExists, func() error {
			return create(func(o *boxlite.BoxOptions) { o.Name = "codes" })
		}},
		{boxlite.CodeInvalidState, boxlite.ErrInvalidState, func() error {
			return box.Command(within(t), "true").Run()
		}},
		{boxlite.CodeInvalidArgument, boxlite.ErrInvalidArgument, func() error {
			return create(func(o *boxlite.BoxOptions) { o.MemoryMiB = 1 })
		}},
		{boxlite.CodeUnsupported, boxlite.ErrUnsupported, func() error {
			return create(func(o *boxlite.BoxOptions) { o.Engine = boxlite.EngineKrun })
		}},
		{boxlite.CodeClosed, boxlite.ErrClosed, func() error {
			other, err := client.GetBox(within(t), "codes")
			must(t, err)
			must(t, other.Close())
			return other.Start(within(t))
		}},
		{boxlite.CodeResourceExhausted, boxlite.ErrResourceExhausted, func() error {
			port := uint16(taken.Addr().(*net.TCPAddr).Port) //nolint:gosec // a port
			return create(func(o *boxlite.BoxOptions) { o.Ports = []boxlite.Port{{Host: port, Guest: 80}} })
		}},
		{boxlite.CodeImage, boxlite.ErrImage, func() error {
			return create(func(o *boxlite.BoxOptions) { o.Image = "docker-archive:" + damaged })
		}},
		{boxlite.CodeTimeout, boxlite.ErrTimeout, func() error {
			return create(func(o *boxlite.BoxOptions) { o.StartTimeout, o.Start = time.Millisecond, boxlite.StartCold })
		}},
		{boxlite.CodeCancelled, context.Canceled, func() error { return box.Start(done) }},
	} {
		t.Run(string(c.code), func(t *testing.T) {
			err := c.provoke()
			var known *boxlite.Error
			if !errors.As(err, &known) || known.Code != c.code || !errors.Is(err, c.sentinel) {
				t.Fatalf("got %+v", err)
			}
			if known.Message == "" || known.Op == "" {
				t.Errorf("it says little: %+v", known)
			}
		})
	}
}

func TestAnEngineThatFails(t *testing.T) {
	folder := t.TempDir()
	broken := filepath.Join(folder, "qemu-system-x86_64")
	must(t, os.WriteFile(broken, []byte("#!/bin/sh\necho no machine today >&2\nexit 1\n"), 0o755)) //nolint:gosec // a program
	t.Setenv("BOXLITE_QEMU", broken)
	client := newClient(t)
	box := createBox(t, client, options(t))
	err := box.Start(within(t))
	var known *boxlite.Error
	if !errors.As(err, &known) || known.Hint == "" || (!errors.Is(err, boxlite.ErrEngine) && !errors.Is(err, boxlite.ErrUnsupported)) {
		t.Errorf("got %+v", err)
	}
}
