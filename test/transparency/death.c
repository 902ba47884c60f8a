/* Where descriptors are copied and end: close and its like, dup and its like, fcntl. */
#define _GNU_SOURCE
#include "cases.h"

#include <limits.h>
#include <pty.h>
#include <sys/resource.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <pthread.h>

/* The same numbers in each run: what has gone before must not be told. */
static struct ends at_numbers(int own, int peer) {
  struct ends ends = open_ends(TCP, true);
  CHECK(dup2(ends.own, own) == own && dup2(ends.peer, peer) == peer);
  close_ends(ends);
  return (struct ends){own, peer};
}

/* What the other end learns: 0 the end, 1 that it goes on. */
static int alive(int peer) {
  char byte;
  int saved = errno;
  struct pollfd poller = {peer, POLLIN, 0};
  int result = poll(&poller, 1, 0) == 0 ? 1 : (int)recv(peer, &byte, 1, MSG_DONTWAIT);
  errno = saved;
  return result;
}

static void closes(const struct call *call) {
  struct ends ends = at_numbers(100, 101);
  long result = INVOKE(call, 100);
  tell(call, "a socket", result, "peer %d open%s", alive(101), open_fds(100));
  result = INVOKE(call, 100);
  tell(call, "again", result, "%s", "");
  tell(call, "-1", INVOKE(call, -1), "%s", "");
  tell(call, "INT_MAX", INVOKE(call, INT_MAX), "%s", "");
  CHECK(dup2(101, 102) == 102);
  result = INVOKE(call, 101);
  tell(call, "one of two", result, "open%s", open_fds(100));
  CHECK(write(102, text, 1) == 1);
  result = INVOKE(call, 102);
  tell(call, "the other", result, "open%s", open_fds(100));
  int file = file_of(text, 5);
  tell(call, "a file", INVOKE(call, file), "%s", "");
  struct sockaddr_in address;
  tell(call, "a listener", INVOKE(call, tcp_listener(&address, 2)), "%s", "");
  (void)ends;
}

static void close_streams(const struct call *call) {
  struct ends ends = at_numbers(100, 101);
  FILE *stream = fdopen(100, "w");
  CHECK(fwrite(text, 1, 9, stream) == 9);
  long result = INVOKE(call, (long)stream);
  tell(call, "flushed", result, "arrived %zu open%s", take_all(101, 9), open_fds(100));
  stream = fdopen(101, "w");
  CHECK(fwrite(text, 1, 9, stream) == 9 && close(101) == 0);
  result = INVOKE(call, (long)stream);
  tell(call, "closed below", result, "%s", "");
  stream = fopen("/dev/full", "w");
  CHECK(fwrite(text, 1, 9, stream) == 9);
  result = INVOKE(call, (long)stream);
  tell(call, "no space", result, "%s", "");
  char room[32];
  stream = fmemopen(room, sizeof room, "w");
  CHECK(fwrite(text, 1, 9, stream) == 9);
  result = INVOKE(call, (long)stream);
  tell(call, "memory", result, "%x", sum_of(room, 10));
  ends = at_numbers(100, 101);
  stream = fdopen(100, "w");
  CHECK(fwrite(text, 1, 9, stream) == 9 && close(ends.peer) == 0 && write(100, text, 1) == 1);
  result = INVOKE(call, (long)stream);
  tell(call, "peer gone", result, "SIGPIPE %d open%s", pipe_signals(), open_fds(100));
}

static void range_once(const struct call *call, const char *name, long first, long last,
                       long flags) {
  struct ends ends = at_numbers(100, 102);
  int file = dup2(open("/dev/null", O_RDONLY), 101);
  CHECK(file == 101);
  long result = INVOKE(call, first, last, flags);
  tell(call, name, result, "open%s", open_fds(100));
  int saved = errno;
  printf("sends %d\n", (int)write(100, text, 5));
  errno = saved;
  (void)ends;
}

static void close_ranges(const struct call *call) {
  range_once(call, "two", 100, 101, 0);
  range_once(call, "the last", 102, 102, 0);
  range_once(call, "all", 100, UINT_MAX, 0);
  range_once(call, "none", 150, 160, 0);
  range_once(call, "backwards", 101, 100, 0);
  range_once(call, "close-on-exec", 100, 102, 4);
  range_once(call, "flags 1", 100, 102, 1);
  range_once(call, "flags -1", 100, 102, -1);
}
static void close_ranges_unshared(const struct call *call) {
  range_once(call, "unshared", 100, 101, 2);
}
static void close_from(const struct call *call) { range_once(call, "from 101", 101, 0, 0); }
static void close_beyond(const struct call *call) { range_once(call, "from 500", 500, 0, 0); }
static void close_all(const struct call *call) {
  struct ends ends = at_numbers(100, 102);
  int copy = dup2(1, 1);
  INVOKE(call, -3);
  int error = errno;
  _exit(copy == 1 && fcntl(1, F_GETFD) < 0 && fcntl(ends.own, F_GETFD) < 0 ? error : 1);
}

/* shape: PLAIN dup, CHECKED dup2, FLAGS dup3. */
static void copies(const struct call *call) {
  const struct {
    const char *name;
    long from, to, flags;
  } all[] = {{"a socket", 100, 110, 0}, {"onto a file", 100, 103, 0}, {"onto a socket", 100, 102, 0},
             {"onto itself", 100, 100, 0}, {"from a closed one", 150, 110, 0}, {"from -1", -1, 110, 0},
             {"a closed one onto a socket", 150, 102, 0}, {"to -1", 100, -1, 0},
             {"to INT_MAX", 100, INT_MAX, 0}, {"a closed one onto itself", 150, 150, 0},
             {"close-on-exec", 100, 110, O_CLOEXEC}, {"wrong flags", 100, 102, 1},
             {"flags -1", 100, 102, -1}};
  for (int index = 0; index < LENGTH(all); index++) {
    struct ends ends = at_numbers(100, 101);
    struct ends other = at_numbers(102, 104);
    CHECK(dup2(open("/dev/null", O_WRONLY), 103) == 103);
    long result = INVOKE(call, all[index].from, all[index].to, all[index].flags);
    tell(call, all[index].name, result, "peers %d %d open%s", alive(101), alive(104),
         open_fds(100));
    for (int fd = 100; fd < 111; fd++) {
      printf("%d", (int)send(fd, text, 3, MSG_NOSIGNAL));
    }
    printf("\n");
    close_ends(ends), close_ends(other), close(103), close(110);
    if (result > 2 && result < 100) {
      close((int)result);
    }
    for (int fd = 3; fd < 60; fd++) {
      close(fd);
    }
  }
  struct ends ends = at_numbers(100, 101);
  struct rlimit limit;
  CHECK(getrlimit(RLIMIT_NOFILE, &limit) == 0);
  struct rlimit few = {50, limit.rlim_max};
  CHECK(setrlimit(RLIMIT_NOFILE, &few) == 0);
  long result = INVOKE(call, 100, 101, 0);
  int error = errno;
  CHECK(setrlimit(RLIMIT_NOFILE, &limit) == 0);
  errno = error;
  tell(call, "beyond the limit", result, "sends %d back %d", (int)write(100, text, 3),
       (int)write(101, text, 3));
  close_ends(ends);
  if (result > 2 && result < 100) {
    close((int)result);
  }
}

static void controls(const struct call *call) {
  struct flock lock = {.l_type = F_WRLCK};
  const struct {
    const char *name;
    long fd, command, argument;
  } all[] = {{"F_DUPFD", 100, F_DUPFD, 120}, {"F_DUPFD_CLOEXEC", 100, F_DUPFD_CLOEXEC, 120},
             {"F_DUPFD -1", 100, F_DUPFD, -1}, {"F_DUPFD INT_MAX", 100, F_DUPFD, INT_MAX},
             {"F_DUPFD closed", 150, F_DUPFD, 120}, {"F_GETFD", 100, F_GETFD, 0},
             {"F_SETFD", 100, F_SETFD, 1}, {"F_GETFL", 100, F_GETFL, 0},
             {"F_SETFL", 100, F_SETFL, O_NONBLOCK | O_RDWR}, {"F_GETLK", 100, F_GETLK, (long)&lock},
             {"F_GETLK bad", 100, F_GETLK, (long)BAD}, {"F_SETLK file", 103, F_SETLK, (long)&lock},
             {"F_GETOWN", 100, F_GETOWN, 0}, {"F_SETSIG", 100, F_SETSIG, 99},
             {"F_GETPIPE_SZ", 100, F_GETPIPE_SZ, 0}, {"command 9999", 100, 9999, 0},
             {"command -1", 100, -1, 0}, {"closed", 150, F_GETFL, 0}, {"-1", -1, F_GETFD, 0}};
  for (int index = 0; index < LENGTH(all); index++) {
    struct ends ends = at_numbers(100, 101);
    int file = file_of(text, 3);
    CHECK(dup2(file, 103) == 103 && close(file) == 0);
    long result = INVOKE(call, all[index].fd, all[index].command, all[index].argument);
    tell(call, all[index].name, result, "open%s", open_fds(100));
    if (result > 101) {
      printf("sends %d\n", (int)send((int)result, text, 3, 0));
      close((int)result);
    }
    close_ends(ends), close(103);
  }
}

static void fetches(const struct call *call) {
  if (!present(call)) {
    return;
  }
  struct ends ends = at_numbers(100, 101);
  long self = syscall(434 /* pidfd_open */, getpid(), 0);
  long result = INVOKE(call, self, 100, 0);
  int error = errno;
  int sent = (int)send((int)result, text, 3, MSG_NOSIGNAL);
  errno = error;
  tell(call, "a socket", result >= 0 ? 0 : result, "sends %d, arrived %zu", sent,
       take_all(101, 3));
  close((int)result);
  tell(call, "closed", INVOKE(call, self, 150, 0), "%s", "");
  tell(call, "flags", INVOKE(call, self, 100, 1), "%s", "");
  tell(call, "no process", INVOKE(call, 100, 100, 0), "%s", "");
  tell(call, "-1", INVOKE(call, -1, 100, 0), "%s", "");
  close((int)self), close_ends(ends);
}

/* What a descriptor is of, which its number does not tell. */
static const char *file_at(int fd) {
  static char target[3][PATH_MAX];
  static int next;
  char path[32];
  char *to = target[next++ % 3];
  snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
  int saved = errno;
  ssize_t length = readlink(path, to, PATH_MAX - 1);
  errno = saved;
  to[length > 0 ? length : 0] = '\0';
  to[strcspn(to, ":[")] = '\0'; /* no inodes */
  return to;
}

/* Streams over sockets that become files; and what does not. */
static void reopen_streams(const struct call *call) {
  static const struct {
    const char *name, *path, *mode;
  } all[] = {{"onto a file", "/dev/null", "w"},   {"onto nothing", "/nowhere/at/all", "w"},
             {"onto itself", NULL, "r+"},         {"in no mode", "/dev/null", "strange"},
             {"to be read", "/dev/zero", "r"},    {"close-on-exec", "/dev/null", "we"}};
  for (int index = 0; index < LENGTH(all); index++) {
    struct ends ends = at_numbers(100, 101);
    FILE *stream = fdopen(100, "w");
    CHECK(fwrite(text, 1, 9, stream) == 9);
    long result = INVOKE(call, (long)all[index].path, (long)all[index].mode, (long)stream);
    tell(call, all[index].name, result == (long)stream, "number %d, file %s, arrived %zu, open%s",
         result != 0 ? fileno(stream) : -1, file_at(100), take_all(101, 9), open_fds(100));
    int saved = errno;
    printf("sends %d\n", (int)send(100, text, 3, MSG_NOSIGNAL));
    errno = saved;
    if (result != 0) {
      fclose(stream);
    }
    close(ends.own), close(ends.peer);
  }
}

/* The line of a child or grandchild, whose standard descriptors are what is looked at. */
struct line {
  char said[256];
  long result;
  int error;
};

static void line_ends(struct line *line, long result, int fd) {
  line->error = errno;
  line->result = result;
  snprintf(line->said, sizeof line->said, "0 %s, 1 %s, 2 %s, sends %d", file_at(0), file_at(1),
           file_at(2), (int)send(1, text, 3, MSG_NOSIGNAL));
  CHECK(write(fd, line, sizeof *line) == sizeof *line);
}

/* In a child whose 0, 1 and 2 are sockets: what a call makes of them. */
static void standard_once(const struct call *call, const char *name, const long arguments[4]) {
  int way[2];
  CHECK(pipe(way) == 0);
  fflush(stdout);
  pid_t child = fork();
  if (child == 0) {
    CHECK(dup2(way[1], 150) == 150);
    struct ends ends = open_ends(TCP, true);
    for (int fd = 0; fd < 3; fd++) {
      CHECK(dup2(ends.own, fd) == fd && send(fd, text, 1, 0) == 1);
    }
    int master = 0;
    long given[6] = {arguments[0], arguments[1], arguments[2], arguments[3]};
    if (given[0] == -1000) {
      given[0] = (long)&master;
    }
    long result = invoke_with(call, given);
    /* The child's line is the first. */
    CHECK(result <= 0 || waitpid((pid_t)result, NULL, 0) == result);
    struct line line;
    line_ends(&line, result > 0 ? 1 : result, 150);
    _exit(0);
  }
  close(way[1]);
  struct line line;
  while (read(way[0], &line, sizeof line) == sizeof line) {
    errno = line.error;
    tell(call, name, line.result, "%s", strstr(line.said, "/dev/pts/") ? "a terminal" : line.said);
  }
  close(way[0]);
  CHECK(waitpid(child, NULL, 0) == child);
}

static void standards(const struct call *call) {
  if (!present(call)) {
    return;
  }
  if (strcmp(call->symbol, "daemon") == 0) {
    standard_once(call, "descriptors replaced", (long[4]){1, 0});
    standard_once(call, "folder left", (long[4]){0, 0});
    standard_once(call, "descriptors kept", (long[4]){1, 1});
  } else if (strcmp(call->symbol, "forkpty") == 0) {
    standard_once(call, "a terminal", (long[4]){-1000});
  } else {
    int master, terminal;
    CHECK(openpty(&master, &terminal, NULL, NULL, NULL) == 0);
    standard_once(call, "no terminal", (long[4]){0});
    standard_once(call, "closed", (long[4]){199});
    CHECK(dup2(terminal, 120) == 120);
    standard_once(call, "a terminal", (long[4]){120});
    close(master), close(terminal), close(120);
  }
}

void family_death(void) {
  static const struct call close_calls[] = {ENTRY_INT(close, OTHER), ENTRY_INT(__close, OTHER),
                                            NUMBER(SYS_close, OTHER)};
  static const struct call stream_calls[] = {ENTRY_INT(fclose, OTHER), ENTRY_INT(_IO_fclose, OTHER)};
  static const struct call reopen_calls[] = {ENTRY(freopen, OTHER), ENTRY(freopen64, OTHER)};
  static const struct call standard_calls[] = {ENTRY_INT(daemon, OTHER), ENTRY_INT(login_tty, OTHER),
                                               ENTRY_INT(forkpty, OTHER)};
  static const struct call range_calls[] = {ENTRY_INT(close_range, OTHER),
                                            NUMBER(SYS_close_range, OTHER)};
  static const struct call from_call = ENTRY_VOID(closefrom, OTHER);
  static const struct call copy_calls[] = {
      ENTRY_INT(dup, OTHER), ENTRY_INT(dup2, OTHER), ENTRY_INT(__dup2, OTHER),
      ENTRY_INT(dup3, OTHER), NUMBER(SYS_dup, OTHER), NUMBER(SYS_dup3, OTHER),
#ifdef SYS_dup2
      NUMBER(SYS_dup2, OTHER),
#endif
  };
  static const struct call control_calls[] = {ENTRY_INT(fcntl, OTHER), ENTRY_INT(__fcntl, OTHER),
                                              ENTRY_INT(fcntl64, OTHER), NUMBER(SYS_fcntl, OTHER)};
  static const struct call fetch_calls[] = {ENTRY_INT(pidfd_getfd, OTHER),
                                            {"syscall", "SYS_pidfd_getfd", 438, OTHER, A_LONG}};
  for (int index = 0; index < LENGTH(close_calls); index++) {
    closes(&close_calls[index]);
  }
  for (int index = 0; index < 2; index++) {
    close_streams(&stream_calls[index]);
    reopen_streams(&reopen_calls[index]);
    if (present(&range_calls[index])) {
      apart(close_ranges, &range_calls[index]);
      apart(close_ranges_unshared, &range_calls[index]);
    }
    fetches(&fetch_calls[index]);
  }
  for (int index = 0; index < LENGTH(standard_calls); index++) {
    standards(&standard_calls[index]);
  }
  if (present(&from_call)) {
    apart(close_from, &from_call);
    apart(close_beyond, &from_call);
    apart(close_all, &from_call);
  }
  for (int index = 0; index < LENGTH(copy_calls); index++) {
    apart(copies, &copy_calls[index]);
  }
  for (int index = 0; index < LENGTH(control_calls); index++) {
    controls(&control_calls[index]);
  }
}
