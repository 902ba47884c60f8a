// A file that is there whole or not at all, for what is of no use without its end. It grows beside
// the one that it replaces and takes its name when it is whole, so that what was there stays if
// anything fails. Private as a log is, since it says as much.
//
// Logs are read in one go, so that no handler of a signal would run before the end: while it grows
// the file has no name, and whatever ends the process leaves nothing behind. Where the file system
// has no such files, it has the name of the part from the beginning.

import { randomBytes } from "node:crypto";
import {
  accessSync, closeSync, constants, fchmodSync, fchownSync, fstatSync, lstatSync, openSync, readSync,
  renameSync, type Stats, unlinkSync, writeSync,
} from "node:fs";
import { dirname } from "node:path";
import { KQTimeError } from "../errors.ts";
import { nameFile } from "../ffi/descriptors.ts";
import { errnoOf, openNameless, openPrivate, reasonOf } from "./open-file.ts";

/** By what a file shows that it may be replaced. */
export interface FileKind {
  /** "PDF file" */
  readonly name: string;
  /** Each of them begins with these bytes, written as characters up to 0xff. */
  readonly beginning: string;
}

export class WholeFile {
  readonly #path: string;
  /** Its name until it has its own. */
  readonly #partPath: string;
  #hasName = false;
  readonly #fd: number;
  /** The file that is replaced. */
  readonly #old: Stats | undefined;
  #isOpen = true;

  /**
   * Begins the file that will be `path`. One of its kind that is there, or an empty one, is replaced;
   * anything else is left as it is.
   * @throws KQTimeError `E_OUTPUT`
   */
  constructor(path: string, kind: FileKind) {
    this.#path = path;
    this.#partPath = `${path}.part-${randomBytes(6).toString("hex")}`;
    try {
      this.#old = lstatSync(path, { throwIfNoEntry: false });
      const obstacle = this.#old === undefined ? null : obstacleIn(path, this.#old, kind);
      if (obstacle !== null) {
        throw new KQTimeError("E_OUTPUT", "open", `"${path}" ${obstacle}: name another`);
      }
      this.#fd = this.#open();
    } catch (error) {
      throw this.#failed(error);
    }
  }

  /** Adds to its end. @throws KQTimeError `E_OUTPUT` */
  write(bytes: Uint8Array): void {
    try {
      for (let done = 0; done < bytes.length; ) done += writeSync(this.#fd, bytes, done);
    } catch (error) {
      throw this.#failed(error);
    }
  }

  /** Puts it in its place. @throws KQTimeError `E_OUTPUT` */
  finish(): void {
    try {
      // Who has given a file away may have no right to name it.
      if (!this.#hasName) nameFile(this.#fd, this.#partPath);
      this.#hasName = true;
      if (this.#old !== undefined) this.#takeAfter(this.#old);
      this.#close();
      renameSync(this.#partPath, this.#path);
    } catch (error) {
      throw this.#failed(error);
    }
  }

  /** Takes the unfinished file away: without its end nobody can read it. */
  abandon(): void {
    try {
      this.#close();
      if (this.#hasName) unlinkSync(this.#partPath);
    } catch {
      // It is gone.
    }
  }

  #open(): number {
    try {
      return openNameless(dirname(this.#path));
    } catch {
      // If it is not just that, what has a name tells what is wrong.
    }
    const { fd } = openPrivate(this.#partPath, { exclusive: true });
    this.#hasName = true;
    return fd;
  }

  /** Owner and mode of the file that is replaced. */
  #takeAfter({ uid, gid, mode }: Stats): void {
    try {
      fchownSync(this.#fd, uid, gid);
      fchmodSync(this.#fd, mode & 0o777);
    } catch {
      // Somebody else's, who let this user write to it: then it is this user's now, and private.
    }
  }

  #close(): void {
    if (this.#isOpen) closeSync(this.#fd);
    this.#isOpen = false;
  }

  #failed(error: unknown): KQTimeError {
    if (error instanceof KQTimeError) return error;
    const part = this.#hasName ? ` (as "${this.#partPath}" until it is whole)` : "";
    const why = `"${this.#path}"${part} cannot be written: ${reasonOf(error)}`;
    return new KQTimeError("E_OUTPUT", "write", why, undefined, { cause: error });
  }
}

/** Why what is there is not to be replaced: it may be a log, if the option's value was forgotten. */
function obstacleIn(path: string, stat: Stats, { name, beginning }: FileKind): string | null {
  if (stat.isSymbolicLink()) return "is a symbolic link, which is not followed";
  if (!stat.isFile()) return "is no regular file";
  let fd: number;
  try {
    // Who may not write it does not replace it either.
    accessSync(path, constants.W_OK);
    // It may have become a pipe meanwhile, which would be waited for.
    fd = openSync(path, constants.O_RDONLY | constants.O_NONBLOCK | constants.O_NOFOLLOW);
  } catch (error) {
    return errnoOf(error) === "ENOENT" ? null : `cannot be replaced: ${reasonOf(error)}`;
  }
  try {
    const start = Buffer.alloc(beginning.length);
    const count = fstatSync(fd).isFile() ? readSync(fd, start, 0, start.length, 0) : 1;
    const isKind = count === 0 || start.toString("latin1") === beginning;
    return isKind ? null : `exists and is no ${name}: it is not overwritten`;
  } catch (error) {
    return `cannot be replaced: ${reasonOf(error)}`;
  } finally {
    closeSync(fd);
  }
}
