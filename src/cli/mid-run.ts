// What is said on stderr while something is measured. The collector must not wait for the reader (a
// pager, a supervisor): the rings would overflow. So lines that do not fit wait, some of them; what is
// more is left out, and that is said in its place.
//
// O_NONBLOCK belongs to the opened file, which the command shares: it must not find its own writes
// failing. So pipes and terminals are opened once more, and to a socket is sent with MSG_DONTWAIT.

import { closeSync, fstatSync, writeSync } from "node:fs";
import { isWritable, sendNow } from "../ffi/libc.ts";
import { errnoOf, openOwn } from "../output/open-file.ts";
import type { SessionOptions } from "../session/session.ts";
import { STDERR, tellBytes, warning } from "./stderr.ts";

/** A summary of an interval with a hundred sockets has some 100 KiB. */
const WAITING_BYTES = 1024 * 1024;
/** A pipe holds 64 KiB: three MB a second for a reader that keeps up. */
const RETRY_MS = 20;
/** A pipe that is ready has room for so much (pipe(7)). */
const PIPE_BUF = 4096;
const NEWLINE = 10;

/** Runs a measurement; what it says is all there when it has ended. */
export async function whileMeasuring<T>(
  measure: (said: Pick<SessionOptions, "onWarning" | "onInterval">) => Promise<T>,
): Promise<T> {
  const said = new MidRun();
  try {
    return await measure({ onWarning: said.warn, onInterval: said.line });
  } finally {
    said.end();
  }
}

interface Outlet {
  /** How many of the bytes were taken, 0 if none can be now. @throws if none ever can */
  readonly put: (bytes: Uint8Array) => number;
  readonly close: () => void;
}

interface Entry {
  bytes: Uint8Array;
  /** How many it is about: those that it says are missing too. */
  readonly lines: number;
}

export class MidRun {
  readonly #outlet = outletOf(STDERR);
  /** Whole lines, but for the first, which may be there in part. */
  readonly #waiting: Entry[] = [];
  #waitingBytes = 0;
  #endsInLine = false;
  #leftOut = 0;
  #timer: Timer | null = null;

  readonly line = (line: string): void => this.#give(`${line}\n`);
  readonly warn = (message: string): void => this.#give(warning(message));

  /** Afterwards the reader may be waited for. */
  end(): void {
    if (this.#timer !== null) clearTimeout(this.#timer);
    this.#outlet.close();
    const rest = this.#waiting.map(({ bytes }) => bytes);
    if (this.#leftOut > 0) rest.push(new TextEncoder().encode(this.#gap()));
    tellBytes(Buffer.concat(rest));
  }

  #give(text: string): void {
    const bytes = new TextEncoder().encode(this.#leftOut > 0 ? this.#gap() + text : text);
    // A line alone may have any length.
    if (this.#waiting.length > 0 && this.#waitingBytes + bytes.length > WAITING_BYTES) {
      this.#leftOut++;
      return;
    }
    this.#waiting.push({ bytes, lines: this.#leftOut + 1 });
    this.#waitingBytes += bytes.length;
    this.#leftOut = 0;
    if (this.#timer === null) this.#flush();
  }

  /** Stands where lines are missing. */
  #gap(): string {
    const were = this.#leftOut === 1 ? "line was" : "lines were";
    const gap = warning(`${this.#leftOut} ${were} left out here: stderr did not take them`);
    return this.#endsInLine && this.#waiting.length === 0 ? `\n${gap}` : gap;
  }

  #flush(): void {
    this.#timer = null;
    const waiting = this.#waiting;
    try {
      for (let first = waiting[0]; first !== undefined; first = waiting[0]) {
        const { bytes } = first;
        const taken = this.#outlet.put(bytes);
        if (taken === 0) break;
        this.#waitingBytes -= taken;
        this.#endsInLine = bytes[taken - 1] !== NEWLINE;
        if (taken === bytes.length) waiting.shift();
        else first.bytes = bytes.subarray(taken);
      }
    } catch {
      // A reader that is gone, or a full disk: there may be room later.
      for (const { lines } of waiting) this.#leftOut += lines;
      waiting.length = 0;
      this.#waitingBytes = 0;
    }
    if (waiting.length > 0) this.#timer = setTimeout(() => this.#flush(), RETRY_MS);
  }
}

function outletOf(fd: number): Outlet {
  const nothing = () => {};
  try {
    const stat = fstatSync(fd);
    if (stat.isSocket()) return { put: (bytes) => send(fd, bytes), close: nothing };
    if (!stat.isFIFO() && !stat.isCharacterDevice()) {
      return { put: (bytes) => writeSync(fd, bytes), close: nothing };
    }
    const own = openOwn(fd);
    return { put: (bytes) => write(own, bytes), close: () => closeSync(own) };
  } catch {
    // Another user's pipe, or no /proc: a look before each write, which others may forestall.
    return { put: (bytes) => look(fd, bytes), close: nothing };
  }
}

function look(fd: number, bytes: Uint8Array): number {
  try {
    if (!isWritable(fd)) return 0;
  } catch {
    // As below.
  }
  return write(fd, bytes.subarray(0, PIPE_BUF));
}

function send(fd: number, bytes: Uint8Array): number {
  let taken: number;
  try {
    taken = sendNow(fd, bytes);
  } catch {
    // No library can be called: so nothing is measured, and the reader may be waited for.
    return writeSync(fd, bytes);
  }
  if (taken < 0) throw new Error("its reader is gone");
  return taken;
}

function write(fd: number, bytes: Uint8Array): number {
  try {
    return writeSync(fd, bytes);
  } catch (error) {
    if (errnoOf(error) === "EAGAIN") return 0;
    throw error;
  }
}
