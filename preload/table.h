/*
 * What each descriptor of this process is, and the entries of the shared socket table.
 *
 * The map is one 64-bit word a descriptor, private to the process (copied on write by fork, as
 * descriptors are), so that a lookup is one load without a lock. The word of a measured socket
 * names its entry and generation; an entry that the collector has freed and someone else has
 * taken no longer has that generation.
 */
#ifndef KQ_TABLE_H
#define KQ_TABLE_H

#include <stdbool.h>
#include <stdint.h>

#include "../c/kqtime_shm.h"
#include "sys.h"

enum kq_fd_kind {
  KQ_FD_UNKNOWN = 0,    /* ask the kernel at its first use */
  KQ_FD_TCP = 1,        /* has an entry */
  KQ_FD_UDP = 2,        /* has an entry */
  KQ_FD_TCP_IDLE = 3,   /* not connected */
  KQ_FD_TCP_LISTEN = 4, /* announced by a LISTEN record */
  KQ_FD_UDP_IDLE = 5,   /* nothing sent or received yet */
  KQ_FD_NOT_SOCKET = 8,  /* not measured from here on */
  KQ_FD_UNSUPPORTED = 9, /* a socket of another family or protocol */
  KQ_FD_DYING = 10       /* being closed: a use by another thread must not bring it back */
};
#define KQ_FD_KIND_MASK 15u
#define KQ_FD_IGNORED 8u      /* bit of the kinds that are not measured */
#define KQ_FD_IN_PROGRESS 16u /* connect() has not reported success yet */
#define KQ_FD_UNCONFIRMED 32u /* to be asked of the kernel at the next use: who the peer is; or, of
                                 a socket adopted when measuring began, whether it is still that */

/* Descriptors below this are in the map; 0 while nothing is measured. */
extern uint32_t kq_fd_limit;
extern uint64_t *kq_fd_map;

static inline uint64_t kq_fd_word(enum kq_fd_kind kind, uint32_t entry, uint32_t generation) {
  return (uint64_t)kind | (uint64_t)entry << 8 | (uint64_t)generation << 32;
}
static inline unsigned kq_fd_kind(uint64_t word) { return (unsigned)word & KQ_FD_KIND_MASK; }
static inline bool kq_fd_ignored(uint64_t word) { return (word & KQ_FD_IGNORED) != 0; }
static inline bool kq_fd_has_entry(uint64_t word) {
  return kq_fd_kind(word) == KQ_FD_TCP || kq_fd_kind(word) == KQ_FD_UDP;
}
static inline uint32_t kq_fd_entry(uint64_t word) { return (uint32_t)word >> 8; }
static inline uint32_t kq_fd_generation(uint64_t word) { return (uint32_t)(word >> 32); }

/* The first acquire pairs with kq_table_start's release: who sees the limit sees all that a
   session needs. The second pairs with kq_fd_bind's: who finds the word finds the entry filled. */
static inline uint64_t kq_fd_look(int fd) {
  if (KQ_UNLIKELY((uint32_t)fd >= __atomic_load_n(&kq_fd_limit, __ATOMIC_ACQUIRE))) {
    return KQ_FD_UNSUPPORTED;
  }
  return __atomic_load_n(&kq_fd_map[fd], __ATOMIC_ACQUIRE);
}

void kq_fd_bind(int fd, uint64_t word);

/* Binds only if nothing else was bound since; returns the word that is bound afterwards. */
uint64_t kq_fd_rebind(int fd, uint64_t from, uint64_t to);

/* One more than the highest descriptor that was ever bound. */
uint32_t kq_fd_high(void);

/* The entry of a word, or NULL if the collector has freed it. */
static inline struct kq_entry *kq_entry_of(uint64_t word);

/* Takes a free entry, zeroed, in state FILLING. Returns the word for it, 0 if there is none. */
uint64_t kq_entry_take(enum kq_type type);
void kq_entry_publish(uint64_t word, enum kq_state state);
/* A connecting entry is open; false if another thread was first. */
bool kq_entry_open(uint64_t word);
/* Gives back an entry that was never published. */
void kq_entry_drop(uint64_t word);
/* The open entry of a socket by its inode, as a word; 0 if none. */
uint64_t kq_entry_find(uint64_t inode);
void kq_entry_flag(uint64_t word, uint16_t flag);

/* `session` numbers this process's sessions; the generations of each are its own. */
void kq_table_start(uint64_t *map, uint32_t limit, uint32_t session);
void kq_table_reserve_all(void);

/* Of the 29 bits of a generation the upper 9 tell the session. */
#define KQ_SESSION_SHIFT 20
#define KQ_GENERATION_MASK ((1u << KQ_SESSION_SHIFT) - 1)
extern uint32_t kq_table_session; /* those bits, of the session that began last */

/* A word of an earlier session: a late hook has bound it, or its call has outlived its session. */
static inline bool kq_fd_outdated(uint64_t word) {
  return (kq_fd_generation(word) & ~KQ_GENERATION_MASK) !=
         __atomic_load_n(&kq_table_session, __ATOMIC_RELAXED);
}

extern struct kq_entry *kq_table_entries;

static inline struct kq_entry *kq_entry_of(uint64_t word) {
  struct kq_entry *entry = &kq_table_entries[kq_fd_entry(word)];
  uint32_t state = __atomic_load_n(&entry->state, __ATOMIC_RELAXED);
  bool alive = state >> KQ_STATE_BITS == kq_fd_generation(word) &&
               (state & ((1u << KQ_STATE_BITS) - 1)) != KQ_STATE_FREE;
  return KQ_LIKELY(alive) ? entry : NULL;
}

#endif
