/*
 * What syscall(2) does for the numbers of interest: node closes and Bun.serve sends files that
 * way. The entry itself is in syscall.S; here the arguments are what a hook by name would get.
 * The real call goes through libc's syscall(), which unlike the named functions is no
 * cancellation point.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <netinet/in.h>
#include <sys/syscall.h>

#include "messages.h"
#include "option.h"
#include "real.h"
#include "received.h"
#include "recorder.h"
#include "sandbox.h"
#include "socket.h"

#define REAL() kq_real.syscall(number, a, b, c, d, e, f)
#define ARGUMENTS long number, long a, long b, long c, long d, long e, long f
#define PASS number, a, b, c, d, e, f

#define NUMBERS 512 /* as in syscall.S */

/* Called from syscall.S. */
long kq_syscall_dispatch(ARGUMENTS);
long kq_syscall_early(ARGUMENTS);
extern const uint8_t kq_syscall_table[NUMBERS];

/* 2: also while nothing is measured. */
const uint8_t kq_syscall_table[NUMBERS] = {
    [SYS_read] = 1,        [SYS_write] = 1,      [SYS_readv] = 1,    [SYS_writev] = 1,
    [SYS_preadv2] = 1,     [SYS_pwritev2] = 1,   [SYS_sendto] = 1,   [SYS_recvfrom] = 1,
    [SYS_sendmsg] = 1,     [SYS_recvmsg] = 1,    [SYS_sendmmsg] = 1, [SYS_recvmmsg] = 1,
    [SYS_sendfile] = 1,    [SYS_splice] = 1,     [SYS_close] = 1,    [SYS_close_range] = 1,
    [SYS_dup] = 1,         [SYS_dup3] = 1,       [SYS_fcntl] = 1,    [SYS_socket] = 1,
    [SYS_socketpair] = 1,  [SYS_accept] = 1,     [SYS_accept4] = 1,  [SYS_connect] = 1,
    [SYS_listen] = 1,      [SYS_setsockopt] = 1, [SYS_getsockopt] = 1, [SYS_seccomp] = 2,
    [SYS_prctl] = 2,       [SYS_pidfd_getfd] = 1,
#ifdef SYS_dup2
    [SYS_dup2] = 1,
#endif
};

static long out_call(ARGUMENTS) {
  int fd = (int)a;
  uint64_t word = kq_fd_look(fd);
  if (kq_fd_ignored(word)) {
    return REAL();
  }
  struct kq_connect connect = {0};
  if (number == SYS_sendto && (d & MSG_FASTOPEN) && e != 0) {
    kq_fastopen_begin(&connect, fd, (const void *)e, (socklen_t)f);
    word = kq_fd_look(fd);
  }
  KQ_CALL(call);
  bool vector = number == SYS_writev || number == SYS_pwritev2 || number == SYS_sendmsg ||
                number == SYS_sendmmsg;
  kq_begin(&call, fd, word, KQ_KIND_OUT, vector ? 0 : (uint64_t)c);
  long result = REAL();
  kq_connect_end(&connect, result, result < 0 ? errno : 0);
  switch (number) {
    case SYS_write:
    case SYS_sendto:
      kq_end(&call, result);
      break;
    case SYS_writev:
    case SYS_pwritev2:
      kq_end(&call, result);
      break;
    case SYS_sendmsg:
      kq_end(&call, result);
      break;
    case SYS_sendmmsg:
      kq_end_sent_messages(&call, result, (const struct mmsghdr *)b);
      break;
    default:
      kq_end(&call, result);
      break;
  }
  return result;
}

static long in_call(ARGUMENTS) {
  int fd = (int)a;
  uint64_t word = kq_fd_look(fd);
  int flags = 0;
  if (number == SYS_recvfrom || number == SYS_recvmmsg) {
    flags = (int)d;
  } else if (number == SYS_recvmsg) {
    flags = (int)c;
  }
  KQ_CALL(call);
  call.direction = NULL;
  if (!kq_fd_ignored(word) && !kq_recv_takes_nothing(flags)) {
    kq_begin(&call, fd, word, KQ_KIND_IN,
             number == SYS_read || number == SYS_recvfrom ? (uint64_t)c : 0);
  }
  long result = REAL();
  if (call.direction == NULL) {
    if (number == SYS_recvmsg && result >= 0) {
      kq_rights_received((const struct msghdr *)b);
    }
    for (long index = 0; number == SYS_recvmmsg && index < result; index++) {
      kq_rights_received(&((const struct mmsghdr *)b)[index].msg_hdr);
    }
    return result;
  }
  switch (number) {
    case SYS_read:
    case SYS_recvfrom:
      kq_end_received(&call, result, flags);
      break;
    case SYS_readv:
    case SYS_preadv2:
      kq_end(&call, result);
      break;
    case SYS_recvmsg:
      kq_end_received(&call, result, flags);
      break;
    default:
      kq_end_received_messages(&call, (unsigned)c, result, (const struct mmsghdr *)b, flags);
      break;
  }
  return result;
}

/* sendfile(2) or splice(2). */
static long between_call(ARGUMENTS) {
  bool is_splice = number == SYS_splice;
  KQ_CALL(call);
  kq_begin_between(&call, (int)(is_splice ? a : b), (int)(is_splice ? c : a),
                   (uint64_t)(is_splice ? e : d));
  long result = REAL();
  kq_end(&call, result);
  return result;
}

static long accept_call(ARGUMENTS) {
  struct kq_accept accepting;
  kq_accept_begin(&accepting, (int)a, (const void *)b, (const socklen_t *)c);
  struct sockaddr_storage storage;
  socklen_t room = sizeof storage;
  if (accepting.own) {
    b = (long)&storage;
    c = (long)&room;
  }
  long result = REAL();
  if (result >= 0) {
    kq_accept_end(&accepting, (int)result, (const struct sockaddr *)b, (const socklen_t *)c);
  }
  return result;
}

static long connect_call(ARGUMENTS) {
  struct kq_connect connecting;
  kq_connect_begin(&connecting, (int)a, (const void *)b, (socklen_t)c);
  long result = REAL();
  kq_connect_end(&connecting, result, result < 0 ? errno : 0);
  return result;
}

static long death_call(ARGUMENTS) {
  bool copies = number != SYS_close;
  int dying = copies ? (int)b : (int)a;
  if (copies && (a == b || !kq_fd_open((int)a) ||
                 (number == SYS_dup3 && (c & ~(long)O_CLOEXEC) != 0))) {
    return REAL();
  }
  uint64_t word = kq_death_begin(dying);
  long result = REAL();
  kq_death_end(dying, word, !copies || result >= 0);
  if (copies) {
    kq_dup_done((int)a, (int)result);
  }
  return result;
}

static long close_range_call(ARGUMENTS) {
  unsigned first = (unsigned)a;
  unsigned last = (unsigned)b;
  if (!kq_close_range_works(first, last, (int)c)) {
    return REAL();
  }
  kq_death_range_begin(first, last);
  long result = REAL();
  kq_death_range_end(first, last);
  return result;
}

static long option_call(ARGUMENTS) {
  if (number == SYS_getsockopt && kq_option_is_zerocopy((int)b, (int)c) &&
      !kq_fd_ignored(kq_fd_look((int)a))) {
    KQ_CALL(call);
    kq_begin(&call, (int)a, kq_fd_look((int)a), KQ_KIND_IN, 0);
    long result = REAL();
    kq_end(&call, result == 0 ? kq_option_zerocopy_bytes((const void *)d,
                                                                  *(const socklen_t *)e)
                                       : 0);
    return result;
  }
  long result = REAL();
  if (number == SYS_setsockopt && kq_option_is_ulp((int)b, (int)c) && result == 0) {
    kq_option_ulp_set((int)a);
  } else if (number == SYS_setsockopt && b == SOL_SOCKET && c == SO_RCVLOWAT) {
    kq_option_low_water_set((int)a);
  }
  return result;
}

static long sandbox_call(ARGUMENTS) {
  if (kq_real.syscall == NULL) {
    kq_real_resolve();
  }
  struct kq_sandbox change;
  bool listens = false;
  if (number == SYS_prctl) {
    kq_sandbox_prctl(&change, (int)a, (unsigned long)b, (unsigned long)c);
  } else {
    listens = a == SECCOMP_SET_MODE_FILTER && (b & SECCOMP_FILTER_FLAG_NEW_LISTENER) != 0;
    kq_sandbox_seccomp(&change, (unsigned long)a, (unsigned long)b, (unsigned long)c);
  }
  long result = REAL();
  /* Above 0: a listener, or the thread that SECCOMP_FILTER_FLAG_TSYNC failed for. */
  kq_sandbox_end(&change, result == 0 || (result > 0 && listens));
  return result;
}

long kq_syscall_dispatch(ARGUMENTS) {
  long result;
  switch (number) {
    case SYS_write:
    case SYS_writev:
    case SYS_pwritev2:
    case SYS_sendto:
    case SYS_sendmsg:
    case SYS_sendmmsg:
      return out_call(PASS);
    case SYS_sendfile:
    case SYS_splice:
      return between_call(PASS);
    case SYS_read:
    case SYS_readv:
    case SYS_preadv2:
    case SYS_recvfrom:
    case SYS_recvmsg:
    case SYS_recvmmsg:
      return in_call(PASS);
    case SYS_accept:
    case SYS_accept4:
      return accept_call(PASS);
    case SYS_connect:
      return connect_call(PASS);
    case SYS_close:
#ifdef SYS_dup2
    case SYS_dup2:
#endif
    case SYS_dup3:
      return death_call(PASS);
    case SYS_close_range:
      return close_range_call(PASS);
    case SYS_setsockopt:
    case SYS_getsockopt:
      return option_call(PASS);
    case SYS_dup:
      result = REAL();
      kq_dup_done((int)a, (int)result);
      return result;
    case SYS_fcntl:
      result = REAL();
      if (b == F_DUPFD || b == F_DUPFD_CLOEXEC) {
        kq_dup_done((int)a, (int)result);
      }
      return result;
    case SYS_socket:
      result = REAL();
      kq_socket_born((int)result, (int)a, (int)b, (int)c);
      return result;
    case SYS_socketpair:
      result = REAL();
      if (result == 0) {
        kq_socket_born(((const int *)d)[0], (int)a, (int)b, (int)c);
        kq_socket_born(((const int *)d)[1], (int)a, (int)b, (int)c);
      }
      return result;
    case SYS_listen:
      result = REAL();
      if (result == 0) {
        kq_listen_hook((int)a, (int)b);
      }
      return result;
    case SYS_pidfd_getfd:
      result = REAL();
      kq_fd_arrived((int)result);
      return result;
    case SYS_seccomp:
    case SYS_prctl:
      return sandbox_call(PASS);
    default:
      return REAL();
  }
}

/* Before the constructor has run. */
long kq_syscall_early(ARGUMENTS) {
  kq_real_resolve();
  return REAL();
}
