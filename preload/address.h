/* Addresses and queues of a socket, asked of the kernel without touching errno. */
#ifndef KQ_ADDRESS_H
#define KQ_ADDRESS_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/socket.h>

struct kq_address {
  uint8_t bytes[16]; /* IPv4 as IPv4-mapped (RFC 4291 §2.5.5.2) */
  uint16_t port;
  uint8_t family; /* 4 or 6 */
};

/* False when it is not a complete IPv4 or IPv6 address. */
bool kq_address_read(struct kq_address *to, const struct sockaddr_storage *from,
                     socklen_t length);
bool kq_address_local(struct kq_address *to, int fd);
bool kq_address_peer(struct kq_address *to, int fd);

/* What the kernel says a descriptor is. */
enum kq_nature {
  KQ_NATURE_CLOSED,     /* no descriptor */
  KQ_NATURE_NOT_SOCKET,
  KQ_NATURE_OTHER,      /* a socket that is not measured, or one that nobody may ask about */
  KQ_NATURE_TCP,
  KQ_NATURE_UDP
};
enum kq_nature kq_nature_of(int fd);
enum kq_nature kq_nature_from(int domain, int type, int protocol);
/* Are they of a socket that reaches other hosts, or virtual machines, with a stream of its own? */
bool kq_is_other(int domain, int protocol);
/* The same of a socket that the kernel is asked about. */
bool kq_is_other_socket(int fd, int *domain, int *protocol);

/* tcpi_state of TCP_INFO, 0 if denied. */
uint8_t kq_tcp_state(int fd);

uint64_t kq_inode_of(int fd);
/* Bytes in a queue by ioctl; UINT32_MAX if denied. */
uint32_t kq_unread_bytes(int fd);
uint32_t kq_unsent_bytes(int fd);
/* SO_RCVLOWAT; 1, as it is by itself, if denied. */
int kq_low_water(int fd);
/* What a TCP socket has sent and read in its life, see kq_entry; false if the kernel does not say. */
bool kq_tcp_counts(int fd, uint64_t *sent, uint64_t *read);

#endif
