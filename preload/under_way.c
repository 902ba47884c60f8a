/*
 * Calls that were under way when measuring began: no hook saw them begin, none will see them end,
 * and what they move shifts every offset behind it. So all calls of a direction that has one are
 * flagged as overlapping, and nothing is matched wrongly. /proc/self/task/TID/syscall tells them,
 * as far as threads sleep in them (proc(5)).
 */
#define _GNU_SOURCE
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>

#include "proc.h"
#include "recorder.h"
#include "session.h"
#include "socket_internal.h"
#include "table.h"

#define ACTIVE_MASK UINT64_C(0xffff)
#define LINE_BYTES 256

/* Which direction of the descriptor that is its first argument a system call uses; 0: none. */
static enum kq_kind kind_of(long number) {
  switch (number) {
    case SYS_read:
    case SYS_readv:
    case SYS_preadv2:
    case SYS_recvfrom:
    case SYS_recvmsg:
    case SYS_recvmmsg:
      return KQ_KIND_IN;
    case SYS_write:
    case SYS_writev:
    case SYS_pwritev2:
    case SYS_sendto:
    case SYS_sendmsg:
    case SYS_sendmmsg:
    case SYS_sendfile:
      return KQ_KIND_OUT;
    default:
      return 0;
  }
}

/* One line, as text; false if there is none. */
static bool read_line(long folder, const char *thread, char *line) {
  char path[32];
  size_t length = strlen(thread);
  if (length + sizeof "/syscall" > sizeof path) {
    return false;
  }
  memcpy(path, thread, length);
  memcpy(path + length, "/syscall", sizeof "/syscall");
  long fd = KQ_SYS(SYS_openat, folder, path, O_RDONLY | O_CLOEXEC, 0);
  if (fd < 0) {
    return false;
  }
  long got = KQ_SYS(SYS_read, fd, line, LINE_BYTES - 1);
  KQ_SYS(SYS_close, fd);
  line[got > 0 ? got : 0] = '\0';
  return got > 0;
}

static void look_at_thread(long folder, const char *thread) {
  char line[LINE_BYTES];
  char again[LINE_BYTES];
  if (!read_line(folder, thread, line) || line[0] < '0' || line[0] > '9') {
    return;
  }
  char *rest;
  long number = strtol(line, &rest, 10);
  enum kq_kind kind = kind_of(number);
  uint64_t word = kq_fd_look((int)strtoul(rest, NULL, 16));
  const struct kq_entry *entry = kind != 0 && kq_fd_kind(word) == KQ_FD_TCP ? kq_entry_of(word) : NULL;
  if (entry == NULL) {
    return;
  }
  const struct kq_direction *direction = kind == KQ_KIND_OUT ? &entry->out : &entry->in;
  uint64_t before = __atomic_load_n(&direction->calls, __ATOMIC_ACQUIRE);
  /* A call that a hook began is counted already: only of one that is there without being counted,
     and still is the same one afterwards, it is certain. */
  if ((before & ACTIVE_MASK) == 0 && read_line(folder, thread, again) &&
      strcmp(line, again) == 0 &&
      __atomic_load_n(&direction->calls, __ATOMIC_ACQUIRE) == before) {
    kq_entry_flag(word, kind == KQ_KIND_OUT ? KQ_ENTRY_UNSURE_OUT : KQ_ENTRY_UNSURE_IN);
  }
}

void kq_socket_calls_under_way(void) {
  kq_proc_list("/proc/self/task", look_at_thread);
}
