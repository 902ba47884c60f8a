/*
 * A program that uses the C API: `program SCENARIO LOG`. It prints what the test needs to know; on
 * a check that fails it exits with 1.
 */
#define _GNU_SOURCE
#include <kqtime.h>

#include <dirent.h>
#include <dlfcn.h>
#include <fcntl.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <stddef.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdbool.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <time.h>

#include "../preload/pair.h"

static const char *log_path;
static char bytes[65536];

static double now_ms(void) {
  struct timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  return (double)now.tv_sec * 1e3 + (double)now.tv_nsec / 1e6;
}

static void move(struct pair *p, size_t length) {
  CHECK(send(p->client, bytes, length, 0) == (ssize_t)length);
  take(p->server, length);
}

static KQTime *new_measurement(void) {
  KQTime *kqtime = kqtime_new(log_path, 0, 1, 1);
  CHECK(kqtime != NULL);
  return kqtime;
}

static int count_fds(void) {
  DIR *folder = opendir("/proc/self/fd");
  int count = -1; /* of the folder itself */
  for (struct dirent *entry; (entry = readdir(folder)) != NULL;) {
    count += entry->d_name[0] != '.';
  }
  closedir(folder);
  return count;
}

static long status_kib(const char *name) {
  char line[256];
  long value = -1;
  FILE *status = fopen("/proc/self/status", "r");
  while (fgets(line, sizeof line, status) != NULL) {
    if (strncmp(line, name, strlen(name)) == 0) {
      value = atol(line + strlen(name));
    }
  }
  fclose(status);
  return value;
}

static void ask_to_go_on(const char *what) {
  char byte;
  TELL("%s\n", what);
  CHECK(read(0, &byte, 1) == 1);
}

/* Only asks for a measurement, and says how that went. */
static void opens(void) {
  double start = now_ms();
  errno = 77;
  KQTime *kqtime = kqtime_new(log_path, 1, 1, 1);
  CHECK(errno == 77);
  TELL("%s %.0f\n", kqtime != NULL ? "handle" : "NULL", now_ms() - start);
  kqtime_register(kqtime, 1, "x");
  kqtime_deregister(kqtime, 1);
  kqtime_free(kqtime);
}

static void full(void) {
  KQTime *kqtime = kqtime_new_full(log_path, 0, 0, 1, "lo", "tcp port 1");
  TELL("%s\n", kqtime != NULL ? "handle" : "NULL");
  kqtime_free(kqtime);
}

static void nulls(void) {
  struct pair p = make_pair();
  CHECK(kqtime_new(NULL, 1, 1, 1) == NULL);
  CHECK(kqtime_new_full(NULL, 1, 1, 1, NULL, NULL) == NULL);
  kqtime_register(NULL, p.client, "x");
  kqtime_deregister(NULL, p.client);
  kqtime_free(NULL);
  KQTime *kqtime = new_measurement();
  int file = open("/dev/null", O_RDWR);
  int datagram = socket(AF_INET, SOCK_DGRAM, 0);
  kqtime_register(kqtime, 0, "zero");
  kqtime_register(kqtime, -1, "negative");
  kqtime_register(kqtime, file, "a file");
  kqtime_register(kqtime, 999, "closed");
  kqtime_register(kqtime, datagram, "datagrams");
  kqtime_register(kqtime, p.listener, "listens");
  kqtime_deregister(kqtime, 0);
  kqtime_deregister(kqtime, -1);
  kqtime_deregister(kqtime, 999);
  kqtime_deregister(kqtime, p.client);
  kqtime_deregister(kqtime, file);
  move(&p, 7);
  kqtime_free(kqtime);
  kqtime_free(kqtime);
  kqtime_register(kqtime, p.client, "after the end");
  kqtime_deregister(kqtime, p.client);
  move(&p, 8);
}

static void names(void) {
  KQTime *kqtime = new_measurement();
  struct pair p = make_pair();
  char name[300];
  move(&p, 100);
  memset(name, 'n', sizeof name);
  memcpy(name, "relay=1,key=", 12);
  name[255] = '\0';
  kqtime_register(kqtime, p.client, name);
  memset(name, 'X', sizeof name); /* It was copied. */
  move(&p, 1);
  kqtime_register(kqtime, p.client, "exactly sixteen.");
  move(&p, 2);
  kqtime_register(kqtime, p.client, NULL);
  move(&p, 3);
  name[299] = '\0';
  kqtime_register(kqtime, p.client, name); /* Cut. */
  move(&p, 4);
  kqtime_deregister(kqtime, p.client);
  move(&p, 50);
  kqtime_register(kqtime, p.client, "again");
  kqtime_register(kqtime, p.server, "server");
  move(&p, 5);
  kqtime_free(kqtime);
  move(&p, 60);
}

/* A number that was registered is another socket's. */
static void reuse(void) {
  KQTime *kqtime = new_measurement();
  struct pair p = make_pair();
  kqtime_register(kqtime, p.client, "first");
  move(&p, 1);
  int number = p.client;
  CHECK(close(p.client) == 0);
  p.client = socket(AF_INET, SOCK_STREAM, 0);
  CHECK(p.client == number);
  CHECK(connect(p.client, (struct sockaddr *)&p.address, sizeof p.address) == 0);
  close(p.server);
  p.server = accept(p.listener, NULL, NULL);
  move(&p, 2);
  kqtime_register(kqtime, p.client, "second");
  move(&p, 3);
  /* Registered, not connected, closed: the number says nothing any more. */
  int idle = socket(AF_INET, SOCK_STREAM, 0);
  kqtime_register(kqtime, idle, "never");
  close(idle);
  struct pair q = make_pair();
  CHECK(q.listener == idle || q.client == idle || q.server == idle);
  move(&q, 4);
  /* The same by dup2 over it. */
  idle = socket(AF_INET, SOCK_STREAM, 0);
  kqtime_register(kqtime, idle, "never");
  CHECK(dup2(q.client, idle) == idle);
  CHECK(send(idle, bytes, 5, 0) == 5);
  take(q.server, 5);
  idle = socket(AF_INET, SOCK_STREAM, 0);
  kqtime_register(kqtime, idle, "never");
  int other = socket(AF_INET, SOCK_STREAM, 0);
  CHECK(dup2(other, idle) == idle);
  CHECK(connect(idle, (struct sockaddr *)&q.address, sizeof q.address) == 0);
  CHECK(send(idle, bytes, 6, 0) == 6);
  kqtime_free(kqtime);
}

static int connect_to(const struct pair *p, int client, int flags) {
  if (flags != 0) {
    CHECK(fcntl(client, F_SETFL, flags) == 0);
  }
  int result = connect(client, (const struct sockaddr *)&p->address, sizeof p->address);
  CHECK(result == 0 || errno == EINPROGRESS);
  return accept(p->listener, NULL, NULL);
}

/* Registered before it is connected. */
static void early(void) {
  KQTime *kqtime = new_measurement();
  struct pair p = make_pair();
  close(p.client);
  close(p.server);
  p.client = socket(AF_INET, SOCK_STREAM, 0);
  kqtime_register(kqtime, p.client, "blocking");
  p.server = connect_to(&p, p.client, 0);
  move(&p, 1);
  close(p.client);
  close(p.server);
  p.client = socket(AF_INET, SOCK_STREAM, 0);
  kqtime_register(kqtime, p.client, "wrong");
  kqtime_register(kqtime, p.client, "in progress");
  p.server = connect_to(&p, p.client, O_NONBLOCK);
  move(&p, 2);
  int copy = dup(p.client);
  close(p.client);
  close(p.server);
  close(copy);
  p.client = socket(AF_INET, SOCK_STREAM, 0);
  kqtime_register(kqtime, p.client, "not this");
  kqtime_deregister(kqtime, p.client);
  p.server = connect_to(&p, p.client, 0);
  move(&p, 3);
  close(p.client);
  close(p.server);
  /* A copy is the same socket. */
  int original = socket(AF_INET, SOCK_STREAM, 0);
  kqtime_register(kqtime, original, "copied");
  p.client = dup(original);
  close(original);
  p.server = connect_to(&p, p.client, 0);
  move(&p, 4);
  /* Refused, and connected elsewhere. */
  struct sockaddr_in nobody = p.address;
  nobody.sin_port = htons(1);
  int again = socket(AF_INET, SOCK_STREAM, 0);
  kqtime_register(kqtime, again, "at the second try");
  CHECK(connect(again, (struct sockaddr *)&nobody, sizeof nobody) == -1 && errno == ECONNREFUSED);
  close(p.server);
  close(p.client);
  p.client = again;
  p.server = connect_to(&p, p.client, 0);
  move(&p, 5);
  kqtime_free(kqtime);
}

/* More unconnected sockets than are remembered. */
static void many_early(void) {
  KQTime *kqtime = new_measurement();
  int fds[2100];
  for (int index = 0; index < 2100; index++) {
    fds[index] = socket(AF_INET, SOCK_STREAM, 0);
    CHECK(fds[index] > 0);
    kqtime_register(kqtime, fds[index], "kept");
  }
  for (int index = 0; index < 2100; index++) {
    close(fds[index]);
  }
  struct pair p = make_pair();
  close(p.client);
  close(p.server);
  p.client = socket(AF_INET, SOCK_STREAM, 0);
  kqtime_register(kqtime, p.client, "there is room again");
  p.server = connect_to(&p, p.client, 0);
  move(&p, 3);
  kqtime_free(kqtime);
}

/* Sockets that are there when measuring begins. */
static void adopts(void) {
  struct pair p = make_pair();
  int copy = dup(p.client);
  int idle = socket(AF_INET, SOCK_STREAM, 0);
  int datagram = socket(AF_INET, SOCK_DGRAM, 0);
  CHECK(send(p.client, bytes, 30, 0) == 30);
  struct pollfd poller = {p.server, POLLIN, 0};
  CHECK(poll(&poller, 1, 5000) == 1);
  KQTime *kqtime = new_measurement();
  CHECK(send(copy, bytes, 4, 0) == 4);
  take(p.server, 34);
  int server = -1;
  CHECK(connect(idle, (struct sockaddr *)&p.address, sizeof p.address) == 0);
  server = accept(p.listener, NULL, NULL);
  CHECK(send(idle, bytes, 5, 0) == 5);
  take(server, 5);
  CHECK(sendto(datagram, "x", 1, 0, (struct sockaddr *)&p.address, sizeof p.address) == 1);
  TELL("%d %d %d %d %d\n", p.listener, p.client, p.server, copy, idle);
  kqtime_free(kqtime);
}

/* A call that is under way when measuring begins. */
static void *receive_all(void *argument) {
  const struct pair *p = argument;
  take(p->server, 10);
  return NULL;
}

static bool sleeps_in_call(void) {
  DIR *folder = opendir("/proc/self/task");
  bool found = false;
  for (struct dirent *entry; (entry = readdir(folder)) != NULL;) {
    char path[300];
    char line[16] = "";
    snprintf(path, sizeof path, "/proc/self/task/%s/syscall", entry->d_name);
    FILE *file = atoi(entry->d_name) != getpid() ? fopen(path, "r") : NULL;
    if (file != NULL) {
      found |= fgets(line, sizeof line, file) != NULL && atoi(line) == SYS_recvfrom;
      fclose(file);
    }
  }
  closedir(folder);
  return found;
}

static void under_way(void) {
  struct pair p = make_pair();
  struct pair q = make_pair();
  pthread_t thread;
  CHECK(pthread_create(&thread, NULL, receive_all, &p) == 0);
  while (!sleeps_in_call()) {
    sched_yield();
  }
  KQTime *kqtime = new_measurement();
  kqtime_register(kqtime, p.server, "disturbed");
  kqtime_register(kqtime, p.client, "sends");
  kqtime_register(kqtime, q.server, "quiet");
  CHECK(send(p.client, bytes, 10, 0) == 10);
  pthread_join(thread, NULL);
  move(&p, 3);
  move(&q, 4);
  kqtime_free(kqtime);
}

static void *receive(void *argument) {
  const struct pair *p = argument;
  char buffer[10];
  CHECK(recv(p->server, buffer, sizeof buffer, MSG_WAITALL) == sizeof buffer);
  return NULL;
}

/* Calls that are under way when measuring ends, and end when it has begun anew. */
static void sessions(void) {
  struct pair p = make_pair();
  KQTime *kqtime = new_measurement();
  move(&p, 1);
  pthread_t thread;
  CHECK(pthread_create(&thread, NULL, receive, &p) == 0);
  struct timespec pause = {0, 20000000};
  nanosleep(&pause, NULL);
  kqtime_free(kqtime);
  CHECK(send(p.client, bytes, 2, 0) == 2); /* Not measured. */
  kqtime = new_measurement();
  kqtime_register(kqtime, p.client, "in the second");
  CHECK(send(p.client, bytes, 8, 0) == 8);
  pthread_join(thread, NULL);
  move(&p, 3);
  kqtime_free(kqtime);
  move(&p, 4);
  kqtime = new_measurement();
  move(&p, 5);
  kqtime_free(kqtime);
}

/* Idle rounds: how long the slowest took, and what is left of them. */
static void rounds(void) {
  const char *count = getenv("CAPI_ROUNDS");
  int rounds = count != NULL ? atoi(count) : 100;
  double slowest_new = 0;
  double slowest_free = 0;
  KQTime *first = new_measurement();
  kqtime_free(first);
  int fds = count_fds();
  long kib = 0;
  for (int round = 0; round < rounds; round++) {
    double start = now_ms();
    KQTime *kqtime = new_measurement();
    double between = now_ms();
    kqtime_free(kqtime);
    double end = now_ms();
    slowest_new = between - start > slowest_new ? between - start : slowest_new;
    slowest_free = end - between > slowest_free ? end - between : slowest_free;
    if (round == 8) {
      kib = status_kib("VmSize:");
    }
  }
  TELL("%.0f %.0f %d %ld\n", slowest_new, slowest_free, count_fds() - fds,
       status_kib("VmSize:") - kib);
}

static volatile sig_atomic_t child_signals;
static void count_child(int number) {
  (void)number;
  child_signals++;
}

/* What the program sees of its children. */
static void waits(void) {
  struct sigaction action = {.sa_handler = count_child, .sa_flags = SA_RESTART};
  CHECK(sigaction(SIGCHLD, &action, NULL) == 0);
  CHECK(waitpid(-1, NULL, WNOHANG) == -1 && errno == ECHILD);
  KQTime *kqtime = new_measurement();
  CHECK(waitpid(-1, NULL, WNOHANG) == -1 && errno == ECHILD);
  CHECK(child_signals == 0);
  pid_t child = fork();
  if (child == 0) {
    _exit(7);
  }
  int status;
  CHECK(waitpid(-1, &status, 0) == child && WEXITSTATUS(status) == 7);
  ask_to_go_on("measuring");
  kqtime_free(kqtime);
  ask_to_go_on("freed");
  CHECK(waitpid(-1, NULL, WNOHANG | __WALL) == -1 && errno == ECHILD);
  CHECK(child_signals == 1);
}

/* Holds things that a collector must not. */
static void holds(void) {
  make_pair();
  int gate[2];
  CHECK(pipe(gate) == 0);
  sigset_t all;
  sigfillset(&all);
  sigprocmask(SIG_BLOCK, &all, NULL);
  signal(SIGHUP, SIG_IGN);
  signal(SIGPIPE, SIG_IGN);
  const char *odd = getenv("CAPI_CLOSE");
  for (const char *digit = odd; digit != NULL && *digit != '\0'; digit++) {
    close(*digit - '0');
  }
  struct sched_param real_time = {1};
  if (getenv("CAPI_REALTIME") != NULL) {
    CHECK(sched_setscheduler(0, SCHED_FIFO, &real_time) == 0);
  }
  KQTime *kqtime = new_measurement();
  if (odd == NULL) {
    ask_to_go_on("measuring");
  }
  sigset_t now;
  sigprocmask(SIG_SETMASK, NULL, &now);
  CHECK(sigismember(&now, SIGTERM) == 1);
  kqtime_free(kqtime);
}

/* Ends in a way that leaves the log to the collector. */
static void leaves(void) {
  KQTime *kqtime = new_measurement();
  struct pair p = make_pair();
  kqtime_register(kqtime, p.client, "left");
  move(&p, 11);
  const char *how = getenv("CAPI_END");
  if (how != NULL && strcmp(how, "kill") == 0) {
    raise(SIGKILL);
  }
}

static void wait_for(pid_t child) {
  int status;
  CHECK(waitpid(child, &status, 0) == child && WIFEXITED(status) && WEXITSTATUS(status) == 0);
}

/* A forked child frees, the parent goes on. */
static void forks(void) {
  KQTime *kqtime = new_measurement();
  struct pair p = make_pair();
  kqtime_register(kqtime, p.client, "parent");
  move(&p, 1);
  pid_t child = fork();
  if (child == 0) {
    move(&p, 2);
    struct pair q = make_pair();
    kqtime_register(kqtime, q.client, "child");
    move(&q, 3);
    kqtime_free(kqtime);
    kqtime_register(kqtime, q.client, "not any more");
    move(&q, 4);
    exit(0);
  }
  wait_for(child);
  move(&p, 5);
  kqtime_free(kqtime);
  move(&p, 6);
}

/* A daemon, made after the measurement began, is its heir. */
static void daemonises(void) {
  KQTime *kqtime = new_measurement();
  struct pair p = make_pair();
  kqtime_register(kqtime, p.client, "daemon");
  int gate[2];
  CHECK(pipe(gate) == 0);
  pid_t child = fork();
  if (child == 0) {
    setsid();
    if (fork() != 0) {
      _exit(0);
    }
    close(gate[1]);
    char byte;
    CHECK(read(gate[0], &byte, 1) == 0); /* The first process has ended. */
    move(&p, 9);
    struct pair q = make_pair();
    kqtime_register(kqtime, q.client, "later");
    move(&q, 8);
    double start = now_ms();
    kqtime_free(kqtime);
    TELL("freed %.0f\n", now_ms() - start);
    _exit(0);
  }
  wait_for(child);
  _exit(0);
}

static _Atomic(KQTime *) shared;
static _Atomic bool over;

static void *use_socket(void *argument) {
  struct pair p = make_pair();
  int number = *(int *)argument;
  char name[32];
  snprintf(name, sizeof name, "thread %d", number);
  for (int round = 0; round < 300; round++) {
    kqtime_register(shared, p.client, name);
    move(&p, 16);
    kqtime_deregister(shared, p.client);
    move(&p, 1000);
    if (round % 50 == 49) {
      close(p.client);
      close(p.server);
      close(p.listener);
      p = make_pair();
    }
  }
  return NULL;
}

static void *register_others(void *argument) {
  (void)argument;
  for (int fd = 3; !over; fd = fd < 40 ? fd + 1 : 3) {
    kqtime_deregister(shared, fd);
    kqtime_register(shared, fd, NULL);
    kqtime_deregister(shared, fd);
  }
  return NULL;
}

/* Many threads; handles are freed and made while others use them. */
static void threads(void) {
  bool changing = getenv("CAPI_CHANGING") != NULL;
  shared = new_measurement();
  pthread_t users[4];
  pthread_t other;
  int numbers[4] = {0, 1, 2, 3};
  for (int index = 0; index < 4; index++) {
    CHECK(pthread_create(&users[index], NULL, use_socket, &numbers[index]) == 0);
  }
  if (changing) {
    CHECK(pthread_create(&other, NULL, register_others, NULL) == 0);
    for (int round = 0; round < 20; round++) {
      KQTime *old = shared;
      shared = new_measurement();
      kqtime_free(old);
      kqtime_free(shared);
      shared = new_measurement();
    }
  }
  for (int index = 0; index < 4; index++) {
    pthread_join(users[index], NULL);
  }
  over = true;
  if (changing) {
    pthread_join(other, NULL);
  }
  kqtime_free(shared);
  TELL("done\n");
}

/* A full ring: the collector reads nothing. */
static void overflows(void) {
  KQTime *kqtime = new_measurement();
  struct pair p = make_pair();
  for (int round = 0; round < 100; round++) {
    move(&p, 1);
  }
  double start = now_ms();
  kqtime_register(kqtime, p.client, "too late");
  TELL("%.0f\n", now_ms() - start);
  kqtime_free(kqtime);
}

/* What a session has used of memory is given back. */
static void returns(void) {
  KQTime *kqtime = new_measurement();
  struct pair p = make_pair();
  for (int round = 0; round < 8000; round++) {
    move(&p, 1);
  }
  long used = status_kib("RssShmem:");
  kqtime_free(kqtime);
  TELL("%ld %ld\n", used, status_kib("RssShmem:"));
}

static void frees(void) {
  KQTime *kqtime = new_measurement();
  double start = now_ms();
  kqtime_free(kqtime);
  TELL("%.0f\n", now_ms() - start);
  kqtime = kqtime_new(log_path, 0, 1, 1);
  TELL("%s\n", kqtime != NULL ? "handle" : "NULL");
}

/* The collector dies; the program goes on, and may begin anew. */
static void survives(void) {
  KQTime *old = new_measurement();
  struct pair p = make_pair();
  ask_to_go_on("measuring");
  kqtime_register(old, p.client, "x");
  move(&p, 1);
  KQTime *kqtime = new_measurement();
  kqtime_register(old, p.client, "of the old one");
  move(&p, 7);
  kqtime_free(old);
  kqtime_register(kqtime, p.client, "anew");
  move(&p, 2);
  kqtime_free(kqtime);
}

/* Refused by the collector, which has nothing to do then. */
static void refused(void) {
  CHECK(kqtime_new(log_path, 1, 1, 1) == NULL);
  ask_to_go_on("NULL");
}

/* Two measurements at once, of one process. */
static void two(void) {
  KQTime *a = new_measurement();
  char other[4096];
  snprintf(other, sizeof other, "%s.2.gz", log_path);
  KQTime *b = kqtime_new(other, 0, 0, 1);
  CHECK(b != NULL && a != b);
  struct pair p = make_pair();
  kqtime_register(a, p.client, "a");
  kqtime_register(b, p.client, "b");
  move(&p, 1);
  kqtime_deregister(a, p.client);
  move(&p, 2);
  kqtime_free(a);
  move(&p, 3);
  kqtime_free(b);
}

/* Denies, with EPERM, what Tor's sandbox denies of what the libraries would like to do. */
static void close_sandbox(void) {
#define DENY(number) BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, number, 1, 0), BPF_JUMP(BPF_JMP | BPF_JA, 1, 0, 0), \
                     BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | EPERM)
  struct sock_filter filter[] = {
      BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
      DENY(SYS_openat), DENY(SYS_ppoll), DENY(SYS_memfd_create), DENY(SYS_ftruncate),
      DENY(SYS_getpeername), DENY(SYS_ioctl), DENY(SYS_rt_sigprocmask), DENY(SYS_getppid),
      DENY(SYS_socketpair), DENY(SYS_clock_nanosleep), DENY(SYS_execve), DENY(SYS_getsockopt),
      BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_socket, 0, 3),
      BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, args[1])),
      BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, 1),
      BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | EPERM),
      BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
  };
  struct sock_fprog program = {sizeof filter / sizeof *filter, filter};
  CHECK(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0);
  CHECK(prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program) == 0);
  CHECK(open("/dev/null", O_RDONLY) == -1 && errno == EPERM);
}

static void sandboxed(void) {
  KQTime *kqtime = new_measurement();
  struct pair p = make_pair();
  move(&p, 1);
  int idle = socket(AF_INET, SOCK_STREAM, 0);
  close_sandbox();
  kqtime_register(kqtime, p.client, "in a sandbox");
  move(&p, 2);
  kqtime_register(kqtime, idle, "early");
  int server = connect_to(&p, idle, 0);
  CHECK(send(idle, bytes, 3, 0) == 3);
  take(server, 3);
  kqtime_deregister(kqtime, p.client);
  move(&p, 4);
  kqtime_free(kqtime);
  TELL("freed\n");
  CHECK(kqtime_new(log_path, 1, 1, 1) == NULL);
}

int main(int count, char **arguments) {
  static const struct {
    const char *name;
    void (*run)(void);
  } scenarios[] = {
      {"opens", opens},       {"full", full},       {"nulls", nulls},
      {"names", names},       {"reuse", reuse},     {"early", early},
      {"many-early", many_early}, {"adopts", adopts}, {"sessions", sessions},
      {"rounds", rounds},     {"waits", waits},     {"holds", holds},
      {"leaves", leaves},     {"forks", forks},     {"daemonises", daemonises},
      {"threads", threads},   {"overflows", overflows}, {"frees", frees},
      {"survives", survives}, {"two", two}, {"refused", refused},
      {"returns", returns}, {"under-way", under_way},   {"sandboxed", sandboxed},
  };
  if (count < 3) {
    return 2;
  }
  log_path = arguments[2];
  memset(bytes, 'b', sizeof bytes);
  for (size_t index = 0; index < sizeof scenarios / sizeof *scenarios; index++) {
    if (strcmp(arguments[1], scenarios[index].name) == 0) {
      scenarios[index].run();
      return 0;
    }
  }
  return 2;
}
