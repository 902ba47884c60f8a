/*
 * Fixture: a library behind the measured one, by which a Unix socket's peer has no name, as that of
 * a vsock or SMC socket has none once it has gone: who asks for it gets no socket.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

int accept4(int fd, __SOCKADDR_ARG address, socklen_t *length, int flags) {
  int domain;
  socklen_t bytes = sizeof domain;
  if (address.__sockaddr__ != NULL &&
      getsockopt(fd, SOL_SOCKET, SO_DOMAIN, &domain, &bytes) == 0 && domain == AF_UNIX) {
    errno = ECONNABORTED;
    return -1;
  }
  return (int)syscall(SYS_accept4, fd, address.__sockaddr__, length, flags);
}

int accept(int fd, __SOCKADDR_ARG address, socklen_t *length) {
  return accept4(fd, address, length, 0);
}
