/*
 * longjmp(3) and its like, for the calls that a signal handler leaves by them and that never end.
 */
#define _GNU_SOURCE
#include "real.h"
#include "recorder.h"

extern void __longjmp_chk(struct __jmp_buf_tag to[1], int value) __attribute__((noreturn));

#define JUMP(name)                                                                             \
  KQ_EXPORT void name(struct __jmp_buf_tag to[1], int value) {                                  \
    kq_jumped();                                                                               \
    KQ_REAL(name)(to, value);                                                                  \
    __builtin_unreachable();                                                                   \
  }

JUMP(longjmp)
JUMP(_longjmp)
JUMP(siglongjmp)
JUMP(__longjmp_chk)
