/*
 * What the flags of a receiving call mean for the stream (recv(2), tcp(7)):
 * MSG_PEEK takes nothing, MSG_ERRQUEUE reads another queue, MSG_OOB takes a byte that is not in
 * the stream, MSG_TRUNC on TCP takes the bytes and does not copy them (the buffer may be NULL).
 */
#ifndef KQ_RECEIVED_H
#define KQ_RECEIVED_H

#include "recorder.h"

static inline bool kq_recv_takes_nothing(int flags) {
  return (flags & (MSG_PEEK | MSG_ERRQUEUE)) != 0;
}

/* Ends a call that read the urgent byte. */
static inline void kq_end_urgent(struct kq_call *call, int64_t moved) {
  if (moved > 0 && call->direction != NULL) {
    kq_entry_flag(call->word, KQ_ENTRY_URGENT);
  }
  kq_end(call, 0);
}

/* A call that takes some bytes and waits for the rest: tells so before it can be met that way again. */
static inline void kq_mark_waiting(const struct kq_call *call) {
  if (call->direction != NULL) {
    kq_entry_flag(call->word, KQ_ENTRY_WAITS);
  }
}

static inline void kq_end_received(struct kq_call *call, int64_t moved, int flags) {
  if (KQ_UNLIKELY(flags & MSG_WAITALL)) {
    kq_mark_waiting(call);
  }
  if (KQ_UNLIKELY(flags & MSG_OOB)) {
    kq_end_urgent(call, moved);
  } else {
    kq_end(call, moved);
  }
}

#endif
