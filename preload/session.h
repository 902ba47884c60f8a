/*
 * The connection of this process to a collector: where its memory is, which process it is, and
 * what a fork, a vfork or a sandbox changes about that.
 */
#ifndef KQ_SESSION_H
#define KQ_SESSION_H

#include <stdbool.h>
#include <stdint.h>

#include "../c/kqtime_shm.h"
#include "sys.h"

/* A mapped ring, as this process sees it. */
struct kq_ring {
  struct kq_header *header;
  struct kq_slot *slots;
  uint32_t mask;  /* slot_count - 1 */
  uint32_t ready; /* slots whose memory is there; grows during the first lap */
  /* The collector's tail and heartbeat when it was last waited for in vain: until one of them
     moves it is not waited for again. */
  uint64_t silent;
};
#define KQ_RING_HEARD UINT64_MAX /* never waited for in vain */

/* A page that reads as zero in the child of every kind of fork (MADV_WIPEONFORK), and is shared
   with a vfork child like all other memory. */
struct kq_identity {
  uint32_t pid;   /* of the process that owns this memory; 0 = forked, not yet asked */
  uint32_t state; /* kq_ring_state */
  uint64_t one;   /* what kq_direction.calls is raised by for a call; 0 = forked, not yet asked */
};
enum kq_ring_state {
  KQ_RING_INHERITED = 0, /* forked, and nothing recorded since */
  KQ_RING_READY = 1,     /* kq_ring is this process's, or the only one that it can get */
  KQ_RING_MAKING = 2     /* a thread is making one; the others go on in the inherited one */
};

/* There before anything is measured, and from then on; what they point to stays mapped, because
   a call that began in a session may end after it (see lifetime.c). */
extern struct kq_ring *kq_ring;             /* where this process records */
extern struct kq_header *kq_table_header;   /* the ring that holds the socket table */
extern struct kq_entry *kq_table_entries;
extern struct kq_identity *kq_identity;
void kq_count_loss(enum kq_loss reason);

/* The pid for a record. */
uint32_t kq_session_pid_asked(void);
static inline uint32_t kq_session_pid(void) {
  /* Relaxed: the number itself is all that it tells. */
  uint32_t pid = __atomic_load_n(&kq_identity->pid, __ATOMIC_RELAXED);
  return KQ_LIKELY(pid != 0) ? pid : kq_session_pid_asked();
}

/* A call of this process, as kq_direction.calls counts it: one, and the pid if the maker of the socket
   table knows it by the same number. */
uint64_t kq_session_one_asked(void);
static inline uint64_t kq_session_one(void) {
  uint64_t one = __atomic_load_n(&kq_identity->one, __ATOMIC_RELAXED);
  return KQ_LIKELY(one != 0) ? one : kq_session_one_asked();
}

/* Is this a vfork child, running on its parent's memory? Such a process must not change what
   the library knows about descriptors: its own are a copy, the memory is not. */
bool kq_session_foreign(void);

/* The same question while there may be no session: a yes also for what nobody told us of. */
bool kq_session_stranger(void);

/* Gives a forked child a ring of its own, if it can. */
void kq_session_after_fork(void);

/* Gets all memory that will ever be needed: a sandbox is about to forbid that. */
void kq_session_reserve_all(void);

/* Makes memory of a ring present, up to this slot at least; false if there is none left. */
bool kq_session_extend(struct kq_ring *ring, uint32_t position);

/* Makes memory of a shared mapping present; false if there is none left. */
bool kq_session_reserve(void *start, uint64_t bytes);

#endif
