package boxlite

import (
	"context"
	"errors"
	"io"
	"os"
	"runtime"
	"syscall"

	"github.com/boxlite-ai/boxlite/sdks/go/internal/ffi"
)

// CopyOption is an option of [Box.CopyIn], [Box.CopyOut] and their tar forms.
type CopyOption interface{ applyCopy(*copySettings) }

type copyOption func(*copySettings)

func (o copyOption) applyCopy(s *copySettings) { o(s) }

type copySettings struct {
	wire struct {
		FollowLink bool `json:"follow_link"`
		KeepOwner  bool `json:"keep_owner"`
	}
	report *CopyReport
}

func encodeCopy(op string, options []CopyOption) (copySettings, string, error) {
	var settings copySettings
	for _, option := range options {
		option.applyCopy(&settings)
	}
	text, err := encode(op, settings.wire)
	return settings, text, err
}

// FollowLink copies what the source points to when it is a symbolic link itself.
func FollowLink() CopyOption {
	return copyOption(func(s *copySettings) { s.wire.FollowLink = true })
}

// KeepOwner keeps the owners of files, by number, instead of giving all of them to root.
func KeepOwner() CopyOption {
	return copyOption(func(s *copySettings) { s.wire.KeepOwner = true })
}

// WithCopyReport has what was copied, and what had to be left out, written to report.
func WithCopyReport(report *CopyReport) CopyOption {
	return copyOption(func(s *copySettings) { s.report = report })
}

// CopyReport is what was copied.
type CopyReport struct {
	Entries uint64 `json:"entries"` // files, folders, links and so on
	Bytes   uint64 `json:"bytes"`   // of files
	// Skipped is what was left out, SkippedCount entries, of which at most a hundred are listed.
	Skipped      []SkippedEntry `json:"skipped"`
	SkippedCount uint64         `json:"skipped_count"`
}

// SkippedEntry is what was left out of a copy.
type SkippedEntry struct {
	Path   string `json:"path"`
	Reason string `json:"reason"`
}

// CopyIn copies a file or folder of the host into the box, which must run, by the rules of
// `docker cp`: into boxDst under the source's name if that is a folder, else to that very path,
// whose folder must exist. A source that ends with "/." brings what is in it instead.
func (b *Box) CopyIn(ctx context.Context, hostSrc, boxDst string, options ...CopyOption) error {
	return b.copy(ctx, "box_copy_in", options, func(box uint64, text string) (uint64, *ffi.Error) {
		return ffi.BoxCopyIn(box, hostSrc, boxDst, text)
	})
}

// CopyOut copies a file or folder of the box to the host, by the rules of [Box.CopyIn]. What the
// box sends is not trusted: nothing is written outside of hostDst.
func (b *Box) CopyOut(ctx context.Context, boxSrc, hostDst string, options ...CopyOption) error {
	return b.copy(ctx, "box_copy_out", options, func(box uint64, text string) (uint64, *ffi.Error) {
		return ffi.BoxCopyOut(box, boxSrc, hostDst, text)
	})
}

func (b *Box) copy(
	ctx context.Context,
	op string,
	options []CopyOption,
	begin func(box uint64, text string) (uint64, *ffi.Error),
) error {
	settings, text, err := encodeCopy(op, options)
	if err != nil {
		return err
	}
	var report CopyReport
	err = b.doJSON(ctx, op, func(box uint64) (uint64, *ffi.Error) { return begin(box, text) }, &report)
	if err == nil && settings.report != nil {
		*settings.report = report
	}
	return err
}

// CopyInTar unpacks a tar stream, read to its end, into a folder of the box.
func (b *Box) CopyInTar(ctx context.Context, source io.Reader, boxDir string, options ...CopyOption) error {
	if err := b.check("box_copy_in_tar"); err != nil {
		return err
	}
	reader, writer, err := pipeToLibrary("tar into a box")
	if err != nil {
		return err
	}
	// An archive whose source failed must not look like one that ends there, so then the
	// operation is cancelled before the pipe is closed.
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	fed := make(chan error, 1)
	go func() {
		_, err := io.Copy(writer, source)
		switch {
		case err == nil:
			_ = writer.Close()
		case errors.Is(err, syscall.EPIPE) || errors.Is(err, os.ErrClosed):
			// The library wants no more, and says why itself.
			err = nil
		default:
			cancel(err)
		}
		fed <- err
	}()
	err = b.copy(ctx, "box_copy_in_tar", options, func(box uint64, text string) (uint64, *ffi.Error) {
		op, failure := ffi.BoxCopyInTar(box, reader, boxDir, text)
		_ = syscall.Close(reader)
		reader = -1
		return op, failure
	})
	if reader >= 0 {
		_ = syscall.Close(reader)
	}
	_ = writer.Close()
	select {
	case sourceErr := <-fed:
		if sourceErr != nil && err != nil {
			return sourceErr
		}
	default:
		// The source may block for ever; nobody waits for it where nobody wants what it gives.
	}
	return err
}

// CopyOutTar gives a file or folder of the box as a tar stream. The stream is what the box sends:
// whoever unpacks it must not trust its paths. It ends with an error if ctx is done or the box
// fails, and must be closed.
func (b *Box) CopyOutTar(ctx context.Context, boxSrc string, options ...CopyOption) (io.ReadCloser, error) {
	_, text, err := encodeCopy("box_copy_out_tar", options)
	if err != nil {
		return nil, err
	}
	return b.stream(ctx, "box_copy_out_tar", func(box uint64, fd int) (uint64, *ffi.Error) {
		return ffi.BoxCopyOutTar(box, boxSrc, fd, text)
	})
}

// stream starts an operation that writes to a pipe, and gives the pipe.
func (b *Box) stream(
	ctx context.Context,
	op string,
	begin func(box uint64, fd int) (uint64, *ffi.Error),
) (io.ReadCloser, error) {
	if err := b.check(op); err != nil {
		return nil, err
	}
	file, writer, err := pipeFromLibrary(op)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithCancel(ctx)
	source := &operationStream{file: file, cancel: cancel, ended: make(chan struct{})}
	started := make(chan error, 1)
	go func() {
		defer close(source.ended)
		err := b.do(ctx, op, func(box uint64) (uint64, *ffi.Error) {
			op, failure := begin(box, writer)
			if failure == nil {
				started <- nil
			}
			return op, failure
		})
		_ = syscall.Close(writer)
		source.err = err
		select {
		case started <- err:
		default:
		}
	}()
	if err := <-started; err != nil {
		cancel()
		_ = file.Close()
		return nil, err
	}
	reader := &operationReader{source}
	runtime.AddCleanup(reader, func(forgotten *operationStream) { forgotten.cancel(); _ = forgotten.file.Close() }, source)
	return reader, nil
}

// operationStream is what an operation writes, and its error at the end.
type operationStream struct {
	file   *os.File
	cancel context.CancelFunc
	ended  chan struct{}
	err    error // once ended
}

// operationReader is the caller's hold on a stream: a stream that is forgotten is ended.
type operationReader struct{ *operationStream }

// Read gives the error of the operation instead of the end of the file.
func (r *operationReader) Read(p []byte) (int, error) {
	n, err := r.file.Read(p)
	if err == nil || n > 0 {
		return n, nil
	}
	if errors.Is(err, os.ErrClosed) {
		return 0, os.ErrClosed
	}
	<-r.ended
	if r.err != nil {
		return 0, r.err
	}
	return 0, err
}

// Close ends the operation if it has not ended, and waits for it.
func (r *operationReader) Close() error {
	r.cancel()
	err := r.file.Close()
	<-r.ended
	runtime.KeepAlive(r)
	if errors.Is(err, os.ErrClosed) {
		return nil
	}
	return err
}
