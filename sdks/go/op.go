package boxlite

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"reflect"
	"runtime"
	"unicode/utf8"

	"github.com/boxlite-ai/boxlite/sdks/go/internal/ffi"
)

// do starts an operation, waits for its end in Go, and hands it to finish if it succeeded.
//
// When the context is done the operation is cancelled; do still waits for its end, because only
// then all that it had begun is undone. If its result came first, that counts.
func (c *Client) do(
	ctx context.Context,
	name string,
	begin func(client uint64) (uint64, *ffi.Error),
	finish func(op uint64) error,
) error {
	// The client must not be taken for a forgotten one while it is waited for.
	defer runtime.KeepAlive(c)
	if c.closed.Load() {
		return closedError(name, "client")
	}
	if ctx.Err() != nil {
		return cancelledError(ctx, name)
	}
	op, ended, failure := c.completions.start(begin)
	if failure != nil {
		return c.failed(ctx, name, failure)
	}
	defer ffi.OpFree(op)
	select {
	case <-ended:
	case <-ctx.Done():
		// It fails only if the client was freed, and then the operation has ended as well.
		_ = ffi.OpCancel(op)
		<-ended
	}
	if failure := ffi.OpWait(op); failure != nil {
		return c.failed(ctx, name, failure)
	}
	if finish == nil {
		return nil
	}
	err := finish(op)
	var ffiError *callError
	if errors.As(err, &ffiError) {
		return c.failed(ctx, name, ffiError.failure)
	}
	return err
}

// callError carries a failure of a call of C through a function that returns an error.
type callError struct{ failure *ffi.Error }

func (e *callError) Error() string { return e.failure.Message }

func asError(failure *ffi.Error) error {
	if failure == nil {
		return nil
	}
	return &callError{failure}
}

// failed gives the error for a failure.
func (c *Client) failed(ctx context.Context, name string, failure *ffi.Error) error {
	err := fromC(failure)
	switch {
	case c.closed.Load() && (failure.Code == ffi.InvalidState || failure.Code == ffi.Cancelled && ctx.Err() == nil):
		// Handles of a client are freed with it.
		return closedError(name, "client")
	case failure.Code == ffi.Cancelled && ctx.Err() != nil:
		err.becauseOf(ctx)
	}
	if err.Op == "" {
		err.Op = name
	}
	return err
}

// doJSON is do for an operation that gives JSON.
func (c *Client) doJSON(
	ctx context.Context,
	name string,
	begin func(client uint64) (uint64, *ffi.Error),
	result any,
	watch *progressWatch,
) error {
	defer watch.end()
	return c.do(ctx, name, watch.begin(begin), func(op uint64) error {
		watch.finish(op)
		text, failure := ffi.OpResultJSON(op)
		if failure != nil {
			return asError(failure)
		}
		if err := decode([]byte(text), result); err != nil {
			return &Error{Code: CodeInternal, Op: name, Message: "can't read the library's answer: " + err.Error(), causes: []error{err}}
		}
		return nil
	})
}

// doHandle is do for an operation that gives a handle.
func (c *Client) doHandle(
	ctx context.Context,
	name string,
	begin func(client uint64) (uint64, *ffi.Error),
	watch *progressWatch,
) (uint64, error) {
	defer watch.end()
	var handle uint64
	err := c.do(ctx, name, watch.begin(begin), func(op uint64) error {
		watch.finish(op)
		var failure *ffi.Error
		handle, failure = ffi.OpResultHandle(op)
		return asError(failure)
	})
	return handle, err
}

// refuseUnknown makes decode refuse fields that it does not know. Only tests do that: a newer
// library may say more.
var refuseUnknown = false

// decode reads JSON of the library.
func decode(data []byte, into any) error {
	decoder := json.NewDecoder(bytes.NewReader(data))
	if refuseUnknown {
		decoder.DisallowUnknownFields()
	}
	return decoder.Decode(into)
}

// encode writes options for the library.
func encode(op string, options any) (string, error) {
	if bad, found := invalidText(reflect.ValueOf(options)); found {
		// JSON can't say it, and would replace it by something else.
		return "", argumentError(op, "%q is not valid UTF-8", bad)
	}
	text, err := json.Marshal(options)
	if err != nil {
		return "", argumentError(op, "options can't be written as JSON: %v", err)
	}
	return string(text), nil
}

// invalidText finds a string that is not UTF-8.
func invalidText(value reflect.Value) (string, bool) {
	switch value.Kind() {
	case reflect.String:
		return value.String(), !utf8.ValidString(value.String())
	case reflect.Pointer, reflect.Interface:
		if !value.IsNil() {
			return invalidText(value.Elem())
		}
	case reflect.Slice, reflect.Array:
		for i := range value.Len() {
			if bad, found := invalidText(value.Index(i)); found {
				return bad, true
			}
		}
	case reflect.Map:
		for entries := value.MapRange(); entries.Next(); {
			for _, part := range []reflect.Value{entries.Key(), entries.Value()} {
				if bad, found := invalidText(part); found {
					return bad, true
				}
			}
		}
	case reflect.Struct:
		for i := range value.NumField() {
			if bad, found := invalidText(value.Field(i)); found {
				return bad, true
			}
		}
	default:
	}
	return "", false
}
