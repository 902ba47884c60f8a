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
/* Each ends with one that has no name. */
extern const struct scenario lives[];
extern const struct scenario processes[];

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

static inline void *receive(void *argument) {
  const struct pair *p = argument;
  char buffer[10];
  CHECK(recv(p->server, buffer, sizeof buffer, MSG_WAITALL) == sizeof buffer);
  return NULL;
}

/* Waits for the thread besides this one to be in recv. */
static inline void wait_until_it_receives(void) {
  double start = now_ms();
  for (bool there = false; !there;) {
    CHECK(now_ms() - start < 10000);
    DIR *folder = opendir("/proc/self/task");
    for (struct dirent *entry; (entry = readdir(folder)) != NULL;) {
      char path[300];
      char text[512] = "";
      snprintf(path, sizeof path, "/proc/self/task/%s/syscall", entry->d_name);
      int thread = atoi(entry->d_name);
      FILE *file = thread > 0 && thread != getpid() ? fopen(path, "r") : NULL;
      if (file != NULL) {
        there |= fgets(text, sizeof text, file) != NULL && atoi(text) == SYS_recvfrom;
        fclose(file);
      }
    }
    closedir(folder);
  }
}

#endif
