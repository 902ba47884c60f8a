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

#include "../preload/sys.h"

/* The state and the start time of a process, as /proc/PID/stat has them: ' ' if it does not say. */
static char look_at(pid_t pid, uint64_t *birth) {
  char path[32];
  char text[1024];
  *birth = 0;
  snprintf(path, sizeof path, "/proc/%d/stat", (int)pid);
  long fd = KQ_SYS(SYS_openat, AT_FDCWD, path, O_RDONLY | O_CLOEXEC, 0);
  if (fd < 0) {
    return ' ';
  }
  long length = KQ_SYS(SYS_read, fd, text, sizeof text - 1);
  KQ_SYS(SYS_close, fd);
  text[length > 0 ? length : 0] = '\0';
  const char *at = strrchr(text, ')');
  char state = ' ';
  unsigned long long ticks = 0;
  if (at == NULL || sscanf(at + 1,
                           " %c %*d %*d %*d %*d %*d %*u %*u %*u %*u %*u %*u %*u %*d %*d %*d %*d "
                           "%*d %*d %llu",
                           &state, &ticks) != 2) {
    return ' ';
  }
  *birth = ticks;
  return state;
}

struct kq_process kq_process_now(pid_t pid) {
  struct kq_process process = {.pid = pid};
  look_at(pid, &process.birth);
  return process;
}

bool kq_process_ended(const struct kq_process *process) {
  uint64_t birth;
  char state = look_at(process->pid, &birth);
  if (state == 'Z' || state == 'X' ||
      (birth != 0 && process->birth != 0 && birth != process->birth)) {
    return true;
  }
  return KQ_SYS(SYS_kill, process->pid, 0) == -ESRCH;
}
