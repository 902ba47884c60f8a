/* Where the clock is, and whether it may be read, see clock.h. */
#define _GNU_SOURCE
#include "clock.h"

#include <dlfcn.h>
#include <errno.h>
#include <sys/prctl.h>

#if defined(__aarch64__)
#define NAME "__kernel_clock_gettime"
#else
#define NAME "__vdso_clock_gettime"
#endif

/* Not libc's function, which sets the program's errno and asks no sandbox. */
static int ask_kernel(clockid_t clock, struct timespec *now) {
  return KQ_SYS(SYS_clock_gettime, clock, now) == 0 ? 0 : -1;
}

int (*kq_clock)(clockid_t, struct timespec *) = ask_kernel;

/* The clock itself, when kq_clock is the one that asks first. */
static int (*found)(clockid_t, struct timespec *) = ask_kernel;

static __thread enum kq_clock_state of_thread;
/* Not 0: a thread may not read it, or is trying to lose that. */
static uint32_t closed;

static enum kq_clock_state ask(void) {
  int mode = 0;
  long result = KQ_SYS(SYS_prctl, PR_GET_TSC, &mode);
  if (result == 0) {
    return mode == PR_TSC_SIGSEGV ? KQ_CLOCK_OFF : KQ_CLOCK_ON;
  }
  /* Not known to this kernel, or not to be asked. */
  return result == -EINVAL ? KQ_CLOCK_ON : KQ_CLOCK_OFF;
}

/* From when a thread first tried to lose it: zeros for one that has. */
static int read_if_allowed(clockid_t clock, struct timespec *now) {
  if ((clock == CLOCK_REALTIME || clock == CLOCK_MONOTONIC) &&
      __atomic_load_n(&closed, __ATOMIC_RELAXED) != 0) {
    if (of_thread == KQ_CLOCK_UNASKED) {
      of_thread = ask();
    }
    if (of_thread == KQ_CLOCK_OFF) {
      *now = (struct timespec){0, 0};
      return 0;
    }
  }
  return found(clock, now);
}

enum kq_clock_state kq_clock_close(void) {
  enum kq_clock_state before = of_thread;
  of_thread = KQ_CLOCK_OFF;
  __atomic_fetch_add(&closed, 1, __ATOMIC_SEQ_CST);
  __atomic_store_n(&kq_clock, read_if_allowed, __ATOMIC_SEQ_CST);
  return before;
}

void kq_clock_restore(enum kq_clock_state before) {
  of_thread = before;
  __atomic_fetch_sub(&closed, 1, __ATOMIC_SEQ_CST);
}

void kq_clock_open(void) { of_thread = KQ_CLOCK_ON; }

void kq_clock_find(void) {
  void *page = dlopen("linux-vdso.so.1", RTLD_LAZY | RTLD_NOLOAD);
  void *symbol = page != NULL ? dlsym(page, NAME) : NULL;
  if (symbol != NULL) {
    found = (__typeof__(found))(uintptr_t)symbol;
  }
  /* The program before this one may have given it up. */
  if (closed == 0 && ask() == KQ_CLOCK_OFF) {
    kq_clock_close();
  }
  if (closed == 0) {
    kq_clock = found;
  }
}
