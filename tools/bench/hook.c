/*
 * What a hook adds to a call: times batches of the same libc calls through the name that a program
 * links to (the preload library's, where one is loaded) and through libc's own entry, which no
 * preload stands in front of.
 *
 * Each way has a TCP connection of its own over loopback, made by that way too, so that the bytes
 * that a session is told about are all the bytes of its sockets. Timed calls move bytes between
 * the program and a socket's buffer and send no packet: what a packet costs is another question
 * (`packets` below). The ways take turns in an order drawn anew for each round, so that what the
 * machine does meanwhile falls on all of them.
 *
 *     hook calls   CPU ROUNDS SEED   lines "OPERATION PLAIN CLOCKED HOOKED", ns a call, one a round
 *     hook packets CPU ROUNDS SEED   lines "send NS" and "recv NS", one packet a call
 *     hook idle    CONNECTIONS       connects, moves one byte, says "ready", waits for a signal
 *
 * PLAIN is libc's entry, CLOCKED the same after a clock_gettime, HOOKED what the name leads to.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sched.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

#define CALLS 256
#define BYTES 64
#define BATCH_BYTES (CALLS * BYTES)

struct way {
  ssize_t (*send)(int, const void *, size_t, int);
  ssize_t (*recv)(int, void *, size_t, int);
  ssize_t (*write)(int, const void *, size_t);
  ssize_t (*writev)(int, const struct iovec *, int);
  ssize_t (*read)(int, void *, size_t);
  int (*socket)(int, int, int);
  int (*connect)(int, const struct sockaddr *, socklen_t);
  int (*listen)(int, int);
  int (*accept)(int, struct sockaddr *, socklen_t *);
  int from; /* connected to `to` */
  int to;
  int pipe_out;
  int pipe_in;
};

static char out_buffer[BATCH_BYTES];
static char in_buffer[BATCH_BYTES];
static const struct iovec out_parts[2] = {{out_buffer, BYTES / 2}, {out_buffer, BYTES / 2}};
static uint32_t random_state;

static void fail(const char *what) {
  perror(what);
  exit(1);
}

static uint64_t now_ns(void) {
  struct timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

/* xorshift32 (Marsaglia, 2003). */
static uint32_t draw(uint32_t below) {
  random_state ^= random_state << 13;
  random_state ^= random_state >> 17;
  random_state ^= random_state << 5;
  return random_state % below;
}

static void *entry(void *library, const char *name) {
  void *found = dlsym(library, name);
  if (found == NULL) {
    fprintf(stderr, "no %s: %s\n", name, dlerror());
    exit(1);
  }
  return found;
}

static void find(struct way *way, void *library) {
  /* POSIX has dlsym return functions as data pointers; the cast is what dlsym(3) shows. */
  *(void **)&way->send = entry(library, "send");
  *(void **)&way->recv = entry(library, "recv");
  *(void **)&way->write = entry(library, "write");
  *(void **)&way->writev = entry(library, "writev");
  *(void **)&way->read = entry(library, "read");
  *(void **)&way->socket = entry(library, "socket");
  *(void **)&way->connect = entry(library, "connect");
  *(void **)&way->listen = entry(library, "listen");
  *(void **)&way->accept = entry(library, "accept");
}

static void join(struct way *way) {
  struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr = {htonl(INADDR_LOOPBACK)}};
  socklen_t length = sizeof address;
  int listener = way->socket(AF_INET, SOCK_STREAM, 0);
  if (listener < 0 || bind(listener, (struct sockaddr *)&address, length) != 0 ||
      getsockname(listener, (struct sockaddr *)&address, &length) != 0 ||
      way->listen(listener, 1) != 0) {
    fail("listen");
  }
  way->from = way->socket(AF_INET, SOCK_STREAM, 0);
  if (way->from < 0 || way->connect(way->from, (struct sockaddr *)&address, length) != 0) {
    fail("connect");
  }
  way->to = way->accept(listener, NULL, NULL);
  if (way->to < 0) {
    fail("accept");
  }
  int on = 1;
  int room = 4 << 20;
  setsockopt(way->from, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
  /* Nobody paces or waits: what is timed is the call. Reno is in every kernel. */
  setsockopt(way->from, IPPROTO_TCP, TCP_CONGESTION, "reno", 4);
  setsockopt(way->from, SOL_SOCKET, SO_SNDBUF, &room, sizeof room);
  setsockopt(way->to, SOL_SOCKET, SO_RCVBUF, &room, sizeof room);
}

static void join_pipe(struct way *way) {
  int ends[2];
  if (pipe(ends) != 0) {
    fail("pipe");
  }
  way->pipe_in = ends[0];
  way->pipe_out = ends[1];
}

static void cork(int fd, int on) {
  setsockopt(fd, IPPROTO_TCP, TCP_CORK, &on, sizeof on);
}

static void drain(struct way *way, size_t bytes) {
  while (bytes > 0) {
    size_t most = bytes < sizeof in_buffer ? bytes : sizeof in_buffer;
    ssize_t got = way->recv(way->to, in_buffer, most, 0);
    if (got <= 0) {
      fail("recv");
    }
    bytes -= (size_t)got;
  }
}

static void fill(struct way *way) {
  if (way->send(way->from, out_buffer, BATCH_BYTES, 0) != BATCH_BYTES) {
    fail("send");
  }
  /* All of it is in the receive buffer before the clock starts. */
  if (way->recv(way->to, in_buffer, BATCH_BYTES, MSG_PEEK | MSG_WAITALL) != BATCH_BYTES) {
    fail("peek");
  }
}

enum operation { SEND, WRITE, WRITEV, RECV, READ, RECV_NOTHING, PIPE_WRITE, PIPE_READ, OPERATIONS };
static const char *const operation_names[OPERATIONS] = {
    "send", "write", "writev", "recv", "read", "recv-nothing", "pipe-write", "pipe-read"};

/* One call; returns what must not be optimised away. */
static inline ssize_t call(struct way *way, enum operation operation) {
  switch (operation) {
    case SEND: return way->send(way->from, out_buffer, BYTES, MSG_MORE);
    case WRITE: return way->write(way->from, out_buffer, BYTES);
    case WRITEV: return way->writev(way->from, out_parts, 2);
    case RECV: return way->recv(way->to, in_buffer, BYTES, 0);
    case READ: return way->read(way->to, in_buffer, BYTES);
    case RECV_NOTHING: return way->recv(way->to, in_buffer, BYTES, MSG_DONTWAIT);
    case PIPE_WRITE: return way->write(way->pipe_out, out_buffer, BYTES);
    case PIPE_READ: return way->read(way->pipe_in, in_buffer, BYTES);
    default: return 0;
  }
}

static inline double time_batch(struct way *way, enum operation operation, int clocked) {
  ssize_t expected = operation == RECV_NOTHING ? -1 : BYTES;
  int wrong = 0;
  struct timespec unused;
  uint64_t began = now_ns();
  for (int i = 0; i < CALLS; i++) {
    if (clocked) {
      clock_gettime(CLOCK_REALTIME, &unused);
    }
    wrong += call(way, operation) != expected;
  }
  uint64_t ended = now_ns();
  if (wrong != 0) {
    fprintf(stderr, "%s: %d of %d calls moved another number of bytes\n",
            operation_names[operation], wrong, CALLS);
    exit(1);
  }
  return (double)(ended - began) / CALLS;
}

/* The switch is resolved at compile time, so that each loop holds one call and nothing else. */
static double timed(struct way *way, enum operation operation, int clocked) {
#define CASE(name)                                                                             \
  case name: return clocked ? time_batch(way, name, 1) : time_batch(way, name, 0);
  switch (operation) {
    CASE(SEND)
    CASE(WRITE)
    CASE(WRITEV)
    CASE(RECV)
    CASE(READ)
    CASE(RECV_NOTHING)
    CASE(PIPE_WRITE)
    CASE(PIPE_READ)
    default: return 0;
  }
}

static double measure(struct way *way, enum operation operation, int clocked) {
  double ns;
  switch (operation) {
    case SEND:
    case WRITE:
    case WRITEV:
      cork(way->from, 1);
      ns = timed(way, operation, clocked);
      cork(way->from, 0);
      drain(way, BATCH_BYTES);
      return ns;
    case RECV:
    case READ:
      fill(way);
      return timed(way, operation, clocked);
    case PIPE_READ:
      if (way->write(way->pipe_out, out_buffer, BATCH_BYTES) != BATCH_BYTES) {
        fail("pipe");
      }
      return timed(way, operation, clocked);
    case PIPE_WRITE:
      ns = timed(way, operation, clocked);
      if (way->read(way->pipe_in, in_buffer, BATCH_BYTES) != BATCH_BYTES) {
        fail("pipe");
      }
      return ns;
    default: return timed(way, operation, clocked);
  }
}

static double measure_clock(void) {
  struct timespec unused;
  uint64_t began = now_ns();
  for (int i = 0; i < CALLS; i++) {
    clock_gettime(CLOCK_REALTIME, &unused);
  }
  return (double)(now_ns() - began) / CALLS;
}

static void compare_calls(struct way *plain, struct way *hooked, int rounds) {
  for (int round = 0; round < rounds; round++) {
    for (enum operation operation = 0; operation < OPERATIONS; operation++) {
      double ns[3];
      int order[3] = {0, 1, 2};
      for (int i = 2; i > 0; i--) {
        int j = (int)draw((uint32_t)i + 1);
        int kept = order[i];
        order[i] = order[j];
        order[j] = kept;
      }
      for (int i = 0; i < 3; i++) {
        ns[order[i]] = measure(order[i] == 2 ? hooked : plain, operation, order[i] == 1);
      }
      /* The first rounds fill caches, grow buffers and resolve symbols. */
      if (round >= 8) {
        printf("%s %.2f %.2f %.2f\n", operation_names[operation], ns[0], ns[1], ns[2]);
      }
    }
    printf("clock 0 0 %.2f\n", measure_clock());
  }
}

static void compare_packets(struct way *way, int rounds) {
  for (int round = 0; round < rounds; round++) {
    uint64_t began = now_ns();
    for (int i = 0; i < CALLS; i++) {
      if (way->send(way->from, out_buffer, BYTES, 0) != BYTES) {
        fail("send");
      }
    }
    uint64_t sent = now_ns();
    for (int i = 0; i < CALLS; i++) {
      if (way->recv(way->to, in_buffer, BYTES, 0) != BYTES) {
        fail("recv");
      }
    }
    uint64_t ended = now_ns();
    if (round >= 8) {
      printf("send %.2f\nrecv %.2f\n", (double)(sent - began) / CALLS,
             (double)(ended - sent) / CALLS);
    }
  }
}

static void stay_idle(int connections) {
  struct rlimit limit;
  if (getrlimit(RLIMIT_NOFILE, &limit) == 0) {
    limit.rlim_cur = limit.rlim_max;
    setrlimit(RLIMIT_NOFILE, &limit);
  }
  struct way way;
  find(&way, RTLD_DEFAULT);
  for (int i = 0; i < connections; i++) {
    join(&way);
    if (way.send(way.from, "x", 1, 0) != 1 || way.recv(way.to, in_buffer, 1, 0) != 1) {
      fail("one byte");
    }
  }
  puts("ready");
  fflush(stdout);
  pause();
}

int main(int argc, char **argv) {
  if (argc == 3 && strcmp(argv[1], "idle") == 0) {
    stay_idle(atoi(argv[2]));
    return 0;
  }
  if (argc != 5) {
    fprintf(stderr, "usage: hook calls|packets CPU ROUNDS SEED; hook idle CONNECTIONS\n");
    return 2;
  }
  cpu_set_t cpus;
  CPU_ZERO(&cpus);
  CPU_SET(atoi(argv[2]), &cpus);
  sched_setaffinity(0, sizeof cpus, &cpus);
  int rounds = atoi(argv[3]) + 8;
  random_state = (uint32_t)strtoul(argv[4], NULL, 10) | 1;
  memset(out_buffer, 'k', sizeof out_buffer);
  setvbuf(stdout, NULL, _IOFBF, 1 << 20);

  struct way plain;
  struct way hooked;
  void *libc = dlopen("libc.so.6", RTLD_LAZY | RTLD_NOLOAD);
  if (libc == NULL) {
    fprintf(stderr, "libc.so.6: %s\n", dlerror());
    return 1;
  }
  find(&plain, libc);
  find(&hooked, RTLD_DEFAULT);
  join(&hooked);
  join_pipe(&hooked);
  if (strcmp(argv[1], "packets") == 0) {
    compare_packets(&hooked, rounds);
    return 0;
  }
  join(&plain);
  join_pipe(&plain);
  compare_calls(&plain, &hooked, rounds);
  return 0;
}
