/*
 * One memfd a ring, made before a sandbox can forbid it, sealed so that neither side can truncate
 * it under the other, and handed to the collector by SCM_RIGHTS. No descriptor stays open: programs
 * close what they do not know, and count what they have.
 *
 * Later chunks are made present with MADV_POPULATE_WRITE, which needs no descriptor and reports
 * an error where a plain write would raise SIGBUS (madvise(2)).
 */
#define _GNU_SOURCE
#include "memory.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <time.h>

#include "clock.h"
#include "headroom.h"
#include "unheard.h"

#define FIRST_RESERVE_BYTES (256u << 10)
#define CONNECT_PAUSE_NS 1000000L

struct kq_collector kq_collector = {.slot_count = KQ_SLOTS_DEFAULT};

static uint64_t random_id(void) {
  uint64_t id = 0;
  if (KQ_SYS(SYS_getrandom, &id, sizeof id, 1 /* GRND_NONBLOCK */) != (long)sizeof id ||
      id == 0) {
    /* Early in boot: unique by process and time is enough, nothing here is a secret. */
    id = kq_now_ns() * 0x9e3779b97f4a7c15u ^ (uint64_t)KQ_SYS(SYS_getpid) << 40 ^ (uintptr_t)&id;
  }
  return id;
}

bool kq_session_reserve(void *start, uint64_t bytes) {
  if (kq_sandboxed) {
    return true;
  }
  if (!kq_headroom_allows(bytes)) {
    return false;
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

/* A descriptor or -errno. */
static long open_memory(uint64_t bytes) {
  long fd = KQ_SYS(SYS_memfd_create, "kqtime", MFD_CLOEXEC | MFD_ALLOW_SEALING | MFD_NOEXEC_SEAL);
  if (fd == -EINVAL) {
    fd = KQ_SYS(SYS_memfd_create, "kqtime", MFD_CLOEXEC | MFD_ALLOW_SEALING);
  }
  if (fd < 0) {
    return fd;
  }
  struct rlimit limit;
  bool raised;
  long result = allow_size(bytes, &limit, &raised) ? KQ_SYS(SYS_ftruncate, fd, bytes) : -EFBIG;
  if (result == 0) {
    uint64_t first = bytes < FIRST_RESERVE_BYTES ? bytes : FIRST_RESERVE_BYTES;
    result = kq_headroom_allows(first) ? KQ_SYS(SYS_fallocate, fd, 0, 0, first) : -ENOMEM;
    if (result != -ENOSPC && result != -ENOMEM) {
      result = KQ_SYS(SYS_fcntl, fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL);
    }
  }
  if (raised) {
    KQ_SYS(SYS_prlimit64, 0, RLIMIT_FSIZE, &limit, NULL);
  }
  if (result != 0) {
    KQ_SYS(SYS_close, fd);
    return result;
  }
  return fd;
}

long kq_collector_open(int tries) {
  /* A stream, because Tor's sandbox allows no SOCK_SEQPACKET. What is sent by one call comes out
     by one: there is one message a connection. */
  long fd = KQ_SYS(SYS_socket, AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
  if (fd < 0) {
    return fd;
  }
  for (bool waits = false;; waits = true) {
    long result = KQ_SYS(SYS_connect, fd, &kq_collector.address, sizeof kq_collector.address);
    if (result == 0) {
      return fd;
    }
    if (result != -EAGAIN || --tries <= 0 || (!waits && kq_unheard_others())) {
      KQ_SYS(SYS_close, fd);
      return result;
    }
    struct timespec pause = {0, CONNECT_PAUSE_NS};
    KQ_SYS(SYS_nanosleep, &pause, NULL);
  }
}

long kq_collector_send(int to, const struct kq_message *message, int fd) {
  long bytes = (long)(KQ_MESSAGE_HEAD_BYTES + message->text_bytes);
  struct iovec part = {(void *)(uintptr_t)message, (size_t)bytes};
  union {
    struct cmsghdr header;
    char bytes[CMSG_SPACE(sizeof(int))];
  } control;
  struct msghdr packet = {.msg_iov = &part, .msg_iovlen = 1};
  if (fd >= 0) {
    memset(&control, 0, sizeof control);
    packet.msg_control = &control;
    packet.msg_controllen = sizeof control.bytes;
    struct cmsghdr *rights = CMSG_FIRSTHDR(&packet);
    rights->cmsg_level = SOL_SOCKET;
    rights->cmsg_type = SCM_RIGHTS;
    rights->cmsg_len = CMSG_LEN(sizeof fd);
    memcpy(CMSG_DATA(rights), &fd, sizeof fd);
  }
  long result = KQ_SYS(SYS_sendmsg, to, &packet, MSG_NOSIGNAL);
  return result == bytes ? 0 : result < 0 ? result : -EIO;
}

/* Without memory (-1) the message says just that. */
static long hand_over(int to, int memory, uint64_t ring_id) {
  struct kq_message hello = {.magic = KQ_MAGIC,
                             .version = KQ_VERSION,
                             .ring_id = ring_id,
                             .type = KQ_MESSAGE_RING};
  memcpy(hello.token, kq_collector.token, sizeof hello.token);
  return kq_collector_send(to, &hello, memory);
}

/* table_id 0: the ring holds a table itself. */
static void fill_header(struct kq_header *header, uint32_t entries, uint64_t table_id) {
  header->version = KQ_VERSION;
  header->header_bytes = KQ_HEADER_BYTES;
  header->slot_bytes = KQ_SLOT_BYTES;
  header->slot_count = kq_collector.slot_count;
  header->entry_bytes = KQ_ENTRY_BYTES;
  header->entry_count = entries;
  header->pid = (uint32_t)KQ_SYS(SYS_getpid);
  header->ring_id = random_id();
  header->table_id = table_id != 0 ? table_id : header->ring_id;
  header->birth_ns = kq_now_ns();
  struct stat netns;
  if (KQ_SYS(SYS_newfstatat, AT_FDCWD, "/proc/self/ns/net", &netns, 0) == 0) {
    header->netns_ino = netns.st_ino;
  }
  memcpy(header->session_socket, kq_collector.address.sun_path, sizeof header->session_socket);
  memcpy(header->session_token, kq_collector.token, sizeof header->session_token);
  KQ_SYS(SYS_prctl, PR_GET_NAME, header->comm);
  header->comm[sizeof header->comm - 1] = 0;
  __atomic_store_n(&header->magic, KQ_MAGIC, __ATOMIC_RELEASE);
}

uint64_t kq_ring_bytes(uint32_t slots, uint32_t entries) {
  return KQ_HEADER_BYTES + (uint64_t)slots * KQ_SLOT_BYTES + (uint64_t)entries * KQ_ENTRY_BYTES;
}

/* Maps the memory, and fills *ring when the collector has it. */
static long map_ring(struct kq_ring *ring, void *at, uint32_t entries, uint64_t table_id, int to,
                     int memory, bool *heard) {
  uint32_t slots = kq_collector.slot_count;
  uint64_t bytes = kq_ring_bytes(slots, entries);
  long address = KQ_SYS(SYS_mmap, at, bytes, PROT_READ | PROT_WRITE,
                        MAP_SHARED | (at != NULL ? MAP_FIXED : 0), memory, 0);
  if (address < 0 && address >= -4095) {
    *heard = hand_over(to, -1, 0) == 0;
    return address;
  }
  struct kq_header *header = (struct kq_header *)address;
  KQ_SYS(SYS_madvise, address, bytes, MADV_DONTDUMP);
  fill_header(header, entries, table_id);
  long result = hand_over(to, memory, header->ring_id);
  *heard = result == 0;
  if (result != 0) {
    /* What was there before may still be used: then the memory stays, for nobody. */
    if (at == NULL) {
      KQ_SYS(SYS_munmap, address, bytes);
    }
    return result;
  }
  if (at == NULL) {
    ring->header = header;
    ring->slots = (struct kq_slot *)(address + KQ_HEADER_BYTES);
    ring->mask = slots - 1;
  }
  __atomic_store_n(&ring->silent, KQ_RING_HEARD, __ATOMIC_RELAXED);
  uint32_t first = (FIRST_RESERVE_BYTES - KQ_HEADER_BYTES) / KQ_SLOT_BYTES;
  __atomic_store_n(&ring->ready, first < slots ? first : slots, __ATOMIC_RELAXED);
  return 0;
}

long kq_ring_make(struct kq_ring *ring, void *at, uint32_t entries, uint64_t table_id, int tries,
                  bool *heard) {
  *heard = false;
  long to = kq_collector_open(tries);
  if (to < 0) {
    return to;
  }
  long memory = open_memory(kq_ring_bytes(kq_collector.slot_count, entries));
  long result = memory;
  if (memory >= 0) {
    result = map_ring(ring, at, entries, table_id, (int)to, (int)memory, heard);
    KQ_SYS(SYS_close, memory);
  } else {
    *heard = hand_over((int)to, -1, 0) == 0;
  }
  KQ_SYS(SYS_close, to);
  return result;
}

void *kq_memory_private(uint64_t bytes) {
  long at = KQ_SYS(SYS_mmap, NULL, bytes, PROT_READ | PROT_WRITE,
                   MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (at < 0 && at >= -4095) {
    return NULL;
  }
  KQ_SYS(SYS_madvise, at, bytes, MADV_DONTDUMP);
  /* Without this the first touch would cost a huge page. */
  KQ_SYS(SYS_madvise, at, bytes, MADV_NOHUGEPAGE);
  return (void *)at;
}
