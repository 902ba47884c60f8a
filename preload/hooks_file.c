/*
 * sendfile(2) and splice(2): bytes that the program never holds.
 */
#define _GNU_SOURCE
#include "real.h"
#include "recorder.h"

/* It takes from a socket as well, where `to` is a pipe: then it does what splice(2) does. */
KQ_EXPORT ssize_t sendfile(int to, int from, off_t *offset, size_t length) {
  uint64_t target = kq_fd_look(to);
  uint64_t source = kq_fd_look(from);
  if (kq_fd_ignored(target) && kq_fd_ignored(source)) {
    return KQ_REAL(sendfile)(to, from, offset, length);
  }
  KQ_CALL(call);
  call.direction = NULL;
  if (!kq_fd_ignored(target)) {
    kq_begin(&call, to, target, KQ_KIND_OUT, length);
  }
  if (call.direction == NULL && !kq_fd_ignored(source)) {
    kq_begin(&call, from, source, KQ_KIND_IN, length);
  }
  ssize_t result = kq_real.sendfile(to, from, offset, length);
  kq_end(&call, result);
  return result;
}

KQ_EXPORT ssize_t sendfile64(int to, int from, off64_t *offset, size_t length)
    __attribute__((alias("sendfile")));

/* One end is a pipe, so at most one of them is a socket. */
KQ_EXPORT ssize_t splice(int from, __off64_t *from_offset, int to, __off64_t *to_offset,
                         size_t length, unsigned int flags) {
  uint64_t source = kq_fd_look(from);
  uint64_t target = kq_fd_look(to);
  if (kq_fd_ignored(source) && kq_fd_ignored(target)) {
    return KQ_REAL(splice)(from, from_offset, to, to_offset, length, flags);
  }
  KQ_CALL(in);
  KQ_CALL(out);
  in.direction = NULL;
  out.direction = NULL;
  if (!kq_fd_ignored(source)) {
    kq_begin(&in, from, source, KQ_KIND_IN, length);
  }
  if (in.direction == NULL && !kq_fd_ignored(target)) {
    kq_begin(&out, to, target, KQ_KIND_OUT, length);
  }
  ssize_t result = kq_real.splice(from, from_offset, to, to_offset, length, flags);
  kq_end(&in, result);
  kq_end(&out, result);
  return result;
}
