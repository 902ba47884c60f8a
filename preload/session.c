/*
 * Start of the library, and its memory: one memfd a process, made in the constructor because a
 * sandbox may forbid it later, sealed so that neither side can truncate it under the other, and
 * handed to the collector by SCM_RIGHTS. No descriptor stays open: programs close what they do
 * not know, and count what they have.
 *
 * Later chunks are made present with MADV_POPULATE_WRITE, which needs no descriptor and reports
 * an error where a plain write would raise SIGBUS (madvise(2)).
 */
#define _GNU_SOURCE
#include "session.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <time.h>

#include "real.h"
#include "recorder.h"
#include "table.h"

#define PAGE_BYTES 4096u
#define FD_LIMIT_MAX (1u << 20)
#define FIRST_RESERVE_BYTES (256u << 10)
/* A full backlog of the collector is waited for in the constructor only, this long at most. */
#define CONNECT_TRIES 50
#define CONNECT_PAUSE_NS 1000000L

extern int __register_atfork(void (*prepare)(void), void (*parent)(void), void (*child)(void),
                             void *dso);
extern void *__dso_handle __attribute__((visibility("hidden")));

struct kq_ring *kq_ring;
struct kq_header *kq_table_header;
struct kq_entry *kq_table_entries;
struct kq_identity *kq_identity;
uint32_t kq_sandboxed;

/* Two, because a forked child still uses the inherited one while it makes its own. */
static struct kq_ring rings[2];
static struct sockaddr_un collector;
static uint8_t token[sizeof(((struct kq_message *)0)->token)];
static uint32_t slot_count = KQ_SLOTS_DEFAULT;

void kq_count_loss(enum kq_loss reason) {
  struct kq_ring *ring = __atomic_load_n(&kq_ring, __ATOMIC_ACQUIRE);
  if (ring != NULL) {
    __atomic_fetch_add(&ring->header->losses[reason], 1, __ATOMIC_RELAXED);
  }
}

static uint64_t now_ns(void) {
  struct timespec now;
  clock_gettime(CLOCK_REALTIME, &now);
  return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

static uint64_t random_id(void) {
  uint64_t id = 0;
  if (KQ_SYS(SYS_getrandom, &id, sizeof id, 1 /* GRND_NONBLOCK */) != (long)sizeof id ||
      id == 0) {
    /* Early in boot: unique by process and time is enough, nothing here is a secret. */
    id = now_ns() * 0x9e3779b97f4a7c15u ^ (uint64_t)KQ_SYS(SYS_getpid) << 40 ^ (uintptr_t)&id;
  }
  return id;
}

bool kq_session_reserve(void *start, uint64_t bytes) {
  if (kq_sandboxed) {
    return true;
  }
  long result = KQ_SYS(SYS_madvise, start, bytes, MADV_POPULATE_WRITE);
  /* An old kernel or a sandbox: go on, a page then comes at its first use. */
  return result != -ENOMEM && result != -EFAULT && result != -EHWPOISON;
}

/* The size of a file above RLIMIT_FSIZE would raise SIGXFSZ. Returns whether it may be made;
   *before tells what to set back. */
static bool allow_size(uint64_t bytes, struct rlimit *before, bool *changed) {
  *changed = false;
  if (KQ_SYS(SYS_prlimit64, 0, RLIMIT_FSIZE, NULL, before) != 0) {
    return true;
  }
  if (before->rlim_cur == RLIM_INFINITY || before->rlim_cur >= bytes) {
    return true;
  }
  struct rlimit raised = *before;
  raised.rlim_cur = raised.rlim_max;
  if (raised.rlim_cur != RLIM_INFINITY && raised.rlim_cur < bytes) {
    return false;
  }
  *changed = KQ_SYS(SYS_prlimit64, 0, RLIMIT_FSIZE, &raised, NULL) == 0;
  return *changed;
}

static int open_memory(uint64_t bytes) {
  long fd = KQ_SYS(SYS_memfd_create, "kqtime", MFD_CLOEXEC | MFD_ALLOW_SEALING | MFD_NOEXEC_SEAL);
  if (fd == -EINVAL) {
    fd = KQ_SYS(SYS_memfd_create, "kqtime", MFD_CLOEXEC | MFD_ALLOW_SEALING);
  }
  if (fd < 0) {
    return -1;
  }
  struct rlimit limit;
  bool raised;
  bool sized = allow_size(bytes, &limit, &raised) && KQ_SYS(SYS_ftruncate, fd, bytes) == 0;
  long reserved = -ENOSPC;
  if (sized) {
    uint64_t first = bytes < FIRST_RESERVE_BYTES ? bytes : FIRST_RESERVE_BYTES;
    reserved = KQ_SYS(SYS_fallocate, fd, 0, 0, first);
  }
  if (raised) {
    KQ_SYS(SYS_prlimit64, 0, RLIMIT_FSIZE, &limit, NULL);
  }
  if (!sized || reserved == -ENOSPC || reserved == -ENOMEM ||
      KQ_SYS(SYS_fcntl, fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL) != 0) {
    KQ_SYS(SYS_close, fd);
    return -1;
  }
  return (int)fd;
}

static int open_collector(int tries) {
  long fd = KQ_SYS(SYS_socket, AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
  if (fd < 0) {
    return -1;
  }
  for (;;) {
    long result = KQ_SYS(SYS_connect, fd, &collector, sizeof collector);
    if (result == 0) {
      return (int)fd;
    }
    if (result != -EAGAIN || --tries <= 0) {
      KQ_SYS(SYS_close, fd);
      return -1;
    }
    struct timespec pause = {0, CONNECT_PAUSE_NS};
    KQ_SYS(SYS_nanosleep, &pause, NULL);
  }
}

/* Without memory (-1) the message says just that. */
static bool hand_over(int to, int memory, uint64_t ring_id) {
  struct kq_message hello = {.magic = KQ_MAGIC, .version = KQ_VERSION, .ring_id = ring_id};
  memcpy(hello.token, token, sizeof hello.token);
  struct iovec part = {&hello, KQ_MESSAGE_HEAD_BYTES};
  union {
    struct cmsghdr header;
    char bytes[CMSG_SPACE(sizeof(int))];
  } control;
  memset(&control, 0, sizeof control);
  struct msghdr message = {.msg_iov = &part, .msg_iovlen = 1};
  if (memory < 0) {
    return KQ_SYS(SYS_sendmsg, to, &message, MSG_NOSIGNAL) == (long)KQ_MESSAGE_HEAD_BYTES;
  }
  message.msg_control = &control;
  message.msg_controllen = sizeof control.bytes;
  struct cmsghdr *rights = CMSG_FIRSTHDR(&message);
  rights->cmsg_level = SOL_SOCKET;
  rights->cmsg_type = SCM_RIGHTS;
  rights->cmsg_len = CMSG_LEN(sizeof memory);
  memcpy(CMSG_DATA(rights), &memory, sizeof memory);
  return KQ_SYS(SYS_sendmsg, to, &message, MSG_NOSIGNAL) == (long)KQ_MESSAGE_HEAD_BYTES;
}

static uint32_t table_size(void) {
  uint32_t entries = slot_count / 4;
  if (entries < KQ_ENTRIES_MIN) {
    return KQ_ENTRIES_MIN;
  }
  return entries > KQ_ENTRIES_MAX ? KQ_ENTRIES_MAX : entries;
}

/* table_id 0: the ring holds a table itself. */
static void fill_header(struct kq_header *header, uint32_t entries, uint64_t table_id) {
  header->version = KQ_VERSION;
  header->header_bytes = KQ_HEADER_BYTES;
  header->slot_bytes = KQ_SLOT_BYTES;
  header->slot_count = slot_count;
  header->entry_bytes = KQ_ENTRY_BYTES;
  header->entry_count = entries;
  header->pid = (uint32_t)KQ_SYS(SYS_getpid);
  header->ring_id = random_id();
  header->table_id = table_id != 0 ? table_id : header->ring_id;
  header->birth_ns = now_ns();
  struct stat netns;
  if (KQ_SYS(SYS_newfstatat, AT_FDCWD, "/proc/self/ns/net", &netns, 0) == 0) {
    header->netns_ino = netns.st_ino;
  }
  memcpy(header->session_socket, collector.sun_path, sizeof header->session_socket);
  memcpy(header->session_token, token, sizeof header->session_token);
  KQ_SYS(SYS_prctl, PR_GET_NAME, header->comm);
  header->comm[sizeof header->comm - 1] = 0;
  __atomic_store_n(&header->magic, KQ_MAGIC, __ATOMIC_RELEASE);
}

/* Fills *ring. Leaves no descriptor open. */
static bool make_ring(struct kq_ring *ring, uint32_t entries, uint64_t table_id, int tries) {
  uint64_t bytes = KQ_HEADER_BYTES + (uint64_t)slot_count * KQ_SLOT_BYTES +
                   (uint64_t)entries * KQ_ENTRY_BYTES;
  int to = open_collector(tries);
  if (to < 0) {
    return false;
  }
  bool made = false;
  int memory = open_memory(bytes);
  if (memory >= 0) {
    long at = KQ_SYS(SYS_mmap, NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, memory, 0);
    if (at > 0 || at < -4095) {
      struct kq_header *header = (struct kq_header *)at;
      KQ_SYS(SYS_madvise, at, bytes, MADV_DONTDUMP);
      fill_header(header, entries, table_id);
      made = hand_over(to, memory, header->ring_id);
      if (made) {
        ring->header = header;
        ring->slots = (struct kq_slot *)(at + KQ_HEADER_BYTES);
        ring->mask = slot_count - 1;
        uint32_t first = (FIRST_RESERVE_BYTES - KQ_HEADER_BYTES) / KQ_SLOT_BYTES;
        ring->ready = first < slot_count ? first : slot_count;
      } else {
        KQ_SYS(SYS_munmap, at, bytes);
      }
    }
    KQ_SYS(SYS_close, memory);
  } else {
    hand_over(to, -1, 0);
  }
  KQ_SYS(SYS_close, to);
  return made;
}

uint32_t kq_session_pid(void) {
  uint32_t pid = __atomic_load_n(&kq_identity->pid, __ATOMIC_RELAXED);
  if (KQ_UNLIKELY(pid == 0)) {
    pid = (uint32_t)KQ_SYS(SYS_getpid);
    __atomic_store_n(&kq_identity->pid, pid, __ATOMIC_RELAXED);
  }
  return pid;
}

bool kq_session_foreign(void) {
  uint32_t owner = kq_session_pid();
  uint32_t pid = (uint32_t)KQ_SYS(SYS_getpid);
  if (KQ_LIKELY(pid == owner)) {
    return false;
  }
  /* 0: the parent is in another pid namespace. */
  uint32_t parent = (uint32_t)KQ_SYS(SYS_getppid);
  if (parent == owner || parent == 0) {
    return true;
  }
  /* A vfork child was the first to ask after a fork without handlers: set right. */
  __atomic_store_n(&kq_identity->pid, pid, __ATOMIC_RELAXED);
  return false;
}

static void at_fork_child(void) {
  __atomic_store_n(&kq_identity->state, KQ_RING_INHERITED, __ATOMIC_RELAXED);
  __atomic_store_n(&kq_identity->pid, (uint32_t)KQ_SYS(SYS_getpid), __ATOMIC_RELAXED);
  /* Into the inherited ring: the collector must know of a daemon that has not used a socket yet. */
  kq_note(KQ_KIND_FORK, 0, 0, -1, 0, 0, true);
}

void kq_session_after_fork(void) {
  uint32_t expected = KQ_RING_INHERITED;
  if (!__atomic_compare_exchange_n(&kq_identity->state, &expected, KQ_RING_MAKING, false,
                                   __ATOMIC_ACQ_REL, __ATOMIC_RELAXED)) {
    return;
  }
  struct kq_ring *inherited = kq_ring;
  struct kq_ring *own = inherited == &rings[0] ? &rings[1] : &rings[0];
  if (own->header != NULL && own->header != kq_table_header) {
    /* The grandparent's: nobody here uses it any more. */
    KQ_SYS(SYS_munmap, own->header, KQ_HEADER_BYTES + (uint64_t)slot_count * KQ_SLOT_BYTES);
  }
  own->header = NULL;
  kq_session_pid();
  if (!kq_sandboxed && make_ring(own, 0, kq_table_header->ring_id, 1)) {
    __atomic_store_n(&kq_ring, own, __ATOMIC_RELEASE);
  } else {
    kq_count_loss(KQ_LOSS_NO_RING);
  }
  __atomic_store_n(&kq_identity->state, KQ_RING_READY, __ATOMIC_RELEASE);
}

bool kq_session_sandbox_begin(void) {
  if (kq_ring == NULL || (!kq_sandboxed && kq_session_foreign())) {
    return false;
  }
  if (!kq_sandboxed) {
    if (__atomic_load_n(&kq_identity->state, __ATOMIC_ACQUIRE) == KQ_RING_INHERITED) {
      kq_session_after_fork();
    }
    uint64_t ring_bytes = KQ_HEADER_BYTES + ((uint64_t)kq_ring->mask + 1) * KQ_SLOT_BYTES;
    if (kq_session_reserve(kq_ring->header, ring_bytes)) {
      __atomic_store_n(&kq_ring->ready, kq_ring->mask + 1, __ATOMIC_RELAXED);
    }
    kq_table_reserve_all();
  }
  /* Before the filter is there: with SECCOMP_FILTER_FLAG_TSYNC it closes around all threads. */
  __atomic_fetch_add(&kq_sandboxed, 1, __ATOMIC_ACQ_REL);
  return true;
}

void kq_session_sandbox_end(bool begun, bool installed) {
  if (begun && !installed) {
    __atomic_fetch_sub(&kq_sandboxed, 1, __ATOMIC_ACQ_REL);
  }
}

static bool read_environment(void) {
  const char *path = secure_getenv(KQ_ENV_SOCKET);
  const char *hex = secure_getenv(KQ_ENV_TOKEN);
  const char *slots = secure_getenv(KQ_ENV_SLOTS);
  if (path == NULL || path[0] == '\0' || strlen(path) >= sizeof collector.sun_path) {
    return false;
  }
  collector.sun_family = AF_UNIX;
  memcpy(collector.sun_path, path, strlen(path) + 1);
  if (hex != NULL) {
    size_t length = strlen(hex);
    memcpy(token, hex, length < sizeof token ? length : sizeof token);
  }
  if (slots != NULL) {
    unsigned long count = strtoul(slots, NULL, 10);
    if (count >= KQ_SLOTS_MIN && count <= KQ_SLOTS_MAX && (count & (count - 1)) == 0) {
      slot_count = (uint32_t)count;
    }
  }
  return true;
}

static void *map_private(uint64_t bytes) {
  long at = KQ_SYS(SYS_mmap, NULL, bytes, PROT_READ | PROT_WRITE,
                   MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (at < 0 && at >= -4095) {
    return NULL;
  }
  KQ_SYS(SYS_madvise, at, bytes, MADV_DONTDUMP);
  return (void *)at;
}

static bool start_session(void) {
  struct rlimit files = {0, FD_LIMIT_MAX};
  KQ_SYS(SYS_prlimit64, 0, RLIMIT_NOFILE, NULL, &files);
  uint64_t fds = files.rlim_max < FD_LIMIT_MAX ? files.rlim_max : FD_LIMIT_MAX;
  kq_identity = map_private(PAGE_BYTES);
  uint64_t *map = map_private(fds * sizeof *map);
  if (kq_identity == NULL || map == NULL) {
    return false;
  }
  /* Without this the first touch would cost a huge page. */
  KQ_SYS(SYS_madvise, map, fds * sizeof *map, MADV_NOHUGEPAGE);
  /* Where it is not supported (before Linux 4.14), the handler below must do. */
  KQ_SYS(SYS_madvise, kq_identity, PAGE_BYTES, MADV_WIPEONFORK);
  if (__register_atfork(NULL, NULL, at_fork_child, &__dso_handle) != 0 ||
      !make_ring(&rings[0], table_size(), 0, CONNECT_TRIES)) {
    return false;
  }
  kq_table_header = rings[0].header;
  kq_table_entries = (struct kq_entry *)(rings[0].slots + slot_count);
  kq_identity->pid = (uint32_t)KQ_SYS(SYS_getpid);
  kq_identity->state = KQ_RING_READY;
  kq_ring = &rings[0];
  kq_table_start(map, (uint32_t)fds);
  return true;
}

__attribute__((constructor)) static void kq_constructor(void) {
  int saved = errno;
  kq_real_resolve();
  if (kq_ring == NULL && read_environment()) {
    kq_real_find_wrappers();
    start_session();
  }
  errno = saved;
}
