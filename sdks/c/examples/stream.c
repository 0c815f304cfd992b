/*
 * stream.c: a filter in a box, fed and read at the same time with poll(2).
 *
 *     cc stream.c -o stream $(pkg-config --cflags --libs boxlite)
 *     ./stream BOX sort -n < numbers
 *
 * BOX runs already (`boxlite run -d --name BOX alpine:3.20`, or run.c). Everything that this
 * program waits for, the streams and the end of the command, is in one poll(2): this is how the
 * library fits into an event loop.
 */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <boxlite.h>

enum { TO_BOX, FROM_BOX, ENDS, POLLED };

static void die(boxlite_error_t *error)
{
    fprintf(stderr, "stream: %s\n", boxlite_error_message(error));
    boxlite_error_free(error);
    exit(125);
}

/* {"command":[...],"stdin":true,"stderr":"stdout"}; words with quotes are left to run.c. */
static char *exec_options(char **words)
{
    size_t size = 64;
    char **word, *json, *at;
    for (word = words; *word; word++)
        size += strlen(*word) + 3;
    at = json = malloc(size);
    if (!json)
        abort();
    at += sprintf(at, "{\"stdin\":true,\"stderr\":\"stdout\",\"command\":[");
    for (word = words; *word; word++)
        at += sprintf(at, "%s\"%s\"", word == words ? "" : ",", *word);
    strcpy(at, "]}");
    return json;
}

/* Starts and waits: for the few steps before the loop. */
static uint64_t take(boxlite_op_t op)
{
    boxlite_error_t *error = NULL;
    uint64_t handle = 0;
    if (boxlite_op_wait(op, -1, &error) != BOXLITE_OK)
        die(error);
    boxlite_op_result_handle(op, &handle, NULL); /* opening a client gives none */
    boxlite_op_free(op);
    return handle;
}

int main(int argc, char **argv)
{
    boxlite_error_t *error = NULL;
    boxlite_client_t client;
    boxlite_box_t box;
    boxlite_exec_t exec;
    boxlite_op_t op, ended, waiting;
    struct pollfd polled[POLLED];
    static char input[65536], output[65536];
    size_t held = 0, sent = 0;
    int to_box, from_box, completions, running = 1, draining = 1;
    char *json;

    if (argc < 3) {
        fprintf(stderr, "usage: %s BOX COMMAND [ARGUMENT...]\n", argv[0]);
        return 2;
    }
    /* A command that ends before its input does is no reason to die. */
    signal(SIGPIPE, SIG_IGN);

    if (boxlite_client_new(NULL, &client, &error) || boxlite_client_open(client, &op, &error))
        die(error);
    take(op);
    if (boxlite_box_get(client, argv[1], &op, &error))
        die(error);
    box = take(op);
    json = exec_options(argv + 2);
    if (boxlite_exec_start(box, json, &op, &error))
        die(error);
    free(json);
    exec = take(op);

    /* The streams are plain descriptors, and ours from now on: they may be made non-blocking. */
    if (boxlite_exec_stdin_fd(exec, &to_box, &error) || boxlite_exec_stdout_fd(exec, &from_box, &error)
        || boxlite_client_completion_fd(client, &completions, &error) || boxlite_exec_wait(exec, &waiting, &error))
        die(error);
    fcntl(to_box, F_SETFL, O_NONBLOCK);

    while (running || draining) {
        /* What we have is sent on before more is read: no byte is held twice. */
        if (to_box >= 0 && held == sent) {
            ssize_t count = read(STDIN_FILENO, input, sizeof input);
            sent = 0;
            held = count > 0 ? (size_t)count : 0;
            if (held == 0) {
                close(to_box); /* the end of the command's input */
                to_box = -1;
            }
        }
        polled[TO_BOX].fd = to_box;
        polled[TO_BOX].events = POLLOUT;
        polled[FROM_BOX].fd = from_box;
        polled[FROM_BOX].events = POLLIN;
        polled[ENDS].fd = completions;
        polled[ENDS].events = POLLIN;
        if (poll(polled, POLLED, -1) < 0 && errno != EINTR)
            break;

        if (to_box >= 0 && polled[TO_BOX].revents) {
            ssize_t count = write(to_box, input + sent, held - sent);
            if (count > 0) {
                sent += (size_t)count;
            } else if (errno != EAGAIN) {
                close(to_box); /* EPIPE: the command wants no more */
                to_box = -1;
            }
        }
        if (draining && polled[FROM_BOX].revents) {
            ssize_t count = read(from_box, output, sizeof output);
            if (count > 0) {
                fwrite(output, 1, (size_t)count, stdout);
            } else {
                close(from_box);
                from_box = -1;
                draining = 0;
            }
        }
        if (polled[ENDS].revents) {
            while (boxlite_client_next_completion(client, &ended, &error) == BOXLITE_OK && ended)
                if (ended == waiting)
                    running = 0;
        }
    }
    fflush(stdout);
    if (boxlite_op_wait(waiting, 0, &error) != BOXLITE_OK || boxlite_op_result_json(waiting, &json, &error) != BOXLITE_OK)
        die(error);
    fprintf(stderr, "%s\n", json);
    boxlite_string_free(json);

    /* Frees the box, the execution and the operations with it; the box is another's, and runs on. */
    boxlite_client_free(client);
    return 0;
}
