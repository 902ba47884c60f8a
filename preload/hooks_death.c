/*
 * close(2), close_range(2), closefrom(3), dup(2), dup2(2), dup3(2), fcntl(2): where descriptors
 * are copied and end.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <stdarg.h>

#include "real.h"
#include "socket.h"

extern int close_range(unsigned int first, unsigned int last, int flags);
extern void closefrom(int first);

KQ_EXPORT int close(int fd) {
  uint64_t word = kq_fd_limit != 0 ? kq_death_begin(fd) : KQ_FD_UNKNOWN;
  if (kq_fd_kind(word) == KQ_FD_UNKNOWN) {
    return KQ_REAL(close)(fd);
  }
  /* Whatever close reports, Linux has freed the number, and with EBADF there was none. */
  KQ_DYING(dying) = {fd, word};
  return kq_real.close(fd);
}

KQ_EXPORT int __close(int fd) __attribute__((alias("close")));

static int real_close_range(unsigned int first, unsigned int last, int flags) {
  if (KQ_REAL(close_range) != NULL) {
    return kq_real.close_range(first, last, flags);
  }
  long result = KQ_SYS_RAW(SYS_close_range, first, last, flags);
  if (result < 0) {
    errno = (int)-result;
    return -1;
  }
  return 0;
}

KQ_EXPORT int close_range(unsigned int first, unsigned int last, int flags) {
  if (kq_fd_limit == 0 || !kq_close_range_works(first, last, flags)) {
    return real_close_range(first, last, flags);
  }
  kq_death_range_begin(first, last);
  int result = real_close_range(first, last, flags);
  kq_death_range_end(first, last);
  return result;
}

KQ_EXPORT void closefrom(int first) {
  unsigned from = first > 0 ? (unsigned)first : 0;
  if (kq_fd_limit != 0) {
    kq_death_range_begin(from, ~0U);
  }
  if (KQ_REAL(closefrom) != NULL) {
    kq_real.closefrom(first);
  } else if (KQ_SYS_RAW(SYS_close_range, from, ~0U, 0) != 0) {
    long limit = sysconf(_SC_OPEN_MAX);
    for (long fd = (long)from; fd < limit; fd++) {
      KQ_SYS_RAW(SYS_close, fd);
    }
  }
  if (kq_fd_limit != 0) {
    kq_death_range_end(from, ~0U);
  }
}

KQ_EXPORT int dup(int fd) {
  int copy = KQ_REAL(dup)(fd);
  kq_dup_done(fd, copy);
  return copy;
}

/* Without a session, or when nothing happens to `to`. */
static bool plain_dup(int from, int to) {
  return kq_fd_limit == 0 || from == to || !kq_fd_open(from);
}

KQ_EXPORT int dup2(int from, int to) {
  if (plain_dup(from, to)) {
    return KQ_REAL(dup2)(from, to);
  }
  uint64_t word = kq_death_begin(to);
  int result = kq_real.dup2(from, to);
  kq_death_end(to, word, result >= 0);
  kq_dup_done(from, result);
  return result;
}

KQ_EXPORT int __dup2(int from, int to) __THROW __attribute__((alias("dup2")));

KQ_EXPORT int dup3(int from, int to, int flags) {
  if (plain_dup(from, to) || (flags & ~O_CLOEXEC) != 0) {
    return KQ_REAL(dup3)(from, to, flags);
  }
  uint64_t word = kq_death_begin(to);
  int result = kq_real.dup3(from, to, flags);
  kq_death_end(to, word, result >= 0);
  kq_dup_done(from, result);
  return result;
}

/* The third argument is read as libc reads it, whether there is one or not. */
KQ_EXPORT int fcntl(int fd, int command, ...) {
  va_list arguments;
  va_start(arguments, command);
  void *argument = va_arg(arguments, void *);
  va_end(arguments);
  int result = KQ_REAL(fcntl)(fd, command, argument);
  if (command == F_DUPFD || command == F_DUPFD_CLOEXEC) {
    kq_dup_done(fd, result);
  }
  return result;
}

KQ_EXPORT int __fcntl(int fd, int command, ...) __attribute__((alias("fcntl")));
KQ_EXPORT int fcntl64(int fd, int command, ...) __attribute__((alias("fcntl")));

KQ_EXPORT int pidfd_getfd(int pidfd, int target, unsigned int flags) {
  int fd;
  if (KQ_REAL(pidfd_getfd) != NULL) {
    fd = kq_real.pidfd_getfd(pidfd, target, flags);
  } else {
    long result = KQ_SYS_RAW(SYS_pidfd_getfd, pidfd, target, flags);
    fd = result < 0 ? -1 : (int)result;
    if (result < 0) {
      errno = (int)-result;
    }
  }
  kq_fd_arrived(fd);
  return fd;
}
