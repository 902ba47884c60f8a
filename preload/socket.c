/* First use, birth and adoption of sockets, see socket.h. connect.c and death.c hold the rest. */
#define _GNU_SOURCE
#include "socket.h"

#include <errno.h>
#include <netinet/tcp.h>
#include <string.h>

#include "address.h"
#include "clock.h"
#include "note.h"
#include "registration.h"
#include "session.h"
#include "socket_internal.h"

#define PAGE_BYTES 4096u

/* The kernel reads eight bytes there before it notices that the request makes no sense. Behind a
   filter that forbids this call a caller's bad address crashes here, instead of giving EFAULT. */
static bool readable(const void *at) {
  return KQ_SYS(SYS_rt_sigprocmask, ~0UL, at, NULL, 8) != -EFAULT;
}

bool kq_socket_readable(const void *from, size_t length) {
  const uint8_t *at = from;
  for (; length > PAGE_BYTES; at += PAGE_BYTES, length -= PAGE_BYTES) {
    if (!readable(at)) {
      return false;
    }
  }
  return readable(at) && readable(at + (length > 8 ? length - 8 : 0));
}

bool kq_socket_copy(void *to, const void *from, size_t length) {
  if (!kq_socket_readable(from, length)) {
    return false;
  }
  memcpy(to, from, length);
  return true;
}

bool kq_entry_local(struct kq_entry *entry, int fd) {
  struct kq_address local;
  if (!kq_address_local(&local, fd)) {
    return false;
  }
  memcpy(entry->laddr, local.bytes, sizeof entry->laddr);
  entry->lport = local.port;
  entry->family = local.family;
  return true;
}

void kq_entry_remote(struct kq_entry *entry, const struct kq_address *peer) {
  memcpy(entry->raddr, peer->bytes, sizeof entry->raddr);
  entry->rport = peer->port;
  if (entry->family == 0) {
    entry->family = peer->family;
  }
}

/* Takes an entry and fills what every birth knows. */
uint64_t kq_entry_begin(enum kq_type type, uint16_t flags, int fd, uint64_t birth_ns) {
  uint64_t word = kq_entry_take(type);
  if (word != 0) {
    struct kq_entry *entry = &kq_table_entries[kq_fd_entry(word)];
    entry->flags = flags;
    entry->birth_ns = birth_ns;
    entry->inode = kq_inode_of(fd);
    entry->birth_pid = kq_session_pid();
    entry->birth_fd = fd;
  }
  return word;
}

/* A socket that is not measured, for it cannot be found on the wire. */
static uint64_t without_address(int fd, uint64_t word) {
  kq_count_loss(KQ_LOSS_NO_ADDRESS);
  return kq_fd_rebind(fd, word, KQ_FD_UNSUPPORTED);
}

uint64_t kq_adopt_tcp(int fd, uint64_t word, uint64_t marks) {
  struct kq_address peer;
  if (!kq_address_peer(&peer, fd)) {
    return without_address(fd, word);
  }
  /* Another descriptor of it may be known: inetd gives one socket as 0, 1 and 2. */
  uint64_t known = kq_entry_find(kq_inode_of(fd));
  if (known != 0 && kq_fd_kind(known) == KQ_FD_TCP) {
    return kq_fd_rebind(fd, word, known | marks);
  }
  uint16_t flags = KQ_ENTRY_ADOPTED | (marks == 0 ? KQ_ENTRY_FIRST_USE : 0);
  uint64_t fresh = kq_entry_begin(KQ_TYPE_TCP, flags, fd, kq_now_ns());
  if (fresh == 0) {
    return kq_fd_rebind(fd, word, KQ_FD_UNSUPPORTED);
  }
  struct kq_entry *entry = &kq_table_entries[kq_fd_entry(fresh)];
  if (!kq_entry_local(entry, fd)) {
    kq_entry_drop(fresh);
    return without_address(fd, word);
  }
  kq_entry_remote(entry, &peer);
  entry->queued_out = kq_unsent_bytes(fd);
  entry->queued_in = kq_unread_bytes(fd);
  if (kq_low_water(fd) > 1) {
    entry->flags |= KQ_ENTRY_WAITS;
  }
  if (kq_tcp_counts(fd, &entry->sent_before, &entry->read_before)) {
    entry->flags |= KQ_ENTRY_COUNTED;
  }
  uint64_t bound = kq_fd_rebind(fd, word, fresh | marks);
  if (bound != (fresh | marks)) {
    kq_entry_drop(fresh);
    return bound;
  }
  kq_entry_publish(fresh, KQ_STATE_OPEN);
  kq_note(KQ_KIND_BIRTH, 0, fresh, fd, 0, 0, false);
  return bound;
}

static uint64_t begin_udp(int fd, uint64_t word) {
  uint64_t fresh = kq_entry_begin(KQ_TYPE_UDP, 0, fd, kq_now_ns());
  if (fresh == 0) {
    return kq_fd_rebind(fd, word, KQ_FD_UNSUPPORTED);
  }
  struct kq_entry *entry = &kq_table_entries[kq_fd_entry(fresh)];
  struct kq_address peer;
  kq_entry_local(entry, fd);
  if (kq_address_peer(&peer, fd)) {
    kq_entry_remote(entry, &peer);
  }
  uint64_t bound = kq_fd_rebind(fd, word, fresh);
  if (bound != fresh) {
    kq_entry_drop(fresh);
    return bound;
  }
  kq_entry_publish(fresh, KQ_STATE_OPEN);
  kq_note(KQ_KIND_BIRTH, 0, fresh, fd, 0, 0, false);
  return fresh;
}

static uint64_t classify_tcp(int fd, uint64_t word) {
  struct kq_address peer;
  switch (kq_tcp_state(fd)) {
    case 0:
      /* Not to be asked: an idle one is that still, or has a peer. */
      if (kq_fd_kind(word) == KQ_FD_TCP_IDLE && !kq_address_peer(&peer, fd)) {
        return KQ_FD_UNSUPPORTED;
      }
      return kq_adopt_tcp(fd, word, 0);
    case TCP_CLOSE:
      return kq_fd_rebind(fd, word, KQ_FD_TCP_IDLE);
    case TCP_LISTEN:
      /* The caller announces it when it accepts. */
      return KQ_FD_TCP_IDLE;
    case TCP_SYN_SENT:
      /* Its peer is not told yet: asked again at the next use. */
      return KQ_FD_TCP_IDLE;
    default:
      return kq_adopt_tcp(fd, word, 0);
  }
}

/* Tells that it is not measured, once. */
static void note_other(int fd, int domain, int protocol) {
  kq_note(KQ_KIND_OTHER, 0, 0, fd, (uint64_t)protocol, (uint32_t)domain, false);
}

static uint64_t classify_other(int fd, uint64_t word) {
  uint64_t bound = kq_fd_rebind(fd, word, KQ_FD_UNSUPPORTED);
  int domain = 0;
  int protocol = 0;
  if (kq_is_other_socket(fd, &domain, &protocol)) {
    note_other(fd, domain, protocol);
  }
  return bound;
}

uint64_t kq_socket_first_use(int fd, uint64_t word) {
  if (kq_fd_ignored(word) || kq_fd_kind(word) == KQ_FD_TCP_LISTEN || kq_session_foreign()) {
    return KQ_FD_UNSUPPORTED;
  }
  if (kq_fd_kind(word) == KQ_FD_UDP_IDLE) {
    return begin_udp(fd, word);
  }
  if (kq_fd_kind(word) == KQ_FD_TCP_IDLE) {
    /* Connected by a way without a hook, or about to fail. */
    return classify_tcp(fd, word);
  }
  switch (kq_nature_of(fd)) {
    case KQ_NATURE_TCP:
      return classify_tcp(fd, word);
    case KQ_NATURE_UDP:
      return begin_udp(fd, word);
    case KQ_NATURE_NOT_SOCKET:
      return kq_fd_rebind(fd, word, KQ_FD_NOT_SOCKET);
    case KQ_NATURE_OTHER:
      return classify_other(fd, word);
    case KQ_NATURE_SECRET:
      /* Maybe no socket at all. */
      return without_address(fd, word);
    default:
      return KQ_FD_UNSUPPORTED;
  }
}

void kq_socket_born(int fd, int domain, int type, int protocol) {
  if (fd < 0 || kq_fd_limit == 0 || kq_session_foreign()) {
    return;
  }
  enum kq_nature nature = kq_nature_from(domain, type, protocol);
  if ((uint32_t)fd >= kq_fd_limit) {
    if (nature == KQ_NATURE_TCP) {
      kq_count_loss(KQ_LOSS_FD_RANGE);
    }
    return;
  }
  kq_registration_reborn(fd);
  kq_fd_bind(fd, nature == KQ_NATURE_TCP   ? KQ_FD_TCP_IDLE
                 : nature == KQ_NATURE_UDP ? KQ_FD_UDP_IDLE
                                           : KQ_FD_UNSUPPORTED);
  if (nature == KQ_NATURE_OTHER && kq_is_other(domain, protocol)) {
    note_other(fd, domain, protocol);
  }
}

void kq_announce_listener(int fd, uint64_t word, int backlog) {
  struct kq_address local;
  uint16_t port = kq_address_local(&local, fd) ? local.port : 0;
  kq_fd_rebind(fd, word, KQ_FD_TCP_LISTEN);
  kq_note(KQ_KIND_LISTEN, 0, 0, fd, port, backlog > 0 ? (uint32_t)backlog : 0, false);
}

void kq_listen_hook(int fd, int backlog) {
  uint64_t word = kq_fd_look(fd);
  if (kq_fd_ignored(word) || kq_session_foreign()) {
    return;
  }
  if (kq_fd_kind(word) == KQ_FD_UNKNOWN) {
    if (kq_nature_of(fd) != KQ_NATURE_TCP) {
      return;
    }
  } else if (kq_fd_kind(word) != KQ_FD_TCP_IDLE && kq_fd_kind(word) != KQ_FD_TCP_LISTEN) {
    return;
  }
  kq_announce_listener(fd, word, backlog);
}

uint64_t kq_find_listener(int fd) {
  uint64_t word = kq_fd_look(fd);
  if (kq_fd_ignored(word) || kq_fd_kind(word) == KQ_FD_TCP_LISTEN) {
    return word;
  }
  /* Inherited, or listening since a call without a hook. */
  if (kq_fd_kind(word) == KQ_FD_UNKNOWN) {
    enum kq_nature nature = kq_nature_of(fd);
    if (nature == KQ_NATURE_OTHER) {
      kq_fd_rebind(fd, word, KQ_FD_UNSUPPORTED);
      return KQ_FD_UNSUPPORTED;
    }
    if (nature != KQ_NATURE_TCP) {
      return word;
    }
  }
  if (kq_tcp_state(fd) == TCP_LISTEN) {
    kq_announce_listener(fd, word, 0);
    return KQ_FD_TCP_LISTEN;
  }
  return word;
}

void kq_accept_begin(struct kq_accept *a, int fd, const void *address, const socklen_t *length) {
  a->measuring = kq_fd_limit != 0 && !kq_session_foreign();
  a->listener = a->measuring ? kq_find_listener(fd) : KQ_FD_UNSUPPORTED;
  bool measured = kq_fd_kind(a->listener) == KQ_FD_TCP_LISTEN;
  a->own = measured && address == NULL;
  a->room = a->own ? sizeof(struct sockaddr_storage) : 0;
  if (measured && !a->own && length != NULL &&
      !kq_socket_copy(&a->room, length, sizeof a->room)) {
    a->room = 0;
  }
}

/* Binds an accepted socket of which only the descriptor is known. */
static void accept_unmeasured(const struct kq_accept *a, int fd) {
  if (kq_fd_ignored(a->listener)) {
    kq_fd_bind(fd, KQ_FD_UNSUPPORTED);
  } else {
    kq_fd_bind(fd, KQ_FD_UNKNOWN);
  }
}

void kq_accept_end(struct kq_accept *a, int fd, const struct sockaddr *peer,
                   const socklen_t *length) {
  if (fd < 0 || !a->measuring) {
    return;
  }
  uint64_t birth_ns = kq_now_ns();
  if ((uint32_t)fd >= kq_fd_limit) {
    kq_count_loss(KQ_LOSS_FD_RANGE);
    return;
  }
  kq_registration_reborn(fd);
  if (kq_fd_kind(a->listener) != KQ_FD_TCP_LISTEN) {
    accept_unmeasured(a, fd);
    return;
  }
  struct kq_address remote;
  /* A buffer of the caller may have been too short. A peer that has reset already has no name,
     a sandbox may deny it: then it must do. */
  bool known = !a->own && kq_address_peer(&remote, fd);
  if (!known && peer != NULL) {
    struct sockaddr_storage copy;
    memset(&copy, 0, sizeof copy);
    /* Once: another thread of the caller may change it. */
    socklen_t told = __atomic_load_n(length, __ATOMIC_RELAXED);
    told = told < a->room ? told : a->room;
    memcpy(&copy, peer, told < sizeof copy ? told : sizeof copy);
    known = kq_address_read(&remote, &copy, told);
  }
  uint64_t word = known ? kq_entry_begin(KQ_TYPE_TCP, KQ_ENTRY_ACCEPTED, fd, birth_ns) : 0;
  struct kq_entry *entry = &kq_table_entries[kq_fd_entry(word)];
  if (word != 0 && !kq_entry_local(entry, fd)) {
    kq_entry_drop(word);
    known = false;
  }
  if (!known) {
    kq_count_loss(KQ_LOSS_NO_ADDRESS);
  }
  if (!known || word == 0) {
    kq_fd_bind(fd, KQ_FD_UNSUPPORTED);
    return;
  }
  kq_entry_remote(entry, &remote);
  kq_entry_publish(word, KQ_STATE_OPEN);
  kq_fd_bind(fd, word);
  kq_note(KQ_KIND_BIRTH, 0, word, fd, 0, 0, false);
}
