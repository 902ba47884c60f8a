/*
 * The life of a socket as this process sees it: what a descriptor is, how a connection is born
 * (connect, accept, fast open, or older than the library), which descriptors share it, and when
 * one dies. The hooks and the syscall() dispatcher both stand on these.
 *
 * None of these touches errno. Nothing that belongs to the caller is read before the kernel has
 * accepted it, except through kq_socket_copy, which cannot fault.
 */
#ifndef KQ_SOCKET_H
#define KQ_SOCKET_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/socket.h>

#include "table.h"

/* A descriptor without an entry is about to be used for I/O. Returns its word from now on. */
uint64_t kq_socket_first_use(int fd, uint64_t word);

/* The entry of a descriptor's word is gone. If the word is of an earlier session of this process,
   the descriptor is looked at again. Returns its word from now on. */
uint64_t kq_socket_renew(int fd, uint64_t word);

/* Looks at a descriptor that nothing is known of: a listener is announced, a connection adopted.
   Returns its word from now on. */
uint64_t kq_socket_adopt(int fd);
/* The same for all that are open. */
void kq_socket_adopt_all(void);

/* socket() and socketpair() returned `fd`. */
void kq_socket_born(int fd, int domain, int type, int protocol);

struct kq_connect {
  uint64_t word; /* what the descriptor was before */
  uint64_t entry;
  uint64_t birth_ns;
  struct sockaddr_storage peer;
  socklen_t peer_length;
  int fd;
  int mode;
};
void kq_connect_begin(struct kq_connect *c, int fd, const void *address, socklen_t length);
/* sendto or sendmsg with MSG_FASTOPEN and an address: a connect that may carry data. */
void kq_fastopen_begin(struct kq_connect *c, int fd, const void *address, socklen_t length);
void kq_connect_end(struct kq_connect *c, long result, int error);
/* A socket that connect() left in progress is used: a library behind this one, or a BPF program,
   may have sent it elsewhere. Returns its word from now on. */
uint64_t kq_connect_confirm(int fd, uint64_t word);

struct kq_accept {
  uint64_t listener;
  bool measuring;
  bool own;       /* a measured listener, and the caller asked for no address: the kernel is given a
                     buffer of ours. Not on others, some families refuse to name a peer that has gone */
  socklen_t room; /* of the buffer for the address */
};
/* `address` and `length` are the caller's. */
void kq_accept_begin(struct kq_accept *a, int fd, const void *address, const socklen_t *length);
/* `peer` is where the kernel has put the address, if anywhere, and `length` how long it says that it
   is. */
void kq_accept_end(struct kq_accept *a, int fd, const struct sockaddr *peer,
                   const socklen_t *length);

/* listen() has succeeded. */
void kq_listen_hook(int fd, int backlog);

/* `to` is a copy of `from`, just made. */
void kq_dup_done(int from, int to);

/* A descriptor is about to die. What begin returned goes to end, with whether it really did. */
uint64_t kq_death_begin(int fd);
void kq_death_end(int fd, uint64_t word, bool died);
/* One that is over when its scope is left. A thread that is cancelled in it may have closed the number or
   not: what it is then is asked at its next use. */
struct kq_dying {
  int fd;
  uint64_t word;
};
static inline void kq_dying_over(struct kq_dying *dying) {
  kq_death_end(dying->fd, dying->word, true);
}
#define KQ_DYING(name) struct kq_dying name __attribute__((cleanup(kq_dying_over)))
void kq_death_range_begin(unsigned first, unsigned last);
void kq_death_range_end(unsigned first, unsigned last);

/* Will this call of close_range close anything? */
bool kq_close_range_works(unsigned first, unsigned last, int flags);
/* Is this number open? Yes where that may not be asked. */
bool kq_fd_open(int fd);
/* A descriptor came from another process. */
void kq_fd_arrived(int fd);

/* The message that recvmsg returned may carry descriptors. */
void kq_rights_received(const struct msghdr *message);

/* Before a sandbox: what may soon not be asked of the descriptors that are open is asked now. */
void kq_socket_settle_all(void);

/* Whether memory of the program is there. */
bool kq_socket_readable(const void *from, size_t length);
/* Copies it; false if it is not. */
bool kq_socket_copy(void *to, const void *from, size_t length);

#endif
