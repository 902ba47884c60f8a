/*
 * Benchmark: what the hooks add to a call. With -DSTUB this file is a library to be loaded
 * behind the measured one, whose calls return at once, so that no kernel time is in the figure;
 * otherwise it is the program. Prints the nanoseconds a call: clock, send, recv, write to a
 * file, syscall() of a number without interest.
 */
#define _GNU_SOURCE
#ifdef STUB
#include <sys/types.h>
ssize_t send(int fd, const void *buffer, size_t length, int flags) {
  (void)fd, (void)buffer, (void)flags;
  return (ssize_t)length;
}
ssize_t recv(int fd, void *buffer, size_t length, int flags) {
  (void)fd, (void)buffer, (void)flags;
  return (ssize_t)length;
}
ssize_t write(int fd, const void *buffer, size_t length) {
  (void)fd, (void)buffer;
  return (ssize_t)length;
}
long syscall(long number, ...) { return number; }
#else
#include "pair.h"

#include <fcntl.h>
#include <sys/syscall.h>
#include <time.h>

static uint64_t now(void) {
  struct timespec time;
  clock_gettime(CLOCK_MONOTONIC, &time);
  return (uint64_t)time.tv_sec * 1000000000u + (uint64_t)time.tv_nsec;
}

#define ROUNDS 20000
#define REPEATS 61
/* The fastest of many short runs: the ring is drained in between. */
#define MEASURE(name, call)                                                                    \
  do {                                                                                         \
    uint64_t best = ~(uint64_t)0;                                                              \
    for (int repeat = 0; repeat < REPEATS; repeat++) {                                         \
      uint64_t start = now();                                                                  \
      for (int round = 0; round < ROUNDS; round++) {                                           \
        call;                                                                                  \
      }                                                                                        \
      uint64_t took = now() - start;                                                           \
      best = took < best ? took : best;                                                        \
      usleep(2000);                                                                            \
    }                                                                                          \
    TELL("%s %.1f\n", name, (double)best / ROUNDS);                                            \
  } while (0)

int main(void) {
  struct pair p = make_pair();
  int file = open("/dev/null", O_WRONLY);
  char buffer[64] = "abcdefghijklmnopqrstuvwxyz";
  struct timespec time;
  MEASURE("clock", clock_gettime(CLOCK_REALTIME, &time));
  MEASURE("send", send(p.client, buffer, sizeof buffer, 0));
  MEASURE("recv", recv(p.server, buffer, sizeof buffer, 0));
  MEASURE("file", write(file, buffer, sizeof buffer));
  MEASURE("number", syscall(SYS_gettid));
  return 0;
}
#endif
