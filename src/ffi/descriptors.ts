// What node:fs cannot do with descriptors. Those that are handed to the collector: a pipe whose ends
// never block, and memory that reads like a file. A name for a file that has none. Besides, what a
// caller's descriptor is.
//
// Source: pipe(2), memfd_create(2), fcntl(2), socket(7), open(2) for O_TMPFILE, linkat(2).

import { type Library, type Pointer, toArrayBuffer } from "bun:ffi";
import { closeSync } from "node:fs";
import { getSystemErrorName } from "node:util";
import { KQTimeError } from "../errors.ts";
import { openLibc } from "./library.ts";

const O_CLOEXEC_NONBLOCK = 0o2000000 | 0o4000;
const F_SETPIPE_SZ = 1031;
const F_DUPFD_CLOEXEC = 1030;
const MFD_CLOEXEC = 1;
const SOL_SOCKET = 1;
const SO_ACCEPTCONN = 30;
const AT_FDCWD = -100;
const AT_SYMLINK_FOLLOW = 0x400;

const symbols = {
  /** int ends[2], int flags → int */
  pipe2: { args: ["buffer", "i32"], returns: "i32" },
  /** int fd, int command, long argument → int */
  fcntl: { args: ["i32", "i32", "i32"], returns: "i32" },
  /** const char *name, unsigned int flags → int */
  memfd_create: { args: ["cstring", "u32"], returns: "i32" },
  /** int folder, const char *from, int newFolder, const char *to, int flags → int */
  linkat: { args: ["i32", "cstring", "i32", "cstring", "i32"], returns: "i32" },
  /** int fd, int level, int option, void *value, socklen_t *length → int */
  getsockopt: { args: ["i32", "i32", "i32", "buffer", "buffer"], returns: "i32" },
  /** → int * */
  __errno_location: { args: [], returns: "ptr" },
} as const;

let loaded: Library<typeof symbols>["symbols"] | undefined;

function libc(): Library<typeof symbols>["symbols"] {
  loaded ??= openLibc(symbols);
  return loaded;
}

/** errno of the last call; read at once, before anything else calls into libc. */
function errno(): number {
  return new Int32Array(toArrayBuffer(libc().__errno_location() as Pointer, 0, 4))[0]!;
}

function failed(op: string): KQTimeError {
  return new KQTimeError("E_LIBC", op, `${op} failed (errno ${errno()}): raise \`ulimit -n\`?`);
}

/** As node:fs throws it. */
function systemError(op: string): Error {
  const number = errno();
  const code = getSystemErrorName(-number);
  return Object.assign(new Error(`${op}: ${code}`), { errno: -number, code });
}

/**
 * Both ends of a pipe, the caller's to close. Its room is `bytes` where the kernel grants that to
 * this user, else what pipes have (pipe-user-pages-soft).
 * @throws KQTimeError `E_LIBC`
 */
export function makePipe(bytes: number): { readonly read: number; readonly write: number } {
  const ends = new Int32Array(new ArrayBuffer(8));
  if (libc().pipe2(new Uint8Array(ends.buffer), O_CLOEXEC_NONBLOCK) !== 0) throw failed("pipe2");
  libc().fcntl(ends[1]!, F_SETPIPE_SZ, bytes);
  return { read: ends[0]!, write: ends[1]! };
}

/** Memory as a file, the caller's to close. @throws KQTimeError `E_LIBC` */
export function makeMemory(name: string): number {
  const fd = libc().memfd_create(name, MFD_CLOEXEC);
  if (fd < 0) throw failed("memfd_create");
  return fd;
}

/** Whether so many descriptors are free, beside those in use such as `fd`. */
export function hasRoom(count: number, fd: number): boolean {
  const more = libc().fcntl(fd, F_DUPFD_CLOEXEC, 0);
  if (more < 0) return false;
  try {
    return count <= 1 || hasRoom(count - 1, fd);
  } finally {
    closeSync(more);
  }
}

/** Names the file behind a descriptor, which may have been opened without one. @throws as link(2) does */
export function nameFile(fd: number, path: string): void {
  const from = `/proc/self/fd/${fd}`;
  if (libc().linkat(AT_FDCWD, from, AT_FDCWD, path, AT_SYMLINK_FOLLOW) !== 0) throw systemError("link");
}

// An ArrayBuffer first, and views on it: C is given the address.
const value = new Int32Array(new ArrayBuffer(8));
const valueBytes = new Uint8Array(value.buffer, 0, 4);
const lengthBytes = new Uint8Array(value.buffer, 4, 4);

/** Whether it is a socket that listens. */
export function isListening(fd: number): boolean {
  value[0] = 0;
  value[1] = 4;
  const result = libc().getsockopt(fd, SOL_SOCKET, SO_ACCEPTCONN, valueBytes, lengthBytes);
  return result === 0 && value[0] !== 0;
}
