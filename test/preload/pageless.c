/*
 * Fixture: `pageless start PROGRAM…` runs a program that the kernel has mapped no clock into, as it is
 * under some tracers; `pageless sandboxed` closes a sandbox that kills for reading the clock by a system
 * call, and moves bytes in it.
 */
#define _GNU_SOURCE
#include "pair.h"

#include <elf.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <signal.h>
#include <stdbool.h>
#include <stddef.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/user.h>
#include <sys/wait.h>

#if defined(__aarch64__)
#define STACK(registers) ((registers).sp)
#else
#define STACK(registers) ((registers).rsp)
#endif

static long word_at(pid_t child, unsigned long address) {
  return ptrace(PTRACE_PEEKDATA, child, (void *)address, NULL);
}

/* Behind a list that a zero ends. */
static unsigned long behind(pid_t child, unsigned long at) {
  while (word_at(child, at) != 0) {
    at += sizeof(long);
  }
  return at + sizeof(long);
}

static int start(char **arguments) {
  pid_t child = fork();
  if (child == 0) {
    CHECK(ptrace(PTRACE_TRACEME, 0, NULL, NULL) == 0);
    execv(arguments[0], arguments);
    CHECK(0);
  }
  int status;
  CHECK(waitpid(child, &status, 0) == child && WIFSTOPPED(status));
  struct user_regs_struct registers;
  struct iovec room = {&registers, sizeof registers};
  CHECK(ptrace(PTRACE_GETREGSET, child, (void *)NT_PRSTATUS, &room) == 0);
  /* The number of arguments, the arguments, the environment, and what the kernel has to say. */
  unsigned long at = behind(child, behind(child, STACK(registers) + sizeof(long)));
  for (long key; (key = word_at(child, at)) != AT_NULL; at += 2 * sizeof(long)) {
    if (key == AT_SYSINFO_EHDR) {
      CHECK(ptrace(PTRACE_POKEDATA, child, (void *)at, (void *)AT_IGNORE) == 0);
    }
  }
  CHECK(ptrace(PTRACE_DETACH, child, NULL, NULL) == 0);
  CHECK(waitpid(child, &status, 0) == child);
  return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

static void sandboxed(bool kills) {
  struct pair p = make_pair();
  struct sock_filter code[] = {
      BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
      BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_clock_gettime, 0, 1),
      BPF_STMT(BPF_RET | BPF_K, kills ? SECCOMP_RET_KILL_PROCESS : SECCOMP_RET_ERRNO | EPERM),
      BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW)};
  struct sock_fprog program = {sizeof code / sizeof *code, code};
  CHECK(write(p.client, "before", 6) == 6);
  CHECK(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0);
  CHECK(prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program) == 0);
  errno = ENOTTY;
  CHECK(write(p.client, "within", 6) == 6 && errno == ENOTTY);
  take(p.server, 12);
  CHECK(errno == ENOTTY);
}

int main(int count, char **arguments) {
  if (count > 2 && strcmp(arguments[1], "start") == 0) {
    return start(arguments + 2);
  }
  if (count == 3 && strcmp(arguments[1], "sandboxed") == 0) {
    sandboxed(strcmp(arguments[2], "kills") == 0);
    return 0;
  }
  return 2;
}
