/* Begin, end and record of a call, see recorder.h. */
#define _GNU_SOURCE
#include "recorder.h"

#include <netinet/tcp.h>
#include <string.h>

#include "address.h"
#include "real.h"
#include "socket.h"

#define ACTIVE_MASK UINT64_C(0xffff)
#define STARTED_ONE (UINT64_C(1) << 16)
#define STARTED_MASK (UINT64_C(0xffffff) << 16)
#define GROUP_SHIFT 40
#define RESERVE_SLOTS ((256u << 10) / KQ_SLOT_BYTES)
/* Longer moves (sendmmsg) become several records, so that `bytes` holds each. */
#define RECORD_BYTES_MAX 0x80000000u

/* Between two looks at a ring that is full. */
#define PUT_PAUSE_NS 1000000L

/* Bit of a frame's key: the thread has jumped since, the call may never end. */
#define JUMPED UINT64_C(0x80)

/* Which call this thread is in: async-signal-safe by being only its own. */
static __thread struct {
  struct kq_frame frame;
  uint32_t undone; /* calls that were undone after a jump */
} thread_state;

static bool extend(struct kq_ring *ring, uint32_t position) {
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

/* Claims a slot; NULL if there is none, and `why` says for which reason. */
static inline __attribute__((always_inline)) struct kq_slot *claim(struct kq_ring *ring,
                                                                   uint32_t *index,
                                                                   enum kq_loss *why) {
  struct kq_header *header = ring->header;
  uint32_t head = __atomic_load_n(&header->head, __ATOMIC_RELAXED);
  for (;;) {
    /* Acquire pairs with the collector's release of the tail: it has read what we overwrite. */
    uint32_t used = head - __atomic_load_n(&header->tail, __ATOMIC_ACQUIRE);
    if (KQ_UNLIKELY(used > ring->mask)) {
      uint32_t newer = __atomic_load_n(&header->head, __ATOMIC_RELAXED);
      if (newer == head) {
        *why = KQ_LOSS_RING_FULL;
        return NULL;
      }
      head = newer;
      continue;
    }
    if (KQ_UNLIKELY((head & ring->mask) >= __atomic_load_n(&ring->ready, __ATOMIC_RELAXED)) &&
        !extend(ring, head & ring->mask)) {
      *why = KQ_LOSS_NO_MEMORY;
      return NULL;
    }
    /* Relaxed: the slot's contents are published by its commit word. */
    if (__atomic_compare_exchange_n(&header->head, &head, head + 1, true, __ATOMIC_RELAXED,
                                    __ATOMIC_RELAXED)) {
      *index = head;
      return &ring->slots[head & ring->mask];
    }
  }
}

/* Release pairs with the collector's acquire of the commit word. */
static inline void commit(struct kq_slot *slot, uint32_t index) {
  __atomic_store_n(&slot->commit, index + 1, __ATOMIC_RELEASE);
}

/* Puts the record into its slot. */
static inline void fill(struct kq_slot *slot, uint32_t index, const struct kq_slot *record) {
  memcpy(&slot->kind, &record->kind, KQ_SLOT_BYTES - offsetof(struct kq_slot, kind));
  commit(slot, index);
}

/* Claims a slot of this process's ring; NULL if there is none, and that is counted. */
static inline __attribute__((always_inline)) struct kq_slot *claim_own(uint32_t *index,
                                                                       bool passive) {
  uint32_t state = __atomic_load_n(&kq_identity->state, __ATOMIC_ACQUIRE);
  if (KQ_UNLIKELY(state == KQ_RING_INHERITED) && !passive) {
    kq_session_after_fork();
  }
  struct kq_ring *ring = __atomic_load_n(&kq_ring, __ATOMIC_ACQUIRE);
  enum kq_loss why = KQ_LOSS_RING_FULL;
  struct kq_slot *slot = claim(ring, index, &why);
  if (KQ_UNLIKELY(slot == NULL)) {
    __atomic_fetch_add(&ring->header->losses[why], 1, __ATOMIC_RELAXED);
  }
  return slot;
}

static inline void push(const struct kq_slot *record, bool passive) {
  uint32_t index;
  struct kq_slot *slot = claim_own(&index, passive);
  if (KQ_LIKELY(slot != NULL)) {
    fill(slot, index, record);
  }
}

/* How far the collector has come, and a sign of life. */
static uint64_t look_at_collector(const struct kq_header *header) {
  return (uint64_t)__atomic_load_n(&header->heartbeat, __ATOMIC_RELAXED) << 32 |
         __atomic_load_n(&header->tail, __ATOMIC_RELAXED);
}

bool kq_put(struct kq_slot *record, uint64_t patience_ns) {
  uint64_t since_ns = 0;
  uint64_t first = 0;
  record->time_ns = kq_now_ns();
  record->pid = kq_session_pid();
  if (__atomic_load_n(&kq_identity->state, __ATOMIC_ACQUIRE) == KQ_RING_INHERITED) {
    kq_session_after_fork();
  }
  for (;;) {
    struct kq_ring *ring = __atomic_load_n(&kq_ring, __ATOMIC_ACQUIRE);
    uint32_t index;
    enum kq_loss why = KQ_LOSS_RING_FULL;
    struct kq_slot *slot = claim(ring, &index, &why);
    if (slot != NULL) {
      fill(slot, index, record);
      return true;
    }
    uint64_t now = look_at_collector(ring->header);
    if (since_ns == 0) {
      since_ns = kq_monotonic_ns();
      first = now;
    }
    bool over = kq_monotonic_ns() - since_ns >= patience_ns;
    if (over && patience_ns != 0 && now == first) {
      __atomic_store_n(&ring->silent, now, __ATOMIC_RELAXED);
    }
    if (over || why != KQ_LOSS_RING_FULL ||
        now == __atomic_load_n(&ring->silent, __ATOMIC_RELAXED)) {
      __atomic_fetch_add(&ring->header->losses[why], 1, __ATOMIC_RELAXED);
      return false;
    }
    if (!kq_sandboxed) {
      /* In a sandbox the clock alone is safe to ask: there this spins. */
      struct timespec pause = {0, PUT_PAUSE_NS};
      KQ_SYS(SYS_nanosleep, &pause, NULL);
    }
  }
}

void kq_note(enum kq_kind kind, uint8_t flags, uint64_t word, int fd, uint64_t off,
             uint32_t bytes, bool passive) {
  struct kq_slot record = {.kind = (uint8_t)kind,
                           .flags = flags,
                           .entry = kq_fd_entry(word),
                           .gen = kq_fd_generation(word),
                           .time_ns = kq_now_ns(),
                           .off = off,
                           .bytes = bytes,
                           .fd = fd,
                           .pid = kq_session_pid()};
  push(&record, passive);
}

void kq_jumped(void) {
  if (thread_state.frame.key != 0) {
    thread_state.frame.key |= JUMPED;
  }
}

/* One active call less. Returns the word as it was; `expected` is a guess at it. */
static inline uint64_t step_out(struct kq_direction *direction, uint64_t expected) {
  uint64_t before = expected;
  while (!__atomic_compare_exchange_n(&direction->calls, &before,
                                      before & ACTIVE_MASK ? before - 1 : before, true,
                                      __ATOMIC_ACQ_REL, __ATOMIC_RELAXED)) {
  }
  return before;
}

/* The entry of a word that does not lead to one at once: the descriptor is unknown, its peer is,
   or the collector has given the entry up. NULL if it is not measured. */
static __attribute__((noinline, cold)) struct kq_entry *find_entry(int fd, uint64_t *word) {
  if (!kq_fd_has_entry(*word)) {
    *word = kq_socket_first_use(fd, *word);
    if (!kq_fd_has_entry(*word)) {
      return NULL;
    }
  }
  if (*word & KQ_FD_UNCONFIRMED) {
    *word = kq_connect_confirm(fd, *word);
    if (!kq_fd_has_entry(*word)) {
      return NULL;
    }
  }
  struct kq_entry *entry = kq_entry_of(*word);
  if (entry == NULL) {
    *word = kq_socket_renew(fd, *word);
    entry = kq_fd_has_entry(*word) ? kq_entry_of(*word) : NULL;
    if (entry == NULL) {
      kq_count_loss(KQ_LOSS_STALE);
    }
  }
  return entry;
}

void kq_begin(struct kq_call *call, int fd, uint64_t word, enum kq_kind kind, uint64_t asked) {
  struct kq_entry *entry = NULL;
  call->direction = NULL;
  if (KQ_LIKELY(kq_fd_has_entry(word) && (word & KQ_FD_UNCONFIRMED) == 0)) {
    entry = kq_entry_of(word);
  }
  if (KQ_UNLIKELY(entry == NULL)) {
    uint64_t found = word;
    entry = find_entry(fd, &found);
    if (entry == NULL) {
      return;
    }
    word = found;
  }
  struct kq_direction *direction = kind == KQ_KIND_OUT ? &entry->out : &entry->in;
  uint64_t key = (word & ~UINT64_C(0xff)) | kind;
  call->word = word;
  call->fd = fd;
  call->kind = (uint8_t)kind;
  call->key = key;
  call->outer = thread_state.frame;
  if (KQ_UNLIKELY(call->outer.key == (key | JUMPED))) {
    step_out(direction, __atomic_load_n(&direction->calls, __ATOMIC_RELAXED));
    thread_state.undone++;
    thread_state.frame = call->outer = (struct kq_frame){0};
  }
  call->undone = thread_state.undone;
  if (kind == KQ_KIND_OUT) {
    call->start_ns = kq_now_ns();
    __atomic_store_n(&direction->call_ns, call->start_ns, __ATOMIC_RELAXED);
  }
  __atomic_store_n(&direction->call_bytes, asked, __ATOMIC_RELAXED);
  uint64_t before = __atomic_load_n(&direction->calls, __ATOMIC_RELAXED);
  uint64_t after;
  do {
    uint64_t active = before & ACTIVE_MASK;
    uint64_t group = before >> GROUP_SHIFT << GROUP_SHIFT;
    uint64_t started = (before + STARTED_ONE) & STARTED_MASK;
    if (active == 0) {
      group += UINT64_C(1) << GROUP_SHIFT;
    }
    after = group | started | (active == ACTIVE_MASK ? active : active + 1);
  } while (!__atomic_compare_exchange_n(&direction->calls, &before, after, true,
                                        __ATOMIC_ACQ_REL, __ATOMIC_RELAXED));
  call->overlapped = (before & ACTIVE_MASK) != 0;
  call->calls = after;
  thread_state.frame = (struct kq_frame){key, 0};
  /* Last: from here on a cancelled thread has something to undo. */
  call->direction = direction;
}

/* Leaves the direction. Returns whether the call was alone on it. */
static inline bool leave(struct kq_call *call, uint64_t moved) {
  struct kq_direction *direction = call->direction;
  call->direction = NULL;
  if (KQ_UNLIKELY(thread_state.undone != call->undone)) {
    /* Undone already: the thread jumped, and yet came back here. */
    return false;
  }
  /* Nobody else was here as a rule: the word is as this call left it. */
  uint64_t before = step_out(direction, call->calls);
  if (KQ_UNLIKELY(call->outer.key == call->key)) {
    call->outer.inner += moved;
  }
  thread_state.frame = call->outer;
  return !call->overlapped && ((before ^ call->calls) & STARTED_MASK) == 0;
}


/* What a record says but for its bytes, which go straight to the slot: put together on the stack
   and copied, the loads of the copy wait for the smaller stores (6 ns, measured). */
struct kq_moved {
  const struct kq_call *call;
  uint64_t time_ns;
  uint64_t off;
  uint8_t flags;
};

static inline __attribute__((always_inline)) void record(const struct kq_moved *moved,
                                                         uint64_t off, uint32_t bytes) {
  uint32_t index;
  struct kq_slot *slot = claim_own(&index, false);
  if (KQ_UNLIKELY(slot == NULL)) {
    return;
  }
  const struct kq_call *call = moved->call;
  slot->kind = call->kind;
  slot->flags = moved->flags;
  slot->pad = 0;
  slot->entry = kq_fd_entry(call->word);
  slot->gen = kq_fd_generation(call->word);
  slot->time_ns = moved->time_ns;
  slot->off = off;
  slot->bytes = bytes;
  slot->fd = call->fd;
  slot->pid = kq_session_pid();
  slot->group = (uint32_t)(call->calls >> GROUP_SHIFT);
  memset(slot->tag, 0, sizeof slot->tag);
  commit(slot, index);
}

/* More bytes than one record can tell of. */
static __attribute__((noinline, cold)) void record_much(const struct kq_moved *moved,
                                                        uint64_t bytes) {
  uint64_t off = moved->off;
  for (; bytes > RECORD_BYTES_MAX; bytes -= RECORD_BYTES_MAX) {
    record(moved, off, RECORD_BYTES_MAX);
    off += RECORD_BYTES_MAX;
  }
  record(moved, off, (uint32_t)bytes);
}

/* Whether bytes are recorded that a call has moved; if not, it is left. */
static inline __attribute__((always_inline)) bool is_recorded(struct kq_call *call,
                                                              int64_t moved) {
  if (KQ_UNLIKELY(moved <= 0)) {
    leave(call, 0);
    return false;
  }
  if (KQ_UNLIKELY(kq_real_wrapped) && thread_state.frame.inner == (uint64_t)moved &&
      (thread_state.frame.key & ~JUMPED) == call->key) {
    /* The wrapper's own calls have recorded these bytes. */
    leave(call, (uint64_t)moved);
    return false;
  }
  if (KQ_UNLIKELY(kq_fd_outdated(call->word))) {
    /* Its session is over: what it moved is nobody's. */
    leave(call, (uint64_t)moved);
    return false;
  }
  return true;
}

static inline __attribute__((always_inline)) void end(struct kq_call *call, int64_t bytes) {
  struct kq_direction *direction = call->direction;
  struct kq_moved moved = {.call = call};
  moved.time_ns = call->kind == KQ_KIND_OUT ? call->start_ns : kq_now_ns();
  moved.off = __atomic_fetch_add(&direction->off, (uint64_t)bytes, __ATOMIC_RELAXED);
  moved.flags = leave(call, (uint64_t)bytes) ? 0 : KQ_SLOT_OVERLAP;
  /* By its address: the table may be that of a later session. */
  const struct kq_entry *entry =
      (const struct kq_entry *)((uintptr_t)direction & ~(uintptr_t)(KQ_ENTRY_BYTES - 1));
  uint16_t marks = __atomic_load_n(&entry->flags, __ATOMIC_RELAXED);
  if (KQ_UNLIKELY((marks & (KQ_ENTRY_KTLS | KQ_ENTRY_URGENT)) != 0)) {
    if (marks & KQ_ENTRY_KTLS) {
      moved.flags |= KQ_SLOT_KTLS;
    } else if (call->kind == KQ_KIND_IN) {
      /* Who sends urgent data sends it in its place; only the receiver takes it out. */
      moved.flags |= KQ_SLOT_URGENT;
    }
  }
  if (KQ_LIKELY((uint64_t)bytes <= RECORD_BYTES_MAX)) {
    record(&moved, moved.off, (uint32_t)bytes);
  } else {
    record_much(&moved, (uint64_t)bytes);
  }
}

void kq_end(struct kq_call *call, int64_t moved) {
  if (KQ_LIKELY(call->direction != NULL) && is_recorded(call, moved)) {
    end(call, moved);
  }
}

/* How many bytes a call has moved that did not come back: what the kernel has counted, without
   those of the calls before it. False if that is not known, or might be of other calls too. */
static bool count_moved(const struct kq_call *call, int64_t *moved) {
  const struct kq_direction *direction = call->direction;
  const struct kq_entry *entry = kq_entry_of(call->word);
  bool alone = !call->overlapped &&
               __atomic_load_n(&direction->calls, __ATOMIC_ACQUIRE) == call->calls;
  if (entry == NULL || !alone || thread_state.undone != call->undone) {
    return false;
  }
  uint16_t flags = __atomic_load_n(&entry->flags, __ATOMIC_RELAXED);
  uint64_t sent;
  uint64_t received;
  bool is_out = call->kind == KQ_KIND_OUT;
  bool is_counted = (flags & KQ_ENTRY_ADOPTED) == 0 || (flags & KQ_ENTRY_COUNTED) != 0;
  /* A connection that was reset has thrown its queues away. */
  if (!is_counted || (!is_out && (flags & KQ_ENTRY_URGENT) != 0) ||
      !kq_tcp_counts(call->fd, &sent, &received) || kq_tcp_state(call->fd) == TCP_CLOSE) {
    return false;
  }
  uint64_t before = is_out ? entry->sent_before : entry->read_before;
  if (is_out && (flags & KQ_ENTRY_CONNECTED) != 0) {
    before = 1; /* its SYN */
  }
  uint64_t off = __atomic_load_n(&direction->off, __ATOMIC_RELAXED);
  *moved = (int64_t)((is_out ? sent : received) - before - off);
  return *moved >= 0;
}

void kq_call_abandon(struct kq_call *call) {
  int64_t moved;
  if (count_moved(call, &moved)) {
    kq_end(call, moved);
  } else {
    leave(call, 0);
  }
}
