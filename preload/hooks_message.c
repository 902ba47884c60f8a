/*
 * sendmsg(2), sendmmsg(2), recvmsg(2), recvmmsg(2).
 */
#define _GNU_SOURCE
#include <errno.h>

#include "messages.h"
#include "real.h"
#include "received.h"
#include "recorder.h"
#include "socket.h"

static int64_t bytes_of(long count, const struct mmsghdr *messages) {
  int64_t bytes = 0;
  for (long index = 0; index < count; index++) {
    bytes += messages[index].msg_len;
  }
  return bytes;
}

void kq_end_sent_messages(struct kq_call *call, long count, const struct mmsghdr *messages) {
  if (call->direction != NULL) {
    kq_end(call, bytes_of(count, messages));
  }
}

void kq_end_received_messages(struct kq_call *call, unsigned asked, long count,
                              const struct mmsghdr *messages, int flags) {
  if (call->direction == NULL) {
    return;
  }
  if (asked > 1 || (flags & MSG_WAITALL) != 0) {
    kq_mark_waiting(call);
  }
  if (flags & MSG_OOB) {
    kq_end_urgent(call, count);
  } else {
    kq_end(call, bytes_of(count, messages));
  }
}

static ssize_t sendmsg_fast(int fd, const struct msghdr *message, int flags) {
  struct msghdr copy;
  struct kq_connect connect = {0};
  if (kq_socket_copy(&copy, message, sizeof copy) && copy.msg_name != NULL) {
    kq_fastopen_begin(&connect, fd, copy.msg_name, copy.msg_namelen);
  }
  KQ_CALL(call);
  kq_begin(&call, fd, kq_fd_look(fd), KQ_KIND_OUT, 0);
  ssize_t result = kq_real.sendmsg(fd, message, flags);
  kq_connect_end(&connect, result, result < 0 ? errno : 0);
  kq_end(&call, result);
  return result;
}

KQ_EXPORT ssize_t sendmsg(int fd, const struct msghdr *message, int flags) {
  uint64_t word = kq_fd_look(fd);
  if (kq_fd_ignored(word)) {
    return KQ_REAL(sendmsg)(fd, message, flags);
  }
  if (KQ_UNLIKELY(flags & MSG_FASTOPEN)) {
    return sendmsg_fast(fd, message, flags);
  }
  KQ_CALL(call);
  kq_begin(&call, fd, word, KQ_KIND_OUT, 0);
  ssize_t result = kq_real.sendmsg(fd, message, flags);
  kq_end(&call, result);
  return result;
}

KQ_EXPORT int sendmmsg(int fd, struct mmsghdr *messages, unsigned int count, int flags) {
  uint64_t word = kq_fd_look(fd);
  if (kq_fd_ignored(word)) {
    return KQ_REAL(sendmmsg)(fd, messages, count, flags);
  }
  KQ_CALL(call);
  kq_begin(&call, fd, word, KQ_KIND_OUT, 0);
  int result = kq_real.sendmmsg(fd, messages, count, flags);
  kq_end_sent_messages(&call, result, messages);
  return result;
}

static ssize_t recvmsg_ignored(int fd, struct msghdr *message, int flags) {
  ssize_t result = KQ_REAL(recvmsg)(fd, message, flags);
  if (result >= 0 && kq_fd_limit != 0) {
    kq_rights_received(message);
  }
  return result;
}

KQ_EXPORT ssize_t recvmsg(int fd, struct msghdr *message, int flags) {
  uint64_t word = kq_fd_look(fd);
  if (kq_fd_ignored(word) || KQ_UNLIKELY(kq_recv_takes_nothing(flags))) {
    return recvmsg_ignored(fd, message, flags);
  }
  KQ_CALL(call);
  kq_begin(&call, fd, word, KQ_KIND_IN, 0);
  ssize_t result = kq_real.recvmsg(fd, message, flags);
  if (KQ_UNLIKELY(call.direction == NULL) && result >= 0) {
    /* An unknown descriptor that turned out to be a Unix socket. */
    kq_rights_received(message);
  }
  kq_end_received(&call, result, flags);
  return result;
}

static int recvmmsg_ignored(int fd, struct mmsghdr *messages, unsigned int count, int flags,
                            struct timespec *timeout) {
  int result = KQ_REAL(recvmmsg)(fd, messages, count, flags, timeout);
  for (int index = 0; index < result && kq_fd_limit != 0; index++) {
    kq_rights_received(&messages[index].msg_hdr);
  }
  return result;
}

KQ_EXPORT int recvmmsg(int fd, struct mmsghdr *messages, unsigned int count, int flags,
                       struct timespec *timeout) {
  uint64_t word = kq_fd_look(fd);
  if (kq_fd_ignored(word) || KQ_UNLIKELY(kq_recv_takes_nothing(flags))) {
    return recvmmsg_ignored(fd, messages, count, flags, timeout);
  }
  KQ_CALL(call);
  kq_begin(&call, fd, word, KQ_KIND_IN, 0);
  int result = kq_real.recvmmsg(fd, messages, count, flags, timeout);
  if (KQ_UNLIKELY(call.direction == NULL)) {
    for (int index = 0; index < result; index++) {
      kq_rights_received(&messages[index].msg_hdr);
    }
  }
  kq_end_received_messages(&call, count, result, messages, flags);
  return result;
}
