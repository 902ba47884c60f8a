// The preload library as the process that runs under it sees it: c/kqtime_preload.h.
//
// Only the instance that is loaded already may be reached: a second one, opened from its file,
// would have hooks that nobody calls. RTLD_NOLOAD (dlopen(3)) tells whether it is there, under
// its soname, and by that name Bun's dlopen then finds it.

import type { Library } from "bun:ffi";
import { Constant, MessageType, ReplyBytes, ReplyWord, Reply as ReplyAt } from "../ring/layout.ts";
import { cString, readCString } from "./c-string.ts";
import { bind } from "./library.ts";

const SONAME = "libkqtime-preload.so";
const RTLD_NOW_NOLOAD = 2 | 4;
const EAGAIN = 11;

const versionSymbols = {
  /** → uint32_t */
  kq_preload_version: { args: [], returns: "u32" },
} as const;

const symbols = {
  /** → int, 1 if there is a session */
  kq_preload_attached: { args: [], returns: "i32" },
  /** const char *path, const char *token, uint32_t slots → int, an errno */
  kq_preload_join: { args: ["buffer", "buffer", "u32"], returns: "i32" },
  kq_preload_leave: { args: [], returns: "void" },
  /** uint32_t type, uint32_t handle, uint32_t flags, int fd, const char *text, int *connection */
  kq_preload_ask: { args: ["u32", "u32", "u32", "i32", "buffer", "buffer"], returns: "i32" },
  /** int connection, struct kq_reply *reply → int, an errno */
  kq_preload_answer: { args: ["i32", "buffer"], returns: "i32" },
  /** uint32_t handle, int fd, const char *name → int, an errno */
  kq_preload_register: { args: ["u32", "i32", "ptr"], returns: "i32" },
  /** uint32_t handle, int fd → int, an errno */
  kq_preload_deregister: { args: ["u32", "i32"], returns: "i32" },
} as const;

const loaderSymbols = {
  /** const char *filename, int flags → void * */
  dlopen: { args: ["buffer", "i32"], returns: "ptr" },
} as const;

/** A collector's answer to a request. */
export interface Answer {
  /** Of an opened handle, > 0; 0 for other requests; -1: refused, and `text` says why. */
  readonly handle: number;
  readonly text: string;
}

export { MessageType };

let found: Preload | null | undefined;

/** The preload library of this process. All numbers that its functions return are errnos; 0: done. */
export class Preload {
  readonly #c: Library<typeof symbols>["symbols"];
  // An ArrayBuffer first, and views on it: C is given the address.
  readonly #connection = new Int32Array(new ArrayBuffer(8));
  readonly #reply = new Uint8Array(new ArrayBuffer(ReplyBytes.total));
  readonly #replyWords = new Int32Array(this.#reply.buffer);

  private constructor(c: Library<typeof symbols>["symbols"]) {
    this.#c = c;
  }

  /** Null if this process did not start under it; a number: it is there, but of that version. */
  static find(): Preload | number | null {
    if (found !== undefined && found !== null) return found;
    const loader = bind("libc.so.6", loaderSymbols);
    const loaded = loader.symbols.dlopen(cString(SONAME), RTLD_NOW_NOLOAD);
    if (!loaded) return (found = null);
    // On its own first: one missing symbol fails a whole map.
    const version = bind(SONAME, versionSymbols).symbols.kq_preload_version();
    if (version !== Constant.version) return version;
    return (found = new Preload(bind(SONAME, symbols).symbols));
  }

  /** Whether this process has a session. */
  get attached(): boolean {
    return this.#c.kq_preload_attached() === 1;
  }

  join(path: string, token: string, slots: number): number {
    return this.#c.kq_preload_join(cString(path), cString(token), slots);
  }

  leave(): void {
    this.#c.kq_preload_leave();
  }

  /**
   * Sends a request of `type` (`MessageType`), with `fd` or -1. Gives a connection, from which
   * `answer` reads; or, below zero, the errno negated.
   */
  ask(type: number, handle: number, flags: number, fd: number, text: string): number {
    const bytes = cString(text);
    const view = new Uint8Array(this.#connection.buffer);
    const errno = this.#c.kq_preload_ask(type, handle, flags, fd, bytes, view);
    return errno === 0 ? this.#connection[0]! : -errno;
  }

  /** Null: not there yet. An errno, or an answer: the connection is closed. */
  answer(connection: number): Answer | number | null {
    const errno = this.#c.kq_preload_answer(connection, this.#reply);
    if (errno === EAGAIN) return null;
    if (errno !== 0) return errno;
    return {
      handle: this.#replyWords[ReplyWord.handle]!,
      text: readCString(this.#reply.subarray(ReplyAt.text)),
    };
  }

  register(handle: number, fd: number, name: string | null): number {
    return this.#c.kq_preload_register(handle, fd, name === null ? null : cString(name));
  }

  deregister(handle: number, fd: number): number {
    return this.#c.kq_preload_deregister(handle, fd);
  }
}
