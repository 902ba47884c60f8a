/* What the kernel knows of a socket, see address.h. */
#define _GNU_SOURCE
#include "address.h"

#include <errno.h>
#include <linux/sockios.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>

#include "../c/kqtime_shm.h"
#include "sys.h"

/* Of linux/in.h, which is not to be had beside netinet/in.h, whose older versions do without. */
#define KQ_PROTOCOL_MPTCP 262

bool kq_address_read(struct kq_address *to, const struct sockaddr_storage *from,
                     socklen_t length) {
  if (from->ss_family == AF_INET && length >= sizeof(struct sockaddr_in)) {
    const struct sockaddr_in *in = (const struct sockaddr_in *)from;
    memset(to->bytes, 0, 10);
    memset(to->bytes + 10, 0xff, 2);
    memcpy(to->bytes + 12, &in->sin_addr, 4);
    to->port = ntohs(in->sin_port);
    to->family = 4;
    return true;
  }
  /* 24: without the scope, which the kernel accepts too (SIN6_LEN_RFC2133). */
  if (from->ss_family == AF_INET6 && length >= 24) {
    const struct sockaddr_in6 *in6 = (const struct sockaddr_in6 *)from;
    memcpy(to->bytes, &in6->sin6_addr, 16);
    to->port = ntohs(in6->sin6_port);
    to->family = 6;
    return true;
  }
  return false;
}

static bool ask_address(long number, struct kq_address *to, int fd) {
  struct sockaddr_storage address;
  socklen_t length = sizeof address;
  address.ss_family = AF_UNSPEC;
  return KQ_SYS(number, fd, &address, &length) == 0 && kq_address_read(to, &address, length);
}

bool kq_address_local(struct kq_address *to, int fd) {
  return ask_address(SYS_getsockname, to, fd);
}

bool kq_address_peer(struct kq_address *to, int fd) {
  return ask_address(SYS_getpeername, to, fd);
}

static long ask_option(int fd, int option, int *value) {
  socklen_t length = sizeof *value;
  return KQ_SYS(SYS_getsockopt, fd, SOL_SOCKET, option, value, &length);
}

enum kq_nature kq_nature_from(int domain, int type, int protocol) {
  if (domain != AF_INET && domain != AF_INET6) {
    return KQ_NATURE_OTHER;
  }
  int kind = type & ~(SOCK_NONBLOCK | SOCK_CLOEXEC);
  if (kind == SOCK_STREAM && (protocol == 0 || protocol == IPPROTO_TCP)) {
    return KQ_NATURE_TCP;
  }
  if (kind == SOCK_DGRAM && (protocol == 0 || protocol == IPPROTO_UDP)) {
    return KQ_NATURE_UDP;
  }
  return KQ_NATURE_OTHER;
}

bool kq_is_other(int domain, int protocol) {
  if (domain == AF_SMC || domain == AF_VSOCK) {
    return true;
  }
  return (domain == AF_INET || domain == AF_INET6) &&
         (protocol == KQ_PROTOCOL_MPTCP || protocol == IPPROTO_SCTP || protocol == IPPROTO_DCCP ||
          protocol == IPPROTO_UDPLITE);
}

bool kq_is_other_socket(int fd, int *domain, int *protocol) {
  return ask_option(fd, SO_PROTOCOL, protocol) == 0 && ask_option(fd, SO_DOMAIN, domain) == 0 &&
         kq_is_other(*domain, *protocol);
}

enum kq_nature kq_nature_of(int fd) {
  int protocol = 0;
  long result = ask_option(fd, SO_PROTOCOL, &protocol);
  if (result == -ENOTSOCK) {
    return KQ_NATURE_NOT_SOCKET;
  }
  if (result == -EBADF) {
    return KQ_NATURE_CLOSED;
  }
  if (result != 0) {
    /* A sandbox that denies this one may allow TCP_INFO, which only TCP answers. */
    return kq_tcp_state(fd) != 0 ? KQ_NATURE_TCP : KQ_NATURE_OTHER;
  }
  int domain = 0;
  int type = 0;
  if ((protocol != IPPROTO_TCP && protocol != IPPROTO_UDP) ||
      ask_option(fd, SO_DOMAIN, &domain) != 0 || ask_option(fd, SO_TYPE, &type) != 0) {
    return KQ_NATURE_OTHER;
  }
  return kq_nature_from(domain, type, protocol);
}

uint8_t kq_tcp_state(int fd) {
  uint8_t state = 0;
  socklen_t length = sizeof state;
  return KQ_SYS(SYS_getsockopt, fd, IPPROTO_TCP, TCP_INFO, &state, &length) == 0 ? state : 0;
}

uint64_t kq_inode_of(int fd) {
  struct stat status;
  return KQ_SYS(SYS_fstat, fd, &status) == 0 ? status.st_ino : 0;
}

static uint32_t ask_queue(int fd, unsigned long request) {
  int bytes = 0;
  return KQ_SYS(SYS_ioctl, fd, request, &bytes) == 0 && bytes >= 0 ? (uint32_t)bytes
                                                                   : KQ_UNREAD_UNKNOWN;
}

uint32_t kq_unread_bytes(int fd) { return ask_queue(fd, FIONREAD); }

uint32_t kq_unsent_bytes(int fd) { return ask_queue(fd, SIOCOUTQ); }

int kq_low_water(int fd) {
  int bytes = 1;
  return ask_option(fd, SO_RCVLOWAT, &bytes) == 0 ? bytes : 1;
}

/* struct tcp_info up to tcpi_segs_in (Linux 4.6); older C libraries declare less of it. */
#define TCP_INFO_WORDS 18
#define TCP_INFO_ACKED 15    /* tcpi_bytes_acked */
#define TCP_INFO_RECEIVED 16 /* tcpi_bytes_received */
#define COUNT_TRIES 4

static bool ask_info(int fd, uint64_t *words) {
  socklen_t length = TCP_INFO_WORDS * sizeof *words;
  return KQ_SYS(SYS_getsockopt, fd, IPPROTO_TCP, TCP_INFO, words, &length) == 0 &&
         length == TCP_INFO_WORDS * sizeof *words;
}

bool kq_tcp_counts(int fd, uint64_t *sent, uint64_t *read) {
  uint64_t before[TCP_INFO_WORDS];
  uint64_t after[TCP_INFO_WORDS];
  /* Segments may be processed in between: only what is the same before and after is of one
     moment. */
  for (int tries = 0; tries < COUNT_TRIES; tries++) {
    if (!ask_info(fd, before)) {
      return false;
    }
    uint32_t unsent = kq_unsent_bytes(fd);
    uint32_t unread = kq_unread_bytes(fd);
    if (unsent == KQ_UNREAD_UNKNOWN || unread == KQ_UNREAD_UNKNOWN || !ask_info(fd, after)) {
      return false;
    }
    uint8_t state = (uint8_t)(before[0] & 0xff);
    if (before[TCP_INFO_ACKED] != after[TCP_INFO_ACKED] ||
        before[TCP_INFO_RECEIVED] != after[TCP_INFO_RECEIVED] ||
        state != (uint8_t)(after[0] & 0xff)) {
      continue;
    }
    bool fin_sent = state == TCP_FIN_WAIT1 || state == TCP_FIN_WAIT2 || state == TCP_CLOSING ||
                    state == TCP_LAST_ACK;
    bool fin_received = state == TCP_CLOSE_WAIT || state == TCP_LAST_ACK || state == TCP_CLOSING;
    *sent = before[TCP_INFO_ACKED] + unsent - fin_sent;
    *read = before[TCP_INFO_RECEIVED] - unread - fin_received;
    return true;
  }
  return false;
}
