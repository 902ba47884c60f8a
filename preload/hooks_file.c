/*
 * sendfile(2) and splice(2): bytes that the program never holds.
 */
#define _GNU_SOURCE
#include "real.h"
#include "recorder.h"

KQ_EXPORT ssize_t sendfile(int to, int from, off_t *offset, size_t length) {
  KQ_CALL(call);
  kq_begin_between(&call, from, to, length);
  ssize_t result = KQ_REAL(sendfile)(to, from, offset, length);
  kq_end(&call, result);
  return result;
}

KQ_EXPORT ssize_t sendfile64(int to, int from, off64_t *offset, size_t length)
    __attribute__((alias("sendfile")));

KQ_EXPORT ssize_t splice(int from, __off64_t *from_offset, int to, __off64_t *to_offset,
                         size_t length, unsigned int flags) {
  KQ_CALL(call);
  kq_begin_between(&call, from, to, length);
  ssize_t result = KQ_REAL(splice)(from, from_offset, to, to_offset, length, flags);
  kq_end(&call, result);
  return result;
}
