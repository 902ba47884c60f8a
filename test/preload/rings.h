/* What the collectors of the tests share: they take rings, and print every record and entry. */
#ifndef KQ_TEST_RINGS_H
#define KQ_TEST_RINGS_H

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "../../c/kqtime_shm.h"

#define RINGS_MAX 4096
#define RETIRE_EACH 5
#define TOKEN "0123456789abcdef0123456789abcdef"

static struct kq_header *rings[RINGS_MAX];
static unsigned long inodes[RINGS_MAX]; /* of their memory */
static int ring_count;
static FILE *output;
static bool quiet_records;
static bool forget;
static bool gone;
static bool retire;
static bool mark;
static uint64_t counted;

static void die(const char *what) {
  fprintf(stderr, "ringdump: %s: %s\n", what, strerror(errno));
  exit(2);
}

static void print_hex(const uint8_t *bytes, size_t length) {
  for (size_t index = 0; index < length; index++) {
    fprintf(output, "%02x", bytes[index]);
  }
}

/* Takes a message and its descriptor (-1: none). Its length, -1 if it is none of this session. */
static ssize_t take_message(int from, struct kq_message *hello, int *fd) {
  struct iovec part = {hello, sizeof *hello};
  char control[CMSG_SPACE(sizeof(int))];
  struct msghdr message = {.msg_iov = &part,
                           .msg_iovlen = 1,
                           .msg_control = control,
                           .msg_controllen = sizeof control};
  ssize_t length = recvmsg(from, &message, MSG_CMSG_CLOEXEC);
  struct cmsghdr *rights = length > 0 ? CMSG_FIRSTHDR(&message) : NULL;
  *fd = -1;
  if (rights != NULL) {
    memcpy(fd, CMSG_DATA(rights), sizeof *fd);
  }
  if (length < (ssize_t)KQ_MESSAGE_HEAD_BYTES || hello->magic != KQ_MAGIC ||
      length != (ssize_t)(KQ_MESSAGE_HEAD_BYTES + hello->text_bytes) ||
      memcmp(hello->token, TOKEN, 32) != 0) {
    fprintf(output, "{\"what\":\"badhello\",\"length\":%zd}\n", length);
    return -1;
  }
  return length;
}

/* Marks all slots, or counts those that are not marked: what the collector alone may write. */
static uint32_t look_at_marks(struct kq_header *ring, bool set) {
  struct kq_slot *slots = (struct kq_slot *)((char *)ring + KQ_HEADER_BYTES);
  uint32_t overwritten = 0;
  for (uint32_t at = 0; at < ring->slot_count; at++) {
    if (set) {
      slots[at].retired = 1;
    } else {
      overwritten += slots[at].retired != 1;
    }
  }
  return overwritten;
}

static inline void add_ring(int memory) {
  struct stat status;
  fstat(memory, &status);
  struct kq_header *ring = mmap(NULL, (size_t)status.st_size, PROT_READ | PROT_WRITE,
                                MAP_SHARED, memory, 0);
  if (ring == MAP_FAILED || ring_count == RINGS_MAX) {
    die("mmap");
  }
  fprintf(output,
          "{\"what\":\"ring\",\"ring\":%d,\"id\":\"%" PRIx64 "\",\"table\":\"%" PRIx64
          "\",\"pid\":%u,\"slots\":%u,\"entries\":%u,\"netns\":%" PRIu64
          ",\"comm\":\"%s\",\"size\":%lld,\"seals\":%d}\n",
          ring_count, ring->ring_id, ring->table_id, ring->pid, ring->slot_count,
          ring->entry_count, ring->netns_ino, (const char *)ring->comm,
          (long long)status.st_size, fcntl(memory, F_GET_SEALS));
  if (mark) {
    look_at_marks(ring, true);
  }
  inodes[ring_count] = status.st_ino;
  rings[ring_count++] = ring;
  close(memory);
}

static inline void take_rings(int listener) {
  int from;
  while ((from = accept4(listener, NULL, NULL, SOCK_CLOEXEC)) >= 0) {
    struct kq_message hello;
    int memory;
    if (take_message(from, &hello, &memory) >= 0 && memory >= 0) {
      add_ring(memory);
    }
    close(from);
  }
}

static void print_slot(int ring, const struct kq_slot *slot) {
  static const char *const kinds[] = {"?", "OUT", "IN", "CONNECT", "BIRTH", "LISTEN", "UNBIND",
                                      "FORK", "NAME", "REGISTER", "DEREGISTER"};
  fprintf(output,
          "{\"what\":\"record\",\"ring\":%d,\"kind\":\"%s\",\"flags\":%u,\"entry\":%u,"
          "\"gen\":%u,\"time\":\"%" PRIu64 "\",\"off\":%" PRIu64
          ",\"bytes\":%u,\"fd\":%d,\"pid\":%u,\"group\":%u,\"tag\":\"",
          ring, slot->kind < 11 ? kinds[slot->kind] : "?", slot->flags, slot->entry, slot->gen,
          slot->time_ns, slot->off, slot->bytes, slot->fd, slot->pid, slot->group);
  print_hex(slot->tag, sizeof slot->tag);
  fprintf(output, "\"}\n");
}

static struct kq_entry *entry_of(struct kq_header *ring, const struct kq_slot *slot) {
  struct kq_entry *entries =
      (struct kq_entry *)((char *)ring + KQ_HEADER_BYTES +
                          (size_t)ring->slot_count * KQ_SLOT_BYTES);
  return &entries[slot->entry];
}

static void free_entry(struct kq_header *ring, const struct kq_slot *slot) {
  __atomic_store_n(&entry_of(ring, slot)->state, slot->gen << KQ_STATE_BITS | KQ_STATE_FREE,
                   __ATOMIC_RELEASE);
}

/* Of this process, which is in no call there. */
static void tell_gone(struct kq_header *ring, const struct kq_slot *slot) {
  __atomic_store_n(&entry_of(ring, slot)->out.gone, (uint32_t)getpid(), __ATOMIC_RELAXED);
  __atomic_store_n(&entry_of(ring, slot)->in.gone, (uint32_t)getpid(), __ATOMIC_RELAXED);
}

/* As of a record that is given up; this one has been read, so that all must be there. */
static void retire_slot(struct kq_header *ring, struct kq_slot *slot) {
  if (ring->retired < ring->slot_count / 4) {
    __atomic_store_n(&slot->retired, 1, __ATOMIC_RELAXED);
    __atomic_store_n(&ring->retired, ring->retired + 1, __ATOMIC_RELAXED);
  }
}

static bool drain(int index) {
  struct kq_header *ring = rings[index];
  struct kq_slot *slots = (struct kq_slot *)((char *)ring + KQ_HEADER_BYTES);
  uint32_t tail = ring->tail;
  /* What comes meanwhile is for the next time: a busy program must not hold the reader here. */
  uint32_t end = __atomic_load_n(&ring->head, __ATOMIC_ACQUIRE);
  bool any = false;
  while (tail != end) {
    struct kq_slot *slot = &slots[tail & (ring->slot_count - 1)];
    if (slot->retired != 0 && ring->retired != 0) {
      __atomic_store_n(&ring->tail, ++tail, __ATOMIC_RELEASE);
      continue;
    }
    if (__atomic_load_n(&slot->commit, __ATOMIC_ACQUIRE) != tail + 1) {
      break;
    }
    if (quiet_records) {
      counted++;
    } else {
      print_slot(index, slot);
    }
    if (forget && slot->kind == KQ_KIND_BIRTH) {
      free_entry(ring, slot);
    }
    if (gone && slot->kind == KQ_KIND_BIRTH) {
      tell_gone(ring, slot);
    }
    if (retire && tail % RETIRE_EACH == 0) {
      retire_slot(ring, slot);
    }
    __atomic_store_n(&ring->tail, ++tail, __ATOMIC_RELEASE);
    any = true;
  }
  return any;
}

static inline bool drain_all(void) {
  bool any = false;
  for (int index = 0; index < ring_count; index++) {
    any |= drain(index);
  }
  return any;
}

static inline void print_direction(const char *name, const struct kq_direction *direction) {
  fprintf(output,
          ",\"%s\":{\"active\":%u,\"started\":%u,\"group\":%u,\"off\":%" PRIu64
          ",\"asked\":%" PRIu64 "}",
          name, (unsigned)(direction->calls & KQ_CALLS_ACTIVE_MASK),
          (unsigned)(direction->calls >> KQ_CALLS_STARTED_SHIFT & 0x3ffff),
          (unsigned)(direction->calls >> KQ_CALLS_GROUP_SHIFT & 0x3ffff),
          direction->off, direction->call_bytes);
}

static inline void print_tables(void) {
  for (int index = 0; index < ring_count; index++) {
    const struct kq_header *ring = rings[index];
    if (mark && look_at_marks(rings[index], false) != 0) {
      die("a producer has overwritten what the collector alone may write");
    }
    const struct kq_entry *entries =
        (const struct kq_entry *)((const char *)ring + KQ_HEADER_BYTES +
                                  (size_t)ring->slot_count * KQ_SLOT_BYTES);
    uint32_t end = ring->entry_count != 0 ? ring->entry_high : 0;
    for (uint32_t number = 0; number < end; number++) {
      const struct kq_entry *entry = &entries[number];
      if ((entry->state & 7) == KQ_STATE_FREE) {
        continue;
      }
      fprintf(output,
              "{\"what\":\"entry\",\"ring\":%d,\"entry\":%u,\"gen\":%u,\"state\":%u,"
              "\"type\":%u,\"family\":%u,\"flags\":%u,\"inode\":%" PRIu64
              ",\"lport\":%u,\"rport\":%u,\"pid\":%u,\"fd\":%d,\"queuedOut\":%u,"
              "\"queuedIn\":%u,\"laddr\":\"",
              index, number, entry->state >> KQ_STATE_BITS, entry->state & 7, entry->type,
              entry->family, entry->flags, entry->inode, entry->lport, entry->rport,
              entry->birth_pid, entry->birth_fd, entry->queued_out, entry->queued_in);
      print_hex(entry->laddr, 16);
      fprintf(output, "\",\"raddr\":\"");
      print_hex(entry->raddr, 16);
      fprintf(output, "\"");
      print_direction("out", &entry->out);
      print_direction("in", &entry->in);
      fprintf(output, "}\n");
    }
    fprintf(output, "{\"what\":\"losses\",\"ring\":%d,\"losses\":[", index);
    for (int loss = 0; loss < KQ_LOSS_COUNT; loss++) {
      fprintf(output, "%s%u", loss ? "," : "", ring->losses[loss]);
    }
    fprintf(output, "]}\n");
  }
}

#endif
