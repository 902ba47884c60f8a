/*
 * setsockopt(2) and getsockopt(2), for the options that change what the stream is, and prctl(2)
 * for the moment before a sandbox closes around the process.
 */
#define _GNU_SOURCE
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdarg.h>

#include "option.h"
#include "real.h"
#include "sandbox.h"

KQ_EXPORT int setsockopt(int fd, int level, int option, const void *value, socklen_t length) {
  int result = KQ_REAL(setsockopt)(fd, level, option, value, length);
  if (KQ_UNLIKELY(kq_option_is_ulp(level, option)) && result == 0) {
    kq_option_ulp_set(fd);
  } else if (KQ_UNLIKELY(option == SO_RCVLOWAT && level == SOL_SOCKET)) {
    kq_option_low_water_set(fd);
  }
  return result;
}

KQ_EXPORT int getsockopt(int fd, int level, int option, void *value, socklen_t *length) {
  if (KQ_LIKELY(!kq_option_is_zerocopy(level, option)) || kq_fd_ignored(kq_fd_look(fd))) {
    return KQ_REAL(getsockopt)(fd, level, option, value, length);
  }
  KQ_CALL(call);
  kq_begin(&call, fd, kq_fd_look(fd), KQ_KIND_IN, 0);
  int result = kq_real.getsockopt(fd, level, option, value, length);
  kq_end(&call, result == 0 ? kq_option_zerocopy_bytes(value, *length) : 0);
  return result;
}

KQ_EXPORT int prctl(int option, ...) {
  va_list arguments;
  va_start(arguments, option);
  unsigned long a = va_arg(arguments, unsigned long);
  unsigned long b = va_arg(arguments, unsigned long);
  unsigned long c = va_arg(arguments, unsigned long);
  unsigned long d = va_arg(arguments, unsigned long);
  va_end(arguments);
  if (KQ_LIKELY(option != PR_SET_SECCOMP && option != PR_SET_TSC)) {
    return KQ_REAL(prctl)(option, a, b, c, d);
  }
  struct kq_sandbox change;
  kq_sandbox_prctl(&change, option, a, b);
  int result = KQ_REAL(prctl)(option, a, b, c, d);
  kq_sandbox_end(&change, result == 0);
  return result;
}
