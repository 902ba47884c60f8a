/* Starting a collector as a process of its own; see collector.c. Exported for the Bun API. */
#ifndef KQ_COLLECTOR_H
#define KQ_COLLECTOR_H

#include <stddef.h>

#ifdef __cplusplus
extern "C" {
#endif

/*
 * Starts `kqtime collect`. `interface` and `filter` may be NULL. Returns the read end of its status
 * pipe (close-on-exec, non-blocking), which soon carries one line: "ready PID SLOTS TOKEN SOCKET"
 * or "error TEXT". Closing it before tells the collector to go away. On failure -1, with one line
 * of text without a newline in `error`.
 */
int kqtime_collector_start(const char *interface, const char *filter, char *error,
                           size_t error_bytes);

#ifdef __cplusplus
}
#endif

struct kq_ready {
  int pid;
  unsigned slots;
  char token[33];
  char socket[108];
};

/* Waits for the line until so many milliseconds of CLOCK_MONOTONIC. 0, or -1 with the reason. */
int kq_collector_wait(int status, long long until_ms, struct kq_ready *ready, char *error,
                      size_t error_bytes);

long long kq_monotonic_ms(void);

#endif
