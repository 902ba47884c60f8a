/* Looks up the functions behind the hooks, see real.h. */
#define _GNU_SOURCE
#include "real.h"

#include <dlfcn.h>
#include <gnu/libc-version.h>
#include <string.h>

struct kq_real kq_real;
__typeof__(kq_real.syscall) kq_syscall_real;
bool kq_real_wrapped;

void kq_real_resolve(void) {
#define KQ_REAL_RESOLVE(name, type)                                                            \
  if (kq_real.name == NULL) {                                                                  \
    kq_real.name = (__typeof__((type)0))(uintptr_t)dlsym(RTLD_NEXT, #name);                    \
  }
  KQ_REAL_MOVING(KQ_REAL_RESOLVE)
  KQ_REAL_REQUIRED(KQ_REAL_RESOLVE)
  kq_syscall_real = kq_real.syscall;
  KQ_REAL_OPTIONAL(KQ_REAL_RESOLVE)
#undef KQ_REAL_RESOLVE
}

static bool of_libc(uintptr_t function, const void *libc) {
  Dl_info info;
  if (dladdr((const void *)function, &info) == 0) {
    return false;
  }
  /* Before glibc 2.34 libpthread has definitions of its own. */
  const char *name = info.dli_fname != NULL ? strrchr(info.dli_fname, '/') : NULL;
  return info.dli_fbase == libc || (name != NULL && strncmp(name, "/libpthread", 11) == 0);
}

void kq_real_find_wrappers(void) {
  Dl_info libc;
  if (dladdr((const void *)(uintptr_t)gnu_get_libc_version, &libc) == 0) {
    kq_real_wrapped = true;
    return;
  }
#define KQ_REAL_JUDGE(name, type)                                                              \
  kq_real_wrapped |= !of_libc((uintptr_t)kq_real.name, libc.dli_fbase);
  KQ_REAL_MOVING(KQ_REAL_JUDGE)
#undef KQ_REAL_JUDGE
}
