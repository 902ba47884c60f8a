/*
 * System calls of the library's own. In a sandbox one that the program's filter does not expect is not
 * made (sandbox.h): -EPERM. A call that is the program's, and that its C library does not know, is
 * made by KQ_SYS_RAW, whatever its filter says.
 */
#ifndef KQ_SYS_H
#define KQ_SYS_H

#include "raw.h"

/* Not 0: a sandbox has closed around the process or one of its threads, or is about to. */
extern uint32_t kq_sandboxed;
/* As kq_sys6, if every sandbox that is there lets it through. */
long kq_sandbox_call(long number, long a, long b, long c, long d, long e, long f);

static inline long kq_sys_own(long number, long a, long b, long c, long d, long e, long f) {
  return KQ_LIKELY(__atomic_load_n(&kq_sandboxed, __ATOMIC_RELAXED) == 0)
             ? kq_sys6(number, a, b, c, d, e, f)
             : kq_sandbox_call(number, a, b, c, d, e, f);
}

#define KQ_SYS(...) KQ_SYS_PICK(kq_sys_own, __VA_ARGS__, 0, 0, 0, 0, 0, 0, 0)

#endif
