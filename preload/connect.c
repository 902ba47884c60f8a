/*
 * connect(2) and its like. The entry is there before the SYN leaves, so that the collector never
 * meets the packets of a socket that it has not heard of.
 *
 * Linux decides what a second connect() on one socket means (net/ipv4/af_inet.c,
 * __inet_stream_connect): while one is in progress it never sends another SYN, it only reports:
 * EALREADY, then 0 or the error; on a connected socket it is EISCONN.
 *
 * A thread may leave the call by a jump out of a signal handler, or be cancelled in it, and the socket
 * may be used all the same, by another thread even while the call is under way. So its first use, or
 * what connect() reports next, does what the end of the call has not done.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <netinet/in.h>
#include <string.h>

#include "note.h"
#include "registration.h"
#include "sandbox.h"
#include "session.h"
#include "socket.h"
#include "socket_internal.h"

enum mode {
  MODE_NONE,     /* not ours to follow */
  MODE_FRESH,    /* an entry was made */
  MODE_REPORT,   /* the socket has a connection in progress */
  MODE_LATE,     /* the socket has had a connection; an entry is made if this makes another */
  MODE_DISSOLVE  /* AF_UNSPEC */
};

/* A connect() on it has begun and has not reported success. */
#define UNDER_WAY ((uint64_t)(KQ_FD_IN_PROGRESS | KQ_FD_UNCONFIRMED))

static bool copy_peer(struct kq_connect *c, const void *address, socklen_t length) {
  memset(&c->peer, 0, sizeof c->peer);
  c->peer_length = length;
  return address != NULL && length >= sizeof(sa_family_t) && length <= sizeof c->peer &&
         kq_socket_copy(&c->peer, address, length);
}

/* Makes the entry and announces the connection. False if it cannot be measured. */
static bool announce(struct kq_connect *c) {
  struct kq_address peer;
  if (!kq_address_read(&peer, &c->peer, c->peer_length)) {
    return false;
  }
  c->entry = kq_entry_begin(KQ_TYPE_TCP, KQ_ENTRY_CONNECTED, c->fd, c->birth_ns);
  if (c->entry == 0) {
    /* Counted; not to be tried, and counted, again at the first use. */
    kq_fd_bind(c->fd, KQ_FD_UNSUPPORTED);
    return false;
  }
  kq_entry_remote(&kq_table_entries[kq_fd_entry(c->entry)], &peer);
  kq_entry_publish(c->entry, KQ_STATE_CONNECTING);
  kq_fd_bind(c->fd, c->entry | UNDER_WAY);
  kq_note(KQ_KIND_CONNECT, 0, c->entry, c->fd, 0, 0, false);
  kq_registration_connecting(c->fd, c->entry);
  return true;
}

/* Where Linux connects to for "any address": tcp_v4_connect takes the local one, tcp_v6_connect
   loopback, of the family that the socket is bound to. */
static void resolve_any(struct kq_entry *entry) {
  static const uint8_t mapped[16] = {[10] = 0xff, [11] = 0xff};
  static const uint8_t any[16];
  if (memcmp(entry->raddr, mapped, sizeof mapped) == 0) {
    memcpy(entry->raddr, entry->laddr, sizeof entry->raddr);
  } else if (memcmp(entry->raddr, any, sizeof any) == 0) {
    bool four = memcmp(entry->laddr, mapped, 12) == 0;
    struct in_addr loopback = {htonl(INADDR_LOOPBACK)};
    memcpy(entry->raddr, four ? mapped : in6addr_loopback.s6_addr, sizeof entry->raddr);
    if (four) {
      memcpy(entry->raddr + 12, &loopback, sizeof loopback);
    }
  }
}

static void refuse(struct kq_connect *c, uint64_t bound, uint64_t after) {
  kq_note(KQ_KIND_UNBIND, KQ_SLOT_REFUSED, bound & ~(uint64_t)KQ_FD_IN_PROGRESS, c->fd, 0, 0,
          true);
  kq_fd_rebind(c->fd, bound, after);
}

static bool is_connecting(const struct kq_entry *entry) {
  return (__atomic_load_n(&entry->state, __ATOMIC_ACQUIRE) & ((1u << KQ_STATE_BITS) - 1)) ==
         KQ_STATE_CONNECTING;
}

/* The local address is known as soon as the SYN was sent; false if it is not. */
static bool open_entry(struct kq_entry *entry, uint64_t word, int fd, bool finished) {
  struct kq_address peer;
  if (!kq_entry_local(entry, fd) || entry->lport == 0) {
    return false;
  }
  /* A library behind this one may have connected to another place, a proxy. */
  if (finished && kq_address_peer(&peer, fd)) {
    kq_entry_remote(entry, &peer);
  } else {
    resolve_any(entry);
  }
  if (kq_entry_open(word)) {
    kq_note(KQ_KIND_BIRTH, 0, word & ~UNDER_WAY, fd, 0, 0, false);
  }
  return true;
}

static void opened(struct kq_connect *c, bool finished) {
  struct kq_entry *entry = kq_entry_of(c->entry);
  uint64_t after = finished ? c->entry : c->entry | UNDER_WAY;
  if (entry != NULL && !is_connecting(entry)) {
    /* By a thread that used it meanwhile. */
    kq_fd_rebind(c->fd, c->entry | KQ_FD_IN_PROGRESS, c->entry);
    after |= KQ_FD_UNCONFIRMED;
  } else if (entry != NULL && !open_entry(entry, c->entry, c->fd, finished)) {
    kq_count_loss(KQ_LOSS_NO_ADDRESS);
    refuse(c, c->entry | UNDER_WAY, KQ_FD_UNSUPPORTED);
    return;
  }
  kq_fd_rebind(c->fd, c->entry | UNDER_WAY, after);
  if (finished) {
    kq_registration_connected(c->fd);
  }
}

/* An entry in place of that of `word`, whose addresses were published and may not change. */
static uint64_t replace(int fd, uint64_t word, const struct kq_entry *old,
                        const struct kq_address *peer) {
  uint64_t entry = kq_entry_begin(KQ_TYPE_TCP, KQ_ENTRY_CONNECTED, fd, old->birth_ns);
  if (entry == 0) {
    return word;
  }
  if (!kq_entry_local(&kq_table_entries[kq_fd_entry(entry)], fd)) {
    kq_entry_drop(entry);
    return word;
  }
  kq_entry_remote(&kq_table_entries[kq_fd_entry(entry)], peer);
  uint64_t fresh = entry | (word & KQ_FD_IN_PROGRESS);
  uint64_t bound = kq_fd_rebind(fd, word, fresh);
  if (bound != fresh) {
    kq_entry_drop(entry);
    return kq_fd_has_entry(bound) ? bound : word;
  }
  kq_note(KQ_KIND_UNBIND, KQ_SLOT_REFUSED, word, fd, 0, 0, false);
  kq_entry_publish(entry, KQ_STATE_OPEN);
  kq_note(KQ_KIND_BIRTH, 0, entry, fd, 0, 0, false);
  kq_registration_connecting(fd, entry);
  kq_registration_connected(fd);
  return fresh;
}

uint64_t kq_connect_confirm(int fd, uint64_t word) {
  struct kq_entry *entry = kq_entry_of(word);
  struct kq_address peer;
  if (entry != NULL && (entry->flags & KQ_ENTRY_ADOPTED) != 0 && !kq_session_foreign()) {
    return kq_adopt_confirm(fd, word, entry);
  }
  if (entry == NULL || kq_session_foreign()) {
    return word;
  }
  if (is_connecting(entry)) {
    open_entry(entry, word, fd, true);
  }
  if (!kq_address_peer(&peer, fd)) {
    if (KQ_REFUSED(SYS_getpeername, fd)) {
      /* Nor later: it is where it was sent. */
      kq_fd_rebind(fd, word, word & ~(uint64_t)KQ_FD_UNCONFIRMED);
      kq_registration_connected(fd);
    }
    return word;
  }
  if (entry->rport == peer.port && memcmp(entry->raddr, peer.bytes, sizeof peer.bytes) == 0) {
    kq_fd_rebind(fd, word, word & ~(uint64_t)KQ_FD_UNCONFIRMED);
    kq_registration_connected(fd);
    return word;
  }
  return replace(fd, word, entry, &peer);
}

void kq_connect_begin(struct kq_connect *c, int fd, const void *address, socklen_t length) {
  c->mode = MODE_NONE;
  c->fd = fd;
  c->word = kq_fd_look(fd);
  if (kq_fd_ignored(c->word) || kq_session_foreign()) {
    return;
  }
  if (kq_fd_kind(c->word) == KQ_FD_UNKNOWN) {
    c->word = kq_socket_first_use(fd, c->word);
  }
  if (kq_fd_kind(c->word) != KQ_FD_TCP && kq_fd_kind(c->word) != KQ_FD_TCP_IDLE) {
    return;
  }
  if (!copy_peer(c, address, length)) {
    return;
  }
  c->birth_ns = kq_now_ns();
  if (c->peer.ss_family == AF_UNSPEC) {
    c->mode = MODE_DISSOLVE;
  } else if (kq_fd_kind(c->word) == KQ_FD_TCP) {
    c->mode = c->word & KQ_FD_IN_PROGRESS ? MODE_REPORT : MODE_LATE;
  } else if (announce(c)) {
    c->mode = MODE_FRESH;
  }
}

void kq_fastopen_begin(struct kq_connect *c, int fd, const void *address, socklen_t length) {
  kq_connect_begin(c, fd, address, length);
  if (c->mode != MODE_FRESH) {
    /* On a connected socket the flag means nothing, and AF_UNSPEC does not dissolve. */
    c->mode = MODE_NONE;
  }
}

static bool under_way(long result, int error) {
  return result >= 0 || error == EINPROGRESS || error == EINTR;
}

static void end_fresh(struct kq_connect *c, long result, int error) {
  if (under_way(result, error)) {
    opened(c, result >= 0);
  } else if (error == EISCONN || error == EALREADY) {
    /* Connected behind our back: the next use finds out. */
    refuse(c, c->entry | UNDER_WAY, KQ_FD_UNKNOWN);
  } else {
    refuse(c, c->entry | UNDER_WAY, KQ_FD_TCP_IDLE);
  }
}

static void end_report(struct kq_connect *c, long result, int error) {
  if (result >= 0 || error == EISCONN) {
    uint64_t word = c->word & ~(uint64_t)KQ_FD_IN_PROGRESS;
    if (kq_fd_rebind(c->fd, c->word, word) == word && (word & KQ_FD_UNCONFIRMED) != 0) {
      kq_connect_confirm(c->fd, word);
    }
  } else if (error != EALREADY && error != EINPROGRESS && error != EINTR && error != EFAULT &&
             error != EINVAL && error != EAFNOSUPPORT) {
    refuse(c, c->word, KQ_FD_TCP_IDLE);
  }
}

void kq_connect_end(struct kq_connect *c, long result, int error) {
  switch (c->mode) {
    case MODE_FRESH:
      end_fresh(c, result, error);
      break;
    case MODE_REPORT:
      end_report(c, result, error);
      break;
    case MODE_LATE:
      if (under_way(result, error)) {
        kq_note(KQ_KIND_UNBIND, 0, c->word, c->fd, 0, 0, true);
        kq_fd_bind(c->fd, KQ_FD_TCP_IDLE);
        if (announce(c)) {
          opened(c, result >= 0);
        }
      }
      break;
    case MODE_DISSOLVE:
      if (result == 0 && kq_fd_kind(c->word) == KQ_FD_TCP) {
        kq_note(KQ_KIND_UNBIND, 0, c->word & ~(uint64_t)KQ_FD_IN_PROGRESS, c->fd, 0, 0, true);
        kq_fd_rebind(c->fd, c->word, KQ_FD_TCP_IDLE);
      }
      break;
    default:
      break;
  }
}
