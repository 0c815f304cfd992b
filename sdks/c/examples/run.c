/*
 * run.c: run one command in a box of its own.
 *
 *     cc run.c -o run $(pkg-config --cflags --libs boxlite)
 *     ./run alpine:3.20 uname -a
 *
 * The shortest way through the library: start an operation, wait for it, look at its result.
 * What the command writes comes out of pipes, which `forward` empties.
 */
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <boxlite.h>

/* Says what failed, what was seen, and what to try next. */
static void die(boxlite_error_t *error)
{
    fprintf(stderr, "run: %s: %s\n", boxlite_error_operation(error), boxlite_error_message(error));
    if (*boxlite_error_evidence(error))
        fprintf(stderr, "%s\n", boxlite_error_evidence(error));
    if (*boxlite_error_hint(error))
        fprintf(stderr, "try: %s\n", boxlite_error_hint(error));
    boxlite_error_free(error);
    exit(125);
}

/* Waits for an operation that was started, and gives its handle if one is wanted. */
static void finish(boxlite_code_t started, boxlite_op_t *op, uint64_t *handle, boxlite_error_t **error)
{
    if (started != BOXLITE_OK || boxlite_op_wait(*op, -1, error) != BOXLITE_OK)
        die(*error);
    if (handle && boxlite_op_result_handle(*op, handle, error) != BOXLITE_OK)
        die(*error);
    boxlite_op_free(*op);
}

/* Appends a text to JSON, as a JSON string. */
static char *append_string(char *at, const char *text)
{
    *at++ = '"';
    for (; *text; text++) {
        unsigned char c = (unsigned char)*text;
        if (c < 0x20)
            at += sprintf(at, "\\u%04x", (unsigned)c);
        else {
            if (c == '"' || c == '\\')
                *at++ = '\\';
            *at++ = (char)c;
        }
    }
    *at++ = '"';
    *at = 0;
    return at;
}

/* {"<key>":"<words[0]>"} or, with is_list, {"<key>":["<words[0]>", ...]} */
static char *object(const char *key, char **words, int is_list)
{
    size_t size = strlen(key) + 16;
    char *json, *at, **word;
    for (word = words; *word; word++)
        size += 6 * strlen(*word) + 3;
    at = json = malloc(size);
    if (!json)
        abort();
    at += sprintf(at, "{\"%s\":%s", key, is_list ? "[" : "");
    for (word = words; *word && (is_list || word == words); word++) {
        if (word != words)
            *at++ = ',';
        at = append_string(at, *word);
    }
    strcpy(at, is_list ? "]}" : "}");
    return json;
}

/* Copies both outputs of the command to ours until they end. One must not wait for the other. */
static void forward(int out, int err)
{
    struct pollfd streams[2];
    int open_streams = 2, i;
    static char bytes[65536];

    streams[0].fd = out;
    streams[1].fd = err;
    streams[0].events = streams[1].events = POLLIN;
    while (open_streams > 0 && poll(streams, 2, -1) > 0) {
        for (i = 0; i < 2; i++) {
            ssize_t count;
            if (!streams[i].revents)
                continue;
            count = read(streams[i].fd, bytes, sizeof bytes);
            if (count > 0) {
                fwrite(bytes, 1, (size_t)count, i ? stderr : stdout);
            } else {
                close(streams[i].fd);
                streams[i].fd = -1; /* poll(2) leaves it out from now on */
                open_streams--;
            }
        }
    }
    fflush(stdout);
}

int main(int argc, char **argv)
{
    boxlite_error_t *error = NULL;
    boxlite_client_t client;
    boxlite_box_t box;
    boxlite_exec_t exec;
    boxlite_op_t op = 0;
    char *json, *status, *code;
    int out, err, exit_code = 1;

    if (argc < 3) {
        fprintf(stderr, "usage: %s IMAGE COMMAND [ARGUMENT...]\n", argv[0]);
        return 2;
    }
    if (boxlite_abi_version() != BOXLITE_ABI_VERSION) {
        fprintf(stderr, "run: libboxlite %s is not the one this was built for\n", boxlite_version());
        return 2;
    }

    /* A client works with a home, ~/.boxlite if nothing else is said. */
    if (boxlite_client_new(NULL, &client, &error) != BOXLITE_OK)
        die(error);
    finish(boxlite_client_open(client, &op, &error), &op, NULL, &error);

    /* A box of the image, which is pulled if it is not there; then its machine. */
    json = object("image", argv + 1, 0);
    finish(boxlite_box_create(client, json, &op, &error), &op, &box, &error);
    free(json);
    finish(boxlite_box_start(box, &op, &error), &op, NULL, &error);

    /* The command in it. */
    json = object("command", argv + 2, 1);
    finish(boxlite_exec_start(box, json, &op, &error), &op, &exec, &error);
    free(json);
    if (boxlite_exec_stdout_fd(exec, &out, &error) != BOXLITE_OK
        || boxlite_exec_stderr_fd(exec, &err, &error) != BOXLITE_OK)
        die(error);
    forward(out, err);

    /* How it ended: {"code":0,"signal":null,"out_of_memory":false} */
    if (boxlite_exec_wait(exec, &op, &error) != BOXLITE_OK || boxlite_op_wait(op, -1, &error) != BOXLITE_OK
        || boxlite_op_result_json(op, &status, &error) != BOXLITE_OK)
        die(error);
    boxlite_op_free(op);
    code = strstr(status, "\"code\":");
    if (code && strncmp(code, "\"code\":null", 11) != 0)
        exit_code = atoi(code + 7);
    boxlite_string_free(status);
    boxlite_exec_free(exec);

    /* The box goes; closing the client would only stop it. */
    if (boxlite_box_id(box, &status, &error) != BOXLITE_OK)
        die(error);
    finish(boxlite_box_remove(client, status, "{\"force\":true}", &op, &error), &op, NULL, &error);
    boxlite_string_free(status);
    boxlite_box_free(box);
    finish(boxlite_client_close(client, &op, &error), &op, NULL, &error);
    boxlite_client_free(client);
    return exit_code;
}
