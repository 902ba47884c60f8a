/*
 * A process that starts and cannot reach the collector's socket, for the socket's queue is full or
 * the program may not connect, is not measured; that it was there must be known all the same. It
 * leaves a word in a pipe beside the socket (KQ_UNHEARD_DIGITS in kqtime_shm.h), which holds many
 * without a reader and blocks nobody. That cannot be reached either from another root or mount
 * namespace. So it leaves a mark in its own memory map, too, where who looks over the session's
 * processes sees it (proc(5), /proc/PID/maps): the preload library mapped as shared, which the loader
 * never does; for no access if the word was left, else to be read.
 *
 * Only what every program's start needs is called, for a sandbox may kill for more.
 */
#define _GNU_SOURCE
#include "unheard.h"

#include <dlfcn.h>
#include <fcntl.h>
#include <signal.h>
#include <stdint.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <time.h>

#include "memory.h"
#include "session.h"

#define SIGSET_BYTES 8
#define PAGE_BYTES 4096

/* A descriptor of the pipe, or -errno: -ENXIO if no collector lives. */
static long open_pipe(void) {
  const char *socket = kq_collector.address.sun_path;
  char path[sizeof kq_collector.address.sun_path + KQ_UNHEARD_DIGITS + 1];
  const char *name = strrchr(socket, '/');
  size_t folder = name != NULL ? (size_t)(name - socket) + 1 : 0;
  memcpy(path, socket, folder);
  memcpy(path + folder, kq_collector.token, KQ_UNHEARD_DIGITS);
  path[folder + KQ_UNHEARD_DIGITS] = '\0';
  return KQ_SYS(SYS_openat, AT_FDCWD, path, O_WRONLY | O_NONBLOCK | O_CLOEXEC | O_NOFOLLOW);
}

bool kq_unheard_others(void) {
  long fd = open_pipe();
  if (fd < 0) {
    return false;
  }
  int waiting = 0;
  KQ_SYS(SYS_ioctl, fd, FIONREAD, &waiting);
  KQ_SYS(SYS_close, fd);
  return waiting > 0;
}

/* As write(2), but where nobody reads any more the signal is taken back. */
static long write_quietly(int fd, const void *bytes, size_t count) {
  uint64_t pipe = UINT64_C(1) << (SIGPIPE - 1);
  uint64_t before = 0;
  uint64_t pending = 0;
  struct timespec now = {0, 0};
  if (KQ_SYS(SYS_rt_sigprocmask, SIG_BLOCK, &pipe, &before, SIGSET_BYTES) != 0) {
    return -1;
  }
  KQ_SYS(SYS_rt_sigpending, &pending, SIGSET_BYTES);
  long result = KQ_SYS(SYS_write, fd, bytes, count);
  if (result < 0 && (pending & pipe) == 0) {
    KQ_SYS(SYS_rt_sigtimedwait, &pipe, NULL, &now, SIGSET_BYTES);
  }
  KQ_SYS(SYS_rt_sigprocmask, SIG_SETMASK, &before, NULL, SIGSET_BYTES);
  return result;
}

static void leave_mark(int protection) {
  Dl_info own;
  if (dladdr(&kq_collector, &own) == 0) {
    return;
  }
  long fd = KQ_SYS(SYS_openat, AT_FDCWD, own.dli_fname, O_RDONLY | O_CLOEXEC);
  if (fd >= 0) {
    KQ_SYS(SYS_mmap, NULL, PAGE_BYTES, protection, MAP_SHARED, fd, 0);
    KQ_SYS(SYS_close, fd);
  }
}

void kq_unheard_tell(void) {
  long fd = open_pipe();
  if (fd >= 0) {
    /* A full one has told enough. */
    write_quietly((int)fd, "", 1);
    KQ_SYS(SYS_close, fd);
  }
  leave_mark(fd >= 0 ? PROT_NONE : PROT_READ);
}
