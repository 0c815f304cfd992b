package boxlite

import (
	"errors"
	"io"
	"os"
	"runtime"
	"strconv"
	"sync"
)

// StdinPipe gives a pipe to the process's standard input. Wait closes it; to end the input
// before, close it yourself. What is written before Start is kept, up to the size of a pipe.
func (c *Cmd) StdinPipe() (io.WriteCloser, error) {
	if c.Stdin != nil || c.stdinPipe != nil {
		return nil, errors.New("boxlite: Stdin already set")
	}
	if c.startCalled.Load() {
		return nil, errors.New("boxlite: StdinPipe after process started")
	}
	c.stdinPipe = &inputPipe{cmd: c, ready: make(chan struct{}), closed: make(chan struct{})}
	return c.stdinPipe, nil
}

// StdoutPipe gives a pipe from the process's standard output. Wait closes it: read to its end
// first.
func (c *Cmd) StdoutPipe() (io.ReadCloser, error) {
	if c.Stdout != nil || c.stdoutPipe != nil {
		return nil, errors.New("boxlite: Stdout already set")
	}
	if c.startCalled.Load() {
		return nil, errors.New("boxlite: StdoutPipe after process started")
	}
	c.stdoutPipe = &outputPipe{cmd: c, ready: make(chan struct{})}
	return c.stdoutPipe, nil
}

// StderrPipe gives a pipe from the process's standard error. Wait closes it: read to its end
// first.
func (c *Cmd) StderrPipe() (io.ReadCloser, error) {
	if c.Stderr != nil || c.stderrPipe != nil {
		return nil, errors.New("boxlite: Stderr already set")
	}
	if c.startCalled.Load() {
		return nil, errors.New("boxlite: StderrPipe after process started")
	}
	c.stderrPipe = &outputPipe{cmd: c, ready: make(chan struct{})}
	return c.stderrPipe, nil
}

// pipeCapacity is how much a pipe takes before it is read from.
const pipeCapacity = 64 << 10

// inputPipe is what StdinPipe gives: there before the process, and kept for it.
type inputPipe struct {
	cmd *Cmd // a process whose pipe is in use is not a forgotten one

	mu       sync.Mutex
	pending  []byte
	input    *processInput
	flushed  bool
	isClosed bool
	// ready is closed once what was pending is written, or never will be.
	ready  chan struct{}
	closed chan struct{}
}

// Write writes to the process. Before Start it blocks where a pipe would.
func (p *inputPipe) Write(data []byte) (int, error) {
	defer runtime.KeepAlive(p.cmd)
	p.mu.Lock()
	if p.isClosed {
		p.mu.Unlock()
		return 0, os.ErrClosed
	}
	if p.input == nil && !p.flushed && len(p.pending)+len(data) <= pipeCapacity {
		p.pending = append(p.pending, data...)
		p.mu.Unlock()
		return len(data), nil
	}
	p.mu.Unlock()
	select {
	case <-p.ready:
	case <-p.closed:
		return 0, os.ErrClosed
	}
	if p.input == nil {
		return 0, os.ErrClosed
	}
	return p.input.Write(data)
}

// Close ends the input after what was written.
func (p *inputPipe) Close() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.isClosed {
		return os.ErrClosed
	}
	p.isClosed = true
	close(p.closed)
	if p.flushed && p.input != nil {
		return p.input.Close()
	}
	return nil
}

// open connects the pipe to the process.
func (p *inputPipe) open(input *processInput) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.input = input
	pending := p.pending
	p.pending = nil
	if len(pending) == 0 {
		p.opened()
		return
	}
	go func() {
		_, _ = input.Write(pending)
		p.mu.Lock()
		defer p.mu.Unlock()
		p.opened()
	}()
}

// opened is called with the lock.
func (p *inputPipe) opened() {
	p.flushed = true
	close(p.ready)
	if p.isClosed {
		_ = p.input.Close()
	}
}

// fail ends the pipe of a process that did not start.
func (p *inputPipe) fail() {
	if p == nil {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if !p.flushed && p.input == nil {
		p.flushed = true
		close(p.ready)
	}
}

// outputPipe is what StdoutPipe and StderrPipe give.
type outputPipe struct {
	cmd *Cmd // a process whose pipe is in use is not a forgotten one

	mu       sync.Mutex
	isClosed bool
	isReady  bool
	// ready is closed once file is there, or never will be.
	ready chan struct{}
	file  *os.File
}

// Read waits for Start, as a pipe would that nobody has written to.
func (p *outputPipe) Read(data []byte) (int, error) {
	defer runtime.KeepAlive(p.cmd)
	<-p.ready
	if p.file == nil {
		return 0, os.ErrClosed
	}
	return p.file.Read(data)
}

// WriteTo lets the file choose how to copy.
func (p *outputPipe) WriteTo(writer io.Writer) (int64, error) {
	defer runtime.KeepAlive(p.cmd)
	<-p.ready
	if p.file == nil {
		return 0, os.ErrClosed
	}
	return io.Copy(writer, p.file)
}

// Close makes the process write into the void.
func (p *outputPipe) Close() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.isClosed {
		return os.ErrClosed
	}
	p.isClosed = true
	p.setReady()
	if p.file != nil {
		return p.file.Close()
	}
	return nil
}

// setReady is called with the lock.
func (p *outputPipe) setReady() {
	if !p.isReady {
		p.isReady = true
		close(p.ready)
	}
}

func (p *outputPipe) open(file *os.File) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.isClosed {
		_ = file.Close()
		return
	}
	p.file = file
	p.setReady()
}

func (p *outputPipe) fail() {
	if p == nil {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.setReady()
}

// prefixSuffixSaver keeps the first and the last limit bytes of what is written to it.
type prefixSuffixSaver struct {
	limit   int
	prefix  []byte
	suffix  []byte // at most twice the limit
	skipped int64
}

func (s *prefixSuffixSaver) Write(data []byte) (int, error) {
	length := len(data)
	if room := s.limit - len(s.prefix); room > 0 {
		taken := min(room, len(data))
		s.prefix = append(s.prefix, data[:taken]...)
		data = data[taken:]
	}
	if extra := len(data) - s.limit; extra > 0 {
		s.skipped += int64(len(s.suffix) + extra)
		s.suffix = s.suffix[:0]
		data = data[extra:]
	}
	s.suffix = append(s.suffix, data...)
	if len(s.suffix) > 2*s.limit {
		s.trim()
	}
	return length, nil
}

// trim drops all but the last limit bytes.
func (s *prefixSuffixSaver) trim() {
	if extra := len(s.suffix) - s.limit; extra > 0 {
		s.skipped += int64(extra)
		s.suffix = append(s.suffix[:0], s.suffix[extra:]...)
	}
}

func (s *prefixSuffixSaver) bytes() []byte {
	s.trim()
	if s.skipped == 0 {
		return append(s.prefix, s.suffix...)
	}
	note := "\n... omitting " + strconv.FormatInt(s.skipped, 10) + " bytes ...\n"
	return append(append(append([]byte(nil), s.prefix...), note...), s.suffix...)
}
