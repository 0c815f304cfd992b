package boxlite

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/boxlite-ai/boxlite/sdks/go/internal/ffi"
)

// Code is the kind of an [Error], in a small set that does not change with the causes.
type Code string

// The codes. Later versions may add some.
const (
	CodeNotFound          Code = "not_found"          // what was named does not exist
	CodeAlreadyExists     Code = "already_exists"     // something has that name already
	CodeInvalidState      Code = "invalid_state"      // the box is in a state in which this can't be done
	CodeInvalidArgument   Code = "invalid_argument"   // an argument or option is wrong
	CodeUnsupported       Code = "unsupported"        // this host, engine or version can't do it
	CodeClosed            Code = "closed"             // the client, or the handle, was closed
	CodeResourceExhausted Code = "resource_exhausted" // no space, memory or descriptors; a port that is taken
	CodeImage             Code = "image"              // an image could not be resolved, fetched, read or built
	CodeEngine            Code = "engine"             // the machine, or what runs it, failed
	CodeTimeout           Code = "timeout"            // a deadline of the library passed
	CodeCancelled         Code = "cancelled"          // the context of the call was done
	CodeInternal          Code = "internal"           // anything else: the host's file system, a defect
)

// Errors to compare with by [errors.Is]. They match every [Error] with their code.
var (
	ErrNotFound          error = codeError(CodeNotFound)
	ErrAlreadyExists     error = codeError(CodeAlreadyExists)
	ErrInvalidState      error = codeError(CodeInvalidState)
	ErrInvalidArgument   error = codeError(CodeInvalidArgument)
	ErrUnsupported       error = codeError(CodeUnsupported)
	ErrClosed            error = codeError(CodeClosed)
	ErrResourceExhausted error = codeError(CodeResourceExhausted)
	ErrImage             error = codeError(CodeImage)
	ErrEngine            error = codeError(CodeEngine)
	ErrTimeout           error = codeError(CodeTimeout)
	ErrInternal          error = codeError(CodeInternal)
)

// ErrWaitDelay is returned by [Cmd.Wait] if the process exited with a successful status but
// something it left behind kept its output open past [Cmd.WaitDelay].
var ErrWaitDelay = errors.New("boxlite: WaitDelay expired before I/O complete")

type codeError Code

func (e codeError) Error() string {
	return "boxlite: " + strings.ReplaceAll(string(e), "_", " ")
}

// Error is what went wrong, and what to do about it. Every error that comes from the library
// is one; find it with [errors.As].
type Error struct {
	// Code is the kind of the error.
	Code Code `json:"code"`
	// Message says what failed, with its causes, in one line.
	Message string `json:"message"`
	// Hint says what to try next; it can be empty.
	Hint string `json:"hint"`
	// Evidence is what was observed, such as the last lines of the machine's console.
	Evidence []string `json:"evidence"`
	// Op is what was being done, such as "box_start".
	Op string `json:"-"`
	// Box is the name of the box that it was about, if it was about one.
	Box string `json:"-"`

	causes []error
}

// Error gives the message and, in parentheses, the hint. Format with %+v to see the evidence too.
func (e *Error) Error() string {
	text := "boxlite: " + e.Message
	if e.Hint != "" {
		text += " (" + strings.TrimSuffix(e.Hint, ".") + ")"
	}
	return text
}

// Format prints all that is known, on several lines, for %+v.
func (e *Error) Format(state fmt.State, verb rune) {
	switch {
	case verb == 'v' && state.Flag('+'):
		_, _ = io.WriteString(state, e.details())
	case verb == 'q':
		_, _ = fmt.Fprintf(state, "%q", e.Error())
	default:
		_, _ = io.WriteString(state, e.Error())
	}
}

func (e *Error) details() string {
	var b strings.Builder
	b.WriteString("boxlite: " + e.Message)
	for _, part := range []struct{ name, text string }{
		{"code", string(e.Code)}, {"operation", e.Op}, {"box", e.Box}, {"hint", e.Hint},
	} {
		if part.text != "" {
			b.WriteString("\n  " + part.name + ": " + part.text)
		}
	}
	for _, line := range e.Evidence {
		b.WriteString("\n  | " + line)
	}
	return b.String()
}

// Is makes [errors.Is] match the error of the same code, such as [ErrNotFound].
func (e *Error) Is(target error) bool {
	code, ok := target.(codeError)
	return ok && Code(code) == e.Code
}

// Unwrap gives the error and the cause of the context that was done, if that is why it failed.
func (e *Error) Unwrap() []error { return e.causes }

// fromC turns an error of the library into one of Go.
func fromC(failure *ffi.Error) *Error {
	if failure == nil {
		return nil
	}
	err := &Error{
		Code:    codeOf(failure.Code),
		Message: failure.Message,
		Hint:    failure.Hint,
		Op:      failure.Operation,
		Box:     failure.Box,
	}
	if text := strings.TrimRight(failure.Evidence, "\n"); text != "" {
		err.Evidence = strings.Split(text, "\n")
	}
	return err
}

// codeOf gives the code with the number that boxlite.h has for it.
func codeOf(number int32) Code {
	switch number {
	case ffi.NotFound:
		return CodeNotFound
	case ffi.AlreadyExists:
		return CodeAlreadyExists
	case ffi.InvalidState:
		return CodeInvalidState
	case ffi.InvalidArgument:
		return CodeInvalidArgument
	case ffi.Unsupported:
		return CodeUnsupported
	case ffi.Closed:
		return CodeClosed
	case ffi.ResourceExhausted:
		return CodeResourceExhausted
	case ffi.Image:
		return CodeImage
	case ffi.Engine:
		return CodeEngine
	case ffi.Timeout:
		return CodeTimeout
	case ffi.Cancelled:
		return CodeCancelled
	default:
		return CodeInternal
	}
}

func closedError(op, what string) *Error {
	return &Error{Code: CodeClosed, Message: "the " + what + " is closed", Op: op}
}

func argumentError(op, format string, arguments ...any) *Error {
	return &Error{Code: CodeInvalidArgument, Message: fmt.Sprintf(format, arguments...), Op: op}
}

// cancelledError says that a call ended because its context was done.
func cancelledError(ctx context.Context, op string) *Error {
	err := &Error{Code: CodeCancelled, Op: op}
	err.becauseOf(ctx)
	err.Message = strings.ReplaceAll(op, "_", " ") + " was cancelled: " + context.Cause(ctx).Error()
	return err
}

// becauseOf makes the error match what the context says about its end.
func (e *Error) becauseOf(ctx context.Context) {
	e.causes = contextErrors(ctx)
}

// contextErrors gives the context's error and, where it is another one, its cause.
func contextErrors(ctx context.Context) []error {
	causes := []error{ctx.Err()}
	if cause := context.Cause(ctx); cause != nil && cause != ctx.Err() { //nolint:errorlint // the very error
		causes = append(causes, cause)
	}
	return causes
}

// UnmarshalJSON reads an error as the library writes it down for a box that failed.
func (e *Error) UnmarshalJSON(data []byte) error {
	type plain Error
	return decode(data, (*plain)(e))
}

var _ json.Unmarshaler = (*Error)(nil)
