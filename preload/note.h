/*
 * Records that are not about bytes: of sockets, descriptors, processes and names. Those about bytes are
 * written by the recorder.
 */
#ifndef KQ_NOTE_H
#define KQ_NOTE_H

#include <stdbool.h>
#include <stdint.h>

#include "../c/kqtime_shm.h"

/* A record that is not about bytes. It makes no ring for a forked child when `passive`. */
void kq_note(enum kq_kind kind, uint8_t flags, uint64_t word, int fd, uint64_t off,
             uint32_t bytes, bool passive);

/* Writes a record whose loss matters to the caller, with the time and the pid filled in. While the
   ring is full it is waited for so long at the most; not at all if that was in vain before, and
   nothing has moved since. */
bool kq_put(struct kq_slot *record, uint64_t patience_ns);

#endif
