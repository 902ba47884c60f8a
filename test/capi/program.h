/* What the scenarios of the program share. */
#ifndef KQ_TEST_PROGRAM_H
#define KQ_TEST_PROGRAM_H

#include <kqtime.h>

#include <dirent.h>
#include <dlfcn.h>
#include <fcntl.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdbool.h>
#include <stddef.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>

#include "../preload/pair.h"

struct scenario {
  const char *name;
  void (*run)(void);
};
/* Ends with one that has no name. */
extern const struct scenario lives[];

extern const char *log_path;

extern char bytes[65536];

static inline double now_ms(void) {
  struct timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  return (double)now.tv_sec * 1e3 + (double)now.tv_nsec / 1e6;
}

static inline void move(struct pair *p, size_t length) {
  CHECK(send(p->client, bytes, length, 0) == (ssize_t)length);
  take(p->server, length);
}

static inline KQTime *new_measurement(void) {
  KQTime *kqtime = kqtime_new(log_path, 0, 1, 1);
  CHECK(kqtime != NULL);
  return kqtime;
}

static inline int count_fds(void) {
  DIR *folder = opendir("/proc/self/fd");
  int count = -1; /* of the folder itself */
  for (struct dirent *entry; (entry = readdir(folder)) != NULL;) {
    count += entry->d_name[0] != '.';
  }
  closedir(folder);
  return count;
}

static inline long status_kib(const char *name) {
  char line[256];
  long value = -1;
  FILE *status = fopen("/proc/self/status", "r");
  while (fgets(line, sizeof line, status) != NULL) {
    if (strncmp(line, name, strlen(name)) == 0) {
      value = atol(line + strlen(name));
    }
  }
  fclose(status);
  return value;
}

static inline void ask_to_go_on(const char *what) {
  char byte;
  TELL("%s\n", what);
  CHECK(read(0, &byte, 1) == 1);
}

static inline int connect_to(const struct pair *p, int client, int flags) {
  if (flags != 0) {
    CHECK(fcntl(client, F_SETFL, flags) == 0);
  }
  int result = connect(client, (const struct sockaddr *)&p->address, sizeof p->address);
  CHECK(result == 0 || errno == EINPROGRESS);
  return accept(p->listener, NULL, NULL);
}

static inline void wait_for(pid_t child) {
  int status;
  CHECK(waitpid(child, &status, 0) == child && WIFEXITED(status) && WEXITSTATUS(status) == 0);
}

#endif
