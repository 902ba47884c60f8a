// Memory as a hostile program would make it: of any size, with or without seals, written to while
// the collector has it mapped.

import { dlopen, type Pointer, ptr, toArrayBuffer } from "bun:ffi";
import { closeSync, ftruncateSync } from "node:fs";

const libc = dlopen("libc.so.6", {
  memfd_create: { args: ["buffer", "u32"], returns: "i32" },
  fcntl: { args: ["i32", "i32", "i32"], returns: "i32" },
  dup: { args: ["i32"], returns: "i32" },
  mmap: { args: ["ptr", "u64", "i32", "i32", "i32", "i64"], returns: "ptr" },
  socket: { args: ["i32", "i32", "i32"], returns: "i32" },
  connect: { args: ["i32", "buffer", "u32"], returns: "i32" },
  sendmsg: { args: ["i32", "buffer", "i32"], returns: "i32" },
  recv: { args: ["i32", "buffer", "u64", "i32"], returns: "i32" },
  munmap: { args: ["ptr", "u64"], returns: "i32" },
}).symbols;

const MFD_ALLOW_SEALING = 3;
const F_ADD_SEALS = 1033;
export const Seal = { Seal: 1, Shrink: 2, Grow: 4, Write: 8 } as const;

/** Of memory in huge pages, 2 MiB each. */
export const MFD_HUGETLB = 4;

/** A memfd of this size, which takes no room until it is written to. The caller closes it. */
export function sealedMemory(bytes: number, seals: number, flags = 0): number {
  const name = new TextEncoder().encode("kqtime-fuzz\0");
  const fd = libc.memfd_create(name, MFD_ALLOW_SEALING | flags);
  if (fd < 0) throw new Error("no memfd");
  ftruncateSync(fd, bytes);
  if (seals !== 0 && libc.fcntl(fd, F_ADD_SEALS, seals) !== 0) throw new Error("no seals");
  return fd;
}

export const duplicate = (fd: number): number => libc.dup(fd);

/** The target's own view of a memory. */
export class TargetMemory {
  readonly buffer: ArrayBuffer;
  readonly #address: Pointer;

  constructor(
    readonly fd: number,
    readonly bytes: number,
  ) {
    const address = libc.mmap(null, bytes, 3, 1, fd, 0) as Pointer | null;
    if (address === null || address < 0) throw new Error("no mapping");
    this.#address = address;
    this.buffer = toArrayBuffer(address, 0, bytes);
  }

  close(): void {
    libc.munmap(this.#address, this.bytes);
    closeSync(this.fd);
  }
}

const AF_UNIX = 1;
const SOCK_STREAM_NONBLOCK = 1 | 0o4000;
const SOL_SOCKET = 1;
const SCM_RIGHTS = 1;
const MSG_NOSIGNAL_DONTWAIT = 0x4040;

/** A connection to a Unix socket; below zero if there is none. */
export function connectTo(path: string): number {
  const address = new Uint8Array(110);
  address[0] = AF_UNIX;
  address.set(new TextEncoder().encode(path), 2);
  const fd = libc.socket(AF_UNIX, SOCK_STREAM_NONBLOCK, 0);
  if (libc.connect(fd, address, address.length) === 0) return fd;
  closeSync(fd);
  return -1;
}

/** Connections to a Unix socket that nobody accepts: as many as its queue takes. */
export function fillQueue(path: string): number[] {
  const connections: number[] = [];
  for (let fd = connectTo(path); fd >= 0; fd = connectTo(path)) connections.push(fd);
  return connections;
}

/** Sends bytes with any number of descriptors, which stay the caller's. */
export function sendDescriptors(connection: number, bytes: Uint8Array, fds: readonly number[]): void {
  if (bytes.length === 0) return;
  const data = new Uint8Array(new ArrayBuffer(bytes.length));
  data.set(bytes);
  const control = new ArrayBuffer(16 + ((fds.length * 4 + 7) & ~7));
  const head = new DataView(control);
  head.setBigUint64(0, BigInt(16 + fds.length * 4), true);
  head.setInt32(8, SOL_SOCKET, true);
  head.setInt32(12, SCM_RIGHTS, true);
  fds.forEach((fd, i) => head.setInt32(16 + i * 4, fd, true));
  const message = new BigUint64Array(new ArrayBuffer(72));
  message[2] = BigInt(ptr(message.buffer)) + 56n;
  message[3] = 1n;
  if (fds.length > 0) message[4] = BigInt(ptr(control));
  if (fds.length > 0) message[5] = BigInt(control.byteLength);
  message[7] = BigInt(ptr(data));
  message[8] = BigInt(data.length);
  libc.sendmsg(connection, new Uint8Array(message.buffer), MSG_NOSIGNAL_DONTWAIT);
}

/** What there is to be read now. */
export function readAll(connection: number): Uint8Array {
  const bytes = new Uint8Array(new ArrayBuffer(2048));
  const count = libc.recv(connection, bytes, bytes.length, MSG_NOSIGNAL_DONTWAIT);
  return bytes.subarray(0, Math.max(0, count));
}
