/*
 * The collector as a child that is nobody's child: the program must not see it in wait(), SIGCHLD
 * or its process group, and it must hold nothing of the program's.
 *
 * So there is a process in between. It is cloned with exit signal 0, which only a wait with
 * __WCLONE sees (clone(2)), clones the collector, and exits; the collector is then a child of init.
 * (Of the program itself where that is init, or a subreaper: then its end is one of the unknown
 * children that such a program has to reap.)
 *
 * Both are cloned like vfork's child, on this process's memory, as posix_spawn does: a large
 * program is not copied, and an exec that fails leaves its errno here. Between clone and exec only
 * system calls are made, past the hooks of the preload library and without touching errno.
 */
#define _GNU_SOURCE
#include "collector.h"

#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "../preload/sys.h"
#include "debug.h"

#define STATUS_FD 3
#define STACK_BYTES (64u << 10)
#define SIGNALS 64
#define SIGNAL_SET_BYTES (SIGNALS / 8)
/* As large as Linux lets the number of descriptors become, where they cannot be listed. */
#define FD_MAX (1u << 20)
#define LINE_MAX_BYTES 1024

extern char **environ;
/* libc's other name for clone: in front of this one no sanitizer stands, which would take the child
   for a copy of this process. */
extern int __clone(int (*function)(void *), void *stack, int flags, void *argument, ...);

struct child {
  const char *path;
  char *const *arguments;
  char *const *environment;
  uint8_t *stack; /* for the collector's first steps */
  int status;
  int error;      /* set by a child that failed */
};

long long kq_monotonic_ms(void) {
  struct timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  return (long long)now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

static void put_error(char *error, size_t bytes, const char *format, ...)
    __attribute__((format(printf, 3, 4)));
static void put_error(char *error, size_t bytes, const char *format, ...) {
  va_list arguments;
  va_start(arguments, format);
  if (error != NULL && bytes > 0) {
    vsnprintf(error, bytes, format, arguments);
  }
  va_end(arguments);
}

static bool runnable(const char *path) {
  return access(path, X_OK) == 0;
}

/* A program in PATH. */
static bool find_in_path(char *to, size_t bytes) {
  const char *path = secure_getenv("PATH");
  while (path != NULL && *path != '\0') {
    size_t length = strcspn(path, ":");
    if (length > 0 && path[0] == '/' &&
        (size_t)snprintf(to, bytes, "%.*s/kqtime", (int)length, path) < bytes && runnable(to)) {
      return true;
    }
    path += length + (path[length] == ':');
  }
  return false;
}

/* bin/kqtime of the prefix that this library lies in, or of the checkout that it was built in. */
static bool find_beside(char *to, size_t bytes) {
  Dl_info here;
  if (dladdr((const void *)(uintptr_t)kqtime_collector_start, &here) == 0 ||
      here.dli_fname == NULL) {
    return false;
  }
  char *library = realpath(here.dli_fname, NULL);
  if (library == NULL) {
    return false;
  }
  bool found = false;
  for (int up = 0; up < 2; up++) {
    char *slash = strrchr(library, '/');
    if (slash == NULL) {
      break;
    }
    *slash = '\0';
    found = up == 1 && (size_t)snprintf(to, bytes, "%s/bin/kqtime", library) < bytes &&
            runnable(to);
  }
  free(library);
  return found;
}

static bool find_collector(char *to, size_t bytes, char *error, size_t error_bytes) {
  const char *named = secure_getenv("KQTIME_COLLECTOR");
  if (named != NULL && *named != '\0') {
    if (named[0] != '/' || (size_t)snprintf(to, bytes, "%s", named) >= bytes || !runnable(to)) {
      put_error(error, error_bytes,
                "KQTIME_COLLECTOR=%s cannot be run: give the full path of bin/kqtime", named);
      return false;
    }
    return true;
  }
  if (find_beside(to, bytes) || find_in_path(to, bytes)) {
    return true;
  }
  put_error(error, error_bytes,
            "no collector found: install kqtime beside libkqtime.so or in PATH, or let "
            "KQTIME_COLLECTOR name bin/kqtime");
  return false;
}

/* What the collector must not get: what measures the program, or is for its runtime. */
static bool inherited(const char *variable) {
  static const char *const dropped[] = {"LD_PRELOAD=",   "LD_AUDIT=",     "KQTIME_",
                                        "BUN_OPTIONS=",  "BUN_INSPECT",   "NODE_OPTIONS=",
                                        "NODE_CHANNEL_"};
  if (strncmp(variable, "KQTIME_BUN=", 11) == 0) {
    return true;
  }
  for (size_t index = 0; index < sizeof dropped / sizeof *dropped; index++) {
    if (strncmp(variable, dropped[index], strlen(dropped[index])) == 0) {
      return false;
    }
  }
  return true;
}

/* The list alone is ours, the strings are the environment's. */
static char **make_environment(void) {
  size_t count = 0;
  while (environ != NULL && environ[count] != NULL) {
    count++;
  }
  char **list = calloc(count + 1, sizeof *list);
  size_t kept = 0;
  for (size_t index = 0; list != NULL && index < count && environ[index] != NULL; index++) {
    if (inherited(environ[index])) {
      list[kept++] = environ[index];
    }
  }
  return list;
}

/* As getdents64(2) fills the buffer. */
struct directory_entry {
  uint64_t inode;
  int64_t next;
  uint16_t bytes;
  uint8_t type;
  char name[];
};

#define CHILD __attribute__((no_sanitize_thread, no_sanitize_address))

/* Before Linux 5.9. Closing shifts nothing: the list is of numbers, and read again till it ends. */
CHILD static void close_listed(void) {
  long folder = KQ_SYS(SYS_openat, AT_FDCWD, "/proc/self/fd", O_RDONLY | O_DIRECTORY, 0);
  if (folder < 0) {
    for (unsigned fd = STATUS_FD + 1; fd < FD_MAX; fd++) {
      KQ_SYS(SYS_close, fd);
    }
    return;
  }
  _Alignas(8) uint8_t buffer[1024];
  long filled;
  while ((filled = KQ_SYS(SYS_getdents64, folder, buffer, sizeof buffer)) > 0) {
    for (long at = 0; at < filled;) {
      const struct directory_entry *entry = (const struct directory_entry *)&buffer[at];
      long fd = 0;
      const char *digit = entry->name;
      for (; *digit >= '0' && *digit <= '9'; digit++) {
        fd = fd * 10 + (*digit - '0');
      }
      if (*digit == '\0' && fd > STATUS_FD && fd != folder) {
        KQ_SYS(SYS_close, fd);
      }
      at += entry->bytes;
    }
  }
  if (folder > STATUS_FD) {
    KQ_SYS(SYS_close, folder);
  }
}

CHILD static long move_fd(long from, long to) {
  if (from == to) {
    return KQ_SYS(SYS_fcntl, to, F_SETFD, 0);
  }
  return KQ_SYS(SYS_dup3, from, to, 0);
}

/* 0,1,2: /dev/null; 3: the status pipe; no others. */
CHILD static long arrange_fds(int status) {
  long result = move_fd(status, STATUS_FD);
  if (result < 0) {
    return result;
  }
  if (KQ_SYS(SYS_close_range, STATUS_FD + 1, ~0U, 0) != 0) {
    close_listed();
  }
  long null = KQ_SYS(SYS_openat, AT_FDCWD, "/dev/null", O_RDWR, 0);
  if (null < 0) {
    return null;
  }
  for (long fd = 0; fd <= 2; fd++) {
    result = move_fd(null, fd);
    if (result < 0) {
      return result;
    }
  }
  if (null > STATUS_FD) {
    KQ_SYS(SYS_close, null);
  }
  return 0;
}

CHILD static int collector_main(void *argument) {
  struct child *child = argument;
  KQ_SYS(SYS_setsid);
  /* struct sigaction as the kernel has it: all zero is SIG_DFL. */
  static const uint64_t fresh[4];
  for (int number = 1; number <= SIGNALS; number++) {
    KQ_SYS(SYS_rt_sigaction, number, fresh, NULL, SIGNAL_SET_BYTES);
  }
  /* A program of real-time priority must not be starved by its collector. */
  long policy = KQ_SYS(SYS_sched_getscheduler, 0);
  if (policy == SCHED_FIFO || policy == SCHED_RR) {
    struct sched_param none = {0};
    KQ_SYS(SYS_sched_setscheduler, 0, SCHED_OTHER, &none);
  }
  long result = arrange_fds(child->status);
  if (result == 0) {
    KQ_SYS(SYS_chdir, "/");
    static const uint64_t empty;
    KQ_SYS(SYS_rt_sigprocmask, SIG_SETMASK, &empty, NULL, SIGNAL_SET_BYTES);
    result = KQ_SYS(SYS_execve, child->path, child->arguments, child->environment);
  }
  child->error = (int)-result;
  KQ_SYS(SYS_exit_group, 127);
  return 127;
}

CHILD static int between_main(void *argument) {
  struct child *child = argument;
  if (__clone(collector_main, child->stack + STACK_BYTES, CLONE_VM | CLONE_VFORK, child) < 0) {
    child->error = errno;
  }
  KQ_SYS(SYS_exit_group, 0);
  return 0;
}

/* 0 or an errno. */
static int spawn(struct child *child) {
  uint8_t *stacks = mmap(NULL, 2 * STACK_BYTES, PROT_READ | PROT_WRITE,
                         MAP_PRIVATE | MAP_ANONYMOUS | MAP_STACK, -1, 0);
  if (stacks == MAP_FAILED) {
    return errno;
  }
  child->stack = stacks;
  /* No handler of the program's may run in the children, on its memory. */
  static const uint64_t all = ~UINT64_C(0);
  uint64_t before;
  int cancel;
  pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, &cancel);
  KQ_SYS(SYS_rt_sigprocmask, SIG_SETMASK, &all, &before, SIGNAL_SET_BYTES);
  int pid = __clone(between_main, stacks + 2 * STACK_BYTES, CLONE_VM | CLONE_VFORK, child);
  int error = pid < 0 ? errno : 0;
  if (pid > 0) {
    while (KQ_SYS(SYS_wait4, pid, NULL, __WCLONE, NULL) == -EINTR) {
    }
    error = child->error;
  }
  KQ_SYS(SYS_rt_sigprocmask, SIG_SETMASK, &before, NULL, SIGNAL_SET_BYTES);
  pthread_setcancelstate(cancel, NULL);
  munmap(stacks, 2 * STACK_BYTES);
  return error;
}

__attribute__((visibility("default"))) int kqtime_collector_start(const char *interface,
                                                                  const char *filter, char *error,
                                                                  size_t error_bytes) {
  char path[4096];
  if (!find_collector(path, sizeof path, error, error_bytes)) {
    return -1;
  }
  const char *arguments[8] = {path, "collect"};
  int count = 2;
  if (interface != NULL) {
    arguments[count++] = "--interface";
    arguments[count++] = interface;
  }
  if (filter != NULL) {
    arguments[count++] = "--filter";
    arguments[count++] = filter;
  }
  int status[2];
  long result = KQ_SYS(SYS_pipe2, status, O_CLOEXEC | O_NONBLOCK);
  char **environment = result == 0 ? make_environment() : NULL;
  if (environment == NULL) {
    put_error(error, error_bytes, "no pipe to a collector: %s",
              strerror(result < 0 ? (int)-result : ENOMEM));
    if (result == 0) {
      KQ_SYS(SYS_close, status[0]);
      KQ_SYS(SYS_close, status[1]);
    }
    return -1;
  }
  struct child child = {.path = path,
                        .arguments = (char *const *)(uintptr_t)arguments,
                        .environment = environment,
                        .status = status[1]};
  kq_debug("starting %s", path);
  int failed = spawn(&child);
  free(environment);
  KQ_SYS(SYS_close, status[1]);
  if (failed != 0) {
    KQ_SYS(SYS_close, status[0]);
    put_error(error, error_bytes, "the collector %s cannot be started: %s", path,
              strerror(failed));
    return -1;
  }
  return status[0];
}

static bool parse_ready(const char *line, struct kq_ready *ready) {
  int at = -1;
  if (sscanf(line, "ready %d %u %32s %n", &ready->pid, &ready->slots, ready->token,
             &at) != 3 ||
      at < 0) {
    return false;
  }
  size_t length = strlen(line + at);
  if (length == 0 || length >= sizeof ready->socket) {
    return false;
  }
  memcpy(ready->socket, line + at, length + 1);
  return true;
}

/* Reads up to the newline, which is cut off. Milliseconds are up: false. */
static bool read_line(int from, long long until_ms, char *line, size_t bytes, bool *ended) {
  size_t filled = 0;
  *ended = false;
  for (;;) {
    long got = KQ_SYS(SYS_read, from, line + filled, bytes - 1 - filled);
    if (got > 0) {
      filled += (size_t)got;
      line[filled] = '\0';
      char *end = strchr(line, '\n');
      if (end != NULL || filled == bytes - 1) {
        if (end != NULL) {
          *end = '\0';
        }
        return true;
      }
      continue;
    }
    if (got != -EAGAIN && got != -EINTR) {
      *ended = true;
      return false;
    }
    long long left_ms = until_ms - kq_monotonic_ms();
    if (left_ms <= 0) {
      return false;
    }
    struct pollfd poller = {from, POLLIN, 0};
    poll(&poller, 1, (int)left_ms);
  }
}

int kq_collector_wait(int status, long long until_ms, struct kq_ready *ready, char *error,
                      size_t error_bytes) {
  char line[LINE_MAX_BYTES];
  bool ended;
  if (!read_line(status, until_ms, line, sizeof line, &ended)) {
    put_error(error, error_bytes,
              ended ? "the collector ended before it was ready: `kqtime doctor` may tell why"
                    : "the collector was not ready within a second");
    return -1;
  }
  kq_debug("the collector says: %s", line);
  if (strncmp(line, "error ", 6) == 0) {
    put_error(error, error_bytes, "%s", line + 6);
    return -1;
  }
  if (!parse_ready(line, ready)) {
    put_error(error, error_bytes, "the collector says something unknown: is it another version?");
    return -1;
  }
  return 0;
}
