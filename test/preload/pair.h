/* Connected pairs on loopback and small checks for the fixtures. */
#ifndef KQ_TEST_PAIR_H
#define KQ_TEST_PAIR_H

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#define CHECK(condition)                                                                       \
  do {                                                                                         \
    if (!(condition)) {                                                                        \
      fprintf(stderr, "%s:%d: %s (errno %d, %s)\n", __FILE__, __LINE__, #condition, errno,     \
              strerror(errno));                                                                \
      exit(1);                                                                                 \
    }                                                                                          \
  } while (0)

struct pair {
  int listener;
  int client;
  int server;
  struct sockaddr_in address;
};

static inline int make_listener(struct sockaddr_in *address) {
  int listener = socket(AF_INET, SOCK_STREAM, 0);
  socklen_t length = sizeof *address;
  memset(address, 0, sizeof *address);
  address->sin_family = AF_INET;
  address->sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  CHECK(bind(listener, (struct sockaddr *)address, sizeof *address) == 0);
  CHECK(listen(listener, 16) == 0);
  CHECK(getsockname(listener, (struct sockaddr *)address, &length) == 0);
  return listener;
}

static inline struct pair make_pair(void) {
  struct pair pair;
  pair.listener = make_listener(&pair.address);
  pair.client = socket(AF_INET, SOCK_STREAM, 0);
  CHECK(connect(pair.client, (struct sockaddr *)&pair.address, sizeof pair.address) == 0);
  pair.server = accept(pair.listener, NULL, NULL);
  CHECK(pair.server >= 0);
  return pair;
}

/* Takes exactly so many bytes by plain recv. */
static inline void take(int fd, size_t length) {
  char buffer[65536];
  while (length > 0) {
    ssize_t got = recv(fd, buffer, length < sizeof buffer ? length : sizeof buffer, 0);
    CHECK(got > 0);
    length -= (size_t)got;
  }
}

/* A child that must end well. */
static inline void wait_for(pid_t child) {
  int status;
  CHECK(waitpid(child, &status, 0) == child && WIFEXITED(status) && WEXITSTATUS(status) == 0);
}

/* What a scenario tells the test. */
#define TELL(...) (printf(__VA_ARGS__), fflush(stdout))

#endif
