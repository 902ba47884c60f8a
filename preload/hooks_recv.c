/*
 * read(2), readv(2), preadv2(2), recv(2), recvfrom(2) and their fortified forms: calls by which
 * bytes arrive.
 */
#define _GNU_SOURCE
#include "received.h"

#include "real.h"
#include "recorder.h"

KQ_EXPORT ssize_t read(int fd, void *buffer, size_t length) {
  uint64_t word = kq_fd_look(fd);
  if (kq_fd_ignored(word)) {
    return KQ_REAL(read)(fd, buffer, length);
  }
  KQ_CALL(call);
  kq_begin(&call, fd, word, KQ_KIND_IN, length);
  ssize_t result = kq_real.read(fd, buffer, length);
  kq_end(&call, result);
  return result;
}

KQ_EXPORT ssize_t __read(int fd, void *buffer, size_t length) __attribute__((alias("read")));

KQ_EXPORT ssize_t __read_chk(int fd, void *buffer, size_t length, size_t room) {
  uint64_t word = kq_fd_look(fd);
  if (kq_fd_ignored(word)) {
    return KQ_REAL(__read_chk)(fd, buffer, length, room);
  }
  KQ_CALL(call);
  kq_begin(&call, fd, word, KQ_KIND_IN, length);
  ssize_t result = kq_real.__read_chk(fd, buffer, length, room);
  kq_end(&call, result);
  return result;
}

KQ_EXPORT ssize_t readv(int fd, const struct iovec *parts, int count) {
  uint64_t word = kq_fd_look(fd);
  if (kq_fd_ignored(word)) {
    return KQ_REAL(readv)(fd, parts, count);
  }
  KQ_CALL(call);
  kq_begin(&call, fd, word, KQ_KIND_IN, 0);
  ssize_t result = kq_real.readv(fd, parts, count);
  kq_end(&call, result);
  return result;
}

KQ_EXPORT ssize_t preadv2(int fd, const struct iovec *parts, int count, off_t offset,
                          int flags) {
  uint64_t word = kq_fd_look(fd);
  if (kq_fd_ignored(word)) {
    return KQ_REAL(preadv2)(fd, parts, count, offset, flags);
  }
  KQ_CALL(call);
  kq_begin(&call, fd, word, KQ_KIND_IN, 0);
  ssize_t result = kq_real.preadv2(fd, parts, count, offset, flags);
  kq_end(&call, result);
  return result;
}

KQ_EXPORT ssize_t preadv64v2(int fd, const struct iovec *parts, int count, off64_t offset,
                             int flags) __attribute__((alias("preadv2")));

KQ_EXPORT ssize_t recv(int fd, void *buffer, size_t length, int flags) {
  uint64_t word = kq_fd_look(fd);
  if (kq_fd_ignored(word) || KQ_UNLIKELY(kq_recv_takes_nothing(flags))) {
    return KQ_REAL(recv)(fd, buffer, length, flags);
  }
  KQ_CALL(call);
  kq_begin(&call, fd, word, KQ_KIND_IN, length);
  ssize_t result = kq_real.recv(fd, buffer, length, flags);
  kq_end_received(&call, result, flags);
  return result;
}

KQ_EXPORT ssize_t __recv_chk(int fd, void *buffer, size_t length, size_t room, int flags) {
  uint64_t word = kq_fd_look(fd);
  if (kq_fd_ignored(word) || KQ_UNLIKELY(kq_recv_takes_nothing(flags))) {
    return KQ_REAL(__recv_chk)(fd, buffer, length, room, flags);
  }
  KQ_CALL(call);
  kq_begin(&call, fd, word, KQ_KIND_IN, length);
  ssize_t result = kq_real.__recv_chk(fd, buffer, length, room, flags);
  kq_end_received(&call, result, flags);
  return result;
}

KQ_EXPORT ssize_t recvfrom(int fd, void *buffer, size_t length, int flags,
                           __SOCKADDR_ARG address, socklen_t *address_length) {
  uint64_t word = kq_fd_look(fd);
  if (kq_fd_ignored(word) || KQ_UNLIKELY(kq_recv_takes_nothing(flags))) {
    return KQ_REAL(recvfrom)(fd, buffer, length, flags, address, address_length);
  }
  KQ_CALL(call);
  kq_begin(&call, fd, word, KQ_KIND_IN, length);
  ssize_t result = kq_real.recvfrom(fd, buffer, length, flags, address, address_length);
  kq_end_received(&call, result, flags);
  return result;
}

KQ_EXPORT ssize_t __recvfrom_chk(int fd, void *buffer, size_t length, size_t room, int flags,
                                 __SOCKADDR_ARG address, socklen_t *address_length) {
  uint64_t word = kq_fd_look(fd);
  if (kq_fd_ignored(word) || KQ_UNLIKELY(kq_recv_takes_nothing(flags))) {
    return KQ_REAL(__recvfrom_chk)(fd, buffer, length, room, flags, address, address_length);
  }
  KQ_CALL(call);
  kq_begin(&call, fd, word, KQ_KIND_IN, length);
  ssize_t result =
      kq_real.__recvfrom_chk(fd, buffer, length, room, flags, address, address_length);
  kq_end_received(&call, result, flags);
  return result;
}
