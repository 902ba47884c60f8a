/*
 * System calls made directly: they neither pass through the hooks (a call by name would reach our own
 * `close`), nor touch the program's errno, nor act as cancellation points. Results are the kernel's: a
 * value, or -errno.
 */
#ifndef KQ_RAW_H
#define KQ_RAW_H

#include <stdint.h>
#include <sys/syscall.h>

#if defined(__x86_64__)
static inline long kq_sys6(long number, long a, long b, long c, long d, long e, long f) {
  long result;
  register long r10 __asm__("r10") = d;
  register long r8 __asm__("r8") = e;
  register long r9 __asm__("r9") = f;
  __asm__ volatile("syscall"
                   : "=a"(result)
                   : "a"(number), "D"(a), "S"(b), "d"(c), "r"(r10), "r"(r8), "r"(r9)
                   : "rcx", "r11", "memory");
  return result;
}
#elif defined(__aarch64__)
static inline long kq_sys6(long number, long a, long b, long c, long d, long e, long f) {
  register long x8 __asm__("x8") = number;
  register long x0 __asm__("x0") = a;
  register long x1 __asm__("x1") = b;
  register long x2 __asm__("x2") = c;
  register long x3 __asm__("x3") = d;
  register long x4 __asm__("x4") = e;
  register long x5 __asm__("x5") = f;
  __asm__ volatile("svc #0"
                   : "+r"(x0)
                   : "r"(x8), "r"(x1), "r"(x2), "r"(x3), "r"(x4), "r"(x5)
                   : "memory");
  return x0;
}
#else
#error "kqtime supports x86-64 and arm64"
#endif

#define KQ_LIKELY(x) __builtin_expect(!!(x), 1)
#define KQ_UNLIKELY(x) __builtin_expect(!!(x), 0)
#define KQ_EXPORT __attribute__((visibility("default")))

/* Pointers and integers alike, missing arguments are 0. */
#define KQ_SYS_PICK(by, n, a, b, c, d, e, f, ...)                                              \
  by((long)(n), (long)(a), (long)(b), (long)(c), (long)(d), (long)(e), (long)(f))
#define KQ_SYS_RAW(...) KQ_SYS_PICK(kq_sys6, __VA_ARGS__, 0, 0, 0, 0, 0, 0, 0)

/* Numbers and values newer than the oldest headers that we build with. */
#ifndef SYS_close_range
#define SYS_close_range 436
#endif
#ifndef SYS_pidfd_getfd
#define SYS_pidfd_getfd 438
#endif
#ifndef MADV_POPULATE_WRITE
#define MADV_POPULATE_WRITE 23
#endif
#ifndef CLOSE_RANGE_CLOEXEC
#define CLOSE_RANGE_CLOEXEC (1U << 2)
#endif
#ifndef CLOSE_RANGE_UNSHARE
#define CLOSE_RANGE_UNSHARE (1U << 1)
#endif
#ifndef MFD_NOEXEC_SEAL
#define MFD_NOEXEC_SEAL 8U
#endif

#endif
