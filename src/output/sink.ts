// The log's file: how it is opened, who owns it, and what happens when it cannot be written. A
// failing write must neither stop the target nor tear the file: what the kernel did not take is
// kept, byte for byte, and tried again; meanwhile nothing else is written.
//
// Several runs may append to one log. Those that put whole members into it hold a shared lock, so
// that one who finds its end torn knows whether it is alone (flock(2)).
//
// The path may come to name another file (logrotate moves the old one away, or its owner removes
// it), and a log may move its own: what comes then goes to the new one.

import {
  closeSync, constants, fstatSync, ftruncateSync, lstatSync, openSync, readFileSync, readSync, renameSync,
  writeSync,
} from "node:fs";
import { KQTimeError } from "../errors.ts";
import { closeForeign, tryLock, unlock } from "../ffi/libc.ts";
import {
  errnoOf, identityOf, O_CLOEXEC, type OpenedFile, openOwn, openPrivate, reasonOf, removeEmpty,
} from "./open-file.ts";
import { Patience } from "./patience.ts";
import { moveAside, rotatedPath } from "./rotation.ts";

const SLOW_READER_STEP_MS = 2;
/** How long lines wait for another run that mends the log's end; it takes milliseconds. */
const LOCK_PATIENCE_MS = 1000;

const NEWLINE = 10;

/** Whether the lock is held that this file's writers share. */
const Share = { notNeeded: 0, wanted: 1, held: 2 } as const;

export class FileSink {
  /** Lines whose bytes the kernel has taken. */
  linesWritten = 0;
  #fd: number;
  #identity: string | null;
  /** Made by this run. */
  #created: boolean;
  readonly #path: string;
  readonly #onError: (message: string) => void;
  readonly #reported = new Set<string>();
  /** What a failed write left over; empty as long as all is well. */
  #pending = new Uint8Array(0);
  /** How much of it is in the file. */
  #pendingDone = 0;
  /** Where that begins. */
  #tornAt = 0;
  #pendingLines = 0;

  #share: (typeof Share)[keyof typeof Share] = Share.notNeeded;
  #shareUntilMs = 0;

  /** Bytes wait for nothing but a pipe's reader. */
  slow = false;
  /** Why the last write that failed did, in words; null if none has. */
  failure: string | null = null;

  private constructor(
    fd: number,
    /** Another program opened it. */
    private readonly foreign: boolean,
    /** With a slow reader, at the end. */
    private readonly patience: Patience,
    { identity, created }: Pick<OpenedFile, "identity" | "created">,
    path: string,
    onError: (message: string) => void,
    /** What it is, in messages. */
    private readonly what = "log",
  ) {
    this.#fd = fd;
    this.#identity = identity;
    this.#created = created;
    this.#path = path;
    this.#onError = onError;
  }

  /** @throws KQTimeError `E_LOG` */
  static open(
    path: string,
    onError: (message: string) => void,
    patience: Patience,
    what = "log",
  ): FileSink {
    try {
      const file = openPrivate(path, { append: true });
      return new FileSink(file.fd, false, patience, file, path, onError, what);
    } catch (error) {
      const why = `${what} "${path}" cannot be opened: ${reasonOf(error)}`;
      throw new KQTimeError("E_LOG", "open", why, undefined, { cause: error });
    }
  }

  /**
   * A file that another program opened; it is closed with the sink. Its reader may be that very
   * program, which waits for us: it is not waited for.
   * @throws KQTimeError `E_LOG`; the descriptor is closed then
   */
  static adopt(fd: number, path: string, onError: (message: string) => void): FileSink {
    try {
      const file = { identity: identityOf(fd), created: false };
      return new FileSink(ownPipe(fd), true, new Patience(0), file, path, onError);
    } catch (error) {
      closeForeign(fd);
      const why = `log "${path}" cannot be written to: ${reasonOf(error)}`;
      throw new KQTimeError("E_LOG", "open", why, undefined, { cause: error });
    }
  }

  /** Of the file that is open now, as in `OpenedFile`. */
  get identity(): string | null {
    return this.#identity;
  }

  get isRegular(): boolean {
    return fstatSync(this.#fd).isFile();
  }

  /**
   * Goes on in the file that the path names by now, which is made if there is none; true if it is
   * another one. What keeps it from that is told once: then it stays where it is.
   * @param accept Whether the new file may be appended to.
   */
  follow(accept: (sink: FileSink) => boolean): boolean {
    if (this.foreign || !this.isRegular) return false;
    try {
      if (this.#isNamed()) return false;
      return this.#enter(openPrivate(this.#path, { append: true }), accept);
    } catch (error) {
      const isRemoved = fstatSync(this.#fd).nlink === 0;
      const [done, again, then] = isRemoved
        ? ["removed", "made", "what was written is lost, and so is what comes until it can"]
        : ["moved away", "opened", "what comes goes to where it was moved"];
      const why = `${this.what} "${this.#path}" was ${done}, and cannot be ${again} again`;
      this.report(isRemoved ? "removed" : "follow", `${why}: ${reasonOf(error)}; ${then}`);
      return false;
    }
  }

  /**
   * Moves the file aside and begins another one; false if that is not possible, which is told once.
   * Only when not `blocked`.
   */
  rotate(files: number): boolean {
    let moved = false;
    try {
      // Another has moved it already: `follow` will see to it.
      if (!this.#isNamed()) return false;
      moveAside(this.#path, files);
      moved = true;
      return this.#enter(openPrivate(this.#path, { append: true, exclusive: true }), () => true);
    } catch (error) {
      // If there is a file again, it is another run's.
      if (moved && errnoOf(error) !== "EEXIST") this.#moveBack();
      const why = `${this.what} "${this.#path}" cannot be rotated: ${reasonOf(error)}`;
      this.report("rotate", `${why}; it grows beyond its size`);
      return false;
    }
  }

  /** Whether the path names the file that is open. */
  #isNamed(): boolean {
    const there = lstatSync(this.#path, { throwIfNoEntry: false });
    return there !== undefined && `${there.dev}:${there.ino}` === this.#identity;
  }

  #moveBack(): void {
    try {
      renameSync(rotatedPath(this.#path, 1), this.#path);
    } catch {
      // It has the lines under that name.
    }
  }

  /** Goes on in another file, if it is one to go on in. */
  #enter({ fd, identity, created }: OpenedFile, accept: (sink: FileSink) => boolean): boolean {
    const [oldFd, oldIdentity] = [this.#fd, this.#identity];
    this.#fd = fd;
    this.#identity = identity;
    let isAccepted = false;
    try {
      isAccepted = fstatSync(fd).isFile() && accept(this);
    } finally {
      if (!isAccepted) {
        this.#fd = oldFd;
        this.#identity = oldIdentity;
        closeSync(fd);
        const why = "another file has come there, which cannot be appended to";
        this.report("follow", `${this.what} "${this.#path}" was moved away, and ${why}`);
      } else {
        this.#created = created;
        this.#leave(oldFd);
      }
    }
    return isAccepted;
  }

  /**
   * Lets go of a file; what is only in part in it goes to the next one as a whole. The part is cut
   * off unless another program has appended since: a torn line is less of a loss than its lines.
   */
  #leave(fd: number): void {
    if (this.#share === Share.held) unlock(fd);
    this.#share = Share.notNeeded;
    try {
      if (this.#pendingDone > 0 && tryLock(fd, "exclusive") === true) {
        const { size } = fstatSync(fd);
        // Others' lines may be behind it or, where it went in by pieces, within it.
        if (this.#tornAt + this.#pendingDone === size) ftruncateSync(fd, this.#tornAt);
      }
    } catch {
      // The whole of it is in the next file.
    }
    this.#pendingDone = 0;
    try {
      closeSync(fd);
    } catch {
      // Its last lines may be lost with the file's disk.
    }
  }

  /** From now on other runs can tell that this one writes here. Lines wait until they can. */
  share(): void {
    this.#share = Share.wanted;
    this.#shareUntilMs = performance.now() + LOCK_PATIENCE_MS;
    this.#tryShare();
  }

  /** Calls `mend` if no other run writes to this file. Needs `share`. */
  alone(mend: () => void): void {
    // Taking the one lock gives up the other.
    const isAlone = tryLock(this.#fd, "exclusive") === true;
    try {
      if (isAlone) mend();
    } finally {
      this.share();
    }
  }

  /** Whether lines may be written, as far as other runs are concerned. */
  #tryShare(): boolean {
    if (this.#share !== Share.wanted) return true;
    if (tryLock(this.#fd, "shared") !== false) this.#share = Share.held;
    else if (performance.now() >= this.#shareUntilMs) this.#share = Share.notNeeded;
    return this.#share !== Share.wanted;
  }

  /** Bytes wait for a write that works. */
  get blocked(): boolean {
    return this.#pending.length > 0 || !this.#tryShare();
  }

  /** Lines that a write which failed left over; they may be written yet. */
  get linesFailed(): number {
    return this.slow ? 0 : this.#pendingLines;
  }

  /** Length of a regular file, 0 of anything else. */
  get fileBytes(): number {
    const stat = fstatSync(this.#fd);
    return stat.isFile() ? stat.size : 0;
  }

  /**
   * The file's last `bytes` bytes at the most, for a look at how it ends.
   * @throws where the file may be written but not read
   */
  readEnd(bytes: number): Uint8Array {
    const size = this.fileBytes;
    const length = Math.min(bytes, size);
    return this.#read(size - length, length);
  }

  /** A text file that was cut inside a line: the next line must not become part of it. */
  get endsInLine(): boolean {
    try {
      const end = this.readEnd(1);
      return end.length === 1 && end[0] !== NEWLINE;
    } catch {
      return false;
    }
  }

  /** The file's first `bytes` bytes at the most. @throws as `readEnd` does */
  readStart(bytes: number): Uint8Array {
    return this.#read(0, Math.min(bytes, this.fileBytes));
  }

  #read(at: number, length: number): Uint8Array {
    const found = new Uint8Array(length);
    if (length === 0) return found;
    // By the descriptor, so that it is the same file whatever has become of the path. It may be
    // under a lease (fcntl(2)), whose holder would be waited for.
    const flags = constants.O_RDONLY | constants.O_NONBLOCK | O_CLOEXEC;
    const fd = openSync(`/proc/self/fd/${this.#fd}`, flags);
    try {
      return found.subarray(0, readSync(fd, found, 0, length, at));
    } finally {
      closeSync(fd);
    }
  }

  /** Cuts the file. @throws as ftruncate(2) does */
  truncate(bytes: number): void {
    ftruncateSync(this.#fd, bytes);
  }

  /**
   * Hands over whole lines (or a member of them). Only when not `blocked`, or right after a write
   * that was not; what a failure leaves over is copied, so that the caller's buffer is free again.
   */
  write(bytes: Uint8Array, length: number, lines: number): void {
    const { length: before } = this.#pending;
    const done = before > 0 ? 0 : this.#attempt(bytes, length);
    if (done === length) {
      this.linesWritten += lines;
      return;
    }
    const pending = new Uint8Array(before + length);
    pending.set(this.#pending);
    pending.set(bytes.subarray(0, length), before);
    this.#pending = pending;
    if (before === 0) this.#pendingDone = done;
    this.#pendingLines += lines;
  }

  /** Puts bytes before those that are pending; false if there are none. */
  putFirst(bytes: Uint8Array): boolean {
    if (this.#pending.length === 0 || this.#pendingDone > 0) return false;
    this.#pending = new Uint8Array([...bytes, ...this.#pending]);
    return true;
  }

  /** Tries what is pending again. True when nothing is pending any more. */
  retry(): boolean {
    if (this.#pending.length === 0) return true;
    const rest = this.#pending.subarray(this.#pendingDone);
    this.#pendingDone += this.#attempt(rest, rest.length);
    if (this.#pendingDone < this.#pending.length) return false;
    this.#pending = new Uint8Array(0);
    this.#pendingDone = 0;
    this.linesWritten += this.#pendingLines;
    this.#pendingLines = 0;
    return true;
  }

  /** A line is lost while bytes wait; the user is told if nothing has told him yet. */
  lost(): void {
    if (this.slow) this.#failed({ code: "EAGAIN" });
  }

  /** Tells the user, once for each kind of failure. */
  report(kind: string, message: string): void {
    if (this.#reported.has(kind)) return;
    this.#reported.add(kind);
    this.#onError(message);
  }

  /** Waits for a slow reader to take what is left over; true if nothing is left. */
  drain(): boolean {
    let done = this.retry();
    while (!done && this.slow && !this.patience.isOver) {
      Bun.sleepSync(SLOW_READER_STEP_MS);
      done = this.retry();
    }
    return done;
  }

  /** At the end: whatever other runs do here is not waited for any more. */
  hurry(): void {
    this.#shareUntilMs = 0;
  }

  /** Once it is closed: takes the file away if it was made for nothing. */
  removeEmpty(): void {
    removeEmpty(this.#path, { identity: this.#identity, created: this.#created });
  }

  /** Closes and returns how many lines were given to it and never written. */
  close(): number {
    // A failure after all, but only of the lines that are left.
    if (!this.drain() && this.slow) this.failure ??= reasonOf({ code: "EAGAIN" });
    // Other descriptors of the same opened file would keep the lock.
    if (this.#share === Share.held) unlock(this.#fd);
    if (this.foreign) {
      closeForeign(this.#fd);
      return this.#pendingLines;
    }
    try {
      closeSync(this.#fd);
    } catch (error) {
      this.#failed(error);
    }
    return this.#pendingLines;
  }

  /** How many of the bytes the kernel took. */
  #attempt(bytes: Uint8Array, length: number): number {
    let done = 0;
    this.slow = false;
    while (done < length) {
      try {
        const taken = writeSync(this.#fd, bytes, done, length - done);
        const isFirst = done === 0 && this.#pendingDone === 0;
        done += taken;
        if (isFirst && done < length) this.#tornAt = positionOf(this.#fd) - done;
      } catch (error) {
        const code = errnoOf(error);
        if (code === "EINTR") continue;
        // Not a failure as long as no line is lost by it.
        if (code === "EAGAIN") this.slow = true;
        else this.#failed(error);
        break;
      }
    }
    return done;
  }

  #failed(error: unknown): void {
    this.failure = reasonOf(error);
    this.report(
      errnoOf(error),
      `${this.what} "${this.#path}" cannot be written: ${this.failure}; ` +
        "lines are lost until it can be written again",
    );
  }
}

/** A pipe's end of its own, closing the given one; of other files the given descriptor. */
function ownPipe(fd: number): number {
  if (!fstatSync(fd).isFIFO()) return fd;
  const own = openOwn(fd);
  closeForeign(fd);
  return own;
}

/** Where the last write ended: O_APPEND puts it at the end as of then. 0 if /proc does not say. */
function positionOf(fd: number): number {
  try {
    return Number(/^pos:\s*(\d+)/m.exec(readFileSync(`/proc/self/fdinfo/${fd}`, "latin1"))?.[1] ?? 0);
  } catch {
    return 0;
  }
}
