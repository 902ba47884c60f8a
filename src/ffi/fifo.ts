// A named pipe that any process may write bytes into without a wait, and that this one counts: it
// holds some ten thousands without being read, on no file system.
//
// Source: mkfifo(3), fifo(7).

import { type Library } from "bun:ffi";
import { chmodSync, closeSync, constants, openSync, readSync } from "node:fs";
import { KQTimeError } from "../errors.ts";
import { openLibc } from "./library.ts";

/** Only who made it reads it. */
const MODE = 0o622;
const O_CLOEXEC = 0o2000000;
/** Of a pipe, as the kernel makes it (pipe(7)). */
const PIPE_BYTES = 65_536;

const symbols = {
  /** const char *path, mode_t mode → int */
  mkfifo: { args: ["cstring", "u32"], returns: "i32" },
} as const;

let loaded: Library<typeof symbols>["symbols"] | undefined;

export class CountedFifo {
  readonly #fd: number;
  readonly #bytes = new Uint8Array(new ArrayBuffer(PIPE_BYTES));
  #count = 0;
  #closed = false;

  /** Makes it. @throws KQTimeError `E_LIBC`, or what node:fs throws */
  constructor(readonly path: string) {
    loaded ??= openLibc(symbols);
    if (loaded.mkfifo(path, MODE) !== 0) {
      throw new KQTimeError("E_LIBC", "mkfifo", `mkfifo ${path} failed`);
    }
    // The umask is of no account.
    chmodSync(path, MODE);
    // Non-blocking, a reader does not wait for a writer.
    this.#fd = openSync(path, constants.O_RDONLY | constants.O_NONBLOCK | O_CLOEXEC);
  }

  /** Bytes that were written by now. */
  count(): number {
    if (!this.#closed) this.#count += this.#read();
    return this.#count;
  }

  close(): void {
    if (this.#closed) return;
    this.count();
    this.#closed = true;
    closeSync(this.#fd);
  }

  /** Once at the most what it holds: who writes without end is not listened to for ever. */
  #read(): number {
    try {
      return readSync(this.#fd, this.#bytes);
    } catch {
      // EAGAIN: somebody has it open and has written nothing.
      return 0;
    }
  }
}
