/*
 * kqtime-launch: the step between the collector and the program that it measures. It puts right
 * what the collector's runtime changed for its children (resource limits, signal dispositions),
 * gives up the privileges that only the capture needs, sets LD_PRELOAD and execs.
 *
 *     kqtime-launch [--uid N --gid N [--user NAME]] [--nofile SOFT:HARD] [--sigdfl NAME,…]
 *                   [--sigign NAME,…] [--fds N,…] [--preload PATH] -- command [argument…]
 *
 * --fds tells which numbers the descriptors from 4 on have in the command.
 *
 * LD_PRELOAD is set here and not by the parent, so that the launcher itself is not measured.
 * On failure one line "errno operation path" goes to descriptor 3, a pipe that a successful exec
 * closes (to stderr if it is not open), and the exit status is the shell's: 127 when the command
 * was not found, else 126.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <linux/capability.h>
#include <linux/keyctl.h>
#include <pwd.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

#define REPORT_FD 3
#define FIRST_PASSED_FD 4
#define PASSED_MAX 64
#define EXIT_FAILED 126
#define EXIT_NOT_FOUND 127

struct request {
  bool drop;
  uid_t uid;
  gid_t gid;
  const char *user;
  const char *nofile;
  const char *sigdfl;
  const char *sigign;
  const char *fds;
  const char *preload;
  char **command;
};

static int report_fd = REPORT_FD;

static _Noreturn void fail(int error, const char *operation, const char *path) {
  int to = fcntl(report_fd, F_GETFD) >= 0 ? report_fd : STDERR_FILENO;
  char line[4096 + 64];
  int length = snprintf(line, sizeof line, "%d %s %s\n", error, operation, path);
  size_t left = length < (int)sizeof line ? (size_t)length : sizeof line - 1;
  if (length >= (int)sizeof line) {
    line[left - 1] = '\n';
  }
  for (const char *at = line; left > 0;) {
    ssize_t written = write(to, at, left);
    if (written < 0 && errno != EINTR) {
      break;
    }
    if (written > 0) {
      at += written;
      left -= (size_t)written;
    }
  }
  _exit(error == ENOENT && strcmp(operation, "exec") == 0 ? EXIT_NOT_FOUND : EXIT_FAILED);
}

static unsigned long parse_number(const char *text, const char *option) {
  char *end;
  errno = 0;
  unsigned long value = strtoul(text, &end, 10);
  if (errno != 0 || end == text || *end != '\0' || *text == '-' || value > 0xfffffffeUL) {
    fail(EINVAL, option, text);
  }
  return value;
}

static void parse(int count, char **arguments, struct request *request) {
  bool has_uid = false;
  bool has_gid = false;
  int index = 1;
  for (; index < count && strcmp(arguments[index], "--") != 0; index += 2) {
    const char *option = arguments[index];
    const char *value = index + 1 < count ? arguments[index + 1] : NULL;
    if (value == NULL) {
      fail(EINVAL, "option", option);
    }
    if (strcmp(option, "--uid") == 0) {
      request->uid = (uid_t)parse_number(value, "--uid");
      has_uid = true;
    } else if (strcmp(option, "--gid") == 0) {
      request->gid = (gid_t)parse_number(value, "--gid");
      has_gid = true;
    } else if (strcmp(option, "--user") == 0) {
      request->user = value;
    } else if (strcmp(option, "--nofile") == 0) {
      request->nofile = value;
    } else if (strcmp(option, "--sigdfl") == 0) {
      request->sigdfl = value;
    } else if (strcmp(option, "--sigign") == 0) {
      request->sigign = value;
    } else if (strcmp(option, "--fds") == 0) {
      request->fds = value;
    } else if (strcmp(option, "--preload") == 0) {
      request->preload = value;
    } else {
      fail(EINVAL, "option", option);
    }
  }
  if (has_uid != has_gid || (request->user != NULL && !has_uid)) {
    fail(EINVAL, "option", "--uid and --gid go together");
  }
  request->drop = has_uid;
  if (index + 1 >= count) {
    fail(EINVAL, "option", "no command");
  }
  request->command = &arguments[index + 1];
}

static rlim_t parse_limit(const char *text, char stop, const char **after) {
  static const char unlimited[] = "unlimited";
  if (strncmp(text, unlimited, sizeof unlimited - 1) == 0) {
    *after = text + sizeof unlimited - 1;
    return **after == stop ? RLIM_INFINITY : 0;
  }
  char *end;
  errno = 0;
  unsigned long long value = strtoull(text, &end, 10);
  *after = errno == 0 && end != text && *text != '-' ? end : "?";
  return (rlim_t)value;
}

static void restore_limit(const char *text) {
  const char *after;
  struct rlimit limit;
  limit.rlim_cur = parse_limit(text, ':', &after);
  if (*after != ':') {
    fail(EINVAL, "--nofile", text);
  }
  limit.rlim_max = parse_limit(after + 1, '\0', &after);
  if (*after != '\0') {
    fail(EINVAL, "--nofile", text);
  }
  if (setrlimit(RLIMIT_NOFILE, &limit) != 0) {
    fail(errno, "setrlimit", text);
  }
}

static int signal_number(const char *name, size_t length) {
  if (length > 3 && strncmp(name, "SIG", 3) == 0) {
    name += 3;
    length -= 3;
  }
  static const struct {
    const char *name;
    int number;
  } known[] = {
      {"HUP", SIGHUP},       {"INT", SIGINT},     {"QUIT", SIGQUIT},   {"ILL", SIGILL},
      {"TRAP", SIGTRAP},     {"ABRT", SIGABRT},   {"BUS", SIGBUS},     {"FPE", SIGFPE},
      {"USR1", SIGUSR1},     {"SEGV", SIGSEGV},   {"USR2", SIGUSR2},   {"PIPE", SIGPIPE},
      {"ALRM", SIGALRM},     {"TERM", SIGTERM},   {"CHLD", SIGCHLD},   {"CONT", SIGCONT},
      {"TSTP", SIGTSTP},     {"TTIN", SIGTTIN},   {"TTOU", SIGTTOU},   {"URG", SIGURG},
      {"XCPU", SIGXCPU},     {"XFSZ", SIGXFSZ},   {"VTALRM", SIGVTALRM}, {"PROF", SIGPROF},
      {"WINCH", SIGWINCH},   {"IO", SIGIO},       {"PWR", SIGPWR},     {"SYS", SIGSYS},
  };
  for (size_t index = 0; index < sizeof known / sizeof *known; index++) {
    if (strlen(known[index].name) == length && strncmp(known[index].name, name, length) == 0) {
      return known[index].number;
    }
  }
  int number = 0;
  for (size_t index = 0; index < length; index++) {
    if (name[index] < '0' || name[index] > '9' || number >= _NSIG) {
      return 0;
    }
    number = number * 10 + (name[index] - '0');
  }
  return number < _NSIG ? number : 0;
}

static void set_signals(const char *names, void (*disposition)(int), const char *option) {
  while (names != NULL && *names != '\0') {
    size_t length = strcspn(names, ",");
    int number = signal_number(names, length);
    if (number == 0 || signal(number, disposition) == SIG_ERR) {
      fail(EINVAL, option, names);
    }
    names += length + (names[length] == ',');
  }
}

static bool is_among(const int *numbers, int count, int number) {
  for (int index = 0; index < count; index++) {
    if (numbers[index] == number) {
      return true;
    }
  }
  return false;
}

/* The same description at the lowest number that is free and that nobody wants. */
static int move_aside(int fd, const int *wanted, int count) {
  int to = FIRST_PASSED_FD;
  while (is_among(wanted, count, to) || fcntl(to, F_GETFD) >= 0) {
    to++;
  }
  int moved = fcntl(fd, F_DUPFD_CLOEXEC, to);
  if (moved < 0) {
    fail(errno == EINVAL ? EMFILE : errno, "--fds", "-");
  }
  close(fd);
  return moved;
}

/*
 * The numbers that were passed may be any, also those that the others are passed at, or 3. One is
 * moved only if another is to have its number: so it takes no more of them than the limit allows.
 */
static void place_descriptors(const char *list) {
  int wanted[PASSED_MAX];
  int passed[PASSED_MAX];
  int count = 0;
  while (list != NULL && *list != '\0' && count < PASSED_MAX) {
    char *end;
    long number = strtol(list, &end, 10);
    if (end == list || number <= STDERR_FILENO || number > 1 << 20) {
      fail(EINVAL, "--fds", list);
    }
    passed[count] = FIRST_PASSED_FD + count;
    wanted[count++] = (int)number;
    list = end + (*end == ',');
  }
  if (list != NULL && *list != '\0') {
    fail(E2BIG, "--fds", list);
  }
  if (is_among(wanted, count, report_fd)) {
    bool is_open = fcntl(report_fd, F_GETFD) >= 0;
    report_fd = is_open ? move_aside(report_fd, wanted, count) : -1;
  }
  for (int index = 0; index < count; index++) {
    if (passed[index] != wanted[index] && is_among(wanted, count, passed[index])) {
      passed[index] = move_aside(passed[index], wanted, count);
    }
  }
  for (int index = 0; index < count; index++) {
    if (passed[index] == wanted[index]) {
      continue;
    }
    if (dup2(passed[index], wanted[index]) < 0) {
      fail(errno, "--fds", "-");
    }
    close(passed[index]);
  }
}

static void restore_signals(const struct request *request) {
  set_signals(request->sigdfl, SIG_DFL, "--sigdfl");
  set_signals(request->sigign, SIG_IGN, "--sigign");
  sigset_t all;
  sigemptyset(&all);
  if (sigprocmask(SIG_SETMASK, &all, NULL) != 0) {
    fail(errno, "sigprocmask", "-");
  }
}

/* Capabilities that would pass an exec by a user without privilege. */
static void clear_inherited_capabilities(void) {
  if (prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0) != 0 && errno != EINVAL) {
    fail(errno, "prctl", "PR_CAP_AMBIENT");
  }
  struct __user_cap_header_struct header = {_LINUX_CAPABILITY_VERSION_3, 0};
  struct __user_cap_data_struct sets[_LINUX_CAPABILITY_U32S_3];
  if (syscall(SYS_capget, &header, sets) != 0) {
    fail(errno, "capget", "-");
  }
  for (int half = 0; half < _LINUX_CAPABILITY_U32S_3; half++) {
    sets[half].inheritable = 0;
  }
  if (syscall(SYS_capset, &header, sets) != 0) {
    fail(errno, "capset", "inheritable");
  }
}

/*
 * Whoever has a session keyring may use the keys in it, whoever's they are: a new user begins with a
 * new one, as with pam_keyinit(8). Where a sandbox allows no such call it allows the command none.
 */
static void leave_keyring(void) {
  long joined = syscall(SYS_keyctl, KEYCTL_JOIN_SESSION_KEYRING, NULL);
  if (joined < 0 && errno != ENOSYS && errno != EPERM) {
    fail(errno, "keyctl", "session keyring");
  }
}

static void drop_privileges(const struct request *request) {
  clear_inherited_capabilities();
  if (geteuid() == 0 || getegid() != request->gid || geteuid() != request->uid) {
    int groups = request->user != NULL ? initgroups(request->user, request->gid)
                                       : setgroups(1, &request->gid);
    if (groups != 0) {
      fail(errno, "setgroups", request->user != NULL ? request->user : "-");
    }
    if (setresgid(request->gid, request->gid, request->gid) != 0) {
      fail(errno, "setgid", "-");
    }
    if (setresuid(request->uid, request->uid, request->uid) != 0) {
      fail(errno, "setuid", "-");
    }
  }
  if (request->uid == 0) {
    return;
  }
  /* With "keep capabilities" or securebits set, the change of user leaves them. */
  struct __user_cap_header_struct header = {_LINUX_CAPABILITY_VERSION_3, 0};
  struct __user_cap_data_struct none[_LINUX_CAPABILITY_U32S_3];
  memset(none, 0, sizeof none);
  if (syscall(SYS_capset, &header, none) != 0) {
    fail(errno, "capset", "-");
  }
  leave_keyring();
  if (setuid(0) == 0 || seteuid(0) == 0 || (request->gid != 0 && setegid(0) == 0)) {
    fail(EPERM, "drop", "the privileges could be regained");
  }
}

static void set_variable(const char *name, const char *value) {
  if (setenv(name, value, 1) != 0) {
    fail(errno, "setenv", name);
  }
}

static void set_identity(const struct request *request) {
  if (request->user == NULL) {
    return;
  }
  set_variable("USER", request->user);
  set_variable("LOGNAME", request->user);
  errno = 0;
  const struct passwd *entry = getpwnam(request->user);
  if (entry == NULL) {
    fail(errno != 0 ? errno : ENOENT, "getpwnam", request->user);
  }
  set_variable("HOME", entry->pw_dir);
  set_variable("SHELL", entry->pw_shell[0] != '\0' ? entry->pw_shell : "/bin/sh");
}

static void set_preload(const char *path) {
  /* The dynamic linker splits the variable at both (ld.so(8)). */
  if (strpbrk(path, ": ") != NULL) {
    fail(EINVAL, "preload", path);
  }
  if (access(path, R_OK) != 0) {
    fail(errno, "preload", path);
  }
  const char *existing = getenv("LD_PRELOAD");
  if (existing == NULL || *existing == '\0') {
    set_variable("LD_PRELOAD", path);
    return;
  }
  char *joined = NULL;
  if (asprintf(&joined, "%s:%s", path, existing) < 0) {
    fail(ENOMEM, "setenv", "LD_PRELOAD");
  }
  set_variable("LD_PRELOAD", joined);
  free(joined);
}

int main(int count, char **arguments) {
  struct request request = {0};
  if (fcntl(REPORT_FD, F_GETFD) >= 0) {
    fcntl(REPORT_FD, F_SETFD, FD_CLOEXEC);
  }
  parse(count, arguments, &request);
  place_descriptors(request.fds);
  if (request.nofile != NULL) {
    restore_limit(request.nofile);
  }
  set_identity(&request);
  if (request.drop) {
    drop_privileges(&request);
  }
  if (request.preload != NULL) {
    set_preload(request.preload);
  }
  restore_signals(&request);
  execvp(request.command[0], request.command);
  fail(errno, "exec", request.command[0]);
}
