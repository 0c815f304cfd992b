package boxlite

import (
	"context"
	"fmt"
	"log/slog"
	"runtime"
	"sync"
	"sync/atomic"

	"github.com/boxlite-ai/boxlite/sdks/go/internal/ffi"
)

// Client manages the boxes and images of one home directory.
//
// A program needs one, and several may use the same home, in one process or in many. Boxes that
// are not [BoxOptions.Detached] stop when the client that started them is closed, or when its
// process ends in whatever way.
//
// All methods may be called from any goroutine at any time. After [Client.Close] they give
// [ErrClosed], and so do those of everything that came from the client.
type Client struct {
	completions *completions
	logs        *logForwarder
	logger      *slog.Logger
	cleanup     runtime.Cleanup

	closed    atomic.Bool
	closeOnce sync.Once
	closeErr  error
}

// NewClient opens a home: it makes what is missing and mends what a killed process left behind.
// A host on which no box can be started is no error here; see [Client.Doctor].
func NewClient(options ...ClientOption) (*Client, error) {
	settings := clientSettings{}
	for _, option := range options {
		option.applyClient(&settings)
	}
	if has, want := ffi.ABIVersion(), ffi.HeaderABIVersion; has != want {
		return nil, &Error{
			Code:    CodeUnsupported,
			Op:      "client_new",
			Message: fmt.Sprintf("libboxlite %s has binary interface %d, and this program was built for %d", ffi.Version(), has, want),
			Hint:    "build with the libboxlite that belongs to this version of the module",
		}
	}
	text, err := encode("client_new", settings.wire)
	if err != nil {
		return nil, err
	}
	logger := settings.logger
	if logger == nil {
		logger = slog.New(slog.DiscardHandler)
	}
	logs, err := forwardLogs(settings.logger)
	if err != nil {
		return nil, err
	}
	handle, failure := ffi.ClientNew(text)
	if failure != nil {
		logs.stop()
		return nil, fromC(failure)
	}
	completions, err := newCompletions(handle)
	if err != nil {
		ffi.ClientFree(handle)
		logs.stop()
		return nil, err
	}
	client := &Client{completions: completions, logs: logs, logger: logger}
	if err := client.do(context.Background(), "client_open", ffi.ClientOpen, nil); err != nil {
		client.closed.Store(true)
		client.closeOnce.Do(client.release)
		return nil, err
	}
	client.cleanup = runtime.AddCleanup(client, func(forgotten forgottenClient) {
		forgotten.logger.Debug("boxlite: a client was forgotten without Close")
		// Waiting does not belong into the goroutine that all cleanups share.
		go func() {
			forgotten.completions.free()
			forgotten.logs.stop()
		}()
	}, forgottenClient{completions, logs, logger})
	return client, nil
}

type forgottenClient struct {
	completions *completions
	logs        *logForwarder
	logger      *slog.Logger
}

// Close stops the client's boxes that are not detached, kills the processes that it runs in other
// boxes, and returns when they are gone. Calls that are under way end with [ErrClosed].
//
// Closing again does nothing and gives the same answer.
func (c *Client) Close() error {
	c.closeOnce.Do(func() {
		c.cleanup.Stop()
		// Not by do, which refuses from here on.
		c.closed.Store(true)
		op, ended, failure := c.completions.start(ffi.ClientClose)
		if failure == nil {
			<-ended
			failure = ffi.OpWait(op)
			ffi.OpFree(op)
		}
		if failure != nil {
			c.closeErr = fromC(failure)
		}
		c.release()
	})
	return c.closeErr
}

func (c *Client) release() {
	c.completions.free()
	c.logs.stop()
}

// CreateBox makes a box, and pulls its image if the home does not have it. The box is not started.
//
// When ctx is done before it is made, a pull is stopped, and nothing is left of the box. Layers
// that are complete are kept for the next time.
func (c *Client) CreateBox(ctx context.Context, options BoxOptions, more ...CreateOption) (*Box, error) {
	var settings createSettings
	for _, option := range more {
		option.applyCreate(&settings)
	}
	text, err := encode("box_create", options.wire())
	if err != nil {
		return nil, err
	}
	handle, err := c.doHandle(ctx, "box_create", func(client uint64) (uint64, *ffi.Error) {
		return ffi.BoxCreate(client, text)
	}, settings.progress.watch())
	if err != nil {
		return nil, err
	}
	return newBox(c, handle)
}

// GetBox finds a box by its name, its id, or the beginning of its id. If there is none, the error
// matches [ErrNotFound].
func (c *Client) GetBox(ctx context.Context, idOrName string) (*Box, error) {
	handle, err := c.doHandle(ctx, "box_get", func(client uint64) (uint64, *ffi.Error) {
		return ffi.BoxGet(client, idOrName)
	}, nil)
	if err != nil {
		return nil, err
	}
	return newBox(c, handle)
}

// ListBoxes lists the boxes of the home, the newest first: all of them, also those that don't
// run, unless options say otherwise.
func (c *Client) ListBoxes(ctx context.Context, options ...ListOption) ([]BoxInfo, error) {
	filter := listFilter{All: true}
	for _, option := range options {
		option.applyList(&filter)
	}
	text, err := encode("box_list", filter)
	if err != nil {
		return nil, err
	}
	var boxes []BoxInfo
	err = c.doJSON(ctx, "box_list", func(client uint64) (uint64, *ffi.Error) {
		return ffi.BoxList(client, text)
	}, &boxes, nil)
	return boxes, err
}

// RemoveBox removes a box with its disk and its logs. One that runs is refused with
// [ErrInvalidState], unless [Force] is given.
func (c *Client) RemoveBox(ctx context.Context, idOrName string, options ...RemoveOption) error {
	var settings removeOptions
	for _, option := range options {
		option.applyRemove(&settings)
	}
	text, err := encode("box_remove", settings)
	if err != nil {
		return err
	}
	return c.do(ctx, "box_remove", func(client uint64) (uint64, *ffi.Error) {
		return ffi.BoxRemove(client, idOrName, text)
	}, nil)
}

// RenameBox gives a box another name. Handles that exist keep working; their [Box.Name] stays
// what it was when they were made.
func (c *Client) RenameBox(ctx context.Context, idOrName, name string) error {
	return c.do(ctx, "box_rename", func(client uint64) (uint64, *ffi.Error) {
		return ffi.BoxRename(client, idOrName, name)
	}, nil)
}

// Images gives the images of the home.
func (c *Client) Images() *Images { return &Images{client: c} }

// Info says what the client works with. A missing engine is part of the answer, not an error.
func (c *Client) Info(ctx context.Context) (*SystemInfo, error) {
	var info SystemInfo
	if err := c.doJSON(ctx, "client_info", ffi.ClientInfo, &info, nil); err != nil {
		return nil, err
	}
	return &info, nil
}

// Doctor checks everything that starting a box needs, and says how to mend what is missing.
func (c *Client) Doctor(ctx context.Context) (*DoctorReport, error) {
	var report DoctorReport
	if err := c.doJSON(ctx, "client_doctor", ffi.ClientDoctor, &report, nil); err != nil {
		return nil, err
	}
	return &report, nil
}

// DiskUsage says what the home takes of the host's disk.
func (c *Client) DiskUsage(ctx context.Context) (*DiskUsage, error) {
	var usage DiskUsage
	if err := c.doJSON(ctx, "client_disk_usage", ffi.ClientDiskUsage, &usage, nil); err != nil {
		return nil, err
	}
	return &usage, nil
}
