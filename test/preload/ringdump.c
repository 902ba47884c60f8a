/*
 * A collector for the tests of the preload library: runs a command with the library loaded,
 * takes its rings, and prints every record, every table entry and the loss counters as one JSON
 * object a line.
 *
 *     ringdump [option…] LIBRARY OUTPUT command [argument…]
 *
 * --slots  sets the size of the rings
 * --hold   reads nothing before the command has ended, so that a small ring gets full
 * --quiet  counts the records instead of printing them, to keep up with a benchmark
 * --forget frees every entry as soon as it is born
 * --gone   tells each socket of a process that is in none of its calls and has ended
 * --retire gives up slots, a quarter of them at the end
 * --mark   sets what the collector alone may write in each slot, and fails if it was overwritten
 * --late   waits so long after the command's end for the processes that it left behind
 */
#define _GNU_SOURCE
#include <poll.h>
#include <signal.h>
#include <sys/un.h>
#include <sys/wait.h>

#include "rings.h"

static pid_t start(char **command, const char *library, const char *path, const char *slots) {
  pid_t child = fork();
  if (child == 0) {
    setenv(KQ_ENV_SOCKET, path, 1);
    setenv(KQ_ENV_TOKEN, TOKEN, 1);
    const char *more = getenv("RINGDUMP_PRELOAD"); /* libraries behind ours */
    char preload[4096];
    snprintf(preload, sizeof preload, "%s%s%s", library, more ? ":" : "", more ? more : "");
    setenv("LD_PRELOAD", preload, 1);
    if (slots != NULL) {
      setenv(KQ_ENV_SLOTS, slots, 1);
    }
    execvp(command[0], command);
    _exit(127);
  }
  return child;
}

int main(int count, char **arguments) {
  const char *slots = NULL;
  bool hold = false;
  int late_ms = 0;
  int at = 1;
  for (; at < count && strncmp(arguments[at], "--", 2) == 0; at++) {
    if (strcmp(arguments[at], "--hold") == 0) {
      hold = true;
    } else if (strcmp(arguments[at], "--quiet") == 0) {
      quiet_records = true;
    } else if (strcmp(arguments[at], "--forget") == 0) {
      forget = true;
    } else if (strcmp(arguments[at], "--gone") == 0) {
      gone = true;
    } else if (strcmp(arguments[at], "--retire") == 0) {
      retire = true;
    } else if (strcmp(arguments[at], "--mark") == 0) {
      mark = true;
    } else if (at + 1 < count && strcmp(arguments[at], "--slots") == 0) {
      slots = arguments[++at];
    } else if (at + 1 < count && strcmp(arguments[at], "--late") == 0) {
      late_ms = atoi(arguments[++at]);
    }
  }
  if (at + 2 >= count) {
    fprintf(stderr, "usage: ringdump [options] LIBRARY OUTPUT command [argument...]\n");
    return 2;
  }
  output = fopen(arguments[at + 1], "we");
  if (output == NULL) {
    die(arguments[at + 1]);
  }
  char folder[] = "/tmp/kqringdumpXXXXXX";
  if (mkdtemp(folder) == NULL) {
    die("mkdtemp");
  }
  chmod(folder, 0711);
  struct sockaddr_un address = {.sun_family = AF_UNIX};
  snprintf(address.sun_path, sizeof address.sun_path, "%s/s", folder);
  int listener = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
  if (bind(listener, (struct sockaddr *)&address, sizeof address) != 0 ||
      listen(listener, 128) != 0) {
    die("listen");
  }
  chmod(address.sun_path, 0666);
  pid_t child = start(&arguments[at + 2], arguments[at], address.sun_path, slots);
  int status = 0;
  int quiet = 0;
  bool ended = false;
  while (!ended || quiet < 2 + late_ms) {
    struct pollfd poller = {listener, POLLIN, 0};
    poll(&poller, 1, 1);
    take_rings(listener);
    if (!ended && waitpid(child, &status, WNOHANG) == child) {
      ended = true;
      continue;
    }
    bool any = !hold || ended ? drain_all() : false;
    quiet = ended && !any ? quiet + 1 : 0;
  }
  print_tables();
  if (quiet_records) {
    fprintf(output, "{\"what\":\"counted\",\"records\":%" PRIu64 "}\n", counted);
  }
  fprintf(output, "{\"what\":\"exit\",\"code\":%d,\"signal\":%d}\n",
          WIFEXITED(status) ? WEXITSTATUS(status) : -1,
          WIFSIGNALED(status) ? WTERMSIG(status) : 0);
  fclose(output);
  unlink(address.sun_path);
  rmdir(folder);
  return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}
