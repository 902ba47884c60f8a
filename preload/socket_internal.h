/* What socket.c and connect.c share. */
#ifndef KQ_SOCKET_INTERNAL_H
#define KQ_SOCKET_INTERNAL_H

#include "address.h"
#include "table.h"

uint64_t kq_entry_begin(enum kq_type type, uint16_t flags, int fd, uint64_t birth_ns);
void kq_entry_local(struct kq_entry *entry, int fd);
void kq_entry_remote(struct kq_entry *entry, const struct kq_address *peer);

#endif
