// A netlink(7) socket that asks for dumps (one request, many messages, NLMSG_DONE) and for single
// objects. Opened on first use and kept, because the questions repeat several times a second.

import { read, type Library, type Pointer } from "bun:ffi";
import { KQTimeError } from "../errors.ts";
import { bind } from "./library.ts";

const socketSymbols = {
  /** int domain, int type, int protocol */
  socket: { args: ["i32", "i32", "i32"], returns: "i32" },
  /** int fd, int level, int name, const void *value, socklen_t */
  setsockopt: { args: ["i32", "i32", "i32", "buffer", "u32"], returns: "i32" },
  /** int fd, const void *, size_t, int flags → ssize_t, below 2^31 here */
  send: { args: ["i32", "buffer", "usize", "i32"], returns: "i32" },
  recv: { args: ["i32", "buffer", "usize", "i32"], returns: "i32" },
  close: { args: ["i32"], returns: "i32" },
  /** → int *, of this thread */
  __errno_location: { args: [], returns: "ptr" },
} as const;

const AF_NETLINK = 16;
const SOCK_RAW = 3;
const SOCK_CLOEXEC = 0o2000000;
const SOL_SOCKET = 1;
const SO_RCVTIMEO = 20;
const MSG_TRUNC = 0x20;
const ENOENT = 2;
const EINTR = 4;
const EAGAIN = 11;
const ENOBUFS = 105;

const NLM_F_REQUEST = 0x001;
const NLM_F_DUMP = 0x300;
const NLM_F_DUMP_INTR = 0x010;
const NLMSG_ERROR = 2;
const NLMSG_DONE = 3;
const NLMSG_HEADER_BYTES = 16;

export const NETLINK_ROUTE = 0;
export const NETLINK_SOCK_DIAG = 4;

/** The kernel fills at most 32 KiB a message, or what the reader offers. */
const RECEIVE_BYTES = 64 * 1024;
const ATTEMPTS = 5;

let libc: Library<typeof socketSymbols>["symbols"] | null = null;
let errnoAt: Pointer | null = null;

function symbols(): Library<typeof socketSymbols>["symbols"] {
  if (libc === null) {
    libc = bind("libc.so.6", socketSymbols).symbols;
    errnoAt = libc.__errno_location() as Pointer;
  }
  return libc;
}

function errno(): number {
  return errnoAt === null ? 0 : read.i32(errnoAt, 0);
}

/** Receives each message of a dump: its payload is `view` from `offset` to `end`. */
export type MessageReader = (view: DataView, offset: number, end: number, type: number) => void;

export class NetlinkSocket {
  readonly #protocol: number;
  readonly #op: string;
  readonly #received = new Uint8Array(new ArrayBuffer(RECEIVE_BYTES));
  readonly #view = new DataView(this.#received.buffer);
  #fd = -1;
  #sequence = 0;

  /** `op` names the subsystem in errors. */
  constructor(protocol: number, op: string) {
    this.#protocol = protocol;
    this.#op = op;
  }

  /**
   * Asks for a dump and gives each message to `reader`. A dump that the kernel calls inconsistent
   * (NLM_F_DUMP_INTR) is asked again; `begin` is called before each attempt and must forget what
   * was read. The last of several inconsistent ones stands.
   * @param request room for the 16 bytes of the netlink header, then the family's own request
   * @throws KQTimeError `E_NETLINK`
   */
  dump(type: number, request: Uint8Array, begin: () => void, reader: MessageReader): void {
    for (let attempt = 1; ; attempt++) {
      begin();
      this.#send(type, request, NLM_F_REQUEST | NLM_F_DUMP);
      if (this.#receive(reader) || attempt === ATTEMPTS) return;
    }
  }

  /**
   * Asks for one object. Returns false if there is no such object.
   * @throws KQTimeError `E_NETLINK`
   */
  ask(type: number, request: Uint8Array, reader: MessageReader): boolean {
    this.#send(type, request, NLM_F_REQUEST);
    const view = this.#view;
    for (;;) {
      const length = symbols().recv(this.#fd, this.#received, RECEIVE_BYTES, MSG_TRUNC);
      if (length < 0) {
        const code = errno();
        if (code === EINTR) continue;
        this.#fail("recv", code);
      }
      if (length > RECEIVE_BYTES) this.#fail("recv", ENOBUFS);
      // What an earlier question left behind after an error is not this one's.
      if (length < NLMSG_HEADER_BYTES || view.getUint32(8, true) !== this.#sequence) continue;
      const end = Math.min(length, view.getUint32(0, true));
      const answer = view.getUint16(4, true);
      if (answer === NLMSG_ERROR) {
        const code = end >= NLMSG_HEADER_BYTES + 4 ? -view.getInt32(NLMSG_HEADER_BYTES, true) : 0;
        if (code !== 0 && code !== ENOENT) this.#fail("ask", code);
        return false;
      }
      reader(view, NLMSG_HEADER_BYTES, end, answer);
      return true;
    }
  }

  close(): void {
    if (this.#fd < 0) return;
    symbols().close(this.#fd);
    this.#fd = -1;
  }

  #open(): void {
    const libc = symbols();
    const fd = libc.socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, this.#protocol);
    if (fd < 0) this.#fail("socket", errno());
    this.#fd = fd;
    // The kernel answers at once; the timeout only keeps an error of ours from hanging forever.
    const timeout = new BigInt64Array(new ArrayBuffer(16));
    timeout[0] = 5n;
    libc.setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, timeout, 16);
  }

  #send(type: number, request: Uint8Array, flags: number): void {
    if (this.#fd < 0) this.#open();
    this.#sequence = (this.#sequence + 1) >>> 0;
    const header = new DataView(request.buffer, request.byteOffset, NLMSG_HEADER_BYTES);
    header.setUint32(0, request.length, true);
    header.setUint16(4, type, true);
    header.setUint16(6, flags, true);
    header.setUint32(8, this.#sequence, true);
    header.setUint32(12, 0, true);
    while (symbols().send(this.#fd, request, request.length, 0) < 0) {
      const code = errno();
      if (code !== EINTR) this.#fail("send", code);
    }
  }

  /** True if the dump was consistent. */
  #receive(reader: MessageReader): boolean {
    const view = this.#view;
    let consistent = true;
    for (;;) {
      const length = symbols().recv(this.#fd, this.#received, RECEIVE_BYTES, MSG_TRUNC);
      if (length < 0) {
        const code = errno();
        if (code === EINTR) continue;
        if (code === ENOBUFS) {
          consistent = false;
          continue;
        }
        this.#fail("recv", code);
      }
      if (length > RECEIVE_BYTES) this.#fail("recv", ENOBUFS);
      let offset = 0;
      while (offset + NLMSG_HEADER_BYTES <= length) {
        const messageBytes = view.getUint32(offset, true);
        if (messageBytes < NLMSG_HEADER_BYTES || offset + messageBytes > length) break;
        const type = view.getUint16(offset + 4, true);
        const flags = view.getUint16(offset + 6, true);
        // What an earlier dump left behind after an error is not this one's.
        if (view.getUint32(offset + 8, true) === this.#sequence) {
          if ((flags & NLM_F_DUMP_INTR) !== 0) consistent = false;
          const payload = offset + NLMSG_HEADER_BYTES;
          const end = offset + messageBytes;
          if (type === NLMSG_DONE || type === NLMSG_ERROR) {
            const code = end - payload >= 4 ? -view.getInt32(payload, true) : 0;
            if (code !== 0) this.#fail("dump", code);
            return consistent;
          }
          reader(view, payload, end, type);
        }
        offset += (messageBytes + 3) & ~3;
      }
    }
  }

  #fail(step: string, code: number): never {
    // A half-read dump would answer the next question: the next one gets a new socket.
    this.close();
    const known = code === EAGAIN ? "the kernel did not answer" : `errno ${code}`;
    const advice = this.#protocol === NETLINK_SOCK_DIAG && code === 2
      ? "; the kernel module tcp_diag is missing (modprobe tcp_diag)"
      : "";
    const text = `${this.#op}: ${step} failed (${known})${advice}`;
    throw new KQTimeError("E_NETLINK", this.#op, text);
  }
}
