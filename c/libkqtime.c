/*
 * The C API, see kqtime.h: handles on measurements by a collector, which is that of `kqtime run` or
 * one that the first handle starts. The work is done by the preload library, found at run time.
 *
 * A handle's memory is never given back to the allocator, since another thread may be about to
 * register a socket with it; it is used again when many others were freed after it.
 */
#define _GNU_SOURCE
#pragma GCC visibility push(default)
#include "kqtime.h"
#pragma GCC visibility pop

#include <dlfcn.h>
#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "../preload/raw.h"
#include "collector.h"
#include "debug.h"
#include "kqtime_preload.h"
#include "log_file.h"
#include "process.h"

/* kqtime_new in all; of it, what is left at least for the last step. */
#define NEW_MS 930
#define OPEN_MS_LEAST 50
#define FREE_MS 10000
/* A collector whose socket is gone may be about to end: it is waited for so long. */
#define ENDING_MS 200
#define PAUSE_NS 2000000L
#define LINE_BYTES 1400
/* Freed handles that are kept from being used again. */
#define RESTING 256

struct KQTime_ {
  uint32_t open;    /* 1 until it is freed */
  uint32_t session; /* in which it was made */
  uint32_t handle;  /* the collector's number for it */
  struct kq_process maker;
  KQTime *next; /* among the freed ones */
};

static struct {
  __typeof__(&kq_preload_version) version;
  __typeof__(&kq_preload_attached) attached;
  __typeof__(&kq_preload_join) join;
  __typeof__(&kq_preload_leave) leave;
  __typeof__(&kq_preload_request) request;
  __typeof__(&kq_preload_register) register_socket;
  __typeof__(&kq_preload_deregister) deregister_socket;
} preload;

/* For all below, but for reading `session`. */
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t changed = PTHREAD_COND_INITIALIZER;
static bool own;         /* the session is one that a handle has started */
static uint32_t session; /* changes when one of those begins or ends */
static int handles;      /* open ones */
static int freeing;      /* about to be freed */
static struct kq_process collector; /* of that session; pid 0: one that somebody else has started */
static KQTime *resting;
static KQTime **resting_end = &resting;
static int resting_count;

static void say(const char *format, ...) __attribute__((format(printf, 1, 2)));
static void say(const char *format, ...) {
  char line[LINE_BYTES];
  int length = snprintf(line, sizeof line, "kqtime: ");
  va_list arguments;
  va_start(arguments, format);
  length += vsnprintf(line + length, sizeof line - (size_t)length - 1, format, arguments);
  va_end(arguments);
  if (length > (int)sizeof line - 2) {
    length = (int)sizeof line - 2;
  }
  line[length] = '\n';
  /* A pipe that nobody reads would raise SIGPIPE, one that is full would block. */
  struct pollfd poller = {STDERR_FILENO, POLLOUT, 0};
  static const struct timespec now;
  if (KQ_SYS_RAW(SYS_ppoll, &poller, 1, &now, NULL, 0) >= 0 &&
      (poller.revents & (POLLOUT | POLLERR)) != POLLOUT) {
    return;
  }
  /* One line by one call. */
  KQ_SYS_RAW(SYS_write, STDERR_FILENO, line, length + 1);
}

#ifdef KQTIME_DEBUG
void kq_debug(const char *format, ...) {
  char text[LINE_BYTES - 64];
  va_list arguments;
  va_start(arguments, format);
  vsnprintf(text, sizeof text, format, arguments);
  va_end(arguments);
  say("debug: %d: %s", (int)getpid(), text);
}
#endif

static void at_fork_child(void) {
  lock = (pthread_mutex_t)PTHREAD_MUTEX_INITIALIZER;
  changed = (pthread_cond_t)PTHREAD_COND_INITIALIZER;
  freeing = 0;
}

__attribute__((constructor)) static void start(void) { pthread_atfork(NULL, NULL, at_fork_child); }

/* Where the preload library most likely is: beside this one. */
static void say_missing(void) {
  Dl_info here;
  const char *slash = NULL;
  if (dladdr((const void *)(uintptr_t)kqtime_new, &here) != 0 && here.dli_fname != NULL) {
    slash = strrchr(here.dli_fname, '/');
  }
  say("not measured: start the program with LD_PRELOAD=%.*slibkqtime-preload.so",
      slash != NULL ? (int)(slash - here.dli_fname) + 1 : 0, slash != NULL ? here.dli_fname : "");
}

#define FIND(member, name)                                                                     \
  (preload.member = (__typeof__(preload.member))(uintptr_t)dlsym(RTLD_DEFAULT, name))

static bool find_preload(void) {
  if (preload.deregister_socket != NULL) {
    return true;
  }
  if (FIND(version, "kq_preload_version") == NULL) {
    say_missing();
    return false;
  }
  if (preload.version() != KQ_PRELOAD_VERSION) {
    say("not measured: libkqtime.so and libkqtime-preload.so are of different versions (%u and "
        "%u): install both anew",
        KQ_PRELOAD_VERSION, (unsigned)preload.version());
    return false;
  }
  if (FIND(attached, "kq_preload_attached") == NULL || FIND(join, "kq_preload_join") == NULL ||
      FIND(leave, "kq_preload_leave") == NULL || FIND(request, "kq_preload_request") == NULL ||
      FIND(register_socket, "kq_preload_register") == NULL ||
      FIND(deregister_socket, "kq_preload_deregister") == NULL) {
    say("not measured: libkqtime-preload.so is damaged: install it anew");
    return false;
  }
  return true;
}

/* May this process end the measurement? It may if it made it, and a daemon may whose parent, which
   made it, is gone. */
static bool is_ours(const KQTime *kqtime) {
  return kqtime->maker.pid == getpid() || kq_process_ended(&kqtime->maker);
}

/* With the lock: a handle's memory, or NULL. */
static KQTime *take_handle(void) {
  if (resting_count <= RESTING) {
    return calloc(1, sizeof(KQTime));
  }
  KQTime *kqtime = resting;
  resting = kqtime->next;
  resting_count--;
  return kqtime;
}

static void rest_handle(KQTime *kqtime) {
  kqtime->next = NULL;
  *resting_end = kqtime;
  resting_end = &kqtime->next;
  resting_count++;
}

/* What a failed request says of the collector. */
enum standing {
  GONE,   /* it has ended: what is in the rings is nobody's */
  APART   /* it lives, or may live, and reads the rings to their end: they are to stay */
};

static enum standing judge(int error, const struct kq_process *process) {
  if (error == ECONNREFUSED || error == ECONNRESET || error == EPIPE) {
    return GONE;
  }
  /* A collector takes its socket away before it ends; in a chroot there never was one. */
  long long until_ms = kq_monotonic_ms() + (error == ENOENT && process->pid != 0 ? ENDING_MS : 0);
  while (process->pid == 0 || !kq_process_ended(process)) {
    if (kq_monotonic_ms() >= until_ms) {
      return APART;
    }
    struct timespec pause = {0, PAUSE_NS};
    KQ_SYS_RAW(SYS_nanosleep, &pause, NULL);
  }
  return GONE;
}

static const char *obstacle(int error) {
  return error == ENOENT ? "chroot?" : strerror(error);
}

static void change_session(bool begins) {
  own = begins;
  collector.pid = 0;
  handles = 0;
  __atomic_add_fetch(&session, 1, __ATOMIC_RELEASE);
}

/* Ends the session that a handle has started. What its rings still hold is lost by that. */
static void leave_session(void) {
  kq_debug("leaving the session");
  preload.leave();
  change_session(false);
}

static bool start_session(const char *source, const char *filter, long long until_ms) {
  char error[LINE_BYTES];
  int status = kqtime_collector_start(source, filter, error, sizeof error);
  if (status < 0) {
    say("not measured: %s", error);
    return false;
  }
  struct kq_ready ready;
  int waited = kq_collector_wait(status, until_ms, &ready, error, sizeof error);
  /* One that is not ready yet learns by this that nobody waits any more. */
  KQ_SYS_RAW(SYS_close, status);
  if (waited != 0) {
    say("not measured: %s", error);
    return false;
  }
  int failed = preload.join(ready.socket, ready.token, ready.slots);
  if (failed != 0) {
    say("not measured: the collector cannot be joined: %s%s", strerror(failed),
        failed == EPERM ? " (call kqtime_new before the sandbox closes)" : "");
    return false;
  }
  kq_debug("joined the session at %s", ready.socket);
  change_session(true);
  collector = kq_process_now(ready.pid);
  return true;
}

/* 0 and the handle's number, or an errno. A refusal is told, and is EPROTO. */
static int open_handle(const char *path, int log, uint32_t flags, long long until_ms,
                       uint32_t *handle) {
  long long left_ms = until_ms - kq_monotonic_ms();
  char text[KQ_TEXT_MAX];
  snprintf(text, sizeof text, "%s", path);
  struct kq_reply reply;
  int failed = preload.request(KQ_MESSAGE_OPEN, 0, flags, log, text, &reply,
                               left_ms > OPEN_MS_LEAST ? (int)left_ms : OPEN_MS_LEAST);
  if (failed == 0 && reply.handle <= 0) {
    say("not measured: %s", (const char *)reply.text);
    return EPROTO;
  }
  *handle = failed == 0 ? (uint32_t)reply.handle : 0;
  return failed;
}

/* With the lock. The session is joined, and the collector has the log. */
static bool begin(const char *path, int log, uint32_t flags, const char *source,
                  const char *filter, uint32_t *handle) {
  long long until_ms = kq_monotonic_ms() + NEW_MS;
  struct timespec until;
  clock_gettime(CLOCK_REALTIME, &until);
  until.tv_sec++;
  while (own && handles == 0 && freeing > 0) {
    /* The collector is about to end with its last handle. */
    if (pthread_cond_timedwait(&changed, &lock, &until) == ETIMEDOUT) {
      say("not measured: the last measurement is still being ended");
      return false;
    }
  }
  for (int tries = 0; tries < 2; tries++) {
    bool started = !preload.attached();
    if (started && !start_session(source, filter, until_ms)) {
      return false;
    }
    if (!started && (source != NULL || filter != NULL)) {
      kq_debug("a capture is on already: its interface and filter stay");
    }
    int failed = open_handle(path, log, flags, until_ms, handle);
    if (failed == 0) {
      handles++;
      return true;
    }
    bool again = own && !started && failed != EPROTO && judge(failed, &collector) == GONE;
    if (failed != EPROTO && !again) {
      say("not measured: the collector %s: %s",
          failed == ETIMEDOUT ? "does not answer" : "cannot be reached", obstacle(failed));
    }
    /* Without a handle, a session that is there already waits for a collector to catch up. */
    if (own && (started || again)) {
      leave_session();
    }
    if (!again) {
      return false;
    }
    kq_debug("the collector has ended: starting another one");
  }
  return false;
}

KQTime *kqtime_new_full(const char *logFilePath, int logBufferStats, int logInTimes,
                        int logOutTimes, const char *pcapSource, const char *pcapFilter) {
  int saved = errno;
  if (logFilePath == NULL) {
    say("not measured: there is no path for the log");
    return NULL;
  }
  KQTime *kqtime = NULL;
  /* A thread that is cancelled must not take the lock with it. */
  int cancel;
  pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, &cancel);
  pthread_mutex_lock(&lock);
  int log = -1;
  if (find_preload() && (kqtime = take_handle()) != NULL) {
    char error[LINE_BYTES];
    log = kq_log_open(logFilePath, error, sizeof error);
    if (log < 0) {
      say("not measured: %s", error);
    }
    uint32_t flags = (logBufferStats ? KQ_OPEN_STATS : 0u) | (logInTimes ? KQ_OPEN_IN : 0u) |
                     (logOutTimes ? KQ_OPEN_OUT : 0u) |
                     (kq_log_compressed(logFilePath) ? KQ_OPEN_GZIP : 0u);
    if (log >= 0 &&
        begin(logFilePath, log, flags, pcapSource, pcapFilter, &kqtime->handle)) {
      kqtime->maker = kq_process_now(getpid());
      kqtime->session = session;
      __atomic_store_n(&kqtime->open, 1, __ATOMIC_RELEASE);
      kq_debug("measuring into %s as handle %u", logFilePath, kqtime->handle);
    } else {
      rest_handle(kqtime);
      kqtime = NULL;
    }
  }
  pthread_mutex_unlock(&lock);
  if (log >= 0) {
    KQ_SYS_RAW(SYS_close, log);
  }
  pthread_setcancelstate(cancel, NULL);
  errno = saved;
  return kqtime;
}

KQTime *kqtime_new(const char *logFilePath, int logBufferStats, int logInTimes,
                   int logOutTimes) {
  return kqtime_new_full(logFilePath, logBufferStats, logInTimes, logOutTimes, NULL, NULL);
}

/* Has the collector complete the log. Returns whether it needs the rings no more. */
static bool end_handle(const KQTime *kqtime, const struct kq_process *reader) {
  struct kq_reply reply;
  int failed = preload.request(KQ_MESSAGE_FREE, kqtime->handle, 0, -1, NULL, &reply, FREE_MS);
  if (failed == 0) {
    /* Why it refused, or what the log has lost. */
    if (reply.handle < 0 || reply.text_bytes > 0) {
      say("%s", (const char *)reply.text);
    }
    return true;
  }
  if (failed == ETIMEDOUT) {
    say("the collector has not completed the log in %d s: it does so when it catches up",
        FREE_MS / 1000);
    return false;
  }
  if (judge(failed, reader) == GONE) {
    say("the collector has ended before: the log ends where it did");
    return true;
  }
  say("the collector cannot be reached (%s): the log is completed when the program ends",
      obstacle(failed));
  return false;
}

void kqtime_free(KQTime *kqtime) {
  uint32_t open = 1;
  if (kqtime == NULL || !__atomic_compare_exchange_n(&kqtime->open, &open, 0, false,
                                                     __ATOMIC_ACQ_REL, __ATOMIC_RELAXED)) {
    return;
  }
  int saved = errno;
  int cancel;
  pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, &cancel);
  pthread_mutex_lock(&lock);
  bool current = kqtime->session == session;
  bool ours = current && is_ours(kqtime);
  if (ours) {
    handles--;
    freeing++;
    struct kq_process reader = collector;
    pthread_mutex_unlock(&lock);
    bool done = end_handle(kqtime, &reader);
    pthread_mutex_lock(&lock);
    freeing--;
    if (done && own && handles == 0 && freeing == 0 && kqtime->session == session) {
      leave_session();
    }
    pthread_cond_broadcast(&changed);
  }
  kq_debug("freed handle %u%s", kqtime->handle, ours ? "" : current ? ": it is another process's"
                                                                     : ": its session is over");
  rest_handle(kqtime);
  pthread_mutex_unlock(&lock);
  pthread_setcancelstate(cancel, NULL);
  errno = saved;
}

static bool is_open(const KQTime *kqtime) {
  return kqtime != NULL && __atomic_load_n(&kqtime->open, __ATOMIC_ACQUIRE) != 0 &&
         kqtime->session == __atomic_load_n(&session, __ATOMIC_ACQUIRE);
}

void kqtime_register(KQTime *kqtime, int fd, const char *name) {
  if (fd < 1 || !is_open(kqtime)) {
    return;
  }
  int saved = errno;
  int failed = preload.register_socket(kqtime->handle, fd, name);
  kq_debug("register fd %d as %s: %s", fd, name != NULL ? name : "NULL",
           failed != 0 ? strerror(failed) : "measured from here on");
  (void)failed;
  errno = saved;
}

void kqtime_deregister(KQTime *kqtime, int fd) {
  if (fd < 1 || !is_open(kqtime)) {
    return;
  }
  int saved = errno;
  int failed = preload.deregister_socket(kqtime->handle, fd);
  kq_debug("deregister fd %d: %s", fd, failed != 0 ? strerror(failed) : "done");
  (void)failed;
  errno = saved;
}
