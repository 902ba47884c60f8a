/* Options of sockets and of the process, jumps, and numbers that mean nothing. */
#define _GNU_SOURCE
#include "cases.h"

#include <dlfcn.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <netinet/tcp.h>
#include <setjmp.h>
#include <stddef.h>
#include <sys/mman.h>
#include <sys/prctl.h>

static void sets(const struct call *call) {
  int one = 1;
  struct linger linger = {1, 0};
  const struct {
    const char *name;
    long level, option;
    const void *value;
    long length;
  } all[] = {{"SO_RCVLOWAT", SOL_SOCKET, SO_RCVLOWAT, &one, 4},
             {"SO_RCVLOWAT bad", SOL_SOCKET, SO_RCVLOWAT, BAD, 4},
             {"SO_RCVLOWAT short", SOL_SOCKET, SO_RCVLOWAT, &one, 1},
             {"SO_LINGER", SOL_SOCKET, SO_LINGER, &linger, sizeof linger},
             {"TCP_NODELAY", IPPROTO_TCP, TCP_NODELAY, &one, 4},
             {"TCP_NODELAY NULL", IPPROTO_TCP, TCP_NODELAY, NULL, 4},
             {"TCP_NODELAY negative", IPPROTO_TCP, TCP_NODELAY, &one, -1},
             {"TCP_ULP unknown", IPPROTO_TCP, 31, "nothing", 7},
             {"TCP_ULP bad", IPPROTO_TCP, 31, BAD, 7}, {"TCP_ULP empty", IPPROTO_TCP, 31, "", 0},
             {"option 9999", SOL_SOCKET, 9999, &one, 4}, {"level 9999", 9999, 1, &one, 4}};
  for (enum kind kind = TCP; kind <= PIPE; kind++) {
    struct ends ends = open_ends(kind, true);
    for (int index = 0; index < LENGTH(all); index++) {
      char name[64];
      snprintf(name, sizeof name, "%s %s", kind_names[kind], all[index].name);
      tell(call, name, INVOKE(call, ends.own, all[index].level, all[index].option,
                              (long)all[index].value, all[index].length), "%s", "");
    }
    close_ends(ends);
  }
  tell(call, "-1", INVOKE(call, -1, SOL_SOCKET, SO_RCVLOWAT, (long)&one, 4), "%s", "");
}

static void gets(const struct call *call) {
  uint8_t value[128];
  socklen_t length;
  static const struct {
    const char *name;
    long level, option;
    int room;
  } all[] = {{"SO_ERROR", SOL_SOCKET, SO_ERROR, 4}, {"SO_TYPE", SOL_SOCKET, SO_TYPE, 128},
             {"SO_TYPE short", SOL_SOCKET, SO_TYPE, 1}, {"SO_TYPE negative", SOL_SOCKET, SO_TYPE, -1},
             {"TCP_NODELAY", IPPROTO_TCP, TCP_NODELAY, 4},
             {"TCP_ZEROCOPY_RECEIVE empty", IPPROTO_TCP, 35, 0},
             {"TCP_ZEROCOPY_RECEIVE short", IPPROTO_TCP, 35, 8},
             {"TCP_ZEROCOPY_RECEIVE", IPPROTO_TCP, 35, 40},
             {"TCP_ZEROCOPY_RECEIVE long", IPPROTO_TCP, 35, 128},
             {"TCP_ZEROCOPY_RECEIVE negative", IPPROTO_TCP, 35, -1},
             {"option 9999", SOL_SOCKET, 9999, 4}, {"level 9999", 9999, 1, 4}};
  for (enum kind kind = TCP; kind <= PIPE; kind++) {
    struct ends ends = open_ends(kind, true);
    for (int index = 0; index < LENGTH(all); index++) {
      for (int way = 0; way < 4; way++) {
        static const char *const ways[] = {"", ", bad value", ", bad length", ", no length"};
        memset(value, 0, sizeof value);
        length = (socklen_t)all[index].room;
        long at = way == 1 ? (long)BAD : (long)value;
        long length_at = way == 2 ? (long)BAD : way == 3 ? 0 : (long)&length;
        long result = INVOKE(call, ends.own, all[index].level, all[index].option, at, length_at);
        char name[96];
        snprintf(name, sizeof name, "%s %s%s", kind_names[kind], all[index].name, ways[way]);
        tell(call, name, result, "length %d value %x", (int)length, sum_of(value, sizeof value));
      }
    }
    close_ends(ends);
  }
}

/* Pages that the kernel gives, and bytes that it copies. */
static void zerocopy(const struct call *call) {
  struct ends ends = open_ends(TCP, false);
  size_t room = 64 << 10;
  void *map = mmap(NULL, room, PROT_READ, MAP_SHARED, ends.own, 0);
  if (map == MAP_FAILED) {
    tell(call, "TCP_ZEROCOPY_RECEIVE of bytes", -1, "cannot be mapped");
    return;
  }
  CHECK(write(ends.peer, text, 50) == 50);
  wait_readable(ends.own);
  char copy[64] = "";
  struct {
    uint64_t address;
    uint32_t length, recv_skip_hint, inq;
    int32_t err;
    uint64_t copybuf_address;
    int32_t copybuf_len;
    uint32_t flags;
    uint64_t rest[3];
  } request = {.address = (uint64_t)(uintptr_t)map, .length = (uint32_t)room,
               .copybuf_address = (uint64_t)(uintptr_t)copy, .copybuf_len = 40};
  socklen_t length = 40;
  long result = INVOKE(call, ends.own, IPPROTO_TCP, 35, (long)&request, (long)&length);
  tell(call, "TCP_ZEROCOPY_RECEIVE of bytes", result,
       "length %d: %u mapped, %u skipped, %u left, %d copied %x, waiting %d", (int)length,
       request.length, request.recv_skip_hint, request.inq, request.copybuf_len,
       sum_of(copy, sizeof copy), bytes_waiting(ends.own));
  munmap(map, room);
  close_ends(ends);
}

static void processes(const struct call *call) {
  char name[32] = "";
  const struct {
    const char *name;
    long a, b, c, d, e;
  } all[] = {{"PR_SET_NAME", PR_SET_NAME, (long)"cases-here", 0, 0, 0},
             {"PR_GET_NAME", PR_GET_NAME, (long)name, 0, 0, 0},
             {"PR_GET_NAME bad", PR_GET_NAME, (long)BAD, 0, 0, 0},
             {"PR_GET_DUMPABLE", PR_GET_DUMPABLE, 0, 0, 0, 0},
             {"PR_SET_DUMPABLE 9", PR_SET_DUMPABLE, 9, 0, 0, 0},
             {"PR_SET_NO_NEW_PRIVS fifth", PR_SET_NO_NEW_PRIVS, 1, 0, 0, 7},
             {"PR_SET_SECCOMP NULL", PR_SET_SECCOMP, SECCOMP_MODE_FILTER, 0, 0, 0},
             {"PR_SET_SECCOMP bad", PR_SET_SECCOMP, SECCOMP_MODE_FILTER, (long)BAD, 0, 0},
             {"PR_SET_SECCOMP mode 77", PR_SET_SECCOMP, 77, (long)BAD, 0, 0},
             {"PR_GET_SECCOMP", PR_GET_SECCOMP, 0, 0, 0, 0}, {"option 99999", 99999, 0, 0, 0, 0},
             {"option -1", -1, 0, 0, 0, 0}};
  for (int index = 0; index < LENGTH(all); index++) {
    long result = INVOKE(call, all[index].a, all[index].b, all[index].c, all[index].d, all[index].e);
    tell(call, all[index].name, result, "%s", name);
  }
}

/* A filter that denies one call with an errno of its own: this and no other call sees it. */
static void filtered(const struct call *call) {
  struct sock_filter code[] = {
      BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
      BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_getppid, 0, 1),
      BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | 76),
      BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW)};
  struct sock_fprog program = {LENGTH(code), code};
  struct ends ends = open_ends(TCP, true);
  CHECK(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0);
  bool named = strcmp(call->symbol, "prctl") == 0 || strcmp(call->name, "SYS_prctl") == 0;
  long result = named ? INVOKE(call, PR_SET_SECCOMP, SECCOMP_MODE_FILTER, (long)&program)
                      : INVOKE(call, SECCOMP_SET_MODE_FILTER, 0, (long)&program);
  tell(call, "a filter", result, "denied %d", getppid() == -1 && errno == 76);
  printf("sends %d\n", (int)write(ends.own, text, 5));
}

static sigjmp_buf point;
static const struct call *jump_call;
static void jump_out(void) { INVOKE(jump_call, (long)point, 5); }

/* `int` values, the mask, and errno after a jump: from this frame, and from a handler in a call. */
static void jumps(const struct call *call) {
  void (*jump)(sigjmp_buf, int) = (void (*)(sigjmp_buf, int))dlsym(RTLD_DEFAULT, call->symbol);
  static const int values[] = {1, 0, -7, 1 << 30};
  for (volatile int index = 0; index < LENGTH(values); index++) {
    for (volatile int with_mask = 0; with_mask < 2; with_mask++) {
      sigset_t mask;
      int value = sigsetjmp(point, with_mask);
      if (value == 0) {
        sigemptyset(&mask);
        sigaddset(&mask, SIGUSR1);
        sigprocmask(SIG_BLOCK, &mask, NULL);
        errno = UNTOUCHED;
        jump(point, values[index]);
      }
      int error = errno;
      sigprocmask(SIG_SETMASK, NULL, &mask);
      bool blocked = sigismember(&mask, SIGUSR1) == 1;
      sigemptyset(&mask);
      sigprocmask(SIG_SETMASK, &mask, NULL);
      errno = error;
      tell(call, with_mask ? "with the mask" : "without", value, "blocked %d", blocked);
    }
  }
  static struct ends ends;
  ends = open_ends(TCP, true);
  jump_call = call;
  int value = sigsetjmp(point, 1);
  if (value == 0) {
    char byte;
    start_signals(true, jump_out);
    read(ends.own, &byte, 1);
  }
  stop_signals();
  CHECK(write(ends.peer, text, 4) == 4);
  errno = UNTOUCHED;
  tell(call, "out of a call", value, "then %x", take_sum(ends.own, 4));
  close_ends(ends);
}

static void numbers(void) {
  static const struct call all[] = {{"syscall", "511", 511, OTHER, A_LONG},
                                    {"syscall", "512", 512, OTHER, A_LONG},
                                    {"syscall", "1000000", 1000000, OTHER, A_LONG}};
  for (int index = 0; index < LENGTH(all); index++) {
    tell(&all[index], "unknown", INVOKE(&all[index], 1, 2, 3, 4, 5, 6), "%s", "");
  }
  errno = UNTOUCHED;
  static const struct call negative = {"syscall", "-1", -1, OTHER, A_LONG};
  tell(&negative, "unknown", syscall(-1L), "%s", "");
  /* All six arguments arrive. */
  static const struct call map = NUMBER(SYS_mmap, OTHER);
  int file = memfd_create("pages", 0);
  CHECK(ftruncate(file, 2 * PAGE) == 0 && pwrite(file, text, 9, PAGE) == 9);
  char *page = (char *)INVOKE(&map, 0, PAGE, PROT_READ, MAP_SHARED, file, PAGE);
  tell(&map, "the second page", 0, "%x", sum_of(page, 9));
  munmap(page, PAGE);
  close(file);
}

void family_options(void) {
  static const struct call set_calls[] = {ENTRY_INT(setsockopt, OTHER),
                                          NUMBER(SYS_setsockopt, OTHER)};
  static const struct call get_calls[] = {ENTRY_INT(getsockopt, OTHER),
                                          NUMBER(SYS_getsockopt, OTHER)};
  static const struct call process_calls[] = {ENTRY_INT(prctl, OTHER), NUMBER(SYS_prctl, OTHER)};
  static const struct call seccomp_call = NUMBER(SYS_seccomp, OTHER);
  static const struct call jump_calls[] = {ENTRY(longjmp, OTHER), ENTRY(_longjmp, OTHER),
                                           ENTRY(siglongjmp, OTHER), ENTRY(__longjmp_chk, OTHER)};
  for (int index = 0; index < 2; index++) {
    sets(&set_calls[index]);
    gets(&get_calls[index]);
    zerocopy(&get_calls[index]);
    apart(processes, &process_calls[index]);
    apart(filtered, &process_calls[index]);
  }
  tell(&seccomp_call, "NULL", INVOKE(&seccomp_call, SECCOMP_SET_MODE_FILTER, 0, 0), "%s", "");
  tell(&seccomp_call, "bad", INVOKE(&seccomp_call, SECCOMP_SET_MODE_FILTER, 0, (long)BAD), "%s", "");
  tell(&seccomp_call, "operation 77", INVOKE(&seccomp_call, 77, 0, 0), "%s", "");
  apart(filtered, &seccomp_call);
  for (int index = 0; index < LENGTH(jump_calls); index++) {
    jumps(&jump_calls[index]);
  }
  numbers();
}
