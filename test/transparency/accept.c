/* accept and accept4: whatever is given for the address, and whatever has become of the peer. */
#define _GNU_SOURCE
#include "cases.h"

#include <arpa/inet.h>
#include <sys/un.h>

static const struct call calls[] = {ENTRY_INT(accept, OTHER), ENTRY_INT(accept4, OTHER),
                                    NUMBER(SYS_accept, OTHER), NUMBER(SYS_accept4, OTHER)};

enum domain { FOUR, SIX, LOCAL };
static const char *const domain_names[] = {"tcp", "tcp6", "unix"};

static bool takes_flags(const struct call *call) {
  return call == &calls[1] || call == &calls[3];
}

static int listener_of(enum domain domain, struct sockaddr_storage *address, socklen_t *length) {
  static const int families[] = {AF_INET, AF_INET6, AF_UNIX};
  memset(address, 0, sizeof *address);
  *length = domain == LOCAL ? sizeof(sa_family_t) : sizeof *address;
  address->ss_family = (sa_family_t)families[domain];
  if (domain == FOUR) {
    ((struct sockaddr_in *)address)->sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    *length = sizeof(struct sockaddr_in);
  } else if (domain == SIX) {
    ((struct sockaddr_in6 *)address)->sin6_addr = in6addr_loopback;
    *length = sizeof(struct sockaddr_in6);
  }
  int listener = socket(families[domain], SOCK_STREAM, 0);
  /* A Unix socket of no name gets one, of no file. */
  CHECK(bind(listener, (struct sockaddr *)address, *length) == 0 && listen(listener, 8) == 0);
  *length = sizeof *address;
  CHECK(getsockname(listener, (struct sockaddr *)address, length) == 0);
  return listener;
}

enum fate { WAITING, CLOSED, RESET, SPOKEN };

static void once(const struct call *call, enum domain domain, enum fate fate, const char *name,
                 void *at, socklen_t *length_at, int flags) {
  struct sockaddr_storage address;
  socklen_t length;
  int listener = listener_of(domain, &address, &length);
  int client = socket(address.ss_family, SOCK_STREAM, 0);
  CHECK(connect(client, (struct sockaddr *)&address, length) == 0);
  wait_readable(listener);
  struct linger hard = {1, 0};
  if (fate == SPOKEN) {
    CHECK(write(client, text, 6) == 6);
  } else if (fate == RESET) {
    setsockopt(client, SOL_SOCKET, SO_LINGER, &hard, sizeof hard);
  }
  if (fate == RESET || fate == CLOSED) {
    CHECK(close(client) == 0);
  }
  if (at != NULL && at != BAD) {
    memset(at, 0xee, 128);
  }
  long fd = INVOKE(call, listener, (long)at, (long)length_at, flags);
  int error = errno;
  if (at != NULL && at != BAD && domain != LOCAL) {
    memset((char *)at + 2, 0, 2); /* the port */
  }
  char variant[96];
  static const char *const fates[] = {"", ", closed", ", reset", ", spoken"};
  snprintf(variant, sizeof variant, "%s %s%s", domain_names[domain], name, fates[fate]);
  char buffer[16] = "";
  ssize_t got = fate == WAITING || fd < 0 ? 0 : read((int)fd, buffer, sizeof buffer);
  int read_error = got < 0 ? errno : 0;
  int file_flags = fd >= 0 ? fcntl((int)fd, F_GETFL) : 0;
  int fd_flags = fd >= 0 ? fcntl((int)fd, F_GETFD) : 0;
  errno = error;
  tell(call, variant, fd >= 0 ? fd - client : fd,
       "address %x length %d, read %zd %d, flags %x %x",
       at != NULL && at != BAD ? sum_of(at, 128) : 0,
       length_at != NULL && length_at != BAD ? (int)*length_at : 0, got, read_error, file_flags,
       fd_flags);
  if (fd >= 0) {
    close((int)fd);
  }
  if (fate == WAITING || fate == SPOKEN) {
    close(client);
  }
  close(listener);
}

static void addresses(const struct call *call, enum domain domain, enum fate fate) {
  char room[128];
  socklen_t length;
  once(call, domain, fate, "no address", NULL, NULL, 0);
  length = 5;
  once(call, domain, fate, "a length alone", NULL, &length, 0);
  once(call, domain, fate, "a bad length alone", NULL, BAD, 0);
  once(call, domain, fate, "an address alone", room, NULL, 0);
  static const int lengths[] = {128, 16, 4, 1, 0, -1};
  for (int index = 0; index < LENGTH(lengths); index++) {
    char name[32];
    snprintf(name, sizeof name, "room %d", lengths[index]);
    length = (socklen_t)lengths[index];
    once(call, domain, fate, name, room, &length, 0);
  }
  length = 16;
  once(call, domain, fate, "bad address", BAD, &length, 0);
  once(call, domain, fate, "bad length", room, BAD, 0);
  if (takes_flags(call)) {
    static const int flags[] = {SOCK_NONBLOCK, SOCK_CLOEXEC, SOCK_NONBLOCK | SOCK_CLOEXEC, 1, -1};
    for (int index = 0; index < LENGTH(flags); index++) {
      char name[32];
      snprintf(name, sizeof name, "flags %x", (unsigned)flags[index]);
      once(call, domain, fate, name, NULL, NULL, flags[index]);
    }
  }
}

static int target;
static struct sockaddr_storage target_address;
static socklen_t target_length;
static void connect_once(void) {
  if (target < 0) {
    target = socket(target_address.ss_family, SOCK_STREAM, 0);
    CHECK(connect(target, (struct sockaddr *)&target_address, target_length) == 0);
  }
}

static void empty(const struct call *call, enum domain domain) {
  int listener = listener_of(domain, &target_address, &target_length);
  set_blocking(listener, false);
  tell(call, "nobody", INVOKE(call, listener, 0, 0, 0), "%s", "");
  set_blocking(listener, true);
  start_signals(false, NULL);
  long result = INVOKE(call, listener, 0, 0, 0);
  bool came = stop_signals();
  tell(call, "interrupted", result, "signal %d", came);
  target = -1;
  start_signals(true, connect_once);
  result = INVOKE(call, listener, 0, 0, 0);
  came = stop_signals();
  tell(call, "restarted", result >= 0 ? 0 : result, "signal %d", came);
  close((int)result), close(target), close(listener);
}

static void wrong(const struct call *call) {
  struct ends udp = open_ends(UDP, true);
  struct ends tcp = open_ends(TCP, true);
  struct ends local = open_ends(UNIX_STREAM, true);
  const struct {
    const char *name;
    int fd;
  } all[] = {{"-1", -1}, {"closed", 199}, {"file", file_of(text, 3)}, {"udp", udp.own},
             {"connected", tcp.own}, {"unix", local.own},
             {"idle", socket(AF_INET, SOCK_STREAM, 0)}};
  for (int index = 0; index < LENGTH(all); index++) {
    tell(call, all[index].name, INVOKE(call, all[index].fd, 0, 0, 0), "%s", "");
    char room[128];
    socklen_t length = 128;
    long result = INVOKE(call, all[index].fd, (long)room, (long)&length, 0);
    tell(call, all[index].name, result, "length %d", (int)length);
  }
  close_ends(udp), close_ends(tcp), close_ends(local);
  close(all[2].fd), close(all[6].fd);
}

void family_accept(void) {
  for (int index = 0; index < LENGTH(calls); index++) {
    for (enum domain domain = FOUR; domain <= LOCAL; domain++) {
      addresses(&calls[index], domain, WAITING);
      addresses(&calls[index], domain, SPOKEN);
      addresses(&calls[index], domain, CLOSED);
      addresses(&calls[index], domain, RESET);
      empty(&calls[index], domain);
    }
    wrong(&calls[index]);
  }
}
