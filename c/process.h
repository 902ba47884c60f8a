/* Whether another process still lives; see process.c. */
#ifndef KQ_PROCESS_H
#define KQ_PROCESS_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

struct kq_process {
  pid_t pid;
  uint64_t birth; /* its start, in clock ticks since boot; 0: it could not be learnt */
};

/* The process that has this number now. */
struct kq_process kq_process_now(pid_t pid);

/* Whether it has certainly ended. */
bool kq_process_ended(const struct kq_process *process);

#endif
