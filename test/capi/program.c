/*
 * A program that uses the C API: `program SCENARIO LOG`. It prints what the test needs to know; on
 * a check that fails it exits with 1.
 */
#define _GNU_SOURCE
#include "program.h"

const char *log_path;
char bytes[65536];

/* Only asks for a measurement, and says how that went. */
static void opens(void) {
  CHECK(getenv("CAPI_SUBREAPER") == NULL || prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) == 0);
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

/* A full ring: the collector reads nothing. */
static void overflows(void) {
  KQTime *kqtime = new_measurement();
  struct pair p = make_pair();
  for (int round = 0; round < 100; round++) {
    move(&p, 1);
  }
  double start = now_ms();
  kqtime_register(kqtime, p.client, "too late");
  TELL("%.0f ", now_ms() - start);
  start = now_ms();
  for (int round = 0; round < 20; round++) {
    kqtime_register(kqtime, p.client, "too late");
    kqtime_deregister(kqtime, p.client);
  }
  TELL("%.0f\n", now_ms() - start);
  /* Something moves: patience again. */
  kqtime_free(new_measurement());
  for (int round = 0; round < 100; round++) {
    move(&p, 1);
  }
  kqtime_register(kqtime, p.client, "in time");
  move(&p, 1);
  kqtime_free(kqtime);
}

/* Nobody listens at stderr, or nobody reads what is in it; or it is closed. */
static void unheard(void) {
  const char *how = getenv("CAPI_STDERR");
  int pipes[2];
  CHECK(pipe(pipes) == 0 && dup2(pipes[1], 2) == 2);
  close(pipes[1]);
  if (strcmp(how, "gone") == 0) {
    close(pipes[0]);
  } else if (strcmp(how, "full") == 0) {
    CHECK(fcntl(2, F_SETFL, O_NONBLOCK) == 0);
    while (write(2, bytes, 4096) > 0) {
    }
    CHECK(fcntl(2, F_SETFL, 0) == 0);
  } else {
    /* The log is opened twice: it would be the second of them. */
    close(pipes[0]);
    close(0);
    close(2);
  }
  CHECK(kqtime_new(NULL, 1, 1, 1) == NULL);
  CHECK(kqtime_new(log_path, 1, 1, 1) == NULL);
  TELL("went on\n");
}

static void *begin_and_end(void *argument) {
  (void)argument;
  KQTime *kqtime = kqtime_new(log_path, 1, 1, 1);
  kqtime_free(kqtime);
  pthread_testcancel();
  return NULL;
}

/* A thread that is cancelled while it measures. */
static void cancelled(void) {
  pthread_t thread;
  void *result;
  CHECK(pthread_create(&thread, NULL, begin_and_end, NULL) == 0);
  CHECK(pthread_cancel(thread) == 0 && pthread_join(thread, &result) == 0);
  CHECK(result == PTHREAD_CANCELED);
  kqtime_free(new_measurement());
  TELL("went on\n");
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

static const struct scenario calls[] = {
    {"opens", opens},
    {"full", full},
    {"nulls", nulls},
    {"names", names},
    {"reuse", reuse},
    {"early", early},
    {"many-early", many_early},
    {"adopts", adopts},
    {"overflows", overflows},
    {"two", two},
    {"refused", refused},
    {"unheard", unheard},
    {"cancelled", cancelled},
    {NULL, NULL},
};

static bool run(const struct scenario *scenario, const char *name) {
  while (scenario->name != NULL && strcmp(scenario->name, name) != 0) {
    scenario++;
  }
  if (scenario->name != NULL) {
    scenario->run();
  }
  return scenario->name != NULL;
}

int main(int count, char **arguments) {
  if (count < 3) {
    return 2;
  }
  log_path = arguments[2];
  memset(bytes, 'b', sizeof bytes);
  const char *name = arguments[1];
  return run(calls, name) || run(lives, name) || run(processes, name) ? 0 : 2;
}
