/*
 * Sandboxes that the program closes around itself: seccomp(2), and PR_SET_TSC of prctl(2).
 *
 * A filter is made for the calls of the program, and may kill for any other. The library's own go
 * through kq_sandbox_call, which makes none that a filter does not allow, and none at all in strict
 * mode; whoever asked does without. So nothing here depends on a list of what the library calls.
 *
 * Not followed: filters that were there before the library (inherited over exec, or a tracer's), and
 * those of a raw system call. In the instant in which another thread's filter closes around this
 * one (SECCOMP_FILTER_FLAG_TSYNC), a call that was allowed a moment ago may still be on its way.
 */
#ifndef KQ_SANDBOX_H
#define KQ_SANDBOX_H

#include <stdbool.h>

#include "clock.h"
#include "filter.h"
#include "sys.h"

/* A change that the program is about to make. */
struct kq_sandbox {
  enum {
    KQ_SANDBOX_NONE,
    KQ_SANDBOX_STRICT, /* of this thread */
    KQ_SANDBOX_FILTER,
    KQ_SANDBOX_CLOCK,  /* of this thread, which loses it */
    KQ_SANDBOX_CLOCK_BACK
  } kind;
  struct kq_filter *filter;
  enum kq_clock_state before;
};

/* What prctl(option, a, b) and seccomp(operation, flags, argument) will change if they succeed. */
void kq_sandbox_prctl(struct kq_sandbox *change, int option, unsigned long a, unsigned long b);
void kq_sandbox_seccomp(struct kq_sandbox *change, unsigned long operation, unsigned long flags,
                        unsigned long argument);
/* Whether it is so now: many only ask whether it could be. */
void kq_sandbox_end(const struct kq_sandbox *change, bool done);

/* Would a call of ours with these arguments be refused? */
bool kq_sandbox_refuses(long number, long a, long b, long c, long d, long e, long f);
#define KQ_REFUSED(...)                                                                        \
  (KQ_UNLIKELY(kq_sandboxed != 0) &&                                                           \
   KQ_SYS_PICK(kq_sandbox_refuses, __VA_ARGS__, 0, 0, 0, 0, 0, 0, 0))

#endif
