/*
 * A collector for the tests of the preload library: runs a command with the library loaded,
 * takes its rings, and prints every record, every table entry and the loss counters as one JSON
 * object a line.
 *
 *     ringdump [option…] LIBRARY OUTPUT command [argument…]
 *
 * --slots  sets the size of the rings
 * --hold   reads nothing before the command has ended, so that a small ring gets full
 * --quiet  counts the records instead of printing them, to keep up with a benchmark
 * --forget frees every entry as soon as it is born
 * --late   waits so long after the command's end for the processes that it left behind
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <poll.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include "../../c/kqtime_shm.h"

#define RINGS_MAX 4096
#define TOKEN "0123456789abcdef0123456789abcdef"

static struct kq_header *rings[RINGS_MAX];
static int ring_count;
static FILE *output;
static bool quiet_records;
static bool forget;
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

static void take_rings(int listener) {
  int from;
  while ((from = accept4(listener, NULL, NULL, SOCK_CLOEXEC)) >= 0) {
    struct kq_message hello;
    struct iovec part = {&hello, sizeof hello};
    char control[CMSG_SPACE(sizeof(int))];
    struct msghdr message = {.msg_iov = &part,
                             .msg_iovlen = 1,
                             .msg_control = control,
                             .msg_controllen = sizeof control};
    ssize_t length = recvmsg(from, &message, MSG_CMSG_CLOEXEC);
    struct cmsghdr *rights = length > 0 ? CMSG_FIRSTHDR(&message) : NULL;
    if (length != (ssize_t)KQ_MESSAGE_HEAD_BYTES || rights == NULL || hello.magic != KQ_MAGIC ||
        memcmp(hello.token, TOKEN, 32) != 0) {
      fprintf(output, "{\"what\":\"badhello\",\"length\":%zd}\n", length);
      close(from);
      continue;
    }
    int memory;
    memcpy(&memory, CMSG_DATA(rights), sizeof memory);
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
    rings[ring_count++] = ring;
    close(memory);
    close(from);
  }
}

static void print_slot(int ring, const struct kq_slot *slot) {
  static const char *const kinds[] = {"?", "OUT", "IN", "CONNECT", "BIRTH", "LISTEN", "UNBIND",
                                      "FORK"};
  fprintf(output,
          "{\"what\":\"record\",\"ring\":%d,\"kind\":\"%s\",\"flags\":%u,\"entry\":%u,"
          "\"gen\":%u,\"time\":\"%" PRIu64 "\",\"off\":%" PRIu64
          ",\"bytes\":%u,\"fd\":%d,\"pid\":%u,\"group\":%u,\"tag\":\"",
          ring, slot->kind < 8 ? kinds[slot->kind] : "?", slot->flags, slot->entry, slot->gen,
          slot->time_ns, slot->off, slot->bytes, slot->fd, slot->pid, slot->group);
  print_hex(slot->tag, sizeof slot->tag);
  fprintf(output, "\"}\n");
}

static void free_entry(struct kq_header *ring, const struct kq_slot *slot) {
  struct kq_entry *entries =
      (struct kq_entry *)((char *)ring + KQ_HEADER_BYTES +
                          (size_t)ring->slot_count * KQ_SLOT_BYTES);
  __atomic_store_n(&entries[slot->entry].state, slot->gen << KQ_STATE_BITS | KQ_STATE_FREE,
                   __ATOMIC_RELEASE);
}

static bool drain(int index) {
  struct kq_header *ring = rings[index];
  const struct kq_slot *slots = (const struct kq_slot *)((char *)ring + KQ_HEADER_BYTES);
  uint32_t tail = ring->tail;
  bool any = false;
  for (;;) {
    const struct kq_slot *slot = &slots[tail & (ring->slot_count - 1)];
    if (__atomic_load_n(&slot->commit, __ATOMIC_ACQUIRE) != tail + 1 ||
        tail == __atomic_load_n(&ring->head, __ATOMIC_ACQUIRE)) {
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
    __atomic_store_n(&ring->tail, ++tail, __ATOMIC_RELEASE);
    any = true;
  }
  return any;
}

static bool drain_all(void) {
  bool any = false;
  for (int index = 0; index < ring_count; index++) {
    any |= drain(index);
  }
  return any;
}

static void print_direction(const char *name, const struct kq_direction *direction) {
  fprintf(output,
          ",\"%s\":{\"active\":%u,\"started\":%u,\"group\":%u,\"off\":%" PRIu64
          ",\"asked\":%" PRIu64 "}",
          name, (unsigned)(direction->calls & 0xffff),
          (unsigned)(direction->calls >> 16 & 0xffffff), (unsigned)(direction->calls >> 40),
          direction->off, direction->call_bytes);
}

static void print_tables(void) {
  for (int index = 0; index < ring_count; index++) {
    const struct kq_header *ring = rings[index];
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

static pid_t start(char **command, const char *library, const char *path, const char *slots) {
  pid_t child = fork();
  if (child == 0) {
    setenv(KQ_ENV_SOCKET, path, 1);
    setenv(KQ_ENV_TOKEN, TOKEN, 1);
    const char *more = getenv("RINGDUMP_PRELOAD"); /* libraries behind ours */
    char preload[4096];
    snprintf(preload, sizeof preload, "%s%s%s", library, more ? ":" : "", more ? more : "");
    setenv("LD_PRELOAD", preload, 1);
    if (slots != NULL) {
      setenv(KQ_ENV_SLOTS, slots, 1);
    }
    execvp(command[0], command);
    _exit(127);
  }
  return child;
}

int main(int count, char **arguments) {
  const char *slots = NULL;
  bool hold = false;
  int late_ms = 0;
  int at = 1;
  for (; at < count && strncmp(arguments[at], "--", 2) == 0; at++) {
    if (strcmp(arguments[at], "--hold") == 0) {
      hold = true;
    } else if (strcmp(arguments[at], "--quiet") == 0) {
      quiet_records = true;
    } else if (strcmp(arguments[at], "--forget") == 0) {
      forget = true;
    } else if (at + 1 < count && strcmp(arguments[at], "--slots") == 0) {
      slots = arguments[++at];
    } else if (at + 1 < count && strcmp(arguments[at], "--late") == 0) {
      late_ms = atoi(arguments[++at]);
    }
  }
  if (at + 2 >= count) {
    fprintf(stderr, "usage: ringdump [options] LIBRARY OUTPUT command [argument...]\n");
    return 2;
  }
  output = fopen(arguments[at + 1], "w");
  if (output == NULL) {
    die(arguments[at + 1]);
  }
  char folder[] = "/tmp/kqringdumpXXXXXX";
  if (mkdtemp(folder) == NULL) {
    die("mkdtemp");
  }
  chmod(folder, 0711);
  struct sockaddr_un address = {.sun_family = AF_UNIX};
  snprintf(address.sun_path, sizeof address.sun_path, "%s/s", folder);
  int listener = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
  if (bind(listener, (struct sockaddr *)&address, sizeof address) != 0 ||
      listen(listener, 128) != 0) {
    die("listen");
  }
  chmod(address.sun_path, 0666);
  pid_t child = start(&arguments[at + 2], arguments[at], address.sun_path, slots);
  int status = 0;
  int quiet = 0;
  bool ended = false;
  while (!ended || quiet < 2 + late_ms) {
    struct pollfd poller = {listener, POLLIN, 0};
    poll(&poller, 1, quiet_records ? 0 : 1);
    take_rings(listener);
    if (!ended && waitpid(child, &status, WNOHANG) == child) {
      ended = true;
      continue;
    }
    bool any = !hold || ended ? drain_all() : false;
    quiet = ended && !any ? quiet + 1 : 0;
  }
  print_tables();
  if (quiet_records) {
    fprintf(output, "{\"what\":\"counted\",\"records\":%" PRIu64 "}\n", counted);
  }
  fprintf(output, "{\"what\":\"exit\",\"code\":%d,\"signal\":%d}\n",
          WIFEXITED(status) ? WEXITSTATUS(status) : -1,
          WIFSIGNALED(status) ? WTERMSIG(status) : 0);
  fclose(output);
  unlink(address.sun_path);
  rmdir(folder);
  return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}
