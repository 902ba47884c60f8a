// The few libc calls that Bun has no own for: a listening Unix socket that receives
// descriptors, shared mappings with an explicit end, and signals without an exception.
//
// Source: unix(7), cmsg(3), memfd_create(2), mmap(2). Structures are those of 64-bit Linux.

import { type Library, type Pointer, ptr, toArrayBuffer } from "bun:ffi";
import { close, closeSync, constants, fstatSync, openSync } from "node:fs";
import { KQTimeError } from "../errors.ts";
import { hasRoom } from "./descriptors.ts";
import { InOrder } from "./in-order.ts";
import { openLibc } from "./library.ts";

const AF_UNIX = 1;
const SOCK_STREAM_NONBLOCK_CLOEXEC = 1 | 0o4000 | 0o2000000;
const SOCK_NONBLOCK_CLOEXEC = 0o4000 | 0o2000000;
const SOL_SOCKET = 1;
const SO_LINGER = 13;
const SO_PEERCRED = 17;
const SCM_RIGHTS = 1;
const MSG_NOSIGNAL_DONTWAIT = 0x4040;
const MSG_CMSG_CLOEXEC = 0x40000000;
const PROT_READ_WRITE = 3;
const MAP_SHARED = 1;
const SUN_PATH_BYTES = 108;
/** The most that the kernel allows unless net.core.somaxconn says less. */
export const BACKLOG = 4096;
const F_GET_SEALS = 1034;
const F_SEAL_SHRINK = 2;
const TMPFS_MAGIC = 0x01021994;
const STATFS_BYTES = 120;
const O_RDWR_CLOEXEC = constants.O_RDWR | 0o2000000;
const ESRCH = 3;
const EAGAIN = 11;
const POLLOUT = 4;

const symbols = {
  /** int domain, int type, int protocol → int */
  socket: { args: ["i32", "i32", "i32"], returns: "i32" },
  /** int fd, const struct sockaddr *addr, socklen_t length → int */
  bind: { args: ["i32", "buffer", "u32"], returns: "i32" },
  /** int fd, const struct sockaddr *addr, socklen_t length → int */
  connect: { args: ["i32", "buffer", "u32"], returns: "i32" },
  /** int fd, int backlog → int */
  listen: { args: ["i32", "i32"], returns: "i32" },
  /** int fd, struct sockaddr *addr, socklen_t *length, int flags → int */
  accept4: { args: ["i32", "ptr", "ptr", "i32"], returns: "i32" },
  /** int fd, const void *bytes, size_t length, int flags → ssize_t */
  send: { args: ["i32", "buffer", "u64", "i32"], returns: "i32" },
  /** struct pollfd *fds, nfds_t count, int timeout → int */
  poll: { args: ["buffer", "u64", "i32"], returns: "i32" },
  /** int fd, struct msghdr *message, int flags → ssize_t, of at most 1024 here */
  recvmsg: { args: ["i32", "buffer", "i32"], returns: "i32" },
  /** int fd, int level, int name, void *value, socklen_t *length → int */
  getsockopt: { args: ["i32", "i32", "i32", "buffer", "buffer"], returns: "i32" },
  /** int fd, int level, int name, const void *value, socklen_t length → int */
  setsockopt: { args: ["i32", "i32", "i32", "buffer", "u32"], returns: "i32" },
  /** int fd, int command, long argument → int */
  fcntl: { args: ["i32", "i32", "i32"], returns: "i32" },
  /** int fd, struct statfs *out → int */
  fstatfs: { args: ["i32", "buffer"], returns: "i32" },
  /** int fd, int operation → int */
  flock: { args: ["i32", "i32"], returns: "i32" },
  /** void *addr, size_t length, int prot, int flags, int fd, off_t offset → void * */
  mmap: { args: ["ptr", "u64", "i32", "i32", "i32", "i64"], returns: "ptr" },
  /** void *addr, size_t length → int */
  munmap: { args: ["ptr", "u64"], returns: "i32" },
  /** clockid_t clock, struct timespec *time → int */
  clock_gettime: { args: ["i32", "buffer"], returns: "i32" },
  /** pid_t pid, int signal → int */
  kill: { args: ["i32", "i32"], returns: "i32" },
  /** → int * */
  __errno_location: { args: [], returns: "ptr" },
  /** int fd → pid_t */
  tcgetpgrp: { args: ["i32"], returns: "i32" },
  /** → pid_t */
  getpgrp: { args: [], returns: "i32" },
  /** const char *path, const char *name, void *value, size_t size → ssize_t, of at most 256 here */
  getxattr: { args: ["buffer", "buffer", "buffer", "u64"], returns: "i32" },
} as const;

type Libc = Library<typeof symbols>["symbols"];
let loaded: Libc | undefined;

function libc(): Libc {
  loaded ??= openLibc(symbols);
  return loaded;
}

/** errno of the last call; read at once, before anything else calls into libc. */
function errno(): number {
  const location = libc().__errno_location() as Pointer;
  return new Int32Array(toArrayBuffer(location, 0, 4))[0]!;
}

function failed(op: string, on: string): KQTimeError {
  const number = errno();
  return new KQTimeError("E_LIBC", op, `${op} on ${on} failed (errno ${number})`);
}

function openAgain(fd: number): number {
  try {
    return openSync(`/proc/self/fd/${fd}`, O_RDWR_CLOEXEC);
  } catch (error) {
    const why = error instanceof Error ? error.message : String(error);
    throw new KQTimeError("E_RING", "open", `shared memory cannot be opened: ${why}`);
  }
}

const NO_LINGER = new Uint8Array(new ArrayBuffer(8));

/**
 * Closes a descriptor that another program made, or a connection in which such may be waiting to be
 * received. The last close of a socket that lingers waits for its peer (socket(7)), and that of a
 * file on FUSE for whoever serves it: so another thread does it.
 */
export function closeForeign(fd: number): void {
  // Of a socket alone; others refuse it.
  libc().setsockopt(fd, SOL_SOCKET, SO_LINGER, NO_LINGER, NO_LINGER.length);
  close(fd, () => {});
}

/** Sends on a socket what it takes without a wait: how many bytes, -1 where it fails for good. */
export function sendNow(fd: number, bytes: Uint8Array): number {
  const taken = libc().send(fd, bytes, bytes.length, MSG_NOSIGNAL_DONTWAIT);
  return taken < 0 && errno() === EAGAIN ? 0 : taken;
}

/** Whether a write would not wait (poll(2)); of a pipe: one of up to PIPE_BUF bytes. */
export function isWritable(fd: number): boolean {
  const query = new Int32Array([fd, POLLOUT]);
  // What has failed is ready for the write that tells how.
  return libc().poll(query, 1, 0) > 0;
}

/** Whether a descriptor is memory (memfd_create(2)), or a file on a tmpfs: writing never waits. */
export function isMemory(fd: number): boolean {
  return libc().fcntl(fd, F_GET_SEALS, 0) >= 0;
}

const LOCK_NB = 4;
const LOCK_UN = 8;
const LOCK_OPERATION = { shared: 1, exclusive: 2 } as const;

/**
 * Locks an open file (flock(2)) without waiting, in place of a lock that it holds; ends with its
 * last descriptor. False: somebody else holds one that excludes it; null: it cannot be locked.
 */
export function tryLock(fd: number, how: keyof typeof LOCK_OPERATION): boolean | null {
  if (libc().flock(fd, LOCK_OPERATION[how] | LOCK_NB) === 0) return true;
  return errno() === EAGAIN ? false : null;
}

/** Ends a lock of `tryLock`, also where other descriptors of the same opened file live on. */
export function unlock(fd: number): void {
  libc().flock(fd, LOCK_UN);
}

/** Shared memory of another process. Views on `buffer` must not be used after `close`. */
export class Mapping {
  #address: Pointer | null;

  private constructor(
    address: Pointer,
    readonly bytes: number,
    /** Of the memfd, as /proc/PID/maps shows it. */
    readonly inode: number,
    /** Memory that other processes write: only `Atomics` sees their stores in order. */
    readonly buffer: ArrayBuffer,
  ) {
    this.#address = address;
  }

  /**
   * Maps a descriptor, whole, and closes it: one of `mostBytes` at the most, for what is mapped is
   * another program's choice. Reading it must not end in a SIGBUS: it is sealed against shrinking, and
   * of ordinary pages, which the kernel makes where there are none (a hole in huge ones needs one of
   * its pool). Whoever maps it so reads it alone, until `close` or its own end, in whatever namespaces.
   * @throws KQTimeError `E_RING`; its `op` is "flock" if somebody else reads it
   */
  static adopt(fd: number, mostBytes: number): Mapping {
    try {
      const seals = libc().fcntl(fd, F_GET_SEALS, 0);
      if (seals < 0 || (seals & F_SEAL_SHRINK) === 0) {
        throw new KQTimeError("E_RING", "fcntl", "shared memory is not sealed against shrinking");
      }
      // Only now: what knows of seals is memory, where statfs(2) asks nobody.
      const about = new Uint32Array(new ArrayBuffer(STATFS_BYTES));
      if (libc().fstatfs(fd, about) !== 0 || about[0] !== TMPFS_MAGIC) {
        throw new KQTimeError("E_RING", "fstatfs", "shared memory is not of ordinary pages");
      }
      const { size, ino } = fstatSync(fd);
      if (size <= 0 || size > mostBytes) {
        throw new KQTimeError("E_RING", "fstat", `shared memory of ${size} bytes`);
      }
      // The lock is the open file's, and held by the mapping. The sender's own lives in its processes.
      const own = openAgain(fd);
      try {
        if (tryLock(own, "exclusive") !== true) {
          throw new KQTimeError("E_RING", "flock", "shared memory is read by another kqtime");
        }
        const address = libc().mmap(null, size, PROT_READ_WRITE, MAP_SHARED, own, 0) as Pointer | null;
        if (address === null || address < 0 || address >= 2 ** 63) {
          throw failed("mmap", "shared memory");
        }
        return new Mapping(address, size, ino, toArrayBuffer(address, 0, size));
      } finally {
        closeSync(own);
      }
    } finally {
      closeForeign(fd);
    }
  }

  close(): void {
    if (this.#address === null) return;
    libc().munmap(this.#address, this.bytes);
    this.#address = null;
  }
}

/** What a process sent over the session's socket. */
export interface Received {
  /** The message. */
  readonly message: Uint8Array;
  /** Descriptor that came with it, the receiver's to close; -1: none. */
  readonly fd: number;
  /** Credentials that the kernel vouches for, in the receiver's pid namespace. */
  readonly pid: number;
  readonly uid: number;
  /** Where it came from, for `reply` or `hangUp`. */
  readonly connection: number;
}

/**
 * A listening Unix socket at a path, from which messages with a descriptor are read, one a
 * connection. A stream socket, since sandboxes (Tor's) allow no other kind to connect with.
 */
export class MessageListener {
  readonly #fd: number;
  #closed = false;

  // msghdr (56 bytes) points to iovec, data and control: all in one block that does not move.
  readonly #block = new ArrayBuffer(2048);
  readonly #view = new DataView(this.#block);
  readonly #bytes = new Uint8Array(this.#block);
  static readonly #iovecAt = 64;
  static readonly #controlAt = 96;
  static readonly #controlBytes = 64;
  static readonly #dataAt = 256;
  static readonly #dataBytes = 1024;
  readonly #credentials = new Int32Array(new ArrayBuffer(12));
  readonly #length = new Uint32Array(new ArrayBuffer(8));

  readonly #messages = new InOrder<Received>({
    accept: () => libc().accept4(this.#fd, null, null, SOCK_NONBLOCK_CLOEXEC),
    receive: (connection) => this.#receive(connection),
    hasRoom: (descriptors) => hasRoom(descriptors, this.#fd),
    close: closeForeign,
  });

  /** @throws KQTimeError `E_LIBC` */
  constructor(readonly path: string) {
    const address = unixAddress(path);
    if (address === null) {
      throw new KQTimeError("E_LIBC", "bind", `the socket's path ${path} is too long`);
    }
    this.#fd = libc().socket(AF_UNIX, SOCK_STREAM_NONBLOCK_CLOEXEC, 0);
    if (this.#fd < 0) throw failed("socket", path);
    if (libc().bind(this.#fd, address.bytes, address.length) !== 0) throw failed("bind", path);
    if (libc().listen(this.#fd, BACKLOG) !== 0) throw failed("listen", path);
  }

  /** The next message, or null if there is none now. Looks at `most` connections at the most. */
  next(most: number): Received | null {
    return this.#messages.next(most);
  }

  /** Answers a message; nothing more can be said on its connection. */
  reply(connection: number, bytes: Uint8Array): void {
    // Who does not listen any more gets no answer.
    libc().send(connection, bytes, bytes.length, MSG_NOSIGNAL_DONTWAIT);
    closeForeign(connection);
  }

  hangUp(connection: number): void {
    closeForeign(connection);
  }

  close(): void {
    if (this.#closed) return;
    this.#closed = true;
    for (const { fd, connection } of this.#messages.close()) {
      if (fd >= 0) closeForeign(fd);
      closeForeign(connection);
    }
    closeSync(this.#fd);
  }

  #receive(connection: number): Received | null | "later" {
    const L = MessageListener;
    const base = BigInt(ptr(this.#block));
    const view = this.#view;
    view.setBigUint64(0, 0n, true);
    view.setUint32(8, 0, true);
    view.setBigUint64(16, base + BigInt(L.#iovecAt), true);
    view.setBigUint64(24, 1n, true);
    view.setBigUint64(32, base + BigInt(L.#controlAt), true);
    view.setBigUint64(40, BigInt(L.#controlBytes), true);
    view.setUint32(48, 0, true);
    view.setBigUint64(L.#iovecAt, base + BigInt(L.#dataAt), true);
    view.setBigUint64(L.#iovecAt + 8, BigInt(L.#dataBytes), true);
    const bytes = Number(libc().recvmsg(connection, this.#bytes, MSG_CMSG_CLOEXEC));
    if (bytes < 0) {
      const number = errno();
      if (number === 11 || number === 4) return "later";
    }
    let received = -1;
    const control = Number(view.getBigUint64(40, true));
    let at = L.#controlAt;
    while (bytes > 0 && at + 16 <= L.#controlAt + control) {
      const length = Number(view.getBigUint64(at, true));
      if (length < 16) break;
      if (view.getInt32(at + 8, true) === SOL_SOCKET && view.getInt32(at + 12, true) === SCM_RIGHTS) {
        for (let f = at + 16; f + 4 <= at + length; f += 4) {
          if (received >= 0) closeForeign(view.getInt32(f, true));
          else received = view.getInt32(f, true);
        }
      }
      at += (length + 7) & ~7;
    }
    this.#length[0] = 12;
    const known = libc().getsockopt(
      connection,
      SOL_SOCKET,
      SO_PEERCRED,
      new Uint8Array(this.#credentials.buffer),
      new Uint8Array(this.#length.buffer),
    );
    if (bytes <= 0) {
      closeForeign(connection);
      return null;
    }
    return {
      message: this.#bytes.slice(L.#dataAt, L.#dataAt + bytes),
      fd: received,
      pid: known === 0 ? this.#credentials[0]! : 0,
      uid: known === 0 ? this.#credentials[1]! : -1,
      connection,
    };
  }
}

const CLOCK_REALTIME = 0;
const NS_PER_SECOND = 1_000_000_000n;

/** CLOCK_REALTIME in nanoseconds since this clock was made; two halves of other times with it. */
export class RealtimeClock {
  readonly #timespec = new Uint32Array(new ArrayBuffer(16));
  readonly #baseSec: number;
  readonly #baseHigh: number;
  readonly #baseLow: number;

  constructor() {
    // A second ago: times of a moment before are no less than zero.
    this.#baseSec = Math.floor(Date.now() / 1000) - 1;
    const base = BigInt(this.#baseSec) * NS_PER_SECOND;
    this.#baseHigh = Number(base >> 32n);
    this.#baseLow = Number(base & 0xffffffffn);
  }

  now(): number {
    const time = this.#timespec;
    libc().clock_gettime(CLOCK_REALTIME, time);
    return (time[0]! + time[1]! * 4294967296 - this.#baseSec) * 1e9 + time[2]!;
  }

  /** A count of nanoseconds since the epoch, given as two halves. Exact within ±104 days. */
  relativeNs(low: number, high: number): number {
    return (high - this.#baseHigh) * 4294967296 + (low - this.#baseLow);
  }
}

const F_GETFL = 3;
const O_ACCMODE = 3;

/** How a descriptor was opened (open(2)); null if it is none. */
export function openFlags(fd: number): { writable: boolean; nonBlocking: boolean } | null {
  const flags = libc().fcntl(fd, F_GETFL, 0);
  if (flags < 0) return null;
  return { writable: (flags & O_ACCMODE) !== 0, nonBlocking: (flags & 0o4000) !== 0 };
}

/** Whether somebody listens at the path of a `SOCK_STREAM` socket. */
export function unixSocketAnswers(path: string): boolean {
  const address = unixAddress(path);
  if (address === null) return false;
  const fd = libc().socket(AF_UNIX, SOCK_STREAM_NONBLOCK_CLOEXEC, 0);
  if (fd < 0) throw failed("socket", path);
  // A full backlog is an answer, too.
  const answers = libc().connect(fd, address.bytes, address.length) === 0 || errno() === EAGAIN;
  closeSync(fd);
  return answers;
}

/** Null if the path is too long. */
function unixAddress(path: string): { bytes: Uint8Array; length: number } | null {
  const name = new TextEncoder().encode(path);
  if (name.length >= SUN_PATH_BYTES) return null;
  const bytes = new Uint8Array(new ArrayBuffer(2 + SUN_PATH_BYTES));
  bytes[0] = AF_UNIX;
  bytes.set(name, 2);
  return { bytes, length: 2 + name.length + 1 };
}

/** Whether a process exists (a zombie does). */
export function processExists(pid: number): boolean {
  if (libc().kill(pid, 0) === 0) return true;
  return errno() !== ESRCH;
}

/** Whether this process is in the foreground of the terminal that `fd` is; then Ctrl-C reaches it. */
export function inForeground(fd: number): boolean {
  const group = libc().tcgetpgrp(fd);
  return group > 0 && group === libc().getpgrp();
}

/** An extended attribute of a file, of at most 256 bytes; null if it has none (xattr(7)). */
export function readAttribute(path: string, name: string): Uint8Array | null {
  const text = (value: string) => new TextEncoder().encode(`${value}\0`);
  const value = new Uint8Array(new ArrayBuffer(256));
  const length = libc().getxattr(text(path), text(name), value, value.length);
  return length < 0 ? null : value.subarray(0, length);
}
