/* Calls by which bytes leave: each on each kind of descriptor, well, badly and interrupted. */
#define _GNU_SOURCE
#include "cases.h"

#include <limits.h>
#include <sys/mman.h>

static const struct call calls[] = {
    ENTRY(write, PLAIN), ENTRY(__write, PLAIN), ENTRY(send, FLAGS), ENTRY(__send, FLAGS),
    ENTRY(sendto, ADDRESS), ENTRY(writev, VECTOR), ENTRY(pwritev2, VECTOR_AT),
    ENTRY(pwritev64v2, VECTOR_AT), ENTRY(sendmsg, MESSAGE), ENTRY_INT(sendmmsg, MESSAGES),
    ENTRY(sendfile, FROM_FILE), ENTRY(sendfile64, FROM_FILE), ENTRY(splice, PIPED),
    NUMBER(SYS_write, PLAIN), NUMBER(SYS_sendto, ADDRESS), NUMBER(SYS_writev, VECTOR),
    NUMBER(SYS_pwritev2, VECTOR_AT), NUMBER(SYS_sendmsg, MESSAGE),
    NUMBER(SYS_sendmmsg, MESSAGES), NUMBER(SYS_sendfile, FROM_FILE), NUMBER(SYS_splice, PIPED)};

/* What a call leaves in the caller's memory and in the descriptors that it reads. */
static char left[96];
/* How many bytes of a stream are to arrive. */
static long sent;

static bool takes_memory(const struct call *call) {
  return call->shape != FROM_FILE && call->shape != PIPED;
}
static bool takes_flags(const struct call *call) {
  return call->shape == FLAGS || call->shape == ADDRESS || call->shape == MESSAGE ||
         call->shape == MESSAGES;
}
static bool takes_parts(const struct call *call) {
  return call->shape == VECTOR || call->shape == VECTOR_AT || call->shape == MESSAGE ||
         call->shape == MESSAGES;
}

static long send_messages(const struct call *call, int fd, const struct iovec *parts, int count,
                          long flags) {
  struct mmsghdr messages[3] = {0};
  count = count < LENGTH(messages) ? count : LENGTH(messages);
  for (int index = 0; index < count && parts != BAD; index++) {
    messages[index] = (struct mmsghdr){.msg_hdr = {.msg_iov = (struct iovec *)&parts[index],
                                                   .msg_iovlen = 1},
                                       .msg_len = 99};
  }
  long result = INVOKE(call, fd, parts != BAD ? (long)messages : (long)BAD, count, flags);
  for (int index = 0; index < count && parts != BAD; index++) {
    unsigned length = messages[index].msg_len;
    snprintf(left + strlen(left), 24, " len %u", length > 65536 ? 65536 : length);
    sent += index < result ? length : 0;
  }
  return result;
}

/* From a file or a pipe that holds the first part. */
static long send_held(const struct call *call, int fd, const struct iovec *parts, long flags) {
  size_t held = parts->iov_len < sizeof text ? parts->iov_len : sizeof text;
  long result;
  if (call->shape == FROM_FILE) {
    int file = file_of(text, held);
    if (parts->iov_len > held) {
      CHECK(ftruncate(file, (off_t)parts->iov_len) == 0);
    }
    off_t at = 1;
    result = INVOKE(call, fd, file, (long)&at, (long)parts->iov_len);
    int saved = errno;
    /* In how many steps a full socket stops a long one is chance. */
    snprintf(left, sizeof left, " offset %s file %ld", at == 1 + (result > 0 ? result : 0)
                                                            ? "moved" : "wrong",
             (long)lseek(file, 0, SEEK_CUR));
    close(file);
    errno = saved;
    return result;
  }
  int pipes[2];
  CHECK(pipe(pipes) == 0 && write(pipes[1], text, held) == (ssize_t)held);
  close(pipes[1]);
  result = INVOKE(call, pipes[0], 0, fd, 0, (long)parts->iov_len, flags);
  int saved = errno;
  snprintf(left, sizeof left, " pipe %d", bytes_waiting(pipes[0]));
  close(pipes[0]);
  errno = saved;
  return result;
}

static long move_by(const struct call *call, int fd, const struct iovec *parts, int count,
                 long flags) {
  left[0] = '\0';
  long base = parts != BAD ? (long)parts->iov_base : 0;
  long length = parts != BAD ? (long)parts->iov_len : 0;
  struct msghdr message = {.msg_iov = (struct iovec *)parts, .msg_iovlen = (size_t)count};
  switch (call->shape) {
    case PLAIN:
      return INVOKE(call, fd, base, length);
    case FLAGS:
      return INVOKE(call, fd, base, length, flags);
    case ADDRESS:
      return INVOKE(call, fd, base, length, flags, 0, 0);
    case VECTOR:
      return INVOKE(call, fd, (long)parts, count);
    case VECTOR_AT:
      /* By number the offset is in two halves. */
      return call->number < 0 ? INVOKE(call, fd, (long)parts, count, -1, 0)
                              : INVOKE(call, fd, (long)parts, count, -1, -1, 0);
    case MESSAGE:
      return INVOKE(call, fd, (long)&message, flags);
    case MESSAGES:
      return send_messages(call, fd, parts, count, flags);
    default:
      return send_held(call, fd, parts, flags);
  }
}

static long move(const struct call *call, int fd, const struct iovec *parts, int count,
                 long flags) {
  sent = 0;
  long result = move_by(call, fd, parts, count, flags);
  sent += call->shape != MESSAGES ? result : 0;
  return result;
}

/* One call on a pair of its own, and what the other end gets. */
static void once(const struct call *call, enum kind kind, const char *variant,
                 const struct iovec *parts, int count, long flags) {
  struct ends ends = open_ends(kind, true);
  set_blocking(ends.peer, false);
  set_blocking(ends.own, false);
  long result = move(call, ends.own, parts, count, flags);
  int error = errno;
  /* What is still to be completed does not leave; of urgent bytes the last is not in the stream. */
  bool kept = kind == UDP && (flags & MSG_MORE) != 0;
  long expected = kept ? 0 : sent - ((flags & MSG_OOB) != 0 ? 1 : 0);
  size_t got = take_all(ends.peer, expected);
  char name[64];
  snprintf(name, sizeof name, "%s %s", kind_names[kind], variant);
  errno = error;
  /* How much a full socket takes is chance: that all of it arrives is not. */
  if (sent > 65536) {
    tell(call, name, result > 65536 ? 65536 : result, "or more%s, arrived %s", left,
         (size_t)sent == got ? "as much" : "not");
  } else {
    tell(call, name, result, "arrived %zu%s, SIGPIPE %d", got, left, pipe_signals());
  }
  close_ends(ends);
}

static void lengths(const struct call *call, enum kind kind) {
  struct iovec some[3] = {{text, 5}, {text, 0}, {text + 5, 20}};
  once(call, kind, "one part", some, 1, MSG_NOSIGNAL);
  once(call, kind, "three parts", some, 3, 0);
  struct iovec none = {text, 0};
  once(call, kind, "nothing", &none, 1, 0);
  struct iovec nowhere = {NULL, 0};
  once(call, kind, "nothing from NULL", &nowhere, 1, 0);
  struct iovec huge = {huge_zeros(), HUGE_LENGTH};
  once(call, kind, "huge", &huge, 1, 0);
  if (takes_memory(call)) {
    struct iovec most = {text, SIZE_MAX};
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
  if (takes_parts(call)) {
    struct iovec later[2] = {{text, 7}, {BAD, 7}};
    once(call, kind, "second part bad", later, 2, 0);
    once(call, kind, "bad vector", BAD, 2, 0);
  }
}

static void counts(const struct call *call, enum kind kind) {
  static struct iovec many[IOV_MAX + 1];
  for (int index = 0; index < LENGTH(many); index++) {
    many[index] = (struct iovec){text + index % 60, 1};
  }
  once(call, kind, "no parts", many, 0, 0);
  once(call, kind, "parts -1", many, -1, 0);
  if (call->shape != MESSAGES) {
    once(call, kind, "IOV_MAX parts", many, IOV_MAX, 0);
    once(call, kind, "IOV_MAX + 1 parts", many, IOV_MAX + 1, 0);
  }
  struct iovec over[2] = {{text, SSIZE_MAX}, {text, SSIZE_MAX}};
  once(call, kind, "parts beyond SSIZE_MAX", over, 2, 0);
}

static void flags(const struct call *call, enum kind kind) {
  static const struct {
    const char *name;
    long flags;
  } all[] = {{"MSG_OOB", MSG_OOB}, {"MSG_MORE", MSG_MORE}, {"MSG_DONTROUTE", MSG_DONTROUTE},
             {"MSG_CONFIRM", MSG_CONFIRM}, {"MSG_EOR", MSG_EOR}, {"MSG_ZEROCOPY", 0x4000000},
             {"MSG_FASTOPEN", MSG_FASTOPEN}, {"unknown flag", 0x1000000}};
  struct iovec part = {text, 6};
  for (int index = 0; index < LENGTH(all); index++) {
    once(call, kind, all[index].name, &part, 1, all[index].flags);
  }
}

/* On descriptors that are not what they should be. */
static void wrong(const struct call *call) {
  struct iovec part = {text, 5};
  int closed = open_ends(TCP, true).own;
  CHECK(close(closed) == 0);
  struct sockaddr_in address;
  int idle = socket(AF_INET, SOCK_STREAM, 0);
  int idle_udp = socket(AF_INET, SOCK_DGRAM, 0);
  int listener = tcp_listener(&address, 1);
  int null = open("/dev/null", O_RDWR);
  int full = open("/dev/full", O_RDWR);
  int reading = open("/dev/zero", O_RDONLY);
  const struct {
    const char *name;
    int fd;
  } all[] = {{"closed", closed}, {"-1", -1}, {"INT_MAX", INT_MAX}, {"unconnected", idle},
             {"unconnected udp", idle_udp}, {"listening", listener}, {"/dev/null", null},
             {"/dev/full", full}, {"for reading", reading}};
  for (int index = 0; index < LENGTH(all); index++) {
    long result = move(call, all[index].fd, &part, 1, 0);
    tell(call, all[index].name, result, "SIGPIPE %d", pipe_signals());
  }
  struct iovec huge = {huge_zeros(), HUGE_LENGTH};
  tell(call, "/dev/null huge", call->shape == FROM_FILE ? 0 : move(call, null, &huge, 1, 0), "%s", "");
  close(idle), close(idle_udp), close(listener), close(null), close(full), close(reading);
}

/* The other end, or this direction, is closed. */
static void ended(const struct call *call, enum kind kind, bool by_peer, long flag) {
  struct ends ends = open_ends(kind, true);
  char name[64];
  snprintf(name, sizeof name, "%s %s flags %ld", kind_names[kind],
           by_peer ? "peer gone" : "shut down", flag);
  if (by_peer) {
    struct linger reset = {1, 0};
    setsockopt(ends.peer, SOL_SOCKET, SO_LINGER, &reset, sizeof reset);
    CHECK(close(ends.peer) == 0);
  } else {
    shutdown(ends.own, SHUT_WR);
  }
  struct iovec part = {text, 5};
  for (int round = 0; round < 3; round++) {
    long result = move(call, ends.own, &part, 1, flag);
    tell(call, name, result, "%s SIGPIPE %d", left, pipe_signals());
  }
  close(ends.own);
  if (!by_peer) {
    close(ends.peer);
  }
}

static int draining;
static void drain(void) {
  static char buffer[1 << 16];
  while (read(draining, buffer, sizeof buffer) > 0) {
  }
}

/* A full TCP socket finds room now and then, when its peer packs better what it has: tried again. */
#define TRIES 100

/* On a full socket: refused, interrupted, and after a handler has made room. */
static void blocked(const struct call *call, enum kind kind) {
  static const char *const ways[] = {"full", "full, MSG_DONTWAIT", "interrupted", "restarted"};
  struct ends ends = open_ends(kind, true);
  struct iovec part = {text, 5};
  int room = 65536;
  setsockopt(ends.own, SOL_SOCKET, SO_SNDBUF, &room, sizeof room);
  setsockopt(ends.peer, SOL_SOCKET, SO_RCVBUF, &room, sizeof room);
  set_blocking(ends.peer, false);
  draining = ends.peer;
  for (int way = 0; way < LENGTH(ways); way++) {
    if (way == 1 && !takes_flags(call)) {
      continue;
    }
    long result;
    bool came = false;
    for (int tries = 0; tries < TRIES; tries++) {
      fill(ends.own);
      set_blocking(ends.own, way > 0);
      if (way >= 2) {
        start_signals(way == 3, way == 3 ? drain : NULL);
      }
      result = move(call, ends.own, &part, 1, way == 1 ? MSG_DONTWAIT : 0);
      came = way >= 2 && stop_signals();
      if (way == 3 ? came : result < 0) {
        break;
      }
    }
    char name[64];
    snprintf(name, sizeof name, "%s %s", kind_names[kind], ways[way]);
    tell(call, name, result, "%s signal %d", left, came);
  }
  close_ends(ends);
}

/* A long call that a signal ends in the middle, and one that has to wait several times. */
static void in_parts(const struct call *call, enum kind kind) {
  struct ends ends = open_ends(kind, true);
  struct iovec part = {huge_zeros(), 64 << 20};
  char name[64];
  set_blocking(ends.peer, false);
  start_signals(false, NULL);
  long result = move(call, ends.own, &part, 1, 0);
  bool came = stop_signals();
  int error = errno;
  size_t got = take_all(ends.peer, sent);
  snprintf(name, sizeof name, "%s interrupted in the middle", kind_names[kind]);
  errno = error;
  bool part_of = result > 0 && sent < 64 << 20;
  tell(call, name, part_of ? 1 : result, "a part: %d, arrived %s, signal %d", part_of,
       (size_t)sent == got ? "as much" : "not", came);
  close_ends(ends);
}

void family_out(void) {
  static const enum kind streams[] = {TCP, UNIX_STREAM};
  static const enum kind kinds[] = {TCP, TCP6, UDP, UNIX_STREAM, UNIX_DGRAM, PIPE};
  for (int index = 0; index < LENGTH(calls); index++) {
    const struct call *call = &calls[index];
    if (!present(call)) {
      continue;
    }
    for (int kind = 0; kind < LENGTH(kinds); kind++) {
      if (kinds[kind] == PIPE && call->shape == PIPED) {
        continue;
      }
      lengths(call, kinds[kind]);
      if (takes_memory(call)) {
        pointers(call, kinds[kind]);
      }
      if (takes_parts(call)) {
        counts(call, kinds[kind]);
      }
      if (takes_flags(call)) {
        flags(call, kinds[kind]);
      }
    }
    wrong(call);
    for (int kind = 0; kind < LENGTH(streams); kind++) {
      ended(call, streams[kind], true, 0);
      ended(call, streams[kind], true, MSG_NOSIGNAL);
      ended(call, streams[kind], false, 0);
      blocked(call, streams[kind]);
      if (takes_memory(call)) {
        in_parts(call, streams[kind]);
      }
    }
  }
}
