/*
 * fclose(3), freopen(3), daemon(3), login_tty(3), forkpty(3): descriptors that libc closes or
 * replaces on its own, past the hooks of close(2) and dup2(2).
 *
 * These are all that can meet a measured socket. fcloseall(3) flushes and closes nothing; pclose(3),
 * closedir(3) and mq_close(3) close what is no socket; getaddrinfo(3), syslog(3), rcmd(3) and their
 * like close sockets that they have made themselves; posix_spawn(3) replaces in its child, which is
 * not measured before it has executed its program.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <stdio.h>
#include <utmp.h>

#include "real.h"
#include "socket.h"

/* Before glibc 2.34 they are in a library of their own, which may have been loaded after the look-up and
   out of its sight. */
static void *in_libutil(const char *name) {
  void *library = dlopen("libutil.so.1", RTLD_LAZY);
  return library != NULL ? dlsym(library, name) : NULL;
}
#define OF_LIBUTIL(name)                                                                       \
  (KQ_REAL(name) != NULL ? kq_real.name                                                        \
                         : (__typeof__(kq_real.name))(uintptr_t)in_libutil(#name))

static struct kq_dying stream_dying(FILE *stream) {
  struct kq_dying dying = {-1, KQ_FD_UNKNOWN};
  if (kq_fd_limit != 0) {
    int saved = errno;
    dying.fd = fileno(stream);
    errno = saved;
    dying.word = dying.fd >= 0 ? kq_death_begin(dying.fd) : KQ_FD_UNKNOWN;
  }
  return dying;
}

KQ_EXPORT int fclose(FILE *stream) {
  KQ_DYING(dying) = stream_dying(stream);
  return KQ_REAL(fclose)(stream);
}

/* Newer headers say of fclose() that its argument is not NULL; an alias has to say the same. */
KQ_EXPORT __typeof__(fclose) _IO_fclose __attribute__((alias("fclose")));

/* A stream's descriptor has another file afterwards, as a rule under the same number; if that cannot
   be had, none. */
#define FREOPEN(name)                                                                          \
  KQ_EXPORT FILE *name(const char *restrict path, const char *restrict mode,                   \
                       FILE *restrict stream) {                                                \
    KQ_DYING(dying) = stream_dying(stream);                                                    \
    return KQ_REAL(name)(path, mode, stream);                                                  \
  }

FREOPEN(freopen)
FREOPEN(freopen64)

static void standard_dying(uint64_t words[3]) {
  for (int fd = 0; fd < 3; fd++) {
    words[fd] = kq_fd_limit != 0 ? kq_death_begin(fd) : KQ_FD_UNKNOWN;
  }
}

/* All three or none. */
static void standard_died(const uint64_t words[3], bool died) {
  for (int fd = 0; fd < 3; fd++) {
    kq_death_end(fd, words[fd], died);
  }
}

/* Returns in the child, but for an error; the parent's descriptors die with it. */
KQ_EXPORT int daemon(int keeps_folder, int keeps_descriptors) {
  if (keeps_descriptors) {
    return KQ_REAL(daemon)(keeps_folder, keeps_descriptors);
  }
  uint64_t words[3];
  standard_dying(words);
  int result = KQ_REAL(daemon)(keeps_folder, keeps_descriptors);
  standard_died(words, result == 0);
  return result;
}

/* The terminal itself is closed too, but has never been a socket. */
KQ_EXPORT int login_tty(int terminal) {
  __typeof__(kq_real.login_tty) real = OF_LIBUTIL(login_tty);
  if (real == NULL) {
    errno = ENOSYS;
    return -1;
  }
  uint64_t words[3];
  standard_dying(words);
  int result = real(terminal);
  standard_died(words, result == 0);
  return result;
}

KQ_EXPORT int forkpty(int *master, char *name, const struct termios *settings,
                      const struct winsize *size) {
  __typeof__(kq_real.forkpty) real = OF_LIBUTIL(forkpty);
  if (real == NULL) {
    errno = ENOSYS;
    return -1;
  }
  int result = real(master, name, settings, size);
  for (int fd = 0; result == 0 && fd < 3; fd++) {
    /* Not before: its parent's live on. */
    kq_fd_arrived(fd);
  }
  return result;
}
