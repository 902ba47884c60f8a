/* The descriptor map and the allocation of entries, see table.h. */
#include "table.h"

#include <string.h>

#include "session.h"

/* Entries that are looked at before a table counts as full: a bound on what a connect costs.
   The next search starts where this one ended. */
#define PROBES 1024u
#define RESERVE_ENTRIES 64u
#define STATE_MASK ((1u << KQ_STATE_BITS) - 1)
#define SESSION_MASK (0xffffffffu >> KQ_STATE_BITS >> KQ_SESSION_SHIFT)

uint32_t kq_fd_limit;
uint64_t *kq_fd_map;
uint32_t kq_table_session;

static uint32_t fd_high;
static uint32_t entries_ready; /* entries whose memory is there, as far as this process knows */

void kq_fd_bind(int fd, uint64_t word) {
  if ((uint32_t)fd >= kq_fd_limit) {
    return;
  }
  uint32_t high = __atomic_load_n(&fd_high, __ATOMIC_RELAXED);
  while (high <= (uint32_t)fd &&
         !__atomic_compare_exchange_n(&fd_high, &high, (uint32_t)fd + 1, true, __ATOMIC_RELAXED,
                                      __ATOMIC_RELAXED)) {
  }
  __atomic_store_n(&kq_fd_map[fd], word, __ATOMIC_RELEASE);
}

uint64_t kq_fd_rebind(int fd, uint64_t from, uint64_t to) {
  if ((uint32_t)fd >= kq_fd_limit) {
    return KQ_FD_UNSUPPORTED;
  }
  if (from == KQ_FD_UNKNOWN) {
    /* The high mark may not lag behind what close_range has to look at. */
    uint32_t high = __atomic_load_n(&fd_high, __ATOMIC_RELAXED);
    while (high <= (uint32_t)fd &&
           !__atomic_compare_exchange_n(&fd_high, &high, (uint32_t)fd + 1, true,
                                        __ATOMIC_RELAXED, __ATOMIC_RELAXED)) {
    }
  }
  uint64_t expected = from;
  if (__atomic_compare_exchange_n(&kq_fd_map[fd], &expected, to, false, __ATOMIC_ACQ_REL,
                                  __ATOMIC_ACQUIRE)) {
    return to;
  }
  return expected;
}

uint32_t kq_fd_high(void) { return __atomic_load_n(&fd_high, __ATOMIC_RELAXED); }

static bool reserve_entry(uint32_t index) {
  uint32_t ready = __atomic_load_n(&entries_ready, __ATOMIC_RELAXED);
  while (index >= ready) {
    if (!kq_session_reserve(&kq_table_entries[ready], RESERVE_ENTRIES * KQ_ENTRY_BYTES)) {
      return false;
    }
    ready += RESERVE_ENTRIES;
    __atomic_store_n(&entries_ready, ready, __ATOMIC_RELAXED);
  }
  return true;
}

static void raise_high(uint32_t to) {
  uint32_t high = __atomic_load_n(&kq_table_header->entry_high, __ATOMIC_RELAXED);
  while (high < to && !__atomic_compare_exchange_n(&kq_table_header->entry_high, &high, to, true,
                                                   __ATOMIC_RELAXED, __ATOMIC_RELAXED)) {
  }
}

uint64_t kq_entry_take(enum kq_type type) {
  /* Acquire pairs with the release at the start of a session: the entries are not older. */
  struct kq_header *header = __atomic_load_n(&kq_table_header, __ATOMIC_ACQUIRE);
  uint32_t count = header->entry_count;
  uint32_t start = __atomic_fetch_add(&header->entry_hint, 1, __ATOMIC_RELAXED);
  for (uint32_t probe = 0; probe < PROBES && probe < count; probe++) {
    uint32_t index = (start + probe) & (count - 1);
    if (!reserve_entry(index)) {
      kq_count_loss(KQ_LOSS_NO_MEMORY);
      return 0;
    }
    struct kq_entry *entry = &kq_table_entries[index];
    uint32_t state = __atomic_load_n(&entry->state, __ATOMIC_RELAXED);
    if ((state & STATE_MASK) != KQ_STATE_FREE) {
      continue;
    }
    uint32_t generation = ((state >> KQ_STATE_BITS) + 1) & KQ_GENERATION_MASK;
    if (generation == 0) {
      generation = 1;
    }
    generation |= kq_table_session;
    /* Acquire pairs with the collector's release when it freed the entry. */
    if (!__atomic_compare_exchange_n(&entry->state, &state,
                                     generation << KQ_STATE_BITS | KQ_STATE_FILLING, false,
                                     __ATOMIC_ACQUIRE, __ATOMIC_RELAXED)) {
      continue;
    }
    if (probe > 0) {
      __atomic_store_n(&header->entry_hint, index + 1, __ATOMIC_RELAXED);
    }
    memset(&entry->type, 0, KQ_ENTRY_BYTES - offsetof(struct kq_entry, type));
    entry->type = (uint8_t)type;
    raise_high(index + 1);
    return kq_fd_word(type == KQ_TYPE_TCP ? KQ_FD_TCP : KQ_FD_UDP, index, generation);
  }
  __atomic_store_n(&header->entry_hint, start + PROBES, __ATOMIC_RELAXED);
  kq_count_loss(KQ_LOSS_TABLE_FULL);
  return 0;
}

void kq_entry_publish(uint64_t word, enum kq_state state) {
  struct kq_entry *entry = &kq_table_entries[kq_fd_entry(word)];
  uint32_t before = __atomic_load_n(&entry->state, __ATOMIC_RELAXED);
  if (before >> KQ_STATE_BITS == kq_fd_generation(word)) {
    /* Release pairs with the collector's acquire of the state. */
    __atomic_store_n(&entry->state, kq_fd_generation(word) << KQ_STATE_BITS | state,
                     __ATOMIC_RELEASE);
  }
}

bool kq_entry_open(uint64_t word) {
  uint32_t generation = kq_fd_generation(word) << KQ_STATE_BITS;
  uint32_t connecting = generation | KQ_STATE_CONNECTING;
  return __atomic_compare_exchange_n(&kq_table_entries[kq_fd_entry(word)].state, &connecting,
                                     generation | KQ_STATE_OPEN, false, __ATOMIC_RELEASE,
                                     __ATOMIC_RELAXED);
}

void kq_entry_drop(uint64_t word) { kq_entry_publish(word, KQ_STATE_FREE); }

uint64_t kq_entry_find(uint64_t inode) {
  uint32_t high = __atomic_load_n(&kq_table_header->entry_high, __ATOMIC_RELAXED);
  if (high > kq_table_header->entry_count || inode == 0) {
    return 0;
  }
  for (uint32_t index = 0; index < high; index++) {
    const struct kq_entry *entry = &kq_table_entries[index];
    uint32_t state = __atomic_load_n(&entry->state, __ATOMIC_ACQUIRE);
    if ((state & STATE_MASK) == KQ_STATE_OPEN && entry->inode == inode) {
      return kq_fd_word(entry->type == KQ_TYPE_TCP ? KQ_FD_TCP : KQ_FD_UDP, index,
                        state >> KQ_STATE_BITS);
    }
  }
  return 0;
}

void kq_entry_flag(uint64_t word, uint16_t flag) {
  struct kq_entry *entry = kq_entry_of(word);
  if (entry != NULL) {
    __atomic_fetch_or(&entry->flags, flag, __ATOMIC_RELAXED);
  }
}

void kq_table_start(uint64_t *map, uint32_t limit, uint32_t session) {
  uint32_t bits = (session & SESSION_MASK) << KQ_SESSION_SHIFT;
  __atomic_store_n(&kq_table_session, bits, __ATOMIC_RELAXED);
  __atomic_store_n(&entries_ready, 0, __ATOMIC_RELAXED);
  if (kq_fd_map != map) {
    kq_fd_map = map;
  }
  /* Release pairs with kq_fd_look's acquire. */
  __atomic_store_n(&kq_fd_limit, limit, __ATOMIC_RELEASE);
}

void kq_table_reserve_all(void) { reserve_entry(kq_table_header->entry_count - 1); }
