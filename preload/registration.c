/*
 * kq_preload_register and kq_preload_deregister, see registration.h.
 *
 * What is kept for unconnected sockets is a fixed list without a lock, since close and connect may
 * run in signal handlers. Each place has a key: descriptor, handle, and a state that decides who
 * may touch the name beside it: FILLING belongs to one registering thread, KEPT may be read if the
 * key is the same afterwards.
 */
#include "registration.h"

#include <errno.h>
#include <stddef.h>
#include <string.h>

#include "../c/kqtime_preload.h"
#include "address.h"
#include "note.h"
#include "session.h"
#include "socket.h"
#include "table.h"

/* How long a full ring is waited for. */
#define PATIENCE_NS UINT64_C(100000000)
#define KEPT_MAX 2048u

enum state { FREE = 0, FILLING = 1, KEPT = 2, DYING = 3 };
#define STATE_MASK UINT64_C(0xff)

static uint64_t keys[KEPT_MAX];
static struct name {
  uint32_t bytes; /* KQ_NO_NAME: none */
  uint8_t text[KQ_NAME_MAX];
} names[KEPT_MAX];
static uint32_t keys_high; /* places [0, keys_high) were used at least once */
static uint32_t serial;
uint32_t kq_registrations_kept;

/* Descriptors are below 2^20 (the map's limit). */
static uint64_t key_of(uint32_t handle, int fd, enum state state) {
  return (uint64_t)handle << 32 | (uint64_t)(uint32_t)fd << 8 | (uint64_t)state;
}
static int key_fd(uint64_t key) { return (int)((uint32_t)key >> 8); }
static bool is(uint64_t key, int fd, enum state state) {
  return key_fd(key) == fd && (key & STATE_MASK) == (uint64_t)state;
}

static uint64_t look(uint32_t place) { return __atomic_load_n(&keys[place], __ATOMIC_ACQUIRE); }
static bool swap(uint32_t place, uint64_t from, uint64_t to) {
  return __atomic_compare_exchange_n(&keys[place], &from, to, false, __ATOMIC_ACQ_REL,
                                     __ATOMIC_RELAXED);
}
static uint32_t high(void) { return __atomic_load_n(&keys_high, __ATOMIC_ACQUIRE); }

static void drop(uint32_t place, uint64_t key) {
  if (swap(place, key, FREE)) {
    __atomic_fetch_sub(&kq_registrations_kept, 1, __ATOMIC_RELEASE);
  }
}

static void take_name(struct name *to, const char *name) {
  to->bytes = KQ_NO_NAME;
  if (name != NULL) {
    size_t length = strnlen(name, KQ_NAME_MAX);
    to->bytes = (uint32_t)length;
    memcpy(to->text, name, length);
  }
}

/* Puts the name beside the key that this thread has made FILLING. */
static void fill_place(uint32_t place, uint32_t handle, int fd, const struct name *name) {
  names[place] = *name;
  __atomic_store_n(&keys[place], key_of(handle, fd, KEPT), __ATOMIC_RELEASE);
}

static bool keep(uint32_t handle, int fd, const struct name *name) {
  uint64_t kept = key_of(handle, fd, KEPT);
  uint64_t filling = key_of(handle, fd, FILLING);
  for (uint32_t place = 0, end = high(); place < end; place++) {
    if (look(place) == kept && swap(place, kept, filling)) {
      fill_place(place, handle, fd, name);
      return true;
    }
  }
  for (uint32_t place = 0; place < KEPT_MAX; place++) {
    if (look(place) == FREE && swap(place, FREE, filling)) {
      /* Counted and within the bounds before it is KEPT: who may have to find it looks. */
      __atomic_fetch_add(&kq_registrations_kept, 1, __ATOMIC_ACQ_REL);
      uint32_t end = high();
      while (end <= place && !__atomic_compare_exchange_n(&keys_high, &end, place + 1, true,
                                                          __ATOMIC_ACQ_REL, __ATOMIC_ACQUIRE)) {
      }
      fill_place(place, handle, fd, name);
      return true;
    }
  }
  kq_count_loss(KQ_LOSS_TABLE_FULL);
  return false;
}

/* Reads a name that others may replace meanwhile. */
static bool read_name(uint32_t place, uint64_t key, struct name *name) {
  *name = names[place];
  __atomic_thread_fence(__ATOMIC_ACQUIRE);
  return __atomic_load_n(&keys[place], __ATOMIC_RELAXED) == key;
}

static bool write_records(uint32_t handle, int fd, uint64_t entry, const struct name *name,
                          uint64_t patience_ns) {
  /* With the pid, since a forked child may write into the same ring. */
  uint32_t number = __atomic_add_fetch(&serial, 1, __ATOMIC_RELAXED) ^ kq_session_pid() << 16;
  struct kq_slot record = {.entry = kq_fd_entry(entry),
                           .gen = kq_fd_generation(entry),
                           .fd = fd,
                           .group = number};
  uint32_t length = name->bytes == KQ_NO_NAME ? 0 : name->bytes;
  for (uint32_t at = 0; at < length; at += KQ_TAG_BYTES) {
    uint32_t part = length - at < KQ_TAG_BYTES ? length - at : KQ_TAG_BYTES;
    record.kind = KQ_KIND_NAME;
    record.off = at;
    record.bytes = length;
    memset(record.tag, 0, sizeof record.tag);
    memcpy(record.tag, name->text + at, part);
    if (!kq_put(&record, patience_ns)) {
      return false;
    }
  }
  record.kind = KQ_KIND_REGISTER;
  record.off = handle;
  record.bytes = name->bytes;
  memset(record.tag, 0, sizeof record.tag);
  return kq_put(&record, patience_ns);
}

void kq_registration_write_kept(int fd, uint64_t entry) {
  for (uint32_t place = 0, end = high(); place < end; place++) {
    uint64_t key = look(place);
    struct name name;
    if (is(key, fd, KEPT) && read_name(place, key, &name)) {
      /* In a call of the program's: a full ring is not waited for, but counted. */
      write_records((uint32_t)(key >> 32), fd, entry, &name, 0);
    }
  }
}

void kq_registration_drop_kept(int fd) {
  for (uint32_t place = 0, end = high(); place < end; place++) {
    uint64_t key = look(place);
    if (is(key, fd, KEPT)) {
      drop(place, key);
    }
  }
}

void kq_registration_copy_kept(int from, int to) {
  for (uint32_t place = 0, end = high(); place < end; place++) {
    uint64_t key = look(place);
    struct name name;
    if (is(key, from, KEPT) && (uint32_t)to < kq_fd_limit && read_name(place, key, &name)) {
      keep((uint32_t)(key >> 32), to, &name);
    }
  }
}

void kq_registration_mark_kept(int fd) {
  for (uint32_t place = 0, end = high(); place < end; place++) {
    uint64_t key = look(place);
    if (is(key, fd, KEPT)) {
      swap(place, key, (key & ~STATE_MASK) | DYING);
    }
  }
}

void kq_registration_unmark_kept(int fd, bool died) {
  for (uint32_t place = 0, end = high(); place < end; place++) {
    uint64_t key = look(place);
    if (!is(key, fd, DYING)) {
      continue;
    }
    if (died) {
      drop(place, key);
    } else {
      swap(place, key, (key & ~STATE_MASK) | KEPT);
    }
  }
}

void kq_registration_forget_all(void) {
  for (uint32_t place = 0, end = high(); place < end; place++) {
    uint64_t key = look(place);
    if ((key & STATE_MASK) == KEPT || (key & STATE_MASK) == DYING) {
      drop(place, key);
    }
  }
}

/* What a descriptor is now; asks the kernel where that is not known and may be asked. */
static int find_word(int fd, uint64_t *word) {
  *word = kq_fd_look(fd);
  if ((uint32_t)fd >= kq_fd_limit) {
    return !kq_sandboxed && !kq_fd_open(fd) ? EBADF : EPROTONOSUPPORT;
  }
  if (kq_fd_kind(*word) == KQ_FD_UNKNOWN) {
    if (kq_sandboxed) {
      return EPROTONOSUPPORT;
    }
    enum kq_nature nature = kq_nature_of(fd);
    if (nature != KQ_NATURE_TCP) {
      return nature == KQ_NATURE_CLOSED       ? EBADF
             : nature == KQ_NATURE_NOT_SOCKET ? ENOTSOCK
                                              : EPROTONOSUPPORT;
    }
    *word = kq_socket_adopt(fd);
  } else if (kq_fd_kind(*word) == KQ_FD_TCP_IDLE && !kq_sandboxed) {
    /* Connected by a way without a hook? */
    kq_socket_first_use(fd, *word);
    *word = kq_fd_look(fd);
  }
  if (*word & KQ_FD_UNCONFIRMED) {
    kq_connect_confirm(fd, *word);
    *word = kq_fd_look(fd);
  }
  switch (kq_fd_kind(*word)) {
    case KQ_FD_TCP:
    case KQ_FD_TCP_IDLE:
    case KQ_FD_TCP_LISTEN:
      return 0;
    case KQ_FD_NOT_SOCKET:
      return ENOTSOCK;
    case KQ_FD_DYING:
      return EBADF;
    default:
      return EPROTONOSUPPORT;
  }
}

static int register_connection(uint32_t handle, int fd, uint64_t word, const struct name *name) {
  struct kq_entry *entry = kq_entry_of(word);
  if (entry == NULL) {
    /* The connection has ended, and its end is known: there is nothing left to measure. */
    return 0;
  }
  if (!write_records(handle, fd, word, name, PATIENCE_NS)) {
    return ENOBUFS;
  }
  if (word & KQ_FD_UNCONFIRMED) {
    /* Still being connected: it may get another entry. */
    keep(handle, fd, name);
  }
  return 0;
}

KQ_EXPORT int kq_preload_register(uint32_t handle, int fd, const char *text) {
  if (fd < 0) {
    return EBADF;
  }
  if (kq_fd_limit == 0) {
    return ENOTCONN;
  }
  if (kq_session_foreign()) {
    return EPERM;
  }
  uint64_t word;
  int error = find_word(fd, &word);
  const struct kq_entry *entry =
      error == 0 && kq_fd_kind(word) == KQ_FD_TCP ? kq_entry_of(word) : NULL;
  if (error == 0 && kq_fd_kind(word) == KQ_FD_TCP && !kq_sandboxed &&
      (entry == NULL ? kq_fd_outdated(word)
                     : entry->inode != 0 && entry->inode != kq_inode_of(fd))) {
    /* Closed by a way without a hook, or bound in an earlier session. */
    kq_fd_rebind(fd, word, KQ_FD_UNKNOWN);
    error = find_word(fd, &word);
  }
  if (error != 0) {
    return error;
  }
  struct name name;
  take_name(&name, text);
  if (kq_fd_kind(word) == KQ_FD_TCP) {
    return register_connection(handle, fd, word, &name);
  }
  if (kq_fd_kind(word) == KQ_FD_TCP_LISTEN) {
    /* It moves no bytes itself. */
    return 0;
  }
  if (!keep(handle, fd, &name)) {
    return ENOBUFS;
  }
  /* Another thread may have connected it meanwhile, and not have found what was kept. */
  word = kq_fd_look(fd);
  return kq_fd_kind(word) == KQ_FD_TCP ? register_connection(handle, fd, word, &name) : 0;
}

KQ_EXPORT int kq_preload_deregister(uint32_t handle, int fd) {
  if (fd < 0) {
    return EBADF;
  }
  if (kq_fd_limit == 0) {
    return ENOTCONN;
  }
  if (kq_session_foreign()) {
    return EPERM;
  }
  if ((uint32_t)fd >= kq_fd_limit) {
    return 0;
  }
  for (uint32_t place = 0, end = high(); kq_registration_any() && place < end; place++) {
    if (look(place) == key_of(handle, fd, KEPT)) {
      drop(place, key_of(handle, fd, KEPT));
    }
  }
  uint64_t word = kq_fd_look(fd);
  if (kq_fd_kind(word) != KQ_FD_TCP || kq_entry_of(word) == NULL) {
    return 0;
  }
  struct kq_slot record = {.kind = KQ_KIND_DEREGISTER,
                           .entry = kq_fd_entry(word),
                           .gen = kq_fd_generation(word),
                           .off = handle,
                           .fd = fd};
  return kq_put(&record, PATIENCE_NS) ? 0 : ENOBUFS;
}
