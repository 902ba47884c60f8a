// The log's file: how it is opened, who owns it, and what happens when it cannot be written. A
// failing write must neither stop the target nor tear the file: what the kernel did not take is
// kept, byte for byte, and tried again; meanwhile nothing else is written.

import {
  closeSync,
  constants,
  fchownSync,
  fstatSync,
  ftruncateSync,
  openSync,
  readSync,
  writeSync,
} from "node:fs";
import { KQTimeError } from "../errors.ts";

/** Not in node's constants; Linux, x86-64 and arm64. */
const O_CLOEXEC = 0o2000000;
const MODE = 0o600;

/** The errno name of a system error, for example `ENOSPC`. */
export function errnoOf(error: unknown): string {
  const code = (error as { code?: unknown } | null)?.code;
  return typeof code === "string" ? code : String(error);
}

const ERRNO_TEXT: Record<string, string> = {
  EACCES: "permission denied",
  EDQUOT: "the disk quota is used up",
  EAGAIN: "its reader is too slow",
  EFBIG: "the file may not grow further",
  EIO: "input/output error",
  EISDIR: "it is a directory",
  ELOOP: "it is a symbolic link, which is not followed; name the file itself",
  ENOENT: "no such directory",
  ENOSPC: "no space left on the device",
  ENOTDIR: "part of the path is not a directory",
  ENXIO: "nobody reads that pipe",
  EPERM: "operation not permitted",
  EPIPE: "its reader is gone",
  EROFS: "the file system is read-only",
};

function reasonOf(error: unknown): string {
  const code = errnoOf(error);
  const text = ERRNO_TEXT[code];
  return text === undefined ? code : `${text} (${code})`;
}

/** Numeric environment variable that sudo sets, else -1. */
function sudoId(name: string): number {
  const text = process.env[name] ?? "";
  return /^\d{1,10}$/.test(text) ? Number(text) : -1;
}

/** Opens for appending; a new file is private, and belongs to who called sudo. */
function openFile(path: string): number {
  // O_NONBLOCK: a pipe without a reader is an error then, not a wait for ever.
  const flags =
    constants.O_WRONLY |
    constants.O_APPEND |
    constants.O_CREAT |
    constants.O_NOFOLLOW |
    constants.O_NONBLOCK |
    O_CLOEXEC;
  let fd: number;
  try {
    fd = openSync(path, flags | constants.O_EXCL, MODE);
  } catch (error) {
    // Keeping O_CREAT keeps fs.protected_regular's guard in shared folders (proc_sys_fs(5)).
    if (errnoOf(error) !== "EEXIST") throw error;
    return openSync(path, flags, MODE);
  }
  if (process.getuid?.() === 0) {
    const uid = sudoId("SUDO_UID");
    const gid = sudoId("SUDO_GID");
    // Best effort: a file system without owners (vfat) refuses, and the log is still good.
    if (uid >= 0 && gid >= 0) {
      try {
        fchownSync(fd, uid, gid);
      } catch {}
    }
  }
  return fd;
}

export class FileSink {
  /** Lines whose bytes the kernel has taken. */
  linesWritten = 0;
  readonly #fd: number;
  readonly #path: string;
  readonly #onError: (message: string) => void;
  readonly #reported = new Set<string>();
  /** Bytes that a failed write left over; empty as long as all is well. */
  #pending = new Uint8Array(0);
  #pendingLines = 0;

  private constructor(fd: number, path: string, onError: (message: string) => void) {
    this.#fd = fd;
    this.#path = path;
    this.#onError = onError;
  }

  /** @throws KQTimeError `E_LOG` */
  static open(path: string, onError: (message: string) => void): FileSink {
    try {
      return new FileSink(openFile(path), path, onError);
    } catch (error) {
      const why = `log "${path}" cannot be opened: ${reasonOf(error)}`;
      throw new KQTimeError("E_LOG", "open", why, undefined, { cause: error });
    }
  }

  /** Bytes wait for a write that works. */
  get blocked(): boolean {
    return this.#pending.length > 0;
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
    const found = new Uint8Array(length);
    if (length === 0) return found;
    // By the descriptor, so that it is the same file whatever has become of the path.
    const fd = openSync(`/proc/self/fd/${this.#fd}`, constants.O_RDONLY | O_CLOEXEC);
    try {
      return found.subarray(0, readSync(fd, found, 0, length, size - length));
    } finally {
      closeSync(fd);
    }
  }

  /** Cuts the file. @throws as ftruncate(2) does */
  truncate(bytes: number): void {
    ftruncateSync(this.#fd, bytes);
  }

  /**
   * Hands over whole lines (or a member of them). Only when not `blocked`; what a failure leaves
   * over is copied, so that the caller's buffer is free again.
   */
  write(bytes: Uint8Array, length: number, lines: number): void {
    const done = this.#attempt(bytes, length);
    if (done === length) {
      this.linesWritten += lines;
    } else {
      this.#pending = bytes.slice(done, length);
      this.#pendingLines = lines;
    }
  }

  /** Tries what is pending again. True when nothing is pending any more. */
  retry(): boolean {
    if (this.#pending.length === 0) return true;
    const done = this.#attempt(this.#pending, this.#pending.length);
    if (done < this.#pending.length) {
      if (done > 0) this.#pending = this.#pending.slice(done);
      return false;
    }
    this.#pending = new Uint8Array(0);
    this.linesWritten += this.#pendingLines;
    this.#pendingLines = 0;
    return true;
  }

  /** Tells the user, once for each kind of failure. */
  report(kind: string, message: string): void {
    if (this.#reported.has(kind)) return;
    this.#reported.add(kind);
    this.#onError(message);
  }

  /** Closes and returns how many lines were given to it and never written. */
  close(): number {
    this.retry();
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
    while (done < length) {
      try {
        done += writeSync(this.#fd, bytes, done, length - done);
      } catch (error) {
        if (errnoOf(error) === "EINTR") continue;
        this.#failed(error);
        break;
      }
    }
    return done;
  }

  #failed(error: unknown): void {
    this.report(
      errnoOf(error),
      `log "${this.#path}" cannot be written: ${reasonOf(error)}; ` +
        "lines are lost until it can be written again",
    );
  }
}
