/*
 * Fixture: how sockets are shared by processes: by fork, vfork and exec, and by descriptors that are
 * sent. `shared SCENARIO`.
 */
#define _GNU_SOURCE
#include "../../preload/raw.h"
#include "pair.h"
#include "scenarios.h"

#include <fcntl.h>
#include <signal.h>
#include <spawn.h>
#include <sys/syscall.h>

extern int close_range(unsigned, unsigned, int);
extern int pidfd_getfd(int, int, unsigned);
extern char **environ;

static char text[] = "abcdefghijklmnopqrstuvwxyz0123456789";

/* Parent and child take turns on one socket. kind: how to fork. */
static void take_turns(int kind) {
  struct pair p = make_pair();
  int gate[2];
  CHECK(pipe(gate) == 0);
  CHECK(send(p.client, text, 3, 0) == 3);
  pid_t child = kind == 0 ? fork() : (pid_t)syscall(SYS_clone, SIGCHLD, NULL, NULL, NULL, NULL);
  if (child == 0) {
    CHECK(send(p.client, text, 5, 0) == 5);
    take(p.server, 8);
    CHECK(write(gate[1], "x", 1) == 1);
    /* A socket of the child's own, in the table of its parent. */
    struct pair own = make_pair();
    CHECK(send(own.client, text, 9, 0) == 9);
    pid_t grandchild = fork();
    if (grandchild == 0) {
      CHECK(send(own.client, text, 6, 0) == 6);
      _exit(0);
    }
    wait_for(grandchild);
    _exit(0);
  }
  char byte;
  CHECK(read(gate[0], &byte, 1) == 1);
  CHECK(send(p.client, text, 7, 0) == 7);
  wait_for(child);
  TELL("%d %d\n", (int)getpid(), (int)child);
}

static void forks(void) { take_turns(0); }
static void raw_forks(void) { take_turns(1); }

/* A forked child that only closes and ends, like one before exec, needs no ring. */
static void fork_close(void) {
  struct pair p = make_pair();
  CHECK(send(p.client, text, 3, 0) == 3);
  pid_t child = fork();
  if (child == 0) {
    close(p.client);
    close(p.server);
    _exit(0);
  }
  wait_for(child);
  TELL("%d\n", (int)child);
}

/* A forked child that cannot reach the collector any more. */
static void fork_jailed(void) {
  struct pair p = make_pair();
  pid_t child = fork();
  if (child == 0) {
    CHECK(chroot("/proc") == 0);
    CHECK(send(p.client, text, 4, 0) == 4);
    CHECK(send(p.client, text, 5, 0) == 5);
    _exit(0);
  }
  wait_for(child);
  CHECK(send(p.client, text, 6, 0) == 6);
  TELL("%d %d\n", (int)getpid(), (int)child);
}

/* What a vfork child does to its descriptors is no news of its parent's. */
static void vforks(void) {
  struct pair p = make_pair();
  int file = open("/dev/null", O_RDWR);
  CHECK(send(p.client, text, 3, 0) == 3);
  pid_t child = vfork();
  if (child == 0) {
    close(p.client);
    dup2(file, p.server);
    close_range(3, 100, 0);
    socket(AF_INET, SOCK_STREAM, 0);
    _exit(0);
  }
  wait_for(child);
  posix_spawn_file_actions_t actions;
  posix_spawn_file_actions_init(&actions);
  posix_spawn_file_actions_addclose(&actions, p.client);
  char *arguments[] = {"true", NULL};
  CHECK(posix_spawnp(&child, "true", &actions, NULL, arguments, environ) == 0);
  wait_for(child);
  /* The same in a fork child that has not recorded anything yet. */
  pid_t forked = fork();
  if (forked == 0) {
    child = vfork();
    if (child == 0) {
      close(p.client);
      _exit(0);
    }
    wait_for(child);
    CHECK(send(p.client, text, 4, 0) == 4);
    close(p.client);
    _exit(0);
  }
  wait_for(forked);
  CHECK(send(p.client, text, 5, 0) == 5);
  take(p.server, 12);
  close(p.client);
  TELL("%d %d\n", (int)getpid(), (int)forked);
}

/* A vfork child is the first to move bytes after a fork. */
static void vfork_writes(void) {
  struct pair p = make_pair();
  pid_t forked = fork();
  if (forked == 0) {
    pid_t child = vfork();
    if (child == 0) {
      write(p.client, text, 2);
      _exit(0);
    }
    wait_for(child);
    CHECK(send(p.client, text, 4, 0) == 4);
    _exit(0);
  }
  wait_for(forked);
  TELL("%d\n", (int)forked);
}

/* Descriptors that came by SCM_RIGHTS, and those that an exec'd program inherits. */
static void rights(void) {
  struct pair p = make_pair();
  int unix_pair[2];
  CHECK(socketpair(AF_UNIX, SOCK_STREAM, 0, unix_pair) == 0);
  char control[CMSG_SPACE(sizeof(int))] = {0};
  char byte = 'x';
  struct iovec part = {&byte, 1};
  struct msghdr message = {.msg_iov = &part,
                           .msg_iovlen = 1,
                           .msg_control = control,
                           .msg_controllen = sizeof control};
  struct cmsghdr *header = CMSG_FIRSTHDR(&message);
  header->cmsg_level = SOL_SOCKET;
  header->cmsg_type = SCM_RIGHTS;
  header->cmsg_len = CMSG_LEN(sizeof(int));
  memcpy(CMSG_DATA(header), &p.client, sizeof(int));
  CHECK(sendmsg(unix_pair[0], &message, 0) == 1);
  CHECK(recvmsg(unix_pair[1], &message, 0) == 1);
  int copy;
  memcpy(&copy, CMSG_DATA(CMSG_FIRSTHDR(&message)), sizeof copy);
  CHECK(send(p.client, text, 3, 0) == 3);
  CHECK(send(copy, text, 4, 0) == 4);
  TELL("%d %d\n", p.client, copy);
}

/* Numbers that come with a message, or from another process, whose sockets were closed by no hook. */
static void arrivals(void) {
  for (int way = 0; way < 6; way++) {
    struct pair old = make_pair(), p = make_pair();
    int ways[2];
    CHECK(socketpair(AF_UNIX, SOCK_STREAM, 0, ways) == 0);
    CHECK(send(old.client, text, 1, 0) == 1);
    char control[CMSG_SPACE(sizeof(int))] = {0};
    struct iovec part = {text, 1};
    struct mmsghdr message = {.msg_hdr = {.msg_iov = &part, .msg_iovlen = 1, .msg_control = control,
                                          .msg_controllen = sizeof control}};
    struct cmsghdr *header = (struct cmsghdr *)control;
    *header = (struct cmsghdr){CMSG_LEN(sizeof(int)), SOL_SOCKET, SCM_RIGHTS};
    memcpy(CMSG_DATA(header), &p.client, sizeof(int));
    CHECK(sendmsg(ways[0], &message.msg_hdr, 0) == 1);
    int self = (int)syscall(434 /* pidfd_open */, getpid(), 0);
    int copy;
    CHECK(self >= 0 && KQ_SYS_RAW(SYS_close, old.client) == 0);
    switch (way) {
      case 0: CHECK(recvmsg(ways[1], &message.msg_hdr, 0) == 1); break;
      case 1: CHECK(recvmmsg(ways[1], &message, 1, 0, NULL) == 1); break;
      case 2: CHECK(syscall(SYS_recvmsg, ways[1], &message, 0) == 1); break;
      case 3: CHECK(syscall(SYS_recvmmsg, ways[1], &message, 1, 0, NULL) == 1); break;
      case 4: copy = pidfd_getfd(self, p.client, 0); break;
      default: copy = (int)syscall(SYS_pidfd_getfd, self, p.client, 0);
    }
    if (way < 4) {
      memcpy(&copy, CMSG_DATA(header), sizeof copy);
    }
    CHECK(copy == old.client && send(copy, text, 4, 0) == 4);
    TELL("%d %d\n", ntohs(old.address.sin_port), ntohs(p.address.sin_port));
  }
}

static void inherit(void) {
  struct pair p = make_pair();
  CHECK(send(p.client, text, 3, 0) == 3);
  CHECK(send(p.server, text, 5, 0) == 5);
  usleep(10000);
  char listener[16];
  snprintf(listener, sizeof listener, "%d", p.listener);
  CHECK(dup2(p.client, 0) == 0);
  CHECK(dup2(p.client, 1) == 1);
  char *arguments[] = {"shared", "inherited", listener, NULL};
  execv("/proc/self/exe", arguments);
  CHECK(0);
}

static void inherited(int listener) {
  char buffer[16];
  CHECK(read(0, buffer, 5) == 5);
  CHECK(write(1, text, 6) == 6);
  struct sockaddr_in address;
  socklen_t length = sizeof address;
  CHECK(getsockname(listener, (struct sockaddr *)&address, &length) == 0);
  int client = socket(AF_INET, SOCK_STREAM, 0);
  CHECK(connect(client, (struct sockaddr *)&address, sizeof address) == 0);
  socklen_t four = 4;
  int server = accept4(listener, (struct sockaddr *)&address, &four, SOCK_CLOEXEC);
  CHECK(server >= 0);
  CHECK(send(server, text, 7, 0) == 7);
}

int main(int count, char **arguments) {
  static const struct scenario scenarios[] = {
      {"forks", forks}, {"raw-forks", raw_forks}, {"fork-close", fork_close},
      {"fork-jailed", fork_jailed}, {"vforks", vforks}, {"vfork-writes", vfork_writes},
      {"rights", rights}, {"arrivals", arrivals}, {"inherit", inherit}};
  if (count > 2 && strcmp(arguments[1], "inherited") == 0) {
    inherited(atoi(arguments[2]));
    return 0;
  }
  return RUN_SCENARIO(scenarios, count, arguments);
}
