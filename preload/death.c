/*
 * Copies and deaths of descriptors. A death is recorded before the real call: after it the number
 * may belong to another thread's new descriptor. When it turns out that nothing died, the
 * descriptor is bound again. In between it is KQ_FD_DYING, so that a read by another thread in
 * that moment cannot bind the number again just before it is freed.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <string.h>

#include "address.h"
#include "note.h"
#include "registration.h"
#include "session.h"
#include "socket.h"

void kq_dup_done(int from, int to) {
  if (to < 0 || kq_fd_limit == 0 || kq_session_foreign()) {
    return;
  }
  uint64_t word = kq_fd_look(from);
  if ((uint32_t)from >= kq_fd_limit || kq_fd_kind(word) == KQ_FD_DYING) {
    word = KQ_FD_UNKNOWN;
  }
  if (kq_fd_has_entry(word) && (uint32_t)to >= kq_fd_limit) {
    kq_count_loss(KQ_LOSS_FD_RANGE);
  }
  kq_fd_bind(to, word);
  kq_registration_copied(from, to);
}

uint64_t kq_death_begin(int fd) {
  uint64_t word = kq_fd_look(fd);
  unsigned kind = kq_fd_kind(word);
  if (kind == KQ_FD_UNKNOWN || kind == KQ_FD_DYING || (uint32_t)fd >= kq_fd_limit) {
    return KQ_FD_UNKNOWN;
  }
  if (kind == KQ_FD_NOT_SOCKET) {
    /* Forgetting that is harmless in a vfork child too. */
    kq_fd_rebind(fd, word, KQ_FD_UNKNOWN);
    return KQ_FD_UNKNOWN;
  }
  if (kq_session_foreign() || kq_fd_rebind(fd, word, KQ_FD_DYING) != KQ_FD_DYING) {
    return KQ_FD_UNKNOWN;
  }
  kq_registration_dying(fd);
  if (kq_fd_has_entry(word)) {
    uint32_t unread = 0;
    if (kind == KQ_FD_TCP) {
      unread = kq_unread_bytes(fd);
    }
    kq_note(KQ_KIND_UNBIND, 0, word & ~(uint64_t)KQ_FD_IN_PROGRESS, fd, 0, unread, true);
  }
  return word;
}

void kq_death_end(int fd, uint64_t word, bool died) {
  if (kq_fd_kind(word) != KQ_FD_UNKNOWN) {
    /* Not if another thread has got the number already. */
    kq_fd_rebind(fd, KQ_FD_DYING, died ? KQ_FD_UNKNOWN : word);
    kq_registration_died(fd, died);
  }
}

static uint32_t range_end(unsigned last) {
  uint32_t high = kq_fd_high();
  return last < high ? last + 1 : high;
}

void kq_death_range_begin(unsigned first, unsigned last) {
  if (kq_fd_limit == 0 || kq_session_foreign()) {
    return;
  }
  for (uint32_t fd = first, end = range_end(last); fd < end; fd++) {
    kq_death_begin((int)fd);
  }
}

void kq_death_range_end(unsigned first, unsigned last) {
  if (kq_fd_limit == 0 || kq_session_foreign()) {
    return;
  }
  for (uint32_t fd = first, end = range_end(last); fd < end; fd++) {
    kq_fd_rebind((int)fd, KQ_FD_DYING, KQ_FD_UNKNOWN);
    kq_registration_died((int)fd, true);
  }
}

bool kq_close_range_works(unsigned first, unsigned last, int flags) {
  if (first > last || (flags & ~(int)CLOSE_RANGE_UNSHARE) != 0) {
    return false;
  }
  /* Of no descriptor at all: tells whether the kernel and a sandbox know the call. */
  return KQ_SYS(SYS_close_range, ~0U, ~0U, 0) == 0;
}

bool kq_fd_open(int fd) { return KQ_SYS(SYS_fcntl, fd, F_GETFD) != -EBADF; }

void kq_fd_arrived(int fd) {
  if (fd >= 0 && kq_fd_limit != 0 && !kq_session_foreign()) {
    kq_fd_bind(fd, KQ_FD_UNKNOWN);
  }
}

void kq_rights_received(const struct msghdr *message) {
  if (message->msg_control == NULL || message->msg_controllen < sizeof(struct cmsghdr) ||
      kq_fd_limit == 0 || kq_session_foreign()) {
    return;
  }
  struct msghdr *walk = (struct msghdr *)(uintptr_t)message;
  for (struct cmsghdr *part = CMSG_FIRSTHDR(walk); part != NULL; part = CMSG_NXTHDR(walk, part)) {
    if (part->cmsg_level != SOL_SOCKET || part->cmsg_type != SCM_RIGHTS ||
        part->cmsg_len < CMSG_LEN(0)) {
      continue;
    }
    size_t count = (part->cmsg_len - CMSG_LEN(0)) / sizeof(int);
    for (size_t index = 0; index < count; index++) {
      int fd;
      memcpy(&fd, CMSG_DATA(part) + index * sizeof fd, sizeof fd);
      kq_fd_bind(fd, KQ_FD_UNKNOWN);
    }
  }
}
