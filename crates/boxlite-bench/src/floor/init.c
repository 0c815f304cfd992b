/* The first and only process of the bare machines that boxlite is measured against.
 *
 *   init print   prints a line to the console
 *   init serve   answers on the first virtio-serial port, one request a line:
 *                  byte     a line back, at once
 *                  run      forks and executes itself as echo, with its output to the port
 *                  spawn N  forks and executes itself as true, N times, then says so
 *                  source N sends N bytes
 *                  sink N   takes N bytes, then says so
 */
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

static char block[1 << 16];
static int port;

static void say(const char *text, size_t length) {
    while (length > 0) {
        ssize_t written = write(port, text, length);
        if (written < 0) _exit(1);
        text += written;
        length -= (size_t)written;
    }
}

static void child(char *name) {
    pid_t pid = fork();
    if (pid == 0) {
        char *arguments[] = {name, NULL};
        dup2(port, 1);
        execv("/init", arguments);
        _exit(127);
    }
    waitpid(pid, NULL, 0);
}

static void answer(char *line) {
    long count = strchr(line, ' ') ? atol(strchr(line, ' ') + 1) : 0;
    if (strncmp(line, "run", 3) == 0) {
        child("echo");
    } else if (strncmp(line, "spawn", 5) == 0) {
        while (count-- > 0) child("true");
    } else if (strncmp(line, "source", 6) == 0) {
        while (count > 0) {
            size_t part = (size_t)count < sizeof block ? (size_t)count : sizeof block;
            say(block, part);
            count -= (long)part;
        }
        return;
    } else if (strncmp(line, "sink", 4) == 0) {
        while (count > 0) {
            ssize_t part = read(port, block, (size_t)count < sizeof block ? (size_t)count : sizeof block);
            if (part <= 0) _exit(1);
            count -= part;
        }
    }
    say("ok\n", 3);
}

int main(int count, char **arguments) {
    char line[64];
    size_t length = 0;
    if (getpid() != 1) {
        if (strcmp(arguments[0], "echo") == 0) write(1, "first output\n", 13);
        return 0;
    }
    if (count > 1 && strcmp(arguments[1], "print") == 0) {
        write(1, "first output\n", 13);
        for (;;) pause();
    }
    mkdir("/dev", 0755);
    mount("devtmpfs", "/dev", "devtmpfs", 0, NULL);
    /* The device is there before its ports are: the host names them over a queue. */
    for (int attempt = 0; (port = open("/dev/vport0p1", O_RDWR)) < 0; attempt++) {
        if (attempt == 10000) {
            write(1, "no port\n", 8);
            for (;;) pause();
        }
        usleep(1000);
    }
    say("ready\n", 6);
    for (;;) {
        char letter;
        ssize_t got = read(port, &letter, 1);
        if (got < 0) _exit(1);
        if (got == 0) continue;
        if (letter != '\n') {
            if (length < sizeof line - 1) line[length++] = letter;
            continue;
        }
        line[length] = 0;
        length = 0;
        answer(line);
    }
}
