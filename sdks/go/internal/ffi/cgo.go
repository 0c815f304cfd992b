//go:build cgo && ((linux && amd64) || boxlite_pkgconfig)

package ffi

// The archive is named by its path, so that no other libboxlite of the host is taken for it.

/*
#cgo linux,amd64,!boxlite_pkgconfig LDFLAGS: ${SRCDIR}/../../lib/linux_amd64/libboxlite.a -lm -ldl -lpthread
#cgo boxlite_pkgconfig pkg-config: boxlite
#cgo noescape boxlite_version
#cgo nocallback boxlite_version
#cgo noescape boxlite_op_wait
#cgo nocallback boxlite_op_wait
#cgo noescape boxlite_client_next_completion
#cgo nocallback boxlite_client_next_completion
#include <stdlib.h>
#include "boxlite.h"
*/
import "C"

import (
	"strings"
	"unsafe"
)

// HeaderABIVersion is the version of the header that this package was compiled with.
const HeaderABIVersion = uint32(C.BOXLITE_ABI_VERSION)

// The codes of boxlite.h.
const (
	OK                = int32(C.BOXLITE_OK)
	NotFound          = int32(C.BOXLITE_NOT_FOUND)
	AlreadyExists     = int32(C.BOXLITE_ALREADY_EXISTS)
	InvalidState      = int32(C.BOXLITE_INVALID_STATE)
	InvalidArgument   = int32(C.BOXLITE_INVALID_ARGUMENT)
	Unsupported       = int32(C.BOXLITE_UNSUPPORTED)
	Closed            = int32(C.BOXLITE_CLOSED)
	ResourceExhausted = int32(C.BOXLITE_RESOURCE_EXHAUSTED)
	Image             = int32(C.BOXLITE_IMAGE)
	Engine            = int32(C.BOXLITE_ENGINE)
	Timeout           = int32(C.BOXLITE_TIMEOUT)
	Cancelled         = int32(C.BOXLITE_CANCELLED)
	Internal          = int32(C.BOXLITE_INTERNAL)
	Pending           = int32(C.BOXLITE_PENDING)
)

// Error is boxlite_error_t as a value.
type Error struct {
	Code      int32
	Message   string
	Hint      string
	Evidence  string
	Operation string
	Box       string
}

// result turns what a function returned into a value, and frees the error.
func result(code C.boxlite_code_t, failure *C.boxlite_error_t) *Error {
	if code == C.BOXLITE_OK {
		return nil
	}
	if failure == nil {
		return &Error{Code: int32(code), Message: CodeName(int32(code))}
	}
	defer C.boxlite_error_free(failure)
	return &Error{
		Code:      int32(code),
		Message:   C.GoString(C.boxlite_error_message(failure)),
		Hint:      C.GoString(C.boxlite_error_hint(failure)),
		Evidence:  C.GoString(C.boxlite_error_evidence(failure)),
		Operation: C.GoString(C.boxlite_error_operation(failure)),
		Box:       C.GoString(C.boxlite_error_box(failure)),
	}
}

// cStrings are the strings of one call; they are freed after it.
type cStrings struct {
	all []*C.char
	err *Error
}

// add copies a string. C would see one with a NUL cut short, so that is an error.
func (s *cStrings) add(name, text string) *C.char {
	if strings.IndexByte(text, 0) >= 0 {
		if s.err == nil {
			s.err = &Error{Code: InvalidArgument, Message: name + " contains a NUL byte"}
		}
		return nil
	}
	c := C.CString(text)
	s.all = append(s.all, c)
	return c
}

func (s *cStrings) free() {
	for _, c := range s.all {
		C.free(unsafe.Pointer(c))
	}
}

// take copies a string that the library gave, and frees it.
func take(text *C.char) string {
	defer C.boxlite_string_free(text)
	return C.GoString(text)
}

// Version is boxlite_version.
func Version() string { return C.GoString(C.boxlite_version()) }

// ABIVersion is boxlite_abi_version.
func ABIVersion() uint32 { return uint32(C.boxlite_abi_version()) }

// CodeName is boxlite_code_name.
func CodeName(code int32) string {
	return C.GoString(C.boxlite_code_name(C.boxlite_code_t(code)))
}

// OpWait is boxlite_op_wait with a timeout of 0: it only looks.
func OpWait(op uint64) *Error {
	var failure *C.boxlite_error_t
	code := C.boxlite_op_wait(C.boxlite_op_t(op), 0, &failure)
	return result(code, failure)
}

// OpCancel is boxlite_op_cancel.
func OpCancel(op uint64) *Error {
	var failure *C.boxlite_error_t
	code := C.boxlite_op_cancel(C.boxlite_op_t(op), &failure)
	return result(code, failure)
}

// OpResultHandle is boxlite_op_result_handle.
func OpResultHandle(op uint64) (uint64, *Error) {
	var handle C.uint64_t
	var failure *C.boxlite_error_t
	code := C.boxlite_op_result_handle(C.boxlite_op_t(op), &handle, &failure)
	return uint64(handle), result(code, failure)
}

// OpResultJSON is boxlite_op_result_json.
func OpResultJSON(op uint64) (string, *Error) {
	var text *C.char
	var failure *C.boxlite_error_t
	code := C.boxlite_op_result_json(C.boxlite_op_t(op), &text, &failure)
	return takeOr(text, result(code, failure))
}

// OpProgressJSON is boxlite_op_progress_json.
func OpProgressJSON(op uint64) (string, *Error) {
	var text *C.char
	var failure *C.boxlite_error_t
	code := C.boxlite_op_progress_json(C.boxlite_op_t(op), &text, &failure)
	return takeOr(text, result(code, failure))
}

func takeOr(text *C.char, err *Error) (string, *Error) {
	if err != nil {
		return "", err
	}
	return take(text), nil
}

// OpFree is boxlite_op_free.
func OpFree(op uint64) { C.boxlite_op_free(C.boxlite_op_t(op)) }

// ClientNew is boxlite_client_new.
func ClientNew(options string) (uint64, *Error) {
	var text cStrings
	defer text.free()
	cOptions := text.add("options", options)
	if text.err != nil {
		return 0, text.err
	}
	var client C.boxlite_client_t
	var failure *C.boxlite_error_t
	code := C.boxlite_client_new(cOptions, &client, &failure)
	return uint64(client), result(code, failure)
}

// ClientFree is boxlite_client_free.
func ClientFree(client uint64) { C.boxlite_client_free(C.boxlite_client_t(client)) }

// ClientCompletionFd is boxlite_client_completion_fd.
func ClientCompletionFd(client uint64) (int, *Error) {
	var fd C.int
	var failure *C.boxlite_error_t
	code := C.boxlite_client_completion_fd(C.boxlite_client_t(client), &fd, &failure)
	return int(fd), result(code, failure)
}

// ClientNextCompletion is boxlite_client_next_completion.
func ClientNextCompletion(client uint64) (uint64, *Error) {
	var op C.boxlite_op_t
	var failure *C.boxlite_error_t
	code := C.boxlite_client_next_completion(C.boxlite_client_t(client), &op, &failure)
	return uint64(op), result(code, failure)
}

// BoxID is boxlite_box_id.
func BoxID(box uint64) (string, *Error) {
	var text *C.char
	var failure *C.boxlite_error_t
	code := C.boxlite_box_id(C.boxlite_box_t(box), &text, &failure)
	return takeOr(text, result(code, failure))
}

// BoxName is boxlite_box_name.
func BoxName(box uint64) (string, *Error) {
	var text *C.char
	var failure *C.boxlite_error_t
	code := C.boxlite_box_name(C.boxlite_box_t(box), &text, &failure)
	return takeOr(text, result(code, failure))
}

// BoxFree is boxlite_box_free.
func BoxFree(box uint64) { C.boxlite_box_free(C.boxlite_box_t(box)) }

// ExecPid is boxlite_exec_pid.
func ExecPid(exec uint64) (int, *Error) {
	var pid C.int32_t
	var failure *C.boxlite_error_t
	code := C.boxlite_exec_pid(C.boxlite_exec_t(exec), &pid, &failure)
	return int(pid), result(code, failure)
}

// ExecStdinFd is boxlite_exec_stdin_fd.
func ExecStdinFd(exec uint64) (int, *Error) {
	var fd C.int
	var failure *C.boxlite_error_t
	code := C.boxlite_exec_stdin_fd(C.boxlite_exec_t(exec), &fd, &failure)
	return int(fd), result(code, failure)
}

// ExecStdoutFd is boxlite_exec_stdout_fd.
func ExecStdoutFd(exec uint64) (int, *Error) {
	var fd C.int
	var failure *C.boxlite_error_t
	code := C.boxlite_exec_stdout_fd(C.boxlite_exec_t(exec), &fd, &failure)
	return int(fd), result(code, failure)
}

// ExecStderrFd is boxlite_exec_stderr_fd.
func ExecStderrFd(exec uint64) (int, *Error) {
	var fd C.int
	var failure *C.boxlite_error_t
	code := C.boxlite_exec_stderr_fd(C.boxlite_exec_t(exec), &fd, &failure)
	return int(fd), result(code, failure)
}

// ExecStdinClose is boxlite_exec_stdin_close.
func ExecStdinClose(exec uint64) *Error {
	var failure *C.boxlite_error_t
	code := C.boxlite_exec_stdin_close(C.boxlite_exec_t(exec), &failure)
	return result(code, failure)
}

// ExecFree is boxlite_exec_free.
func ExecFree(exec uint64) { C.boxlite_exec_free(C.boxlite_exec_t(exec)) }

// LogFd is boxlite_log_fd.
func LogFd(level string) (int, *Error) {
	var text cStrings
	defer text.free()
	cLevel := text.add("level", level)
	if text.err != nil {
		return 0, text.err
	}
	var fd C.int
	var failure *C.boxlite_error_t
	code := C.boxlite_log_fd(cLevel, &fd, &failure)
	return int(fd), result(code, failure)
}

// ClientOpen starts boxlite_client_open.
func ClientOpen(client uint64) (uint64, *Error) {
	var op C.boxlite_op_t
	var failure *C.boxlite_error_t
	code := C.boxlite_client_open(C.boxlite_client_t(client), &op, &failure)
	return uint64(op), result(code, failure)
}

// ClientClose starts boxlite_client_close.
func ClientClose(client uint64) (uint64, *Error) {
	var op C.boxlite_op_t
	var failure *C.boxlite_error_t
	code := C.boxlite_client_close(C.boxlite_client_t(client), &op, &failure)
	return uint64(op), result(code, failure)
}

// ClientInfo starts boxlite_client_info.
func ClientInfo(client uint64) (uint64, *Error) {
	var op C.boxlite_op_t
	var failure *C.boxlite_error_t
	code := C.boxlite_client_info(C.boxlite_client_t(client), &op, &failure)
	return uint64(op), result(code, failure)
}

// ClientDoctor starts boxlite_client_doctor.
func ClientDoctor(client uint64) (uint64, *Error) {
	var op C.boxlite_op_t
	var failure *C.boxlite_error_t
	code := C.boxlite_client_doctor(C.boxlite_client_t(client), &op, &failure)
	return uint64(op), result(code, failure)
}

// ClientDiskUsage starts boxlite_client_disk_usage.
func ClientDiskUsage(client uint64) (uint64, *Error) {
	var op C.boxlite_op_t
	var failure *C.boxlite_error_t
	code := C.boxlite_client_disk_usage(C.boxlite_client_t(client), &op, &failure)
	return uint64(op), result(code, failure)
}

// ClientPrune starts boxlite_client_prune.
func ClientPrune(client uint64, options string) (uint64, *Error) {
	var text cStrings
	defer text.free()
	cOptions := text.add("options", options)
	if text.err != nil {
		return 0, text.err
	}
	var op C.boxlite_op_t
	var failure *C.boxlite_error_t
	code := C.boxlite_client_prune(C.boxlite_client_t(client), cOptions, &op, &failure)
	return uint64(op), result(code, failure)
}

// BoxCreate starts boxlite_box_create.
func BoxCreate(client uint64, options string) (uint64, *Error) {
	var text cStrings
	defer text.free()
	cOptions := text.add("options", options)
	if text.err != nil {
		return 0, text.err
	}
	var op C.boxlite_op_t
	var failure *C.boxlite_error_t
	code := C.boxlite_box_create(C.boxlite_client_t(client), cOptions, &op, &failure)
	return uint64(op), result(code, failure)
}

// BoxGet starts boxlite_box_get.
func BoxGet(client uint64, idOrName string) (uint64, *Error) {
	var text cStrings
	defer text.free()
	cIdOrName := text.add("idOrName", idOrName)
	if text.err != nil {
		return 0, text.err
	}
	var op C.boxlite_op_t
	var failure *C.boxlite_error_t
	code := C.boxlite_box_get(C.boxlite_client_t(client), cIdOrName, &op, &failure)
	return uint64(op), result(code, failure)
}

// BoxList starts boxlite_box_list.
func BoxList(client uint64, filter string) (uint64, *Error) {
	var text cStrings
	defer text.free()
	cFilter := text.add("filter", filter)
	if text.err != nil {
		return 0, text.err
	}
	var op C.boxlite_op_t
	var failure *C.boxlite_error_t
	code := C.boxlite_box_list(C.boxlite_client_t(client), cFilter, &op, &failure)
	return uint64(op), result(code, failure)
}

// BoxRemove starts boxlite_box_remove.
func BoxRemove(client uint64, idOrName, options string) (uint64, *Error) {
	var text cStrings
	defer text.free()
	cIdOrName := text.add("idOrName", idOrName)
	cOptions := text.add("options", options)
	if text.err != nil {
		return 0, text.err
	}
	var op C.boxlite_op_t
	var failure *C.boxlite_error_t
	code := C.boxlite_box_remove(C.boxlite_client_t(client), cIdOrName, cOptions, &op, &failure)
	return uint64(op), result(code, failure)
}

// BoxRename starts boxlite_box_rename.
func BoxRename(client uint64, idOrName, name string) (uint64, *Error) {
	var text cStrings
	defer text.free()
	cIdOrName := text.add("idOrName", idOrName)
	cName := text.add("name", name)
	if text.err != nil {
		return 0, text.err
	}
	var op C.boxlite_op_t
	var failure *C.boxlite_error_t
	code := C.boxlite_box_rename(C.boxlite_client_t(client), cIdOrName, cName, &op, &failure)
	return uint64(op), result(code, failure)
}

// BoxStart starts boxlite_box_start.
func BoxStart(box uint64) (uint64, *Error) {
	var op C.boxlite_op_t
	var failure *C.boxlite_error_t
	code := C.boxlite_box_start(C.boxlite_box_t(box), &op, &failure)
	return uint64(op), result(code, failure)
}

// BoxStartAttached starts boxlite_box_start_attached.
func BoxStartAttached(box uint64, options string) (uint64, *Error) {
	var text cStrings
	defer text.free()
	cOptions := text.add("options", options)
	if text.err != nil {
		return 0, text.err
	}
	var op C.boxlite_op_t
	var failure *C.boxlite_error_t
	code := C.boxlite_box_start_attached(C.boxlite_box_t(box), cOptions, &op, &failure)
	return uint64(op), result(code, failure)
}

// BoxAttach starts boxlite_box_attach.
func BoxAttach(box uint64, options string) (uint64, *Error) {
	var text cStrings
	defer text.free()
	cOptions := text.add("options", options)
	if text.err != nil {
		return 0, text.err
	}
	var op C.boxlite_op_t
	var failure *C.boxlite_error_t
	code := C.boxlite_box_attach(C.boxlite_box_t(box), cOptions, &op, &failure)
	return uint64(op), result(code, failure)
}

// BoxStop starts boxlite_box_stop.
func BoxStop(box uint64, options string) (uint64, *Error) {
	var text cStrings
	defer text.free()
	cOptions := text.add("options", options)
	if text.err != nil {
		return 0, text.err
	}
	var op C.boxlite_op_t
	var failure *C.boxlite_error_t
	code := C.boxlite_box_stop(C.boxlite_box_t(box), cOptions, &op, &failure)
	return uint64(op), result(code, failure)
}

// BoxRestart starts boxlite_box_restart.
func BoxRestart(box uint64, options string) (uint64, *Error) {
	var text cStrings
	defer text.free()
	cOptions := text.add("options", options)
	if text.err != nil {
		return 0, text.err
	}
	var op C.boxlite_op_t
	var failure *C.boxlite_error_t
	code := C.boxlite_box_restart(C.boxlite_box_t(box), cOptions, &op, &failure)
	return uint64(op), result(code, failure)
}

// BoxKill starts boxlite_box_kill.
func BoxKill(box uint64, signal int32) (uint64, *Error) {
	var op C.boxlite_op_t
	var failure *C.boxlite_error_t
	code := C.boxlite_box_kill(C.boxlite_box_t(box), C.int32_t(signal), &op, &failure)
	return uint64(op), result(code, failure)
}

// BoxPause starts boxlite_box_pause.
func BoxPause(box uint64) (uint64, *Error) {
	var op C.boxlite_op_t
	var failure *C.boxlite_error_t
	code := C.boxlite_box_pause(C.boxlite_box_t(box), &op, &failure)
	return uint64(op), result(code, failure)
}

// BoxUnpause starts boxlite_box_unpause.
func BoxUnpause(box uint64) (uint64, *Error) {
	var op C.boxlite_op_t
	var failure *C.boxlite_error_t
	code := C.boxlite_box_unpause(C.boxlite_box_t(box), &op, &failure)
	return uint64(op), result(code, failure)
}

// BoxWait starts boxlite_box_wait.
func BoxWait(box uint64) (uint64, *Error) {
	var op C.boxlite_op_t
	var failure *C.boxlite_error_t
	code := C.boxlite_box_wait(C.boxlite_box_t(box), &op, &failure)
	return uint64(op), result(code, failure)
}

// BoxInfo starts boxlite_box_info.
func BoxInfo(box uint64) (uint64, *Error) {
	var op C.boxlite_op_t
	var failure *C.boxlite_error_t
	code := C.boxlite_box_info(C.boxlite_box_t(box), &op, &failure)
	return uint64(op), result(code, failure)
}

// BoxMetrics starts boxlite_box_metrics.
func BoxMetrics(box uint64) (uint64, *Error) {
	var op C.boxlite_op_t
	var failure *C.boxlite_error_t
	code := C.boxlite_box_metrics(C.boxlite_box_t(box), &op, &failure)
	return uint64(op), result(code, failure)
}

// BoxProcesses starts boxlite_box_processes.
func BoxProcesses(box uint64) (uint64, *Error) {
	var op C.boxlite_op_t
	var failure *C.boxlite_error_t
	code := C.boxlite_box_processes(C.boxlite_box_t(box), &op, &failure)
	return uint64(op), result(code, failure)
}

// BoxLogs starts boxlite_box_logs.
func BoxLogs(box uint64, options string, stdout, stderr int) (uint64, *Error) {
	var text cStrings
	defer text.free()
	cOptions := text.add("options", options)
	if text.err != nil {
		return 0, text.err
	}
	var op C.boxlite_op_t
	var failure *C.boxlite_error_t
	code := C.boxlite_box_logs(C.boxlite_box_t(box), cOptions, C.int(stdout), C.int(stderr), &op, &failure)
	return uint64(op), result(code, failure)
}

// BoxCopyIn starts boxlite_box_copy_in.
func BoxCopyIn(box uint64, hostPath, boxPath, options string) (uint64, *Error) {
	var text cStrings
	defer text.free()
	cHostPath := text.add("hostPath", hostPath)
	cBoxPath := text.add("boxPath", boxPath)
	cOptions := text.add("options", options)
	if text.err != nil {
		return 0, text.err
	}
	var op C.boxlite_op_t
	var failure *C.boxlite_error_t
	code := C.boxlite_box_copy_in(C.boxlite_box_t(box), cHostPath, cBoxPath, cOptions, &op, &failure)
	return uint64(op), result(code, failure)
}

// BoxCopyOut starts boxlite_box_copy_out.
func BoxCopyOut(box uint64, boxPath, hostPath, options string) (uint64, *Error) {
	var text cStrings
	defer text.free()
	cBoxPath := text.add("boxPath", boxPath)
	cHostPath := text.add("hostPath", hostPath)
	cOptions := text.add("options", options)
	if text.err != nil {
		return 0, text.err
	}
	var op C.boxlite_op_t
	var failure *C.boxlite_error_t
	code := C.boxlite_box_copy_out(C.boxlite_box_t(box), cBoxPath, cHostPath, cOptions, &op, &failure)
	return uint64(op), result(code, failure)
}

// BoxCopyInTar starts boxlite_box_copy_in_tar.
func BoxCopyInTar(box uint64, fd int, boxPath, options string) (uint64, *Error) {
	var text cStrings
	defer text.free()
	cBoxPath := text.add("boxPath", boxPath)
	cOptions := text.add("options", options)
	if text.err != nil {
		return 0, text.err
	}
	var op C.boxlite_op_t
	var failure *C.boxlite_error_t
	code := C.boxlite_box_copy_in_tar(C.boxlite_box_t(box), C.int(fd), cBoxPath, cOptions, &op, &failure)
	return uint64(op), result(code, failure)
}

// BoxCopyOutTar starts boxlite_box_copy_out_tar.
func BoxCopyOutTar(box uint64, boxPath string, fd int, options string) (uint64, *Error) {
	var text cStrings
	defer text.free()
	cBoxPath := text.add("boxPath", boxPath)
	cOptions := text.add("options", options)
	if text.err != nil {
		return 0, text.err
	}
	var op C.boxlite_op_t
	var failure *C.boxlite_error_t
	code := C.boxlite_box_copy_out_tar(C.boxlite_box_t(box), cBoxPath, C.int(fd), cOptions, &op, &failure)
	return uint64(op), result(code, failure)
}

// ExecStart starts boxlite_exec_start.
func ExecStart(box uint64, options string) (uint64, *Error) {
	var text cStrings
	defer text.free()
	cOptions := text.add("options", options)
	if text.err != nil {
		return 0, text.err
	}
	var op C.boxlite_op_t
	var failure *C.boxlite_error_t
	code := C.boxlite_exec_start(C.boxlite_box_t(box), cOptions, &op, &failure)
	return uint64(op), result(code, failure)
}

// ExecWait starts boxlite_exec_wait.
func ExecWait(exec uint64) (uint64, *Error) {
	var op C.boxlite_op_t
	var failure *C.boxlite_error_t
	code := C.boxlite_exec_wait(C.boxlite_exec_t(exec), &op, &failure)
	return uint64(op), result(code, failure)
}

// ExecSignal starts boxlite_exec_signal.
func ExecSignal(exec uint64, signal int32) (uint64, *Error) {
	var op C.boxlite_op_t
	var failure *C.boxlite_error_t
	code := C.boxlite_exec_signal(C.boxlite_exec_t(exec), C.int32_t(signal), &op, &failure)
	return uint64(op), result(code, failure)
}

// ExecResize starts boxlite_exec_resize.
func ExecResize(exec uint64, rows, columns uint16) (uint64, *Error) {
	var op C.boxlite_op_t
	var failure *C.boxlite_error_t
	code := C.boxlite_exec_resize(C.boxlite_exec_t(exec), C.uint16_t(rows), C.uint16_t(columns), &op, &failure)
	return uint64(op), result(code, failure)
}

// ImagePull starts boxlite_image_pull.
func ImagePull(client uint64, reference, options string) (uint64, *Error) {
	var text cStrings
	defer text.free()
	cReference := text.add("reference", reference)
	cOptions := text.add("options", options)
	if text.err != nil {
		return 0, text.err
	}
	var op C.boxlite_op_t
	var failure *C.boxlite_error_t
	code := C.boxlite_image_pull(C.boxlite_client_t(client), cReference, cOptions, &op, &failure)
	return uint64(op), result(code, failure)
}

// ImageLoad starts boxlite_image_load.
func ImageLoad(client uint64, source, options string) (uint64, *Error) {
	var text cStrings
	defer text.free()
	cSource := text.add("source", source)
	cOptions := text.add("options", options)
	if text.err != nil {
		return 0, text.err
	}
	var op C.boxlite_op_t
	var failure *C.boxlite_error_t
	code := C.boxlite_image_load(C.boxlite_client_t(client), cSource, cOptions, &op, &failure)
	return uint64(op), result(code, failure)
}

// ImageList starts boxlite_image_list.
func ImageList(client uint64) (uint64, *Error) {
	var op C.boxlite_op_t
	var failure *C.boxlite_error_t
	code := C.boxlite_image_list(C.boxlite_client_t(client), &op, &failure)
	return uint64(op), result(code, failure)
}

// ImageGet starts boxlite_image_get.
func ImageGet(client uint64, reference string) (uint64, *Error) {
	var text cStrings
	defer text.free()
	cReference := text.add("reference", reference)
	if text.err != nil {
		return 0, text.err
	}
	var op C.boxlite_op_t
	var failure *C.boxlite_error_t
	code := C.boxlite_image_get(C.boxlite_client_t(client), cReference, &op, &failure)
	return uint64(op), result(code, failure)
}

// ImageRemove starts boxlite_image_remove.
func ImageRemove(client uint64, reference, options string) (uint64, *Error) {
	var text cStrings
	defer text.free()
	cReference := text.add("reference", reference)
	cOptions := text.add("options", options)
	if text.err != nil {
		return 0, text.err
	}
	var op C.boxlite_op_t
	var failure *C.boxlite_error_t
	code := C.boxlite_image_remove(C.boxlite_client_t(client), cReference, cOptions, &op, &failure)
	return uint64(op), result(code, failure)
}

// ImageTag starts boxlite_image_tag.
func ImageTag(client uint64, source, target string) (uint64, *Error) {
	var text cStrings
	defer text.free()
	cSource := text.add("source", source)
	cTarget := text.add("target", target)
	if text.err != nil {
		return 0, text.err
	}
	var op C.boxlite_op_t
	var failure *C.boxlite_error_t
	code := C.boxlite_image_tag(C.boxlite_client_t(client), cSource, cTarget, &op, &failure)
	return uint64(op), result(code, failure)
}
