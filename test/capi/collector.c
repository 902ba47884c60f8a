/*
 * A scripted collector: what libkqtime starts in place of `kqtime collect`. It tells what it was
 * started with, takes rings and requests, and prints all of it as one JSON object a line to
 * CAPI_OUTPUT. CAPI_SCRIPT says how it behaves, one of:
 *
 * (none)   answers every request; ends with the last handle, or with the last process
 * error    says that it may not capture
 * dies     ends without a word
 * unknown  says something else
 * silent   says nothing, until nobody listens any more
 * refuses  refuses to open a log
 * mute     does not answer the first KQ_MESSAGE_FREE, and ends with the last process
 * loses    has lost lines of the log
 * vanishes ends when it is asked to free
 * hold     reads no record before the first request to free
 *
 * CAPI_SLOTS: slots of the rings.
 */
#define _GNU_SOURCE
#include <dirent.h>
#include <limits.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/un.h>

#include "../preload/rings.h"

#define STATUS_FD 3

static const char *script = "";
static int handles;
static int opened;
static bool unanswered;
static int processes[64];
static int process_count;

static bool is(const char *name) { return strcmp(script, name) == 0; }

static void print_text(const char *name, const char *text, size_t length) {
  fprintf(output, ",\"%s\":\"", name);
  for (size_t index = 0; index < length; index++) {
    unsigned char byte = (unsigned char)text[index];
    fprintf(output, byte < 32 || byte == '"' || byte == '\\' || byte > 126 ? "\\u%04x" : "%c", byte);
  }
  fprintf(output, "\"");
}

static void print_link(const char *name, const char *path) {
  char target[PATH_MAX];
  ssize_t length = readlink(path, target, sizeof target);
  print_text(name, target, length > 0 ? (size_t)length : 0);
}

/* What this process has of the program that started it. */
static void print_start(int count, char **arguments) {
  fprintf(output, "{\"what\":\"start\",\"pid\":%d,\"ppid\":%d,\"sid\":%d,\"argv\":%d", getpid(),
          getppid(), getsid(0), count);
  for (int index = 1; index < count; index++) {
    char name[16];
    snprintf(name, sizeof name, "arg%d", index);
    print_text(name, arguments[index], strlen(arguments[index]));
  }
  print_link("cwd", "/proc/self/cwd");
  fprintf(output, ",\"fds\":{\"\":\"\"");
  DIR *folder = opendir("/proc/self/fd");
  for (struct dirent *entry; (entry = readdir(folder)) != NULL;) {
    int fd = atoi(entry->d_name);
    if (entry->d_name[0] != '.' && fd != dirfd(folder) && fd != fileno(output)) {
      char path[64];
      snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
      print_link(entry->d_name, path);
    }
  }
  closedir(folder);
  fprintf(output, "},\"environment\":[\"\"");
  extern char **environ;
  for (char **each = environ; *each != NULL; each++) {
    fprintf(output, ",\"%.*s\"", (int)strcspn(*each, "="), *each);
  }
  fprintf(output, "],\"handled\":\"");
  sigset_t mask;
  sigprocmask(SIG_SETMASK, NULL, &mask);
  for (int number = 1; number < 32; number++) {
    struct sigaction action;
    if (sigaction(number, NULL, &action) == 0 &&
        (action.sa_handler != SIG_DFL || sigismember(&mask, number))) {
      fprintf(output, "%d ", number);
    }
  }
  mode_t mask_before = umask(022);
  cpu_set_t processors;
  sched_getaffinity(0, sizeof processors, &processors);
  fprintf(output, "\",\"policy\":%d,\"nice\":%d,\"umask\":%d,\"processors\":%d,\"limited\":\"",
          sched_getscheduler(0), getpriority(PRIO_PROCESS, 0), (int)mask_before,
          CPU_COUNT(&processors));
  static const int limits[] = {RLIMIT_CPU, RLIMIT_FSIZE, RLIMIT_NOFILE, RLIMIT_AS, RLIMIT_DATA};
  for (size_t index = 0; index < sizeof limits / sizeof *limits; index++) {
    struct rlimit limit;
    if (getrlimit(limits[index], &limit) == 0 && limit.rlim_cur != limit.rlim_max) {
      fprintf(output, "%d ", limits[index]);
    }
  }
  fprintf(output, "\"}\n");
  fflush(output);
}

static void tell(const char *line) {
  if (write(STATUS_FD, line, strlen(line)) < 0) {
    fprintf(output, "{\"what\":\"alone\"}\n");
  }
  close(STATUS_FD);
}

static void reply(int to, int handle, const char *text) {
  struct kq_reply answer = {.magic = KQ_MAGIC, .handle = handle};
  answer.text_bytes = (uint32_t)strlen(text);
  memcpy(answer.text, text, answer.text_bytes);
  send(to, &answer, KQ_REPLY_HEAD_BYTES + answer.text_bytes, MSG_NOSIGNAL);
}

static void take_request(int from, const struct kq_message *message, int fd) {
  fprintf(output, "{\"what\":\"request\",\"type\":%u,\"handle\":%u,\"flags\":%u,\"writes\":%d",
          message->type, message->handle, message->flags,
          fd >= 0 ? fcntl(fd, F_GETFL) & (O_ACCMODE | O_APPEND | O_NONBLOCK) : -1);
  print_text("text", (const char *)message->text, message->text_bytes);
  fprintf(output, "}\n");
  if (message->type == KQ_MESSAGE_OPEN) {
    if (is("refuses")) {
      reply(from, -1, "the log is on fire");
      return;
    }
    handles++;
    if (fd >= 0 && write(fd, "opened\n", 7) != 7) {
      die("log");
    }
    reply(from, ++opened, "");
  } else if (message->type == KQ_MESSAGE_FREE) {
    if (is("vanishes")) {
      _exit(0);
    }
    handles--;
    if (is("mute") && !unanswered) {
      unanswered = true;
      return; /* And the connection stays open: `from` is not closed. */
    }
    reply(from, 0, is("loses") ? "log \"x\": 12 lines could not be written: no space left" : "");
  }
}

static void take_messages(int listener) {
  int from;
  while ((from = accept4(listener, NULL, NULL, SOCK_CLOEXEC)) >= 0) {
    static struct kq_message message;
    struct ucred peer;
    socklen_t length = sizeof peer;
    int fd;
    if (take_message(from, &message, &fd) < 0) {
      close(from);
      continue;
    }
    if (message.type == KQ_MESSAGE_RING) {
      getsockopt(from, SOL_SOCKET, SO_PEERCRED, &peer, &length);
      processes[process_count++ % 64] = peer.pid;
      add_ring(fd);
    } else {
      drain_all();
      take_request(from, &message, fd);
      if (fd >= 0) {
        close(fd);
      }
    }
    if (!unanswered || message.type != KQ_MESSAGE_FREE) {
      close(from);
    }
  }
}

/* A forked process that has not recorded anything yet is known by its memory alone. */
static bool maps_ring(const char *pid) {
  char line[PATH_MAX];
  snprintf(line, sizeof line, "/proc/%s/maps", pid);
  FILE *maps = fopen(line, "re");
  bool found = false;
  while (maps != NULL && !found && fgets(line, sizeof line, maps) != NULL) {
    unsigned long inode = 0;
    for (int index = 0; index < ring_count && strstr(line, "/memfd:kqtime") != NULL; index++) {
      found |= sscanf(line, "%*s %*s %*s %*s %lu", &inode) == 1 && inode == inodes[index];
    }
  }
  if (maps != NULL) {
    fclose(maps);
  }
  return found;
}

static bool any_alive(void) {
  for (int index = 0; index < process_count && index < 64; index++) {
    if (kill(processes[index], 0) == 0) {
      return true;
    }
  }
  bool found = false;
  DIR *folder = opendir("/proc");
  for (struct dirent *entry; !found && (entry = readdir(folder)) != NULL;) {
    int pid = atoi(entry->d_name);
    found = pid > 0 && pid != getpid() && maps_ring(entry->d_name);
  }
  closedir(folder);
  return found;
}

static void serve(int listener) {
  int alone = 0;
  for (int idle = 0; idle < 1000;) {
    struct pollfd poller = {listener, POLLIN, 0};
    poll(&poller, 1, 1);
    take_messages(listener);
    bool any = is("hold") && opened > 0 && handles == opened ? false : drain_all();
    fflush(output);
    if (ring_count == 0) {
      idle++;
      continue;
    }
    if (!any && opened > 0 && handles == 0 && !is("mute")) {
      return;
    }
    /* Looked for twice: one may have been forked while the processes were listed. */
    alone = any || any_alive() ? 0 : alone + 1;
    if (alone == 2) {
      return;
    }
  }
}

int main(int count, char **arguments) {
  script = getenv("CAPI_SCRIPT") != NULL ? getenv("CAPI_SCRIPT") : "";
  output = fopen(getenv("CAPI_OUTPUT"), "ae");
  if (output == NULL) {
    return 2;
  }
  /* Two may write at a time: whole lines. */
  setvbuf(output, NULL, _IOLBF, 1 << 16);
  print_start(count, arguments);
  signal(SIGPIPE, SIG_IGN);
  if (is("dies")) {
    return 0;
  }
  if (is("error")) {
    tell("error capturing needs CAP_NET_RAW\n");
    return 0;
  }
  if (is("unknown")) {
    tell("good morning\n");
    return 0;
  }
  if (is("silent")) {
    struct pollfd poller = {STATUS_FD, 0, 0};
    poll(&poller, 1, 10000);
    fprintf(output, "{\"what\":\"alone\"}\n");
    return 0;
  }
  struct sockaddr_un address = {.sun_family = AF_UNIX};
  snprintf(address.sun_path, sizeof address.sun_path, "%s.%d", getenv("CAPI_OUTPUT"), getpid());
  int listener = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
  if (bind(listener, (struct sockaddr *)&address, sizeof address) != 0 ||
      listen(listener, 16) != 0) {
    die("listen");
  }
  char line[512];
  snprintf(line, sizeof line, "ready %d %s %s %s\n", getpid(),
           getenv("CAPI_SLOTS") != NULL ? getenv("CAPI_SLOTS") : "1024", TOKEN, address.sun_path);
  tell(line);
  serve(listener);
  unlink(address.sun_path);
  print_tables();
  fprintf(output, "{\"what\":\"end\"}\n");
  fclose(output);
  return 0;
}
