package boxlite

import (
	"context"
	"errors"
	"log/slog"
	"runtime"
	"sync/atomic"
	"syscall"

	"github.com/boxlite-ai/boxlite/sdks/go/internal/ffi"
)

// Box is a handle of a box: a virtual machine with its disk and configuration. The box itself
// lives in the home, and any number of handles, in any number of processes, can name it.
//
// All methods may be called from any goroutine at any time.
type Box struct {
	client  *Client
	handle  uint64
	id      string
	name    string
	closed  atomic.Bool
	cleanup runtime.Cleanup
}

func newBox(client *Client, handle uint64) (*Box, error) {
	id, failure := ffi.BoxID(handle)
	if failure == nil {
		var name string
		if name, failure = ffi.BoxName(handle); failure == nil {
			box := &Box{client: client, handle: handle, id: id, name: name}
			box.cleanup = runtime.AddCleanup(box, func(forgotten forgottenBox) {
				forgotten.logger.Debug("boxlite: the handle of a box was forgotten without Close", "box", forgotten.name)
				ffi.BoxFree(forgotten.handle)
			}, forgottenBox{handle, name, client.logger})
			return box, nil
		}
	}
	ffi.BoxFree(handle)
	return nil, client.failed(context.Background(), "box_get", failure)
}

type forgottenBox struct {
	handle uint64
	name   string
	logger *slog.Logger
}

// ID is the box's id, 32 hexadecimal digits.
func (b *Box) ID() string { return b.id }

// Name is the box's name when the handle was made.
func (b *Box) Name() string { return b.name }

// Close lets go of the handle. Nothing happens to the box. Closing again does nothing.
func (b *Box) Close() error {
	if b.closed.CompareAndSwap(false, true) {
		b.cleanup.Stop()
		ffi.BoxFree(b.handle)
	}
	return nil
}

// begin is what an operation on the box starts with.
func (b *Box) begin(begin func(box uint64) (uint64, *ffi.Error)) func(uint64) (uint64, *ffi.Error) {
	return func(uint64) (uint64, *ffi.Error) { return begin(b.handle) }
}

// check refuses a closed handle.
func (b *Box) check(op string) error {
	if b.closed.Load() {
		return closedError(op, "handle of box "+b.name)
	}
	return nil
}

// explain makes the error of a call that met Close one that says so.
func (b *Box) explain(op string, err error) error {
	if err != nil && errors.Is(err, ErrInvalidState) && b.closed.Load() {
		return closedError(op, "handle of box "+b.name)
	}
	return err
}

func (b *Box) do(ctx context.Context, op string, begin func(box uint64) (uint64, *ffi.Error)) error {
	defer runtime.KeepAlive(b)
	if err := b.check(op); err != nil {
		return err
	}
	return b.explain(op, b.client.do(ctx, op, b.begin(begin), nil))
}

func (b *Box) doJSON(ctx context.Context, op string, begin func(box uint64) (uint64, *ffi.Error), result any) error {
	defer runtime.KeepAlive(b)
	if err := b.check(op); err != nil {
		return err
	}
	return b.explain(op, b.client.doJSON(ctx, op, b.begin(begin), result, nil))
}

func (b *Box) doHandle(ctx context.Context, op string, begin func(box uint64) (uint64, *ffi.Error)) (uint64, error) {
	defer runtime.KeepAlive(b)
	if err := b.check(op); err != nil {
		return 0, err
	}
	handle, err := b.client.doHandle(ctx, op, b.begin(begin), nil)
	return handle, b.explain(op, err)
}

// Start starts the machine and, if the box has one, its main process. It returns when both run.
// When ctx is done first, the attempt is ended.
func (b *Box) Start(ctx context.Context) error {
	return b.do(ctx, "box_start", ffi.BoxStart)
}

// Stop stops the box in order: it sends the stop signal, waits, kills what is left, and powers
// the machine off. The handle stays valid: Start starts the box again, with its disk as it was.
// Stopping a box that does not run does nothing.
func (b *Box) Stop(ctx context.Context, options ...StopOption) error {
	text, err := encodeStop("box_stop", options)
	if err != nil {
		return err
	}
	return b.do(ctx, "box_stop", func(box uint64) (uint64, *ffi.Error) { return ffi.BoxStop(box, text) })
}

// Restart stops the box if it runs, and starts it.
func (b *Box) Restart(ctx context.Context, options ...StopOption) error {
	text, err := encodeStop("box_restart", options)
	if err != nil {
		return err
	}
	return b.do(ctx, "box_restart", func(box uint64) (uint64, *ffi.Error) { return ffi.BoxRestart(box, text) })
}

func encodeStop(op string, options []StopOption) (string, error) {
	var settings stopOptions
	for _, option := range options {
		option.applyStop(&settings)
	}
	return encode(op, settings)
}

// Kill ends the box at once, as [Box.Signal] with SIGKILL does.
func (b *Box) Kill(ctx context.Context) error { return b.Signal(ctx, syscall.SIGKILL) }

// Signal sends a signal to the main process. SIGKILL ends the box, and so does any fatal signal
// to a box without a main process.
func (b *Box) Signal(ctx context.Context, signal syscall.Signal) error {
	return b.do(ctx, "box_kill", func(box uint64) (uint64, *ffi.Error) {
		return ffi.BoxKill(box, int32(signal)) //nolint:gosec // signals are small numbers
	})
}

// Pause stands the box still: its processes, its timers and its network. Its memory stays in
// use. Stop, Kill and removing work on a paused box; everything else that the guest would
// answer is refused with [ErrInvalidState].
func (b *Box) Pause(ctx context.Context) error {
	return b.do(ctx, "box_pause", ffi.BoxPause)
}

// Unpause lets a paused box go on. Its wall clock is the host's again; its monotonic clock
// goes on where it stood.
func (b *Box) Unpause(ctx context.Context) error {
	return b.do(ctx, "box_unpause", ffi.BoxUnpause)
}

// Wait waits until the box has ended, whoever started it, and says how its main process ended.
func (b *Box) Wait(ctx context.Context) (ExitStatus, error) {
	var status ExitStatus
	err := b.doJSON(ctx, "box_wait", ffi.BoxWait, &status)
	return status, err
}

// Info says everything about the box, as it is now.
func (b *Box) Info(ctx context.Context) (BoxInfo, error) {
	var info BoxInfo
	err := b.doJSON(ctx, "box_info", ffi.BoxInfo, &info)
	return info, err
}

// Processes lists the processes in the box.
func (b *Box) Processes(ctx context.Context) ([]ProcessInfo, error) {
	var processes []ProcessInfo
	err := b.doJSON(ctx, "box_processes", ffi.BoxProcesses, &processes)
	return processes, err
}

// Rename gives the box another name. [Box.Name] stays what it was when the handle was made.
func (b *Box) Rename(ctx context.Context, name string) error {
	if err := b.check("box_rename"); err != nil {
		return err
	}
	return b.client.RenameBox(ctx, b.id, name)
}

// Remove removes the box, as [Client.RemoveBox] does. The handle remains to be closed.
func (b *Box) Remove(ctx context.Context, options ...RemoveOption) error {
	if err := b.check("box_remove"); err != nil {
		return err
	}
	return b.client.RemoveBox(ctx, b.id, options...)
}
