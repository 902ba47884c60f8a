/*
 * Which process this is, and whether it may act: forks (also those without handlers), vfork
 * children on their parent's memory, sandboxes.
 */
#define _GNU_SOURCE
#include "session.h"

#include <sys/mman.h>
#include <unistd.h>

#include "lifetime.h"
#include "memory.h"
#include "note.h"
#include "recorder.h"
#include "sandbox.h"
#include "table.h"

#define RESERVE_SLOTS ((256u << 10) / KQ_SLOT_BYTES)

struct kq_ring *kq_ring;
struct kq_header *kq_table_header;
struct kq_entry *kq_table_entries;
struct kq_identity *kq_identity;

/* The process whose memory this is, as far as fork handlers tell. */
static uint32_t home_pid;

/* The last process that is known to be in the pid namespace of the first: this one, or an ancestor. */
static uint32_t known_pid;

/* A forked child makes its own while it still uses the inherited one, which may be one of these. */
static struct kq_ring own_rings[2];

void kq_count_loss(enum kq_loss reason) {
  struct kq_ring *ring = __atomic_load_n(&kq_ring, __ATOMIC_ACQUIRE);
  if (ring != NULL) {
    __atomic_fetch_add(&ring->header->losses[reason], 1, __ATOMIC_RELAXED);
  }
}

/* Where a sandbox forbids to ask, a forked child goes by its parent's: in records it is only shown. */
static uint32_t ask_pid(void) {
  long pid = KQ_SYS(SYS_getpid);
  return pid > 0 ? (uint32_t)pid : home_pid;
}

uint32_t kq_session_pid_asked(void) {
  uint32_t pid = ask_pid();
  __atomic_store_n(&kq_identity->pid, pid, __ATOMIC_RELAXED);
  return pid;
}

uint64_t kq_session_one_asked(void) {
  uint32_t pid = kq_session_pid();
  /* Across the border of a namespace a child sees another number there, or 0. Behind it the numbers of
     all are others: one that is not sure has no sure children. */
  if (pid != known_pid && known_pid != 0) {
    known_pid = (uint32_t)KQ_SYS(SYS_getppid) == known_pid ? pid : 0;
  }
  /* Nor by its parent's number, which may be the only one that it knows. */
  bool sure = known_pid != 0 && pid == known_pid && !KQ_REFUSED(SYS_getpid);
  uint64_t one = sure ? ((uint64_t)pid << KQ_CALLS_PIDS_SHIFT) + 1 : 1;
  __atomic_store_n(&kq_identity->one, one, __ATOMIC_RELAXED);
  return one;
}

bool kq_session_foreign(void) {
  uint32_t owner = kq_session_pid();
  long pid = KQ_SYS(SYS_getpid);
  /* Below 0: not to be asked, see kq_sandbox_refuses. */
  if (KQ_LIKELY(pid == (long)owner) || pid < 0) {
    return false;
  }
  /* 0: the parent is in another pid namespace. */
  long parent = KQ_SYS(SYS_getppid);
  if (parent == (long)owner || parent <= 0) {
    return true;
  }
  /* A vfork child was the first to ask after a fork without handlers: set right. */
  __atomic_store_n(&kq_identity->pid, (uint32_t)pid, __ATOMIC_RELAXED);
  return false;
}

bool kq_session_stranger(void) {
  return kq_identity != NULL ? kq_session_foreign() : ask_pid() != home_pid;
}

static void at_fork_child(void) {
  home_pid = ask_pid();
  kq_lifetime_forked();
  kq_recorder_forked();
  if (kq_identity == NULL) {
    return;
  }
  __atomic_store_n(&kq_identity->state, KQ_RING_INHERITED, __ATOMIC_RELAXED);
  __atomic_store_n(&kq_identity->pid, home_pid, __ATOMIC_RELAXED);
  if (home_pid == known_pid) {
    /* Its parent's number, in another namespace. */
    known_pid = 0;
  }
  /* Now: its parent may be gone later. */
  kq_session_one_asked();
  if (kq_fd_limit != 0) {
    /* Into the inherited ring: the collector must know of a daemon that has not used a socket. */
    kq_note(KQ_KIND_FORK, 0, 0, -1, 0, 0, true);
  }
}

extern int __register_atfork(void (*prepare)(void), void (*parent)(void), void (*child)(void),
                             void *dso);
extern void *__dso_handle __attribute__((visibility("hidden")));

bool kq_session_watch_forks(void) {
  home_pid = ask_pid();
  return __register_atfork(NULL, NULL, at_fork_child, &__dso_handle) == 0;
}

bool kq_session_identify(void) {
  if (kq_identity == NULL) {
    struct kq_identity *identity = kq_memory_private(sizeof *identity);
    if (identity == NULL) {
      return false;
    }
    /* Where it is not supported (before Linux 4.14), the handler above must do. */
    KQ_SYS(SYS_madvise, identity, sizeof *identity, MADV_WIPEONFORK);
    kq_identity = identity;
  }
  known_pid = (uint32_t)KQ_SYS(SYS_getpid);
  __atomic_store_n(&kq_identity->pid, known_pid, __ATOMIC_RELAXED);
  kq_session_one_asked();
  __atomic_store_n(&kq_identity->state, KQ_RING_READY, __ATOMIC_RELEASE);
  return true;
}

void kq_session_after_fork(void) {
  if (kq_session_foreign()) {
    /* A ring would be the vfork child's, and end with it. */
    return;
  }
  uint32_t expected = KQ_RING_INHERITED;
  if (!__atomic_compare_exchange_n(&kq_identity->state, &expected, KQ_RING_MAKING, false,
                                   __ATOMIC_ACQ_REL, __ATOMIC_RELAXED)) {
    return;
  }
  struct kq_ring *own = kq_ring == &own_rings[0] ? &own_rings[1] : &own_rings[0];
  if (own->header != NULL) {
    /* The grandparent's: nobody here uses it any more. */
    KQ_SYS(SYS_munmap, own->header, kq_ring_bytes(own->mask + 1, 0));
    own->header = NULL;
  }
  kq_session_pid();
  bool heard;
  if (!kq_sandboxed && kq_ring_make(own, NULL, 0, kq_table_header->ring_id, 1, &heard) == 0) {
    __atomic_store_n(&kq_ring, own, __ATOMIC_RELEASE);
  } else {
    kq_count_loss(KQ_LOSS_NO_RING);
  }
  __atomic_store_n(&kq_identity->state, KQ_RING_READY, __ATOMIC_RELEASE);
}

bool kq_session_extend(struct kq_ring *ring, uint32_t position) {
  uint32_t ready = __atomic_load_n(&ring->ready, __ATOMIC_RELAXED);
  while (position >= ready) {
    uint32_t left = ring->mask + 1 - ready;
    uint32_t step = left < RESERVE_SLOTS ? left : RESERVE_SLOTS;
    /* Page by page: slot counts are multiples of 64, and so are both steps. */
    if (!kq_session_reserve(&ring->slots[ready], (uint64_t)step * KQ_SLOT_BYTES)) {
      return false;
    }
    ready += step;
    __atomic_store_n(&ring->ready, ready, __ATOMIC_RELAXED);
  }
  return true;
}

void kq_session_reserve_all(void) {
  if (__atomic_load_n(&kq_identity->state, __ATOMIC_ACQUIRE) == KQ_RING_INHERITED) {
    kq_session_after_fork();
  }
  if (kq_session_reserve(kq_ring->header, kq_ring_bytes(kq_ring->mask + 1, 0))) {
    __atomic_store_n(&kq_ring->ready, kq_ring->mask + 1, __ATOMIC_RELAXED);
  }
  kq_table_reserve_all();
}
