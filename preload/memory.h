/* Rings and their memory: how one is made, handed to the collector, and let go. */
#ifndef KQ_MEMORY_H
#define KQ_MEMORY_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/socket.h>
#include <sys/un.h>

#include "session.h"

/* Whose collector, and what its rings look like. Changes only while nothing is measured. */
struct kq_collector {
  struct sockaddr_un address;
  uint8_t token[sizeof(((struct kq_message *)0)->token)];
  uint32_t slot_count;
};
extern struct kq_collector kq_collector;

/* A descriptor connected to the collector, or -errno. While its backlog is full, `tries` times a
   millisecond; once if others have waited in vain. */
long kq_collector_open(int tries);

/* Sends the message, with a descriptor unless it is -1. 0 or -errno. */
long kq_collector_send(int to, const struct kq_message *message, int fd);

/* Private memory of zeros, or NULL. */
void *kq_memory_private(uint64_t bytes);

uint64_t kq_ring_bytes(uint32_t slots, uint32_t entries);

/* Makes a ring, hands it over and fills *ring; no descriptor stays open. `at`: where it was
   before with the same size, or NULL. table_id 0: the ring holds a table itself. 0 or -errno;
   *heard: the collector knows of it either way. */
long kq_ring_make(struct kq_ring *ring, void *at, uint32_t entries, uint64_t table_id, int tries,
                  bool *heard);

#endif
