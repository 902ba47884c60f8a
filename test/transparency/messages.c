/* What message calls carry beside the bytes: addresses, control messages, several at once. */
#define _GNU_SOURCE
#include "cases.h"

#include <arpa/inet.h>
#include <limits.h>
#include <sys/ioctl.h>
#include <time.h>

static const struct call sendmsgs[] = {ENTRY(sendmsg, MESSAGE), NUMBER(SYS_sendmsg, MESSAGE)};
static const struct call recvmsgs[] = {ENTRY(recvmsg, MESSAGE), NUMBER(SYS_recvmsg, MESSAGE)};
static const struct call sendmmsgs[] = {ENTRY_INT(sendmmsg, MESSAGES),
                                        NUMBER(SYS_sendmmsg, MESSAGES)};
static const struct call recvmmsgs[] = {ENTRY_INT(recvmmsg, MESSAGES),
                                        NUMBER(SYS_recvmmsg, MESSAGES)};
static const struct call sendtos[] = {ENTRY(sendto, ADDRESS), NUMBER(SYS_sendto, ADDRESS)};
static const struct call recvfroms[] = {ENTRY(recvfrom, ADDRESS),
                                        ENTRY(__recvfrom_chk, ADDRESS_CHECKED),
                                        NUMBER(SYS_recvfrom, ADDRESS)};

/* An unconnected datagram socket and another's address. */
static struct ends datagrams(struct sockaddr_in *address) {
  struct ends ends = {socket(AF_INET, SOCK_DGRAM, 0), socket(AF_INET, SOCK_DGRAM, 0)};
  socklen_t length = sizeof *address;
  *address = (struct sockaddr_in){.sin_family = AF_INET,
                                  .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
  CHECK(bind(ends.own, (struct sockaddr *)address, length) == 0);
  CHECK(bind(ends.peer, (struct sockaddr *)address, length) == 0);
  CHECK(getsockname(ends.peer, (struct sockaddr *)address, &length) == 0);
  return ends;
}

static void to_addresses(const struct call *call) {
  struct sockaddr_in address;
  struct ends ends = datagrams(&address);
  struct sockaddr_in strange = address;
  strange.sin_family = 77;
  struct sockaddr_in nowhere = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
  const struct {
    const char *name;
    const void *address;
    long length;
  } all[] = {{"to the peer", &address, sizeof address}, {"to nobody", NULL, 0},
             {"to NULL with a length", NULL, sizeof address}, {"to a bad pointer", BAD, 16},
             {"to a short address", &address, 4}, {"to an empty address", &address, 0},
             {"to a negative length", &address, -1}, {"to a long address", &address, 128},
             {"to a huge address", &address, 129}, {"to a strange family", &strange, 16},
             {"to port 0", &nowhere, 16},
             {"to half an address", edge_of_page(8), sizeof address}};
  for (int index = 0; index < LENGTH(all); index++) {
    for (int way = 0; way < 3; way++) {
      int fd = way == 0 ? ends.own : socket(AF_INET, SOCK_STREAM, 0);
      int flags = way == 2 ? MSG_FASTOPEN : 0;
      struct sockaddr_in target;
      int listener = tcp_listener(&target, 4);
      const void *to = way != 0 && all[index].address == &address ? &target : all[index].address;
      long result;
      if (call->shape == ADDRESS) {
        result = INVOKE(call, fd, (long)text, 9, flags, (long)to, all[index].length);
      } else {
        struct iovec part = {text, 9};
        struct msghdr message = {.msg_name = (void *)to, .msg_namelen = (socklen_t)all[index].length,
                                 .msg_iov = &part, .msg_iovlen = 1};
        result = INVOKE(call, fd, (long)&message, flags);
      }
      char name[96];
      static const char *const ways[] = {"udp", "tcp", "tcp fast open"};
      snprintf(name, sizeof name, "%s %s", ways[way], all[index].name);
      int error = errno;
      int port = 0;
      struct sockaddr_in peer;
      socklen_t length = sizeof peer;
      if (way != 0 && getpeername(fd, (struct sockaddr *)&peer, &length) == 0) {
        port = peer.sin_port == target.sin_port;
      }
      size_t got = way == 0 ? take_all(ends.peer, result) : 0;
      errno = error;
      tell(call, name, result, "arrived %zu, connected %d, SIGPIPE %d", got, port, pipe_signals());
      close(listener);
      if (way != 0) {
        close(fd);
      }
    }
  }
  close_ends(ends);
}

static void from_addresses(const struct call *call) {
  struct sockaddr_in address;
  struct ends ends = datagrams(&address);
  static const struct {
    const char *name;
    long room;
    bool address, length, bad;
  } all[] = {{"from, whole", 128, true, true, false}, {"from, short", 6, true, true, false},
             {"from, no room", 0, true, true, false}, {"from, negative", -1, true, true, false},
             {"from, no length", 0, true, false, false}, {"from, no address", 16, false, true, false},
             {"from, bad address", 16, true, true, true}};
  for (int index = 0; index < LENGTH(all); index++) {
    uint8_t from[128];
    char buffer[32] = "";
    socklen_t length = (socklen_t)all[index].room;
    memset(from, 0xee, sizeof from);
    CHECK(sendto(ends.own, text, 9, 0, (struct sockaddr *)&address, sizeof address) == 9);
    void *at = all[index].bad ? BAD : all[index].address ? from : NULL;
    void *length_at = all[index].length ? &length : NULL;
    long result;
    if (call->shape == ADDRESS) {
      result = INVOKE(call, ends.peer, (long)buffer, 20, 0, (long)at, (long)length_at);
    } else if (call->shape == ADDRESS_CHECKED) {
      typedef long (*checked)(int, void *, size_t, size_t, int, void *, void *);
      struct call bare = *call;
      bare.shape = OTHER;
      /* With seven arguments. */
      extern void *dlsym(void *, const char *);
      checked function = (checked)dlsym(NULL, bare.symbol);
      errno = UNTOUCHED;
      result = function(ends.peer, buffer, 20, 32, 0, at, length_at);
    } else {
      struct iovec part = {buffer, 20};
      struct msghdr message = {.msg_name = at, .msg_namelen = length, .msg_iov = &part,
                               .msg_iovlen = 1};
      result = INVOKE(call, ends.peer, (long)&message, 0);
      length = message.msg_namelen;
    }
    int error = errno;
    memset(from + 2, 0, 2); /* the port */
    errno = error;
    tell(call, all[index].name, result, "got %x, from %x length %d, waiting %d",
         sum_of(buffer, 32), sum_of(from, sizeof from), (int)length, bytes_waiting(ends.peer));
    take_all(ends.peer, 0);
  }
  close_ends(ends);
}

/* Descriptors that travel, with and without room for them. */
static void rights(const struct call *send, const struct call *receive) {
  static const struct {
    const char *name;
    int count;
    size_t room;
    int flags;
  } all[] = {{"two descriptors", 2, 64, 0},
             {"descriptors, close-on-exec", 2, 64, MSG_CMSG_CLOEXEC},
             {"descriptors, no room", 2, 0, 0},
             {"descriptors, room for one", 2, CMSG_LEN(sizeof(int)), 0},
             {"descriptors, room for a header", 1, sizeof(struct cmsghdr), 0},
             {"descriptors, peeked", 1, 64, MSG_PEEK}, {"a closed descriptor", -1, 64, 0},
             {"no descriptor", 0, 64, 0}};
  for (int index = 0; index < LENGTH(all); index++) {
    int ways[2];
    CHECK(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, ways) == 0);
    struct ends carried = open_ends(TCP, true);
    int closed = 199;
    int fds[2] = {all[index].count < 0 ? closed : carried.own, carried.peer};
    size_t bytes = sizeof(int) * (size_t)abs(all[index].count);
    char control[64] __attribute__((aligned(8))) = {0};
    struct iovec part = {text, 7};
    struct msghdr message = {.msg_iov = &part, .msg_iovlen = 1, .msg_control = control,
                             .msg_controllen = CMSG_LEN(bytes)};
    *(struct cmsghdr *)control = (struct cmsghdr){CMSG_LEN(bytes), SOL_SOCKET, SCM_RIGHTS};
    memcpy(CMSG_DATA((struct cmsghdr *)control), fds, bytes);
    long result = INVOKE(send, ways[0], (long)&message, 0);
    tell(send, all[index].name, result, "%s", "");
    const char *before = open_fds(3);
    char list[2048];
    snprintf(list, sizeof list, "%s", before);
    char buffer[16] = "";
    memset(control, 0xee, sizeof control);
    part.iov_base = buffer;
    message = (struct msghdr){.msg_iov = &part, .msg_iovlen = 1, .msg_control = control,
                              .msg_controllen = all[index].room};
    result = INVOKE(receive, ways[1], (long)&message, all[index].flags);
    tell(receive, all[index].name, result, "control %zu %x flags %x, before%s after%s",
         message.msg_controllen, sum_of(control, message.msg_controllen), message.msg_flags, list,
         open_fds(3));
    close_ends(carried);
    close(ways[0]), close(ways[1]);
    for (int fd = 0; result > 0 && fd < 16; fd++) {
      /* What has arrived follows what was open. */
      if (fd > ways[1] && fd != carried.own && fd != carried.peer && fd > 8) {
        close(fd);
      }
    }
  }
}

static void controls(const struct call *send, const struct call *receive) {
  struct ends ends = open_ends(UDP, true);
  int on = 1;
  CHECK(setsockopt(ends.own, SOL_SOCKET, SO_TIMESTAMPNS, &on, sizeof on) == 0 &&
        setsockopt(ends.own, IPPROTO_IP, IP_RECVTTL, &on, sizeof on) == 0);
  char control[256] __attribute__((aligned(8)));
  char buffer[32];
  for (size_t room = 0; room < sizeof control; room += 24) {
    CHECK(write(ends.peer, text, 11) == 11);
    wait_readable(ends.own);
    struct iovec part = {buffer, sizeof buffer};
    struct msghdr message = {.msg_iov = &part, .msg_iovlen = 1, .msg_control = control,
                             .msg_controllen = room};
    long result = INVOKE(receive, ends.own, (long)&message, 0);
    int count = 0;
    int error = errno;
    for (struct cmsghdr *each = CMSG_FIRSTHDR(&message); each != NULL && count < 9;
         each = CMSG_NXTHDR(&message, each)) {
      count = count * 10 + each->cmsg_type % 10;
    }
    errno = error;
    char name[32];
    snprintf(name, sizeof name, "control, room %zu", room);
    tell(receive, name, result, "%zu of it, types %d, flags %x", message.msg_controllen, count,
         message.msg_flags);
  }
  CHECK(write(ends.peer, text, 11) == 11);
  wait_readable(ends.own);
  struct iovec part = {buffer, 4};
  struct msghdr message = {.msg_iov = &part, .msg_iovlen = 1, .msg_control = BAD,
                           .msg_controllen = 64};
  tell(receive, "control at a bad pointer", INVOKE(receive, ends.own, (long)&message, 0),
       "flags %x", message.msg_flags);
  tell(send, "control at a bad pointer", INVOKE(send, ends.own, (long)&message, 0), "%s", "");
  message.msg_control = control;
  message.msg_controllen = SIZE_MAX;
  tell(send, "endless control", INVOKE(send, ends.own, (long)&message, 0), "%s", "");
  memset(control, 0xff, sizeof control);
  message.msg_controllen = 64;
  tell(send, "senseless control", INVOKE(send, ends.own, (long)&message, 0), "%s", "");
  tell(send, "NULL", INVOKE(send, ends.own, 0, 0), "%s", "");
  tell(receive, "NULL", INVOKE(receive, ends.own, 0, 0), "%s", "");
  tell(send, "bad message", INVOKE(send, ends.own, (long)BAD, MSG_FASTOPEN), "%s", "");
  tell(receive, "half a message", INVOKE(receive, ends.own, (long)edge_of_page(8), 0), "%s", "");
  close_ends(ends);
}

/* Several messages, of which one is bad. */
static void several(const struct call *send, const struct call *receive, enum kind kind) {
  static char buffers[1100][4];
  static struct iovec parts[1100];
  static struct mmsghdr messages[1100];
  static struct iovec wide[IOV_MAX + 1];
  static const struct {
    const char *name;
    long count, bad, wide; /* parts of the second, if not one */
  } all[] = {{"none", 0, -1, 0}, {"three", 3, -1, 0}, {"the first bad", 3, 0, 0},
             {"the second bad", 3, 1, 0}, {"UIO_MAXIOV", 1024, -1, 0},
             {"UIO_MAXIOV + 1", 1025, -1, 0}, {"more than UIO_MAXIOV", 1100, -1, 0},
             {"count -1", -1, 3, 0}, {"the second of IOV_MAX parts", 3, -1, IOV_MAX},
             {"the second of IOV_MAX + 1 parts", 3, -1, IOV_MAX + 1}};
  for (int index = 0; index < LENGTH(all); index++) {
    struct ends ends = open_ends(kind, true);
    int room = 4 << 20;
    setsockopt(ends.peer, SOL_SOCKET, SO_RCVBUFFORCE, &room, sizeof room);
    set_blocking(ends.own, false);
    set_blocking(ends.peer, false);
    for (int way = 0; way < 2; way++) {
      const struct call *call = way == 0 ? send : receive;
      for (int at = 0; at < LENGTH(messages); at++) {
        parts[at] = (struct iovec){at == all[index].bad ? BAD : way == 0 ? text : buffers[at], 3};
        messages[at] = (struct mmsghdr){{.msg_iov = &parts[at], .msg_iovlen = 1}, 77};
      }
      for (int at = 0; at < LENGTH(wide); at++) {
        wide[at] = (struct iovec){way == 0 ? text : buffers[at], 1};
      }
      if (all[index].wide != 0) {
        messages[1].msg_hdr.msg_iov = wide;
        messages[1].msg_hdr.msg_iovlen = (size_t)all[index].wide;
      }
      struct timespec timeout = {60, 0};
      long result = INVOKE(call, way == 0 ? ends.own : ends.peer, (long)messages,
                           all[index].count, 0, way == 0 ? 0 : (long)&timeout);
      char name[64];
      snprintf(name, sizeof name, "%s %s", kind_names[kind], all[index].name);
      unsigned lengths = 0;
      for (int at = 0; at < LENGTH(messages); at++) {
        lengths = lengths * 31 + messages[at].msg_len;
      }
      tell(call, name, result, "lengths %x, time left %d", lengths, timeout.tv_sec > 0);
    }
    close_ends(ends);
  }
  struct ends ends = open_ends(kind, true);
  set_blocking(ends.peer, false);
  struct timespec wrong = {-1, 0};
  parts[0].iov_base = buffers[0];
  tell(receive, "wrong timeout", INVOKE(receive, ends.peer, (long)messages, 2, 0, (long)&wrong),
       "%s", "");
  tell(receive, "timeout at a bad pointer",
       INVOKE(receive, ends.peer, (long)messages, 2, 0, (long)BAD), "%s", "");
  struct timespec brief = {0, 5000000};
  CHECK(write(ends.own, text, 3) == 3 && write(ends.own, text, 3) == 3);
  wait_readable(ends.peer);
  set_blocking(ends.peer, true);
  parts[1].iov_base = buffers[1];
  long result = INVOKE(receive, ends.peer, (long)messages, 2, MSG_WAITFORONE, (long)&brief);
  tell(receive, "MSG_WAITFORONE", result, "%u", messages[0].msg_len);
  close_ends(ends);
}

void family_messages(void) {
  for (int index = 0; index < LENGTH(sendmsgs); index++) {
    to_addresses(&sendtos[index]);
    to_addresses(&sendmsgs[index]);
    from_addresses(&recvmsgs[index]);
    controls(&sendmsgs[index], &recvmsgs[index]);
    several(&sendmmsgs[index], &recvmmsgs[index], UDP);
    several(&sendmmsgs[index], &recvmmsgs[index], UNIX_STREAM);
    several(&sendmmsgs[index], &recvmmsgs[index], TCP);
  }
  for (int index = 0; index < LENGTH(recvfroms); index++) {
    from_addresses(&recvfroms[index]);
  }
  for (int index = 0; index < LENGTH(sendmsgs); index++) {
    rights(&sendmsgs[index], &recvmsgs[index]);
  }
}
