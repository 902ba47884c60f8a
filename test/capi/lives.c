/*
 * The lives of measurements: sessions one after the other, processes that fork, end and become
 * daemons, threads, sandboxes, and what is left of all that.
 */
#define _GNU_SOURCE
#include "program.h"

static void *receive(void *argument) {
  const struct pair *p = argument;
  char buffer[10];
  CHECK(recv(p->server, buffer, sizeof buffer, MSG_WAITALL) == sizeof buffer);
  return NULL;
}

/* Waits for the threads besides this one to sleep, in a system call. */
static void wait_until_it_sleeps(int threads) {
  double start = now_ms();
  for (int asleep = 0; asleep < threads;) {
    CHECK(now_ms() - start < 10000);
    asleep = 0;
    DIR *folder = opendir("/proc/self/task");
    for (struct dirent *entry; (entry = readdir(folder)) != NULL;) {
      char path[300];
      char text[512] = "";
      snprintf(path, sizeof path, "/proc/self/task/%s/syscall", entry->d_name);
      FILE *file = entry->d_name[0] != '.' && atoi(entry->d_name) != getpid() ? fopen(path, "r") : NULL;
      if (file != NULL) {
        asleep += fgets(text, sizeof text, file) != NULL && atoi(text) == SYS_recvfrom;
        fclose(file);
      }
    }
    closedir(folder);
  }
}

/* Calls that are under way when measuring ends, and end when it has begun anew. */
static void sessions(void) {
  struct pair p = make_pair();
  KQTime *kqtime = new_measurement();
  move(&p, 1);
  pthread_t thread;
  CHECK(pthread_create(&thread, NULL, receive, &p) == 0);
  wait_until_it_sleeps(1);
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

#define BALLAST_BYTES (64u << 20)

static volatile sig_atomic_t child_signals;

static void count_child(int number) {
  (void)number;
  child_signals++;
}

/* What the program sees of its children: also one that every orphan comes back to. */
static void waits(void) {
  bool inherits = getenv("CAPI_SUBREAPER") != NULL;
  CHECK(!inherits || prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) == 0);
  inherits |= getpid() == 1;
  memset(malloc(BALLAST_BYTES), 1, BALLAST_BYTES);
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
  /* Where orphans come back, another process stays until the collector has ended. */
  CHECK(waitpid(-1, NULL, WNOHANG | (inherits ? 0 : __WALL)) == -1 && errno == ECHILD);
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
    CHECK(setpriority(PRIO_PROCESS, 0, 5) == 0);
    CHECK(sched_setscheduler(0, SCHED_FIFO, &real_time) == 0);
  }
  if (odd == NULL) {
    cpu_set_t one;
    CPU_ZERO(&one);
    CPU_SET(sched_getcpu(), &one);
    CHECK(sched_setaffinity(0, sizeof one, &one) == 0);
    static const int limits[] = {RLIMIT_CPU, RLIMIT_FSIZE, RLIMIT_NOFILE, RLIMIT_AS, RLIMIT_DATA};
    for (size_t index = 0; index < sizeof limits / sizeof *limits; index++) {
      struct rlimit limit;
      CHECK(getrlimit(limits[index], &limit) == 0);
      limit.rlim_cur = limits[index] == RLIMIT_NOFILE ? 64 : 1u << 30;
      CHECK(setrlimit(limits[index], &limit) == 0);
    }
    umask(0777);
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

/* Every orphan is its child: rounds leave no more than the last one's. */
static void reaps(void) {
  CHECK(prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) == 0);
  for (int round = 0; round < 5; round++) {
    kqtime_free(new_measurement());
    ask_to_go_on("freed");
  }
  int children = 0;
  while (waitpid(-1, NULL, WNOHANG | __WALL) > 0) {
    children++;
  }
  TELL("%d\n", children);
}

/* Its children are in another pid namespace. */
static void unshares(void) {
  CHECK(unshare(CLONE_NEWPID) == 0);
  CHECK(kqtime_new(log_path, 1, 1, 1) == NULL);
  /* The first of them takes all others with it when it ends: that must not have been one of ours. */
  pid_t child = fork();
  if (child == 0) {
    _exit(getpid() != 1);
  }
  wait_for(child);
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

/* A forked child measures on, in memory that its parent has let go of. */
static void heirs(void) {
  KQTime *kqtime = new_measurement();
  struct pair p = make_pair();
  kqtime_register(kqtime, p.client, "parent");
  move(&p, 1);
  int ready[2];
  int go_on[2];
  CHECK(pipe(ready) == 0 && pipe(go_on) == 0);
  char byte = 'x';
  pid_t child = fork();
  if (child == 0) {
    char other[4096];
    snprintf(other, sizeof other, "%s.child", log_path);
    KQTime *own = kqtime_new(other, 0, 1, 1);
    CHECK(own != NULL);
    struct pair q = make_pair();
    kqtime_register(own, q.client, "child");
    kqtime_register(own, q.server, "child");
    move(&q, 2);
    pthread_t thread;
    CHECK(pthread_create(&thread, NULL, receive, &q) == 0);
    wait_until_it_sleeps(1);
    CHECK(write(ready[1], &byte, 1) == 1 && read(go_on[0], &byte, 1) == 1);
    CHECK(send(q.client, bytes, 10, 0) == 10);
    pthread_join(thread, NULL);
    move(&q, 3);
    kqtime_free(own);
    exit(0);
  }
  CHECK(read(ready[0], &byte, 1) == 1);
  kqtime_free(kqtime);
  kqtime = new_measurement();
  kqtime_register(kqtime, p.client, "parent again");
  move(&p, 4);
  CHECK(write(go_on[1], &byte, 1) == 1);
  wait_for(child);
  move(&p, 5);
  kqtime_free(kqtime);
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
    {"waits", waits},
    {"holds", holds},
    {"leaves", leaves},
    {"reaps", reaps},
    {"unshares", unshares},
    {"forks", forks},
    {"heirs", heirs},
    {"daemonises", daemonises},
    {"threads", threads},
    {"frees", frees},
    {"survives", survives},
    {"returns", returns},
    {"apart", apart},
    {"sandboxed", sandboxed},
    {NULL, NULL},
};
