/*
 * What the hooks themselves take: with -DSTUB this file is a library to be loaded behind the
 * preload library, whose calls return at once, so that no kernel time is in the figure; otherwise
 * it is the program that makes the calls.
 *
 *     hook-own times THREADS REPEATS   lines "CALL KIND NS": CPU time a call, the least of the repeats
 *     hook-own calls COUNT             so many of each, for a counter of instructions (callgrind)
 *
 * KIND is what is called: a TCP socket, which a session measures; another socket; a file. Each
 * thread has descriptors of its own. Functions are named CALL_KIND, to be found in a profile.
 */
#define _GNU_SOURCE
#include <sys/types.h>
#include <sys/uio.h>
#ifdef STUB
#include <errno.h>
#include <stdbool.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

/* Others than the program are loaded with it too, such as the shell script that valgrind is. */
static bool is_program;
__attribute__((constructor)) static void look(void) {
  is_program = strcmp(program_invocation_short_name, "hook-own") == 0;
}

#define RETURN_AT_ONCE(name, parameters, number, ...)                                          \
  ssize_t name parameters;                                                                     \
  ssize_t name parameters { return is_program ? 64 : syscall(number, __VA_ARGS__); }
RETURN_AT_ONCE(send, (int fd, const void *buffer, size_t length, int flags), SYS_sendto, fd,
               buffer, length, flags, NULL, 0)
RETURN_AT_ONCE(recv, (int fd, void *buffer, size_t length, int flags), SYS_recvfrom, fd, buffer,
               length, flags, NULL, NULL)
RETURN_AT_ONCE(write, (int fd, const void *buffer, size_t length), SYS_write, fd, buffer, length)
RETURN_AT_ONCE(writev, (int fd, const struct iovec *parts, int count), SYS_writev, fd, parts, count)
RETURN_AT_ONCE(read, (int fd, void *buffer, size_t length), SYS_read, fd, buffer, length)
#else
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <time.h>

#include "../../test/preload/pair.h"

#define BATCH 2000
#define THREADS_MAX 64
/* The collector empties the ring meanwhile. */
#define PAUSE_US 3000

struct target {
  int tcp_out, tcp_in, other, file;
};

static char buffer[64];
static const struct iovec parts[2] = {{buffer, 32}, {buffer + 32, 32}};

#define LOOP(name, call)                                                                       \
  static __attribute__((noinline)) void name(const struct target *t, int count) {             \
    for (int i = 0; i < count; i++) {                                                          \
      (void)!call;                                                                             \
    }                                                                                          \
  }
#define LOOPS(kind, out, in)                                                                   \
  LOOP(send_##kind, send(t->out, buffer, sizeof buffer, 0))                                    \
  LOOP(write_##kind, write(t->out, buffer, sizeof buffer))                                     \
  LOOP(writev_##kind, writev(t->out, parts, 2))                                                \
  LOOP(recv_##kind, recv(t->in, buffer, sizeof buffer, 0))                                     \
  LOOP(read_##kind, read(t->in, buffer, sizeof buffer))
LOOPS(tcp, tcp_out, tcp_in)
LOOPS(other, other, other)
LOOPS(file, file, file)

static __attribute__((noinline)) void clock_none(const struct target *t, int count) {
  struct timespec now;
  (void)t;
  for (int i = 0; i < count; i++) {
    clock_gettime(CLOCK_REALTIME, &now);
  }
}

#define NAMED(kind)                                                                            \
  {"send " #kind, send_##kind}, {"write " #kind, write_##kind},                                \
      {"writev " #kind, writev_##kind}, {"recv " #kind, recv_##kind}, {"read " #kind, read_##kind}
static const struct {
  const char *name;
  void (*run)(const struct target *, int);
} loops[] = {{"clock none", clock_none}, NAMED(tcp), NAMED(other), NAMED(file)};
#define LOOP_COUNT (sizeof loops / sizeof loops[0])

static pthread_barrier_t barrier;
static int repeats;
static double best[THREADS_MAX][LOOP_COUNT];

static double cpu_ns(void) {
  struct timespec now;
  clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
  return (double)now.tv_sec * 1e9 + (double)now.tv_nsec;
}

static struct target make_target(void) {
  struct pair pair = make_pair();
  int others[2];
  CHECK(socketpair(AF_UNIX, SOCK_STREAM, 0, others) == 0);
  int file = open("/dev/null", O_RDWR);
  CHECK(file >= 0);
  return (struct target){pair.client, pair.server, others[0], file};
}

static void *work(void *argument) {
  double *mine = argument;
  struct target target = make_target();
  for (size_t i = 0; i < LOOP_COUNT; i++) {
    mine[i] = 1e9;
    for (int repeat = 0; repeat < repeats; repeat++) {
      pthread_barrier_wait(&barrier);
      double began = cpu_ns();
      loops[i].run(&target, BATCH);
      double ns = (cpu_ns() - began) / BATCH;
      mine[i] = ns < mine[i] ? ns : mine[i];
      usleep(PAUSE_US);
    }
  }
  return NULL;
}

/* In this program `write` writes nothing; stdio does not call it by its name. */
static void times(int threads) {
  pthread_t ids[THREADS_MAX];
  CHECK(threads > 0 && threads <= THREADS_MAX);
  pthread_barrier_init(&barrier, NULL, (unsigned)threads);
  for (int i = 0; i < threads; i++) {
    CHECK(pthread_create(&ids[i], NULL, work, best[i]) == 0);
  }
  for (int i = 0; i < threads; i++) {
    pthread_join(ids[i], NULL);
  }
  for (size_t i = 0; i < LOOP_COUNT; i++) {
    double sum = 0;
    for (int thread = 0; thread < threads; thread++) {
      sum += best[thread][i];
    }
    printf("%s %.2f\n", loops[i].name, sum / threads);
  }
}

int main(int count, char **arguments) {
  if (count == 4 && strcmp(arguments[1], "times") == 0) {
    repeats = atoi(arguments[3]);
    times(atoi(arguments[2]));
  } else if (count == 3 && strcmp(arguments[1], "calls") == 0) {
    struct target target = make_target();
    for (size_t i = 0; i < LOOP_COUNT; i++) {
      /* What happens once is not counted. */
      loops[i].run(&target, 1);
    }
    for (size_t i = 0; i < LOOP_COUNT; i++) {
      loops[i].run(&target, atoi(arguments[2]));
    }
  } else {
    fprintf(stderr, "usage: hook-own times THREADS REPEATS; hook-own calls COUNT\n");
    return 2;
  }
  return 0;
}
#endif
