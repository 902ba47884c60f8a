/* Looks up the functions behind the hooks, see real.h. */
#define _GNU_SOURCE
#include "real.h"

#include <dlfcn.h>

struct kq_real kq_real;
__typeof__(kq_real.syscall) kq_syscall_real;

void kq_real_resolve(void) {
#define KQ_REAL_RESOLVE(name, type)                                                            \
  if (kq_real.name == NULL) {                                                                  \
    kq_real.name = (__typeof__((type)0))(uintptr_t)dlsym(RTLD_NEXT, #name);                    \
  }
  KQ_REAL_REQUIRED(KQ_REAL_RESOLVE)
  kq_syscall_real = kq_real.syscall;
  KQ_REAL_OPTIONAL(KQ_REAL_RESOLVE)
#undef KQ_REAL_RESOLVE
}
