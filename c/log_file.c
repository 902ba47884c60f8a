/*
 * The log is opened by the program that is measured, not by the collector: a collector with more
 * rights must not open what the program names, and whether it can be written is the program's own
 * errno. Private, appended to, no link followed, no wait for a pipe's reader.
 */
#define _GNU_SOURCE
#include "log_file.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "../preload/raw.h"

#define MODE 0600
/* Kept while the collector writes: a pipe's slow reader must not stop it. */
#define FLAGS (O_APPEND | O_CREAT | O_NOFOLLOW | O_CLOEXEC | O_NONBLOCK | O_NOCTTY)

bool kq_log_compressed(const char *path) {
  size_t length = strlen(path);
  return length > 3 && strcmp(path + length - 3, ".gz") == 0;
}

static const char *reason_of(long error) {
  switch (error) {
    case ELOOP:
      return "it is a symbolic link, which is not followed; name the file itself";
    case ENXIO:
      return "nobody reads that pipe, or it is a socket";
    default:
      return strerror((int)error);
  }
}

/* The same file for reading too: how a compressed log ends is looked at before it is appended to.
   Where it may not be read it does without. */
static long with_reading(const char *path, long fd) {
  struct stat first;
  struct stat second;
  if (KQ_SYS_RAW(SYS_fstat, fd, &first) != 0 || !S_ISREG(first.st_mode)) {
    return fd;
  }
  long both = KQ_SYS_RAW(SYS_openat, AT_FDCWD, path, O_RDWR | (FLAGS & ~O_CREAT), 0);
  if (both < 0) {
    return fd;
  }
  bool same = KQ_SYS_RAW(SYS_fstat, both, &second) == 0 && first.st_dev == second.st_dev &&
              first.st_ino == second.st_ino;
  KQ_SYS_RAW(SYS_close, same ? fd : both);
  return same ? both : fd;
}

/* Where the program has closed its standard ones, what is meant for them must not get into it. */
static long above_standard(long fd) {
  if (fd > STDERR_FILENO) {
    return fd;
  }
  long higher = KQ_SYS_RAW(SYS_fcntl, fd, F_DUPFD_CLOEXEC, STDERR_FILENO + 1);
  KQ_SYS_RAW(SYS_close, fd);
  return higher;
}

int kq_log_open(const char *path, char *error, size_t error_bytes) {
  long fd = KQ_SYS_RAW(SYS_openat, AT_FDCWD, path, O_WRONLY | FLAGS, MODE);
  if (fd >= 0) {
    fd = above_standard(with_reading(path, fd));
  }
  if (fd < 0) {
    snprintf(error, error_bytes, "log \"%.900s\" cannot be opened: %s", path, reason_of(-fd));
    return -1;
  }
  return (int)fd;
}
