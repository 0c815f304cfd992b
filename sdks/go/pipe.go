package boxlite

import (
	"os"
	"syscall"
)

// fileOf makes a descriptor that the library gave a file of Go's poller: reading and writing
// cost no thread, and Close ends them.
func fileOf(fd int, name string) (*os.File, error) {
	if err := syscall.SetNonblock(fd, true); err != nil {
		_ = syscall.Close(fd)
		return nil, &Error{Code: CodeInternal, Message: "can't use a stream: " + err.Error(), causes: []error{err}}
	}
	return os.NewFile(uintptr(fd), name), nil
}

// newPipe makes a pipe of which one end is for the library and one for Go.
func newPipe() (reader, writer int, err error) {
	var ends [2]int
	if err := syscall.Pipe2(ends[:], syscall.O_CLOEXEC); err != nil {
		return 0, 0, &Error{Code: CodeResourceExhausted, Message: "can't make a pipe: " + err.Error(), causes: []error{err}}
	}
	return ends[0], ends[1], nil
}

// pipeFromLibrary gives a reader for Go, and a descriptor for the library to write to.
func pipeFromLibrary(name string) (*os.File, int, error) {
	reader, writer, err := newPipe()
	if err != nil {
		return nil, 0, err
	}
	file, err := fileOf(reader, name)
	if err != nil {
		_ = syscall.Close(writer)
		return nil, 0, err
	}
	return file, writer, nil
}

// pipeToLibrary gives a descriptor for the library to read from, and a writer for Go.
func pipeToLibrary(name string) (int, *os.File, error) {
	reader, writer, err := newPipe()
	if err != nil {
		return 0, nil, err
	}
	file, err := fileOf(writer, name)
	if err != nil {
		_ = syscall.Close(reader)
		return 0, nil, err
	}
	return reader, file, nil
}
