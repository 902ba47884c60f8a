/*
 * Slots of a ring: claimed, filled and committed. In line, for these are most of what a record costs.
 *
 * A slot that is claimed and not committed holds up all behind it. The collector gives such a slot up
 * after a while (kq_slot.retired): whoever claimed it may be gone, by a jump out of a signal handler.
 */
#ifndef KQ_CLAIM_H
#define KQ_CLAIM_H

#include <stddef.h>

#include "session.h"

/* Claims a slot; NULL if there is none, and `why` says for which reason. */
static inline __attribute__((always_inline)) struct kq_slot *claim(struct kq_ring *ring,
                                                                   uint32_t *index,
                                                                   enum kq_loss *why) {
  struct kq_header *header = ring->header;
  uint32_t head = __atomic_load_n(&header->head, __ATOMIC_RELAXED);
  for (;;) {
    /* Acquire pairs with the collector's release of the tail: it has read what we overwrite. */
    uint32_t used = head - __atomic_load_n(&header->tail, __ATOMIC_ACQUIRE);
    if (KQ_UNLIKELY(used > ring->mask)) {
      uint32_t newer = __atomic_load_n(&header->head, __ATOMIC_RELAXED);
      if (newer == head) {
        *why = KQ_LOSS_RING_FULL;
        return NULL;
      }
      head = newer;
      continue;
    }
    if (KQ_UNLIKELY((head & ring->mask) >= __atomic_load_n(&ring->ready, __ATOMIC_RELAXED)) &&
        !kq_session_extend(ring, head & ring->mask)) {
      *why = KQ_LOSS_NO_MEMORY;
      return NULL;
    }
    /* Relaxed: the slot's contents are published by its commit word. */
    if (__atomic_compare_exchange_n(&header->head, &head, head + 1, true, __ATOMIC_RELAXED,
                                    __ATOMIC_RELAXED)) {
      struct kq_slot *slot = &ring->slots[head & ring->mask];
      if (KQ_UNLIKELY(__atomic_load_n(&header->retired, __ATOMIC_RELAXED) != 0) &&
          __atomic_load_n(&slot->retired, __ATOMIC_RELAXED) != 0) {
        head++;
        continue;
      }
      *index = head;
      return slot;
    }
  }
}

/* Release pairs with the collector's acquire of the commit word. */
static inline void commit(struct kq_slot *slot, uint32_t index) {
  __atomic_store_n(&slot->commit, index + 1, __ATOMIC_RELEASE);
}

/* Claims a slot of this process's ring; NULL if there is none, and that is counted. */
static inline __attribute__((always_inline)) struct kq_slot *claim_own(uint32_t *index,
                                                                       bool passive) {
  uint32_t state = __atomic_load_n(&kq_identity->state, __ATOMIC_ACQUIRE);
  if (KQ_UNLIKELY(state == KQ_RING_INHERITED) && !passive) {
    kq_session_after_fork();
  }
  struct kq_ring *ring = __atomic_load_n(&kq_ring, __ATOMIC_ACQUIRE);
  enum kq_loss why = KQ_LOSS_RING_FULL;
  struct kq_slot *slot = claim(ring, index, &why);
  if (KQ_UNLIKELY(slot == NULL)) {
    __atomic_fetch_add(&ring->header->losses[why], 1, __ATOMIC_RELAXED);
  }
  return slot;
}

#endif
