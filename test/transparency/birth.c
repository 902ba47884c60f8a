/* Where sockets come from: socket, socketpair, connect, listen. */
#define _GNU_SOURCE
#include "cases.h"

#include <arpa/inet.h>
#include <limits.h>
#include <sys/resource.h>
#include <sys/un.h>

static void sockets(const struct call *call) {
  static const struct {
    int domain, type, protocol;
  } all[] = {{AF_INET, SOCK_STREAM, 0}, {AF_INET, SOCK_STREAM, IPPROTO_TCP},
             {AF_INET6, SOCK_STREAM, 0}, {AF_INET, SOCK_DGRAM, 0}, {AF_INET, SOCK_DGRAM, 132},
             {AF_UNIX, SOCK_STREAM, 0}, {AF_UNIX, SOCK_SEQPACKET, 0}, {AF_INET, SOCK_STREAM, 262},
             {AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0}, {AF_NETLINK, SOCK_RAW, 0},
             {AF_INET, SOCK_STREAM, IPPROTO_UDP}, {AF_INET, 99, 0}, {AF_INET, -1, 0},
             {999, SOCK_STREAM, 0}, {-1, -1, -1}, {AF_INET, SOCK_STREAM, -1}};
  for (int index = 0; index < LENGTH(all); index++) {
    long fd = INVOKE(call, all[index].domain, all[index].type, all[index].protocol);
    char name[64];
    snprintf(name, sizeof name, "%d %d %d", all[index].domain, all[index].type,
             all[index].protocol);
    tell(call, name, fd, "flags %x, open%s", fd >= 0 ? fcntl((int)fd, F_GETFL) : 0, open_fds(3));
    if (fd >= 0) {
      close((int)fd);
    }
  }
  struct rlimit limit;
  CHECK(getrlimit(RLIMIT_NOFILE, &limit) == 0);
  struct rlimit none = {3, limit.rlim_max};
  CHECK(setrlimit(RLIMIT_NOFILE, &none) == 0);
  long fd = INVOKE(call, AF_INET, SOCK_STREAM, 0);
  int error = errno;
  CHECK(setrlimit(RLIMIT_NOFILE, &limit) == 0);
  errno = error;
  tell(call, "no more numbers", fd, "%s", "");
}

static void pairs(const struct call *call) {
  int fds[2] = {-5, -5};
  static const struct {
    int domain, type;
  } all[] = {{AF_UNIX, SOCK_STREAM}, {AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC},
             {AF_UNIX, SOCK_SEQPACKET | SOCK_NONBLOCK}, {AF_INET, SOCK_STREAM},
             {AF_INET, SOCK_DGRAM}, {AF_UNIX, 99}, {999, SOCK_STREAM}};
  for (int index = 0; index < LENGTH(all); index++) {
    long result = INVOKE(call, all[index].domain, all[index].type, 0, (long)fds);
    char name[64];
    snprintf(name, sizeof name, "%d %d", all[index].domain, all[index].type);
    tell(call, name, result, "%d %d open%s", fds[0], fds[1], open_fds(3));
    if (result == 0) {
      CHECK(write(fds[0], text, 3) == 3 && read(fds[1], text, 3) == 3);
      close(fds[0]), close(fds[1]);
    }
  }
  long result = INVOKE(call, AF_UNIX, SOCK_STREAM, 0, (long)BAD);
  tell(call, "bad pointer", result, "open%s", open_fds(3));
  result = INVOKE(call, AF_UNIX, SOCK_STREAM, 0, 0);
  tell(call, "NULL", result, "open%s", open_fds(3));
}

static void check_peer(const struct call *call, const char *variant, long result, int fd) {
  struct sockaddr_storage peer;
  socklen_t length = sizeof peer;
  int error = errno;
  int connected = getpeername(fd, (struct sockaddr *)&peer, &length) == 0;
  errno = error;
  tell(call, variant, result, "connected %d", connected);
}

static void addresses(const struct call *call) {
  struct sockaddr_in here;
  int listener = tcp_listener(&here, 64);
  struct sockaddr_in closed;
  close(tcp_listener(&closed, 1));
  struct sockaddr_in strange = here;
  strange.sin_family = 77;
  struct sockaddr_in none = {.sin_family = AF_UNSPEC};
  struct sockaddr_un no_file = {.sun_family = AF_UNIX, .sun_path = "/nonexistent/socket"};
  struct sockaddr_in broadcast = {.sin_family = AF_INET, .sin_port = htons(9),
                                  .sin_addr.s_addr = htonl(INADDR_BROADCAST)};
  const struct {
    const char *name;
    const void *address;
    long length;
  } all[] = {{"listening", &here, sizeof here}, {"refused", &closed, sizeof closed},
             {"NULL", NULL, sizeof here}, {"NULL, no length", NULL, 0}, {"bad pointer", BAD, 16},
             {"half an address", edge_of_page(8), sizeof here}, {"short", &here, 8},
             {"empty", &here, 0}, {"one byte", &here, 1}, {"negative", &here, -1},
             {"INT_MAX", &here, INT_MAX}, {"128", &here, 128}, {"129", &here, 129},
             {"family 77", &strange, 16}, {"dissolving", &none, 16}, {"dissolving, 2", &none, 2},
             {"no file", &no_file, sizeof no_file}, {"broadcast", &broadcast, 16}};
  static const int domains[][2] = {{AF_INET, SOCK_STREAM}, {AF_INET6, SOCK_STREAM},
                                   {AF_INET, SOCK_DGRAM}, {AF_UNIX, SOCK_STREAM}};
  for (int domain = 0; domain < LENGTH(domains); domain++) {
    for (int index = 0; index < LENGTH(all); index++) {
      int fd = socket(domains[domain][0], domains[domain][1], 0);
      char name[64];
      for (int again = 0; again < 2; again++) {
        snprintf(name, sizeof name, "%d %d %s %d", domains[domain][0], domains[domain][1],
                 all[index].name, again);
        long result = INVOKE(call, fd, (long)all[index].address, all[index].length);
        check_peer(call, name, result, fd);
      }
      long result = INVOKE(call, fd, (long)&here, sizeof here);
      snprintf(name, sizeof name, "%d %d after %s", domains[domain][0], domains[domain][1],
               all[index].name);
      check_peer(call, name, result, fd);
      result = INVOKE(call, fd, (long)&none, sizeof none);
      check_peer(call, "dissolving at last", result, fd);
      close(fd);
      struct pollfd poller = {listener, POLLIN, 0};
      while (poll(&poller, 1, 0) > 0) {
        close(accept(listener, NULL, NULL));
      }
    }
  }
  close(listener);
}

static void states(const struct call *call) {
  struct sockaddr_in here;
  int listener = tcp_listener(&here, 8);
  int fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
  long result = INVOKE(call, fd, (long)&here, sizeof here);
  tell(call, "in progress", result, "%s", "");
  struct pollfd poller = {fd, POLLOUT, 0};
  CHECK(poll(&poller, 1, 5000) == 1);
  result = INVOKE(call, fd, (long)&here, sizeof here);
  check_peer(call, "asked again", result, fd);
  result = INVOKE(call, fd, (long)&here, sizeof here);
  check_peer(call, "connected", result, fd);
  result = INVOKE(call, listener, (long)&here, sizeof here);
  tell(call, "on a listener", result, "%s", "");
  result = INVOKE(call, -1, (long)&here, sizeof here);
  tell(call, "-1", result, "%s", "");
  close(fd);
  result = INVOKE(call, fd, (long)&here, sizeof here);
  tell(call, "closed", result, "%s", "");
  int file = file_of(text, 3);
  result = INVOKE(call, file, (long)&here, sizeof here);
  tell(call, "a file", result, "%s", "");
  close(file), close(listener);
  /* A backlog that is full: it waits for somebody to accept. */
  listener = tcp_listener(&here, 0);
  int filler = socket(AF_INET, SOCK_STREAM, 0);
  CHECK(connect(filler, (struct sockaddr *)&here, sizeof here) == 0);
  fd = socket(AF_INET, SOCK_STREAM, 0);
  start_signals(false, NULL);
  result = INVOKE(call, fd, (long)&here, sizeof here);
  bool came = stop_signals();
  tell(call, "interrupted", result, "signal %d", came);
  set_blocking(fd, false);
  result = INVOKE(call, fd, (long)&here, sizeof here);
  tell(call, "after it", result, "%s", "");
  close(fd), close(filler), close(listener);
}

static void listens(const struct call *call) {
  struct sockaddr_in here;
  int all[] = {-1, 199, file_of(text, 3), socket(AF_INET, SOCK_STREAM, 0),
               socket(AF_INET6, SOCK_STREAM, 0), socket(AF_INET, SOCK_DGRAM, 0),
               socket(AF_UNIX, SOCK_STREAM, 0), open_ends(TCP, true).own,
               tcp_listener(&here, 3)};
  static const char *const names[] = {"-1", "closed", "file", "tcp", "tcp6", "udp", "unix",
                                      "connected", "again"};
  static const int backlogs[] = {5, 0, -1, INT_MAX};
  for (int index = 0; index < LENGTH(all); index++) {
    for (int number = 0; number < LENGTH(backlogs); number++) {
      char name[32];
      snprintf(name, sizeof name, "%s %d", names[index], backlogs[number]);
      long result = INVOKE(call, all[index], backlogs[number]);
      int error = errno;
      int accepting = 0;
      socklen_t length = sizeof accepting;
      getsockopt(all[index], SOL_SOCKET, SO_ACCEPTCONN, &accepting, &length);
      errno = error;
      tell(call, name, result, "listening %d", accepting);
    }
    if (index >= 2) {
      close(all[index]);
    }
  }
}

void family_birth(void) {
  static const struct call socket_calls[] = {ENTRY_INT(socket, OTHER), NUMBER(SYS_socket, OTHER)};
  static const struct call pair_calls[] = {ENTRY_INT(socketpair, OTHER),
                                           NUMBER(SYS_socketpair, OTHER)};
  static const struct call connects[] = {ENTRY_INT(connect, OTHER), ENTRY_INT(__connect, OTHER),
                                         NUMBER(SYS_connect, OTHER)};
  static const struct call listen_calls[] = {ENTRY_INT(listen, OTHER), NUMBER(SYS_listen, OTHER)};
  for (int index = 0; index < 2; index++) {
    sockets(&socket_calls[index]);
    pairs(&pair_calls[index]);
    listens(&listen_calls[index]);
  }
  for (int index = 0; index < LENGTH(connects); index++) {
    addresses(&connects[index]);
    states(&connects[index]);
  }
}
