/* What the files about sockets share. */
#ifndef KQ_SOCKET_INTERNAL_H
#define KQ_SOCKET_INTERNAL_H

#include "address.h"
#include "table.h"

uint64_t kq_entry_begin(enum kq_type type, uint16_t flags, int fd, uint64_t birth_ns);
/* False if the kernel does not say. */
bool kq_entry_local(struct kq_entry *entry, int fd);
void kq_entry_remote(struct kq_entry *entry, const struct kq_address *peer);

/* Makes an entry for a connected TCP socket that no hook saw born, and binds it with these marks
   (KQ_FD_UNCONFIRMED). Returns the word that is bound afterwards. */
uint64_t kq_adopt_tcp(int fd, uint64_t word, uint64_t marks);
/* The descriptor still is the socket that it was when it was adopted: forgets the mark, or the
   descriptor. Returns its word from now on. */
uint64_t kq_adopt_confirm(int fd, uint64_t word, const struct kq_entry *entry);
/* What the descriptor is that is about to accept; a listener that is none yet is announced. */
uint64_t kq_find_listener(int fd);
/* Announces a listening socket: the collector keeps what arrives before the accept. */
void kq_announce_listener(int fd, uint64_t word, int backlog);

#endif
