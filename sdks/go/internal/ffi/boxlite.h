/*
 * boxlite.h: micro-VMs from OCI images, inside your program
 *
 * This header is the contract of libboxlite. What it does not promise may change.
 *
 * A *client* works with a home directory (~/.boxlite). A *box* is a virtual machine with a
 * kernel of its own, made from an OCI image. An *execution* is a process in a box. All three,
 * and the *operations* below, are named by handles.
 *
 *     boxlite_client_t client;
 *     boxlite_op_t op;
 *     boxlite_error_t *error = NULL;
 *     if (boxlite_client_new("{}", &client, &error) == BOXLITE_OK
 *         && boxlite_client_open(client, &op, &error) == BOXLITE_OK
 *         && boxlite_op_wait(op, -1, &error) == BOXLITE_OK) { ... }
 *
 * HANDLES are integers that are never used twice. 0 is never a handle. A function that is given
 * a handle that was freed returns BOXLITE_INVALID_STATE; one that is given the handle of
 * another kind of thing, or a number that never was a handle, returns BOXLITE_INVALID_ARGUMENT
 * or BOXLITE_INVALID_STATE. Neither is undefined behaviour.
 *
 * THREADS. Every function may be called from any thread at any time, also on the same handle,
 * also while another thread frees that handle.
 *
 * BLOCKING. No function blocks but boxlite_op_wait(). What takes time is an operation: it is
 * started, it runs on the library's own threads, and its end is announced.
 *
 * MEMORY. Strings that are passed in are copied before the function returns. A `char **` that a
 * function sets is the caller's, to be freed with boxlite_string_free(). Out parameters are
 * written on success only. Every `boxlite_error_t **error` may be NULL; where it is not, it is
 * set on failure only, and is the caller's, to be freed with boxlite_error_free().
 *
 * JSON. Options and complex results are JSON in UTF-8. Where a function takes options, NULL
 * means "{}". Fields that are not known are errors (BOXLITE_INVALID_ARGUMENT) that name the
 * field. docs/json.md lists every field. Results may get new fields in later versions.
 *
 * DESCRIPTORS that a function gives are the caller's, close-on-exec and blocking, unless it
 * says otherwise. Descriptors that a function takes are duplicated: the caller keeps its own.
 *
 * SIGNALS. The library installs no signal handler and changes no mask of the calling thread;
 * its own threads block all signals. Writing to a pipe that it gave can raise SIGPIPE, as
 * with every pipe.
 *
 * FORK. After fork(2), the child may only call exec(3); the machines are the parent's.
 *
 * Linux on x86_64, glibc. The library needs QEMU 7.2 or newer at run time.
 */
#ifndef BOXLITE_H
#define BOXLITE_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/* ------------------------------------------------------------------------------------------
 * Versions and codes
 */

/* The binary interface that this header describes. It grows by 1 whenever a program that was
 * compiled against an older header could break. */
#define BOXLITE_ABI_VERSION 1u

/* The version of the library, such as "0.1.0". Static. */
const char *boxlite_version(void);

/* BOXLITE_ABI_VERSION of the library that is loaded: compare it once. */
uint32_t boxlite_abi_version(void);

/* What a function returns, and how an operation ended. The values never change; new ones may
 * come, so treat one that is not known as BOXLITE_INTERNAL. */
typedef int32_t boxlite_code_t;
enum {
    BOXLITE_OK = 0,
    BOXLITE_NOT_FOUND = 1,          /* what was named does not exist */
    BOXLITE_ALREADY_EXISTS = 2,     /* something has that name already */
    BOXLITE_INVALID_STATE = 3,      /* the box, or the handle, is not in a state for this */
    BOXLITE_INVALID_ARGUMENT = 4,   /* an argument or option is wrong */
    BOXLITE_UNSUPPORTED = 5,        /* this host, engine or version can't do it */
    BOXLITE_CLOSED = 6,             /* the client was closed */
    BOXLITE_RESOURCE_EXHAUSTED = 7, /* no space, memory or descriptors; a port that is taken */
    BOXLITE_IMAGE = 8,              /* an image could not be resolved, fetched, read or built */
    BOXLITE_ENGINE = 9,             /* the machine, or what runs it, failed */
    BOXLITE_TIMEOUT = 10,           /* a deadline of the operation passed */
    BOXLITE_CANCELLED = 11,         /* the operation was cancelled */
    BOXLITE_INTERNAL = 12,          /* anything else: the host's file system, a defect */
    BOXLITE_PENDING = 100           /* no error: the operation has not ended yet */
};

/* The stable name of a code ("not_found"); "unknown" for a number that is none. Static. */
const char *boxlite_code_name(boxlite_code_t code);

/* Frees a string that a function of this library gave. NULL does nothing. */
void boxlite_string_free(char *string);

/* ------------------------------------------------------------------------------------------
 * Errors
 *
 * An error is a value of its own: no function keeps "the last error" anywhere. The strings
 * live as long as the error. NULL as the error gives BOXLITE_OK and "".
 */

typedef struct boxlite_error boxlite_error_t;

/* The code, as the function or operation returned it. */
boxlite_code_t boxlite_error_code(const boxlite_error_t *error);
/* What failed, with its causes, in one line. */
const char *boxlite_error_message(const boxlite_error_t *error);
/* What to try next; "" if there is nothing to say. */
const char *boxlite_error_hint(const boxlite_error_t *error);
/* What was observed (the last lines of the console, a registry's answer), lines separated by
 * '\n'; "" if there is nothing. */
const char *boxlite_error_evidence(const boxlite_error_t *error);
/* The function that failed or that started what failed, such as "box_start". */
const char *boxlite_error_operation(const boxlite_error_t *error);
/* The name of the box it was about; "" if it was about none. */
const char *boxlite_error_box(const boxlite_error_t *error);
/* Frees the error. NULL does nothing. */
void boxlite_error_free(boxlite_error_t *error);

/* ------------------------------------------------------------------------------------------
 * Handles
 */

typedef uint64_t boxlite_client_t;
typedef uint64_t boxlite_box_t;
typedef uint64_t boxlite_exec_t;
typedef uint64_t boxlite_op_t;

/* ------------------------------------------------------------------------------------------
 * Operations
 *
 * A function with a parameter `boxlite_op_t *op` starts work and returns at once. It fails at
 * once only if the handle or an argument is bad; all else is the operation's own end. Each
 * operation must be freed.
 *
 * With an event loop: poll boxlite_client_completion_fd() for reading, and take what has ended
 * with boxlite_client_next_completion(). Without one: boxlite_op_wait().
 */

/* Waits until the operation has ended. timeout_ms < 0 waits for ever, 0 only looks.
 * Returns BOXLITE_OK if it succeeded, BOXLITE_PENDING if the time passed first, else how it
 * failed, with its error in *error. May be called again, with the same answer. If another
 * thread frees the operation meanwhile: BOXLITE_INVALID_STATE. */
boxlite_code_t boxlite_op_wait(boxlite_op_t op, int64_t timeout_ms, boxlite_error_t **error);

/* Asks the operation to stop. It still ends, and is announced, once its work has stopped: with
 * BOXLITE_CANCELLED, or with its own result if that came first. What it had begun is undone,
 * some of it a moment later; what can't be undone (a stop that was sent) is not. */
boxlite_code_t boxlite_op_cancel(boxlite_op_t op, boxlite_error_t **error);

/* The handle that the operation gave: a box or an execution, as the function that started it
 * says. It is given once; a second call, or one on an operation without such a result, is
 * BOXLITE_INVALID_STATE, as is one before the end. A handle that nobody took is freed with the
 * operation. */
boxlite_code_t boxlite_op_result_handle(boxlite_op_t op, uint64_t *handle, boxlite_error_t **error);

/* The operation's result as JSON; "null" where it has none. BOXLITE_INVALID_STATE before the
 * end and after a failure. */
boxlite_code_t boxlite_op_result_json(boxlite_op_t op, char **json, boxlite_error_t **error);

/* How far the operation is, as JSON: for pulls, loads and creates the object "Progress" of
 * docs/json.md, for all others "null". Also after the end. */
boxlite_code_t boxlite_op_progress_json(boxlite_op_t op, char **json, boxlite_error_t **error);

/* Frees the operation. One that runs is cancelled and never announced. */
boxlite_code_t boxlite_op_free(boxlite_op_t op);

/* ------------------------------------------------------------------------------------------
 * Clients
 */

/* Makes a client; nothing is opened yet. options: "ClientOptions" of docs/json.md (home,
 * engine, accelerator, templates, bundle_dir, registries). */
boxlite_code_t boxlite_client_new(const char *options_json, boxlite_client_t *client, boxlite_error_t **error);

/* Opens the home: makes what is missing and mends what a killed process left. Operations of a
 * client that is not open end with BOXLITE_INVALID_STATE. */
boxlite_code_t boxlite_client_open(boxlite_client_t client, boxlite_op_t *op, boxlite_error_t **error);

/* Closes the client: stops its boxes that are not detached, kills its executions, and ends when
 * they are gone. From its start on, all other operations of the client end with BOXLITE_CLOSED:
 * those that run, whose work is stopped as by boxlite_op_cancel(), and those that are started
 * later, also a second closing. Can't be cancelled. */
boxlite_code_t boxlite_client_close(boxlite_client_t client, boxlite_op_t *op, boxlite_error_t **error);

/* Frees the client with its operations, boxes and executions: all their handles are freed
 * with it. If it was not closed, its boxes that are not detached are stopped in the background.
 * The completion descriptor is closed. */
boxlite_code_t boxlite_client_free(boxlite_client_t client);

/* A descriptor that is readable while operations of this client have ended that were not yet
 * taken with boxlite_client_next_completion(). It belongs to the client: don't read from it
 * and don't close it. It is non-blocking. Each completion is a new edge for epoll(7). */
boxlite_code_t boxlite_client_completion_fd(boxlite_client_t client, int *fd, boxlite_error_t **error);

/* Takes one operation that has ended; *op is 0 if there is none. Each is announced once,
 * whether or not it was waited for; one that was freed is not announced. */
boxlite_code_t boxlite_client_next_completion(boxlite_client_t client, boxlite_op_t *op, boxlite_error_t **error);

/* What this client works with: JSON "SystemInfo". */
boxlite_code_t boxlite_client_info(boxlite_client_t client, boxlite_op_t *op, boxlite_error_t **error);

/* Checks everything that a start needs: JSON "DoctorReport". Works also before the client is
 * open, for the case that it can't be opened. */
boxlite_code_t boxlite_client_doctor(boxlite_client_t client, boxlite_op_t *op, boxlite_error_t **error);

/* What the home takes of the host's disk: JSON "DiskUsage". */
boxlite_code_t boxlite_client_disk_usage(boxlite_client_t client, boxlite_op_t *op, boxlite_error_t **error);

/* Removes what is not used. options: "PruneOptions"; result: JSON "PruneReport". */
boxlite_code_t boxlite_client_prune(boxlite_client_t client, const char *options_json, boxlite_op_t *op,
                                    boxlite_error_t **error);

/* ------------------------------------------------------------------------------------------
 * Boxes
 */

/* Makes a box, and pulls its image if need be. options: "BoxOptions", of which only "image" is
 * required. Result: a box handle. Cancelling it stops a pull and leaves nothing behind. */
boxlite_code_t boxlite_box_create(boxlite_client_t client, const char *options_json, boxlite_op_t *op,
                                  boxlite_error_t **error);

/* Finds a box by name, id or the beginning of an id. Result: a box handle. */
boxlite_code_t boxlite_box_get(boxlite_client_t client, const char *id_or_name, boxlite_op_t *op,
                               boxlite_error_t **error);

/* Lists boxes, the newest first. filter: "ListFilter". Result: JSON array of "BoxInfo". */
boxlite_code_t boxlite_box_list(boxlite_client_t client, const char *filter_json, boxlite_op_t *op,
                                boxlite_error_t **error);

/* Removes a box with its disk and logs. options: "RemoveOptions" (force). */
boxlite_code_t boxlite_box_remove(boxlite_client_t client, const char *id_or_name, const char *options_json,
                                  boxlite_op_t *op, boxlite_error_t **error);

/* Gives a box another name. */
boxlite_code_t boxlite_box_rename(boxlite_client_t client, const char *id_or_name, const char *name,
                                  boxlite_op_t *op, boxlite_error_t **error);

/* The box's id, 32 hexadecimal digits, and its name when the handle was made. */
boxlite_code_t boxlite_box_id(boxlite_box_t box, char **id, boxlite_error_t **error);
boxlite_code_t boxlite_box_name(boxlite_box_t box, char **name, boxlite_error_t **error);

/* Starts the machine and, if the box has one, its main process; ends when both run. Cancelling
 * it ends the attempt. */
boxlite_code_t boxlite_box_start(boxlite_box_t box, boxlite_op_t *op, boxlite_error_t **error);

/* Starts the box with the streams of its main process attached: nothing that it writes is
 * missed. options: "AttachOptions" (stdin, stdout, stderr, rows, columns; as in "ExecOptions"
 * below, stderr, rows and columns by whether the box has a terminal). Result: an execution
 * handle. Freeing that execution only detaches from the process. */
boxlite_code_t boxlite_box_start_attached(boxlite_box_t box, const char *options_json, boxlite_op_t *op,
                                          boxlite_error_t **error);

/* Attaches to the main process of a running box, from now on. Otherwise as above. */
boxlite_code_t boxlite_box_attach(boxlite_box_t box, const char *options_json, boxlite_op_t *op,
                                  boxlite_error_t **error);

/* Stops the box in order (signal, grace, kill, sync, power off) and ends when it is over.
 * options: "StopOptions" (timeout_ms, signal). A box that does not run is left as it is. */
boxlite_code_t boxlite_box_stop(boxlite_box_t box, const char *options_json, boxlite_op_t *op,
                                boxlite_error_t **error);

/* Stops the box if it runs, and starts it. options: "StopOptions". */
boxlite_code_t boxlite_box_restart(boxlite_box_t box, const char *options_json, boxlite_op_t *op,
                                   boxlite_error_t **error);

/* Sends a signal, by its Linux number, to the main process. SIGKILL (9) ends the box, and so
 * does any fatal signal to a box without a main process. */
boxlite_code_t boxlite_box_kill(boxlite_box_t box, int32_t signal, boxlite_op_t *op, boxlite_error_t **error);

/* Stands the box still: its processors, its timers and its network. Its memory stays in use.
 * Stopping, killing and removing work on a paused box; everything else that the guest would
 * answer is refused with BOXLITE_INVALID_STATE. */
boxlite_code_t boxlite_box_pause(boxlite_box_t box, boxlite_op_t *op, boxlite_error_t **error);

/* Lets a paused box go on. Its wall clock is the host's again; its monotonic clock goes on
 * where it stood. */
boxlite_code_t boxlite_box_unpause(boxlite_box_t box, boxlite_op_t *op, boxlite_error_t **error);

/* Ends when the box has ended, whoever started it. Result: JSON "ExitStatus" of its main
 * process. */
boxlite_code_t boxlite_box_wait(boxlite_box_t box, boxlite_op_t *op, boxlite_error_t **error);

/* JSON "BoxInfo", "Metrics" and an array of "ProcessInfo", as they are now. */
boxlite_code_t boxlite_box_info(boxlite_box_t box, boxlite_op_t *op, boxlite_error_t **error);
boxlite_code_t boxlite_box_metrics(boxlite_box_t box, boxlite_op_t *op, boxlite_error_t **error);
boxlite_code_t boxlite_box_processes(boxlite_box_t box, boxlite_op_t *op, boxlite_error_t **error);

/* Writes what the main process has written, over all starts, to stdout_fd and stderr_fd: pipes,
 * sockets, files; -1 drops that stream, and both may be the same. options: "LogOptions" (follow, tail, since_ms,
 * until_ms). Ends when all is written: with "follow", when the box has ended. */
boxlite_code_t boxlite_box_logs(boxlite_box_t box, const char *options_json, int stdout_fd, int stderr_fd,
                                boxlite_op_t *op, boxlite_error_t **error);

/* Frees the handle. Nothing happens to the box. */
boxlite_code_t boxlite_box_free(boxlite_box_t box);

/* ------------------------------------------------------------------------------------------
 * Copying
 *
 * By the rules of `docker cp`: into a folder that exists under the source's name; a source that
 * ends with "/." brings what is in it instead; else to that very path, whose folder must exist.
 * Host paths are bytes as the host has them. options: "CopyOptions" (follow_link, keep_owner).
 * Result: JSON "CopyReport".
 */

boxlite_code_t boxlite_box_copy_in(boxlite_box_t box, const char *host_path, const char *box_path,
                                   const char *options_json, boxlite_op_t *op, boxlite_error_t **error);
boxlite_code_t boxlite_box_copy_out(boxlite_box_t box, const char *box_path, const char *host_path,
                                    const char *options_json, boxlite_op_t *op, boxlite_error_t **error);

/* Unpacks the tar stream that is read from fd, up to its end, into a folder of the box. */
boxlite_code_t boxlite_box_copy_in_tar(boxlite_box_t box, int fd, const char *box_path, const char *options_json,
                                       boxlite_op_t *op, boxlite_error_t **error);

/* Writes a path of the box to fd as a tar stream (PAX), as the box sends it: whoever unpacks
 * it must not trust it. Result: "null". */
boxlite_code_t boxlite_box_copy_out_tar(boxlite_box_t box, const char *box_path, int fd, const char *options_json,
                                        boxlite_op_t *op, boxlite_error_t **error);

/* ------------------------------------------------------------------------------------------
 * Executions
 *
 * The streams of a process are pipes: read(2) and write(2) move its bytes, a reader that is
 * slow holds up its process and nobody else, and end of file means what it means everywhere.
 * Reading one output to its end before the other can deadlock with a process that fills the
 * other, as with every pair of pipes: poll(2), or use threads, or let "stderr" be "stdout".
 */

/* Starts a process in a running box. options: "ExecOptions":
 *   command      array of strings, required: program and arguments
 *   env          object, over the box's environment
 *   working_dir, user     as in BoxOptions; absent: the box's
 *   stdin        bool, default false: give it a standard input
 *   stdout       "pipe" (default) or "null"
 *   stderr       "pipe" (default), "null" or "stdout" (both in one pipe)
 *   tty          bool, default false: give it a terminal; then stdout carries everything and
 *                stderr must not be given
 *   rows, columns         size of the terminal, both or neither
 *   detached     bool, default false: let the process live on when the handle is freed
 * Result: an execution handle, when the process runs. Cancelling it kills the process. */
boxlite_code_t boxlite_exec_start(boxlite_box_t box, const char *options_json, boxlite_op_t *op,
                                  boxlite_error_t **error);

/* Its process id in the box. */
boxlite_code_t boxlite_exec_pid(boxlite_exec_t exec, int32_t *pid, boxlite_error_t **error);

/* The streams. Each is given once, and is the caller's to close; one that was not asked for, or
 * was given already, is BOXLITE_INVALID_STATE. What nobody takes is not read: take every
 * stream that was asked for. With a terminal, stdin and stdout are two descriptors of one
 * socket if both were asked for. Closing an output early lets the process write into the void. */
boxlite_code_t boxlite_exec_stdin_fd(boxlite_exec_t exec, int *fd, boxlite_error_t **error);
boxlite_code_t boxlite_exec_stdout_fd(boxlite_exec_t exec, int *fd, boxlite_error_t **error);
boxlite_code_t boxlite_exec_stderr_fd(boxlite_exec_t exec, int *fd, boxlite_error_t **error);

/* Ends the process's input after what was written so far, also while copies of the descriptor
 * are open elsewhere. Closing the last copy does the same. */
boxlite_code_t boxlite_exec_stdin_close(boxlite_exec_t exec, boxlite_error_t **error);

/* Ends when the process has ended and its output was taken up by the pipes, with its JSON
 * "ExitStatus": whoever waits before reading can wait for ever. The pipes end by themselves when
 * all output is in them. Processes that it left behind can hold that up for as long as they
 * write, or for two seconds of silence. Waiting again gives the same answer. */
boxlite_code_t boxlite_exec_wait(boxlite_exec_t exec, boxlite_op_t *op, boxlite_error_t **error);

/* Sends a signal, by its Linux number, to the process. */
boxlite_code_t boxlite_exec_signal(boxlite_exec_t exec, int32_t signal, boxlite_op_t *op, boxlite_error_t **error);

/* Tells the terminal its new size. */
boxlite_code_t boxlite_exec_resize(boxlite_exec_t exec, uint16_t rows, uint16_t columns, boxlite_op_t *op,
                                   boxlite_error_t **error);

/* Frees the handle: a process that still runs is killed, unless it is detached or the box's
 * main process. Output that is in the pipes already can still be read. */
boxlite_code_t boxlite_exec_free(boxlite_exec_t exec);

/* ------------------------------------------------------------------------------------------
 * Images
 */

/* Pulls an image from its registry. options: "PullOptions" (platform, credentials). Result:
 * JSON "ImageInfo". Has progress. */
boxlite_code_t boxlite_image_pull(boxlite_client_t client, const char *reference, const char *options_json,
                                  boxlite_op_t *op, boxlite_error_t **error);

/* Loads images from docker-archive:PATH[:REFERENCE], oci:PATH[:TAG], oci-archive:PATH[:TAG], or
 * the plain path of such a file or folder. options: "LoadOptions" (platform, tag). Result: JSON
 * array of "ImageInfo". Has progress. */
boxlite_code_t boxlite_image_load(boxlite_client_t client, const char *source, const char *options_json,
                                  boxlite_op_t *op, boxlite_error_t **error);

/* JSON array of "ImageInfo"; one "ImageInfo". */
boxlite_code_t boxlite_image_list(boxlite_client_t client, boxlite_op_t *op, boxlite_error_t **error);
boxlite_code_t boxlite_image_get(boxlite_client_t client, const char *reference, boxlite_op_t *op,
                                 boxlite_error_t **error);

/* Removes an image. options: "ImageRemoveOptions" (force). Result: JSON "ImageRemoval". */
boxlite_code_t boxlite_image_remove(boxlite_client_t client, const char *reference, const char *options_json,
                                    boxlite_op_t *op, boxlite_error_t **error);

/* Gives an image one more name. */
boxlite_code_t boxlite_image_tag(boxlite_client_t client, const char *source, const char *target, boxlite_op_t *op,
                                 boxlite_error_t **error);

/* ------------------------------------------------------------------------------------------
 * Templates
 *
 * Machines that have booted, saved for boxes whose machines have the same shape to start from.
 * They come and go by themselves, as "templates" of "ClientOptions" says; these functions are
 * for those who want them before the first start, or not any more.
 */

/* Makes a template, unless there is one of that shape. options: "TemplateOptions". Result: JSON
 * "TemplateInfo". Takes as long as the start of a machine that boots. */
boxlite_code_t boxlite_template_create(boxlite_client_t client, const char *options_json, boxlite_op_t *op,
                                       boxlite_error_t **error);

/* JSON array of "TemplateInfo". */
boxlite_code_t boxlite_template_list(boxlite_client_t client, boxlite_op_t *op, boxlite_error_t **error);

/* Removes a template, by its key or the beginning of it. Boxes that run are not touched. Result:
 * JSON "TemplateInfo" of what was removed. */
boxlite_code_t boxlite_template_remove(boxlite_client_t client, const char *key, boxlite_op_t *op,
                                       boxlite_error_t **error);

/* ------------------------------------------------------------------------------------------
 * Logging
 */

/* A descriptor from which the library's own log is read, one JSON object a line: "time_ms",
 * "level" ("error", "warn", "info", "debug", "trace"), "target", "message" and "fields" (an
 * object). level is the least severe that is wanted. A reader that is slow loses lines, and is
 * told how many by a line with the field "lost"; it never holds anything up. The log is the
 * process's: it has the lines of all clients, and each such descriptor gets all of them. Closing
 * it ends it. It is a socket. */
boxlite_code_t boxlite_log_fd(const char *level, int *fd, boxlite_error_t **error);

#ifdef __cplusplus
}
#endif

#endif /* BOXLITE_H */
