/* What a program in a box can see that must not be the same in two boxes of one template:
 *
 *   witness clock        the wall clock, in nanoseconds since 1970
 *   witness layout       where text, heap, mappings and stack are
 *   witness sequences    for each of some ports, twice: the initial sequence number of a TCP
 *                        connection, and the wall clock before and after it was begun
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum { LISTENER_PORT = 40000, FIRST_PORT = 40001, PORTS = 8 };

static void must(int result, const char *what) {
  if (result < 0) {
    perror(what);
    exit(1);
  }
}

static uint64_t now_ns(void) {
  struct timespec now;
  must(clock_gettime(CLOCK_REALTIME, &now), "clock_gettime");
  return (uint64_t)now.tv_sec * 1000000000 + (uint64_t)now.tv_nsec;
}

static struct sockaddr_in loopback(int port) {
  struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons((uint16_t)port)};
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  return address;
}

static int bound(int port) {
  int one = 1;
  struct sockaddr_in address = loopback(port);
  int fd = socket(AF_INET, SOCK_STREAM, 0);
  must(fd, "socket");
  must(setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one), "SO_REUSEADDR");
  must(bind(fd, (struct sockaddr *)&address, sizeof address), "bind");
  return fd;
}

static void sequence(int listener, int port) {
  struct sockaddr_in address = loopback(LISTENER_PORT);
  int client = bound(port);
  uint64_t before = now_ns();
  must(connect(client, (struct sockaddr *)&address, sizeof address), "connect");
  uint64_t after = now_ns();
  int server = accept(listener, NULL, NULL);
  must(server, "accept");
  /* A socket in repair tells its numbers, and leaves nothing behind when it is closed: the next
   * connection between the same ports begins as if there had been none. */
  int repair = 1, queue = TCP_SEND_QUEUE;
  must(setsockopt(client, IPPROTO_TCP, TCP_REPAIR, &repair, sizeof repair), "TCP_REPAIR");
  must(setsockopt(client, IPPROTO_TCP, TCP_REPAIR_QUEUE, &queue, sizeof queue), "TCP_REPAIR_QUEUE");
  uint32_t next = 0;
  socklen_t size = sizeof next;
  must(getsockopt(client, IPPROTO_TCP, TCP_QUEUE_SEQ, &next, &size), "TCP_QUEUE_SEQ");
  close(client);
  struct linger reset = {.l_onoff = 1, .l_linger = 0};
  must(setsockopt(server, SOL_SOCKET, SO_LINGER, &reset, sizeof reset), "SO_LINGER");
  close(server);
  /* The beginning of the connection takes one. */
  printf("%d %u %llu %llu\n", port, next - 1, (unsigned long long)before, (unsigned long long)after);
}

static void sequences(void) {
  int listener = bound(LISTENER_PORT);
  must(listen(listener, 4), "listen");
  for (int round = 0; round < 2; round++) {
    for (int port = FIRST_PORT; port < FIRST_PORT + PORTS; port++) {
      sequence(listener, port);
    }
  }
}

static void layout(void) {
  int on_stack = 0;
  void *mapping = mmap(NULL, 4096, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  must(mapping == MAP_FAILED ? -1 : 0, "mmap");
  printf("%p %p %p %p\n", (void *)layout, sbrk(0), mapping, (void *)&on_stack);
}

int main(int count, char **arguments) {
  const char *what = count == 2 ? arguments[1] : "";
  if (strcmp(what, "clock") == 0) {
    printf("%llu\n", (unsigned long long)now_ns());
  } else if (strcmp(what, "layout") == 0) {
    layout();
  } else if (strcmp(what, "sequences") == 0) {
    sequences();
  } else {
    fputs("usage: witness clock|layout|sequences\n", stderr);
    return 2;
  }
  return 0;
}
