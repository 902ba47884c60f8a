/* Begin, end and record of a call, see recorder.h. */
#define _GNU_SOURCE
#include "recorder.h"

#include <string.h>

#include "address.h"
#include "claim.h"
#include "real.h"
#include "socket.h"

#define ACTIVE_MASK ((uint64_t)KQ_CALLS_ACTIVE_MASK)
#define STARTED_ONE (UINT64_C(1) << KQ_CALLS_STARTED_SHIFT)
#define GROUP_ONE (UINT64_C(1) << KQ_CALLS_GROUP_SHIFT)
#define PIDS_ONE (UINT64_C(1) << KQ_CALLS_PIDS_SHIFT)
#define STARTED_MASK (GROUP_ONE - STARTED_ONE)
#define GROUP_MASK (PIDS_ONE - GROUP_ONE)
/* Longer moves (sendmmsg) become several records, so that `bytes` holds each. */
#define RECORD_BYTES_MAX 0x80000000u

/* Bit of a frame's key: the thread has jumped since, the call may never end. */
#define JUMPED UINT64_C(0x80)
/* Kept of a thread; a thread that leaves more calls than this and comes back to none leaves them
   open. */
#define DOUBTS 8u

/* Which call this thread is in: async-signal-safe by being only its own. */
static __thread struct {
  struct kq_frame frame;
  uint32_t undone;         /* calls that were undone after a jump */
  uint32_t doubts;         /* calls that the thread has jumped over since they began … */
  uint64_t doubt[DOUBTS];  /* … and their keys */
  uint64_t undone_key;     /* of the call that was undone last */
} thread_state;

/* In this order: the thread may jump out of here as well, and then rather has one twice. */
static void forget_doubt(uint32_t which) {
  uint32_t last = thread_state.doubts - 1;
  thread_state.doubt[which] = thread_state.doubt[last];
  __atomic_signal_fence(__ATOMIC_SEQ_CST);
  thread_state.doubts = last;
}

void kq_jumped(void) {
  uint64_t key = thread_state.frame.key;
  if (key == 0 || (key & JUMPED) != 0) {
    return;
  }
  thread_state.frame.key = key | JUMPED;
  if (thread_state.doubts == DOUBTS) {
    forget_doubt(0);
  }
  thread_state.doubt[thread_state.doubts] = key;
  __atomic_signal_fence(__ATOMIC_SEQ_CST);
  thread_state.doubts++;
  kq_count_loss(KQ_LOSS_LEFT);
}

/* The jump was within a signal handler: the call went on, and has ended. */
static __attribute__((noinline, cold)) void forget_jump(uint64_t key) {
  for (uint32_t which = 0; which < thread_state.doubts; which++) {
    if (thread_state.doubt[which] == key) {
      forget_doubt(which);
      return;
    }
  }
}

void kq_recorder_forked(void) { thread_state.doubts = 0; }

/* The word without one of its calls. Once there were more than it can count it stays so: how many are
   left nobody knows. */
static inline uint64_t without(uint64_t calls, uint64_t one) {
  return ((calls - 1) & ACTIVE_MASK) < ACTIVE_MASK - 1 ? calls - one : calls;
}

/* One active call less. Returns the word as it was; `expected` is a guess at it. */
static inline uint64_t step_out(struct kq_direction *direction, uint64_t expected, uint64_t one) {
  uint64_t before = expected;
  while (!__atomic_compare_exchange_n(&direction->calls, &before, without(before, one), true,
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

/* Leaves the direction. Returns whether the call was alone on it. */
static inline bool leave(struct kq_call *call, uint64_t moved) {
  struct kq_direction *direction = call->direction;
  call->direction = NULL;
  if (KQ_UNLIKELY(thread_state.frame.key == (call->key | JUMPED))) {
    forget_jump(call->key);
  }
  /* Nobody else was here as a rule: the word is as this call left it. */
  uint64_t before = step_out(direction, call->calls, call->one);
  if (KQ_UNLIKELY(call->outer.key == call->key)) {
    call->outer.inner += moved;
  }
  thread_state.frame = call->outer;
  return !call->overlapped && ((before ^ call->calls) & STARTED_MASK) == 0;
}

/* By its address: the table may be that of a later session. */
static inline const struct kq_entry *entry_of(const struct kq_direction *direction) {
  return (const struct kq_entry *)((uintptr_t)direction & ~(uintptr_t)(KQ_ENTRY_BYTES - 1));
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
  if (KQ_UNLIKELY(moved->time_ns == 0)) {
    kq_count_loss(KQ_LOSS_NO_CLOCK);
    return;
  }
  struct kq_slot *slot = claim_own(&index, false);
  if (KQ_UNLIKELY(slot == NULL)) {
    return;
  }
  const struct kq_call *call = moved->call;
  slot->kind = call->kind;
  slot->flags = moved->flags;
  slot->entry = kq_fd_entry(call->word);
  slot->gen = kq_fd_generation(call->word);
  slot->time_ns = moved->time_ns;
  slot->off = off;
  slot->bytes = bytes;
  slot->fd = call->fd;
  slot->pid = kq_session_pid();
  slot->group = (uint32_t)((call->calls & GROUP_MASK) >> KQ_CALLS_GROUP_SHIFT);
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

/* Whether the kernel can be asked how many bytes a connection has moved since its offset 0. */
static bool is_countable(const struct kq_call *call, const struct kq_direction *direction) {
  const struct kq_entry *entry = entry_of(direction);
  uint16_t marks = __atomic_load_n(&entry->flags, __ATOMIC_RELAXED);
  return entry->type == KQ_TYPE_TCP && !kq_sandboxed && !kq_fd_outdated(call->word) &&
         (marks & (KQ_ENTRY_KTLS | KQ_ENTRY_URGENT)) == 0 &&
         (marks & (KQ_ENTRY_ADOPTED | KQ_ENTRY_COUNTED)) != KQ_ENTRY_ADOPTED;
}

/*
 * What calls that never ended have moved on a connection, the kernel knows: it is counted, and recorded
 * with these flags. False if others than these `open` calls are under way: then nobody knows whose it is.
 */
static bool settle(struct kq_call *call, struct kq_direction *direction, uint64_t open,
                   uint8_t flags) {
  uint64_t before = __atomic_load_n(&direction->calls, __ATOMIC_RELAXED);
  if ((before & ACTIVE_MASK) > open) {
    return false;
  }
  const struct kq_entry *entry = entry_of(direction);
  uint16_t marks = __atomic_load_n(&entry->flags, __ATOMIC_RELAXED);
  uint64_t off = __atomic_load_n(&direction->off, __ATOMIC_RELAXED);
  uint64_t sent, read;
  if (!is_countable(call, direction) || !kq_tcp_counts(call->fd, &sent, &read)) {
    return true;
  }
  if (__atomic_load_n(&direction->calls, __ATOMIC_RELAXED) != before) {
    return false;
  }
  /* Zero unless adopted; who connects has sent a SYN. */
  sent -= entry->sent_before + ((marks & KQ_ENTRY_CONNECTED) != 0);
  read -= entry->read_before;
  uint64_t moved = (call->kind == KQ_KIND_OUT ? sent : read) - off;
  if (moved == 0 || moved > INT64_MAX) {
    return true;
  }
  struct kq_call lost = {.word = call->word, .fd = call->fd, .kind = call->kind, .calls = before};
  struct kq_moved much = {.call = &lost, .flags = flags};
  much.time_ns = call->kind == KQ_KIND_OUT
                     ? __atomic_load_n(&direction->call_ns, __ATOMIC_RELAXED)
                     : kq_call_ns();
  much.off = __atomic_fetch_add(&direction->off, moved, __ATOMIC_RELAXED);
  record_much(&much, moved);
  return true;
}

/* Calls of the same kind that the thread has jumped over are over: it is about to begin another. */
static __attribute__((noinline, cold)) void undo_left(struct kq_call *call,
                                                      struct kq_direction *direction) {
  uint64_t open = 0;
  for (uint32_t which = 0; which < thread_state.doubts;) {
    uint64_t key = thread_state.doubt[which];
    if (kq_fd_outdated(key) || kq_entry_of(key) == NULL) {
      forget_doubt(which);
      continue;
    }
    open += key == call->key;
    which++;
  }
  /* While others are in such calls all of them count as overlapping: next time. */
  if (open == 0 || !settle(call, direction, open, KQ_SLOT_OVERLAP)) {
    return;
  }
  for (uint32_t which = 0; which < thread_state.doubts;) {
    if (thread_state.doubt[which] != call->key) {
      which++;
      continue;
    }
    /* In this order: see forget_doubt. */
    step_out(direction, __atomic_load_n(&direction->calls, __ATOMIC_RELAXED), kq_session_one());
    forget_doubt(which);
    thread_state.undone++;
  }
  thread_state.undone_key = call->key;
  if (thread_state.frame.key == (call->key | JUMPED)) {
    thread_state.frame = (struct kq_frame){0};
  }
}

/* Whether a call was undone already: the thread jumped, and yet came back here. */
static __attribute__((noinline, cold)) bool came_back(struct kq_call *call) {
  if (thread_state.undone_key != call->key) {
    return false;
  }
  struct kq_direction *direction = call->direction;
  call->direction = NULL;
  thread_state.frame = call->outer;
  settle(call, direction, 0, KQ_SLOT_OVERLAP);
  return true;
}

static inline bool is_undone(struct kq_call *call) {
  return KQ_UNLIKELY(thread_state.undone != call->undone) && came_back(call);
}

/* The only call under way may be that of a process which was killed in it: then it is over. What it
   has moved must be known, or all that comes after it would be taken for something else. */
static __attribute__((noinline, cold)) void bury(struct kq_call *call,
                                                 struct kq_direction *direction) {
  uint32_t pid = __atomic_load_n(&direction->gone, __ATOMIC_RELAXED);
  uint64_t calls = __atomic_load_n(&direction->calls, __ATOMIC_RELAXED);
  uint64_t one = pid * PIDS_ONE + 1;
  if (one == 1 || (calls & ~(STARTED_MASK | GROUP_MASK)) != one ||
      !is_countable(call, direction) || !settle(call, direction, 1, KQ_SLOT_OVERLAP)) {
    return;
  }
  /* Not if anything has begun meanwhile: next time. */
  if (__atomic_compare_exchange_n(&direction->calls, &calls, without(calls, one), false,
                                  __ATOMIC_ACQ_REL, __ATOMIC_RELAXED)) {
    __atomic_store_n(&direction->gone, 0, __ATOMIC_RELAXED);
  }
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
  if (KQ_UNLIKELY(thread_state.doubts != 0)) {
    undo_left(call, direction);
  }
  call->outer = thread_state.frame;
  call->undone = thread_state.undone;
  if (kind == KQ_KIND_OUT) {
    call->start_ns = kq_call_ns();
    __atomic_store_n(&direction->call_ns, call->start_ns, __ATOMIC_RELAXED);
  }
  __atomic_store_n(&direction->call_bytes, asked, __ATOMIC_RELAXED);
  /* Before it counts: a call that is left in between has nothing to undo then, and is none too many
     for ever. */
  thread_state.frame = (struct kq_frame){key, 0};
  uint64_t before = __atomic_load_n(&direction->calls, __ATOMIC_RELAXED);
  if (KQ_UNLIKELY((before & ACTIVE_MASK) == 1) &&
      __atomic_load_n(&direction->gone, __ATOMIC_RELAXED) != 0) {
    bury(call, direction);
    before = __atomic_load_n(&direction->calls, __ATOMIC_RELAXED);
  }
  const uint64_t one = call->one = kq_session_one();
  uint64_t after;
  do {
    uint64_t active = before & ACTIVE_MASK;
    uint64_t started = (before + STARTED_ONE) & STARTED_MASK;
    if (KQ_LIKELY(active == 0)) {
      after = (((before + GROUP_ONE) & GROUP_MASK) | started) + one;
    } else {
      after = ((before & ~STARTED_MASK) | started) + (active == ACTIVE_MASK ? 0 : one);
    }
  } while (!__atomic_compare_exchange_n(&direction->calls, &before, after, true,
                                        __ATOMIC_ACQ_REL, __ATOMIC_RELAXED));
  call->overlapped = (before & ACTIVE_MASK) != 0;
  call->calls = after;
  /* Last: from here on a cancelled thread has something to undo. */
  call->direction = direction;
}

void kq_call_abandon(struct kq_call *call) {
  if (!is_undone(call)) {
    /* Cancelled. Where no other call began meanwhile, the bytes are this one's. */
    bool alone = !call->overlapped &&
                 __atomic_load_n(&call->direction->calls, __ATOMIC_RELAXED) == call->calls;
    settle(call, call->direction, 1, alone ? 0 : KQ_SLOT_OVERLAP);
    leave(call, 0);
  }
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
  moved.time_ns = call->kind == KQ_KIND_OUT ? call->start_ns : kq_call_ns();
  moved.off = __atomic_fetch_add(&direction->off, (uint64_t)bytes, __ATOMIC_RELAXED);
  moved.flags = leave(call, (uint64_t)bytes) ? 0 : KQ_SLOT_OVERLAP;
  uint16_t marks = __atomic_load_n(&entry_of(direction)->flags, __ATOMIC_RELAXED);
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
  if (KQ_LIKELY(call->direction != NULL) && !is_undone(call) && is_recorded(call, moved)) {
    end(call, moved);
  }
}
