/*
 * Filters that are held, and a machine that runs them, see filter.h.
 *
 * They lie one behind the other in memory that is never moved, so that other threads, and signal
 * handlers, may evaluate them meanwhile. Filters of threads count for all: which thread has inherited
 * which, nobody tells. Many threads that install the same one hold one.
 *
 * Classic BPF as seccomp takes it: 32-bit words, jumps forward only (bpf(2), linux/filter.h). Whatever
 * the kernel would not accept counts as a refusal.
 */
#define _GNU_SOURCE
#include "filter.h"

#include <linux/audit.h>
#include <stdint.h>
#include <string.h>

#include "memory.h"
#include "socket.h"

/* A process's filters together have no more (MAX_INSNS_PER_PATH of the kernel). */
#define ROOM 32768u
#define SCRATCH 16u /* BPF_MEMWORDS */

/* The pieces of the memory are of this size, as are instructions. */
struct kq_filter {
  uint32_t length; /* in instructions; 0: just being claimed */
  uint32_t uses;   /* 0: just being filled; 1: none; each use adds one */
};
_Static_assert(sizeof(struct kq_filter) == sizeof(struct sock_filter), "one piece");

static struct kq_filter *pieces;
static uint32_t taken;
/* What could not be held. */
static struct kq_filter anything = {1, 1};

static uint32_t uses_of(const struct kq_filter *filter) {
  /* Acquire pairs with the release of who has filled it. */
  return __atomic_load_n(&filter->uses, __ATOMIC_ACQUIRE);
}

static struct sock_filter *code_of(struct kq_filter *filter) {
  return (struct sock_filter *)(filter + 1);
}

/* False at what the kernel would not have accepted. */
static bool calculate(uint16_t operation, uint32_t *a, uint32_t by) {
  switch (operation) {
    case BPF_ADD: *a += by; return true;
    case BPF_SUB: *a -= by; return true;
    case BPF_MUL: *a *= by; return true;
    case BPF_AND: *a &= by; return true;
    case BPF_OR: *a |= by; return true;
    case BPF_XOR: *a ^= by; return true;
    case BPF_LSH: *a <<= by & 31; return true;
    case BPF_RSH: *a >>= by & 31; return true;
    case BPF_NEG: *a = 0u - *a; return true;
    case BPF_DIV:
      *a = by != 0 ? *a / by : 0;
      return by != 0;
    default:
      return false;
  }
}

static bool holds(uint16_t comparison, uint32_t a, uint32_t with) {
  return comparison == BPF_JEQ   ? a == with
         : comparison == BPF_JGT ? a > with
         : comparison == BPF_JGE ? a >= with
                                 : (a & with) != 0;
}

static bool load(const struct sock_filter *step, const struct seccomp_data *call,
                 const uint32_t *scratch, uint32_t *to) {
  const uint32_t where = offsetof(struct seccomp_data, instruction_pointer);
  uint32_t k = step->k;
  switch (BPF_MODE(step->code)) {
    case BPF_ABS:
      /* Who asks where a call comes from does not expect it from here. */
      if (k % sizeof *to != 0 || k >= sizeof *call || k / 8 == where / 8) {
        return false;
      }
      memcpy(to, (const uint8_t *)call + k, sizeof *to);
      return true;
    case BPF_LEN:
      *to = sizeof *call;
      return true;
    case BPF_IMM:
      *to = k;
      return true;
    case BPF_MEM:
      *to = scratch[k % SCRATCH];
      return k < SCRATCH;
    default:
      return false;
  }
}

static bool allows(const struct sock_filter *code, uint32_t length,
                   const struct seccomp_data *call) {
  uint32_t a = 0;
  uint32_t x = 0;
  uint32_t scratch[SCRATCH] = {0};
  for (uint64_t at = 0; at < length; at++) {
    const struct sock_filter *step = &code[at];
    uint32_t with = BPF_SRC(step->code) == BPF_X ? x : step->k;
    switch (BPF_CLASS(step->code)) {
      case BPF_LD:
        if (BPF_SIZE(step->code) != BPF_W || !load(step, call, scratch, &a)) {
          return false;
        }
        break;
      case BPF_LDX:
        if (BPF_SIZE(step->code) != BPF_W || !load(step, call, scratch, &x)) {
          return false;
        }
        break;
      case BPF_ST:
      case BPF_STX:
        if (step->k >= SCRATCH) {
          return false;
        }
        scratch[step->k] = BPF_CLASS(step->code) == BPF_ST ? a : x;
        break;
      case BPF_ALU:
        if (!calculate(BPF_OP(step->code), &a, with)) {
          return false;
        }
        break;
      case BPF_JMP:
        at += BPF_OP(step->code) == BPF_JA                ? step->k
              : holds(BPF_OP(step->code), a, with) ? step->jt
                                                          : step->jf;
        break;
      case BPF_RET:
        return ((BPF_RVAL(step->code) == BPF_A ? a : step->k) & SECCOMP_RET_ACTION_FULL) ==
               SECCOMP_RET_ALLOW;
      default:
        if (BPF_MISCOP(step->code) == BPF_TAX) {
          x = a;
        } else {
          a = x;
        }
    }
  }
  return false;
}

bool kq_filters_allow(const struct seccomp_data *call) {
  if (uses_of(&anything) > 1) {
    return false;
  }
  uint32_t end = __atomic_load_n(&taken, __ATOMIC_ACQUIRE);
  for (uint32_t at = 0; at < end;) {
    struct kq_filter *filter = &pieces[at];
    uint32_t length = __atomic_load_n(&filter->length, __ATOMIC_ACQUIRE);
    if (length == 0) {
      return false;
    }
    if (uses_of(filter) > 1 && !allows(code_of(filter), length, call)) {
      return false;
    }
    at += 1 + length;
  }
  return true;
}

/* One that is held, or was, and says the same. */
static struct kq_filter *find(const struct sock_filter *code, uint32_t length) {
  uint32_t end = __atomic_load_n(&taken, __ATOMIC_ACQUIRE);
  for (uint32_t at = 0; at < end;) {
    struct kq_filter *filter = &pieces[at];
    uint32_t here = __atomic_load_n(&filter->length, __ATOMIC_ACQUIRE);
    if (here == 0) {
      return NULL;
    }
    if (here == length && uses_of(filter) > 0 &&
        memcmp(code_of(filter), code, length * sizeof *code) == 0) {
      return filter;
    }
    at += 1 + here;
  }
  return NULL;
}

/* Room for one more, without a use yet; NULL if there is none. */
static struct kq_filter *claim(uint32_t length) {
  struct kq_filter *memory = __atomic_load_n(&pieces, __ATOMIC_ACQUIRE);
  if (memory == NULL) {
    struct kq_filter *fresh = kq_memory_private(ROOM * sizeof *fresh);
    if (fresh == NULL) {
      return NULL;
    }
    /* Another thread's may be there by now: then this one is lost. */
    if (__atomic_compare_exchange_n(&pieces, &memory, fresh, false, __ATOMIC_ACQ_REL,
                                    __ATOMIC_ACQUIRE)) {
      memory = fresh;
    }
  }
  uint32_t at = __atomic_load_n(&taken, __ATOMIC_RELAXED);
  do {
    if (ROOM - at < 1 + length) {
      return NULL;
    }
  } while (!__atomic_compare_exchange_n(&taken, &at, at + 1 + length, false, __ATOMIC_ACQ_REL,
                                        __ATOMIC_RELAXED));
  __atomic_store_n(&memory[at].length, length, __ATOMIC_RELEASE);
  return &memory[at];
}

struct kq_filter *kq_filter_copy(const struct sock_fprog *program) {
  struct sock_fprog copy;
  if (!kq_socket_copy(&copy, program, sizeof copy) || copy.len == 0 || copy.len > BPF_MAXINSNS ||
      !kq_socket_readable(copy.filter, copy.len * sizeof *copy.filter)) {
    return NULL;
  }
  struct kq_filter *filter = find(copy.filter, copy.len);
  if (filter == NULL) {
    filter = claim(copy.len);
    if (filter != NULL) {
      memcpy(code_of(filter), copy.filter, copy.len * sizeof *copy.filter);
      __atomic_store_n(&filter->uses, 1, __ATOMIC_RELEASE);
    } else {
      filter = &anything;
    }
  }
  return filter;
}

void kq_filter_hold(struct kq_filter *filter) {
  __atomic_fetch_add(&filter->uses, 1, __ATOMIC_ACQ_REL);
}

void kq_filter_let_go(struct kq_filter *filter) {
  __atomic_fetch_sub(&filter->uses, 1, __ATOMIC_ACQ_REL);
}
