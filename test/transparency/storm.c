/*
 * `storm SECONDS`: 64 threads on sockets of their own and on shared ones, which close and open the
 * same numbers at each other, while children are forked and signal handlers write. What it tells is
 * what must hold: what was sent has arrived, on the sockets that nobody else closes.
 */
#define _GNU_SOURCE
#include "../preload/pair.h"

#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <time.h>

#define OWN 24
#define SHARED 24
#define STORM 12 /* threads; a shared few numbers from STORM_FIRST on */
#define FORKS 4
#define STORM_FDS 16
#define STORM_FIRST 300

static struct pair shared;
static struct pair of_handler;
static struct sockaddr_in somewhere;
static atomic_bool over; /* for all but who serves them */
static atomic_bool all_over;
static atomic_ullong sent, received, handled, stolen, forked;
static atomic_ullong shared_sent;

static void on_signal(int number) {
  int saved = errno;
  /* A handler may come in any call, also in one on this socket. */
  if (send(of_handler.client, "handler", 7, MSG_DONTWAIT) == 7) {
    atomic_fetch_add_explicit(&handled, 7, memory_order_relaxed);
  }
  errno = saved;
  (void)number;
}

static bool again(void) { return errno == EINTR || errno == EAGAIN; }

static void send_all(int fd, const char *bytes, size_t length, atomic_ullong *count) {
  while (length > 0) {
    ssize_t part = send(fd, bytes, length, 0);
    CHECK(part > 0 || again());
    if (part > 0) {
      bytes += part;
      length -= (size_t)part;
      atomic_fetch_add_explicit(count, (unsigned long long)part, memory_order_relaxed);
    }
  }
}

static int connect_to(struct sockaddr_in *address) {
  int fd = socket(AF_INET, SOCK_STREAM, 0);
  CHECK(fd >= 0);
  if (connect(fd, (struct sockaddr *)address, sizeof *address) != 0) {
    CHECK(errno == EINTR);
    struct pollfd poller = {fd, POLLOUT, 0};
    while (poll(&poller, 1, 1000) <= 0) {
    }
  }
  return fd;
}

/* A pair, some bytes over it by one call or another, and its end. */
static void *own(void *seed) {
  unsigned random = (unsigned)(uintptr_t)seed;
  char block[3000] = "a block of bytes";
  char into[3000];
  struct sockaddr_in address;
  int listener = make_listener(&address);
  while (!over) {
    int client = connect_to(&address);
    int server;
    while ((server = accept(listener, NULL, NULL)) < 0) {
      CHECK(again());
    }
    for (int round = 0; round < 20; round++) {
      size_t length = 1 + (size_t)rand_r(&random) % sizeof block;
      send_all(client, block, length, &sent);
      while (length > 0) {
        struct iovec parts[2] = {{into, 100}, {into + 100, sizeof into - 100}};
        ssize_t got = round % 2 ? readv(server, parts, 2) : read(server, into, sizeof into);
        CHECK(got > 0 || again());
        if (got > 0) {
          length -= (size_t)got;
          atomic_fetch_add_explicit(&received, (unsigned long long)got, memory_order_relaxed);
        }
      }
    }
    usleep(500);
    int copy = dup(client);
    CHECK(close(client) == 0 && close(copy) == 0 && close(server) == 0);
  }
  close(listener);
  return NULL;
}

static void *share(void *seed) {
  unsigned random = (unsigned)(uintptr_t)seed;
  char block[200] = "shared";
  while (!over) {
    send_all(shared.client, block, 1 + (size_t)rand_r(&random) % sizeof block, &shared_sent);
    /* So that the threads of the storm have their turn. */
    usleep(300);
  }
  return NULL;
}

static void *take_shared(void *all) {
  char into[65536];
  struct pair *pair = all;
  ssize_t got;
  while ((got = recv(pair->server, into, sizeof into, 0)) != 0) {
    CHECK(got > 0 || again());
    if (got > 0) {
      atomic_fetch_add_explicit(&received, (unsigned long long)got, memory_order_relaxed);
    }
  }
  return NULL;
}

/* The same few numbers are opened, used and closed by all: who is second gets an error. */
static void *storm(void *seed) {
  unsigned random = (unsigned)(uintptr_t)seed;
  char block[100] = "storm";
  while (!over) {
    int at = STORM_FIRST + rand_r(&random) % STORM_FDS;
    switch (rand_r(&random) % 8) {
      case 0: {
        int fd = connect_to(&somewhere);
        dup2(fd, at);
        close(fd);
        break;
      }
      case 1:
        close(at);
        break;
      case 2:
        dup2(STORM_FIRST + rand_r(&random) % STORM_FDS, at);
        break;
      case 3: {
        int null = open("/dev/null", O_RDWR);
        dup2(null, at);
        close(null);
        break;
      }
      case 4:
        recv(at, block, sizeof block, MSG_DONTWAIT);
        break;
      case 5: {
        struct iovec part = {block, sizeof block};
        struct msghdr message = {.msg_iov = &part, .msg_iovlen = 1};
        sendmsg(at, &message, MSG_DONTWAIT | MSG_NOSIGNAL);
        break;
      }
      default:
        if (send(at, block, sizeof block, MSG_DONTWAIT | MSG_NOSIGNAL) > 0) {
          atomic_fetch_add_explicit(&stolen, 1, memory_order_relaxed);
        }
    }
  }
  return NULL;
}

/* Takes and closes what the storm connects. */
static void *serve(void *argument) {
  int listener = *(int *)argument;
  char into[1000];
  while (!all_over) {
    struct pollfd poller = {listener, POLLIN, 0};
    if (poll(&poller, 1, 20) > 0) {
      int fd = accept(listener, NULL, NULL);
      if (fd >= 0) {
        recv(fd, into, sizeof into, MSG_DONTWAIT);
        close(fd);
      }
    }
  }
  return NULL;
}

/* In a child only what a signal handler may do: the other threads' locks are as they were. */
static void *forks(void *argument) {
  while (!over) {
    struct pair own_pair = make_pair();
    pid_t child = fork();
    if (child == 0) {
      char into[16];
      alarm(30);
      bool good = send(own_pair.client, "of a child", 10, 0) == 10 || errno == EINTR;
      ssize_t got = recv(own_pair.server, into, 10, MSG_DONTWAIT);
      close(own_pair.client);
      close(STORM_FIRST);
      _exit(good && got != 0 ? 0 : 1);
    }
    CHECK(child > 0);
    int status;
    while (waitpid(child, &status, 0) != child) {
      CHECK(errno == EINTR);
    }
    CHECK(status == 0);
    atomic_fetch_add_explicit(&forked, 1, memory_order_relaxed);
    close(own_pair.client), close(own_pair.server), close(own_pair.listener);
  }
  return argument;
}

int main(int count, char **arguments) {
  double seconds = count > 1 ? atof(arguments[1]) : 1;
  int forking = count > 2 ? atoi(arguments[2]) : FORKS;
  shared = make_pair();
  of_handler = make_pair();
  int listener = make_listener(&somewhere);
  struct sigaction action = {.sa_handler = on_signal};
  CHECK(sigaction(SIGUSR1, &action, NULL) == 0);
  pthread_t takers[2], server, threads[OWN + SHARED + STORM + FORKS];
  CHECK(pthread_create(&takers[0], NULL, take_shared, &shared) == 0);
  CHECK(pthread_create(&takers[1], NULL, take_shared, &of_handler) == 0);
  CHECK(pthread_create(&server, NULL, serve, &listener) == 0);
  int all = 0;
  void *(*const kinds[])(void *) = {own, share, storm, forks};
  const int counts[] = {OWN, SHARED, STORM, forking < FORKS ? forking : FORKS};
  for (int kind = 0; kind < 4; kind++) {
    for (int number = 0; number < counts[kind]; number++, all++) {
      CHECK(pthread_create(&threads[all], NULL, kinds[kind], (void *)(intptr_t)(all + 1)) == 0);
    }
  }
  struct timespec start, now;
  clock_gettime(CLOCK_MONOTONIC, &start);
  unsigned random = 1;
  do {
    usleep(200);
    pthread_kill(threads[rand_r(&random) % (unsigned)(OWN + SHARED + STORM)], SIGUSR1);
    clock_gettime(CLOCK_MONOTONIC, &now);
  } while ((double)(now.tv_sec - start.tv_sec) + (double)(now.tv_nsec - start.tv_nsec) / 1e9 <
           seconds);
  over = true;
  for (int index = 0; index < all; index++) {
    pthread_join(threads[index], NULL);
  }
  all_over = true;
  shutdown(shared.client, SHUT_WR);
  shutdown(of_handler.client, SHUT_WR);
  pthread_join(takers[0], NULL);
  pthread_join(takers[1], NULL);
  pthread_join(server, NULL);
  CHECK(received == sent + shared_sent + handled);
  TELL("own %llu shared %llu handled %llu received %llu storm %llu forks %llu fds %d %d\n", sent,
       shared_sent, handled, received, stolen, forked, shared.client, of_handler.client);
  return 0;
}
