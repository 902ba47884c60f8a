// System calls that programs make before they hand a descriptor over, and node:fs cannot.

import { dlopen } from "bun:ffi";

const libc = dlopen("libc.so.6", {
  socket: { args: ["i32", "i32", "i32"], returns: "i32" },
  bind: { args: ["i32", "buffer", "u32"], returns: "i32" },
  listen: { args: ["i32", "i32"], returns: "i32" },
  getsockname: { args: ["i32", "buffer", "buffer"], returns: "i32" },
  connect: { args: ["i32", "buffer", "u32"], returns: "i32" },
  send: { args: ["i32", "buffer", "usize", "i32"], returns: "i32" },
  setsockopt: { args: ["i32", "i32", "i32", "buffer", "u32"], returns: "i32" },
  fcntl: { args: ["i32", "i32", "i32"], returns: "i32" },
  dup: { args: ["i32"], returns: "i32" },
  signal: { args: ["i32", "usize"], returns: "usize" },
}).symbols;

const AF_INET = 2;
const SOCK_STREAM = 1;
const SOL_SOCKET = 1;
const SO_SNDBUF = 7;
const SO_RCVBUF = 8;
const SO_LINGER = 13;
/** A few of the least that the kernel grants: many such sockets fit into memory. */
const BUFFER_BYTES = 4096;
const MSG_DONTWAIT = 0x40;
const F_GETFL = 3;
const F_SETFL = 4;
const F_SETLEASE = 1024;
const F_WRLCK = 1;
const O_NONBLOCK = 0o4000;
const SIGIO = 29;
const SIG_IGN = 1;

function bytes(length: number): Uint8Array {
  return new Uint8Array(new ArrayBuffer(length));
}

/** A socket whose last close waits `seconds` for its peer, which takes nothing any more. */
export function lingeringSocket(seconds: number): { socket: number; listener: number } {
  const listener = libc.socket(AF_INET, SOCK_STREAM, 0);
  const address = bytes(16);
  address.set([AF_INET, 0, 0, 0, 127, 0, 0, 1]);
  const length = bytes(4);
  length[0] = address.length;
  const socket = libc.socket(AF_INET, SOCK_STREAM, 0);
  const size = new Uint8Array(new Int32Array([BUFFER_BYTES]).buffer);
  const results = [
    libc.setsockopt(listener, SOL_SOCKET, SO_RCVBUF, size, 4),
    libc.setsockopt(socket, SOL_SOCKET, SO_SNDBUF, size, 4),
    libc.bind(listener, address, address.length),
    libc.listen(listener, 1),
    libc.getsockname(listener, address, length),
    libc.connect(socket, address, address.length),
  ];
  if (results.some((result) => result !== 0)) throw new Error(`no connection: ${results.join()}`);
  const data = bytes(1 << 20);
  while (libc.send(socket, data, data.length, MSG_DONTWAIT) > 0);
  const linger = new Int32Array([1, seconds]);
  libc.setsockopt(socket, SOL_SOCKET, SO_LINGER, new Uint8Array(linger.buffer), 8);
  return { socket, listener };
}

export function duplicate(fd: number): number {
  return libc.dup(fd);
}

/** Lets writes to an opened file wait, through whatever descriptor of it. */
export function makeBlocking(fd: number): void {
  libc.fcntl(fd, F_SETFL, libc.fcntl(fd, F_GETFL, 0) & ~O_NONBLOCK);
}

/** Whoever opens the file from now on waits for this descriptor's owner to let it. */
export function lease(fd: number): void {
  libc.signal(SIGIO, SIG_IGN);
  if (libc.fcntl(fd, F_SETLEASE, F_WRLCK) !== 0) throw new Error("no lease");
}

