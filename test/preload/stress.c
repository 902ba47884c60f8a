/*
 * Fixture: threads, signals, cancellation, sandboxes and limits. `stress SCENARIO`.
 */
#define _GNU_SOURCE
#include "pair.h"
#include "scenarios.h"

#include <fcntl.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stddef.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>

static char text[] = "abcdefghijklmnopqrstuvwxyz0123456789";
static struct pair shared;

static void *sender(void *argument) {
  char block[64];
  memset(block, 's', sizeof block);
  for (int round = 0; round < 2000; round++) {
    CHECK(send(shared.client, block, sizeof block, 0) == (ssize_t)sizeof block);
  }
  return argument;
}

static void *drain(void *argument) {
  take(shared.server, (size_t)(intptr_t)argument);
  return NULL;
}

/* Four threads on one direction. */
static void threads(void) {
  shared = make_pair();
  pthread_t reader;
  pthread_t writers[4];
  CHECK(pthread_create(&reader, NULL, drain, (void *)(intptr_t)(4 * 2000 * 64)) == 0);
  for (int index = 0; index < 4; index++) {
    CHECK(pthread_create(&writers[index], NULL, sender, NULL) == 0);
  }
  for (int index = 0; index < 4; index++) {
    pthread_join(writers[index], NULL);
  }
  pthread_join(reader, NULL);
  CHECK(send(shared.client, text, 5, 0) == 5);
}

static void *blocked_reader(void *argument) {
  char byte;
  recv(shared.server, &byte, 1, 0);
  return argument;
}

/* Two calls that certainly overlap: one waits while the other reads. */
static void overlap(void) {
  shared = make_pair();
  pthread_t reader;
  CHECK(pthread_create(&reader, NULL, blocked_reader, NULL) == 0);
  usleep(50000);
  char buffer[8];
  CHECK(recv(shared.server, buffer, 8, MSG_DONTWAIT) == -1);
  CHECK(send(shared.client, text, 1, 0) == 1);
  pthread_join(reader, NULL);
  CHECK(send(shared.client, text, 6, 0) == 6);
  take(shared.server, 6);
}

static void cancel(void) {
  shared = make_pair();
  pthread_t reader;
  CHECK(pthread_create(&reader, NULL, blocked_reader, NULL) == 0);
  usleep(50000);
  CHECK(pthread_cancel(reader) == 0);
  void *result;
  CHECK(pthread_join(reader, &result) == 0 && result == PTHREAD_CANCELED);
  CHECK(send(shared.client, text, 6, 0) == 6);
  take(shared.server, 6);
}

static void *blocked_writer(void *argument) {
  static char much[64 << 20];
  int type = (int)(intptr_t)argument;
  CHECK(pthread_setcanceltype(type, NULL) == 0);
  write(shared.client, much, sizeof much);
  pthread_testcancel();
  return NULL;
}

/* A call that had moved bytes when its thread was cancelled: they are told, to the byte. */
static void cancel_writer(int type) {
  shared = make_pair();
  CHECK(send(shared.client, text, 5, 0) == 5);
  pthread_t writer;
  CHECK(pthread_create(&writer, NULL, blocked_writer, (void *)(intptr_t)type) == 0);
  usleep(50000);
  CHECK(pthread_cancel(writer) == 0);
  void *result;
  CHECK(pthread_join(writer, &result) == 0 && result == PTHREAD_CANCELED);
  long behind = send(shared.client, text, 6, MSG_DONTWAIT);
  CHECK(shutdown(shared.client, SHUT_WR) == 0);
  static char buffer[65536];
  long total = 0;
  for (ssize_t got; (got = recv(shared.server, buffer, sizeof buffer, 0)) > 0;) {
    total += got;
  }
  TELL("%ld %ld\n", total, behind);
}
static void cancel_deferred(void) { cancel_writer(PTHREAD_CANCEL_DEFERRED); }
static void cancel_at_once(void) { cancel_writer(PTHREAD_CANCEL_ASYNCHRONOUS); }

static sigjmp_buf escape;
static void jump_out(int number) { siglongjmp(escape, number); }

/* A timeout by a jump out of a blocking call. */
static void jump(void) {
  shared = make_pair();
  signal(SIGALRM, jump_out);
  char buffer[8];
  if (sigsetjmp(escape, 1) == 0) {
    ualarm(30000, 0);
    recv(shared.server, buffer, 8, 0);
    CHECK(0);
  }
  CHECK(send(shared.client, text, 6, 0) == 6);
  take(shared.server, 6);
  CHECK(send(shared.client, text, 7, 0) == 7);
  take(shared.server, 7);
}

static struct pair second;
/* Out of a call on one socket, then out of one on another: both are over. */
static void jumps(void) {
  struct pair *pairs[] = {&shared, &second};
  shared = make_pair();
  second = make_pair();
  signal(SIGALRM, jump_out);
  for (volatile int at = 0; at < 2; at++) {
    if (sigsetjmp(escape, 1) == 0) {
      ualarm(30000, 0);
      recv(pairs[at]->server, &(char){0}, 1, 0);
      CHECK(0);
    }
  }
  for (int at = 0; at < 4; at++) {
    CHECK(send(pairs[at % 2]->client, text, 6, 0) == 6);
    take(pairs[at % 2]->server, 6);
  }
}

static void jump_within(int number) {
  if (sigsetjmp(escape, 1) == 0) {
    siglongjmp(escape, number);
  }
}
static void *send_later(void *argument) {
  usleep(150000);
  CHECK(send(shared.client, text, 6, 0) == 6);
  return argument;
}
static void *take_six(void *argument) {
  take(shared.server, 6);
  return argument;
}
/* A handler that jumps leaves nothing of the call that it interrupted: it is no other's call either. */
static void jump_inside(void) {
  pthread_t thread;
  shared = make_pair();
  signal(SIGALRM, jump_within);
  CHECK(pthread_create(&thread, NULL, send_later, NULL) == 0);
  ualarm(30000, 0);
  take(shared.server, 6);
  CHECK(pthread_join(thread, NULL) == 0);
  CHECK(pthread_create(&thread, NULL, take_six, NULL) == 0);
  usleep(50000);
  CHECK(recv(shared.server, &(char){0}, 1, MSG_DONTWAIT) == -1);
  CHECK(send(shared.client, text, 6, 0) == 6);
  CHECK(pthread_join(thread, NULL) == 0);
}

/* Many times around a small ring. */
static void laps(void) {
  shared = make_pair();
  for (int round = 0; round < 2000; round++) {
    CHECK(send(shared.client, text, 5, 0) == 5);
    take(shared.server, 5);
    if (round % 8 == 0) {
      usleep(1000);
    }
  }
}

static void send_from_handler(int number) {
  int saved = errno;
  CHECK(send(second.client, text, 9, 0) == 9);
  errno = saved;
  (void)number;
}

/* A handler sends on another socket while a call on the first waits. */
static void handler(void) {
  shared = make_pair();
  second = make_pair();
  struct sigaction action = {.sa_handler = send_from_handler};
  sigaction(SIGALRM, &action, NULL);
  char buffer[8];
  ualarm(30000, 0);
  CHECK(recv(shared.server, buffer, 8, 0) == -1 && errno == EINTR);
  CHECK(send(shared.client, text, 6, 0) == 6);
  take(shared.server, 6);
  take(second.server, 9);
}

static ssize_t sent_inside;
static void send_same(int number) {
  char buffer[65536];
  while (recv(shared.server, buffer, sizeof buffer, MSG_DONTWAIT) > 0) {
  }
  sent_inside = send(shared.client, text, 10, 0);
  (void)number;
}

/* A handler sends on the socket whose buffer the interrupted call has filled. */
static void reentry(void) {
  shared = make_pair();
  struct sigaction action = {.sa_handler = send_same};
  sigaction(SIGALRM, &action, NULL);
  size_t room = 64u << 20;
  char *big = calloc(1, room);
  ualarm(100000, 0);
  ssize_t sent = send(shared.client, big, room, 0);
  CHECK(sent > 0 && sent < (ssize_t)room && sent_inside == 10);
  char buffer[65536];
  while (recv(shared.server, buffer, sizeof buffer, MSG_DONTWAIT) > 0) {
  }
  CHECK(send(shared.client, text, 5, 0) == 5);
  TELL("%zd 10 %zd 5\n", sent + 15, sent);
}

static void receive_same(int number) {
  char buffer[16];
  CHECK(send(shared.client, text, 10, 0) == 10);
  CHECK(recv(shared.server, buffer, 10, 0) == 10);
  (void)number;
}

/* A handler takes just as many bytes as the call that it interrupts. */
static void same_size(void) {
  shared = make_pair();
  struct sigaction action = {.sa_handler = receive_same};
  sigaction(SIGALRM, &action, NULL);
  CHECK(send(shared.client, text, 10, 0) == 10);
  char buffer[32];
  ualarm(50000, 0);
  CHECK(recv(shared.server, buffer, 20, MSG_WAITALL) == 10);
  CHECK(send(shared.client, text, 5, 0) == 5);
  take(shared.server, 5);
}

/* The descriptor is older than the program: finding out about it takes calls of our own. */
static void probe(void) {
  shared = make_pair();
  char number[16];
  snprintf(number, sizeof number, "%d", shared.client);
  execl("/proc/self/exe", "stress", "probed", number, (char *)NULL);
}

static void probed(int fd) {
  void *bad = (void *)16;
  unsigned action = SECCOMP_RET_ALLOW;
  CHECK(prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, NULL) == -1);
  CHECK(prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, bad) == -1);
  CHECK(prctl(PR_SET_SECCOMP, 77, bad) == -1);
  CHECK(syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, 0, NULL) == -1);
  CHECK(syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, 0, bad) == -1);
  syscall(SYS_seccomp, SECCOMP_GET_ACTION_AVAIL, 0, &action);
  CHECK(send(fd, text, 4, 0) == 4);
}

/* In such a sandbox the only source of the peer's address is the caller's buffer. */
static void short_accept(void) {
  shared = make_pair();
  CHECK(send(shared.client, text, 3, 0) == 3);
  int client = socket(AF_INET, SOCK_STREAM, 0);
  struct sock_filter code[] = {
      BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
      BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_getpeername, 0, 1),
      BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | EPERM),
      BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW)};
  struct sock_fprog program = {sizeof code / sizeof *code, code};
  CHECK(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0);
  CHECK(prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program) == 0);
  CHECK(connect(client, (struct sockaddr *)&shared.address, sizeof shared.address) == 0);
  struct sockaddr_in peer = {.sin_port = htons(1), .sin_addr.s_addr = htonl(0x01020304)};
  socklen_t length = 4;
  int server = accept(shared.listener, (struct sockaddr *)&peer, &length);
  CHECK(server >= 0 && length == sizeof peer);
  CHECK(send(server, text, 4, 0) == 4);
}

/* The collector frees the entries in the pause. */
static void stale(void) {
  shared = make_pair();
  usleep(100000);
  CHECK(send(shared.client, text, 4, 0) == 4);
  take(shared.server, 4);
}

#define ALLOW(number)                                                                          \
  BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, (number), 0, 1), BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW)

/* A filter that kills for everything that the program itself does not call. */
static void sandbox(void) {
  shared = make_pair();
  struct pair other = make_pair();
  int file = open("/dev/null", O_RDWR);
  struct sock_filter code[] = {
      BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
      ALLOW(SYS_read),       ALLOW(SYS_write),      ALLOW(SYS_sendto),
      ALLOW(SYS_recvfrom),   ALLOW(SYS_close),      ALLOW(SYS_exit_group),
      ALLOW(SYS_getpid),     ALLOW(SYS_getsockname), ALLOW(SYS_fstat),
      ALLOW(SYS_accept),     ALLOW(SYS_connect),    ALLOW(SYS_socket),
      ALLOW(SYS_listen),     ALLOW(SYS_bind),       ALLOW(SYS_newfstatat),
      BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_KILL_PROCESS),
  };
  struct sock_fprog program = {sizeof code / sizeof *code, code};
  CHECK(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0);
  CHECK(prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program) == 0);
  for (int round = 0; round < 6000; round++) {
    CHECK(send(shared.client, text, 10, 0) == 10);
    take(shared.server, 10);
  }
  CHECK(write(file, "x", 1) == 1);
  char buffer[8];
  CHECK(read(file, buffer, 1) == 0);
  struct pair inside = make_pair();
  CHECK(send(inside.client, text, 11, 0) == 11);
  take(inside.server, 11);
  CHECK(close(other.client) == 0 && close(file) == 0);
  _exit(0);
}

/* So many sockets that the table is full. */
static void table(void) {
  struct pair p = make_pair();
  for (int index = 0; index < 100; index++) {
    int fd = socket(AF_INET, SOCK_STREAM, 0);
    CHECK(connect(fd, (struct sockaddr *)&p.address, sizeof p.address) == 0);
    CHECK(send(fd, text, 5, 0) == 5);
    close(fd);
    close(accept(p.listener, NULL, NULL));
  }
}

/* Descriptors come and go in several threads while others close them. */
static void *churn(void *argument) {
  for (int round = 0; round < 300; round++) {
    struct pair p = make_pair();
    char buffer[16];
    CHECK(send(p.client, text, 10, 0) == 10);
    CHECK(recv(p.server, buffer, 10, MSG_WAITALL) == 10);
    int copy = dup(p.server);
    CHECK(close(p.listener) == 0 && close(p.client) == 0 && close(p.server) == 0);
    CHECK(close(copy) == 0);
    int file = open("/proc/self/stat", O_RDONLY);
    CHECK(read(file, buffer, 16) == 16 && close(file) == 0);
  }
  return argument;
}

static void churns(void) {
  pthread_t workers[4];
  for (int index = 0; index < 4; index++) {
    CHECK(pthread_create(&workers[index], NULL, churn, NULL) == 0);
  }
  for (int index = 0; index < 4; index++) {
    pthread_join(workers[index], NULL);
  }
}

/* Run under a small RLIMIT_FSIZE: the ring must neither be refused nor raise SIGXFSZ. */
static void fsize(void) {
  struct pair p = make_pair();
  struct rlimit limit;
  CHECK(getrlimit(RLIMIT_FSIZE, &limit) == 0);
  TELL("%llu\n", (unsigned long long)limit.rlim_cur);
  CHECK(send(p.client, text, 5, 0) == 5);
}

static void fsize_outer(void) {
  struct rlimit limit = {4096, RLIM_INFINITY};
  CHECK(setrlimit(RLIMIT_FSIZE, &limit) == 0);
  execl("/proc/self/exe", "stress", "fsize", (char *)NULL);
}

int main(int count, char **arguments) {
  static const struct scenario scenarios[] = {
      {"threads", threads}, {"overlap", overlap}, {"cancel", cancel},
      {"cancel-deferred", cancel_deferred}, {"cancel-at-once", cancel_at_once}, {"jump", jump},
      {"jumps", jumps}, {"jump-inside", jump_inside}, {"laps", laps}, {"handler", handler},
      {"sandbox", sandbox}, {"table", table}, {"churns", churns}, {"fsize", fsize},
      {"fsize-outer", fsize_outer}, {"reentry", reentry}, {"same-size", same_size},
      {"probe", probe}, {"short-accept", short_accept}, {"stale", stale}};
  if (count > 2 && strcmp(arguments[1], "probed") == 0) {
    probed(atoi(arguments[2]));
    return 0;
  }
  return RUN_SCENARIO(scenarios, count, arguments);
}
