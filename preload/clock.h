/*
 * The clock of the capture, CLOCK_REALTIME, read as the kernel maps it into every process (vdso(7)),
 * not by libc's name for it: a preloaded library may show the program another time under that name.
 * It is 1 ns faster besides.
 */
#ifndef KQ_CLOCK_H
#define KQ_CLOCK_H

#include <stdint.h>
#include <time.h>

/* libc's until kq_clock_find, and where there is no such page. */
extern int (*kq_clock)(clockid_t clock, struct timespec *now);
void kq_clock_find(void);

static inline uint64_t kq_clock_ns(clockid_t clock) {
  struct timespec now;
  kq_clock(clock, &now);
  return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

/* For records. */
static inline uint64_t kq_now_ns(void) { return kq_clock_ns(CLOCK_REALTIME); }

/* For waits. */
static inline uint64_t kq_monotonic_ns(void) { return kq_clock_ns(CLOCK_MONOTONIC); }

#endif
