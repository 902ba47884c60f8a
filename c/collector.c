/*
 * Which program the collector is, what it is started with, and what it says when it is ready. How
 * it becomes a process of its own is in spawn.c.
 */
#define _GNU_SOURCE
#include "collector.h"

#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "../preload/raw.h"
#include "debug.h"
#include "spawn.h"

#define LINE_MAX_BYTES 1024

extern char **environ;

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
  long result = KQ_SYS_RAW(SYS_pipe2, status, O_CLOEXEC | O_NONBLOCK);
  char **environment = result == 0 ? make_environment() : NULL;
  if (environment == NULL) {
    put_error(error, error_bytes, "no pipe to a collector: %s",
              strerror(result < 0 ? (int)-result : ENOMEM));
    if (result == 0) {
      KQ_SYS_RAW(SYS_close, status[0]);
      KQ_SYS_RAW(SYS_close, status[1]);
    }
    return -1;
  }
  kq_debug("starting %s", path);
  int failed = kq_spawn(path, (char *const *)(uintptr_t)arguments, environment, status[1]);
  free(environment);
  KQ_SYS_RAW(SYS_close, status[1]);
  if (failed != 0) {
    KQ_SYS_RAW(SYS_close, status[0]);
    put_error(error, error_bytes, "the collector %s cannot be started: %s", path,
              failed == EXDEV ? "children of this process are in another pid namespace; call "
                                "kqtime_new before unshare"
                              : strerror(failed));
    return -1;
  }
  return status[0];
}

static bool parse_ready(const char *line, struct kq_ready *ready) {
  int at = -1;
  if (sscanf(line, "ready %d %u %32s %n", &ready->pid, &ready->slots, ready->token,
             &at) != 3 ||
      at < 0 || ready->pid <= 0) {
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
    long got = KQ_SYS_RAW(SYS_read, from, line + filled, bytes - 1 - filled);
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
