/*
 * Fixture: calls that decide about a descriptor and are left in the middle, by a jump out of a signal
 * handler or because the thread is cancelled. `left SCENARIO`.
 */
#define _GNU_SOURCE
#include "pair.h"

#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdbool.h>
#include <sys/time.h>

static char text[] = "abcdefghijklmnopqrstuvwxyz";

static struct sockaddr_in busy;

/* A listener that keeps the next one who connects waiting until a place is free. */
static int make_busy(void) {
  int listener = make_listener(&busy);
  int first = socket(AF_INET, SOCK_STREAM, 0);
  CHECK(listen(listener, 0) == 0);
  CHECK(connect(first, (struct sockaddr *)&busy, sizeof busy) == 0);
  return listener;
}

/* Bytes both ways of a connection that its caller did not wait for. */
static void use_left(int listener, int client, bool again) {
  CHECK(accept(listener, NULL, NULL) >= 0);
  int server = accept(listener, NULL, NULL);
  CHECK(!again || connect(client, (struct sockaddr *)&busy, sizeof busy) == 0);
  CHECK(server >= 0 && send(client, text, 9, 0) == 9 && send(server, text, 4, 0) == 4);
  take(client, 4);
  TELL("%d\n", client);
}

static bool syn_sent(int client) {
  struct sockaddr_in local = {0};
  socklen_t length = sizeof local;
  CHECK(getsockname(client, (struct sockaddr *)&local, &length) == 0);
  return local.sin_port != 0;
}

static int jumper;
static sigjmp_buf before;
static void jump(int number) {
  (void)number;
  if (syn_sent(jumper)) {
    setitimer(ITIMER_REAL, &(struct itimerval){0}, NULL);
    siglongjmp(before, 1);
  }
}

static void *connect_busy(void *client) {
  connect(*(int *)client, (struct sockaddr *)&busy, sizeof busy);
  return NULL;
}

/* A connect() that is left by a jump, once asked for again and once not, and by being cancelled. */
static void connect_left(void) {
  struct itimerval often = {{0, 20000}, {0, 20000}};
  signal(SIGALRM, jump);
  for (volatile int again = 0; again < 2; again++) {
    int listener = make_busy();
    jumper = socket(AF_INET, SOCK_STREAM, 0);
    if (sigsetjmp(before, 1) == 0) {
      CHECK(setitimer(ITIMER_REAL, &often, NULL) == 0);
      connect_busy(&jumper);
      CHECK(0);
    }
    use_left(listener, jumper, again);
  }
  int listener = make_busy();
  int client = socket(AF_INET, SOCK_STREAM, 0);
  pthread_t thread;
  CHECK(pthread_create(&thread, NULL, connect_busy, &client) == 0);
  while (!syn_sent(client)) {
    usleep(1000);
  }
  CHECK(pthread_cancel(thread) == 0 && pthread_join(thread, NULL) == 0);
  use_left(listener, client, false);
}

static struct pair unclosed;
static void say_goodbye(void *none) {
  (void)none;
  CHECK(send(unclosed.client, text, 6, 0) == 6);
}
static void *close_cancelled(void *none) {
  pthread_cleanup_push(say_goodbye, NULL);
  pthread_cancel(pthread_self());
  close(unclosed.client);
  pthread_cleanup_pop(0);
  return none;
}

/* A cancelled thread closes nothing. */
static void close_left(void) {
  pthread_t thread;
  void *result;
  unclosed = make_pair();
  CHECK(send(unclosed.client, text, 3, 0) == 3);
  CHECK(pthread_create(&thread, NULL, close_cancelled, NULL) == 0);
  CHECK(pthread_join(thread, &result) == 0 && result == PTHREAD_CANCELED);
  CHECK(send(unclosed.client, text, 8, 0) == 8);
}

int main(int count, char **arguments) {
  if (count == 2 && strcmp(arguments[1], "connect") == 0) {
    connect_left();
  } else if (count == 2 && strcmp(arguments[1], "close") == 0) {
    close_left();
  } else {
    return 2;
  }
  return 0;
}
