/*
 * A memory cgroup at its limit is met by the kernel's killer: it takes whoever is largest there,
 * mostly the measured program, and no way of asking for memory fails instead. So before memory is
 * asked for, the limits are looked at, of the program's own group and of those above it. File
 * pages count as free: the kernel drops them first.
 *
 * Source: the kernel's admin-guide/cgroup-v2.rst and cgroup-v1/memory.rst, cgroups(7).
 */
#define _GNU_SOURCE
#include "headroom.h"

#include <fcntl.h>
#include <string.h>

#include "clock.h"
#include "memory.h"
#include "sys.h"

/* Of what is left, for a ring and a table that have filled. */
#define SHARE 8
/* So many times what is taken must be left. */
#define MARGIN 4
#define SLOTS_LEAST 1024u
#define SECOND_NS UINT64_C(1000000000)
#define RETRY_NS SECOND_NS
#define BUSY_MOST_S 2
#define UNLIMITED UINT64_MAX
/* The first version writes its unlimited as a number of about 2^63. */
#define LIMIT_MOST (UINT64_C(1) << 62)

struct flavour {
  const char *mount;
  const char *limit;
  const char *usage;
  const char *inactive;
  const char *active;
};

static const struct flavour second = {"/sys/fs/cgroup", "/memory.max", "/memory.current",
                                      "inactive_file ", "active_file "};
static const struct flavour first = {"/sys/fs/cgroup/memory", "/memory.limit_in_bytes",
                                     "/memory.usage_in_bytes", "total_inactive_file ",
                                     "total_active_file "};

/* Not on the stack, which may be a signal handler's small one. One thread at a time: the others
   take what they get. Since when, in seconds, or 0: whoever was here may have jumped away, or have been
   in the parent of a forked child. */
static uint32_t busy;
static char groups[2048];
static char path[1024];
static char text[8192];

/* Where nothing limited the memory at the start, nothing is asked any more: each look takes descriptor
   numbers for a moment, which other threads may count on. */
static bool limited;
static uint64_t retry_ns;

/* The length of what was read, ended by a zero; 0 if there is nothing. */
static size_t read_text(const char *name, char *to, size_t size) {
  long fd = KQ_SYS(SYS_openat, AT_FDCWD, name, O_RDONLY | O_CLOEXEC, 0);
  if (fd < 0) {
    to[0] = '\0';
    return 0;
  }
  size_t length = 0;
  for (long taken = 1; taken > 0 && length < size - 1; length += taken > 0 ? (size_t)taken : 0) {
    taken = KQ_SYS(SYS_read, fd, to + length, size - 1 - length);
  }
  KQ_SYS(SYS_close, fd);
  to[length] = '\0';
  return length;
}

static uint64_t number_at(const char *at) {
  uint64_t number = 0;
  if (*at < '0' || *at > '9') {
    return UNLIMITED;
  }
  for (; *at >= '0' && *at <= '9'; at++) {
    number = number * 10 + (uint64_t)(*at - '0');
  }
  return number;
}

/* A number of the group whose path is `length` long. */
static uint64_t ask(size_t length, const char *name) {
  strcpy(path + length, name);
  bool is_there = read_text(path, text, sizeof text) > 0;
  path[length] = '\0';
  return is_there ? number_at(text) : UNLIMITED;
}

/* A value of memory.stat, which is in `text`; 0 if it has none. */
static uint64_t statistic(const char *key) {
  size_t length = strlen(key);
  for (const char *line = text; line != NULL; line = strchr(line, '\n')) {
    line += *line == '\n';
    if (strncmp(line, key, length) == 0) {
      uint64_t number = number_at(line + length);
      return number != UNLIMITED ? number : 0;
    }
  }
  return 0;
}

/* What is left to one group. */
static uint64_t left_to(const struct flavour *flavour, size_t length) {
  uint64_t limit = ask(length, flavour->limit);
  if (limit >= LIMIT_MOST) {
    return UNLIMITED;
  }
  uint64_t usage = ask(length, flavour->usage);
  if (usage == UNLIMITED) {
    return UNLIMITED;
  }
  strcpy(path + length, "/memory.stat");
  read_text(path, text, sizeof text);
  path[length] = '\0';
  uint64_t cached = statistic(flavour->inactive) + statistic(flavour->active);
  usage -= cached < usage ? cached : usage;
  return usage < limit ? limit - usage : 0;
}

/* The least of a group and of those above it, as far as they are seen from here. */
static uint64_t left_along(const struct flavour *flavour, const char *group, size_t length) {
  size_t mount = strlen(flavour->mount);
  uint64_t left = UNLIMITED;
  if (mount + length + sizeof "/memory.usage_in_bytes" > sizeof path) {
    length = 0;
  }
  strcpy(path, flavour->mount);
  memcpy(path + mount, group, length);
  length += mount;
  while (length > mount && path[length - 1] == '/') {
    length--;
  }
  for (;;) {
    path[length] = '\0';
    uint64_t here = left_to(flavour, length);
    left = here < left ? here : left;
    if (length <= mount) {
      return left;
    }
    while (length > mount && path[--length] != '/') {
    }
  }
}

/* Whether the controllers of a line, "cpu,memory", are those of memory. */
static bool is_memory(const char *names, const char *end) {
  for (const char *name = names; name < end; name++) {
    const char *comma = memchr(name, ',', (size_t)(end - name));
    const char *to = comma != NULL ? comma : end;
    if (to - name == 6 && memcmp(name, "memory", 6) == 0) {
      return true;
    }
    name = to;
  }
  return false;
}

static uint64_t headroom(void) {
  uint32_t now = (uint32_t)(kq_monotonic_ns() / SECOND_NS) + 1;
  uint32_t since = __atomic_load_n(&busy, __ATOMIC_RELAXED);
  if ((since != 0 && now - since < BUSY_MOST_S) ||
      !__atomic_compare_exchange_n(&busy, &since, now, false, __ATOMIC_ACQUIRE,
                                   __ATOMIC_RELAXED)) {
    return UNLIMITED;
  }
  uint64_t left = UNLIMITED;
  read_text("/proc/self/cgroup", groups, sizeof groups);
  /* `0::/path` of the second version, `4:memory:/path` of the first. */
  for (const char *line = groups; *line != '\0';) {
    const char *end = strchrnul(line, '\n');
    const char *names = memchr(line, ':', (size_t)(end - line));
    const char *group = names != NULL ? memchr(names + 1, ':', (size_t)(end - names - 1)) : NULL;
    if (group != NULL) {
      bool is_second = group == names + 1;
      if (is_second || is_memory(names + 1, group)) {
        size_t length = (size_t)(end - group - 1);
        uint64_t here = left_along(is_second ? &second : &first, group + 1, length);
        left = here < left ? here : left;
      }
    }
    line = *end == '\n' ? end + 1 : end;
  }
  __atomic_store_n(&busy, 0, __ATOMIC_RELEASE);
  return left;
}

uint32_t kq_headroom_slots(uint32_t slots) {
  uint64_t left = headroom();
  uint64_t share = left / SHARE;
  limited = left != UNLIMITED;
  while (slots > SLOTS_LEAST && kq_ring_bytes(slots, slots / 4) > share) {
    slots /= 2;
  }
  return slots;
}

bool kq_headroom_allows(uint64_t bytes) {
  if (KQ_LIKELY(!limited)) {
    return true;
  }
  uint64_t retry = __atomic_load_n(&retry_ns, __ATOMIC_RELAXED);
  if (KQ_UNLIKELY(retry != 0) && kq_monotonic_ns() < retry) {
    return false;
  }
  bool allows = headroom() / MARGIN >= bytes;
  if (!allows || retry != 0) {
    __atomic_store_n(&retry_ns, allows ? 0 : kq_monotonic_ns() + RETRY_NS, __ATOMIC_RELAXED);
  }
  return allows;
}
