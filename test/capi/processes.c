/*
 * What measuring programs do with processes: they wait for children, fork, become daemons, end, and
 * have what a collector must not inherit.
 */
#define _GNU_SOURCE
#include "program.h"

#include <sys/mman.h>
#include <sys/stat.h>

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
  void *shared = mmap(NULL, BALLAST_BYTES, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
  CHECK(shared != MAP_FAILED);
  int file = open("/proc/self/exe", O_RDONLY | O_CLOEXEC);
  CHECK(mmap(NULL, 4096, PROT_READ, MAP_PRIVATE, file, 0) != MAP_FAILED && close(file) == 0);
  /* A child that is stopped for a moment (the test does so) is none that has ended. */
  struct sigaction action = {.sa_handler = count_child, .sa_flags = SA_RESTART | SA_NOCLDSTOP};
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
  char said[64];
  if (odd == NULL) {
    cpu_set_t some;
    memset(&some, 0xff, sizeof some);
    CHECK(sched_setaffinity(0, sizeof some, &some) == 0);
    CHECK(sched_getaffinity(0, sizeof some, &some) == 0);
    snprintf(said, sizeof said, "measuring, %d processors", CPU_COUNT(&some));
    CPU_ZERO(&some);
    CPU_SET(sched_getcpu(), &some);
    CHECK(sched_setaffinity(0, sizeof some, &some) == 0);
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
    ask_to_go_on(said);
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
    wait_until_it_receives();
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

const struct scenario processes[] = {
    {"waits", waits},
    {"holds", holds},
    {"reaps", reaps},
    {"unshares", unshares},
    {"leaves", leaves},
    {"forks", forks},
    {"heirs", heirs},
    {"daemonises", daemonises},
    {NULL, NULL},
};
