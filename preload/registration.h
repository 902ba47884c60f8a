/*
 * Sockets that a handle measures, see kq_preload_register. A connection is registered by records
 * in the ring. A socket that is not connected yet has no entry there: what was said about it is
 * kept in this process until it has one, and forgotten when its descriptor dies.
 *
 * The functions below are for the paths of birth and death. Programs register few sockets before
 * they connect them, most none: then each costs the look at a counter.
 */
#ifndef KQ_REGISTRATION_H
#define KQ_REGISTRATION_H

#include <stdbool.h>
#include <stdint.h>

#include "sys.h"

extern uint32_t kq_registrations_kept;

void kq_registration_write_kept(int fd, uint64_t entry);
void kq_registration_drop_kept(int fd);
void kq_registration_copy_kept(int from, int to);
void kq_registration_mark_kept(int fd);
void kq_registration_unmark_kept(int fd, bool died);
void kq_registration_forget_all(void);

static inline bool kq_registration_any(void) {
  return KQ_UNLIKELY(__atomic_load_n(&kq_registrations_kept, __ATOMIC_ACQUIRE) != 0);
}

/* An entry was made for a connection under way: it is registered as the descriptor was. */
static inline void kq_registration_connecting(int fd, uint64_t entry) {
  if (kq_registration_any()) {
    kq_registration_write_kept(fd, entry);
  }
}

/* The connection is there and its entry is final: nothing need be kept. */
static inline void kq_registration_connected(int fd) {
  if (kq_registration_any()) {
    kq_registration_drop_kept(fd);
  }
}

/* The number is that of a new socket; that the old one died was not seen. */
static inline void kq_registration_reborn(int fd) { kq_registration_connected(fd); }

static inline void kq_registration_copied(int from, int to) {
  if (kq_registration_any()) {
    kq_registration_copy_kept(from, to);
  }
}

/* About to be closed, and, later, whether it was. In between the number may be registered anew. */
static inline void kq_registration_dying(int fd) {
  if (kq_registration_any()) {
    kq_registration_mark_kept(fd);
  }
}
static inline void kq_registration_died(int fd, bool died) {
  if (kq_registration_any()) {
    kq_registration_unmark_kept(fd, died);
  }
}

#endif
