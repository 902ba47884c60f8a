/* The gate for the library's own system calls, and when it closes, see sandbox.h. */
#define _GNU_SOURCE
#include "sandbox.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/audit.h>
#include <sys/prctl.h>

#include "session.h"
#include "socket.h"
#include "table.h"

#if defined(__aarch64__)
#define ARCHITECTURE AUDIT_ARCH_AARCH64
#else
#define ARCHITECTURE AUDIT_ARCH_X86_64
#endif

uint32_t kq_sandboxed;

/* This thread may read, write and exit, and nothing else. It can start no other. */
static __thread bool strict;

bool kq_sandbox_refuses(long number, long a, long b, long c, long d, long e, long f) {
  if (strict) {
    return true;
  }
  struct seccomp_data call = {
      .nr = (int)number,
      .arch = ARCHITECTURE,
      .args = {(uint64_t)a, (uint64_t)b, (uint64_t)c, (uint64_t)d, (uint64_t)e, (uint64_t)f}};
  return !kq_filters_allow(&call);
}

long kq_sandbox_call(long number, long a, long b, long c, long d, long e, long f) {
  return kq_sandbox_refuses(number, a, b, c, d, e, f) ? -EPERM
                                                      : kq_sys6(number, a, b, c, d, e, f);
}

/* What is asked or made for a vfork child before it ends or executes: see kq_session_foreign,
   kq_socket_readable and kq_session_reserve. */
static bool refuses_stranger(void) {
  return KQ_REFUSED(SYS_getpid) || KQ_REFUSED(SYS_getppid) || KQ_REFUSED(SYS_fcntl, 0, F_GETFD) ||
         KQ_REFUSED(SYS_close_range, ~0U, ~0U, 0) ||
         KQ_REFUSED(SYS_rt_sigprocmask, ~0UL, 0, NULL, 8) ||
         KQ_REFUSED(SYS_madvise, 0, 0, MADV_POPULATE_WRITE);
}

/* Everything that will have to be asked or made is now. */
static void prepare(void) {
  if (kq_fd_limit != 0) {
    kq_session_reserve_all();
    kq_socket_settle_all();
  }
}

/* From here on, and not only when the filter is there: it may close around all threads at once. */
static void close_gate(void) { __atomic_fetch_add(&kq_sandboxed, 1, __ATOMIC_ACQ_REL); }
static void open_gate(void) { __atomic_fetch_sub(&kq_sandboxed, 1, __ATOMIC_ACQ_REL); }

static void begin_strict(struct kq_sandbox *change) {
  prepare();
  change->kind = KQ_SANDBOX_STRICT;
  /* It takes the counter of cycles away too. */
  change->before = kq_clock_close();
  strict = true;
  close_gate();
}

static void begin_filter(struct kq_sandbox *change, const struct sock_fprog *program) {
  change->filter = kq_filter_copy(program);
  if (change->filter == NULL) {
    return;
  }
  bool stranger = kq_session_stranger();
  if (!stranger) {
    prepare();
  }
  kq_filter_hold(change->filter);
  close_gate();
  if (stranger && !refuses_stranger()) {
    /* The parent, whose memory this is, will not have it. */
    kq_filter_let_go(change->filter);
    open_gate();
    return;
  }
  change->kind = KQ_SANDBOX_FILTER;
}

void kq_sandbox_prctl(struct kq_sandbox *change, int option, unsigned long a, unsigned long b) {
  change->kind = KQ_SANDBOX_NONE;
  if (option == PR_SET_TSC) {
    if (kq_session_stranger()) {
      /* It takes this with it when it executes; the thread whose memory it borrows keeps its clock. */
    } else if (a == PR_TSC_SIGSEGV) {
      change->kind = KQ_SANDBOX_CLOCK;
      change->before = kq_clock_close();
    } else if (a == PR_TSC_ENABLE) {
      change->kind = KQ_SANDBOX_CLOCK_BACK;
    }
  } else if (option == PR_SET_SECCOMP) {
    if (a == SECCOMP_MODE_STRICT) {
      begin_strict(change);
    } else if (a == SECCOMP_MODE_FILTER && b != 0) {
      begin_filter(change, (const struct sock_fprog *)b);
    }
  }
}

void kq_sandbox_seccomp(struct kq_sandbox *change, unsigned long operation, unsigned long flags,
                        unsigned long argument) {
  change->kind = KQ_SANDBOX_NONE;
  /* libseccomp asks by a flag whether there is a seccomp(2): no strict mode has one. */
  if (operation == SECCOMP_SET_MODE_STRICT && flags == 0 && argument == 0) {
    begin_strict(change);
  } else if (operation == SECCOMP_SET_MODE_FILTER && argument != 0) {
    begin_filter(change, (const struct sock_fprog *)argument);
  }
}

void kq_sandbox_end(const struct kq_sandbox *change, bool done) {
  switch (change->kind) {
    case KQ_SANDBOX_CLOCK:
      if (!done) {
        kq_clock_restore(change->before);
      }
      break;
    case KQ_SANDBOX_CLOCK_BACK:
      if (done) {
        kq_clock_open();
      }
      break;
    case KQ_SANDBOX_STRICT:
      if (!done) {
        strict = false;
        kq_clock_restore(change->before);
        open_gate();
      }
      break;
    case KQ_SANDBOX_FILTER:
      if (!done) {
        kq_filter_let_go(change->filter);
        open_gate();
      }
      break;
    default:
      break;
  }
}
