/*
 * kq_preload_request: a message to the session's collector, and its reply. Also in a sandbox, where
 * a call may be denied: then it is done without, or the errno is the answer.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <poll.h>
#include <string.h>
#include <time.h>

#include "../c/kqtime_preload.h"
#include "clock.h"
#include "memory.h"
#include "session.h"
#include "table.h"

#define PAUSE_NS 1000000L

static int64_t monotonic_ms(void) { return (int64_t)(kq_monotonic_ns() / 1000000u); }

static void rest(void) {
  struct timespec pause = {0, PAUSE_NS};
  KQ_SYS(SYS_nanosleep, &pause, NULL);
}

/* Waits for the socket to be readable, or a while. */
static void wait_readable(int fd, int64_t left_ms) {
  struct pollfd poller = {fd, POLLIN, 0};
  struct timespec left = {left_ms / 1000, left_ms % 1000 * 1000000};
  long result = KQ_SYS(SYS_ppoll, &poller, 1, &left, NULL, 0);
  if (result < 0 && result != -EINTR) {
    rest();
  }
}

/* 0 or an errno. */
static int take_reply(int from, struct kq_reply *reply, int64_t until_ms) {
  for (;;) {
    long length = KQ_SYS(SYS_recvfrom, from, reply, sizeof *reply, MSG_DONTWAIT, NULL, NULL);
    if (length == 0) {
      return ECONNRESET;
    }
    if (length > 0) {
      uint32_t room = (uint32_t)sizeof reply->text;
      if (length < (long)KQ_REPLY_HEAD_BYTES || reply->magic != KQ_MAGIC ||
          reply->text_bytes > room || length < (long)(KQ_REPLY_HEAD_BYTES + reply->text_bytes)) {
        return EPROTO;
      }
      reply->text[reply->text_bytes < room ? reply->text_bytes : room - 1] = '\0';
      return 0;
    }
    if (length != -EAGAIN && length != -EINTR) {
      return (int)-length;
    }
    int64_t left_ms = until_ms - monotonic_ms();
    if (left_ms <= 0) {
      return ETIMEDOUT;
    }
    wait_readable(from, left_ms);
  }
}

/* Sends a message and leaves the connection in *to. 0 or an errno: EAGAIN if the collector's
   backlog is full. */
static int send_request(uint32_t type, uint32_t handle, uint32_t flags, int fd, const char *text,
                        int *to) {
  if (kq_fd_limit == 0) {
    return ENOTCONN;
  }
  if (kq_session_foreign()) {
    return EPERM;
  }
  size_t length = text != NULL ? strlen(text) : 0;
  if (length > KQ_TEXT_MAX) {
    return EMSGSIZE;
  }
  if (__atomic_load_n(&kq_identity->state, __ATOMIC_ACQUIRE) == KQ_RING_INHERITED) {
    /* The collector is to know who asks. */
    kq_session_after_fork();
  }
  struct kq_message message = {.magic = KQ_MAGIC,
                               .version = KQ_VERSION,
                               .ring_id = kq_ring->header->ring_id,
                               .type = type,
                               .handle = handle,
                               .flags = flags,
                               .text_bytes = (uint32_t)length};
  memcpy(message.token, kq_collector.token, sizeof message.token);
  if (length > 0) {
    memcpy(message.text, text, length);
  }
  long opened = kq_collector_open(1);
  if (opened < 0) {
    return (int)-opened;
  }
  long sent = kq_collector_send((int)opened, &message, fd);
  if (sent != 0) {
    KQ_SYS(SYS_close, opened);
    return (int)-sent;
  }
  *to = (int)opened;
  return 0;
}

KQ_EXPORT int kq_preload_request(uint32_t type, uint32_t handle, uint32_t flags, int fd,
                                 const char *text, struct kq_reply *reply, int timeout_ms) {
  int64_t until_ms = monotonic_ms() + timeout_ms;
  int to;
  int error;
  while ((error = send_request(type, handle, flags, fd, text, &to)) == EAGAIN) {
    if (monotonic_ms() >= until_ms) {
      return ETIMEDOUT;
    }
    rest();
  }
  if (error != 0) {
    return error;
  }
  error = take_reply(to, reply, until_ms);
  KQ_SYS(SYS_close, to);
  return error;
}

KQ_EXPORT int kq_preload_ask(uint32_t type, uint32_t handle, uint32_t flags, int fd,
                             const char *text, int *connection) {
  return send_request(type, handle, flags, fd, text, connection);
}

KQ_EXPORT int kq_preload_answer(int connection, struct kq_reply *reply) {
  int error = take_reply(connection, reply, 0);
  if (error == ETIMEDOUT) {
    return EAGAIN;
  }
  KQ_SYS(SYS_close, connection);
  return error;
}
