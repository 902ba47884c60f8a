/*
 * write(2), writev(2), pwritev2(2), send(2), sendto(2): calls by which bytes leave.
 */
#define _GNU_SOURCE
#include <errno.h>

#include "real.h"
#include "recorder.h"
#include "socket.h"

KQ_EXPORT ssize_t write(int fd, const void *buffer, size_t length) {
  uint64_t word = kq_fd_look(fd);
  if (kq_fd_ignored(word)) {
    return KQ_REAL(write)(fd, buffer, length);
  }
  KQ_CALL(call);
  kq_begin(&call, fd, word, KQ_KIND_OUT, length);
  ssize_t result = kq_real.write(fd, buffer, length);
  kq_end(&call, result);
  return result;
}

KQ_EXPORT ssize_t __write(int fd, const void *buffer, size_t length)
    __attribute__((alias("write")));

KQ_EXPORT ssize_t writev(int fd, const struct iovec *parts, int count) {
  uint64_t word = kq_fd_look(fd);
  if (kq_fd_ignored(word)) {
    return KQ_REAL(writev)(fd, parts, count);
  }
  KQ_CALL(call);
  kq_begin(&call, fd, word, KQ_KIND_OUT, 0);
  ssize_t result = kq_real.writev(fd, parts, count);
  kq_end(&call, result);
  return result;
}

KQ_EXPORT ssize_t pwritev2(int fd, const struct iovec *parts, int count, off_t offset,
                           int flags) {
  uint64_t word = kq_fd_look(fd);
  if (kq_fd_ignored(word)) {
    return KQ_REAL(pwritev2)(fd, parts, count, offset, flags);
  }
  KQ_CALL(call);
  kq_begin(&call, fd, word, KQ_KIND_OUT, 0);
  ssize_t result = kq_real.pwritev2(fd, parts, count, offset, flags);
  kq_end(&call, result);
  return result;
}

KQ_EXPORT ssize_t pwritev64v2(int fd, const struct iovec *parts, int count, off64_t offset,
                              int flags) __attribute__((alias("pwritev2")));

KQ_EXPORT ssize_t send(int fd, const void *buffer, size_t length, int flags) {
  uint64_t word = kq_fd_look(fd);
  if (kq_fd_ignored(word)) {
    return KQ_REAL(send)(fd, buffer, length, flags);
  }
  KQ_CALL(call);
  kq_begin(&call, fd, word, KQ_KIND_OUT, length);
  ssize_t result = kq_real.send(fd, buffer, length, flags);
  kq_end(&call, result);
  return result;
}

KQ_EXPORT ssize_t __send(int fd, const void *buffer, size_t length, int flags)
    __attribute__((alias("send")));

static ssize_t sendto_fast(int fd, const void *buffer, size_t length, int flags,
                           __CONST_SOCKADDR_ARG address, socklen_t address_length) {
  struct kq_connect connect;
  kq_fastopen_begin(&connect, fd, address.__sockaddr__, address_length);
  KQ_CALL(call);
  kq_begin(&call, fd, kq_fd_look(fd), KQ_KIND_OUT, length);
  ssize_t result = kq_real.sendto(fd, buffer, length, flags, address, address_length);
  kq_connect_end(&connect, result, result < 0 ? errno : 0);
  kq_end(&call, result);
  return result;
}

KQ_EXPORT ssize_t sendto(int fd, const void *buffer, size_t length, int flags,
                         __CONST_SOCKADDR_ARG address, socklen_t address_length) {
  uint64_t word = kq_fd_look(fd);
  if (kq_fd_ignored(word)) {
    return KQ_REAL(sendto)(fd, buffer, length, flags, address, address_length);
  }
  if (KQ_UNLIKELY(flags & MSG_FASTOPEN) && address.__sockaddr__ != NULL) {
    return sendto_fast(fd, buffer, length, flags, address, address_length);
  }
  KQ_CALL(call);
  kq_begin(&call, fd, word, KQ_KIND_OUT, length);
  ssize_t result = kq_real.sendto(fd, buffer, length, flags, address, address_length);
  kq_end(&call, result);
  return result;
}
