/*
 * The beginning and the end of measuring in this process: at its start when the environment names
 * a session, or at any time, and again, by kq_preload_join and kq_preload_leave.
 *
 * Hooks run meanwhile in other threads, and one that began in a session may end long after it, or
 * in the next one. They ask for nothing more than kq_fd_limit, so everything else is arranged
 * around that:
 *
 * - kq_fd_limit is published last when a session begins (a release, which kq_fd_look pairs with),
 *   and set to 0 first when one ends: from then on a hook costs its branch.
 * - The addresses of a session stay mapped. What is shared is left as it is, for the collector and
 *   for forked processes that go on measuring; in its place this process gets private memory: a
 *   ring that is always full, and a socket table that keeps the count of calls that are still under
 *   way. When there is none, a later session may have the place, but not the next one.
 * - A call that was under way at the end and ends in a later session finds its word outdated and
 *   writes no record; what else is late writes into a ring that is always full.
 * - Tables only grow from session to session and each session numbers its generations for itself
 *   (table.h), so that a word of an earlier one is recognized, and an index is never out of range.
 */
#define _GNU_SOURCE
#include "lifetime.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <time.h>

#include "../c/kqtime_preload.h"
#include "clock.h"
#include "headroom.h"
#include "memory.h"
#include "real.h"
#include "registration.h"
#include "session.h"
#include "socket.h"
#include "table.h"
#include "unheard.h"

#define FD_LIMIT_MAX (1u << 20)
/* A full backlog of the collector is waited for at the start only, this long at most, ms, and not at
   all while the word of one who did so in vain is unread: then the collector stands still. */
#define CONNECT_TRIES 50
/* Joining or leaving in another thread is waited for so long. */
#define LOCK_TRIES 1000
#define LOCK_PAUSE_NS 1000000L
/* A record that another thread is just writing is waited for so long. */
#define COMMIT_TRIES 20

/* The memory of a session's first ring and its table. */
struct range {
  struct kq_ring ring;
  uint64_t bytes;
  uint32_t entry_count;
  uint32_t entry_high; /* at the end of its session: entries that calls may still be in */
  uint32_t session;    /* the last one that had it */
};
#define RANGES 8u
static struct range ranges[RANGES];
static struct range *current; /* of a session that this process has joined, and no other */

static uint32_t sessions; /* that began in this process or in an ancestor */
static uint32_t entries_largest = KQ_ENTRIES_MIN;
static uint32_t fds; /* descriptors that the map holds */
static uint64_t *fd_map;

/* Whether a thread joins or leaves. */
static uint32_t locked;

/* Takes no record: its header says that it is full. */
static struct kq_header full_header = {.tail = UINT32_MAX};
static struct kq_slot full_slot;
static struct kq_ring full_ring = {
    .header = &full_header, .slots = &full_slot, .mask = 0, .ready = 1, .silent = UINT32_MAX};

static uint32_t table_size(void) {
  uint32_t entries = kq_collector.slot_count / 4;
  entries = entries < KQ_ENTRIES_MIN ? KQ_ENTRIES_MIN : entries;
  entries = entries > KQ_ENTRIES_MAX ? KQ_ENTRIES_MAX : entries;
  if (entries > entries_largest) {
    entries_largest = entries;
  }
  return entries_largest;
}

static bool valid_slots(unsigned long count) {
  return count >= KQ_SLOTS_MIN && count <= KQ_SLOTS_MAX && (count & (count - 1)) == 0;
}

/* Names the collector; false if that cannot be one. */
static bool name_collector(const char *path, const char *hex) {
  struct kq_collector *to = &kq_collector;
  if (path == NULL || path[0] == '\0' || strlen(path) >= sizeof to->address.sun_path) {
    return false;
  }
  memset(&to->address, 0, sizeof to->address);
  to->address.sun_family = AF_UNIX;
  memcpy(to->address.sun_path, path, strlen(path) + 1);
  memset(to->token, 0, sizeof to->token);
  if (hex != NULL) {
    size_t length = strlen(hex);
    memcpy(to->token, hex, length < sizeof to->token ? length : sizeof to->token);
  }
  return true;
}

/* The map, made once: as large as descriptors can become. */
static bool make_map(void) {
  if (fd_map != NULL) {
    return true;
  }
  struct rlimit files = {0, FD_LIMIT_MAX};
  KQ_SYS(SYS_prlimit64, 0, RLIMIT_NOFILE, NULL, &files);
  fds = files.rlim_max < FD_LIMIT_MAX ? (uint32_t)files.rlim_max : FD_LIMIT_MAX;
  uint64_t *map = kq_memory_private((uint64_t)fds * sizeof *map);
  if (map == NULL) {
    return false;
  }
  fd_map = map;
  return true;
}

static bool in_use(const struct kq_entry *entry) {
  return ((__atomic_load_n(&entry->out.calls, __ATOMIC_RELAXED) |
           __atomic_load_n(&entry->in.calls, __ATOMIC_RELAXED)) &
          KQ_CALLS_ACTIVE_MASK) != 0;
}

static struct kq_entry *table_of(const struct range *range) {
  return (struct kq_entry *)(range->ring.slots + range->ring.mask + 1);
}

static bool idle(const struct range *range) {
  for (uint32_t index = 0; index < range->entry_high; index++) {
    if (in_use(&table_of(range)[index])) {
      return false;
    }
  }
  return true;
}

/* Where the memory of a new session goes: a place that has been one of the same size, or new. */
static struct range *choose_range(uint64_t bytes) {
  struct range *fresh = NULL;
  struct range *oldest = NULL;
  for (uint32_t index = 0; index < RANGES; index++) {
    struct range *range = &ranges[index];
    if (range->bytes == 0) {
      fresh = fresh != NULL ? fresh : range;
    } else if (range->bytes == bytes && range->session + 1 != sessions &&
               range->ring.mask + 1 == kq_collector.slot_count && idle(range)) {
      return range;
    } else if (oldest == NULL || range->session < oldest->session) {
      oldest = range;
    }
  }
  if (fresh == NULL) {
    /* Calls that never end hold them all, or other sizes. The memory of one is forgotten: its
       addresses stay taken. */
    fresh = oldest;
    fresh->bytes = 0;
  }
  return fresh;
}

/* 0 or an errno; *heard: the collector knows of it either way. */
static int start_session(bool *heard) {
  *heard = false;
  if (!make_map() || !kq_session_identify()) {
    return ENOMEM;
  }
  kq_collector.slot_count = kq_headroom_slots(kq_collector.slot_count);
  uint32_t entries = table_size();
  uint64_t bytes = kq_ring_bytes(kq_collector.slot_count, entries);
  struct range *range = choose_range(bytes);
  void *at = range->bytes != 0 ? range->ring.header : NULL;
  long result = kq_ring_make(&range->ring, at, entries, 0, CONNECT_TRIES, heard);
  if (result != 0) {
    return (int)-result;
  }
  range->bytes = bytes;
  range->entry_count = entries;
  range->entry_high = 0;
  range->session = sessions;
  /* In this order: who sees the new header sees the new table (kq_entry_take). */
  __atomic_store_n(&kq_table_entries, table_of(range), __ATOMIC_RELEASE);
  __atomic_store_n(&kq_table_header, range->ring.header, __ATOMIC_RELEASE);
  __atomic_store_n(&kq_ring, &range->ring, __ATOMIC_RELEASE);
  current = range;
  kq_table_start(fd_map, fds, sessions++);
  return 0;
}

static bool lock(void) {
  for (int tries = 0; tries < LOCK_TRIES; tries++) {
    uint32_t expected = 0;
    if (__atomic_compare_exchange_n(&locked, &expected, 1, false, __ATOMIC_ACQUIRE,
                                    __ATOMIC_RELAXED)) {
      return true;
    }
    struct timespec pause = {0, LOCK_PAUSE_NS};
    KQ_SYS(SYS_nanosleep, &pause, NULL);
  }
  return false;
}

static void unlock(void) { __atomic_store_n(&locked, 0, __ATOMIC_RELEASE); }

KQ_EXPORT uint32_t kq_preload_version(void) { return KQ_PRELOAD_VERSION; }

KQ_EXPORT int kq_preload_attached(void) {
  return __atomic_load_n(&kq_fd_limit, __ATOMIC_ACQUIRE) != 0;
}

static int join(const char *path, const char *token, uint32_t slots) {
  if (kq_fd_limit != 0) {
    return EEXIST;
  }
  if (!name_collector(path, token) || !valid_slots(slots)) {
    return EINVAL;
  }
  kq_collector.slot_count = slots;
  kq_real_find_wrappers();
  kq_clock_find();
  /* Who asked is told. */
  bool heard;
  int error = start_session(&heard);
  if (error == 0) {
    /* With the hooks on: a socket that is closed while it is looked at is not bound for good. */
    kq_socket_adopt_all();
  }
  return error;
}

KQ_EXPORT int kq_preload_join(const char *path, const char *token, uint32_t slots) {
  if (kq_sandboxed || (kq_identity != NULL && kq_session_foreign())) {
    return EPERM;
  }
  if (!lock()) {
    return EBUSY;
  }
  int error = join(path, token, slots);
  unlock();
  return error;
}

/* Whether all that was claimed in the ring is written. */
static bool committed(const struct kq_ring *ring) {
  uint32_t head = __atomic_load_n(&ring->header->head, __ATOMIC_ACQUIRE);
  uint32_t index = __atomic_load_n(&ring->header->tail, __ATOMIC_RELAXED);
  for (uint32_t looked = 0; index != head && looked <= ring->mask; looked++, index++) {
    const struct kq_slot *slot = &ring->slots[index & ring->mask];
    if (__atomic_load_n(&slot->commit, __ATOMIC_RELAXED) != index + 1 &&
        __atomic_load_n(&slot->retired, __ATOMIC_RELAXED) == 0) {
      return false;
    }
  }
  return true;
}

static uint64_t active_of(const struct kq_direction *direction) {
  return __atomic_load_n(&direction->calls, __ATOMIC_RELAXED) & KQ_CALLS_ACTIVE_MASK;
}

/* Entries of a ring's table that were ever used. */
static uint32_t high_of(const struct kq_header *header, uint32_t entries) {
  uint32_t high = __atomic_load_n(&header->entry_high, __ATOMIC_RELAXED);
  return high < entries ? high : entries;
}

/*
 * Puts private memory in the place of a ring, which holds a table of `entries`. Where that cannot
 * be had it stays until a later session gets the place. Returns how many entries calls may be in.
 *
 * A thread that is late may still claim a slot in the old memory and fill it in the new one. The
 * collector waits for that slot for a moment and gives it up, as it does where a thread or a process
 * has died there: counted as a bad record.
 */
static uint32_t let_go(const struct kq_ring *ring, uint32_t entries) {
  for (int tries = 0; tries < COMMIT_TRIES && !committed(ring); tries++) {
    struct timespec pause = {0, LOCK_PAUSE_NS};
    KQ_SYS(SYS_nanosleep, &pause, NULL);
  }
  uint32_t slots = ring->mask + 1;
  uint64_t bytes = kq_ring_bytes(slots, entries);
  uint64_t table = kq_ring_bytes(slots, 0);
  struct kq_header *header = kq_memory_private(bytes);
  if (header == NULL) {
    return high_of(ring->header, entries);
  }
  /* Full, and without a free entry. */
  header->tail = 0u - slots;
  header->slot_count = slots;
  /* The old memory at a second place (mremap(2): an old size of 0). Calls that begin and end while
     counts are copied are seen there when no more can. */
  long twin = KQ_SYS(SYS_mremap, ring->header, 0, bytes, MREMAP_MAYMOVE);
  bool seen = twin >= 0 || twin < -4095;
  const struct kq_header *old = seen ? (const struct kq_header *)twin : ring->header;
  const struct kq_entry *from = (const struct kq_entry *)((const uint8_t *)old + table);
  struct kq_entry *to = (struct kq_entry *)((uint8_t *)header + table);
  uint32_t high = high_of(old, entries);
  for (uint32_t index = 0; index < high; index++) {
    if (in_use(&from[index])) {
      /* What was copied is kept beside it, in fields that mean nothing there. */
      to[index].queued_out = (uint32_t)(to[index].out.calls = active_of(&from[index].out));
      to[index].queued_in = (uint32_t)(to[index].in.calls = active_of(&from[index].in));
    }
  }
  /* At one stroke: threads that still use the old memory go on in the new one. */
  long moved = KQ_SYS(SYS_mremap, header, bytes, bytes, MREMAP_MAYMOVE | MREMAP_FIXED,
                      ring->header);
  if (moved < 0 && moved >= -4095) {
    KQ_SYS(SYS_munmap, header, bytes);
  } else if (seen) {
    struct kq_entry *here = (struct kq_entry *)((uint8_t *)ring->header + table);
    high = high_of(old, entries);
    for (uint32_t index = 0; index < high; index++) {
      uint64_t more_out = active_of(&from[index].out) - here[index].queued_out;
      uint64_t more_in = active_of(&from[index].in) - here[index].queued_in;
      if ((more_out | more_in) != 0) {
        __atomic_add_fetch(&here[index].out.calls, more_out, __ATOMIC_RELAXED);
        __atomic_add_fetch(&here[index].in.calls, more_in, __ATOMIC_RELAXED);
      }
    }
  }
  if (seen) {
    KQ_SYS(SYS_munmap, twin, bytes);
  }
  return high;
}

static void leave(void) {
  const struct kq_ring *ring = kq_ring;
  struct range *range = current;
  __atomic_store_n(&kq_fd_limit, 0, __ATOMIC_SEQ_CST);
  __atomic_store_n(&kq_ring, &full_ring, __ATOMIC_SEQ_CST);
  kq_registration_forget_all();
  current = NULL;
  if (kq_sandboxed) {
    /* There is no later session, and the filter may not expect what follows. */
    return;
  }
  if (range != NULL) {
    range->entry_high = let_go(&range->ring, range->entry_count);
  }
  if (range == NULL || ring != &range->ring) {
    /* A forked child's own. */
    let_go(ring, 0);
  }
  KQ_SYS(SYS_madvise, fd_map, (uint64_t)fds * sizeof *fd_map, MADV_DONTNEED);
}

KQ_EXPORT void kq_preload_leave(void) {
  if (kq_fd_limit == 0 || kq_session_foreign() || !lock()) {
    return;
  }
  if (kq_fd_limit != 0) {
    leave();
  }
  unlock();
}

void kq_lifetime_forked(void) {
  if (__atomic_load_n(&locked, __ATOMIC_RELAXED) == 0) {
    return;
  }
  __atomic_store_n(&kq_fd_limit, 0, __ATOMIC_RELAXED);
  if (kq_ring != NULL) {
    kq_ring = &full_ring;
  }
  current = NULL;
  unlock();
}

static bool read_environment(void) {
  const char *slots = secure_getenv(KQ_ENV_SLOTS);
  if (!name_collector(secure_getenv(KQ_ENV_SOCKET), secure_getenv(KQ_ENV_TOKEN))) {
    return false;
  }
  unsigned long count = slots != NULL ? strtoul(slots, NULL, 10) : 0;
  if (valid_slots(count)) {
    kq_collector.slot_count = (uint32_t)count;
  }
  return true;
}

__attribute__((constructor)) static void kq_constructor(void) {
  int saved = errno;
  kq_real_resolve();
  if (kq_session_watch_forks() && kq_fd_limit == 0 && read_environment()) {
    kq_real_find_wrappers();
    kq_clock_find();
    bool heard;
    if (start_session(&heard) != 0 && !heard) {
      kq_unheard_tell();
    }
  }
  errno = saved;
}
