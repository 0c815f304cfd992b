/*
 * lifecycle.c IMAGE HOME: everything that a program does with a box, once, and a few things that
 * it should not do. Run under valgrind and with the address sanitizer: nothing may be lost.
 */
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <boxlite.h>

#define CHECK(condition)                                                                  \
    do {                                                                                  \
        if (!(condition)) {                                                               \
            fprintf(stderr, "%s:%d: not so: %s\n", __FILE__, __LINE__, #condition);       \
            exit(1);                                                                      \
        }                                                                                 \
    } while (0)

/* Starts, waits, and gives the code with which it ended. */
static boxlite_code_t ended(boxlite_code_t started, boxlite_op_t *op)
{
    boxlite_error_t *error = NULL;
    boxlite_code_t code = started;
    if (started == BOXLITE_OK)
        code = boxlite_op_wait(*op, -1, &error);
    if (error) {
        CHECK(boxlite_error_code(error) == code);
        CHECK(*boxlite_error_message(error) && *boxlite_error_operation(error));
        boxlite_error_free(error);
    }
    return code;
}

/* The same, for what must work; the operation is freed. */
static void done(boxlite_code_t started, boxlite_op_t *op)
{
    boxlite_error_t *error = NULL;
    if (started != BOXLITE_OK || boxlite_op_wait(*op, -1, &error) != BOXLITE_OK) {
        fprintf(stderr, "%s: %s\n%s\n", boxlite_error_operation(error), boxlite_error_message(error),
                boxlite_error_evidence(error));
        exit(1);
    }
    CHECK(boxlite_op_free(*op) == BOXLITE_OK);
}

static uint64_t handle_of(boxlite_code_t started, boxlite_op_t *op)
{
    uint64_t handle = 0;
    CHECK(ended(started, op) == BOXLITE_OK);
    CHECK(boxlite_op_result_handle(*op, &handle, NULL) == BOXLITE_OK && handle != 0);
    CHECK(boxlite_op_result_handle(*op, &handle, NULL) == BOXLITE_INVALID_STATE);
    CHECK(boxlite_op_free(*op) == BOXLITE_OK);
    return handle;
}

/* Whether the result of an operation has this text in it. */
static void has(boxlite_code_t started, boxlite_op_t *op, const char *text)
{
    char *json = NULL;
    CHECK(ended(started, op) == BOXLITE_OK);
    CHECK(boxlite_op_result_json(*op, &json, NULL) == BOXLITE_OK);
    if (!strstr(json, text)) {
        fprintf(stderr, "%s is not in %s\n", text, json);
        exit(1);
    }
    boxlite_string_free(json);
    CHECK(boxlite_op_free(*op) == BOXLITE_OK);
}

static void filter(boxlite_box_t box)
{
    boxlite_op_t op = 0;
    boxlite_exec_t exec;
    char text[64] = {0};
    size_t have = 0;
    ssize_t count;
    int in, out;

    exec = handle_of(boxlite_exec_start(box, "{\"command\":[\"sort\"],\"stdin\":true}", &op, NULL), &op);
    CHECK(boxlite_exec_stdin_fd(exec, &in, NULL) == BOXLITE_OK);
    CHECK(boxlite_exec_stdout_fd(exec, &out, NULL) == BOXLITE_OK);
    CHECK(boxlite_exec_stdout_fd(exec, &out, NULL) == BOXLITE_INVALID_STATE);
    CHECK(fcntl(out, F_GETFD) == FD_CLOEXEC && (fcntl(out, F_GETFL) & O_NONBLOCK) == 0);
    CHECK(write(in, "pear\napple\n", 11) == 11);
    close(in);
    while ((count = read(out, text + have, sizeof text - 1 - have)) > 0)
        have += (size_t)count;
    close(out);
    CHECK(strcmp(text, "apple\npear\n") == 0);
    has(boxlite_exec_wait(exec, &op, NULL), &op, "\"code\":0");
    CHECK(boxlite_exec_free(exec) == BOXLITE_OK);
    CHECK(boxlite_exec_free(exec) == BOXLITE_INVALID_STATE);
}

int main(int argc, char **argv)
{
    static char options[4096];
    boxlite_error_t *error = NULL;
    boxlite_client_t client;
    boxlite_box_t box, again;
    boxlite_exec_t exec;
    boxlite_op_t op = 0, waiting = 0, taken = 0;
    struct pollfd ends;
    char *text;
    int log, i;

    if (argc != 3)
        return 2;
    CHECK(strcmp(boxlite_code_name(BOXLITE_TIMEOUT), "timeout") == 0);
    CHECK(strcmp(boxlite_code_name(4711), "unknown") == 0);
    CHECK(boxlite_log_fd("debug", &log, NULL) == BOXLITE_OK);

    CHECK(boxlite_client_new("{\"hoem\":\"x\"}", &client, &error) == BOXLITE_INVALID_ARGUMENT);
    CHECK(strstr(boxlite_error_message(error), "hoem"));
    boxlite_error_free(error);
    snprintf(options, sizeof options, "{\"home\":\"%s\"}", argv[2]);
    CHECK(boxlite_client_new(options, &client, NULL) == BOXLITE_OK);
    CHECK(ended(boxlite_box_list(client, NULL, &op, NULL), &op) == BOXLITE_INVALID_STATE);
    boxlite_op_free(op);
    done(boxlite_client_open(client, &op, NULL), &op);
    has(boxlite_client_info(client, &op, NULL), &op, "\"engine\":{");

    snprintf(options, sizeof options,
             "{\"image\":\"%s\",\"name\":\"life\",\"memory_mib\":128,\"disk_mib\":64,\"env\":{\"A\":\"b\"},"
             "\"command\":[\"sh\",\"-c\",\"echo main $A; sleep 1000\"]}", argv[1]);
    box = handle_of(boxlite_box_create(client, options, &op, NULL), &op);
    CHECK(ended(boxlite_box_create(client, options, &op, NULL), &op) == BOXLITE_ALREADY_EXISTS);
    boxlite_op_free(op);
    again = handle_of(boxlite_box_get(client, "life", &op, NULL), &op);
    CHECK(again != box);
    CHECK(boxlite_box_name(again, &text, NULL) == BOXLITE_OK && strcmp(text, "life") == 0);
    boxlite_string_free(text);
    CHECK(boxlite_box_free(again) == BOXLITE_OK && boxlite_box_free(again) == BOXLITE_INVALID_STATE);

    /* The end of an operation is announced on a descriptor, once. */
    CHECK(boxlite_client_completion_fd(client, &ends.fd, NULL) == BOXLITE_OK);
    while (boxlite_client_next_completion(client, &taken, NULL) == BOXLITE_OK && taken) {}
    CHECK(boxlite_box_start(box, &op, NULL) == BOXLITE_OK);
    ends.events = POLLIN;
    CHECK(poll(&ends, 1, 120000) == 1);
    CHECK(boxlite_client_next_completion(client, &taken, NULL) == BOXLITE_OK && taken == op);
    CHECK(poll(&ends, 1, 0) == 0);
    done(BOXLITE_OK, &op);
    has(boxlite_box_info(box, &op, NULL), &op, "\"state\":\"running\"");
    has(boxlite_box_processes(box, &op, NULL), &op, "sleep 1000");

    for (i = 0; i < 3; i++)
        filter(box);
    CHECK(ended(boxlite_exec_start(box, "{\"command\":[\"no-such-thing\"]}", &op, NULL), &op) == BOXLITE_NOT_FOUND);
    boxlite_op_free(op);

    /* Waited for from outside, cancelled, and let go: the process ends with its handle. */
    exec = handle_of(boxlite_exec_start(box, "{\"command\":[\"sleep\",\"99\"]}", &op, NULL), &op);
    CHECK(boxlite_exec_wait(exec, &waiting, NULL) == BOXLITE_OK);
    CHECK(boxlite_op_wait(waiting, 20, NULL) == BOXLITE_PENDING);
    CHECK(boxlite_op_cancel(waiting, NULL) == BOXLITE_OK);
    CHECK(ended(BOXLITE_OK, &waiting) == BOXLITE_CANCELLED);
    boxlite_op_free(waiting);
    done(boxlite_exec_signal(exec, 15, &op, NULL), &op);
    has(boxlite_exec_wait(exec, &op, NULL), &op, "\"signal\":15");
    boxlite_exec_free(exec);
    /* A result that nobody takes is let go with its operation. */
    done(boxlite_exec_start(box, "{\"command\":[\"sleep\",\"99\"]}", &op, NULL), &op);

    snprintf(options, sizeof options, "%s/text", argv[2]);
    i = open(options, O_RDWR | O_CREAT, 0600);
    CHECK(i >= 0 && write(i, "hello\n", 6) == 6);
    has(boxlite_box_copy_in(box, options, "/tmp/text", NULL, &op, NULL), &op, "\"bytes\":6");
    done(boxlite_box_logs(box, NULL, i, -1, &op, NULL), &op);
    CHECK(lseek(i, 0, SEEK_END) == 13); /* and "main b\n" */
    close(i);
    has(boxlite_box_copy_out(box, "/tmp/text", options, NULL, &op, NULL), &op, "\"bytes\":6");

    done(boxlite_box_stop(box, "{\"timeout_ms\":100}", &op, NULL), &op);
    has(boxlite_box_wait(box, &op, NULL), &op, "\"code\"");
    done(boxlite_box_start(box, &op, NULL), &op);
    filter(box);

    /* Closed with all of it open: it ends, and everything else says so. */
    exec = handle_of(boxlite_exec_start(box, "{\"command\":[\"sleep\",\"99\"]}", &op, NULL), &op);
    CHECK(boxlite_exec_wait(exec, &waiting, NULL) == BOXLITE_OK);
    done(boxlite_client_close(client, &op, NULL), &op);
    CHECK(ended(BOXLITE_OK, &waiting) == BOXLITE_CLOSED);
    CHECK(ended(boxlite_box_info(box, &op, NULL), &op) == BOXLITE_CLOSED);
    CHECK(boxlite_client_free(client) == BOXLITE_OK);
    CHECK(boxlite_box_free(box) == BOXLITE_INVALID_STATE);
    CHECK(boxlite_op_free(waiting) == BOXLITE_INVALID_STATE);
    CHECK(boxlite_client_free(client) == BOXLITE_INVALID_STATE);

    /* Lines of the log came meanwhile, whole. */
    {
        static char lines[1 << 16];
        ssize_t count = read(log, lines, sizeof lines);
        CHECK(count > 1 && lines[0] == '{' && lines[count - 1] == '\n');
        close(log);
    }
    puts("ok");
    return 0;
}
