/*
 * Sockets that are older than the measurement: all that are open when it begins in a program that
 * runs already, and what a descriptor turns out to be later.
 *
 * While the descriptors are looked at, other threads close and open them. One that was closed
 * after it was looked at and before it was bound would be taken for the socket that it was: so
 * each is asked for its inode again at its first use.
 */
#define _GNU_SOURCE
#include <netinet/tcp.h>
#include <stdlib.h>
#include <sys/resource.h>

#include "address.h"
#include "note.h"
#include "proc.h"
#include "sandbox.h"
#include "session.h"
#include "socket.h"
#include "socket_internal.h"

/* Where /proc is missing, descriptors are tried one by one, so many at the most. */
#define BLIND_MAX 65536u
#define BLIND_LEAST 1024u

uint64_t kq_socket_adopt(int fd) {
  uint64_t word = kq_fd_look(fd);
  if (kq_fd_kind(word) != KQ_FD_UNKNOWN) {
    return word;
  }
  switch (kq_nature_of(fd)) {
    case KQ_NATURE_UDP:
      return kq_fd_rebind(fd, word, KQ_FD_UDP_IDLE);
    case KQ_NATURE_TCP:
      break;
    default:
      return word;
  }
  switch (kq_tcp_state(fd)) {
    case TCP_LISTEN:
      kq_announce_listener(fd, word, 0);
      return kq_fd_look(fd);
    case TCP_CLOSE:
    case TCP_SYN_SENT:
      /* Its peer is not told yet: asked again at its first use. */
      return kq_fd_rebind(fd, word, KQ_FD_TCP_IDLE);
    default:
      return kq_adopt_tcp(fd, word, KQ_FD_UNCONFIRMED);
  }
}

uint64_t kq_adopt_confirm(int fd, uint64_t word, const struct kq_entry *entry) {
  if (kq_inode_of(fd) == entry->inode || KQ_REFUSED(SYS_fstat, fd)) {
    uint64_t sure = word & ~(uint64_t)KQ_FD_UNCONFIRMED;
    kq_fd_rebind(fd, word, sure);
    return sure;
  }
  if (kq_fd_rebind(fd, word, KQ_FD_UNKNOWN) == KQ_FD_UNKNOWN) {
    kq_note(KQ_KIND_UNBIND, 0, word, fd, 0, KQ_UNREAD_UNKNOWN, true);
  }
  return kq_socket_first_use(fd, kq_fd_look(fd));
}

uint64_t kq_socket_renew(int fd, uint64_t word) {
  if (!kq_fd_outdated(word) || kq_session_foreign()) {
    return word;
  }
  kq_fd_rebind(fd, word, KQ_FD_UNKNOWN);
  return kq_socket_first_use(fd, kq_fd_look(fd));
}

static void adopt_blindly(uint64_t (*each)(int fd)) {
  struct rlimit files = {BLIND_MAX, BLIND_MAX};
  KQ_SYS(SYS_prlimit64, 0, RLIMIT_NOFILE, NULL, &files);
  uint64_t end = files.rlim_cur < BLIND_MAX ? files.rlim_cur : BLIND_MAX;
  /* A program about to close a sandbox has often just given up the right to more. */
  end = end < BLIND_LEAST ? BLIND_LEAST : end;
  for (int fd = 0; (uint64_t)fd < end; fd++) {
    each(fd);
  }
}

static void adopt_named(long folder, const char *name) {
  int fd = (int)strtol(name, NULL, 10);
  if (fd != folder) {
    kq_socket_adopt(fd);
  }
}

void kq_socket_adopt_all(void) {
  if (!kq_proc_list("/proc/self/fd", adopt_named)) {
    adopt_blindly(kq_socket_adopt);
  }
}

/* As at its first use, which this is. It may be another's by now: asked once more when it is bound, for
   from then on its end is seen. */
static uint64_t settle(int fd) {
  uint64_t word = kq_fd_look(fd);
  if (kq_fd_kind(word) == KQ_FD_UNKNOWN) {
    word = kq_socket_first_use(fd, kq_find_listener(fd));
    const struct kq_entry *entry = kq_fd_kind(word) == KQ_FD_TCP ? kq_entry_of(word) : NULL;
    return entry != NULL ? kq_adopt_confirm(fd, word, entry) : word;
  }
  return word & KQ_FD_UNCONFIRMED ? kq_connect_confirm(fd, word) : word;
}

static void settle_named(long folder, const char *name) {
  int fd = (int)strtol(name, NULL, 10);
  if (fd != folder) {
    settle(fd);
  }
}

void kq_socket_settle_all(void) {
  /* Behind a filter that was there before, which may refuse the list, nothing tells a number that is
     not open from one that may not be asked; what was open then was settled then. */
  if (!kq_proc_list("/proc/self/fd", settle_named) && kq_sandboxed == 0) {
    adopt_blindly(settle);
  }
}
