package boxlite

import (
	"bufio"
	"context"
	"encoding/json"
	"io"
	"log/slog"
	"os"
	"sync"
	"syscall"
	"time"

	"github.com/boxlite-ai/boxlite/sdks/go/internal/ffi"
)

// LogOption is an option of [Box.Logs] and [Box.CopyLogs].
type LogOption interface{ applyLogs(*logOptions) }

type logOption func(*logOptions)

func (o logOption) applyLogs(l *logOptions) { o(l) }

type logOptions struct {
	Follow  bool    `json:"follow"`
	Tail    *uint64 `json:"tail,omitempty"`
	SinceMs *int64  `json:"since_ms,omitempty"`
	UntilMs *int64  `json:"until_ms,omitempty"`
}

// Follow goes on with what comes, until the box ends.
func Follow() LogOption { return logOption(func(l *logOptions) { l.Follow = true }) }

// Tail gives only the last so many lines.
func Tail(lines uint64) LogOption { return logOption(func(l *logOptions) { l.Tail = &lines }) }

// Since gives only what was written from then on.
func Since(t time.Time) LogOption {
	return logOption(func(l *logOptions) { ms := max(t.UnixMilli(), 0); l.SinceMs = &ms })
}

// Until gives only what was written until then.
func Until(t time.Time) LogOption {
	return logOption(func(l *logOptions) { ms := max(t.UnixMilli(), 0); l.UntilMs = &ms })
}

func encodeLogs(options []LogOption) (string, error) {
	var settings logOptions
	for _, option := range options {
		option.applyLogs(&settings)
	}
	return encode("box_logs", settings)
}

// Logs gives what the main process has written, over all starts of the box: standard output and
// standard error as they came. The reader must be closed; it ends with an error if ctx is done.
func (b *Box) Logs(ctx context.Context, options ...LogOption) (io.ReadCloser, error) {
	text, err := encodeLogs(options)
	if err != nil {
		return nil, err
	}
	return b.stream(ctx, "box_logs", func(box uint64, fd int) (uint64, *ffi.Error) {
		return ffi.BoxLogs(box, text, fd, fd)
	})
}

// CopyLogs writes what the main process has written to stdout and stderr, either of which may be
// nil. It returns when all is written; with [Follow], when the box has ended.
func (b *Box) CopyLogs(ctx context.Context, stdout, stderr io.Writer, options ...LogOption) error {
	text, err := encodeLogs(options)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	var copying sync.WaitGroup
	var failure error
	var failed sync.Once
	descriptors := [2]int{-1, -1}
	release := func() {
		for _, fd := range descriptors {
			if fd >= 0 {
				_ = syscall.Close(fd)
			}
		}
	}
	for i, writer := range []io.Writer{stdout, stderr} {
		if writer == nil {
			continue
		}
		file, fd, err := pipeFromLibrary("log of a box")
		if err != nil {
			release()
			copying.Wait()
			return err
		}
		descriptors[i] = fd
		copying.Add(1)
		go func() {
			defer copying.Done()
			if _, err := io.Copy(writer, file); err != nil {
				failed.Do(func() { failure = err; cancel(err) })
			}
			_ = file.Close()
		}()
	}
	err = b.do(ctx, "box_logs", func(box uint64) (uint64, *ffi.Error) {
		return ffi.BoxLogs(box, text, descriptors[0], descriptors[1])
	})
	release()
	copying.Wait()
	if failure != nil {
		return failure
	}
	return err
}

// logForwarder gives the library's log to a logger.
type logForwarder struct {
	file    *os.File
	stopped chan struct{}
}

// forwardLogs gives nil, which is valid, without a logger.
func forwardLogs(logger *slog.Logger) (*logForwarder, error) {
	if logger == nil {
		return nil, nil
	}
	level := ""
	for _, known := range []struct {
		name  string
		level slog.Level
	}{
		{"error", slog.LevelError},
		{"warn", slog.LevelWarn},
		{"info", slog.LevelInfo},
		{"debug", slog.LevelDebug},
		{"trace", levelTrace},
	} {
		if logger.Enabled(context.Background(), known.level) {
			level = known.name
		}
	}
	if level == "" {
		return nil, nil
	}
	fd, failure := ffi.LogFd(level)
	if failure != nil {
		return nil, fromC(failure)
	}
	file, err := fileOf(fd, "log of boxlite")
	if err != nil {
		return nil, err
	}
	forwarder := &logForwarder{file: file, stopped: make(chan struct{})}
	go forwarder.run(logger)
	return forwarder, nil
}

// levelTrace is below debug: where the library tells every step.
const levelTrace = slog.LevelDebug - 4

// logLine is a line of the library's log.
type logLine struct {
	TimeMs  unixMs         `json:"time_ms"`
	Level   string         `json:"level"`
	Target  string         `json:"target"`
	Message string         `json:"message"`
	Fields  map[string]any `json:"fields"`
}

func (f *logForwarder) run(logger *slog.Logger) {
	defer close(f.stopped)
	lines := bufio.NewReader(f.file)
	for {
		line, err := lines.ReadBytes('\n')
		if err != nil {
			return
		}
		var entry logLine
		if json.Unmarshal(line, &entry) == nil {
			entry.give(logger)
		}
	}
}

func (l *logLine) give(logger *slog.Logger) {
	level := levelTrace
	switch l.Level {
	case "error":
		level = slog.LevelError
	case "warn":
		level = slog.LevelWarn
	case "info":
		level = slog.LevelInfo
	case "debug":
		level = slog.LevelDebug
	}
	if !logger.Enabled(context.Background(), level) {
		return
	}
	record := slog.NewRecord(l.TimeMs.time(), level, l.Message, 0)
	record.AddAttrs(slog.String("target", l.Target))
	for name, value := range l.Fields {
		record.AddAttrs(slog.Any(name, value))
	}
	_ = logger.Handler().Handle(context.Background(), record)
}

func (f *logForwarder) stop() {
	if f != nil {
		_ = f.file.Close()
		<-f.stopped
	}
}
