package boxlite

import (
	"bytes"
	"context"
	"errors"
	"io"
	"log/slog"
	"os"
	"runtime"
	"strings"
	"sync/atomic"
	"syscall"
	"time"
)

// Cmd is a process in a box: prepared by [Box.Command], and then used as the Cmd of os/exec.
// A Cmd can't be used again after its Start, Run, Output or CombinedOutput.
type Cmd struct {
	// Path is the program. One without a slash is looked up in the box's PATH.
	Path string

	// Args are the arguments, the name of the program first. As in os/exec, that first one is
	// there for people: what runs is Path.
	Args []string

	// Env is "KEY=value", laid over the box's own environment; of several values for a key the
	// last counts.
	Env []string

	// Dir is the working directory, which must exist. Empty: the box's.
	Dir string

	// User is "name", "uid", "name:group" or "uid:gid", looked up in the box. Empty: the box's.
	User string

	// Stdin is the process's standard input. Nil: /dev/null. It is copied by a goroutine; Wait
	// does not return until that has stopped, because it reached the end of Stdin, failed to
	// write, or WaitDelay has passed.
	Stdin io.Reader

	// Stdout and Stderr are what the process writes to. Nil: its output is discarded, in the
	// box. If both are the same and comparable by ==, at most one goroutine at a time calls
	// Write, and what the process writes stays in its order.
	Stdout io.Writer
	Stderr io.Writer

	// TTY gives the process a terminal of this Size. Everything it writes then comes by Stdout:
	// Stderr must be nil or the same.
	TTY  bool
	Size TerminalSize

	// Detached lets the process live on when the Cmd is released or forgotten, or the client is
	// closed before its end.
	Detached bool

	// Cancel is called when the context is done before the process has ended. [Box.Command] sets
	// it to [Cmd.Kill]; it may be changed, to send another signal, or set to nil. If it returns
	// [os.ErrProcessDone], Wait returns what it would have returned anyway.
	Cancel func() error

	// WaitDelay bounds how long Wait waits after the context is done, or after the process has
	// ended while something holds its pipes: a process that it left behind, or a Stdin that does
	// not end. Then the process is killed, and the pipes are closed. 0: without bound.
	WaitDelay time.Duration

	// Err is an error of the preparation; Start returns it.
	Err error

	// ExitStatus says how the process ended; set by Wait and Run.
	ExitStatus *ExitStatus

	ctx  context.Context
	box  *Box
	kind cmdKind

	startCalled atomic.Bool
	waitCalled  atomic.Bool
	process     atomic.Pointer[process]
	cleanup     runtime.Cleanup

	stdinPipe  *inputPipe
	stdoutPipe *outputPipe
	stderrPipe *outputPipe

	parentPipes  []io.Closer
	goroutines   []func() error
	goroutineErr <-chan error
	ctxResult    <-chan ctxResult
}

// TerminalSize is the size of a terminal in characters. Zero: what the box takes.
type TerminalSize struct {
	Rows    uint16
	Columns uint16
}

// Command prepares a process in the box, which must run when it is started. When ctx is done
// before the process has ended, the process is killed, in the box.
func (b *Box) Command(ctx context.Context, name string, args ...string) *Cmd {
	return b.newCmd(ctx, kindExec, append([]string{name}, args...))
}

// Attach prepares a Cmd for the main process of a running box: Start connects its streams, from
// then on, and Wait waits for its end. When ctx is done, it only detaches. Of its fields, Path,
// Args, Env, Dir, User, TTY and Detached have no meaning. One Cmd at a time can have a Stdin.
func (b *Box) Attach(ctx context.Context) *Cmd { return b.newCmd(ctx, kindAttach, nil) }

// AttachStart prepares a Cmd whose Start starts the box with the streams of its main process
// connected, so that nothing it writes is missed. All else is as with [Box.Attach].
func (b *Box) AttachStart(ctx context.Context) *Cmd { return b.newCmd(ctx, kindAttachStart, nil) }

func (b *Box) newCmd(ctx context.Context, kind cmdKind, args []string) *Cmd {
	if ctx == nil {
		panic("boxlite: nil Context")
	}
	c := &Cmd{Args: args, ctx: ctx, box: b, kind: kind}
	if len(args) > 0 {
		c.Path = args[0]
	}
	c.Cancel = c.Kill
	if kind != kindExec {
		c.Cancel = c.detach
	}
	return c
}

// String gives the command for people to read.
func (c *Cmd) String() string {
	switch {
	case c.kind != kindExec && c.box != nil:
		return "main process of " + c.box.name
	case len(c.Args) > 1:
		return c.Path + " " + strings.Join(c.Args[1:], " ")
	default:
		return c.Path
	}
}

// Pid is the process's id in the box; 0 before Start.
func (c *Cmd) Pid() int {
	if p := c.process.Load(); p != nil {
		return p.pid
	}
	return 0
}

// Run starts the process and waits for its end. The error is nil if it ran, its streams could be
// copied, and it exited with 0; it is an [*ExitError] if it ended in another way.
func (c *Cmd) Run() error {
	if err := c.Start(); err != nil {
		return err
	}
	return c.Wait()
}

// Start starts the process and returns when it runs. After it, Wait (or Release) must be called.
func (c *Cmd) Start() error {
	// As with os/exec: once, also if that fails.
	if c.startCalled.Swap(true) {
		return errors.New("boxlite: already started")
	}
	err := c.start()
	if err != nil {
		closeAll(c.parentPipes)
		c.parentPipes, c.goroutines = nil, nil
		for _, pipe := range []interface{ fail() }{c.stdinPipe, c.stdoutPipe, c.stderrPipe} {
			pipe.fail()
		}
	}
	return err
}

func (c *Cmd) start() error {
	if c.Err != nil {
		return c.Err
	}
	if c.box == nil || c.ctx == nil {
		return errors.New("boxlite: Cmd was not created with Box.Command")
	}
	if c.Path == "" && c.kind == kindExec {
		return errors.New("boxlite: no command")
	}
	if err := c.launch(); err != nil {
		return err
	}
	c.cleanup = runtime.AddCleanup(c, func(forgotten forgottenCmd) {
		forgotten.logger.Debug("boxlite: a Cmd was forgotten without Wait", "pid", forgotten.process.pid)
		forgotten.process.free()
	}, forgottenCmd{c.process.Load(), c.box.client.logger})

	if len(c.goroutines) > 0 {
		c.goroutineErr = runAll(c.goroutines)
		c.goroutines = nil
	}
	if (c.Cancel != nil || c.WaitDelay != 0) && c.ctx.Done() != nil {
		result := make(chan ctxResult)
		c.ctxResult = result
		go c.watchCtx(result)
	}
	return nil
}

type forgottenCmd struct {
	process *process
	logger  *slog.Logger
}

// runAll gives the first error once all have returned.
func runAll(functions []func() error) <-chan error {
	result := make(chan error, 1)
	each := make(chan error, len(functions))
	for _, function := range functions {
		go func() { each <- function() }()
	}
	go func() {
		var first error
		for range functions {
			if err := <-each; err != nil && first == nil {
				first = err
			}
		}
		result <- first
	}()
	return result
}

// ctxResult is what watchCtx tells Wait.
type ctxResult struct {
	err error
	// If not nil, it fires when WaitDelay has passed since the context was done.
	timer *time.Timer
}

// watchCtx calls Cancel when the context is done, and ends everything after WaitDelay, until it
// can hand over to Wait. It owns goroutineErr until then.
func (c *Cmd) watchCtx(result chan<- ctxResult) {
	select {
	case result <- ctxResult{}:
		return
	case <-c.ctx.Done():
	}
	var err error
	if c.Cancel != nil {
		switch cancelErr := c.Cancel(); {
		case cancelErr == nil:
			err = cancelledError(c.ctx, "exec")
		case !errors.Is(cancelErr, os.ErrProcessDone):
			err = &wrappedError{"boxlite: canceling Cmd", cancelErr}
		}
	}
	if c.WaitDelay == 0 {
		result <- ctxResult{err: err}
		return
	}
	timer := time.NewTimer(c.WaitDelay)
	select {
	case result <- ctxResult{err: err, timer: timer}:
		return
	case <-timer.C:
	}
	killed := false
	switch killErr := c.end(); {
	case killErr == nil:
		killed = true
	case !errors.Is(killErr, os.ErrProcessDone):
		err = &wrappedError{"boxlite: killing Cmd", killErr}
	}
	if c.goroutineErr != nil {
		select {
		case copyErr := <-c.goroutineErr:
			if err == nil && !killed {
				err = copyErr
			}
		default:
			closeAll(c.parentPipes)
			<-c.goroutineErr //nolint:errcheck // that they have ended is what counts
			if err == nil {
				err = ErrWaitDelay
			}
		}
		c.goroutineErr = nil
	}
	result <- ctxResult{err: err}
}

type wrappedError struct {
	prefix string
	err    error
}

func (e *wrappedError) Error() string { return e.prefix + ": " + e.err.Error() }
func (e *wrappedError) Unwrap() error { return e.err }

// Wait waits until the process has ended and all that it wrote is copied to Stdout and Stderr.
// The error is an [*ExitError] if it did not exit with 0. If the context was done and Cancel was
// called, the error matches the context's.
//
// Wait closes what StdinPipe, StdoutPipe and StderrPipe gave: read to the end before.
func (c *Cmd) Wait() error {
	p := c.process.Load()
	if p == nil {
		return errors.New("boxlite: not started")
	}
	if c.waitCalled.Swap(true) {
		return errors.New("boxlite: Wait was already called")
	}
	status, err := p.wait()
	if err == nil {
		c.ExitStatus = &status
		if !status.Success() {
			err = &ExitError{ExitStatus: status}
		}
	}
	var timer *time.Timer
	if c.ctxResult != nil {
		watch := <-c.ctxResult
		timer = watch.timer
		err = c.withContext(err, watch.err)
	}
	copyErr := c.awaitGoroutines(timer)
	if copyErr == nil && status.OutputCut {
		copyErr = ErrWaitDelay
	}
	if err == nil {
		err = copyErr
	}
	closeAll(c.parentPipes)
	c.parentPipes = nil
	c.cleanup.Stop()
	p.free()
	return err
}

// withContext gives the error of Wait where the context may have been done.
func (c *Cmd) withContext(err, watchErr error) error {
	if watchErr == nil {
		return err
	}
	var exit *ExitError
	var known *Error
	switch {
	case errors.Is(err, errDetached) || err == nil:
		return watchErr
	case !errors.Is(watchErr, c.ctx.Err()):
		// Cancel failed; how the process ended says more.
	case errors.As(err, &exit):
		exit.causes = contextErrors(c.ctx)
	case errors.As(err, &known):
		known.causes = append(known.causes, contextErrors(c.ctx)...)
	}
	return err
}

func (c *Cmd) awaitGoroutines(timer *time.Timer) error {
	defer func() {
		if timer != nil {
			timer.Stop()
		}
		c.goroutineErr = nil
	}()
	if c.goroutineErr == nil {
		return nil
	}
	if timer == nil {
		if c.WaitDelay == 0 {
			return <-c.goroutineErr
		}
		timer = time.NewTimer(c.WaitDelay)
	}
	select {
	case err := <-c.goroutineErr:
		return err
	case <-timer.C:
		select {
		case err := <-c.goroutineErr:
			return err
		default:
		}
		closeAll(c.parentPipes)
		<-c.goroutineErr //nolint:errcheck // that they have ended is what counts
		return ErrWaitDelay
	}
}

// Release lets go of a process that was started, instead of waiting for it: its streams are
// closed, and it is killed unless it is Detached.
func (c *Cmd) Release() error {
	p := c.process.Load()
	if p == nil {
		return errors.New("boxlite: not started")
	}
	if c.waitCalled.Swap(true) {
		return errors.New("boxlite: Wait was already called")
	}
	if c.ctxResult != nil {
		if watch := <-c.ctxResult; watch.timer != nil {
			watch.timer.Stop()
		}
	}
	closeAll(c.parentPipes)
	c.parentPipes = nil
	c.cleanup.Stop()
	p.free()
	return nil
}

// Signal sends a signal of Linux to the process. It must be a [syscall.Signal].
func (c *Cmd) Signal(signal os.Signal) error {
	p := c.process.Load()
	if p == nil {
		return errors.New("boxlite: not started")
	}
	number, ok := signal.(syscall.Signal)
	if !ok {
		return errors.New("boxlite: unsupported signal type")
	}
	return p.signal(number)
}

// Kill ends the process with SIGKILL. It does not wait until it has ended.
func (c *Cmd) Kill() error { return c.Signal(syscall.SIGKILL) }

// detach lets go of a main process.
func (c *Cmd) detach() error {
	p := c.process.Load()
	if p == nil {
		return errors.New("boxlite: not started")
	}
	return p.detach(func() { closeAll(c.parentPipes) })
}

// end is what WaitDelay does at the last.
func (c *Cmd) end() error {
	if c.kind != kindExec {
		return c.detach()
	}
	return c.Kill()
}

// Resize tells the process's terminal its new size.
func (c *Cmd) Resize(rows, columns uint16) error {
	p := c.process.Load()
	if p == nil {
		return errors.New("boxlite: not started")
	}
	return p.resize(rows, columns)
}

// Output runs the process and gives its standard output. If it does not exit with 0, the error is
// an [*ExitError] and, if Stderr was nil, has the beginning and end of its standard error.
func (c *Cmd) Output() ([]byte, error) {
	if c.Stdout != nil || c.stdoutPipe != nil {
		return nil, errors.New("boxlite: Stdout already set")
	}
	var stdout bytes.Buffer
	c.Stdout = &stdout
	var saver *prefixSuffixSaver
	if c.Stderr == nil && c.stderrPipe == nil && !c.TTY {
		saver = &prefixSuffixSaver{limit: 32 << 10}
		c.Stderr = saver
	}
	err := c.Run()
	var exit *ExitError
	if saver != nil && errors.As(err, &exit) {
		exit.Stderr = saver.bytes()
	}
	return stdout.Bytes(), err
}

// CombinedOutput runs the process and gives its standard output and standard error in their order.
func (c *Cmd) CombinedOutput() ([]byte, error) {
	if c.Stdout != nil || c.stdoutPipe != nil {
		return nil, errors.New("boxlite: Stdout already set")
	}
	if c.Stderr != nil || c.stderrPipe != nil {
		return nil, errors.New("boxlite: Stderr already set")
	}
	var output bytes.Buffer
	c.Stdout, c.Stderr = &output, &output
	err := c.Run()
	return output.Bytes(), err
}

// ExitError says that a process ended in another way than by exit code 0. As in os/exec,
// err.ExitCode() is the code.
type ExitError struct {
	ExitStatus

	// Stderr is the beginning and the end of the standard error that [Cmd.Output] collected.
	Stderr []byte

	causes []error
}

// Error says how the process ended: "exit status 3".
func (e *ExitError) Error() string { return e.String() }

// Unwrap gives the errors of the context, if that is why the process ended.
func (e *ExitError) Unwrap() []error { return e.causes }
