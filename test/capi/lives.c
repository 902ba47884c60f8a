/*
 * The lives of measurements: sessions one after the other, threads, sandboxes, collectors that
 * cannot be reached, and what is left of all that.
 */
#define _GNU_SOURCE
#include "program.h"

#include <grp.h>

/* Calls that are under way when measuring ends, and end when it has begun anew. */
static void sessions(void) {
  struct pair p = make_pair();
  KQTime *kqtime = new_measurement();
  move(&p, 1);
  pthread_t thread;
  CHECK(pthread_create(&thread, NULL, receive, &p) == 0);
  wait_until_it_receives();
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
    /* So that a ring holds what a collector that has to wait for a processor finds. */
    usleep(20);
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

/* The measurement ends while its collector cannot be reached or stands still, and another begins. */
static void apart(void) {
  const char *root = getenv("CAPI_ROOT");
  const char *files = getenv("CAPI_FILES");
  const char *next = getenv("CAPI_NEXT");
  KQTime *kqtime = new_measurement();
  struct pair p = make_pair();
  kqtime_register(kqtime, p.client, "apart");
  move(&p, 1);
  ask_to_go_on("measuring");
  if (root != NULL) {
    CHECK(chroot(root) == 0 && chdir("/") == 0);
  }
  if (getenv("CAPI_NOBODY") != NULL) {
    CHECK(setgroups(0, NULL) == 0 && setresgid(65534, 65534, 65534) == 0);
    CHECK(setresuid(65534, 65534, 65534) == 0);
  }
  struct rlimit before;
  CHECK(getrlimit(RLIMIT_NOFILE, &before) == 0);
  if (files != NULL) {
    struct rlimit none = {0, before.rlim_max};
    CHECK(setrlimit(RLIMIT_NOFILE, &none) == 0);
  }
  move(&p, 2);
  double start = now_ms();
  kqtime_free(kqtime);
  char said[32];
  snprintf(said, sizeof said, "freed %.0f", now_ms() - start);
  CHECK(setrlimit(RLIMIT_NOFILE, &before) == 0);
  ask_to_go_on(said);
  move(&p, 4);
  if (next != NULL) {
    kqtime = kqtime_new(log_path, 0, 1, 1);
    kqtime_register(kqtime, p.client, "next");
    move(&p, 8);
    kqtime_free(kqtime);
    TELL("%s\n", kqtime != NULL ? "handle" : "NULL");
  }
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

const struct scenario lives[] = {
    {"sessions", sessions},
    {"rounds", rounds},
    {"threads", threads},
    {"frees", frees},
    {"survives", survives},
    {"returns", returns},
    {"apart", apart},
    {"sandboxed", sandboxed},
    {NULL, NULL},
};
