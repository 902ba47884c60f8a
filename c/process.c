/*
 * Processes by number and start time, since a number is given again. What cannot be looked at, as
 * in a chroot without /proc or in a sandbox, lives for all that is known.
 */
#define _GNU_SOURCE
#include "process.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>

#include "../preload/raw.h"

/* PF_EXITING of linux/sched.h: what the process had open may be closed already. */
#define EXITING 4u

/* When the process began, 0 if /proc does not say; and whether it is at its end. */
static uint64_t look_at(pid_t pid, bool *ended) {
  char path[32];
  char text[1024];
  *ended = false;
  snprintf(path, sizeof path, "/proc/%d/stat", (int)pid);
  long fd = KQ_SYS_RAW(SYS_openat, AT_FDCWD, path, O_RDONLY | O_CLOEXEC, 0);
  if (fd < 0) {
    return 0;
  }
  long length = KQ_SYS_RAW(SYS_read, fd, text, sizeof text - 1);
  KQ_SYS_RAW(SYS_close, fd);
  text[length > 0 ? length : 0] = '\0';
  const char *at = strrchr(text, ')');
  char state;
  unsigned flags;
  int threads;
  unsigned long long ticks;
  if (at == NULL || sscanf(at + 1,
                           " %c %*d %*d %*d %*d %*d %u %*u %*u %*u %*u %*u %*u %*d %*d %*d %*d "
                           "%d %*d %llu",
                           &state, &flags, &threads, &ticks) != 4) {
    return 0;
  }
  /* The first thread may have ended before the others. */
  *ended = threads <= 1 && (state == 'Z' || state == 'X' || (flags & EXITING) != 0);
  return ticks;
}

struct kq_process kq_process_now(pid_t pid) {
  bool ended;
  return (struct kq_process){.pid = pid, .birth = look_at(pid, &ended)};
}

bool kq_process_ended(const struct kq_process *process) {
  bool ended;
  uint64_t birth = look_at(process->pid, &ended);
  if (ended || (birth != 0 && process->birth != 0 && birth != process->birth)) {
    return true;
  }
  return KQ_SYS_RAW(SYS_kill, process->pid, 0) == -ESRCH;
}
