/*
 * The one recorder under all hooks: a call that may move bytes is begun before the real call and
 * ended after it; the end claims the stream offset and writes the record.
 *
 * Whether a call was alone on its direction decides whether its offset is proven, so each begin
 * and end moves the `calls` word of the direction (see kqtime_shm.h). A call that never ends is
 * dealt with in three ways: a thread that is cancelled unwinds through KQ_CALL's cleanup; a thread
 * that jumps out (longjmp is hooked) undoes the call when it begins the same kind again on that
 * socket; and that of a forked twin which was killed in it is taken out by the next call of those
 * that live, once the collector has told that it is gone and no other is under way: the word then
 * tells whose it is. What such a call had moved then, the kernel is asked: it may have been left on
 * its way out. A slot that it had claimed the collector gives up (kq_slot.retired).
 *
 * A call inside another of its own direction overlaps with it like one of another thread. It is
 * a signal handler's, whose bytes may have left before or after the outer call's, or that of a
 * preloaded wrapper which implements one call by another. The wrapper's bytes count once, where
 * the kernel moved them: the outer call has no record if the calls inside it moved just as much.
 * libc's functions do not call each other by name, so without a wrapper that is never asked.
 */
#ifndef KQ_RECORDER_H
#define KQ_RECORDER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/socket.h>
#include <sys/uio.h>

#include "../c/kqtime_shm.h"
#include "clock.h"
#include "session.h"
#include "table.h"

/* A call that this thread is in. */
struct kq_frame {
  uint64_t key;   /* entry, generation and direction; 0: none */
  uint64_t inner; /* bytes moved by calls of the same key inside it */
};

struct kq_call {
  struct kq_direction *direction; /* NULL: this call is not measured */
  uint64_t calls;                 /* the word as this call left it at its begin */
  uint64_t one;                   /* what it is counted as there */
  uint64_t start_ns;
  uint64_t key;
  struct kq_frame outer; /* the call that this one is inside of on this thread */
  uint64_t word;
  uint32_t undone;       /* the thread's counter at the begin */
  int fd;
  uint8_t kind;    /* KQ_KIND_OUT or KQ_KIND_IN */
  bool overlapped; /* another call was active at the begin */
};

/* Ends the call without a record if it was left on a way without an end. */
void kq_call_abandon(struct kq_call *call);

static inline void kq_call_close(struct kq_call *call) {
  if (KQ_UNLIKELY(call->direction != NULL)) {
    kq_call_abandon(call);
  }
}

#define KQ_CALL(name) struct kq_call name __attribute__((cleanup(kq_call_close)))

/* The thread is about to leave stack frames without unwinding them, maybe those of a call. */
void kq_jumped(void);
/* In the child: the calls that its parent left are the parent's. */
void kq_recorder_forked(void);

/* `word` is what kq_fd_look(fd) gave, `asked` what the call asks for in bytes, 0 if unknown. */
void kq_begin(struct kq_call *call, int fd, uint64_t word, enum kq_kind kind, uint64_t asked);

/* Of bytes that go from one descriptor to another: one of them is a pipe or a file, so at most one is
   measured. */
static inline void kq_begin_between(struct kq_call *call, int from, int to, uint64_t asked) {
  uint64_t source = kq_fd_look(from);
  uint64_t target = kq_fd_look(to);
  call->direction = NULL;
  if (!kq_fd_ignored(source)) {
    kq_begin(call, from, source, KQ_KIND_IN, asked);
  }
  if (call->direction == NULL && !kq_fd_ignored(target)) {
    kq_begin(call, to, target, KQ_KIND_OUT, asked);
  }
}

/* `moved` is the number of bytes; none are recorded for 0 or less. The bytes themselves are left
   alone: by now another thread may have unmapped them, or somebody have cut the file behind them. */
void kq_end(struct kq_call *call, int64_t moved);

#endif
