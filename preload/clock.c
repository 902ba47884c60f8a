/* Where the clock is, see clock.h. */
#define _GNU_SOURCE
#include "clock.h"

#include <dlfcn.h>

#if defined(__aarch64__)
#define NAME "__kernel_clock_gettime"
#else
#define NAME "__vdso_clock_gettime"
#endif

int (*kq_clock)(clockid_t, struct timespec *) = clock_gettime;

void kq_clock_find(void) {
  void *page = dlopen("linux-vdso.so.1", RTLD_LAZY | RTLD_NOLOAD);
  void *found = page != NULL ? dlsym(page, NAME) : NULL;
  if (found != NULL) {
    kq_clock = (__typeof__(kq_clock))(uintptr_t)found;
  }
}
