/*
 * What the cases share. Each tells one line: the entry, the variant, the result, errno, and what
 * the call has left behind. The same program runs with and without the library, and nothing that
 * differs between two runs (ports, pids, addresses) may stand in a line.
 */
#ifndef KQ_TEST_CASES_H
#define KQ_TEST_CASES_H

#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <poll.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

/* errno before each call: a call that succeeds leaves it. */
#define UNTOUCHED 77
#define PAGE 4096
/* As an int it is 5: whoever cuts a length moves less. */
#define HUGE_LENGTH ((size_t)0x100000005)
#define BAD ((void *)16)

#define CHECK(condition)                                                                       \
  do {                                                                                         \
    if (!(condition)) {                                                                        \
      fprintf(stderr, "%s:%d: %s (errno %d, %s)\n", __FILE__, __LINE__, #condition, errno,     \
              strerror(errno));                                                                \
      _exit(1);                                                                                \
    }                                                                                          \
  } while (0)

#define LENGTH(array) ((int)(sizeof(array) / sizeof *(array)))

/* Which arguments a call that moves bytes takes. */
enum shape { PLAIN, CHECKED, FLAGS, FLAGS_CHECKED, ADDRESS, ADDRESS_CHECKED, VECTOR, VECTOR_AT,
             MESSAGE, MESSAGES, FROM_FILE, PIPED, OTHER };

/* What it returns: what a register holds after a call that returns nothing is nobody's. */
enum gives { A_LONG, AN_INT, NOTHING };

/* An entry of libc by its name, or a number given to syscall(). */
struct call {
  const char *symbol; /* "syscall" with a number */
  const char *name;   /* of the number */
  long number;
  enum shape shape;
  enum gives gives;
};
#define ENTRY(symbol, shape) {#symbol, "", -1, shape, A_LONG}
#define ENTRY_INT(symbol, shape) {#symbol, "", -1, shape, AN_INT}
#define ENTRY_VOID(symbol, shape) {#symbol, "", -1, shape, NOTHING}
#define NUMBER(number, shape) {"syscall", #number, number, shape, A_LONG}

/* Calls it with errno UNTOUCHED. Missing arguments are 0. */
long invoke_with(const struct call *call, const long arguments[6]);
#define INVOKE(call, ...) invoke_with(call, (const long[6]){__VA_ARGS__})
/* Is there such an entry in the libc of this machine? */
bool present(const struct call *call);

/* One line; the result and errno are those of the call just made. */
void tell(const struct call *call, const char *variant, long result, const char *more, ...)
    __attribute__((format(printf, 4, 5)));

enum kind { TCP, TCP6, UDP, UNIX_STREAM, UNIX_DGRAM, PIPE };
extern const char *const kind_names[];
struct ends {
  int own;  /* where the case acts */
  int peer;
};
/* `own` reads or writes; a pipe has but one of both. */
struct ends open_ends(enum kind kind, bool writes);
void close_ends(struct ends ends);
int tcp_listener(struct sockaddr_in *address, int backlog);

/* Takes what has come at `fd`: exactly `bytes` of a stream, waited for. A sum over them. */
unsigned take_sum(int fd, size_t bytes);
/* Takes all that is there, or comes soon while it is less than expected. How much it was. */
size_t take_all(int fd, long expected);
unsigned sum_of(const void *bytes, size_t length);
int bytes_waiting(int fd);
void wait_readable(int fd);
void set_blocking(int fd, bool blocking);
/* Writes until there is no more room. */
void fill(int fd);

/* A readable page with nothing behind it; the last `bytes` of it. */
char *edge_of_page(size_t bytes);
/* More than HUGE_LENGTH of zeros; reading it costs no memory. */
char *huge_zeros(void);
/* A file that holds these bytes. */
int file_of(const void *bytes, size_t length);

/* A signal soon and again and again until stop_signals, which tells whether one came. */
void start_signals(bool restart, void (*act)(void));
bool stop_signals(void);
/* How many SIGPIPE have come since the last time. */
int pipe_signals(void);

/* The open descriptors from `first` on, as a list. */
const char *open_fds(int first);

/* Runs it in a child, and prints what that prints. */
void apart(void (*body)(const struct call *), const struct call *call);

extern char text[64];

void family_out(void);
void family_in(void);
void family_messages(void);
void family_birth(void);
void family_accept(void);
void family_death(void);
void family_options(void);

#endif
