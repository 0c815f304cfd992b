/*
 * pull.c: pull an image and show how far it is. Ctrl-C cancels it.
 *
 *     cc pull.c -o pull $(pkg-config --cflags --libs boxlite)
 *     ./pull alpine:3.20
 *
 * boxlite_op_wait() with a time limit is the whole loop: it returns BOXLITE_PENDING whenever the
 * time has passed, which is when the progress is looked at.
 */
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <boxlite.h>

static volatile sig_atomic_t interrupted;

static void on_interrupt(int number)
{
    (void)number;
    interrupted = 1;
}

static int fail(boxlite_error_t *error)
{
    fprintf(stderr, "\npull: %s (%s)\n", boxlite_error_message(error), boxlite_code_name(boxlite_error_code(error)));
    if (*boxlite_error_hint(error))
        fprintf(stderr, "try: %s\n", boxlite_error_hint(error));
    boxlite_error_free(error);
    return 1;
}

/* A number or word of the outermost object of the progress. A program that wants more of it has a
 * JSON library; the fields are in docs/json.md, "Progress". */
static const char *last_field(const char *json, const char *key)
{
    const char *found = NULL, *next = json;
    while ((next = strstr(next, key)) != NULL)
        found = next += strlen(key);
    return found ? found : "";
}

static void show(boxlite_op_t pull)
{
    char *json;
    if (boxlite_op_progress_json(pull, &json, NULL) != BOXLITE_OK)
        return;
    /* {"phase":"downloading",...,"layers":[...],"current_bytes":123,"total_bytes":456,"retry":null} */
    fprintf(stderr, "\r%-12.*s %8.1f of %.1f MB ", (int)strcspn(last_field(json, "\"phase\":\""), "\""),
            last_field(json, "\"phase\":\""), atof(last_field(json, "\"current_bytes\":")) / 1e6,
            atof(last_field(json, "\"total_bytes\":")) / 1e6);
    boxlite_string_free(json);
}

int main(int argc, char **argv)
{
    boxlite_error_t *error = NULL;
    boxlite_client_t client;
    boxlite_op_t op;
    boxlite_code_t code;
    char *image;

    if (argc != 2) {
        fprintf(stderr, "usage: %s IMAGE\n", argv[0]);
        return 2;
    }
    signal(SIGINT, on_interrupt);

    if (boxlite_client_new(NULL, &client, &error) != BOXLITE_OK || boxlite_client_open(client, &op, &error) != BOXLITE_OK
        || boxlite_op_wait(op, -1, &error) != BOXLITE_OK)
        return fail(error);
    boxlite_op_free(op);

    if (boxlite_image_pull(client, argv[1], NULL, &op, &error) != BOXLITE_OK)
        return fail(error);
    while ((code = boxlite_op_wait(op, 100, &error)) == BOXLITE_PENDING) {
        show(op);
        if (interrupted)
            boxlite_op_cancel(op, NULL); /* it ends soon, with BOXLITE_CANCELLED */
    }
    show(op);
    if (code != BOXLITE_OK)
        return fail(error);
    if (boxlite_op_result_json(op, &image, &error) != BOXLITE_OK)
        return fail(error);
    fprintf(stderr, "\n");
    puts(image);
    boxlite_string_free(image);

    /* Nothing is left to close in order: no box was started. */
    boxlite_client_free(client);
    return 0;
}
