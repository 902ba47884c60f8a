/* Socket options that change what the stream is (tcp(7), linux/tcp.h). */
#ifndef KQ_OPTION_H
#define KQ_OPTION_H

#include <netinet/in.h>
#include <stdbool.h>
#include <stdint.h>
#include <string.h>
#include <sys/socket.h>

#include "recorder.h"
#include "table.h"

#define KQ_TCP_ULP 31
#define KQ_TCP_ZEROCOPY_RECEIVE 35

static inline bool kq_option_is_ulp(int level, int option) {
  return level == IPPROTO_TCP && option == KQ_TCP_ULP;
}

/* kTLS: from here on the kernel frames and encrypts, offsets no longer count wire bytes. */
static inline void kq_option_ulp_set(int fd) {
  uint64_t word = kq_fd_look(fd);
  if (kq_fd_kind(word) == KQ_FD_TCP) {
    kq_entry_flag(word, KQ_ENTRY_KTLS);
  }
}

static inline void kq_option_low_water_set(int fd) {
  uint64_t word = kq_fd_look(fd);
  if (kq_fd_kind(word) == KQ_FD_TCP) {
    kq_entry_flag(word, KQ_ENTRY_WAITS);
  }
}

static inline bool kq_option_is_zerocopy(int level, int option) {
  return level == IPPROTO_TCP && option == KQ_TCP_ZEROCOPY_RECEIVE;
}

/* Bytes that a successful call took: those it mapped, and those it copied. Of
   struct tcp_zerocopy_receive: u64 address, u32 length, u32 recv_skip_hint, u32 inq, s32 err,
   u64 copybuf_address, s32 copybuf_len. The kernel tells by the length how much it filled. */
static inline int64_t kq_option_zerocopy_bytes(const void *value, socklen_t length) {
  uint32_t mapped = 0;
  int32_t copied = 0;
  if (length >= 12) {
    memcpy(&mapped, (const uint8_t *)value + 8, sizeof mapped);
  }
  if (length >= 36) {
    memcpy(&copied, (const uint8_t *)value + 32, sizeof copied);
  }
  return (int64_t)mapped + (copied > 0 ? copied : 0);
}

#endif
