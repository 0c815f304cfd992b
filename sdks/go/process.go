package boxlite

import (
	"context"
	"errors"
	"io"
	"os"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"time"
	"unicode/utf8"

	"github.com/boxlite-ai/boxlite/sdks/go/internal/ffi"
)

// cmdKind is what a Cmd's Start does.
type cmdKind int

const (
	kindExec cmdKind = iota
	kindAttach
	kindAttachStart
)

// errDetached is how waiting ends for who has detached.
var errDetached = errors.New("boxlite: detached")

// process is a handle of an execution.
type process struct {
	client *Client
	exec   uint64
	pid    int
	freed  chan struct{}

	freeOnce sync.Once
	// cancel ends wait.
	waiting context.Context //nolint:containedctx // lives as long as the handle
	cancel  context.CancelCauseFunc
}

func newProcess(client *Client, exec uint64) *process {
	p := &process{client: client, exec: exec, freed: make(chan struct{})}
	p.waiting, p.cancel = context.WithCancelCause(context.Background())
	return p
}

// free lets go of the handle.
func (p *process) free() {
	p.freeOnce.Do(func() {
		close(p.freed)
		p.cancel(errDetached)
		ffi.ExecFree(p.exec)
	})
}

func (p *process) wait() (ExitStatus, error) {
	var status ExitStatus
	err := p.client.doJSON(p.waiting, "exec_wait", func(uint64) (uint64, *ffi.Error) {
		return ffi.ExecWait(p.exec)
	}, &status, nil)
	return status, err
}

// detach ends wait, once drained is called.
func (p *process) detach(drain func()) error {
	select {
	case <-p.freed:
		return os.ErrProcessDone
	default:
	}
	p.cancel(errDetached)
	drain()
	return nil
}

func (p *process) signal(number syscall.Signal) error {
	return p.done(p.client.do(context.Background(), "exec_signal", func(uint64) (uint64, *ffi.Error) {
		return ffi.ExecSignal(p.exec, int32(number)) //nolint:gosec // signals are small numbers
	}, nil))
}

func (p *process) resize(rows, columns uint16) error {
	return p.done(p.client.do(context.Background(), "exec_resize", func(uint64) (uint64, *ffi.Error) {
		return ffi.ExecResize(p.exec, rows, columns)
	}, nil))
}

// done gives the error that os/exec has for a process that has ended.
func (p *process) done(err error) error {
	if err != nil && errors.Is(err, ErrInvalidState) {
		return os.ErrProcessDone
	}
	return err
}

// wireExec is what a process is started with.
type wireExec struct {
	Command    []string          `json:"command"`
	Env        map[string]string `json:"env,omitempty"`
	WorkingDir string            `json:"working_dir,omitempty"`
	User       string            `json:"user,omitempty"`
	TTY        bool              `json:"tty,omitempty"`
	Detached   bool              `json:"detached,omitempty"`
	// How long others may hold the outputs after the process's end.
	OutputGraceMs uint64 `json:"output_grace_ms,omitempty"`
	wireStreams
}

// wireStreams is also what is attached with.
type wireStreams struct {
	Stdin   bool   `json:"stdin,omitempty"`
	Stdout  string `json:"stdout,omitempty"`
	Stderr  string `json:"stderr,omitempty"`
	Rows    uint16 `json:"rows,omitempty"`
	Columns uint16 `json:"columns,omitempty"`
}

// graceMs is a delay in milliseconds; less than one is the least that is not without bound.
func graceMs(delay time.Duration) uint64 {
	if delay <= 0 {
		return 0
	}
	return max(1, uint64(delay.Milliseconds())) //nolint:gosec // not negative
}

// sameWriter is == for writers of which the types may not allow it.
func sameWriter(a, b io.Writer) (same bool) {
	defer func() { _ = recover() }()
	return a == b
}

// streams says which streams are wanted.
func (c *Cmd) streams() (wireStreams, error) {
	wire := wireStreams{
		Stdin:   c.Stdin != nil || c.stdinPipe != nil,
		Stdout:  "null",
		Stderr:  "null",
		Rows:    c.Size.Rows,
		Columns: c.Size.Columns,
	}
	if c.Stdout != nil || c.stdoutPipe != nil {
		wire.Stdout = "pipe"
	}
	shared := c.Stderr != nil && c.Stdout != nil && sameWriter(c.Stdout, c.Stderr)
	switch {
	case c.TTY:
		if c.stderrPipe != nil || c.Stderr != nil && !shared {
			return wire, errors.New("boxlite: with TTY, standard error comes by Stdout")
		}
		// A terminal that nobody reads from would hold the process up.
		wire.Stdout, wire.Stderr = "pipe", ""
	case shared:
		wire.Stderr = "stdout"
	case c.Stderr != nil || c.stderrPipe != nil:
		wire.Stderr = "pipe"
	}
	return wire, nil
}

// launch starts the process and connects its streams.
func (c *Cmd) launch() error {
	op := map[cmdKind]string{kindExec: "exec_start", kindAttach: "box_attach", kindAttachStart: "box_start_attached"}[c.kind]
	if c.kind != kindExec {
		info, err := c.box.Info(c.ctx)
		if err != nil {
			return err
		}
		c.TTY = info.TTY
	}
	streams, err := c.streams()
	if err != nil {
		return err
	}
	var options any = streams
	if c.kind == kindExec {
		wire := wireExec{
			Command: []string{c.Path}, WorkingDir: c.Dir, User: c.User, TTY: c.TTY, Detached: c.Detached,
			OutputGraceMs: graceMs(c.WaitDelay), wireStreams: streams,
		}
		if len(c.Args) > 1 {
			wire.Command = append(wire.Command, c.Args[1:]...)
		}
		if wire.Env, err = environment(op, c.Env); err != nil {
			return err
		}
		options = wire
	}
	text, err := encode(op, options)
	if err != nil {
		return err
	}
	exec, err := c.box.doHandle(c.ctx, op, func(box uint64) (uint64, *ffi.Error) {
		switch c.kind {
		case kindAttach:
			return ffi.BoxAttach(box, text)
		case kindAttachStart:
			return ffi.BoxStartAttached(box, text)
		default:
			return ffi.ExecStart(box, text)
		}
	})
	if err != nil {
		return err
	}
	p := newProcess(c.box.client, exec)
	if err := c.connect(p, streams); err != nil {
		p.free()
		return err
	}
	c.process.Store(p)
	return nil
}

func environment(op string, entries []string) (map[string]string, error) {
	if len(entries) == 0 {
		return nil, nil
	}
	env := make(map[string]string, len(entries))
	for _, entry := range entries {
		key, value, found := strings.Cut(entry, "=")
		if !found || key == "" {
			return nil, argumentError(op, "%q in Env is not KEY=value", entry)
		}
		if !utf8.ValidString(key) {
			return nil, argumentError(op, "%q in Env is not valid UTF-8", key)
		}
		env[key] = value
	}
	return env, nil
}

// connect takes the streams and prepares the goroutines that copy. These must not hold on to the
// Cmd, or it could not be forgotten.
func (c *Cmd) connect(p *process, streams wireStreams) error {
	pid, failure := ffi.ExecPid(p.exec)
	if failure != nil {
		return c.box.client.failed(c.ctx, "exec_pid", failure)
	}
	p.pid = pid
	var stdin, stdout, stderr *os.File
	for _, stream := range []struct {
		wanted bool
		take   func(uint64) (int, *ffi.Error)
		name   string
		file   **os.File
	}{
		{streams.Stdin, ffi.ExecStdinFd, "stdin", &stdin},
		{streams.Stdout == "pipe", ffi.ExecStdoutFd, "stdout", &stdout},
		{streams.Stderr == "pipe", ffi.ExecStderrFd, "stderr", &stderr},
	} {
		if !stream.wanted {
			continue
		}
		fd, failure := stream.take(p.exec)
		if failure != nil {
			return c.box.client.failed(c.ctx, "exec_"+stream.name+"_fd", failure)
		}
		file, err := fileOf(fd, stream.name+" of "+c.String())
		if err != nil {
			return err
		}
		*stream.file = file
		c.parentPipes = append(c.parentPipes, file)
	}
	if stdin != nil {
		input := &processInput{file: stdin, exec: p.exec, tty: c.TTY}
		if c.stdinPipe != nil {
			c.stdinPipe.open(input)
		} else {
			source := c.Stdin
			c.goroutines = append(c.goroutines, func() error { return feed(input, source) })
		}
	}
	c.connectOutput(stdout, c.stdoutPipe, c.Stdout)
	c.connectOutput(stderr, c.stderrPipe, c.Stderr)
	return nil
}

func (c *Cmd) connectOutput(file *os.File, pipe *outputPipe, writer io.Writer) {
	switch {
	case file == nil:
	case pipe != nil:
		pipe.open(file)
	default:
		if writer == nil {
			writer = io.Discard
		}
		c.goroutines = append(c.goroutines, func() error {
			_, err := io.Copy(writer, file)
			// So that a process that writes on does not wait for a writer that has failed.
			_ = file.Close()
			return err
		})
	}
}

// feed copies a process's input. That the process did not want all of it is no error.
func feed(input *processInput, source io.Reader) error {
	_, err := io.Copy(input, source)
	if errors.Is(err, syscall.EPIPE) || errors.Is(err, syscall.ECONNRESET) {
		err = nil
	}
	if closeErr := input.Close(); err == nil && !errors.Is(closeErr, os.ErrClosed) {
		err = closeErr
	}
	return err
}

// processInput is the descriptor of a standard input.
type processInput struct {
	file *os.File
	exec uint64
	tty  bool
}

func (i *processInput) Write(p []byte) (int, error) { return i.file.Write(p) }

// ReadFrom lets the file choose how to copy.
func (i *processInput) ReadFrom(source io.Reader) (int64, error) { return i.file.ReadFrom(source) }

// Close ends the input. A terminal's descriptor shares its socket with the output, so there
// closing does not say it.
func (i *processInput) Close() error {
	if i.tty {
		_ = ffi.ExecStdinClose(i.exec)
	}
	err := i.file.Close()
	runtime.KeepAlive(i)
	return err
}

func closeAll(closers []io.Closer) {
	for _, closer := range closers {
		_ = closer.Close()
	}
}
