/* Calls by which bytes arrive: each on each kind of descriptor, well, badly and interrupted. */
#define _GNU_SOURCE
#include "cases.h"

#include <limits.h>
#include <netinet/tcp.h>
#include <pthread.h>
#include <sys/mman.h>

static const struct call calls[] = {
    ENTRY(read, PLAIN), ENTRY(__read, PLAIN), ENTRY(__read_chk, CHECKED), ENTRY(recv, FLAGS),
    ENTRY(__recv_chk, FLAGS_CHECKED), ENTRY(recvfrom, ADDRESS),
    ENTRY(__recvfrom_chk, ADDRESS_CHECKED), ENTRY(readv, VECTOR), ENTRY(preadv2, VECTOR_AT),
    ENTRY(preadv64v2, VECTOR_AT), ENTRY(recvmsg, MESSAGE), ENTRY_INT(recvmmsg, MESSAGES),
    ENTRY(splice, PIPED), NUMBER(SYS_read, PLAIN), NUMBER(SYS_recvfrom, ADDRESS),
    NUMBER(SYS_readv, VECTOR), NUMBER(SYS_preadv2, VECTOR_AT), NUMBER(SYS_recvmsg, MESSAGE),
    NUMBER(SYS_recvmmsg, MESSAGES), NUMBER(SYS_splice, PIPED)};

static _Alignas(struct iovec) char into[1 << 16];
/* What a call leaves in the caller's memory. */
static char left[128];

static bool takes_flags(const struct call *call) {
  return call->shape == FLAGS || call->shape == FLAGS_CHECKED || call->shape == ADDRESS ||
         call->shape == ADDRESS_CHECKED || call->shape == MESSAGE || call->shape == MESSAGES;
}
static bool takes_parts(const struct call *call) {
  return call->shape == VECTOR || call->shape == VECTOR_AT || call->shape == MESSAGE ||
         call->shape == MESSAGES;
}

static long receive_messages(const struct call *call, int fd, const struct iovec *parts,
                             int count, long flags) {
  struct mmsghdr messages[3] = {0};
  count = count < LENGTH(messages) ? count : LENGTH(messages);
  for (int index = 0; index < count && parts != BAD; index++) {
    messages[index] = (struct mmsghdr){.msg_hdr = {.msg_iov = (struct iovec *)&parts[index],
                                                   .msg_iovlen = 1},
                                       .msg_len = 99};
  }
  /* Of several the second would be waited for. */
  long result = INVOKE(call, fd, parts != BAD ? (long)messages : (long)BAD, count,
                       count > 1 ? flags | MSG_WAITFORONE : flags, 0);
  for (int index = 0; index < count && parts != BAD; index++) {
    snprintf(left + strlen(left), 40, " len %u flags %x", messages[index].msg_len,
             messages[index].msg_hdr.msg_flags);
  }
  return result;
}

static long spliced(const struct call *call, int fd, const struct iovec *part, long flags) {
  int pipes[2];
  CHECK(pipe(pipes) == 0);
  long result = INVOKE(call, fd, 0, pipes[1], 0, (long)part->iov_len,
                       flags & MSG_DONTWAIT ? SPLICE_F_NONBLOCK : 0);
  int saved = errno;
  if (result > 0) {
    CHECK(read(pipes[0], into, sizeof into) == result);
  }
  close(pipes[0]);
  close(pipes[1]);
  errno = saved;
  return result;
}

static long move(const struct call *call, int fd, const struct iovec *parts, int count,
                 long flags) {
  left[0] = '\0';
  memset(into, 0, 256);
  long base = parts != BAD ? (long)parts->iov_base : 0;
  long length = parts != BAD ? (long)parts->iov_len : 0;
  struct msghdr message = {.msg_iov = (struct iovec *)parts, .msg_iovlen = (size_t)count,
                           .msg_flags = 0x55};
  long result;
  switch (call->shape) {
    case PLAIN:
      return INVOKE(call, fd, base, length);
    case CHECKED:
      return INVOKE(call, fd, base, length, -1L);
    case FLAGS:
      return INVOKE(call, fd, base, length, flags);
    case FLAGS_CHECKED:
      return INVOKE(call, fd, base, length, -1L, flags);
    case ADDRESS:
      return INVOKE(call, fd, base, length, flags, 0, 0);
    case ADDRESS_CHECKED:
      return INVOKE(call, fd, base, length, -1L, flags, 0);
    case VECTOR:
      return INVOKE(call, fd, (long)parts, count);
    case VECTOR_AT:
      return call->number < 0 ? INVOKE(call, fd, (long)parts, count, -1, 0)
                              : INVOKE(call, fd, (long)parts, count, -1, -1, 0);
    case MESSAGE:
      result = INVOKE(call, fd, (long)&message, flags);
      snprintf(left, sizeof left, " flags %x", message.msg_flags);
      return result;
    case MESSAGES:
      return receive_messages(call, fd, parts, count, flags);
    default:
      return spliced(call, fd, parts, flags);
  }
}

static bool reads_memory(const struct iovec *part) {
  return part->iov_base >= (void *)into && part->iov_base < (void *)(into + sizeof into);
}

/* 20 bytes wait, then 10 more; one call takes some. */
static void once(const struct call *call, enum kind kind, const char *variant,
                 const struct iovec *parts, int count, long flags) {
  struct ends ends = open_ends(kind, false);
  CHECK(write(ends.peer, text, 20) == 20 && write(ends.peer, text + 20, 10) == 10);
  bool datagrams = kind == UDP || kind == UNIX_DGRAM;
  while (bytes_waiting(ends.own) < (datagrams ? 20 : 30)) {
    wait_readable(ends.own);
  }
  set_blocking(ends.own, (flags & MSG_WAITALL) != 0);
  long result = move(call, ends.own, parts, count, flags);
  int error = errno;
  unsigned sum = 0;
  if (count > 0 && parts != BAD && (reads_memory(parts) || call->shape == PIPED)) {
    sum = sum_of(into, 64);
  }
  char name[64];
  snprintf(name, sizeof name, "%s %s", kind_names[kind], variant);
  errno = error;
  tell(call, name, result, "got %x%s, waiting %d", sum, left,
       datagrams ? (int)take_all(ends.own, 0) : bytes_waiting(ends.own));
  close_ends(ends);
}

static void lengths(const struct call *call, enum kind kind) {
  struct iovec some[3] = {{into, 5}, {into, 0}, {into + 5, 12}};
  once(call, kind, "some", some, 1, 0);
  once(call, kind, "three parts", some, 3, 0);
  struct iovec all = {into, 4000};
  once(call, kind, "all", &all, 1, 0);
  struct iovec none = {into, 0};
  once(call, kind, "nothing", &none, 1, 0);
  struct iovec nowhere = {NULL, 0};
  once(call, kind, "nothing to NULL", &nowhere, 1, 0);
  struct iovec huge = {huge_zeros(), HUGE_LENGTH};
  once(call, kind, "huge", &huge, 1, 0);
  if (call->shape != PIPED) {
    struct iovec most = {into, SIZE_MAX};
    once(call, kind, "length -1", &most, 1, 0);
  }
}

static void pointers(const struct call *call, enum kind kind) {
  struct iovec null = {NULL, 5};
  once(call, kind, "NULL", &null, 1, 0);
  struct iovec bad = {BAD, 5};
  once(call, kind, "bad pointer", &bad, 1, 0);
  struct iovec edge = {edge_of_page(8), 16};
  once(call, kind, "half unmapped", &edge, 1, 0);
  struct iovec written = {mmap(NULL, PAGE, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0), 16};
  once(call, kind, "not writable", &written, 1, 0);
  munmap(written.iov_base, PAGE);
  if (takes_parts(call)) {
    struct iovec later[2] = {{into, 7}, {BAD, 7}};
    once(call, kind, "second part bad", later, 2, 0);
    once(call, kind, "bad vector", BAD, 2, 0);
    /* What comes lies over the vector itself, and makes a bad one of it. */
    struct iovec *own = (struct iovec *)(void *)(into + 1024);
    *own = (struct iovec){own, 30};
    once(call, kind, "onto the vector", own, 1, 0);
  }
}

static void counts(const struct call *call, enum kind kind) {
  static struct iovec many[IOV_MAX + 1];
  for (int index = 0; index < LENGTH(many); index++) {
    many[index] = (struct iovec){into + index, 1};
  }
  once(call, kind, "no parts", many, 0, 0);
  once(call, kind, "parts -1", many, -1, 0);
  if (call->shape != MESSAGES) {
    once(call, kind, "IOV_MAX parts", many, IOV_MAX, 0);
    once(call, kind, "IOV_MAX + 1 parts", many, IOV_MAX + 1, 0);
  }
  struct iovec over[2] = {{into, SSIZE_MAX}, {into, SSIZE_MAX}};
  once(call, kind, "parts beyond SSIZE_MAX", over, 2, 0);
}

static void flags(const struct call *call, enum kind kind) {
  static const struct {
    const char *name;
    long flags;
  } all[] = {{"MSG_PEEK", MSG_PEEK}, {"MSG_TRUNC", MSG_TRUNC}, {"MSG_WAITALL", MSG_WAITALL},
             {"MSG_DONTWAIT", MSG_DONTWAIT}, {"MSG_OOB", MSG_OOB}, {"MSG_ERRQUEUE", MSG_ERRQUEUE},
             {"MSG_PEEK and MSG_TRUNC", MSG_PEEK | MSG_TRUNC}, {"unknown flag", 0x1000000}};
  struct iovec part = {into, 6};
  for (int index = 0; index < LENGTH(all); index++) {
    once(call, kind, all[index].name, &part, 1, all[index].flags);
  }
}

static void wrong(const struct call *call) {
  struct iovec part = {into, 5};
  int closed = open_ends(TCP, false).own;
  CHECK(close(closed) == 0);
  struct sockaddr_in address;
  int idle = socket(AF_INET, SOCK_STREAM, 0);
  int idle_udp = socket(AF_INET, SOCK_DGRAM | SOCK_NONBLOCK, 0);
  int listener = tcp_listener(&address, 1);
  int zero = open("/dev/zero", O_RDWR);
  int writing = open("/dev/null", O_WRONLY);
  const struct {
    const char *name;
    int fd;
  } all[] = {{"closed", closed}, {"-1", -1}, {"INT_MAX", INT_MAX}, {"unconnected", idle},
             {"unconnected udp", idle_udp}, {"listening", listener}, {"/dev/zero", zero},
             {"for writing", writing}};
  for (int index = 0; index < LENGTH(all); index++) {
    long result = move(call, all[index].fd, &part, 1, 0);
    tell(call, all[index].name, result, "%s", left);
  }
  close(idle), close(idle_udp), close(listener), close(zero), close(writing);
}

/* Nothing is there, or nothing will come. */
static void empty(const struct call *call, enum kind kind) {
  struct ends ends = open_ends(kind, false);
  struct iovec part = {into, 5};
  char name[64];
  set_blocking(ends.own, false);
  long result = move(call, ends.own, &part, 1, 0);
  snprintf(name, sizeof name, "%s empty", kind_names[kind]);
  tell(call, name, result, "%s", left);
  set_blocking(ends.own, true);
  if (takes_flags(call)) {
    result = move(call, ends.own, &part, 1, MSG_DONTWAIT);
    snprintf(name, sizeof name, "%s empty, MSG_DONTWAIT", kind_names[kind]);
    tell(call, name, result, "%s", left);
  }
  start_signals(false, NULL);
  result = move(call, ends.own, &part, 1, 0);
  bool came = stop_signals();
  snprintf(name, sizeof name, "%s interrupted", kind_names[kind]);
  tell(call, name, result, "%s signal %d", left, came);
  if (kind == TCP || kind == UNIX_STREAM) {
    struct linger reset = {1, 0};
    CHECK(write(ends.peer, text, 3) == 3 && close(ends.peer) == 0);
    snprintf(name, sizeof name, "%s to the end", kind_names[kind]);
    for (int round = 0; round < 2; round++) {
      result = move(call, ends.own, &part, 1, 0);
      tell(call, name, result, "got %x%s", sum_of(into, 8), left);
    }
    close(ends.own);
    ends = open_ends(kind, false);
    setsockopt(ends.peer, SOL_SOCKET, SO_LINGER, &reset, sizeof reset);
    close(ends.peer);
    wait_readable(ends.own);
    snprintf(name, sizeof name, "%s reset", kind_names[kind]);
    for (int round = 0; round < 2; round++) {
      result = move(call, ends.own, &part, 1, 0);
      tell(call, name, result, "%s", left);
    }
    close(ends.own);
  } else {
    close_ends(ends);
  }
}

static int sender;
static int acted;
static void send_once(void) {
  if (acted++ == 1) {
    CHECK(write(sender, text, 9) == 9);
  }
}

/* The handler writes what the interrupted call then gets; two at a time with MSG_WAITALL. */
static void restarted(const struct call *call, enum kind kind) {
  struct ends ends = open_ends(kind, false);
  struct iovec part = {into, 9};
  char name[64];
  for (int all = 0; all < (takes_flags(call) && kind == TCP ? 2 : 1); all++) {
    sender = ends.peer;
    acted = 0;
    if (all) {
      CHECK(write(ends.peer, text, 4) == 4);
      wait_readable(ends.own);
    }
    start_signals(true, send_once);
    long result = move(call, ends.own, &part, 1, all ? MSG_WAITALL : 0);
    bool came = stop_signals();
    snprintf(name, sizeof name, "%s restarted%s", kind_names[kind], all ? ", MSG_WAITALL" : "");
    tell(call, name, result, "got %x%s signal %d", sum_of(into, 16), left, came);
  }
  close_ends(ends);
}

struct waiting {
  const struct call *call;
  int fd;
};
static void *wait_in_call(void *argument) {
  const struct waiting *waiting = argument;
  struct iovec part = {into, 9};
  return (void *)(move(waiting->call, waiting->fd, &part, 1, 0) == 9 ? "returned" : "failed");
}

/* A thread that is cancelled in the call. By number it is no cancellation point. */
static void cancelled(const struct call *call, enum kind kind) {
  struct ends ends = open_ends(kind, false);
  struct waiting waiting = {call, ends.own};
  pthread_t thread;
  void *result;
  CHECK(pthread_create(&thread, NULL, wait_in_call, &waiting) == 0);
  usleep(2000);
  CHECK(pthread_cancel(thread) == 0);
  bool numbered = call->number >= 0;
  if (numbered) {
    CHECK(write(ends.peer, text, 9) == 9);
  }
  CHECK(pthread_join(thread, &result) == 0);
  /* What comes then is for the next reader. */
  if (!numbered) {
    CHECK(write(ends.peer, text, 9) == 9);
    wait_readable(ends.own);
  }
  errno = UNTOUCHED;
  char name[64];
  snprintf(name, sizeof name, "%s cancelled", kind_names[kind]);
  tell(call, name, 0, "%s, waiting %d",
       result == PTHREAD_CANCELED ? "cancelled" : (const char *)result,
       bytes_waiting(ends.own));
  close_ends(ends);
}

/* What the fortified ones are for: the program ends before memory is overwritten. */
static void overflow(const struct call *call) {
  struct ends ends = open_ends(TCP, false);
  int null = open("/dev/null", O_RDWR);
  CHECK(dup2(null, 2) == 2);
  char small[8];
  if (call->shape == ADDRESS_CHECKED) {
    INVOKE(call, ends.own, (long)small, 9, 8, 0, 0);
  } else {
    INVOKE(call, ends.own, (long)small, 9, 8, 0);
  }
}

/* The urgent byte, in its place and out of it. */
static void urgent(const struct call *call) {
  for (int in_line = 0; in_line < 2; in_line++) {
    struct ends ends = open_ends(TCP, false);
    struct iovec part = {into, 16};
    setsockopt(ends.own, SOL_SOCKET, SO_OOBINLINE, &in_line, sizeof in_line);
    CHECK(send(ends.peer, text, 5, MSG_OOB) == 5 && send(ends.peer, text, 4, 0) == 4);
    while (bytes_waiting(ends.own) < 4) {
      wait_readable(ends.own);
    }
    set_blocking(ends.own, false);
    for (int round = 0; round < 3; round++) {
      long result = move(call, ends.own, &part, 1, round == 0 ? MSG_OOB : 0);
      tell(call, in_line ? "urgent in line" : "urgent", result, "got %x%s", sum_of(into, 16), left);
    }
    close_ends(ends);
  }
}

void family_in(void) {
  static const enum kind kinds[] = {TCP, TCP6, UDP, UNIX_STREAM, UNIX_DGRAM, PIPE};
  for (int index = 0; index < LENGTH(calls); index++) {
    const struct call *call = &calls[index];
    if (!present(call)) {
      continue;
    }
    for (int number = 0; number < LENGTH(kinds); number++) {
      enum kind kind = kinds[number];
      lengths(call, kind);
      if (call->shape != PIPED) {
        pointers(call, kind);
      }
      if (takes_parts(call)) {
        counts(call, kind);
      }
      if (takes_flags(call)) {
        flags(call, kind);
      }
      /* Only of sockets, for calls that know no other; splice refuses datagrams. */
      bool fits = (kind != PIPE || !takes_flags(call)) &&
                  (call->shape != PIPED || (kind != UDP && kind != UNIX_DGRAM));
      if (fits) {
        empty(call, kind);
        restarted(call, kind);
        cancelled(call, kind);
      }
    }
    wrong(call);
    if (call->shape != PIPED) {
      urgent(call);
    }
    if (call->shape == CHECKED || call->shape == FLAGS_CHECKED || call->shape == ADDRESS_CHECKED) {
      apart(overflow, call);
    }
  }
}
