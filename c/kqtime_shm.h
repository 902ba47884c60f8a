/*
 * The layout of the memory that the preload library shares with the collector.
 * This is its only definition: src/ring/layout.ts is generated from it (tools/gen-layout.ts),
 * and a test fails when the two differ.
 *
 * One memfd is one "ring". It holds a header, a ring of records, and, when it was made by a
 * process's constructor, the socket table that the process and all its forked children share.
 * A forked child makes a ring of its own, without a table, whose records refer to its
 * ancestor's table by `table_id`.
 *
 *     offset 0                     struct kq_header           KQ_HEADER_BYTES
 *     KQ_HEADER_BYTES              struct kq_slot   [slot_count]    (a power of two)
 *     … + slot_count * 64          struct kq_entry  [entry_count]   (0 in a child's ring)
 *
 * All integers are little-endian as on the machines that run it; addresses are 16 bytes in
 * network order, IPv4 as IPv4-mapped IPv6 (RFC 4291 §2.5.5.2); ports are in host order.
 * Times are CLOCK_REALTIME in nanoseconds since the Unix epoch.
 */
#ifndef KQTIME_SHM_H
#define KQTIME_SHM_H

#include <stddef.h>
#include <stdint.h>

#define KQ_MAGIC 0x4d51544bu /* "KTQM" in memory order */
#define KQ_VERSION 4u
#define KQ_HEADER_BYTES 4096u
#define KQ_SLOT_BYTES 64u
#define KQ_ENTRY_BYTES 256u
#define KQ_TAG_BYTES 16u

/* Environment of a measured process. */
#define KQ_ENV_SOCKET "KQTIME_SESSION" /* path of the collector's SOCK_STREAM socket */
#define KQ_ENV_TOKEN "KQTIME_TOKEN"    /* 32 hex digits, sent back in kq_message */
#define KQ_ENV_SLOTS "KQTIME_SLOTS"    /* slots of each ring, a power of two */

/* In the socket's folder there is a FIFO, too, named by so many digits of the token. A process that
   starts and cannot reach the socket writes one byte to it, whatever it is. */
#define KQ_UNHEARD_DIGITS 24u

#define KQ_SLOTS_DEFAULT 65536u
#define KQ_SLOTS_MIN 64u
#define KQ_SLOTS_MAX (1u << 24)
/* Sockets a table holds for each ring slot: slots / 4, within these bounds. */
#define KQ_ENTRIES_MIN 64u
#define KQ_ENTRIES_MAX (1u << 18)

/* What went wrong on the target's side; each is a counter in kq_header.losses. */
enum kq_loss {
  KQ_LOSS_RING_FULL = 0,    /* records dropped: the ring had no free slot */
  KQ_LOSS_NO_MEMORY = 1,    /* records dropped: the ring could not be extended */
  KQ_LOSS_TABLE_FULL = 2,   /* sockets not measured: the table had no free entry */
  KQ_LOSS_FD_RANGE = 3,     /* sockets not measured: descriptor beyond the map */
  KQ_LOSS_NO_ADDRESS = 4,   /* sockets whose addresses could not be learnt */
  KQ_LOSS_NO_RING = 5,      /* forked processes that go on in an inherited ring */
  KQ_LOSS_STALE = 6,        /* calls not measured: the collector had given the entry up */
  KQ_LOSS_LEFT = 7,         /* calls that a thread has jumped over: they may have no record */
  KQ_LOSS_COUNT = 8
};

struct kq_header {
  uint32_t magic;
  uint32_t version;
  uint32_t header_bytes;
  uint32_t slot_bytes;
  uint32_t slot_count;
  uint32_t entry_bytes;
  uint32_t entry_count;
  uint32_t pid;        /* of the process that made it, in its own pid namespace */
  uint64_t ring_id;    /* random, unique in the session */
  uint64_t table_id;   /* ring_id of the ring that holds this ring's socket table */
  uint64_t netns_ino;  /* st_ino of /proc/self/ns/net, 0 if unknown */
  uint64_t birth_ns;   /* when it was made */
  uint8_t comm[16];    /* the program's name, NUL-terminated */
  uint8_t pad0[128 - 80];

  /* Producers. Free-running; slot = head & (slot_count - 1). */
  _Alignas(128) uint32_t head;
  uint32_t entry_hint; /* where the next search for a free entry starts */
  uint32_t entry_high; /* entries [0, entry_high) were used at least once; the rest are untouched */
  /* Consumer. Written by the collector alone, read by producers before a claim. */
  _Alignas(128) uint32_t tail;
  uint32_t heartbeat; /* bumped by the collector on every poll */
  uint32_t retired;   /* slots that have kq_slot.retired set; raised before the tail passes them */
  /* Counted by producers, never reset. */
  _Alignas(128) uint32_t losses[KQ_LOSS_COUNT];
  /* Which session the ring belongs to, for a collector that goes on after another's death:
     what KQ_ENV_SOCKET and KQ_ENV_TOKEN were. */
  uint8_t session_socket[108];
  uint8_t session_token[32];
};

enum kq_kind {
  KQ_KIND_OUT = 1,     /* bytes the kernel took from the application */
  KQ_KIND_IN = 2,      /* bytes the kernel gave to the application */
  KQ_KIND_CONNECT = 3, /* connect is about to be called: raddr, rport and birth_ns are valid */
  KQ_KIND_BIRTH = 4,   /* the entry is complete: both addresses are valid */
  KQ_KIND_LISTEN = 5,  /* off = local port; bytes = backlog */
  KQ_KIND_FORK = 7,    /* a child of fork lives on the inherited memory: pid is the child's */
  KQ_KIND_UNBIND = 6,  /* a descriptor of the socket died in this process;
                          bytes = unread bytes in the receive queue, KQ_UNREAD_UNKNOWN if denied */
  KQ_KIND_NAME = 8,    /* up to KQ_TAG_BYTES of a name, in `tag`: group = serial number of the
                          REGISTER that follows, off = where in the name, bytes = its length */
  KQ_KIND_REGISTER = 9,   /* calls of this socket recorded from here on are measured for the handle
                             `off`; group = serial number, bytes = length of the name */
  KQ_KIND_DEREGISTER = 10, /* … no longer */
  KQ_KIND_OTHER = 11   /* a socket of a kind that is not measured: off = protocol, bytes = domain */
};
#define KQ_UNREAD_UNKNOWN 0xffffffffu
#define KQ_NO_NAME 0xffffffffu /* REGISTER: bytes */
/* Longer names are cut. */
#define KQ_NAME_MAX 255u

enum kq_slot_flag {
  KQ_SLOT_OVERLAP = 1,    /* another call was under way on this direction of the socket */
  KQ_SLOT_VFORK = 2,      /* recorded by a vfork child on its parent's memory */
  KQ_SLOT_REFUSED = 4,    /* UNBIND of a connection that connect() refused or that failed */
  KQ_SLOT_KTLS = 8,       /* the entry has KQ_ENTRY_KTLS: wire and call carry other bytes */
  KQ_SLOT_URGENT = 16     /* the entry has KQ_ENTRY_URGENT: wire and stream number differently */
};

struct kq_slot {
  uint32_t commit; /* claimed index + 1, stored last (release); pairs with the collector's load */
  uint8_t kind;
  uint8_t flags;
  /* Set by the collector alone, which gave up waiting for the record: whoever claimed the slot is
     gone, or is late and may still write into it. Nobody uses it again: claims of it are passed over
     on both sides. Producers never store here. */
  uint16_t retired;
  uint32_t entry;  /* index into the socket table */
  uint32_t gen;    /* generation of that entry */
  uint64_t time_ns; /* OUT: entry of the call; IN: its return; else: when it happened */
  uint64_t off;    /* stream offset of the first byte, counted from the socket's birth */
  uint32_t bytes;
  int32_t fd;
  uint32_t pid;
  uint32_t group;  /* calls of one direction that overlapped share it; see kq_direction.calls */
  uint8_t tag[KQ_TAG_BYTES]; /* part of a name; 0 in all other records */
};

/*
 * State word of an entry: generation in the upper 29 bits, state in the lower 3.
 * FREE -> (CAS by a producer) FILLING -> CONNECTING or OPEN; the collector alone frees.
 */
enum kq_state {
  KQ_STATE_FREE = 0,
  KQ_STATE_FILLING = 1,
  KQ_STATE_CONNECTING = 2, /* raddr and rport are valid, laddr and lport are not yet */
  KQ_STATE_OPEN = 3        /* everything above `out` is valid and does not change */
};
#define KQ_STATE_BITS 3u

enum kq_type { KQ_TYPE_TCP = 1, KQ_TYPE_UDP = 2 };

enum kq_entry_flag {
  KQ_ENTRY_CONNECTED = 1, /* born by connect */
  KQ_ENTRY_ACCEPTED = 2,  /* born by accept */
  KQ_ENTRY_ADOPTED = 4,   /* older than the library: offsets count from its first call seen */
  KQ_ENTRY_KTLS = 8,      /* set later: the kernel frames the bytes, they cannot be joined */
  KQ_ENTRY_URGENT = 16,   /* set later: MSG_OOB or SO_OOBINLINE was used for reading */
  KQ_ENTRY_ZEROCOPY_IN = 32, /* set later: TCP_ZEROCOPY_RECEIVE moved bytes */
  KQ_ENTRY_COUNTED = 64,  /* adopted only: sent_before and read_before are valid */
  KQ_ENTRY_FIRST_USE = 128, /* adopted only: at its first use in a process that was measured already,
                              so that no call of that process can have been under way */
  KQ_ENTRY_WAITS = 256    /* set later: a read that has taken bytes may wait for more before it
                             returns (MSG_WAITALL, SO_RCVLOWAT, recvmmsg) */
};

/* Parts of kq_direction.calls. */
#define KQ_CALLS_ACTIVE_MASK 0xfffu
#define KQ_CALLS_STARTED_SHIFT 12u
#define KQ_CALLS_GROUP_SHIFT 30u
#define KQ_CALLS_PIDS_SHIFT 48u

/* One direction of one socket. Its own cache line: one thread may send while another receives. */
struct kq_direction {
  /* active calls: bits 0-11; calls ever started: bits 12-29; group: bits 30-47, bumped when active
     goes from 0 to 1; the sum of the active calls' pids: bits 48-63 (0 for a process that may be in
     another pid namespace than who made the table). A call was alone iff active was 0 when it began
     and `started` did not move until it ended. */
  uint64_t calls;
  uint64_t off;        /* bytes moved since birth; claimed by fetch-and-add after the call */
  uint64_t call_ns;    /* entry time of the call in progress (the last one to begin) */
  uint64_t call_bytes; /* what it asked for, 0 if unknown */
  /* Written by the collector: the pid of a process that has ended, maybe in a call. If a call is the
     only one under way and of that pid, it is not: producers then take it out. 0: none. */
  uint32_t gone;
  uint8_t pad[64 - 36];
};

struct kq_entry {
  uint32_t state;      /* see kq_state; release-stored after the fields below */
  uint8_t type;        /* kq_type */
  uint8_t family;      /* 4 or 6, before mapping */
  uint16_t flags;      /* kq_entry_flag */
  uint64_t birth_ns;   /* connect: its entry; accept: its return; adopted: the first call seen */
  uint64_t inode;      /* st_ino of the socket, 0 if unknown */
  uint8_t laddr[16];
  uint8_t raddr[16];
  uint16_t lport;
  uint16_t rport;
  uint32_t birth_pid;
  int32_t birth_fd;
  uint32_t queued_out; /* adopted only: bytes unsent or unacknowledged then (SIOCOUTQ) */
  uint32_t queued_in;  /* adopted only: bytes unread then (FIONREAD) */
  uint8_t pad0[4];
  /* What offset 0 is in the kernel's own counts (tcp_info): bytes_acked and what was queued for
     sending; bytes_received without what was unread. A SYN counts in the first, a FIN in none. */
  uint64_t sent_before;
  uint64_t read_before;
  uint8_t pad1[128 - 96];

  struct kq_direction out;
  struct kq_direction in;
};

/*
 * What a process says to the collector: one message a connection to KQ_ENV_SOCKET, answered (but
 * for KQ_MESSAGE_RING) by one kq_reply on the same connection.
 */
enum kq_message_type {
  KQ_MESSAGE_RING = 0,     /* with the memfd; without one by a process that got no memory */
  KQ_MESSAGE_OPEN = 1,     /* with the log, open for appending, or without; flags: kq_open_flag;
                              text: the log's path, for messages; answered by the new handle */
  KQ_MESSAGE_FREE = 2,     /* answered when the handle's log is complete and closed */
  KQ_MESSAGE_SNAPSHOT = 3, /* with a descriptor that the handle's summary is written to, as JSON */
  KQ_MESSAGE_RULE = 4      /* sockets to measure for the handle by address; text: "port N NAME" for
                              a local port, "peer ADDRESS PORT NAME" for a remote one, ADDRESS as
                              text; flags: kq_rule_flag */
};
enum kq_open_flag {
  KQ_OPEN_STATS = 1,  /* lines of queue lengths */
  KQ_OPEN_IN = 2,     /* lines of inbound calls */
  KQ_OPEN_OUT = 4,    /* lines of outbound calls */
  KQ_OPEN_GZIP = 8,   /* the log is compressed */
  KQ_OPEN_PIPE = 16   /* what comes with it is a pipe to a reader in the same program */
};
enum kq_rule_flag { KQ_RULE_REMOVE = 1 };
#define KQ_TEXT_MAX 512u

struct kq_message {
  uint32_t magic;
  uint32_t version;
  uint8_t token[32];   /* the hex digits of KQ_ENV_TOKEN */
  uint64_t ring_id;    /* of the new ring, or of the one whose process asks */
  uint32_t type;       /* kq_message_type */
  uint32_t handle;
  uint32_t flags;
  uint32_t text_bytes;
  uint8_t text[KQ_TEXT_MAX]; /* only the first text_bytes are sent */
};
#define KQ_MESSAGE_HEAD_BYTES 64u

struct kq_reply {
  uint32_t magic;
  int32_t handle;      /* OPEN: the new one, > 0; else 0; -1: refused, text says why in one line */
  uint32_t text_bytes;
  uint32_t pad;
  uint8_t text[KQ_TEXT_MAX];
};
#define KQ_REPLY_HEAD_BYTES 16u

_Static_assert(offsetof(struct kq_header, head) == 128, "head");
_Static_assert(offsetof(struct kq_header, tail) == 256, "tail");
_Static_assert(offsetof(struct kq_header, losses) == 384, "losses");
_Static_assert(sizeof(struct kq_header) <= KQ_HEADER_BYTES, "header");
_Static_assert(sizeof(struct kq_slot) == KQ_SLOT_BYTES, "slot");
_Static_assert(offsetof(struct kq_slot, tag) == 48, "tag");
_Static_assert(sizeof(struct kq_direction) == 64, "direction");
_Static_assert(offsetof(struct kq_entry, out) == 128, "out");
_Static_assert(offsetof(struct kq_entry, in) == 192, "in");
_Static_assert(sizeof(struct kq_entry) == KQ_ENTRY_BYTES, "entry");
_Static_assert(offsetof(struct kq_message, text) == KQ_MESSAGE_HEAD_BYTES, "message");
_Static_assert(offsetof(struct kq_reply, text) == KQ_REPLY_HEAD_BYTES, "reply");

#endif
