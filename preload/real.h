/*
 * The functions that the hooks stand in front of: the next definition in the order of loading,
 * which is libc's or that of a library preloaded after this one.
 */
#ifndef KQ_REAL_H
#define KQ_REAL_H

#include <fcntl.h>
#include <setjmp.h>
#include <pty.h>
#include <stdbool.h>
#include <stdio.h>
#include <sys/prctl.h>
#include <sys/sendfile.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <unistd.h>

#include "sys.h"

/* Exported by glibc without a declaration that we could rely on. */
extern ssize_t __read_chk(int fd, void *buffer, size_t length, size_t room);
extern ssize_t __recv_chk(int fd, void *buffer, size_t length, size_t room, int flags);
extern ssize_t __recvfrom_chk(int fd, void *buffer, size_t length, size_t room, int flags,
                              __SOCKADDR_ARG address, socklen_t *address_length);

/* Always present in the glibc versions that are supported (2.31 and later), as are the next. */
#define KQ_REAL_MOVING(X)                                                                      \
  X(write, ssize_t (*)(int, const void *, size_t))                                             \
  X(writev, ssize_t (*)(int, const struct iovec *, int))                                       \
  X(pwritev2, ssize_t (*)(int, const struct iovec *, int, off_t, int))                         \
  X(send, ssize_t (*)(int, const void *, size_t, int))                                         \
  X(sendto, ssize_t (*)(int, const void *, size_t, int, __CONST_SOCKADDR_ARG, socklen_t))      \
  X(sendmsg, ssize_t (*)(int, const struct msghdr *, int))                                     \
  X(sendmmsg, int (*)(int, struct mmsghdr *, unsigned int, int))                               \
  X(sendfile, ssize_t (*)(int, int, off_t *, size_t))                                          \
  X(splice, ssize_t (*)(int, __off64_t *, int, __off64_t *, size_t, unsigned int))             \
  X(read, ssize_t (*)(int, void *, size_t))                                                    \
  X(readv, ssize_t (*)(int, const struct iovec *, int))                                        \
  X(preadv2, ssize_t (*)(int, const struct iovec *, int, off_t, int))                          \
  X(recv, ssize_t (*)(int, void *, size_t, int))                                               \
  X(recvfrom, ssize_t (*)(int, void *, size_t, int, __SOCKADDR_ARG, socklen_t *))              \
  X(recvmsg, ssize_t (*)(int, struct msghdr *, int))                                           \
  X(recvmmsg, int (*)(int, struct mmsghdr *, unsigned int, int, struct timespec *))            \
  X(syscall, long (*)(long, long, long, long, long, long, long))

#define KQ_REAL_REQUIRED(X)                                                                    \
  X(socket, int (*)(int, int, int))                                                            \
  X(socketpair, int (*)(int, int, int, int *))                                                 \
  X(accept, int (*)(int, __SOCKADDR_ARG, socklen_t *))                                         \
  X(accept4, int (*)(int, __SOCKADDR_ARG, socklen_t *, int))                                   \
  X(connect, int (*)(int, __CONST_SOCKADDR_ARG, socklen_t))                                    \
  X(listen, int (*)(int, int))                                                                 \
  X(dup, int (*)(int))                                                                         \
  X(dup2, int (*)(int, int))                                                                   \
  X(dup3, int (*)(int, int, int))                                                              \
  X(fcntl, int (*)(int, int, ...))                                                             \
  X(close, int (*)(int))                                                                       \
  X(fclose, int (*)(FILE *))                                                                   \
  X(freopen, FILE *(*)(const char *, const char *, FILE *))                                    \
  X(freopen64, FILE *(*)(const char *, const char *, FILE *))                                  \
  X(daemon, int (*)(int, int))                                                                 \
  X(setsockopt, int (*)(int, int, int, const void *, socklen_t))                               \
  X(getsockopt, int (*)(int, int, int, void *, socklen_t *))                                   \
  X(prctl, int (*)(int, ...))                                                                  \
  X(longjmp, void (*)(struct __jmp_buf_tag *, int))                                            \
  X(_longjmp, void (*)(struct __jmp_buf_tag *, int))                                           \
  X(siglongjmp, void (*)(struct __jmp_buf_tag *, int))                                         \
  X(__longjmp_chk, void (*)(struct __jmp_buf_tag *, int))

/* May be missing: NULL, and the hook does without. A failing dlsym allocates its message, so
   these are looked up after the others, when an allocator's own calls already find theirs. */
#define KQ_REAL_OPTIONAL(X)                                                                    \
  X(__read_chk, ssize_t (*)(int, void *, size_t, size_t))                                      \
  X(__recv_chk, ssize_t (*)(int, void *, size_t, size_t, int))                                 \
  X(__recvfrom_chk,                                                                            \
    ssize_t (*)(int, void *, size_t, size_t, int, __SOCKADDR_ARG, socklen_t *))                \
  X(close_range, int (*)(unsigned int, unsigned int, int))                                     \
  X(closefrom, void (*)(int))                                                                  \
  X(login_tty, int (*)(int))                                                                   \
  X(forkpty, int (*)(int *, char *, const struct termios *, const struct winsize *))           \
  X(pidfd_getfd, int (*)(int, int, unsigned int))

struct kq_real {
#define KQ_REAL_MEMBER(name, type) __typeof__((type)0) name;
  KQ_REAL_MOVING(KQ_REAL_MEMBER)
  KQ_REAL_REQUIRED(KQ_REAL_MEMBER)
  KQ_REAL_OPTIONAL(KQ_REAL_MEMBER)
#undef KQ_REAL_MEMBER
};

extern struct kq_real kq_real;
extern __typeof__(kq_real.syscall) kq_syscall_real; /* for syscall.S */

/* Is any of KQ_REAL_MOVING another library's than libc's, which may call the others by name? */
extern bool kq_real_wrapped;
void kq_real_find_wrappers(void);

/* Fills kq_real. Called by the constructor, and by a hook that runs before it. */
void kq_real_resolve(void);

#define KQ_REAL(name)                                                                          \
  (KQ_LIKELY(kq_real.name != NULL) ? kq_real.name : (kq_real_resolve(), kq_real.name))

#endif
