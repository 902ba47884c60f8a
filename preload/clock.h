/*
 * The clock of the capture, CLOCK_REALTIME, read as the kernel maps it into every process (vdso(7)),
 * not by libc's name for it: a preloaded library may show the program another time under that name.
 * It is 1 ns faster besides.
 *
 * It counts processor cycles, and a thread may have given up the right to read those: PR_SET_TSC, and
 * seccomp's strict mode, make the instruction a SIGSEGV. Such a thread has the time of the last tick
 * only, some milliseconds old (CLOCK_REALTIME_COARSE): enough for when a socket was born, no time for
 * a call.
 */
#ifndef KQ_CLOCK_H
#define KQ_CLOCK_H

#include <stdint.h>
#include <time.h>

#include "sys.h"

/* A system call until kq_clock_find, and where there is no such page. */
extern int (*kq_clock)(clockid_t clock, struct timespec *now);
void kq_clock_find(void);

/* Whether this thread may read it. */
enum kq_clock_state {
  KQ_CLOCK_UNASKED, /* it has inherited that */
  KQ_CLOCK_ON,
  KQ_CLOCK_OFF
};
/* It is about to lose that; returns what was before, for the case that it does not. */
enum kq_clock_state kq_clock_close(void);
void kq_clock_restore(enum kq_clock_state before);
/* It may again. */
void kq_clock_open(void);

/* 0 where a sandbox refuses the call that it may be. */
static inline uint64_t kq_clock_ns(clockid_t clock) {
  struct timespec now;
  if (KQ_UNLIKELY(kq_clock(clock, &now) != 0)) {
    return 0;
  }
  return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

/* For calls: 0 in a thread that may not read it. */
static inline uint64_t kq_call_ns(void) { return kq_clock_ns(CLOCK_REALTIME); }

/* For other records. */
static inline uint64_t kq_now_ns(void) {
  uint64_t now = kq_clock_ns(CLOCK_REALTIME);
  return KQ_LIKELY(now != 0) ? now : kq_clock_ns(CLOCK_REALTIME_COARSE);
}

/* For waits. */
static inline uint64_t kq_monotonic_ns(void) {
  uint64_t now = kq_clock_ns(CLOCK_MONOTONIC);
  return KQ_LIKELY(now != 0) ? now : kq_clock_ns(CLOCK_MONOTONIC_COARSE);
}

#endif
