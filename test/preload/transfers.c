/*
 * Fixture: every libc entry that moves bytes, with its special cases. `transfers SCENARIO`.
 * Each call moves a different number of bytes, so that the test can tell the records apart.
 */
#define _GNU_SOURCE
#include "pair.h"
#include "scenarios.h"

#include <fcntl.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <sys/mman.h>
#include <sys/sendfile.h>
#include <sys/syscall.h>
#include <sys/uio.h>

extern ssize_t __read_chk(int, void *, size_t, size_t);
extern ssize_t __recv_chk(int, void *, size_t, size_t, int);
extern ssize_t __recvfrom_chk(int, void *, size_t, size_t, int, struct sockaddr *, socklen_t *);
extern ssize_t __write(int, const void *, size_t);
extern ssize_t __send(int, const void *, size_t, int) __attribute__((weak)); /* x86-64 only */
extern ssize_t __read(int, void *, size_t);

static char text[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789";

static struct iovec split[3] = {{text, 3}, {text + 3, 0}, {text + 3, 40}};

static int text_file(void) {
  int file = memfd_create("text", 0);
  CHECK(write(file, text, 60) == 60 && lseek(file, 0, SEEK_SET) == 0);
  return file;
}

static void every_out(void) {
  struct pair p = make_pair();
  int fd = p.client;
  CHECK(write(fd, text, 1) == 1);
  CHECK(__write(fd, text, 2) == 2);
  CHECK(send(fd, text, 3, 0) == 3);
  CHECK((__send != NULL ? __send : send)(fd, text, 4, 0) == 4);
  CHECK(sendto(fd, text, 5, MSG_NOSIGNAL, NULL, 0) == 5);
  split[2].iov_len = 3;
  CHECK(writev(fd, split, 3) == 6);
  split[2].iov_len = 4;
  CHECK(pwritev2(fd, split, 3, -1, 0) == 7);
  split[2].iov_len = 5;
  struct msghdr message = {.msg_iov = split, .msg_iovlen = 3};
  CHECK(sendmsg(fd, &message, 0) == 8);
  struct iovec one = {text, 4};
  struct iovec two = {text + 4, 5};
  struct mmsghdr messages[2] = {{{.msg_iov = &one, .msg_iovlen = 1}, 0},
                                {{.msg_iov = &two, .msg_iovlen = 1}, 0}};
  CHECK(sendmmsg(fd, messages, 2, 0) == 2);
  int file = text_file();
  off_t at = 0;
  CHECK(sendfile(fd, file, &at, 10) == 10);
  off64_t at64 = 0;
  CHECK(sendfile64(fd, file, &at64, 11) == 11);
  int pipes[2];
  CHECK(pipe(pipes) == 0 && write(pipes[1], text, 12) == 12);
  CHECK(splice(pipes[0], NULL, fd, NULL, 12, 0) == 12);
  CHECK(syscall(SYS_write, fd, text, 13) == 13);
  CHECK(syscall(SYS_sendto, fd, text, 14, 0, NULL, 0) == 14);
  split[2].iov_len = 12;
  CHECK(syscall(SYS_writev, fd, split, 3) == 15);
  split[2].iov_len = 13;
  CHECK(syscall(SYS_sendmsg, fd, &message, 0) == 16);
  one.iov_len = 8;
  two = (struct iovec){text + 8, 9};
  CHECK(syscall(SYS_sendmmsg, fd, messages, 2, 0) == 2);
  CHECK(syscall(SYS_sendfile, fd, file, NULL, 18) == 18);
  CHECK(write(pipes[1], text, 19) == 19);
  CHECK(syscall(SYS_splice, pipes[0], NULL, fd, NULL, 19, 0) == 19);
  split[2].iov_len = 17;
  CHECK(syscall(SYS_pwritev2, fd, split, 3, -1L, -1L, 0) == 20);
  /* Nothing of these may be recorded. */
  CHECK(write(fd, text, 0) == 0);
  CHECK(send(-1, text, 5, 0) == -1 && errno == EBADF);
  CHECK(send(file, text, 5, 0) == -1 && errno == ENOTSOCK);
}

static void every_in(void) {
  struct pair p = make_pair();
  int fd = p.server;
  char buffer[256];
  CHECK(send(p.client, text, 60, 0) == 60);
  CHECK(send(p.client, text, 60, 0) == 60);
  CHECK(send(p.client, text, 60, 0) == 60);
  CHECK(send(p.client, text, 60, 0) == 60);
  while (recv(fd, buffer, 256, MSG_PEEK) < 240) {
  }
  CHECK(read(fd, buffer, 1) == 1);
  CHECK(__read(fd, buffer, 2) == 2);
  CHECK(__read_chk(fd, buffer, 3, sizeof buffer) == 3);
  CHECK(recv(fd, buffer, 4, 0) == 4);
  CHECK(__recv_chk(fd, buffer, 5, sizeof buffer, 0) == 5);
  CHECK(recvfrom(fd, buffer, 6, 0, NULL, NULL) == 6);
  CHECK(__recvfrom_chk(fd, buffer, 7, sizeof buffer, 0, NULL, NULL) == 7);
  struct iovec into[2] = {{buffer, 3}, {buffer + 3, 5}};
  CHECK(readv(fd, into, 2) == 8);
  into[1].iov_len = 6;
  CHECK(preadv2(fd, into, 2, -1, 0) == 9);
  into[1].iov_len = 7;
  struct msghdr message = {.msg_iov = into, .msg_iovlen = 2};
  CHECK(recvmsg(fd, &message, 0) == 10);
  struct iovec one = {buffer, 5};
  struct iovec two = {buffer + 5, 6};
  struct mmsghdr messages[2] = {{{.msg_iov = &one, .msg_iovlen = 1}, 0},
                                {{.msg_iov = &two, .msg_iovlen = 1}, 0}};
  CHECK(recvmmsg(fd, messages, 2, 0, NULL) == 2);
  int pipes[2];
  CHECK(pipe(pipes) == 0);
  CHECK(splice(fd, NULL, pipes[1], NULL, 12, 0) == 12);
  CHECK(syscall(SYS_read, fd, buffer, 13) == 13);
  CHECK(syscall(SYS_recvfrom, fd, buffer, 14, 0, NULL, NULL) == 14);
  into[1].iov_len = 12;
  CHECK(syscall(SYS_readv, fd, into, 2) == 15);
  into[1].iov_len = 13;
  CHECK(syscall(SYS_recvmsg, fd, &message, 0) == 16);
  one.iov_len = 8;
  two = (struct iovec){buffer + 8, 9};
  CHECK(syscall(SYS_recvmmsg, fd, messages, 2, 0, NULL) == 2);
  CHECK(syscall(SYS_splice, fd, NULL, pipes[1], NULL, 18, 0) == 18);
  CHECK(recv(fd, NULL, 19, MSG_TRUNC) == 19);
}

/* Partial sends on a full buffer, and EAGAIN. Tells what the kernel took. */
static void partial(void) {
  struct pair p = make_pair();
  size_t room = 16u << 20;
  char *big = malloc(room);
  memset(big, 'p', room);
  CHECK(fcntl(p.client, F_SETFL, O_NONBLOCK) == 0);
  for (int round = 0; round < 3; round++) {
    ssize_t sent = send(p.client, big, room, 0);
    CHECK(sent != 0);
    TELL("%zd\n", sent);
  }
  CHECK(fcntl(p.server, F_SETFL, O_NONBLOCK) == 0);
  char *into = malloc(room);
  ssize_t got;
  long long total = 0;
  while ((got = recv(p.server, into, room, 0)) > 0) {
    total += got;
  }
  CHECK(got == -1 && errno == EAGAIN);
  TELL("%lld\n", total);
}

static void special_in(void) {
  struct pair p = make_pair();
  char buffer[64];
  CHECK(send(p.client, text, 9, MSG_OOB) == 9);
  CHECK(send(p.client, text, 20, 0) == 20);
  while (recv(p.server, buffer, 64, MSG_PEEK) < 8) {
  }
  usleep(20000);
  CHECK(recv(p.server, buffer, 1, MSG_OOB) == 1);
  CHECK(recv(p.server, buffer, 5, MSG_PEEK) == 5);
  CHECK(recv(p.server, buffer, 5, MSG_ERRQUEUE | MSG_DONTWAIT) == -1);
  take(p.server, 8);
  take(p.server, 20);
  CHECK(recv(p.server, buffer, 5, MSG_DONTWAIT) == -1 && errno == EAGAIN);
  close(p.client);
  CHECK(recv(p.server, buffer, 5, 0) == 0);
}

/* Bad pointers must give what the kernel gives. */
static void faults(void) {
  struct pair p = make_pair();
  void *bad = (void *)16;
  CHECK(write(p.client, bad, 5) == -1 && errno == EFAULT);
  CHECK(send(p.client, bad, 5, 0) == -1 && errno == EFAULT);
  CHECK(writev(p.client, bad, 2) == -1 && errno == EFAULT);
  CHECK(sendmsg(p.client, bad, 0) == -1 && errno == EFAULT);
  CHECK(sendmsg(p.client, bad, MSG_FASTOPEN) == -1 && errno == EFAULT);
  CHECK(sendmmsg(p.client, bad, 2, 0) == -1 && errno == EFAULT);
  struct iovec hole = {bad, 10};
  CHECK(writev(p.client, &hole, 1) == -1 && errno == EFAULT);
  CHECK(syscall(SYS_write, p.client, bad, 5) == -1 && errno == EFAULT);
  CHECK(send(p.client, text, 30, 0) == 30);
  CHECK(recv(p.server, bad, 5, 0) == -1 && errno == EFAULT);
  CHECK(readv(p.server, bad, 2) == -1 && errno == EFAULT);
  CHECK(recvmsg(p.server, bad, 0) == -1 && errno == EFAULT);
  int other = socket(AF_INET, SOCK_STREAM, 0);
  CHECK(connect(other, bad, 16) == -1 && errno == EFAULT);
  CHECK(syscall(SYS_connect, other, bad, 16) == -1 && errno == EFAULT);
  CHECK(sendto(other, text, 5, MSG_FASTOPEN, bad, 16) == -1 && errno == EFAULT);
  CHECK(connect(other, NULL, 0) == -1 && errno == EINVAL);
  /* A good first page, a bad second: the kernel takes what it can read. */
  char *pages = mmap(NULL, 8192, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  munmap(pages + 4096, 4096);
  ssize_t sent = send(p.client, pages + 4096 - 8, 16, 0);
  TELL("%zd\n", sent);
  errno = 77;
  CHECK(send(p.client, text, 5, 0) == 5 && errno == 77);
  CHECK(close(other) == 0 && errno == 77);
}

static void udp(void) {
  int a = socket(AF_INET, SOCK_DGRAM, 0);
  int b = socket(AF_INET, SOCK_DGRAM, 0);
  struct sockaddr_in address = {.sin_family = AF_INET,
                                .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
  socklen_t length = sizeof address;
  CHECK(bind(a, (struct sockaddr *)&address, sizeof address) == 0);
  CHECK(getsockname(a, (struct sockaddr *)&address, &length) == 0);
  char buffer[64];
  CHECK(sendto(b, text, 21, 0, (struct sockaddr *)&address, sizeof address) == 21);
  CHECK(recv(a, buffer, sizeof buffer, 0) == 21);
  CHECK(connect(b, (struct sockaddr *)&address, sizeof address) == 0);
  CHECK(send(b, text, 22, 0) == 22);
  CHECK(recv(a, buffer, 10, MSG_TRUNC) == 22);
  close(a);
  close(b);
}

static void zerocopy(void) {
  struct pair p = make_pair();
  size_t room = 64 << 10;
  char *big = malloc(room);
  memset(big, 'z', room);
  void *map = mmap(NULL, room, PROT_READ, MAP_SHARED, p.server, 0);
  if (map == MAP_FAILED) {
    TELL("unsupported\n");
    return;
  }
  CHECK(send(p.client, big, room, 0) == (ssize_t)room);
  usleep(20000);
  char copy[4096];
  struct {
    uint64_t address;
    uint32_t length, recv_skip_hint, inq;
    int32_t err;
    uint64_t copybuf_address;
    int32_t copybuf_len;
    uint32_t flags;
  } request = {.address = (uint64_t)(uintptr_t)map,
               .length = (uint32_t)room,
               .copybuf_address = (uint64_t)(uintptr_t)copy,
               .copybuf_len = sizeof copy};
  socklen_t length = sizeof request;
  CHECK(getsockopt(p.server, IPPROTO_TCP, TCP_ZEROCOPY_RECEIVE, &request, &length) == 0);
  TELL("%u\n", request.length + (request.copybuf_len > 0 ? (uint32_t)request.copybuf_len : 0));
}

static void ktls(void) {
  struct pair p = make_pair();
  int result = setsockopt(p.client, IPPROTO_TCP, 31 /* TCP_ULP */, "tls", 4);
  TELL(result == 0 ? "set\n" : "unsupported\n");
}

/* Every way to wait for more than the first bytes, each on a socket of its own, and two that do not. */
/* Newer kernels: from a socket into a pipe, by the call that is for files. */
static void piped(void) {
  struct pair p = make_pair();
  int pipes[2];
  CHECK(pipe(pipes) == 0 && send(p.client, text, 40, 0) == 40);
  take(p.server, 5);
  if (sendfile(pipes[1], p.server, NULL, 10) < 0) {
    CHECK(errno == EINVAL);
    TELL("unsupported\n");
    return;
  }
  CHECK(syscall(SYS_sendfile, pipes[1], p.server, NULL, 11) == 11);
  take(p.server, 14);
}

static void waits(void) {
  static char buffer[16];
  struct iovec part = {buffer, 4};
  struct msghdr message = {.msg_iov = &part, .msg_iovlen = 1};
  struct mmsghdr messages[2] = {{.msg_hdr = message}, {.msg_hdr = message}};
  messages[1].msg_hdr.msg_iov = &(struct iovec){buffer + 4, 4};
  for (int way = 0; way < 14; way++) {
    struct pair p = make_pair();
    CHECK(send(p.client, text, 8, 0) == 8);
    ssize_t got = 4;
    switch (way) {
      case 0: got = recv(p.server, buffer, 4, MSG_WAITALL); break;
      case 1: got = recvfrom(p.server, buffer, 4, MSG_WAITALL, NULL, NULL); break;
      case 2: got = recvmsg(p.server, &message, MSG_WAITALL); break;
      case 3: got = __recv_chk(p.server, buffer, 4, 16, MSG_WAITALL); break;
      case 4: got = __recvfrom_chk(p.server, buffer, 4, 16, MSG_WAITALL, NULL, NULL); break;
      case 5: got = syscall(SYS_recvfrom, p.server, buffer, 4, MSG_WAITALL, NULL, NULL); break;
      case 6: got = syscall(SYS_recvmsg, p.server, &message, MSG_WAITALL); break;
      case 7: got = 2 * recvmmsg(p.server, messages, 2, 0, NULL); break;
      case 8: got = 2 * syscall(SYS_recvmmsg, p.server, messages, 2, 0, NULL); break;
      case 9:
        CHECK(setsockopt(p.server, SOL_SOCKET, SO_RCVLOWAT, &(int){3}, sizeof(int)) == 0);
        break;
      case 10: got = 4 * recvmmsg(p.server, messages, 1, MSG_WAITALL, NULL); break;
      case 11:
        CHECK(syscall(SYS_setsockopt, p.server, SOL_SOCKET, SO_RCVLOWAT, &(int){3},
                      sizeof(int)) == 0);
        break;
      case 12: got = recv(p.server, buffer, 4, 0); break;
      default: got = recvmsg(p.server, &message, 0);
    }
    CHECK(got == 4);
    TELL("%d ", ntohs(p.address.sin_port));
  }
}

/* 300 records for a small ring. */
static void many(void) {
  struct pair p = make_pair();
  for (int round = 0; round < 300; round++) {
    CHECK(send(p.client, text, 10, 0) == 10);
  }
}

int main(int count, char **arguments) {
  static const struct scenario scenarios[] = {
      {"every-out", every_out}, {"every-in", every_in}, {"partial", partial},
      {"special-in", special_in}, {"faults", faults}, {"udp", udp}, {"zerocopy", zerocopy},
      {"ktls", ktls}, {"waits", waits}, {"many", many}, {"piped", piped}};
  return RUN_SCENARIO(scenarios, count, arguments);
}
