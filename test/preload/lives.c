/*
 * Fixture: how sockets are born, copied and closed. `lives SCENARIO`.
 */
#define _GNU_SOURCE
#include "pair.h"
#include "scenarios.h"

#include <fcntl.h>
#include <poll.h>
#include <pty.h>
#include <sys/syscall.h>
#include <utmp.h>

extern int close_range(unsigned, unsigned, int);
extern void closefrom(int);

static char text[] = "abcdefghijklmnopqrstuvwxyz0123456789";

static void copies(void) {
  struct pair p = make_pair();
  int a = dup(p.client);
  int b = fcntl(p.client, F_DUPFD, 50);
  int c = fcntl(p.client, F_DUPFD_CLOEXEC, 60);
  int victim = open("/dev/null", O_RDONLY);
  int d = dup2(p.client, victim);
  int e = dup3(p.client, 70, O_CLOEXEC);
  int f = (int)syscall(SYS_dup, p.client);
  int g = (int)syscall(SYS_dup3, p.client, 80, 0);
  int all[] = {p.client, a, b, c, d, e, f, g};
  for (int index = 0; index < 8; index++) {
    CHECK(send(all[index], text, (size_t)index + 1, 0) == index + 1);
  }
  close(p.client);
  CHECK(send(g, text, 9, 0) == 9);
  /* Nothing dies by these. */
  CHECK(dup2(a, a) == a);
  CHECK(dup2(999, a) == -1 && errno == EBADF);
  CHECK(dup3(a, a, 0) == -1 && errno == EINVAL);
  CHECK(send(a, text, 10, 0) == 10);
  /* A socket dies under dup2. */
  CHECK(dup2(open("/dev/null", O_WRONLY), a) == a);
  CHECK(write(a, text, 11) == 11);
  TELL("%d %d %d %d %d %d %d %d\n", p.client, a, b, c, d, e, f, g);
}

static void reuse(void) {
  struct pair p = make_pair();
  CHECK(send(p.client, text, 3, 0) == 3);
  CHECK(send(p.client, text, 30, 0) == 30);
  take(p.server, 3);
  int number = p.server;
  CHECK(close(p.server) == 0);
  CHECK(close(p.server) == -1 && errno == EBADF);
  struct pair q = make_pair();
  CHECK(q.server != number || q.client != number);
  CHECK(send(q.server, text, 4, 0) == 4);
}

static void deaths(void) {
  struct pair p[8];
  for (int index = 0; index < 8; index++) {
    p[index] = make_pair();
  }
  close(p[0].client);
  syscall(SYS_close, p[1].client);
  fclose(fdopen(p[2].client, "r+"));
  CHECK(close_range((unsigned)p[3].client, (unsigned)p[3].client, 0) == 0);
  CHECK(close_range((unsigned)p[4].client, (unsigned)p[4].client, 4 /* CLOEXEC */) == 0);
  CHECK(close_range(5, 4, 0) == -1 && errno == EINVAL);
  CHECK(syscall(SYS_close_range, p[5].client, p[5].client, 0) == 0);
  CHECK(send(p[4].client, text, 3, 0) == 3);
  closefrom(p[6].client);
  TELL("%d %d %d %d %d %d\n", p[0].client, p[1].client, p[2].client, p[3].client, p[5].client,
       p[6].client);
}

/* libc replaces the descriptor itself; what is written there afterwards is no socket's. */
static void replaced(void) {
  struct pair p = make_pair();
  char block[4000] = "of a file";
  CHECK(send(p.client, text, 5, 0) == 5);
  FILE *stream = freopen("/dev/null", "w", fdopen(p.client, "r+"));
  CHECK(stream != NULL && fileno(stream) == p.client);
  for (int round = 0; round < 100; round++) {
    CHECK(write(p.client, block, sizeof block) == sizeof block);
  }
  CHECK(freopen64("/nowhere/at/all", "w", fdopen(p.server, "r+")) == NULL);
  CHECK(open("/dev/null", O_WRONLY) == p.server);
  CHECK(write(p.server, block, sizeof block) == sizeof block);
}

/* 0, 1 and 2 are a socket, in a child, and then are not. */
static void standard_write(struct pair *p, int (*replace)(void)) {
  int end[2];
  CHECK(pipe(end) == 0);
  pid_t child = fork();
  if (child == 0) {
    for (int fd = 0; fd < 3; fd++) {
      CHECK(dup2(p->client, fd) == fd && send(fd, text, 4, 0) == 4);
    }
    if (replace() == 0) {
      for (int fd = 1; fd < 3; fd++) {
        if (write(fd, "not of a socket\n", 16) != 16) {
          abort();
        }
      }
    }
    _exit(0);
  }
  wait_for(child);
  /* And for the daemon. */
  char byte;
  CHECK(close(end[1]) == 0 && read(end[0], &byte, 1) == 0 && close(end[0]) == 0);
}

static int by_daemon(void) { return daemon(1, 0); }

static int by_login_tty(void) {
  int master, terminal;
  CHECK(openpty(&master, &terminal, NULL, NULL, NULL) == 0);
  return login_tty(terminal);
}

static int by_forkpty(void) {
  int master;
  pid_t child = forkpty(&master, NULL, NULL, NULL);
  if (child > 0) {
    /* The parent has what it had. */
    CHECK(send(1, text, 2, 0) == 2);
    char line[64];
    while (read(master, line, sizeof line) > 0) {
    }
    wait_for(child);
  }
  return child;
}

static void standard(void) {
  struct pair daemons = make_pair(), logins = make_pair(), forks = make_pair();
  standard_write(&daemons, by_daemon);
  standard_write(&logins, by_login_tty);
  standard_write(&forks, by_forkpty);
  TELL("%d %d %d\n", ntohs(daemons.address.sin_port), ntohs(logins.address.sin_port),
       ntohs(forks.address.sin_port));
}

static void connects(void) {
  struct sockaddr_in address;
  int listener = make_listener(&address);
  struct sockaddr_in closed = address;
  int spare = make_listener(&closed);
  close(spare);
  /* Refused, then the same descriptor connects. */
  int fd = socket(AF_INET, SOCK_STREAM, 0);
  CHECK(connect(fd, (struct sockaddr *)&closed, sizeof closed) == -1 && errno == ECONNREFUSED);
  CHECK(connect(fd, (struct sockaddr *)&address, sizeof address) == 0);
  CHECK(connect(fd, (struct sockaddr *)&address, sizeof address) == -1 && errno == EISCONN);
  CHECK(send(fd, text, 1, 0) == 1);
  /* In progress, finished, asked again. */
  int slow = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
  CHECK(connect(slow, (struct sockaddr *)&address, sizeof address) == -1 &&
        errno == EINPROGRESS);
  struct pollfd poller = {slow, POLLOUT, 0};
  CHECK(poll(&poller, 1, 1000) == 1);
  CHECK(connect(slow, (struct sockaddr *)&address, sizeof address) == 0);
  CHECK(connect(slow, (struct sockaddr *)&address, sizeof address) == -1 && errno == EISCONN);
  CHECK(send(slow, text, 2, 0) == 2);
  /* In progress, fails, connects. */
  int late = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
  CHECK(connect(late, (struct sockaddr *)&closed, sizeof closed) == -1);
  usleep(10000);
  CHECK(connect(late, (struct sockaddr *)&closed, sizeof closed) == -1 &&
        errno == ECONNREFUSED);
  CHECK(connect(late, (struct sockaddr *)&address, sizeof address) == -1 &&
        errno == EINPROGRESS);
  poller.fd = late;
  CHECK(poll(&poller, 1, 1000) == 1);
  CHECK(send(late, text, 3, 0) == 3);
  /* Dissolved by AF_UNSPEC. */
  struct sockaddr none = {.sa_family = AF_UNSPEC};
  CHECK(connect(late, &none, sizeof none) == 0);
  CHECK(fcntl(late, F_SETFL, 0) == 0);
  CHECK(connect(late, (struct sockaddr *)&address, sizeof address) == 0);
  CHECK(send(late, text, 4, 0) == 4);
  (void)listener;
}

static void fastopen(void) {
  struct sockaddr_in address;
  int listener = make_listener(&address);
  int queue = 5;
  setsockopt(listener, 6, 23 /* TCP_FASTOPEN */, &queue, sizeof queue);
  for (int round = 0; round < 2; round++) {
    int fd = socket(AF_INET, SOCK_STREAM, 0);
    CHECK(sendto(fd, text, 3, MSG_FASTOPEN, (struct sockaddr *)&address, sizeof address) == 3);
    CHECK(send(fd, text, 4, 0) == 4);
    struct iovec part = {text, 5};
    struct msghdr message = {.msg_name = &address,
                             .msg_namelen = sizeof address,
                             .msg_iov = &part,
                             .msg_iovlen = 1};
    int other = socket(AF_INET, SOCK_STREAM, 0);
    CHECK(sendmsg(other, &message, MSG_FASTOPEN) == 5);
  }
}

static void v6(void) {
  int listener = socket(AF_INET6, SOCK_STREAM, 0);
  struct sockaddr_in6 address = {.sin6_family = AF_INET6, .sin6_addr = IN6ADDR_ANY_INIT};
  socklen_t length = sizeof address;
  CHECK(bind(listener, (struct sockaddr *)&address, sizeof address) == 0 &&
        listen(listener, 4) == 0);
  CHECK(getsockname(listener, (struct sockaddr *)&address, &length) == 0);
  address.sin6_addr = in6addr_loopback;
  int six = socket(AF_INET6, SOCK_STREAM, 0);
  CHECK(connect(six, (struct sockaddr *)&address, sizeof address) == 0);
  CHECK(accept(listener, NULL, NULL) >= 0);
  struct sockaddr_in mapped = {.sin_family = AF_INET,
                               .sin_port = address.sin6_port,
                               .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
  int four = socket(AF_INET, SOCK_STREAM, 0);
  CHECK(connect(four, (struct sockaddr *)&mapped, sizeof mapped) == 0);
  struct sockaddr_storage peer;
  length = sizeof peer;
  CHECK(accept(listener, (struct sockaddr *)&peer, &length) >= 0);
}

/* To "any address", which is this host, without waiting for the end of it. */
static void connect_any(void) {
  struct sockaddr_in four;
  int listener = make_listener(&four);
  four.sin_addr.s_addr = htonl(INADDR_ANY);
  int fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
  CHECK(connect(fd, (struct sockaddr *)&four, sizeof four) == -1 && errno == EINPROGRESS);
  CHECK(accept(listener, NULL, NULL) >= 0);
  CHECK(send(fd, text, 4, 0) == 4);
  listener = socket(AF_INET6, SOCK_STREAM, 0);
  struct sockaddr_in6 six = {.sin6_family = AF_INET6, .sin6_addr = IN6ADDR_ANY_INIT};
  socklen_t length = sizeof six;
  CHECK(bind(listener, (struct sockaddr *)&six, sizeof six) == 0 && listen(listener, 4) == 0);
  CHECK(getsockname(listener, (struct sockaddr *)&six, &length) == 0);
  fd = socket(AF_INET6, SOCK_STREAM | SOCK_NONBLOCK, 0);
  CHECK(connect(fd, (struct sockaddr *)&six, sizeof six) == -1 && errno == EINPROGRESS);
  CHECK(accept(listener, NULL, NULL) >= 0);
  CHECK(send(fd, text, 6, 0) == 6);
}

/* With redirect.so: connect sends it to the next port. */
static void redirected(void) {
  struct sockaddr_in address;
  int listener = make_listener(&address);
  address.sin_port = htons(ntohs(address.sin_port) - 1);
  int fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
  CHECK(connect(fd, (struct sockaddr *)&address, sizeof address) == -1 && errno == EINPROGRESS);
  int server = accept(listener, NULL, NULL);
  CHECK(send(fd, text, 4, 0) == 4);
  CHECK(connect(fd, (struct sockaddr *)&address, sizeof address) == 0);
  CHECK(send(fd, text, 5, 0) == 5);
  take(server, 9);
  close(fd);
}

int main(int count, char **arguments) {
  static const struct scenario scenarios[] = {
      {"copies", copies}, {"reuse", reuse}, {"deaths", deaths}, {"replaced", replaced},
      {"standard", standard}, {"connects", connects}, {"fastopen", fastopen}, {"v6", v6},
      {"connect-any", connect_any}, {"redirected", redirected}};
  return RUN_SCENARIO(scenarios, count, arguments);
}
