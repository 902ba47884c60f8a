/*
 * socket(2), socketpair(2), connect(2), listen(2), accept(2): where sockets come from.
 */
#define _GNU_SOURCE
#include <errno.h>

#include "real.h"
#include "socket.h"

KQ_EXPORT int socket(int domain, int type, int protocol) {
  int fd = KQ_REAL(socket)(domain, type, protocol);
  kq_socket_born(fd, domain, type, protocol);
  return fd;
}

KQ_EXPORT int socketpair(int domain, int type, int protocol, int fds[2]) {
  int result = KQ_REAL(socketpair)(domain, type, protocol, fds);
  if (result == 0) {
    kq_socket_born(fds[0], domain, type, protocol);
    kq_socket_born(fds[1], domain, type, protocol);
  }
  return result;
}

KQ_EXPORT int connect(int fd, __CONST_SOCKADDR_ARG address, socklen_t length) {
  if (kq_fd_ignored(kq_fd_look(fd))) {
    return KQ_REAL(connect)(fd, address, length);
  }
  struct kq_connect connecting;
  kq_connect_begin(&connecting, fd, address.__sockaddr__, length);
  int result = kq_real.connect(fd, address, length);
  kq_connect_end(&connecting, result, result < 0 ? errno : 0);
  return result;
}

KQ_EXPORT int __connect(int fd, __CONST_SOCKADDR_ARG address, socklen_t length)
    __attribute__((alias("connect")));

KQ_EXPORT int listen(int fd, int backlog) {
  int result = KQ_REAL(listen)(fd, backlog);
  if (result == 0) {
    kq_listen_hook(fd, backlog);
  }
  return result;
}

static int accept_any(int fd, __SOCKADDR_ARG address, socklen_t *length, int flags, bool four) {
  struct kq_accept accepting;
  kq_accept_begin(&accepting, fd, address.__sockaddr__, length);
  struct sockaddr_storage storage;
  socklen_t room = sizeof storage;
  __SOCKADDR_ARG peer = address;
  socklen_t *peer_length = length;
  if (accepting.own) {
    peer.__sockaddr__ = (struct sockaddr *)&storage;
    peer_length = &room;
  }
  int result = four ? kq_real.accept4(fd, peer, peer_length, flags)
                    : kq_real.accept(fd, peer, peer_length);
  if (result >= 0) {
    kq_accept_end(&accepting, result, peer.__sockaddr__, peer_length);
  }
  return result;
}

KQ_EXPORT int accept(int fd, __SOCKADDR_ARG address, socklen_t *length) {
  if (kq_fd_limit == 0) {
    return KQ_REAL(accept)(fd, address, length);
  }
  return accept_any(fd, address, length, 0, false);
}

KQ_EXPORT int accept4(int fd, __SOCKADDR_ARG address, socklen_t *length, int flags) {
  if (kq_fd_limit == 0) {
    return KQ_REAL(accept4)(fd, address, length, flags);
  }
  return accept_any(fd, address, length, flags, true);
}
