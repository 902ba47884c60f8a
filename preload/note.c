/* Records that are not about bytes, see note.h. */
#define _GNU_SOURCE
#include "note.h"

#include <stddef.h>
#include <string.h>

#include "claim.h"
#include "clock.h"
#include "session.h"
#include "table.h"

/* Between two looks at a ring that is full. */
#define PUT_PAUSE_NS 1000000L

/* Puts the record into its slot. */
static inline void fill(struct kq_slot *slot, uint32_t index, const struct kq_slot *record) {
  slot->kind = record->kind;
  slot->flags = record->flags;
  memcpy(&slot->entry, &record->entry, KQ_SLOT_BYTES - offsetof(struct kq_slot, entry));
  commit(slot, index);
}

/* How far the collector has come, and a sign of life. */
static uint64_t look_at_collector(const struct kq_header *header) {
  return (uint64_t)__atomic_load_n(&header->heartbeat, __ATOMIC_RELAXED) << 32 |
         __atomic_load_n(&header->tail, __ATOMIC_RELAXED);
}

bool kq_put(struct kq_slot *record, uint64_t patience_ns) {
  uint64_t since_ns = 0;
  uint64_t first = 0;
  record->time_ns = kq_now_ns();
  record->pid = kq_session_pid();
  if (__atomic_load_n(&kq_identity->state, __ATOMIC_ACQUIRE) == KQ_RING_INHERITED) {
    kq_session_after_fork();
  }
  for (;;) {
    struct kq_ring *ring = __atomic_load_n(&kq_ring, __ATOMIC_ACQUIRE);
    uint32_t index;
    enum kq_loss why = KQ_LOSS_RING_FULL;
    struct kq_slot *slot = claim(ring, &index, &why);
    if (slot != NULL) {
      fill(slot, index, record);
      return true;
    }
    uint64_t now = look_at_collector(ring->header);
    if (since_ns == 0) {
      since_ns = kq_monotonic_ns();
      first = now;
    }
    bool over = kq_monotonic_ns() - since_ns >= patience_ns;
    if (over && patience_ns != 0 && now == first) {
      __atomic_store_n(&ring->silent, now, __ATOMIC_RELAXED);
    }
    if (over || why != KQ_LOSS_RING_FULL ||
        now == __atomic_load_n(&ring->silent, __ATOMIC_RELAXED)) {
      __atomic_fetch_add(&ring->header->losses[why], 1, __ATOMIC_RELAXED);
      return false;
    }
    /* Where a sandbox forbids it this spins. */
    struct timespec pause = {0, PUT_PAUSE_NS};
    KQ_SYS(SYS_nanosleep, &pause, NULL);
  }
}

void kq_note(enum kq_kind kind, uint8_t flags, uint64_t word, int fd, uint64_t off,
             uint32_t bytes, bool passive) {
  struct kq_slot record = {.kind = (uint8_t)kind,
                           .flags = flags,
                           .entry = kq_fd_entry(word),
                           .gen = kq_fd_generation(word),
                           .time_ns = kq_now_ns(),
                           .off = off,
                           .bytes = bytes,
                           .fd = fd,
                           .pid = kq_session_pid()};
  uint32_t index;
  struct kq_slot *slot = claim_own(&index, passive);
  if (KQ_LIKELY(slot != NULL)) {
    fill(slot, index, &record);
  }
}
