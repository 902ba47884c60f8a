/* `cases FAMILY`: every entry that the library hooks, and what it does. See cases.h. */
#define _GNU_SOURCE
#include "cases.h"

#include <arpa/inet.h>
#include <dlfcn.h>
#include <stdarg.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/time.h>
#include <sys/wait.h>

char text[64] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789";
const char *const kind_names[] = {"tcp", "tcp6", "udp", "unix", "unix-dgram", "pipe"};

typedef long (*six)(long, long, long, long, long, long);
typedef long (*seven)(long, long, long, long, long, long, long);

bool present(const struct call *call) {
  if (dlsym(RTLD_DEFAULT, call->symbol) != NULL) {
    return true;
  }
  printf("%s absent\n", call->symbol);
  return false;
}

long invoke_with(const struct call *call, const long a[6]) {
  void *function = dlsym(RTLD_DEFAULT, call->symbol);
  CHECK(function != NULL);
  errno = UNTOUCHED;
  long result = call->number >= 0
                    ? ((seven)function)(call->number, a[0], a[1], a[2], a[3], a[4], a[5])
                    : ((six)function)(a[0], a[1], a[2], a[3], a[4], a[5]);
  return call->gives == A_LONG ? result : call->gives == AN_INT ? (int)result : 0;
}

void tell(const struct call *call, const char *variant, long result, const char *more, ...) {
  int error = errno;
  printf("%s%s%s %s = %ld", call->symbol, *call->name ? ":" : "", call->name, variant, result);
  printf(error == UNTOUCHED ? "" : " %s", strerrorname_np(error));
  va_list arguments;
  va_start(arguments, more);
  if (*more) {
    printf("; ");
    vprintf(more, arguments);
  }
  va_end(arguments);
  printf("\n");
}

int tcp_listener(struct sockaddr_in *address, int backlog) {
  int listener = socket(AF_INET, SOCK_STREAM, 0);
  socklen_t length = sizeof *address;
  *address = (struct sockaddr_in){.sin_family = AF_INET,
                                  .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
  CHECK(bind(listener, (struct sockaddr *)address, sizeof *address) == 0);
  CHECK(listen(listener, backlog) == 0);
  CHECK(getsockname(listener, (struct sockaddr *)address, &length) == 0);
  return listener;
}

static struct ends tcp_ends(int family) {
  struct sockaddr_storage address = {.ss_family = (sa_family_t)family};
  if (family == AF_INET) {
    ((struct sockaddr_in *)&address)->sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  } else {
    ((struct sockaddr_in6 *)&address)->sin6_addr = in6addr_loopback;
  }
  socklen_t length = sizeof address;
  int listener = socket(family, SOCK_STREAM, 0);
  CHECK(bind(listener, (struct sockaddr *)&address, sizeof address) == 0 &&
        listen(listener, 4) == 0 &&
        getsockname(listener, (struct sockaddr *)&address, &length) == 0);
  struct ends ends = {.own = socket(family, SOCK_STREAM, 0)};
  CHECK(connect(ends.own, (struct sockaddr *)&address, length) == 0);
  ends.peer = accept(listener, NULL, NULL);
  CHECK(ends.peer >= 0 && close(listener) == 0);
  return ends;
}

static struct ends udp_ends(void) {
  int fds[2];
  struct sockaddr_in addresses[2];
  for (int index = 0; index < 2; index++) {
    socklen_t length = sizeof *addresses;
    addresses[index] = (struct sockaddr_in){.sin_family = AF_INET,
                                            .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    fds[index] = socket(AF_INET, SOCK_DGRAM, 0);
    struct sockaddr *address = (struct sockaddr *)&addresses[index];
    CHECK(bind(fds[index], address, sizeof *addresses) == 0 &&
          getsockname(fds[index], address, &length) == 0);
  }
  for (int index = 0; index < 2; index++) {
    CHECK(connect(fds[index], (struct sockaddr *)&addresses[1 - index], sizeof *addresses) == 0);
  }
  return (struct ends){fds[0], fds[1]};
}

/* The same socket under a number that no hook has seen born. */
static int sent_to_itself(int fd) {
  int ways[2];
  CHECK(socketpair(AF_UNIX, SOCK_STREAM, 0, ways) == 0);
  char control[CMSG_SPACE(sizeof fd)] = {0};
  struct iovec part = {text, 1};
  struct msghdr message = {.msg_iov = &part, .msg_iovlen = 1, .msg_control = control,
                           .msg_controllen = sizeof control};
  struct cmsghdr *header = CMSG_FIRSTHDR(&message);
  *header = (struct cmsghdr){CMSG_LEN(sizeof fd), SOL_SOCKET, SCM_RIGHTS};
  memcpy(CMSG_DATA(header), &fd, sizeof fd);
  char byte;
  CHECK(sendmsg(ways[0], &message, 0) == 1 && close(fd) == 0);
  part.iov_base = &byte;
  CHECK(recvmsg(ways[1], &message, 0) == 1);
  memcpy(&fd, CMSG_DATA(CMSG_FIRSTHDR(&message)), sizeof fd);
  CHECK(close(ways[0]) == 0 && close(ways[1]) == 0);
  return fd;
}

struct ends open_ends(enum kind kind, bool writes) {
  struct ends ends;
  int fds[2];
  switch (kind) {
    case TCP:
    case TCP6:
      ends = tcp_ends(kind == TCP ? AF_INET : AF_INET6);
      break;
    case UDP:
      ends = udp_ends();
      break;
    case PIPE:
      CHECK(pipe(fds) == 0);
      ends = writes ? (struct ends){fds[1], fds[0]} : (struct ends){fds[0], fds[1]};
      break;
    default:
      CHECK(socketpair(AF_UNIX, kind == UNIX_STREAM ? SOCK_STREAM : SOCK_DGRAM, 0, fds) == 0);
      ends = (struct ends){fds[0], fds[1]};
  }
  if (getenv("CASES_FOUND") != NULL) {
    ends.own = sent_to_itself(ends.own);
  }
  return ends;
}

void close_ends(struct ends ends) {
  close(ends.own);
  close(ends.peer);
}

unsigned sum_of(const void *bytes, size_t length) {
  unsigned sum = 2166136261u;
  for (size_t at = 0; at < length; at++) {
    sum = (sum ^ ((const uint8_t *)bytes)[at]) * 16777619u;
  }
  return sum;
}

unsigned take_sum(int fd, size_t bytes) {
  static char buffer[1 << 20];
  size_t got = 0;
  CHECK(bytes <= sizeof buffer);
  while (got < bytes) {
    wait_readable(fd);
    ssize_t more = read(fd, buffer + got, sizeof buffer - got < bytes - got
                                              ? sizeof buffer - got : bytes - got);
    CHECK(more > 0);
    got += (size_t)more;
  }
  return sum_of(buffer, got);
}

size_t take_all(int fd, long expected) {
  static char buffer[1 << 16];
  size_t all = 0;
  struct pollfd poller = {fd, POLLIN, 0};
  while (poll(&poller, 1, (long)all < expected ? 500 : 0) > 0) {
    ssize_t more = read(fd, buffer, sizeof buffer);
    if (more <= 0) {
      break;
    }
    all += (size_t)more;
  }
  return all;
}

int bytes_waiting(int fd) {
  int count = -1;
  ioctl(fd, FIONREAD, &count);
  return count;
}

void wait_readable(int fd) {
  struct pollfd poller = {fd, POLLIN, 0};
  int ready;
  do {
    ready = poll(&poller, 1, 10000);
  } while (ready < 0 && errno == EINTR);
  CHECK(ready == 1);
}

void set_blocking(int fd, bool blocking) {
  int flags = fcntl(fd, F_GETFL);
  CHECK(fcntl(fd, F_SETFL, blocking ? flags & ~O_NONBLOCK : flags | O_NONBLOCK) == 0);
}

void fill(int fd) {
  static char block[65536];
  set_blocking(fd, false);
  for (size_t length = sizeof block; length > 0;) {
    if (write(fd, block, length) < 0) {
      CHECK(errno == EAGAIN || errno == EMSGSIZE);
      length /= 2;
    }
  }
}

char *edge_of_page(size_t bytes) {
  char *pages = mmap(NULL, 2 * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  CHECK(pages != MAP_FAILED && munmap(pages + PAGE, PAGE) == 0);
  memcpy(pages + PAGE - bytes, text, bytes);
  return pages + PAGE - bytes;
}

char *huge_zeros(void) {
  static char *zeros;
  if (zeros == NULL) {
    zeros = mmap(NULL, HUGE_LENGTH + PAGE, PROT_READ | PROT_WRITE,
                 MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    CHECK(zeros != MAP_FAILED);
  }
  return zeros;
}

int file_of(const void *bytes, size_t length) {
  int file = memfd_create("cases", 0);
  CHECK(write(file, bytes, length) == (ssize_t)length && lseek(file, 0, SEEK_SET) == 0);
  return file;
}

static volatile sig_atomic_t signals;
static volatile sig_atomic_t pipes;
static void (*signal_act)(void);

static void on_signal(int number) {
  int saved = errno;
  if (number == SIGPIPE) {
    pipes = pipes + 1;
  } else {
    signals = signals + 1;
    if (signal_act != NULL) {
      signal_act();
    }
  }
  errno = saved;
}

void start_signals(bool restart, void (*act)(void)) {
  struct sigaction action = {.sa_handler = on_signal, .sa_flags = restart ? SA_RESTART : 0};
  struct itimerval soon = {{0, 3000}, {0, 3000}};
  signals = 0;
  signal_act = act;
  CHECK(sigaction(SIGALRM, &action, NULL) == 0 && setitimer(ITIMER_REAL, &soon, NULL) == 0);
}

bool stop_signals(void) {
  struct itimerval never = {{0, 0}, {0, 0}};
  int saved = errno;
  CHECK(setitimer(ITIMER_REAL, &never, NULL) == 0);
  signal(SIGALRM, SIG_IGN);
  errno = saved;
  return signals > 0;
}

int pipe_signals(void) {
  int count = pipes;
  pipes = 0;
  return count;
}

const char *open_fds(int first) {
  static char list[2048];
  size_t at = 0;
  int saved = errno;
  list[0] = '\0';
  for (int fd = first; fd < 200; fd++) {
    int flags = fcntl(fd, F_GETFD);
    if (flags >= 0) {
      at += (size_t)snprintf(list + at, sizeof list - at, " %d%s", fd, flags ? "x" : "");
    }
  }
  errno = saved;
  return list;
}

void apart(void (*body)(const struct call *), const struct call *call) {
  fflush(stdout);
  pid_t child = fork();
  if (child == 0) {
    body(call);
    fflush(stdout);
    _exit(0);
  }
  int status;
  CHECK(waitpid(child, &status, 0) == child);
  if (status != 0) {
    printf("%s: a child ended by %s %d\n", call->symbol, WIFEXITED(status) ? "exit" : "signal",
           WIFEXITED(status) ? WEXITSTATUS(status) : WTERMSIG(status));
  }
}

int main(int count, char **arguments) {
  static const struct {
    const char *name;
    void (*run)(void);
  } families[] = {{"out", family_out},       {"in", family_in},       {"messages", family_messages},
                  {"birth", family_birth},   {"accept", family_accept}, {"death", family_death},
                  {"options", family_options}};
  struct sigaction action = {.sa_handler = on_signal};
  sigaction(SIGPIPE, &action, NULL);
  for (int index = 0; index < LENGTH(families); index++) {
    if (count > 1 && strcmp(families[index].name, arguments[1]) == 0) {
      families[index].run();
      return 0;
    }
  }
  return 2;
}
