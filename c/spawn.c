/*
 * The collector as a child that is nobody's child: the program must not see it in wait(), SIGCHLD
 * or its process group, and it must hold nothing of the program's.
 *
 * So there is a process in between. It is cloned with exit signal 0, which only a wait with
 * __WCLONE or __WALL sees (clone(2)), clones the collector, and exits; the collector is then a
 * child of init. Both are cloned like vfork's child, on this process's memory, as posix_spawn does:
 * a large program is not copied, and an exec that fails leaves its errno here.
 *
 * Where the program is init itself, or a subreaper, it would inherit the collector by that, and a
 * program that waits for the last of its children would wait for ever. There the process in between
 * stays, as a subreaper of its own, until the collector has ended. (It cannot become another
 * program, which would bring its exit signal back. Somebody's SIGSTOP to it, which nothing keeps
 * off, the kernel does tell the program.) It is a copy of the program that has let go of its memory:
 * shared memory and files are unmapped, but for this code and the stack that it waits on; the
 * contents of the rest are dropped.
 *
 * Between clone and exec only system calls are made, past the hooks of the preload library.
 */
#define _GNU_SOURCE
#include "spawn.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <unistd.h>

#include "../preload/raw.h"

#define STATUS_FD 3
#define STACK_BYTES (64u << 10)
#define SIGNALS 64
#define SIGNAL_SET_BYTES (SIGNALS / 8)
/* As large as Linux lets the number of descriptors become, where they cannot be listed. */
#define FD_MAX (1u << 20)
#define PROCESSORS_MAX 8192
#define UMASK 022
#define STACK_LIMIT_BYTES (8u << 20)
/* linux/ioprio.h and linux/mempolicy.h, which not everybody has. */
#define IOPRIO_WHO_PROCESS 1
#define MPOL_DEFAULT 0
/* Processes in between that stay, and are not reaped yet. */
#define NURSES_MAX 64
/* More than there are addresses; what is not mapped is passed over. */
#define EVERYTHING_BYTES (UINT64_C(1) << 62)

/* libc's other name for clone: in front of this one no sanitizer stands, which would take the child
   for a copy of this process. */
extern int __clone(int (*function)(void *), void *stack, int flags, void *argument, ...);

struct child {
  const char *path;
  char *const *arguments;
  char *const *environment;
  uint8_t *stack; /* for the collector's first steps */
  int status;
  int error;      /* set by a child that failed */
};

static pid_t nurses[NURSES_MAX];

/* As getdents64(2) fills the buffer. */
struct directory_entry {
  uint64_t inode;
  int64_t next;
  uint16_t bytes;
  uint8_t type;
  char name[];
};

#define CHILD __attribute__((no_sanitize_thread, no_sanitize_address))

/* Before Linux 5.9. Closing shifts nothing: the list is of numbers, and read again till it ends. */
CHILD static void close_listed(long last_kept) {
  long folder = KQ_SYS_RAW(SYS_openat, AT_FDCWD, "/proc/self/fd", O_RDONLY | O_DIRECTORY, 0);
  if (folder < 0) {
    for (long fd = last_kept + 1; fd < FD_MAX; fd++) {
      KQ_SYS_RAW(SYS_close, fd);
    }
    return;
  }
  _Alignas(8) uint8_t buffer[1024];
  long filled;
  while ((filled = KQ_SYS_RAW(SYS_getdents64, folder, buffer, sizeof buffer)) > 0) {
    for (long at = 0; at < filled;) {
      const struct directory_entry *entry = (const struct directory_entry *)&buffer[at];
      long fd = 0;
      const char *digit = entry->name;
      for (; *digit >= '0' && *digit <= '9'; digit++) {
        fd = fd * 10 + (*digit - '0');
      }
      if (*digit == '\0' && fd > last_kept && fd != folder) {
        KQ_SYS_RAW(SYS_close, fd);
      }
      at += entry->bytes;
    }
  }
  if (folder > last_kept) {
    KQ_SYS_RAW(SYS_close, folder);
  }
}

CHILD static long move_fd(long from, long to) {
  if (from == to) {
    return KQ_SYS_RAW(SYS_fcntl, to, F_SETFD, 0);
  }
  return KQ_SYS_RAW(SYS_dup3, from, to, 0);
}

/* 0,1,2: /dev/null; 3: the status pipe; no others. */
CHILD static long arrange_fds(int status) {
  long result = move_fd(status, STATUS_FD);
  if (result < 0) {
    return result;
  }
  if (KQ_SYS_RAW(SYS_close_range, STATUS_FD + 1, ~0U, 0) != 0) {
    close_listed(STATUS_FD);
  }
  long null = KQ_SYS_RAW(SYS_openat, AT_FDCWD, "/dev/null", O_RDWR, 0);
  if (null < 0) {
    return null;
  }
  for (long fd = 0; fd <= 2; fd++) {
    result = move_fd(null, fd);
    if (result < 0) {
      return result;
    }
  }
  if (null > STATUS_FD) {
    KQ_SYS_RAW(SYS_close, null);
  }
  return 0;
}

/* What a program sets for itself, and the collector would inherit through exec. */
CHILD static void be_ordinary(void) {
  /* A program of real-time or idle priority: neither starved by its collector nor starving it. */
  struct sched_param none = {0};
  if (KQ_SYS_RAW(SYS_sched_getscheduler, 0) != SCHED_OTHER) {
    KQ_SYS_RAW(SYS_sched_setscheduler, 0, SCHED_OTHER, &none);
  }
  /* One of lower priority keeps it where the kernel allows nothing else. */
  KQ_SYS_RAW(SYS_setpriority, PRIO_PROCESS, 0, 0);
  KQ_SYS_RAW(SYS_ioprio_set, IOPRIO_WHO_PROCESS, 0, 0);
  /* All the processors that its control group has: a program that is bound to one needs that. */
  uint64_t processors[PROCESSORS_MAX / 64];
  for (unsigned index = 0; index < PROCESSORS_MAX / 64; index++) {
    processors[index] = ~UINT64_C(0);
  }
  KQ_SYS_RAW(SYS_sched_setaffinity, 0, sizeof processors, processors);
  KQ_SYS_RAW(SYS_set_mempolicy, MPOL_DEFAULT, NULL, 0);
  KQ_SYS_RAW(SYS_umask, UMASK);
  for (int resource = 0; resource < RLIM_NLIMITS; resource++) {
    struct rlimit limit;
    if (KQ_SYS_RAW(SYS_prlimit64, 0, resource, NULL, &limit) != 0 || resource == RLIMIT_CORE) {
      continue;
    }
    /* A stack without a limit changes where memory is mapped. */
    limit.rlim_cur = resource == RLIMIT_STACK && limit.rlim_max > STACK_LIMIT_BYTES
                         ? STACK_LIMIT_BYTES
                         : limit.rlim_max;
    KQ_SYS_RAW(SYS_prlimit64, 0, resource, &limit, NULL);
  }
}

CHILD static int collector_main(void *argument) {
  struct child *child = argument;
  KQ_SYS_RAW(SYS_setsid);
  /* struct sigaction as the kernel has it: all zero is SIG_DFL. */
  static const uint64_t fresh[4];
  for (int number = 1; number <= SIGNALS; number++) {
    KQ_SYS_RAW(SYS_rt_sigaction, number, fresh, NULL, SIGNAL_SET_BYTES);
  }
  be_ordinary();
  long result = arrange_fds(child->status);
  if (result == 0) {
    KQ_SYS_RAW(SYS_chdir, "/");
    static const uint64_t empty;
    KQ_SYS_RAW(SYS_rt_sigprocmask, SIG_SETMASK, &empty, NULL, SIGNAL_SET_BYTES);
    result = KQ_SYS_RAW(SYS_execve, child->path, child->arguments, child->environment);
  }
  child->error = (int)-result;
  KQ_SYS_RAW(SYS_exit_group, 127);
  return 127;
}

/* Leaves the errno in *child if that fails. */
CHILD static void clone_collector(struct child *child) {
  if (__clone(collector_main, child->stack + STACK_BYTES, CLONE_VM | CLONE_VFORK, child) < 0) {
    child->error = errno;
  }
}

CHILD static int between_main(void *argument) {
  clone_collector(argument);
  KQ_SYS_RAW(SYS_exit_group, 0);
  return 0;
}

/* What the collector itself would say if it could not begin. */
CHILD static void report_error(const struct child *child) {
  char digits[] = "000)\n";
  for (int at = 2, left = child->error; at >= 0; at--, left /= 10) {
    digits[at] = (char)('0' + left % 10);
  }
  const char *parts[] = {"error the collector ", child->path, " cannot be started (errno ", digits};
  for (int index = 0; index < 4; index++) {
    KQ_SYS_RAW(SYS_write, child->status, parts[index], strlen(parts[index]));
  }
}

CHILD static unsigned digit_of(char text) { return (unsigned)(text <= '9' ? text - '0' : text - 'a' + 10); }

/*
 * Unmaps all that is shared or a file, which nobody could unmount, free or delete else. Then waits
 * until the collector and its like have ended.
 *
 * Once libc is unmapped, nothing of it may be called, and no function may return that checks its
 * stack against a value that libc keeps. Private memory without a file stays, for the kernel writes
 * to some of it (rseq(2)).
 */
CHILD static void __attribute__((noreturn, noinline)) stay(const void *on_stack) {
  uintptr_t code = (uintptr_t)stay;
  uintptr_t stack = (uintptr_t)on_stack;
  uint64_t own = 0; /* the inode of this library */
  char buffer[4096];
  for (int pass = 0; pass < 2; pass++) {
    long maps = KQ_SYS_RAW(SYS_openat, AT_FDCWD, "/proc/self/maps", O_RDONLY, 0);
    uint64_t start = 0;
    uint64_t end = 0;
    uint64_t inode = 0;
    bool shared = false;
    int field = 0;
    long filled;
    /* Lines of `START-END rw-p OFFSET DEVICE INODE PATH`, in the order of their addresses, and
       looked up anew by address for each read. */
    while (maps >= 0 && (filled = KQ_SYS_RAW(SYS_read, maps, buffer, sizeof buffer)) > 0) {
      for (long at = 0; at < filled; at++) {
        char letter = buffer[at];
        if (letter == '\n') {
          bool here = start <= code && code < end;
          if (pass == 0) {
            own = here ? inode : own;
          } else if (!here && !(start <= stack && stack < end) &&
                     (shared || (inode != 0 && inode != own))) {
            KQ_SYS_RAW(SYS_munmap, start, end - start);
          }
          start = end = inode = 0;
          shared = false;
          field = 0;
        } else if (letter == ' ' || (letter == '-' && field == 0)) {
          field++;
        } else if (field == 0) {
          start = start * 16 + digit_of(letter);
        } else if (field == 1) {
          end = end * 16 + digit_of(letter);
        } else if (field == 2) {
          shared = shared || letter == 's';
        } else if (field == 5) {
          inode = inode * 10 + digit_of(letter);
        }
      }
    }
    if (maps >= 0) {
      KQ_SYS_RAW(SYS_close, maps);
    }
  }
  /* Else each page that the program writes from now on would have to be copied. */
  KQ_SYS_RAW(SYS_madvise, 0, EVERYTHING_BYTES, MADV_DONTNEED);
  long ended;
  do {
    ended = KQ_SYS_RAW(SYS_wait4, -1, NULL, __WALL, NULL);
  } while (ended >= 0 || ended == -EINTR);
  for (;;) {
    KQ_SYS_RAW(SYS_exit_group, 0);
  }
}

/* Its stack is shared memory, which the copy of the program keeps when all other is let go. */
CHILD static int nurse_main(void *argument) {
  struct child *child = argument;
  KQ_SYS_RAW(SYS_setsid);
  KQ_SYS_RAW(SYS_chdir, "/");
  KQ_SYS_RAW(SYS_prctl, PR_SET_NAME, "kqtime");
  KQ_SYS_RAW(SYS_prctl, PR_SET_CHILD_SUBREAPER, 1);
  const void *on_stack = child->stack;
  clone_collector(child);
  if (child->error != 0) {
    report_error(child);
  }
  if (KQ_SYS_RAW(SYS_close_range, 0, ~0U, 0) != 0) {
    close_listed(-1);
  }
  stay(on_stack);
}

/* Would an orphan become a child of this process? */
static bool inherits_orphans(void) {
  int subreaper = 0;
  KQ_SYS_RAW(SYS_prctl, PR_GET_CHILD_SUBREAPER, &subreaper);
  return subreaper != 0 || KQ_SYS_RAW(SYS_getpid) == 1;
}

/* Would a child of this process be in another pid namespace, which ends with its first process? */
static bool begets_strangers(void) {
  static const char path[] = "/proc/self/ns/pid_for_children";
  struct stat own;
  struct stat children;
  if (KQ_SYS_RAW(SYS_newfstatat, AT_FDCWD, "/proc/self/ns/pid", &own, 0) != 0 ||
      KQ_SYS_RAW(SYS_newfstatat, AT_FDCWD, path, &children, AT_SYMLINK_NOFOLLOW) != 0) {
    return false;
  }
  /* The link leads nowhere before the first child (pid_namespaces(7)). */
  long found = KQ_SYS_RAW(SYS_newfstatat, AT_FDCWD, path, &children, 0);
  return found == -ENOENT || (found == 0 && children.st_ino != own.st_ino);
}

/* Remembers a process in between that stays, and reaps those that have ended. Two threads at once
   may forget one: it is reaped with the program. */
static void keep_nurse(pid_t pid) {
  for (int index = 0; index < NURSES_MAX; index++) {
    pid_t kept = __atomic_exchange_n(&nurses[index], 0, __ATOMIC_RELAXED);
    if (kept != 0 && KQ_SYS_RAW(SYS_wait4, kept, NULL, WNOHANG | __WCLONE, NULL) != 0) {
      kept = 0;
    }
    if (kept == 0) {
      kept = pid;
      pid = 0;
    }
    if (kept != 0) {
      __atomic_store_n(&nurses[index], kept, __ATOMIC_RELAXED);
    }
  }
}

int kq_spawn(const char *path, char *const *arguments, char *const *environment, int status) {
  if (begets_strangers()) {
    return EXDEV;
  }
  struct child child = {
      .path = path, .arguments = arguments, .environment = environment, .status = status};
  bool stays = inherits_orphans();
  uint8_t *stacks = mmap(NULL, 2 * STACK_BYTES, PROT_READ | PROT_WRITE,
                         (stays ? MAP_SHARED : MAP_PRIVATE | MAP_STACK) | MAP_ANONYMOUS, -1, 0);
  if (stacks == MAP_FAILED) {
    return errno;
  }
  child.stack = stacks;
  /* No handler of the program's may run in the children, on its memory. */
  static const uint64_t all = ~UINT64_C(0);
  uint64_t before;
  int cancel;
  pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, &cancel);
  KQ_SYS_RAW(SYS_rt_sigprocmask, SIG_SETMASK, &all, &before, SIGNAL_SET_BYTES);
  int pid = stays ? __clone(nurse_main, stacks + 2 * STACK_BYTES, 0, &child)
                  : __clone(between_main, stacks + 2 * STACK_BYTES, CLONE_VM | CLONE_VFORK, &child);
  int error = pid < 0 ? errno : 0;
  if (pid > 0 && !stays) {
    while (KQ_SYS_RAW(SYS_wait4, pid, NULL, __WCLONE, NULL) == -EINTR) {
    }
    error = child.error;
  }
  KQ_SYS_RAW(SYS_rt_sigprocmask, SIG_SETMASK, &before, NULL, SIGNAL_SET_BYTES);
  if (stays) {
    keep_nurse(pid > 0 ? pid : 0);
  }
  pthread_setcancelstate(cancel, NULL);
  munmap(stacks, 2 * STACK_BYTES);
  return error;
}
