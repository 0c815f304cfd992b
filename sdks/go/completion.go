package boxlite

import (
	"fmt"
	"os"
	"sync"
	"syscall"

	"github.com/boxlite-ai/boxlite/sdks/go/internal/ffi"
)

// completions tells those who wait for operations of a client that theirs has ended.
//
// Everyone who waits is a goroutine on a channel. One more goroutine waits, in Go's own poller,
// until the client's completion descriptor is readable. So no thread and no call of C ever waits.
type completions struct {
	client uint64
	// A duplicate: the library closes its own.
	file    *os.File
	stopped chan struct{}

	mu sync.Mutex
	// nil once the client is freed.
	waiting map[uint64]chan struct{}
}

func newCompletions(client uint64) (*completions, error) {
	fd, failure := ffi.ClientCompletionFd(client)
	if failure != nil {
		return nil, fromC(failure)
	}
	duplicate, err := duplicateFd(fd)
	if err != nil {
		return nil, &Error{Code: CodeResourceExhausted, Message: err.Error(), Op: "client_new", causes: []error{err}}
	}
	file := os.NewFile(uintptr(duplicate), "boxlite completions")
	raw, err := file.SyscallConn()
	if err != nil {
		_ = file.Close()
		return nil, &Error{Code: CodeInternal, Message: err.Error(), Op: "client_new", causes: []error{err}}
	}
	c := &completions{
		client:  client,
		file:    file,
		stopped: make(chan struct{}),
		waiting: make(map[uint64]chan struct{}),
	}
	go c.run(raw)
	return c, nil
}

// run takes what has ended until the descriptor is closed. It never reads from the descriptor:
// the library does when the last completion is taken.
func (c *completions) run(raw syscall.RawConn) {
	defer close(c.stopped)
	_ = raw.Read(func(uintptr) bool {
		for {
			op, failure := ffi.ClientNextCompletion(c.client)
			if failure != nil {
				return true
			}
			if op == 0 {
				return false
			}
			c.announce(op)
		}
	})
}

func (c *completions) announce(op uint64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if ended, ok := c.waiting[op]; ok {
		delete(c.waiting, op)
		close(ended)
	}
}

// start starts an operation. Its channel is there before its completion can be taken.
func (c *completions) start(begin func(client uint64) (uint64, *ffi.Error)) (uint64, <-chan struct{}, *ffi.Error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.waiting == nil {
		return 0, nil, &ffi.Error{Code: ffi.Closed, Message: "the client is closed"}
	}
	op, failure := begin(c.client)
	if failure != nil {
		return 0, nil, failure
	}
	ended := make(chan struct{})
	c.waiting[op] = ended
	return op, ended, nil
}

// free stops the goroutine, frees the client and releases whoever still waits.
func (c *completions) free() {
	_ = c.file.Close()
	<-c.stopped
	ffi.ClientFree(c.client)
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, ended := range c.waiting {
		close(ended)
	}
	c.waiting = nil
}

// duplicateFd gives a descriptor of its own for the same file, close-on-exec.
func duplicateFd(fd int) (int, error) {
	duplicate, _, errno := syscall.Syscall(syscall.SYS_FCNTL, uintptr(fd), syscall.F_DUPFD_CLOEXEC, 0)
	if errno != 0 {
		return 0, fmt.Errorf("can't duplicate a descriptor: %w", errno)
	}
	return int(duplicate), nil
}
